"""What a pool asks of the account for each of its jobs, and what it does when the account says no."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from budgetguard._core.account import Hold
from budgetguard._core.quick import QuickAccount
from budgetguard._reserving import Tags, ask_for
from budgetguard._settings import whole
from budgetguard.errors import (
    CreditsUnavailable,
    InsufficientCredits,
    InsufficientSlots,
    QueueFull,
    SettingError,
    StoreError,
)
from budgetguard.job import terms_of
from budgetguard.model import Quote

__all__ = ["OnInsufficient", "Price", "Terms"]

OnInsufficient = Literal["stop", "skip"]
"""What a job the balance does not cover does to the rest: nothing more is taken, or only that one is left out."""
_WORKERS_MAX = 100_000
Price: TypeAlias = "int | Quote | Callable[..., int | Quote] | None"
Blame = Literal["job", "credits", "account"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a pool was made with."""

    credits: Price
    slots: int
    pool: str
    max_workers: int | None
    on_insufficient: OnInsufficient
    tags: Tags | None
    deadline: float | None
    priority: int

    def check(self, guard: Any) -> QuickAccount:
        """Complain about what cannot work, once and at once; gives the account.

        Raises:
            SettingError: If something cannot, or the guard has no key.
        """
        workers = self.max_workers
        if workers is not None:
            right = f"give a whole number from 1 to {_WORKERS_MAX}, or None for no bound of its own"
            whole("max_workers", workers, 1, _WORKERS_MAX, right=right)
        if self.on_insufficient not in ("stop", "skip"):
            raise SettingError("on_insufficient", self.on_insufficient, "give 'stop' or 'skip'")
        return self._ask(guard, 0 if self.credits is None or callable(self.credits) else self.credits)[0]

    def ask(
        self, guard: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[QuickAccount, Hold, bool]:
        """Prepare the hold of one job; tells too whether it stands for the function itself.

        Otherwise what the function does through jobs and guarded clients draws on it and ends by itself.

        Raises:
            SettingError: If its price cannot be used.
        """
        account, hold, itself = self._asked(guard, function, args, kwargs)
        hold.patient = True  # a limit of 0 may rise again, and a pool follows the limit
        return account, hold, itself

    def _asked(
        self, guard: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[QuickAccount, Hold, bool]:
        inner, args, kwargs = _bare(guard, function, args, kwargs)
        terms = terms_of(inner, guard)
        if self.credits is not None:
            price = self.credits(*args, **kwargs) if callable(self.credits) else self.credits
            return (*self._ask(guard, price), terms is None)
        if terms is not None:
            account, hold, _ = terms.asked(guard, args, kwargs)
            return account, hold, False
        return (*self._ask(guard, 0), False)

    def _ask(self, guard: Any, price: int | Quote) -> tuple[QuickAccount, Hold]:
        engine, own = guard.engine, guard.own
        return ask_for(engine, own, price, self.slots, self.pool, self.tags, self.deadline, self.priority)

    def blame(self, error: BaseException, account: str) -> Blame:
        """Tell what an error is about: the one job, the credits of the account, or all jobs that would follow."""
        if isinstance(error, InsufficientCredits) and error.account == account:
            return "credits"
        if isinstance(error, InsufficientSlots) and error.limit == 0 and error.account == account:
            return "account"  # the headroom leaves no slot to anybody
        return "account" if isinstance(error, CreditsUnavailable | QueueFull | StoreError) else "job"


def _bare(
    guard: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Undo partial application: a price depends on all that the function is called with."""
    while True:
        if isinstance(function, functools.partial):
            function, args, kwargs = function.func, (*function.args, *args), {**function.keywords, **kwargs}
        elif inspect.ismethod(function) and terms_of(function.__func__, guard) is not None:
            function, args = function.__func__, (function.__self__, *args)
        else:
            return function, args, kwargs
