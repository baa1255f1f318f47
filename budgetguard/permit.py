"""The second way in: a permit, for calls that no httpx client of ours makes.

A permit holds credits and slots from the moment it is had until it ends. It ends once: *settled* (the provider took the
call), *released* (it did not, or nothing was sent), or *unknown* (nobody can tell; all stays held until the lease
ends, and the next reading shows what happened). Until then its lease is renewed from a thread.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

import anyio

from budgetguard._core.account import Hold
from budgetguard._core.joining import enter
from budgetguard._core.quick import QuickAccount
from budgetguard._core.settlement import abandon
from budgetguard._core.steps import Flow
from budgetguard._core.stopping import Stop, stoppable
from budgetguard._desk import AsyncHolding, Holding
from budgetguard._handle import Handle
from budgetguard._names import new_portable_name
from budgetguard.errors import PermitError, StoreError
from budgetguard.model import Quote

__all__ = ["AsyncPermit", "Permit", "aobtain", "obtain", "plain", "quickly"]


class Permit(Handle):
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
        if task_id is not None or not self._settle_quickly(charge):
            self._run(self._end("settled", charge, task_id))

    def release(self) -> None:
        """Give it back whole: nothing was sent, or the provider said no.

        Raises:
            PermitError: If something else was said before, or its token said so elsewhere.
            StoreError: If the store fails. Say it again, or leave it: it then ends with its lease.
        """
        if not self._release_quickly():
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
        failed = error is not None and not isinstance(error, GeneratorExit)
        if self._leave_quickly(failed=failed):
            return
        try:
            with contextlib.suppress(StoreError):  # what cannot be booked now ends with its lease
                self._run(self._leave(failed=failed))
        finally:
            self._guard.heartbeat.forget(self._hold)

    def _run(self, flow: Flow[None]) -> None:
        self._guard.driver.run(self._account, flow)

    def _get(self) -> None:
        """Get what the quick path did not have at once: by the next reading, or in line."""
        joined = self._guard.driver.join_question(self._account)
        if not ((joined and self._have_quickly(*self._asked)) or self._waited_in_line()):
            self._admit()

    def _waited_in_line(self) -> bool:
        """Wait in line, if it lacks slots only; ``False`` if that is not the way."""
        account, driver, name = self._account, self._guard.driver, new_portable_name()
        try:
            place = account.join_line(weakref.ref(self), name, *self._asked)
            if place is None:
                return False
            driver.stand(account, place)
            return self._called(place) or self._admit()
        except BaseException:
            if not account.withdraw(name):
                with contextlib.suppress(StoreError):  # what cannot be given back now comes back when its lease ends
                    driver.run(account, abandon(account, Hold(name, Quote(*self._asked))))
            raise

    def _admit(self, *, now: bool = False, stop: Stop | None = None) -> bool:
        guard, account, hold = self._guard, self._account, self._hold
        guard.heartbeat.watch(account, hold)
        try:
            if not now and guard.driver.take(account, hold):
                self._had = True
                return True
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


class AsyncPermit(Handle):
    """Credits and slots that are held for one call. Made by `AsyncGuard.reserve`. Since 0.1.

    It is had when its block is entered with ``async with``, or when it is awaited. Leaving the block without a word
    ends it as for `Permit`; the same methods, with ``await`` where they ask the store. Endings are shielded from
    cancellation. Safe to share between tasks.
    """

    _guard: AsyncHolding
    _getting = False
    """Whether a task is getting it."""

    async def settle(self, charge: int | None = None, task_id: str | None = None) -> None:
        """Book it: the provider took the call. See `Permit.settle`."""
        if task_id is not None or not self._settle_quickly(charge):
            await self._run(self._end("settled", charge, task_id))

    async def release(self) -> None:
        """Give it back whole: nothing was sent, or the provider said no. See `Permit.release`."""
        if not self._release_quickly():
            await self._run(self._end("released"))
            self._check()

    async def unknown(self) -> None:
        """Keep it until its lease ends: nobody knows whether the provider took the call. See `Permit.unknown`."""
        await self._run(self._end("unknown"))

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._get().__await__()

    async def __aenter__(self) -> Self:
        if not (self._is_had or self._had_quickly()):
            await self._get()
        self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failed = error is not None and not isinstance(error, GeneratorExit)
        if self._leave_quickly(failed=failed):
            return
        try:
            with contextlib.suppress(StoreError):  # what cannot be booked now ends with its lease
                await self._run(self._leave(failed=failed))
        finally:
            self._guard.heartbeat.forget(self._hold)

    def _had_quickly(self) -> bool:
        account = self._account
        # While somebody asks for the balance nobody is admitted there.
        return (
            self._made is None
            and account.is_quick
            and not (account.asking or self._getting)
            and self._have_quickly(*self._asked)
        )

    async def _run(self, flow: Flow[None]) -> None:
        with anyio.CancelScope(shield=True):
            await self._guard.driver.run(self._account, flow)

    async def _get(self) -> Self:
        if self._is_had or self._had_quickly():
            return self
        if self._getting:
            raise PermitError(
                "Another task is getting this permit: await it in one task only, or reserve anew for another call."
            )
        self._getting = True
        try:
            await self._get_slowly()
        finally:
            self._getting = False
        return self

    async def _get_slowly(self) -> None:
        """Get what the quick path did not have at once: by the next reading, or in line."""
        account = self._account
        if self._made is None and account.is_quick:
            joined = await self._guard.driver.join_question(account)
            if (joined and not account.asking and self._have_quickly(*self._asked)) or await self._waited_in_line():
                return
        await self._admit()

    async def _waited_in_line(self) -> bool:
        """Wait in line, if it lacks slots only; ``False`` if that is not the way."""
        account, driver, name = self._account, self._guard.driver, new_portable_name()
        try:
            place = account.join_line(weakref.ref(self), name, *self._asked)
            if place is None:
                return False
            await driver.stand(account, place)
            return self._called(place) or await self._admit()
        except GeneratorExit:
            raise  # dropped, perhaps by the collector in the middle of anything: it is passed over, and its lease ends
        except BaseException:
            if not account.withdraw(name):
                with anyio.CancelScope(shield=True), contextlib.suppress(StoreError):  # it comes back with its lease
                    await driver.run(account, abandon(account, Hold(name, Quote(*self._asked))))
            raise

    async def _admit(self, *, now: bool = False) -> bool:
        guard, account, hold = self._guard, self._account, self._hold
        guard.heartbeat.watch(account, hold)
        try:
            if not now and await guard.driver.take(account, hold):
                self._had = True
                return True
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


def quickly(guard: Holding, own: QuickAccount, credits: int, slots: int) -> Permit:
    """Get a plain permit: on the quick path if that is to be had.

    Raises:
        Refused: If it cannot be had.
    """
    permit = Permit.__new__(Permit)
    permit._guard, permit._account = guard, own  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if own.asking or not permit._have_quickly(credits, slots):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        permit._asked = (credits, slots)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        permit._get()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return permit


def plain(guard: AsyncHolding, credits: int, slots: int) -> AsyncPermit:
    """Make a permit that is had on the quick path, if it can be, when it is entered or awaited."""
    permit = AsyncPermit.__new__(AsyncPermit)
    permit._guard, permit._account, permit._asked = guard, guard.own, (credits, slots)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return permit


def obtain(permit: Permit, *, now: bool = False, stop: Stop | None = None) -> bool:
    """Get what a permit is for; *now* or not at all, and then ``False`` if only time could help; or until a *stop*."""
    return permit._admit(now=now, stop=stop)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - not for users


async def aobtain(permit: AsyncPermit, *, now: bool = False) -> bool:
    """See `obtain`."""
    return await permit._admit(now=now)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - not for users
