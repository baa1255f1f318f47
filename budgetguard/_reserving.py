"""What a guard offers to get permits with, in both colours."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import anyio

from budgetguard._core.account import Account, Hold
from budgetguard._core.permits import can_afford, end_by_token
from budgetguard._core.quick import QuickAccount
from budgetguard._core.settlement import abandon
from budgetguard._desk import AsyncHolding, Holding
from budgetguard._http import CallOptions
from budgetguard._scope import inside
from budgetguard._settings import CREDITS_MAX, SLOTS_MAX
from budgetguard.engine import Engine
from budgetguard.errors import SettingError, StoreError
from budgetguard.model import Quote, TaskSeen
from budgetguard.permit import AsyncPermit, Permit, aobtain, obtain, plain, quickly

__all__ = ["AsyncReserving", "Reserving", "Tags", "ask_for", "quote_of", "words"]

Tags = Mapping[str, str] | Sequence[str]
"""The caller's own words for a permit or a job."""


class Reserving:
    """What a `Guard` offers to get permits with."""

    def reserve(
        self: Holding,
        credits: int | Quote,
        slots: int = 1,
        *,
        pool: str = "",
        task_id: str | None = None,
        tags: Tags | None = None,
        deadline: float | None = None,
        priority: int = 0,
    ) -> Permit:
        """Get credits and slots for a call that no guarded client makes: at once, or after a wait in line. Since 0.1.

        Used as ``with guard.reserve(credits=35) as permit``. See `Permit` for how it ends.

        Args:
            credits: What the call costs at most, or a `Quote`, which brings its own slots and pool.
            slots: Slots it takes.
            pool: The limit they count against; ``""`` where the account has only one.
            task_id: The provider's id of the task, where it is known already.
            tags: Words that go with it into events: a list, or a mapping of names to words.
            deadline: Seconds within which it must be had; ``None`` leaves it to ``Policy.max_wait``.
            priority: A higher one goes before a lower one in the line.

        Raises:
            Refused: If it cannot be had: the same refusals as for a call.
            SettingError: If one of these cannot work, or the guard has no key.
            StoreError: If the store fails.
        """
        own = self.own
        if pool == "" and task_id is None and tags is None and deadline is None and is_plain(credits, slots, priority):
            if own.is_quick:
                return quickly(self, own, credits, slots)
            hold = self.engine.permit(Quote(credits, slots), 0, None, ())
            permit = Permit(self, own, hold, None)
        else:
            asked = ask_for(self.engine, own, credits, slots, pool, tags, deadline, priority)
            permit = Permit(self, *asked, task_id)
        obtain(permit)
        return permit

    def try_reserve(
        self: Holding,
        credits: int | Quote,
        slots: int = 1,
        *,
        pool: str = "",
        task_id: str | None = None,
        tags: Tags | None = None,
    ) -> Permit | None:
        """Get credits and slots now, or not at all. Since 0.1.

        It never waits in line, and for nobody else's question to the provider. A reading that is too old is refreshed.

        Args:
            credits: As for `reserve`, with all that follows.
            slots: Slots it takes.
            pool: The limit they count against.
            task_id: The provider's id of the task, where it is known already.
            tags: Words that go with it into events.

        Returns:
            The permit, to be used as a context manager or ended by hand; ``None`` if only time could help: no slot is
            free, others wait already, or the account pauses.

        Raises:
            Refused: If waiting would not help: `InsufficientCredits`, `InsufficientSlots`, `CreditsUnavailable`.
            SettingError: If one of these cannot work, or the guard has no key.
            StoreError: If the store fails.
        """
        asked = ask_for(self.engine, self.own, credits, slots, pool, tags, None, 0)
        permit = Permit(self, *asked, task_id)
        return permit if obtain(permit, now=True) else None

    def can_afford(self: Holding, credits: int | Quote, slots: int = 1, *, pool: str = "") -> bool:
        """Look whether `reserve` would get this, at once or after a wait in line. Holds nothing. Since 0.1.

        Args:
            credits: As for `reserve`.
            slots: Slots it takes; only the limit counts, not what is free just now.
            pool: The limit they count against.

        Returns:
            ``False`` where `reserve` would raise `InsufficientCredits` or `InsufficientSlots` now.

        Raises:
            CreditsUnavailable: If the balance cannot be read.
            SettingError: If one of these cannot work, or the guard has no key.
            StoreError: If the store fails.
        """
        account, hold = ask_for(self.engine, self.own, credits, slots, pool, None, None, 0)
        try:
            return self.driver.run(
                account,
                can_afford(account, hold),
                fetch=lambda: self.asking.fetch(self.bearer),
                ask=lambda ids: self.asking.tasks(self.bearer, ids),
            )
        except BaseException:
            with contextlib.suppress(StoreError):
                self.driver.run(account, abandon(account, hold))
            raise

    def _finished(self: Holding, token: str, task: TaskSeen, accounts: Sequence[Account]) -> bool:
        account, named = self.engine.token_of(token, accounts)
        task = TaskSeen(named.task_id, task.state, task.charge)
        return self.driver.run(account, end_by_token(account, named.id, task))


class AsyncReserving:
    """What an `AsyncGuard` offers to get permits with."""

    def reserve(
        self: AsyncHolding,
        credits: int | Quote,
        slots: int = 1,
        *,
        pool: str = "",
        task_id: str | None = None,
        tags: Tags | None = None,
        deadline: float | None = None,
        priority: int = 0,
    ) -> AsyncPermit:
        """Get credits and slots for a call that no guarded client makes. See `Guard.reserve`. Since 0.1.

        Used as ``async with guard.reserve(credits=35) as permit``, or ``permit = await guard.reserve(credits=35)``.
        """
        if pool == "" and task_id is None and tags is None and deadline is None and is_plain(credits, slots, priority):
            return plain(self, credits, slots)
        asked = ask_for(self.engine, self.own, credits, slots, pool, tags, deadline, priority)
        return AsyncPermit(self, *asked, task_id)

    async def try_reserve(
        self: AsyncHolding,
        credits: int | Quote,
        slots: int = 1,
        *,
        pool: str = "",
        task_id: str | None = None,
        tags: Tags | None = None,
    ) -> AsyncPermit | None:
        """Get credits and slots now, or not at all. See `Guard.try_reserve`. Since 0.1."""
        asked = ask_for(self.engine, self.own, credits, slots, pool, tags, None, 0)
        permit = AsyncPermit(self, *asked, task_id)
        return permit if await aobtain(permit, now=True) else None

    async def can_afford(self: AsyncHolding, credits: int | Quote, slots: int = 1, *, pool: str = "") -> bool:
        """Look whether `reserve` would get this. Holds nothing. See `Guard.can_afford`. Since 0.1."""
        account, hold = ask_for(self.engine, self.own, credits, slots, pool, None, None, 0)
        try:
            return await self.driver.run(
                account,
                can_afford(account, hold),
                fetch=lambda: self.asking.fetch(self.bearer),
                ask=lambda ids: self.asking.tasks(self.bearer, ids),
            )
        except BaseException:
            with anyio.CancelScope(shield=True), contextlib.suppress(StoreError):
                await self.driver.run(account, abandon(account, hold))
            raise

    async def _finished(self: AsyncHolding, token: str, task: TaskSeen, accounts: Sequence[Account]) -> bool:
        account, named = self.engine.token_of(token, accounts)
        task = TaskSeen(named.task_id, task.state, task.charge)
        return await self.driver.run(account, end_by_token(account, named.id, task))


def is_plain(credits: int | Quote, slots: int, priority: int) -> TypeGuard[int]:
    """Tell whether numbers need no closer look: whole ones within bounds, and asked for inside no other permit."""
    return (
        type(credits) is int
        and type(slots) is int
        and type(priority) is int
        and priority == 0
        and 0 <= credits <= CREDITS_MAX
        and 0 <= slots <= SLOTS_MAX
        and inside() is None
    )


def ask_for(
    engine: Engine,
    account: QuickAccount,
    credits: int | Quote,
    slots: int,
    pool: str,
    tags: Tags | None,
    deadline: float | None,
    priority: int,
) -> tuple[QuickAccount, Hold]:
    """Prepare a hold on the guard's own account."""
    quote = quote_of(credits, slots, pool, deadline, priority)
    return account, engine.permit(quote, priority, deadline, words(tags))


def quote_of(credits: int | Quote, slots: int, pool: str, deadline: float | None, priority: int) -> Quote:
    """Make the quote of what is asked for.

    Raises:
        SettingError: If something cannot work.
    """
    given: Any = credits  # whatever the annotation says
    if isinstance(given, Quote):
        CallOptions(given.credits, given.slots, priority, deadline)
        if slots != 1 or pool:
            raise SettingError("credits", given, "a Quote brings its own slots and pool, so leave those out")
        return given
    if given is None:
        raise SettingError("credits", given, "give what the call costs at most, or a Quote")
    CallOptions(given, slots, priority, deadline)
    return Quote(given, slots, pool)


def words(tags: Tags | None) -> tuple[str, ...]:
    """Write tags down as words.

    Raises:
        SettingError: If they are none.
    """
    if tags is None:
        return ()
    given: Any = tags  # whatever the annotation says
    found: tuple[Any, ...] | None = None
    if isinstance(given, Mapping):
        found = tuple(f"{name}={value}" if isinstance(name, str) else None for name, value in given.items())
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        found = tuple(given)
    if found is None or not all(isinstance(word, str) for word in found):
        raise SettingError("tags", tags, "give a list of words, or a mapping of names to words")
    return found
