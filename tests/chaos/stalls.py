"""How long everybody waited although the provider had room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from tests.chaos.crew import Crew
from tests.chaos.trade import Fake, Trade
from tests.chaos.witness import Witness

__all__ = ["Stalls"]

_TICK = 0.02
_TICK_MAX = 0.1
"""Seconds between two looks that count at most: whoever was not let run for longer saw nothing of the rest."""


class Stalls:
    """Looks every few milliseconds. A stall is a time in which somebody wants to call, the provider has a slot and the
    credits for it, nothing is the matter with either side, and no call comes.

    Attributes:
        longest: The longest stall, in seconds.
        began: When it began.
    """

    def __init__(
        self, fake: Fake, trade: Trade, crew: Crew, witness: Witness, trouble: Callable[[], int | None]
    ) -> None:
        self._fake = fake
        self._price = trade.price
        self._crew = crew
        self._witness = witness
        self._trouble = trouble
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.longest = 0.0
        self.began = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        before, seen, stall, since = time.monotonic(), (0, 0), 0.0, 0.0
        while not self._over.wait(_TICK):
            now = time.monotonic()
            passed, before = min(now - before, _TICK_MAX), now
            trouble = self._trouble()
            last, seen = seen, (self._witness.count, trouble or 0)
            moving = seen != last or trouble is None
            if moving or not self._room() or not self._crew.book.wanting(self._crew.away):
                stall = 0.0
                continue
            if not stall:
                since = now
            stall += passed
            if stall > self.longest:
                self.longest, self.began = stall, since

    def _room(self) -> bool:
        state = self._fake.account.look()
        return state.credits >= self._price and (state.limit is None or state.running + state.queued < state.limit)
