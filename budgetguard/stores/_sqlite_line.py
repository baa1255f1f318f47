"""Those who wait in one process, and a lock that survives an interrupt.

A thread may be interrupted between any two steps (Ctrl-C raises ``KeyboardInterrupt`` wherever the main thread is), so
no step may leave behind what only the next one would have noted. Hence who holds a lock is recorded by taking it, those
who wait stay in line until they are told, and whatever tidies up may do so twice.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
import time
from collections.abc import Callable

from budgetguard.ports import Transaction
from budgetguard.stores._sqlite_bells import AsyncBell, Bell, LoopBell
from budgetguard.stores._sqlite_books import Request

__all__ = ["Hold", "Line", "Ticket"]

_PAUSE = 0.5e-3
_WISH = 0.05
"""Seconds for which a wish for a lock stands, unless it is repeated; whoever had it may have been interrupted."""


class Hold:
    """A lock that knows its holder: to take it and to record that is one step, which no interrupt can part.

    To free it is harmless to whoever does not hold it, and may be repeated.
    """

    __slots__ = ("_holder", "_wanted")

    def __init__(self) -> None:
        self._holder: dict[None, object] = {}
        self._wanted = 0.0
        """Until when those who do not wait for it let those have it who do."""

    def take(self, holder: object) -> bool:
        """Take it, unless somebody else has it or waits for it."""
        if self._wanted and time.monotonic() < self._wanted:
            return False
        return self._holder.setdefault(None, holder) is holder

    def wait(self, holder: object, seconds: float) -> bool:
        """Take it, within a time."""
        deadline = time.monotonic() + seconds
        while self._holder.setdefault(None, holder) is not holder:
            now = time.monotonic()
            if now > deadline:
                return False
            self._wanted = now + _WISH
            time.sleep(_PAUSE)
        self._wanted = 0.0
        return True

    def is_with(self, holder: object) -> bool:
        """Whether this one has it."""
        return holder is not None and self._holder.get(None) is holder

    def free(self, holder: object) -> None:
        """Let others have it."""
        if holder is not None and self._holder.get(None) is holder:
            self._holder.pop(None, None)

    def use(self, holder: object, seconds: float, then: Callable[[], None]) -> bool:
        """Do something while holding it; ``False`` if others had it all the time."""
        try:
            try:
                if not self.wait(holder, seconds):
                    return False
                then()
                return True
            finally:
                self.free(holder)
        finally:
            self.free(holder)  # an interrupt may have come before the first


class Ticket(Request):
    """A request in line.

    Attributes:
        deadline: Until when it waits, in seconds of ``time.monotonic()``.
        is_task: Whether a task waits for it, and not a thread.
        is_claimed: Whether a leader is at it just now, or was when it was done.
        is_gone: Whether it has left the line, undone.
        has_led: Whether it has led the line.
        bell: What wakes whoever waits for it; hung only where there is a wait.
    """

    is_claimed = False
    is_gone = False
    has_led = False
    bell: Bell | AsyncBell | LoopBell | None = None

    def __init__(self, account: str, transaction: Transaction, patience: float, *, is_task: bool) -> None:
        self.account = account
        self.transaction = transaction
        self.deadline = time.monotonic() + patience
        self.is_task = is_task

    @property
    def is_open(self) -> bool:
        """Whether it still waits to be done."""
        return not (self.done or self.is_gone)

    def left(self) -> float:
        """Count the seconds it may still wait."""
        return self.deadline - time.monotonic()

    def ring(self) -> None:
        """Wake whoever waits for it. Who hung no bell yet is awake, and looks again before going to sleep."""
        if self.bell is not None:
            self.bell.ring()


class Line:
    """Those who wait, in the order in which they came. Safe to share between threads.

    They stay in it while somebody is at what they ask for, so that an interrupt loses none.
    """

    def __init__(self) -> None:
        self.tickets: collections.deque[Ticket] = collections.deque()
        # Whatever runs in between, a signal handler or a finalizer, may come here again.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self.tickets)

    def join(self, ticket: Ticket) -> None:
        """Come last."""
        self.tickets.append(ticket)

    def look(self, most: int | None = None) -> list[Ticket]:
        """Say who waits; of many, those who came first."""
        while True:
            # To copy them is one step, unless memory is tidied up in the middle of it: then others may come.
            with contextlib.suppress(RuntimeError):
                return list(itertools.islice(self.tickets, most))

    def claim(self, mine: list[Ticket], most: int) -> None:
        """Note those who came first as one's own; they cannot withdraw until they are given back. For the leader."""
        with self._lock:
            self._purge()
            for ticket in self.look(most):
                if not (ticket.done or ticket.is_gone):
                    mine.append(ticket)
                    ticket.is_claimed = True
                    ticket.error = None

    def give_back(self, mine: list[Ticket]) -> None:
        """Let them wait on, where they were."""
        with self._lock:
            for ticket in mine:
                if not ticket.done:
                    ticket.is_claimed = False
            mine.clear()

    def tell(self, mine: list[Ticket]) -> None:
        """Say that what they ask for is done."""
        with self._lock:
            for ticket in mine:
                ticket.done = True
                if ticket.bell is not None:
                    ticket.bell.ring()
            self._purge()
            mine.clear()

    def withdraw(self, ticket: Ticket) -> bool:
        """Leave, unless somebody is at it or it is done."""
        with self._lock:
            if ticket.is_claimed or ticket.done:
                return False
            ticket.is_gone = True
            with contextlib.suppress(ValueError):
                self.tickets.remove(ticket)
        return True

    def _purge(self) -> None:
        tickets = self.tickets
        while tickets and (tickets[0].done or tickets[0].is_gone):
            tickets.popleft()
