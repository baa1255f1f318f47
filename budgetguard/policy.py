"""The settings of a guard, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from budgetguard.errors import SettingError

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How careful, how patient and how curious a guard is. Immutable; safe to share between threads. Since 0.1.

    Attributes:
        max_age: A reading is fresh for this many seconds.
        max_stale: While somebody refreshes, others go on with a reading up to this old, in seconds.
        recheck_after: A refusal is never raised on a reading older than this, in seconds: the guard looks again first.
        min_interval: At least this many seconds lie between two readings.
        credits_timeout: Seconds the credits endpoint has to answer.
        stale_if_error: While the credits endpoint fails, a reading up to this old is used, in seconds.
        on_credits_error: What then: ``"closed"`` raises `CreditsUnavailable`, ``"open"`` admits unseen.
        backoff: Seconds until the next try after one failed reading (or one rate refusal without ``Retry-After``);
            doubles with each failure, with jitter.
        backoff_max: The longest such pause, in seconds.
        credits_headroom: Credits never given out.
        slots_headroom: Slots never given out, of each pool.
        exclusive: Whether nobody else uses the account. Slots then need no readings; a stranger seen ends it. A call
            nobody knows the outcome of then keeps its slot for *task_lease*.
        max_waiting: Most calls in line, for each account and pool.
        max_wait: Longest time in line, in seconds; ``None`` for no bound.
        lease: How long a call that was let through is believed to be under way when nothing is heard of it, in seconds.
        task_lease: The same for a task that was accepted, in seconds; ``None`` for the provider's usual figure.
        settlement_lag: Seconds by which the reported balance may trail behind; ``None`` for the provider's figure.
        resend_max: How often a call the provider refused for concurrency or rate goes back into the line.
        refund_failed: Whether a task that failed gives its credits back at once; ``False`` waits for the balance.
        unknown_price: What to hold for a call without a known price: ``"refuse"`` raises `UnknownPrice`, a number holds
            that many credits, ``"pass"`` lets the call through unguarded.
        store_grace: While the store gives no answer, calls are admitted on what was last seen of it, for this many
            seconds since its last answer, and as long as the reading is fresh. Each process may then give out by itself
            all that was free. 0 admits nobody.
        low_balance: Thresholds, in credits, whose crossing downward is told as `LowBalance`.

    Raises:
        SettingError: If a value cannot work; the message names the setting, its value and what would be right.
    """

    max_age: float = 10.0
    max_stale: float = 60.0
    recheck_after: float = 1.0
    min_interval: float = 1.0
    credits_timeout: float = 10.0
    stale_if_error: float = 300.0
    on_credits_error: Literal["closed", "open"] = "closed"
    backoff: float = 1.0
    backoff_max: float = 60.0
    credits_headroom: int = 0
    slots_headroom: int = 0
    exclusive: bool = False
    max_waiting: int = 10_000
    max_wait: float | None = None
    lease: float = 120.0
    task_lease: float | None = None
    settlement_lag: float | None = None
    resend_max: int = 5
    refund_failed: bool = False
    unknown_price: Literal["refuse", "pass"] | int = "refuse"
    store_grace: float = 0.0
    low_balance: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "max_age",
            "recheck_after",
            "min_interval",
            "stale_if_error",
            "settlement_lag",
            "max_wait",
            "store_grace",
        ):
            self._number(name, zero=True)
        for name in ("max_stale", "credits_timeout", "backoff", "backoff_max", "lease", "task_lease"):
            self._number(name, zero=False)
        for name in ("credits_headroom", "slots_headroom", "max_waiting", "resend_max"):
            self._count(name)
        for name in ("exclusive", "refund_failed"):
            if not isinstance(getattr(self, name), bool):
                raise SettingError(name, getattr(self, name), "give True or False")
        if self.on_credits_error not in ("closed", "open"):
            raise SettingError("on_credits_error", self.on_credits_error, "give 'closed' or 'open'")
        if self.unknown_price not in ("refuse", "pass"):
            self._count("unknown_price", hint="give 'refuse', 'pass' or a whole number of credits")
        if self.max_stale < self.max_age:
            raise SettingError("max_stale", self.max_stale, f"give at least max_age, {self.max_age}")
        if self.recheck_after < self.min_interval:
            raise SettingError("recheck_after", self.recheck_after, f"give at least min_interval, {self.min_interval}")
        if self.stale_if_error < self.max_age:
            raise SettingError("stale_if_error", self.stale_if_error, f"give at least max_age, {self.max_age}")
        if self.backoff_max < self.backoff:
            raise SettingError("backoff_max", self.backoff_max, f"give at least backoff, {self.backoff}")
        if not isinstance(self.low_balance, tuple) or any(
            isinstance(v, bool) or not isinstance(v, int) or not 0 < v <= 10**15 for v in self.low_balance
        ):
            raise SettingError("low_balance", self.low_balance, "give a tuple of whole numbers, above 0, at most 1e15")

    def _number(self, name: str, *, zero: bool) -> None:
        value = getattr(self, name)
        if value is None and "None" in str(Policy.__annotations__[name]):
            return
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value <= 1e9
            or (not zero and value == 0)
        ):
            raise SettingError(name, value, f"give seconds, {'0 or more' if zero else 'more than 0'}, at most 1e9")

    def _count(self, name: str, hint: str = "give a whole number, 0 or more") -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**15:
            raise SettingError(name, value, hint)

    def __repr__(self) -> str:
        changed = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Policy({', '.join(changed)})"
