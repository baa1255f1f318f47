"""Who writes next, and for whom.

Of those who wait in one process, one leads: it takes what all of them ask for, in the order in which they came, and
commits it as one transaction. The others wait to be told. When a leader's own request is done it calls the first who
still waits to lead. So transactions that wait at the same moment travel together, and nobody's turn is skipped.

Leaders of several processes meet at the file's lock. SQLite's own waiting sleeps so long, up to 0.1 s, that one process
wins everything. Ours tries again soon, at random moments, and the sooner the longer it has waited.
"""

from __future__ import annotations

import collections
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from budgetguard.errors import StoreError
from budgetguard.ports import Transaction
from budgetguard.stores._sqlite_books import Request

__all__ = ["Ticket", "Turns"]

_SHORTEST = 50e-6
_LONGEST = 2e-3
_URGENT = 20e-3
"""Seconds after which a waiter tries again as soon as it may."""
_ROUNDS = 3
"""How often a task lets the other tasks have a go before it sleeps: a loop sleeps no shorter than a millisecond, and
who holds the file is mostly done in far less."""


class _Bell:
    """Wakes a thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            return  # rung already

    def wait(self, seconds: float) -> None:
        self._lock.acquire(timeout=max(0.0, seconds))


class _AsyncBell:
    """Wakes a task, from whatever thread."""

    __slots__ = ("_event", "_thread", "_token")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._thread = threading.get_ident()
        self._token = anyio.lowlevel.current_token()

    def ring(self) -> None:
        event = self._event
        if threading.get_ident() == self._thread:
            event.set()
            return
        loop: Any = self._token.native_token
        post = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        try:
            post(event.set)
        except RuntimeError:
            return  # the loop is gone, and whoever waited with it

    async def wait(self, seconds: float) -> None:
        with anyio.move_on_after(max(0.0, seconds)):
            await self._event.wait()
        self._event = anyio.Event()


class Ticket(Request):
    """A request in line.

    Attributes:
        deadline: Until when it waits, in seconds of ``time.monotonic()``.
        bell: What wakes whoever waits for it; hung only where there is a wait.
    """

    __slots__ = ("bell", "deadline")

    def __init__(self, account: str, transaction: Transaction, deadline: float) -> None:
        super().__init__(account, transaction)
        self.deadline = deadline
        self.bell: _Bell | _AsyncBell | None = None

    def left(self) -> float:
        """Count the seconds it may still wait."""
        return self.deadline - time.monotonic()

    def ring(self) -> None:
        """Wake whoever waits for it."""
        if self.bell is not None:
            self.bell.ring()


class Turns:
    """The line of one process. Safe to share between threads and event loops.

    Args:
        attempt: Takes what waits off the line and does it; ``False``, with the line left alone, where others hold the
            file.
        busy: Builds the error for who waited too long.
        patience: Seconds that is.
    """

    def __init__(
        self, attempt: Callable[[collections.deque[Ticket]], bool], busy: Callable[[], StoreError], patience: float
    ) -> None:
        self._attempt = attempt
        self._busy = busy
        self._patience = patience
        self._waiting: collections.deque[Ticket] = collections.deque()
        self._lead = threading.Lock()

    def take(self, account: str, transaction: Transaction) -> Ticket:
        """Wait until a transaction is done, and lead where nobody does.

        Raises:
            StoreError: If others held the file for too long, or it failed. Then nothing was changed.
        """
        ticket = Ticket(account, transaction, time.monotonic() + self._patience)
        bell: _Bell | None = None
        self._waiting.append(ticket)
        try:
            while not ticket.done:
                if self._lead.acquire(blocking=False):
                    try:
                        self._serve(ticket)
                    finally:
                        self._leave()
                elif bell is None:
                    # Hung before a second look: the leader may have left before it could see the bell.
                    ticket.bell = bell = _Bell()
                else:
                    bell.wait(ticket.left())
                    self._check(ticket)
        except BaseException:
            # What somebody is committing at this moment must be known before the caller does anything else.
            while not ticket.done and not self._withdraw(ticket):
                time.sleep(_LONGEST)
            raise
        return ticket

    async def atake(self, account: str, transaction: Transaction, *, inline: Callable[[], bool]) -> Ticket:
        """Do the same and never block the loop; *inline* says whether an attempt is quick enough to be made on it.

        Raises:
            StoreError: As above.
        """
        ticket = Ticket(account, transaction, time.monotonic() + self._patience)
        bell: _AsyncBell | None = None
        self._waiting.append(ticket)
        try:
            while not ticket.done:
                if self._lead.acquire(blocking=False):
                    try:
                        await self._aserve(ticket, inline)
                    finally:
                        self._leave()
                elif bell is None:
                    ticket.bell = bell = _AsyncBell()
                else:
                    await bell.wait(ticket.left())
                    self._check(ticket)
        except BaseException:
            with anyio.CancelScope(shield=True):
                while not ticket.done and not self._withdraw(ticket):  # noqa: ASYNC110 - milliseconds, and rare
                    await anyio.sleep(_LONGEST)
            raise
        return ticket

    # -- leading ----------------------------------------------------------------------------------------------------

    def _serve(self, ticket: Ticket) -> None:
        tries = 0
        while not ticket.done:
            if self._attempt(self._waiting):
                tries = 0
            else:
                tries += 1
                self._check(ticket)
                time.sleep(self._pause(ticket, tries))

    async def _aserve(self, ticket: Ticket, inline: Callable[[], bool]) -> None:
        tries = 0
        while not ticket.done:
            if inline():
                moved = self._attempt(self._waiting)
            else:
                moved = await anyio.to_thread.run_sync(self._attempt, self._waiting)
            if moved:
                tries = 0
            else:
                tries += 1
                self._check(ticket)
                await anyio.sleep(0 if tries <= _ROUNDS else self._pause(ticket, tries))

    def _pause(self, ticket: Ticket, tries: int) -> float:
        waited = self._patience - ticket.left()
        if waited > _URGENT:
            return _SHORTEST
        return min(_SHORTEST * 1.5**tries, _LONGEST) * random.uniform(0.5, 1.5)  # noqa: S311 - a pause, not a secret

    def _check(self, ticket: Ticket) -> None:
        if not ticket.done and ticket.left() <= 0:
            raise self._busy()

    def _leave(self) -> None:
        self._lead.release()
        self._call()

    def _call(self) -> None:
        """Call the first in line to lead. If it hung no bell yet, it will see for itself that nobody leads."""
        try:
            first = self._waiting[0]
        except IndexError:
            return
        first.ring()

    def _withdraw(self, ticket: Ticket) -> bool:
        try:
            self._waiting.remove(ticket)
        except ValueError:
            return False
        self._call()
        return True
