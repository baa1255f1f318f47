"""The second way in: a permit, for calls that no httpx client of ours makes.

A permit holds credits and slots from the moment it is had until it ends. It ends once: *settled* (the provider took the
call), *released* (it did not, or nothing was sent), or *unknown* (nobody can tell; all stays held until the lease
ends, and the next reading shows what happened). Until then its lease is renewed from a thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

import anyio

from budgetguard._checks import check_charge, check_task_id
from budgetguard._core.account import Account, Hold
from budgetguard._core.endings import finish
from budgetguard._core.joining import enter
from budgetguard._core.permits import give_back
from budgetguard._core.records import Stage
from budgetguard._core.settlement import abandon, settle
from budgetguard._core.steps import Flow
from budgetguard._core.stopping import Stop, stoppable
from budgetguard._desk import AsyncHolding, Holding
from budgetguard._scope import Scope, around
from budgetguard.errors import PermitError, StoreError
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict

__all__ = ["AsyncPermit", "Permit", "aobtain", "obtain"]


class _Handle:
    """What both permits know and decide. Safe to share between threads."""

    def __init__(self, guard: Any, account: Account, hold: Hold, task_id: str | None) -> None:
        self._guard = guard
        self._account = account
        self._hold = hold
        hold.outer = around(account)
        check_task_id(task_id)
        self._task_id = task_id or ""
        self._lock = threading.Lock()
        self._had = False
        self._alone = False
        """Whether its holder said that something leaves that is no call of a guarded client."""
        self._scope = Scope(self, guard, account, hold)
        self._bare = False
        """Whether its block is open only now and then: a generator's, whose taker is not inside."""
        self._inside = False
        self._word = ""
        """What was said of its end."""
        self._charge: int | None = None
        self._task = ""
        self._busy = self._done = False
        """Whether somebody is at what was said, and whether it is done."""

    @property
    def account(self) -> str:
        """The name of the account it is held on."""
        return self._account.name

    @property
    def credits(self) -> int:
        """Credits it was had for."""
        return self._hold.quote.credits

    @property
    def slots(self) -> int:
        """Slots it was had for."""
        return self._hold.quote.slots

    @property
    def pool(self) -> str:
        """The limit its slots count against; ``""`` where an account has only one."""
        return self._hold.quote.pool

    @property
    def tags(self) -> tuple[str, ...]:
        """The caller's own words for it, each a ``word`` or ``name=value``."""
        return self._hold.tags

    @property
    def id(self) -> str:
        """The name it goes by in events, as their ``reservation``."""
        return self._hold.id

    @property
    def state(self) -> str:
        """``waiting`` (not had yet), ``held``, ``sent``, ``settled``, ``released`` or ``unknown``."""
        if self._word:
            return self._word
        return "sent" if self._hold.sent else "held" if self._had else "waiting"

    @property
    def token(self) -> str:
        """What ends it in any other process or machine: ``guard.finished(permit.token)``.

        Fit for a database or an address. It holds no secret and names no key; whoever has it can end the permit and
        nothing else.

        Raises:
            PermitError: If the permit was not had yet.
        """
        self._must_be_had()
        return self._guard.engine.token(self._account, self._hold.id, self._task)  # type: ignore[no-any-return]

    def sent(self) -> None:
        """Note that the call may leave from here on: what ends without a word is then not given back unasked.

        Not needed for calls of a guarded client: they join the permit, and each knows by itself how it ended.

        Raises:
            PermitError: If it was released already.
        """
        self._must_be_had()
        with self._lock:
            if self._word == "released":
                raise self._contradiction("sent")
            self._hold.sent = self._alone = True

    def _must_be_had(self) -> None:
        if not self._had:
            raise PermitError("This permit was not had yet: enter its block with 'async with', or await it first.")

    def _contradiction(self, word: str) -> PermitError:
        said = self._word + (f" with charge={self._charge}, task_id={self._task!r}" if self._word == "settled" else "")
        return PermitError(
            f"This permit was {said}, and a permit ends once: it cannot be {word} now. "
            "Say how a call ended in one place, and leave the rest to the end of the block."
        )

    def _say(self, word: str, charge: int | None = None, task_id: str | None = None) -> bool:
        """Note what is said of its end; ``False`` if that is done, or being done, already."""
        self._must_be_had()
        check_charge(charge)
        check_task_id(task_id)
        task = self._task_id if task_id is None else task_id
        with self._lock:
            if not self._word:
                self._word, self._charge, self._task = word, charge, task
                self._hold.closed = True
            elif (
                word != self._word
                or (charge is not None and charge != (self.credits if self._charge is None else self._charge))
                or (task and task != self._task)
            ):
                raise self._contradiction(word)
            elif self._done or self._busy:
                return False
            self._busy = True
            return True

    def _said(self, *, done: bool) -> None:
        with self._lock:
            self._busy, self._done = False, done

    def _unsaid(self, *, failed: bool) -> str:
        """Tell what is left to be done when the block is left: by what was said, or else by what was sent."""
        if self._word:
            return "" if self._done else self._word
        if not self._hold.sent or (self._hold.joins and not self._alone):
            return "released"
        return "unknown" if failed else "settled"

    def _enter(self) -> None:
        if self._inside or self._word:
            raise PermitError("A permit's block is entered once: reserve anew for another call.")
        self._inside = True
        if not self._bare:
            self._scope.enter()

    def _end(self, word: str, charge: int | None = None, task_id: str | None = None) -> Flow[None]:
        """End it as said."""
        return self._perform() if self._say(word, charge, task_id) else _nothing()

    def _leave(self, *, failed: bool) -> Flow[None]:
        """End what is left when the block is left."""
        self._inside = False
        self._scope.leave()
        word = self._unsaid(failed=failed)
        try:
            return self._end(word) if word else self._free()
        except PermitError:
            return self._free()  # somebody else was quicker to say something

    def _perform(self) -> Flow[None]:
        """Do what was said."""
        account, hold, word = self._account, self._hold, self._word
        done = False
        try:
            if word == "released":
                yield from give_back(account, hold)
            elif word == "settled":
                verdict = self._rest()
                yield from give_back(account, hold) if verdict is None else settle(account, hold, verdict)
            else:
                self._guard.heartbeat.forget(hold)
                yield from settle(account, hold, Verdict(Outcome.UNKNOWN))
            done = True
        finally:
            self._said(done=done or word == "unknown")
        yield from self._free()

    def _rest(self) -> Verdict | None:
        """Tell what is left to book when it is settled; ``None`` for nothing: the calls that joined it did it all."""
        hold = self._hold
        charge = self._charge if self._charge is None else max(0, self._charge - hold.spent)
        known = not self._task or self._task in hold.tasks
        if hold.joins and known and not charge and (charge is not None or not self._alone):
            return None
        return Verdict(Outcome.ACCEPTED, charge, None if known and hold.joins else self._task or None)

    def _free(self) -> Flow[None]:
        """Once nothing is sent any more: give the slots back that do not stay with a task."""
        record = self._hold.record
        booked = record is not None and record.stage is Stage.ACCEPTED and not record.task_id
        if booked and self._inside:
            return  # the block holds them
        self._guard.heartbeat.forget(self._hold)
        if booked:
            yield from finish(self._account, TaskSeen(self._hold.id, TaskState.SUCCEEDED))
            self._hold.record = None

    def _check(self) -> None:
        """Complain if it was released here, and ended as taken by its token elsewhere."""
        if self._word == "released" and self._hold.elsewhere:
            raise PermitError(
                "This permit was ended by its token, as a call the provider took: there is nothing to release. "
                "If the provider did not take it, do not tell guard.finished() that it did."
            )

    def __repr__(self) -> str:
        tags = f", tags={list(self.tags)}" if self.tags else ""
        return f"{type(self).__name__}({self.id}, {self.state}, {self.credits} credits, {self.slots} slots{tags})"


class Permit(_Handle):
    """Credits and slots that are held for one call. Made by `Guard.reserve`. Since 0.1.

    Used as a context manager. Leaving its block without a word releases it if nothing was sent; otherwise it is unknown
    after an exception, and settled at the price without one. Outside of a block it must be ended by hand; one that is
    dropped without a word ends with its lease. Safe to share between threads.
    """

    _guard: Holding

    def settle(self, charge: int | None = None, task_id: str | None = None) -> None:
        """Book it: the provider took the call.

        Without a task the slots come back when the block is left, or at once outside of one. With one they stay taken
        until the task is seen to end, by a poll through a guarded client or by `Guard.finished`, or its lease ends.

        Args:
            charge: Credits it cost, where known; the price otherwise.
            task_id: The provider's id of the task that was started; by default the one given to `Guard.reserve`.

        Raises:
            PermitError: If something else was said before. The same again is harmless.
            StoreError: If the store fails. Say it again, or leave it: it then ends with its lease.
        """
        self._run(self._end("settled", charge, task_id))

    def release(self) -> None:
        """Give it back whole: nothing was sent, or the provider said no.

        Raises:
            PermitError: If something else was said before, or its token said so elsewhere.
            StoreError: If the store fails. Say it again, or leave it: it then ends with its lease.
        """
        self._run(self._end("released"))
        self._check()

    def unknown(self) -> None:
        """Keep it until its lease ends: nobody knows whether the provider took the call. The next reading shows.

        Raises:
            PermitError: If something else was said before.
        """
        self._run(self._end("unknown"))

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with contextlib.suppress(StoreError):  # what cannot be booked now ends with its lease
                self._run(self._leave(failed=error is not None and not isinstance(error, GeneratorExit)))
        finally:
            self._guard.heartbeat.forget(self._hold)

    def _run(self, flow: Flow[None]) -> None:
        self._guard.driver.run(self._account, flow)

    def _admit(self, *, now: bool = False, stop: Stop | None = None) -> bool:
        guard, account, hold = self._guard, self._account, self._hold
        guard.heartbeat.watch(account, hold)
        try:
            flow = enter(account, hold, now=now) if stop is None else stoppable(enter(account, hold), stop)
            self._had = guard.driver.run(
                account,
                flow,
                fetch=lambda: guard.asking.fetch(guard.bearer),
                ask=lambda ids: guard.asking.tasks(guard.bearer, ids),
            )
        finally:
            if not self._had:
                guard.heartbeat.forget(hold)
                with contextlib.suppress(StoreError):  # what cannot be given back now comes back when its lease ends
                    guard.driver.run(account, abandon(account, hold))
        return self._had


class AsyncPermit(_Handle):
    """Credits and slots that are held for one call. Made by `AsyncGuard.reserve`. Since 0.1.

    It is had when its block is entered with ``async with``, or when it is awaited. Leaving the block without a word
    ends it as for `Permit`; the same methods, with ``await`` where they ask the store. Endings are shielded from
    cancellation. Safe to share between tasks.
    """

    _guard: AsyncHolding

    async def settle(self, charge: int | None = None, task_id: str | None = None) -> None:
        """Book it: the provider took the call. See `Permit.settle`."""
        await self._run(self._end("settled", charge, task_id))

    async def release(self) -> None:
        """Give it back whole: nothing was sent, or the provider said no. See `Permit.release`."""
        await self._run(self._end("released"))
        self._check()

    async def unknown(self) -> None:
        """Keep it until its lease ends: nobody knows whether the provider took the call. See `Permit.unknown`."""
        await self._run(self._end("unknown"))

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._get().__await__()

    async def __aenter__(self) -> Self:
        if not self._had:
            await self._admit()
        self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with contextlib.suppress(StoreError):  # what cannot be booked now ends with its lease
                await self._run(self._leave(failed=error is not None and not isinstance(error, GeneratorExit)))
        finally:
            self._guard.heartbeat.forget(self._hold)

    async def _run(self, flow: Flow[None]) -> None:
        with anyio.CancelScope(shield=True):
            await self._guard.driver.run(self._account, flow)

    async def _get(self) -> Self:
        if not self._had:
            await self._admit()
        return self

    async def _admit(self, *, now: bool = False) -> bool:
        guard, account, hold = self._guard, self._account, self._hold
        guard.heartbeat.watch(account, hold)
        try:
            flow = enter(account, hold, now=now)
            self._had = await guard.driver.run(
                account,
                flow,
                fetch=lambda: guard.asking.fetch(guard.bearer),
                ask=lambda ids: guard.asking.tasks(guard.bearer, ids),
            )
        finally:
            if not self._had:
                guard.heartbeat.forget(hold)
                with anyio.CancelScope(shield=True), contextlib.suppress(StoreError):  # it comes back with its lease
                    await guard.driver.run(account, abandon(account, hold))
        return self._had


def obtain(permit: Permit, *, now: bool = False, stop: Stop | None = None) -> bool:
    """Get what a permit is for; *now* or not at all, and then ``False`` if only time could help; or until a *stop*."""
    return permit._admit(now=now, stop=stop)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - not for users


async def aobtain(permit: AsyncPermit, *, now: bool = False) -> bool:
    """See `obtain`."""
    return await permit._admit(now=now)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - not for users


def _nothing() -> Flow[None]:
    yield from ()
