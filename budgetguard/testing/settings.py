"""What may be set on every fake, with the types of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, Self, TypedDict, TypeVar, cast, overload

from budgetguard.model import RouteKind
from budgetguard.testing.clock import Clock
from budgetguard.testing.task import Duration

__all__ = ["Charge", "Latency", "OfAccount", "Settings"]

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
