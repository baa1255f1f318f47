"""What may be set on every fake, with the types of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, Self, TypedDict, TypeVar, cast, overload

from budgetguard._settings import flag, function, seconds, whole
from budgetguard.errors import SettingError
from budgetguard.model import RouteKind
from budgetguard.testing.clock import Clock
from budgetguard.testing.task import Duration

__all__ = [
    "Charge",
    "Latency",
    "OfAccount",
    "Settings",
    "check_chances",
    "check_counts",
    "check_times",
    "choice",
    "keys_of",
]

Charge = int | Callable[[str, Mapping[str, Any]], int]
"""Credits a call costs: a number, or a function of the path (as in the price list) and the body."""
Latency = float | Callable[[RouteKind | None], float]
"""Real seconds: a number, or a function of what the request is about."""
T = TypeVar("T")


class Settings(TypedDict, total=False):
    """The settings all fakes have in common; `FakeProvider` explains them. Since 0.1."""

    keys: str | Iterable[str] | None
    charge: Charge | None
    default_price: int
    duration: Duration
    clock: Clock | None
    seed: int
    latency: Latency
    answer_latency: Latency
    rate_limit: tuple[int, float] | None
    fail_rate: float
    refund_failed: bool
    lag_seconds: float
    lag_calls: int
    queue_max: int | None


def check_counts(charge: Any, default_price: Any, lag_calls: Any, queue_max: Any) -> None:
    """See that prices and other numbers can be. Since 0.1."""
    if charge is not None and not callable(charge):
        whole("charge", charge)
    whole("default_price", default_price)
    whole("lag_calls", lag_calls)
    if queue_max is not None:
        whole("queue_max", queue_max)


def check_times(duration: Any, latency: Any, answer_latency: Any, lag_seconds: Any, clock: Any) -> None:
    """See that durations can be. Since 0.1."""
    if not callable(duration):
        ends = duration if isinstance(duration, tuple) and len(duration) == 2 else (duration,)
        for end in ends:
            seconds("duration", end, zero=True)
    for name, value in (("latency", latency), ("answer_latency", answer_latency)):
        if not callable(value):
            seconds(name, value, zero=True)
    seconds("lag_seconds", lag_seconds, zero=True)
    if clock is not None:
        function("clock", getattr(clock, "monotonic", None), "give a clock, for instance ManualClock()")


def check_chances(seed: Any, fail_rate: Any, rate_limit: Any, *, refund_failed: Any) -> None:
    """See that what goes wrong can. Since 0.1."""
    flag("refund_failed", refund_failed)
    whole("seed", seed, -(2**64), 2**64, right="give a whole number of at most 64 bits")
    if isinstance(fail_rate, bool) or not isinstance(fail_rate, int | float) or not 0 <= fail_rate <= 1:
        raise SettingError("fail_rate", fail_rate, "give a share from 0 to 1")
    if rate_limit is not None:
        if not isinstance(rate_limit, tuple) or len(rate_limit) != 2:
            raise SettingError("rate_limit", rate_limit, "give requests and seconds, such as (10, 1.0)")
        whole("rate_limit", rate_limit[0])
        seconds("rate_limit", rate_limit[1])


def keys_of(keys: Any) -> tuple[str, ...] | None:
    """Read which keys are accepted; ``None`` for any. Since 0.1."""
    if keys is None:
        return None
    if isinstance(keys, bytes | Mapping) or not isinstance(keys, Iterable):
        raise SettingError("keys", type(keys).__name__, "give a key, a list of keys, or None for any")
    named = (keys,) if isinstance(keys, str) else tuple(keys)
    if not all(isinstance(key, str) for key in named):
        raise SettingError("keys", type(keys).__name__, "give keys as text")
    return named


def choice(name: str, value: Any, *words: str) -> None:
    """See that a setting is one of a few words. Since 0.1."""
    if not isinstance(value, str) or value not in words:
        raise SettingError(name, value, f"give {' or '.join(map(repr, words))}")


class _HasAccount(Protocol):
    account: Any


class OfAccount(Generic[T]):
    """A setting of the fake that is kept by its account."""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, fake: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, fake: _HasAccount, owner: type[Any]) -> T: ...
    def __get__(self, fake: _HasAccount | None, owner: type[Any]) -> Self | T:
        return self if fake is None else cast("T", getattr(fake.account, self.name))

    def __set__(self, fake: _HasAccount, value: T) -> None:
        setattr(fake.account, self.name, value)
