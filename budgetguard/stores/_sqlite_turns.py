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

import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol

import anyio

from budgetguard.errors import StoreError
from budgetguard.ports import Transaction
from budgetguard.stores._sqlite_bells import AsyncBell, Bell, LoopBell, hang, pass_by
from budgetguard.stores._sqlite_crowd import Crowd
from budgetguard.stores._sqlite_line import Hold, Line, Ticket

__all__ = ["Turns"]

_SHORTEST = 50e-6
_LONGEST = 2e-3
_RECENT = 0.05
"""Seconds since others were last in the way, within which they are taken to be there still."""
_PATIENT = 5
"""Tries that are left out then."""
_URGENT = 20e-3
"""Seconds after which a waiter tries again more often."""
_OFTEN = 0.5e-3
"""Seconds between two tries then. Shorter ones would be fairer, and leave those who write less of the machine."""
_LAST = 30.0
"""Seconds beyond its time for which a commit under way is waited for."""
_IDLE = 10.0
"""Seconds after which the thread that commits goes away."""
_TRUST = 0.05
"""Seconds for which one task relies on another to go first; their loops may be different ones."""
_TRUST_CALL = 0.25
"""Seconds for which one who waits relies on being called; who was to call may have been interrupted."""
_ROUNDS = 3
"""How often a task lets the other tasks have a go and tries again: who holds the file is mostly done by then. After
that a thread tries for it, since a loop sleeps no shorter than a millisecond and would lose to those who can."""


class _Turn:
    """One attempt of a task to lead.

    Attributes:
        job: What a thread shall go on with, once the task has left it to one: to commit this, or to serve that ticket.
        is_taken: Whether a thread has begun to.
    """

    __slots__ = ("is_taken", "job")

    def __init__(self) -> None:
        self.job: Begun | Ticket | None = None
        self.is_taken = False


class Begun(Protocol):
    """What was done and is not committed yet.

    Attributes:
        size: How many transactions that are.
    """

    @property
    def size(self) -> int: ...

    def commit(self) -> None:
        """Commit it."""
        ...

    def end(self) -> None:
        """Let others write; undo what was not committed."""
        ...


class Turns:
    """The line of one process. Safe to share between threads and event loops.

    Args:
        begin: Does what waits in line, but for the commit. ``None``, with the line left alone, where others hold the
            file.
        recover: Ends what *begin* began, where an interrupt left it.
        busy: Builds the error for who waited too long.
        patience: Seconds that is.
        is_quick: Whether a commit is quick enough to be made on an event loop.
    """

    def __init__(
        self,
        begin: Callable[[Line], Begun | None],
        recover: Callable[[], None],
        busy: Callable[[], StoreError],
        patience: float,
        *,
        is_quick: bool,
    ) -> None:
        self._begin = begin
        self._recover = recover
        self._busy = busy
        self._patience = patience
        self._is_quick = is_quick
        self.line = Line()
        self.lead = Hold()
        self.crowd = Crowd()
        self._turns: queue.SimpleQueue[_Turn] = queue.SimpleQueue()
        self._taking = threading.RLock()
        self._worker: threading.Thread | None = None
        self._first: Ticket | None = None
        """The task that goes first, if any."""
        self._busy_at = 0.0
        """When somebody here last met others who held the file."""
        self._timed: object = None
        """The loop on which one of those who rely on it looks at the time, for all of them."""

    # -- threads ----------------------------------------------------------------------------------------------------

    def take(self, account: str, transaction: Transaction) -> Ticket:
        """Wait until a transaction is done, and lead where nobody does.

        Raises:
            StoreError: If others held the file for too long, or it failed. Then nothing was changed.
        """
        ticket = Ticket(account, transaction, self._patience, is_task=False)
        try:
            try:
                self.line.join(ticket)
                self._take(ticket)
            finally:
                self.leave(ticket)
        except BaseException:
            self.leave(ticket)  # an interrupt may have come before the first
            # What somebody is committing at this moment must be known before the caller does anything else.
            while not self._is_over(ticket):
                time.sleep(_LONGEST)
            raise
        return ticket

    def _take(self, ticket: Ticket) -> None:
        bell: Bell | None = None
        while not ticket.done:
            if self.lead.take(ticket):
                ticket.has_led = True
                self._serve(ticket)
            elif bell is None:
                # Hung before a second look: the leader may have left before it could see the bell.
                ticket.bell = bell = Bell()
            else:
                bell.wait(min(ticket.left(), _TRUST_CALL))
                self._check(ticket)

    def _serve(self, ticket: Ticket) -> None:
        tries = 0
        while ticket.is_open:
            begun = self._begin(self.line)
            if begun is not None:
                _finish(begun)
                tries = 0
            else:
                if tries == 0:
                    tries = self._first_try()
                tries += 1
                self._check(ticket)
                time.sleep(self._pause(ticket, tries))

    # -- tasks ------------------------------------------------------------------------------------------------------

    async def atake(self, account: str, transaction: Transaction) -> Ticket:
        """Do the same and never block the loop.

        Raises:
            StoreError: As above.
        """
        task = _Task(account, transaction, self._patience, is_task=True)
        try:
            try:
                self.line.join(task)
                if self._first is not None:
                    await self._let_go_first(task)
                if not task.done:
                    task.has_led = True
                    self._first = task
                    if self.crowd.is_dense:
                        await pass_by()
                    await self._go(task)
            finally:
                self._leave_task(task)
        except BaseException:
            self._leave_task(task)  # as above
            with anyio.CancelScope(shield=True):
                while not self._is_over(task):  # noqa: ASYNC110 - milliseconds, and rare
                    await anyio.sleep(_LONGEST)
            raise
        return task

    async def _let_go_first(self, task: _Task) -> None:
        task.bell = bell = hang()
        if self._first is None or task.done:
            return
        loop = bell.loop
        if loop is not None and self._timed is loop:
            await bell.wait(None)
        else:
            self._timed = loop
            try:
                await bell.wait(min(task.left(), _TRUST))
            finally:
                self._timed = None
        self._check(task)

    async def _go(self, task: _Task) -> None:
        tries = 0
        while not task.done:
            turn = task.turn = _Turn()
            if self.lead.take(turn):
                begun = self._begin(self.line)
                if begun is None and tries < _ROUNDS:
                    self.leave(turn)
                    tries += 1
                    self._check(task)
                    await pass_by()
                    continue
                if begun is not None and self._is_quick:
                    self.crowd.went(begun.size)
                    _finish(begun)
                    self.leave(turn)
                    continue
                if task.bell is None:
                    task.bell = hang()
                turn.job = begun or task
                self._leave_to_thread(turn)
            if isinstance(task.bell, AsyncBell | LoopBell):
                await task.bell.wait(min(task.left(), _TRUST_CALL))
                self._check(task)
            else:
                task.bell = hang()

    def _leave_task(self, task: _Task) -> None:
        """Leave what a task may still lead or stand before. May be called twice."""
        if self._first is task:
            self._first = None
        elif task.done and not task.has_led:
            return  # whoever did it for this one calls the next
        turn = task.turn
        if turn is not None and turn.job is not None and self.lead.is_with(turn):
            self._leave_to_thread(turn)
        else:
            self.leave(turn)

    def _leave_to_thread(self, turn: _Turn) -> None:
        """Let a thread go on, and end the lead. It is told at once: nothing may depend on the loop coming back.

        May be called twice. A second thread, if there is ever one, does no harm.
        """
        self._turns.put(turn)
        worker = self._worker
        if worker is None or not worker.is_alive():
            self._worker = worker = threading.Thread(target=self._work, name="budgetguard-sqlite-commit", daemon=True)
            worker.start()

    def _work(self) -> None:
        while True:
            try:
                turn = self._turns.get(timeout=_IDLE)
            except queue.Empty:
                turn = _Turn()
                if self.lead.take(turn):
                    if self._worker is threading.current_thread():
                        self._worker = None
                    self.leave(turn)
                    return
                continue
            with self._taking:
                job = None if turn.is_taken else turn.job
                turn.is_taken = True
            try:
                if isinstance(job, Ticket):
                    self._stand_in(job)
                elif job is not None:
                    _finish(job)
            finally:
                if job is not None:
                    self.leave(turn)

    def _stand_in(self, ticket: Ticket) -> None:
        """Serve a task's request from a thread."""
        try:
            self._serve(ticket)
        except Exception as error:  # noqa: BLE001 - told to the task
            if ticket.is_gone or self._withdraw(ticket):
                ticket.error = error
                ticket.done = True
                ticket.ring()

    # -- both -------------------------------------------------------------------------------------------------------

    def leave(self, leader: object) -> None:
        """End the lead, if this one has it, and whatever it left begun; call others. May be called twice."""
        if self.lead.is_with(leader):
            self._recover()
            self.lead.free(leader)
        elif isinstance(leader, Ticket) and leader.done and not leader.has_led:
            return  # whoever did it for this one calls the next
        self.call()

    def call(self) -> None:
        """Call those who may lead next: the first thread in line and, if one comes before it, the first task."""
        if not self.line:
            return
        called = False
        for ticket in self.line.look():
            if not ticket.is_open:
                continue
            if not ticket.is_task:
                ticket.ring()
                return
            if not called:
                called = True
                ticket.ring()

    def _first_try(self) -> int:
        """Say how patient to be from the first try on: where others were in the way just before, they mostly still are.

        Whoever then tried again at once would take every other turn, and each turn begins with reading what the others
        wrote.
        """
        before, self._busy_at = self._busy_at, time.monotonic()
        return _PATIENT if self._busy_at - before < _RECENT else 0

    def _pause(self, ticket: Ticket, tries: int) -> float:
        urgent = self._patience - ticket.left() > _URGENT
        pause = _OFTEN if urgent else min(_SHORTEST * 2.0**tries, _LONGEST)
        return pause * random.uniform(0.5, 1.5)  # noqa: S311 - a pause, not a secret

    def _check(self, ticket: Ticket) -> None:
        if not ticket.done and ticket.left() <= 0 and self._withdraw(ticket):
            raise self._busy()

    def _is_over(self, ticket: Ticket) -> bool:
        """Whether nobody will touch a request any more."""
        return ticket.done or ticket.is_gone or self._withdraw(ticket) or ticket.left() < -_LAST

    def _withdraw(self, ticket: Ticket) -> bool:
        if not self.line.withdraw(ticket):
            return False
        self.call()
        return True


class _Task(Ticket):
    """A task's request in line.

    Attributes:
        turn: Its last attempt to lead.
    """

    turn: _Turn | None = None


def _finish(begun: Begun) -> None:
    try:
        begun.commit()
    finally:
        begun.end()
