"""Who writes next, and for whom.

Of those who wait in one process, one leads: it takes what all of them ask for, in the order in which they came, and
commits it as one transaction. The others wait to be told. When a leader's own request is done it calls the first who
still waits to lead. So transactions that wait at the same moment travel together, and nobody's turn is skipped.

A thread leads until its own request is done. A task leads only for the length of one attempt, and never while it is
suspended: a thread that waited for it could be the very one its event loop needs. What would take longer, a commit that
waits for the disk or a turn that does not come, it leaves to a thread of the line. Other tasks let it go first, but do
not rely on it for long.

Leaders of several processes meet at the file's lock. SQLite's own waiting sleeps so long, up to 0.1 s, that one process
wins everything. Ours tries again soon, at random moments, and the sooner the longer it has waited.
"""

from __future__ import annotations

import collections
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from budgetguard.errors import StoreError
from budgetguard.ports import Transaction
from budgetguard.stores._sqlite_books import Request

__all__ = ["Ticket", "Turns"]

_SHORTEST = 50e-6
_LONGEST = 2e-3
_URGENT = 20e-3
"""Seconds after which a waiter tries again as often as it did in the beginning."""
_LAST = 30.0
"""Seconds beyond its time for which a commit under way is waited for."""
_IDLE = 10.0
"""Seconds after which the thread that commits goes away."""
_TRUST = 0.05
"""Seconds for which one task relies on another to go first; their loops may be different ones."""
_ROUNDS = 3
"""How often a task lets the other tasks have a go and tries again: who holds the file is mostly done by then. After
that a thread tries for it, since a loop sleeps no shorter than a millisecond and would lose to those who can."""


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
        self._lock.acquire(timeout=max(_LONGEST, seconds))


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
        with anyio.move_on_after(max(_LONGEST, seconds)):
            await self._event.wait()
        self._event = anyio.Event()


class Ticket(Request):
    """A request in line.

    Attributes:
        deadline: Until when it waits, in seconds of ``time.monotonic()``.
        is_task: Whether a task waits for it, and not a thread.
        is_gone: Whether it has left the line, undone.
        bell: What wakes whoever waits for it; hung only where there is a wait.
    """

    __slots__ = ("bell", "deadline", "is_gone", "is_task")

    def __init__(self, account: str, transaction: Transaction, patience: float, *, is_task: bool) -> None:
        super().__init__(account, transaction)
        self.deadline = time.monotonic() + patience
        self.is_task = is_task
        self.is_gone = False
        self.bell: _Bell | _AsyncBell | None = None

    def left(self) -> float:
        """Count the seconds it may still wait."""
        return self.deadline - time.monotonic()

    def ring(self) -> None:
        """Wake whoever waits for it. Who hung no bell yet is awake, and looks again before going to sleep."""
        if self.bell is not None:
            self.bell.ring()


class Begun(Protocol):
    """What was done and is not committed yet."""

    def commit(self) -> None:
        """Commit it."""
        ...

    def end(self) -> None:
        """Let others write; undo what was not committed."""
        ...


class Turns:
    """The line of one process. Safe to share between threads and event loops.

    Args:
        begin: Takes what waits off the line and does it, but for the commit. ``None``, with the line left alone, where
            others hold the file.
        busy: Builds the error for who waited too long.
        patience: Seconds that is.
        is_quick: Whether a commit is quick enough to be made on an event loop.
    """

    def __init__(
        self,
        begin: Callable[[collections.deque[Ticket]], Begun | None],
        busy: Callable[[], StoreError],
        patience: float,
        *,
        is_quick: bool,
    ) -> None:
        self._begin = begin
        self._busy = busy
        self._patience = patience
        self._is_quick = is_quick
        self._waiting: collections.deque[Ticket] = collections.deque()
        self._lead = threading.Lock()
        self._jobs: queue.SimpleQueue[Begun | Ticket] = queue.SimpleQueue()
        self._working = False
        self._first: Ticket | None = None
        """The task that goes first, if any."""

    # -- threads ----------------------------------------------------------------------------------------------------

    def take(self, account: str, transaction: Transaction) -> Ticket:
        """Wait until a transaction is done, and lead where nobody does.

        Raises:
            StoreError: If others held the file for too long, or it failed. Then nothing was changed.
        """
        ticket = Ticket(account, transaction, self._patience, is_task=False)
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
            while not self._is_over(ticket):
                time.sleep(_LONGEST)
            raise
        return ticket

    def _serve(self, ticket: Ticket) -> None:
        tries = 0
        while not (ticket.done or ticket.is_gone):
            begun = self._begin(self._waiting)
            if begun is not None:
                _finish(begun)
                tries = 0
            else:
                tries += 1
                self._check(ticket)
                time.sleep(self._pause(ticket, tries))

    # -- tasks ------------------------------------------------------------------------------------------------------

    async def atake(self, account: str, transaction: Transaction) -> Ticket:
        """Do the same and never block the loop.

        Raises:
            StoreError: As above.
        """
        ticket = Ticket(account, transaction, self._patience, is_task=True)
        self._waiting.append(ticket)
        try:
            if self._first is not None:
                await self._let_go_first(ticket)
            if not ticket.done:
                self._first = ticket
                await self._go(ticket)
        except BaseException:
            with anyio.CancelScope(shield=True):
                while not self._is_over(ticket):  # noqa: ASYNC110 - milliseconds, and rare
                    await anyio.sleep(_LONGEST)
            raise
        finally:
            if self._first is ticket:
                self._first = None
            self._call()
        return ticket

    async def _let_go_first(self, ticket: Ticket) -> None:
        ticket.bell = bell = _AsyncBell()
        if self._first is not None and not ticket.done:
            await bell.wait(min(ticket.left(), _TRUST))
            self._check(ticket)

    async def _go(self, ticket: Ticket) -> None:
        tries = 0
        while not ticket.done:
            if self._lead.acquire(blocking=False):
                job: Begun | Ticket | None = None
                try:
                    job = self._begin(self._waiting)
                    if job is None and tries >= _ROUNDS:
                        job = ticket
                finally:
                    if job is None:
                        self._leave()
                if job is None:
                    tries += 1
                    self._check(ticket)
                    await anyio.lowlevel.checkpoint()
                    continue
                if self._is_quick and not isinstance(job, Ticket):
                    self._finish(job)
                    continue
                if ticket.bell is None:
                    ticket.bell = _AsyncBell()
                self._leave_to_thread(job)
            if isinstance(ticket.bell, _AsyncBell):
                await ticket.bell.wait(ticket.left())
                self._check(ticket)
            else:
                ticket.bell = _AsyncBell()

    def _leave_to_thread(self, job: Begun | Ticket) -> None:
        """Let a thread go on, and end the lead. It is told at once: nothing may depend on the loop coming back."""
        self._jobs.put(job)
        if not self._working:
            self._working = True
            threading.Thread(target=self._work, name="budgetguard-sqlite-commit", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE)
            except queue.Empty:
                if self._lead.acquire(blocking=False):
                    self._working = False
                    self._leave()
                    return
                continue
            if isinstance(job, Ticket):
                self._stand_in(job)
            else:
                self._finish(job)

    def _stand_in(self, ticket: Ticket) -> None:
        """Serve a task's request from a thread."""
        try:
            self._serve(ticket)
        except Exception as error:  # noqa: BLE001 - told to the task
            if ticket.is_gone or self._withdraw(ticket):
                ticket.error = error
                ticket.done = True
                ticket.ring()
        finally:
            self._leave()

    def _finish(self, begun: Begun) -> None:
        try:
            _finish(begun)
        finally:
            self._leave()

    def _leave(self) -> None:
        self._lead.release()
        self._call()

    # -- both -------------------------------------------------------------------------------------------------------

    def _call(self) -> None:
        """Call those who may lead next: the first thread in line and, if one comes before it, the first task."""
        if not self._waiting:
            return
        called = False
        for ticket in list(self._waiting):
            if not ticket.is_task:
                ticket.ring()
                return
            if not called:
                called = True
                ticket.ring()

    def _pause(self, ticket: Ticket, tries: int) -> float:
        if self._patience - ticket.left() > _URGENT:
            tries = 3
        return min(_SHORTEST * 1.5**tries, _LONGEST) * random.uniform(0.5, 1.5)  # noqa: S311 - a pause, not a secret

    def _check(self, ticket: Ticket) -> None:
        if not ticket.done and ticket.left() <= 0 and self._withdraw(ticket):
            raise self._busy()

    def _is_over(self, ticket: Ticket) -> bool:
        """Whether nobody will touch a request any more."""
        return ticket.done or ticket.is_gone or self._withdraw(ticket) or ticket.left() < -_LAST

    def _withdraw(self, ticket: Ticket) -> bool:
        try:
            self._waiting.remove(ticket)
        except ValueError:
            return False
        ticket.is_gone = True
        self._call()
        return True


def _finish(begun: Begun) -> None:
    try:
        begun.commit()
    finally:
        begun.end()
