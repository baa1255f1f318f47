"""Every exception the library raises on purpose.

::

    BudgetGuardError
    ├── Refused                  a fact about the account; the call was not sent (or the provider refused it)
    │   ├── InsufficientCredits  the balance does not cover it
    │   ├── InsufficientSlots    it needs more slots than the account's limit will ever give
    │   ├── QueueFull            the line is as long as the policy allows
    │   ├── QueueTimeout         no slot came free in time
    │   ├── UnknownPrice         nobody knows what it costs
    │   └── CreditsUnavailable   the balance cannot be read, and the policy says not to guess
    ├── ProviderError            the provider answered something we cannot use
    │   ├── ReadingError         ... to a question for the balance; names the field
    │   └── CallbackError        ... unasked: a callback that is forged, stale or cannot be read
    ├── PermitError              a permit was told two things that contradict each other, or a token is not usable
    ├── StoreError               the store failed
    └── SettingError             a setting is wrong (also a ``ValueError``)

Refusals are facts and carry numbers; faults end in ``Error``. Each builds its own message, which says what to do.
No exception ever holds an API key or a request's headers.
"""

from __future__ import annotations

from typing import Any, Literal

__all__ = [
    "BudgetGuardError",
    "CallbackError",
    "CreditsUnavailable",
    "InsufficientCredits",
    "InsufficientSlots",
    "PermitError",
    "ProviderError",
    "QueueFull",
    "QueueTimeout",
    "ReadingError",
    "Refused",
    "SettingError",
    "StoreError",
    "UnknownPrice",
]

_SHOWN_MAX = 200
"""Characters of a wrong value that a message shows."""


class BudgetGuardError(Exception):
    """The base of everything raised here. Since 0.1."""


def _rebuild(cls: type[Refused], facts: dict[str, Any]) -> Refused:
    return cls(**facts)


class Refused(BudgetGuardError):
    """A call that was refused; nothing was charged. Since 0.1.

    Attributes:
        account: The account's name: the provider's and a fingerprint of the key, or the name the user gave it.
        response: The provider's own refusal, where it was the provider who refused; an ``httpx.Response`` for calls
            made through a transport. Lost when the exception is pickled.
        report: What became of the jobs, where a pool took up nothing more because of it; a `PoolReport`. Lost as well.
    """

    account: str
    response: Any = None
    report: Any = None

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self._facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._facts)

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers behind the refusal, ready for a log line or a JSON answer."""
        return dict(self._facts)


def _age(age: float | None) -> str:
    return "never" if age is None else f"{age:.1f} s ago"


class InsufficientCredits(Refused):
    """The balance does not cover the call. Since 0.1.

    Attributes:
        needed: Credits the call would cost.
        available: Credits free for new calls at that moment.
        held: Credits of the balance that are promised to calls the last reading does not show yet.
        shortfall: ``needed - available``.
        balance: Credits the provider reported.
        headroom: Credits the policy never gives out.
        read_at: When that reading was asked for, in seconds of the store's clock; ``None`` if there is none.
        age: Seconds since then; ``None`` if there is no reading.
        by_provider: Whether the provider itself refused, against our numbers.
    """

    account: str
    needed: int
    available: int
    held: int
    balance: int
    headroom: int
    read_at: float | None
    age: float | None
    by_provider: bool
    shortfall: int

    def __init__(
        self,
        *,
        account: str,
        needed: int,
        available: int,
        held: int = 0,
        balance: int = 0,
        headroom: int = 0,
        read_at: float | None = None,
        age: float | None = None,
        by_provider: bool = False,
    ) -> None:
        # Raised more often than read, call by call: so the message waits until somebody asks, and this is set as one.
        self.__dict__ = {
            "account": account,
            "needed": needed,
            "available": available,
            "held": held,
            "balance": balance,
            "headroom": headroom,
            "read_at": read_at,
            "age": age,
            "by_provider": by_provider,
            "shortfall": needed - available if needed > available else 0,
        }

    def __str__(self) -> str:
        said = f"{self.account} needs {self.needed} credits for this call and has {self.available} free"
        remedy = f"Top up at least {self.shortfall} credits, or send a cheaper call"
        if self.by_provider:
            said = f"{self.account} was refused {self.needed} credits by the provider itself; our last figure was "
            said += f"{self.available} free"
            remedy = "Something else spends this account: see Policy(credits_headroom=...)"
        parts = [f"balance {self.balance}, read {_age(self.age)}"]
        if self.held:
            parts.append(f"{self.held} held for calls under way")
        if self.headroom:
            parts.append(f"{self.headroom} kept as headroom")
        return f"{said} ({'; '.join(parts)}). {remedy}."

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """The message, as exceptions have it."""
        return (str(self),)

    def __reduce__(self) -> tuple[Any, ...]:
        facts = self.facts
        del facts["shortfall"]
        return _rebuild, (type(self), facts)

    @property
    def facts(self) -> dict[str, Any]:
        """The numbers behind the refusal, ready for a log line or a JSON answer."""
        return {name: getattr(self, name) for name in InsufficientCredits.__annotations__}


class InsufficientSlots(Refused):
    """The call needs more slots than the account will ever have free. Since 0.1.

    Attributes:
        needed: Slots the call takes.
        limit: The account's limit, less headroom.
        pool: The name of the limit; ``""`` where there is only one.
    """

    needed: int
    limit: int
    pool: str

    def __init__(self, *, account: str, needed: int, limit: int, pool: str = "") -> None:
        of = f" of pool {pool!r}" if pool else ""
        super().__init__(
            f"{account} can run {limit} slots at once{of} and this call takes {needed}; waiting would not help. "
            "Raise the limit with the provider, or lower Policy(slots_headroom=...).",
            account=account,
            needed=needed,
            limit=limit,
            pool=pool,
        )


class QueueFull(Refused):
    """The line of waiting calls is as long as the policy allows. Since 0.1.

    Attributes:
        waiting: Calls in line.
        max_waiting: The policy's bound.
        retry_after: A guess at when to come back, in seconds.
    """

    waiting: int
    max_waiting: int
    retry_after: float

    def __init__(self, *, account: str, waiting: int, max_waiting: int, retry_after: float = 1.0) -> None:
        super().__init__(
            f"{waiting} calls already wait for a slot of {account}, as many as Policy(max_waiting={max_waiting}) "
            "allows. Send fewer at once, or raise max_waiting.",
            account=account,
            waiting=waiting,
            max_waiting=max_waiting,
            retry_after=retry_after,
        )


class QueueTimeout(Refused):
    """No slot came free in time; the call was not sent. Since 0.1.

    Attributes:
        waited: Seconds spent in line.
        place: The place in line at the end, the first being 1.
        retry_after: A guess at when to come back, in seconds.
    """

    waited: float
    place: int
    retry_after: float

    def __init__(self, *, account: str, waited: float, place: int, retry_after: float = 1.0) -> None:
        super().__init__(
            f"{account} could not take the call within {waited:.1f} s (place {place} in line); it was not sent. "
            "Allow it longer with Policy(max_wait=...) or the call's deadline, or send fewer at once.",
            account=account,
            waited=waited,
            place=place,
            retry_after=retry_after,
        )


class UnknownPrice(Refused):
    """Nobody knows what the call costs. Since 0.1.

    Attributes:
        what: The endpoint and model without a price.
        why: What is missing.
    """

    what: str
    why: str

    def __init__(self, *, what: str, why: str, account: str = "") -> None:
        super().__init__(
            f"No price is known for {what}: {why}. Give the call one "
            "(extensions={'budgetguard': {'credits': ...}}), add a row to the provider's prices, "
            "or set Policy(unknown_price=...).",
            what=what,
            why=why,
            account=account,
        )


class CreditsUnavailable(Refused):
    """The balance cannot be read and the last reading is too old to be used. Since 0.1.

    Attributes:
        age: Seconds since the last reading; ``None`` if there never was one.
        failures: Readings that failed in a row.
        why: What went wrong the last time.
        retry_after: Seconds until the guard will ask again.
    """

    age: float | None
    failures: int
    why: str
    retry_after: float

    def __init__(
        self, *, account: str, age: float | None, failures: int = 0, why: str = "", retry_after: float = 1.0
    ) -> None:
        super().__init__(
            f"The credits of {account} cannot be read ({why or 'no answer'}; last reading {_age(age)}, "
            f"{failures} failures in a row). Check the key and the provider's status; "
            "Policy(on_credits_error='open') admits calls unseen instead.",
            account=account,
            age=age,
            failures=failures,
            why=why,
            retry_after=retry_after,
        )


class ProviderError(BudgetGuardError):
    """The provider answered something that cannot be used. Since 0.1."""


class ReadingError(ProviderError):
    """The credits endpoint answered something that is not a reading. Never taken as a zero balance. Since 0.1.

    Attributes:
        field: The path of the field at fault, e.g. ``remains[0].credit_remain``; ``""`` for the answer as a whole.
    """

    def __init__(self, problem: str, *, field: str = "") -> None:
        self.problem = problem
        self.field = field
        where = f"field {field}: " if field else ""
        super().__init__(f"The credits answer cannot be used: {where}{problem}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_reading, (self.problem, self.field)


def _rebuild_reading(problem: str, field: str) -> ReadingError:
    return ReadingError(problem, field=field)


class CallbackError(ProviderError):
    """A callback cannot be believed or read. The message says why, and repeats nothing of what came. Since 0.1.

    Attributes:
        kind: ``forged`` (unsigned, or not signed with the key), ``stale`` (its date is too old or lies ahead),
            ``malformed`` or ``too_large``.
    """

    def __init__(self, kind: Literal["forged", "stale", "malformed", "too_large"], why: str) -> None:
        self.kind = kind
        self.why = why
        super().__init__(f"The callback was not taken: {why}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.why)


class PermitError(BudgetGuardError):
    """A permit was told something that contradicts what it was told before, or a token is not usable. Since 0.1.

    The message says what to do. Nothing was changed.
    """


class StoreError(BudgetGuardError):
    """The store failed, or cannot be reached. Since 0.1.

    Attributes:
        unreachable: Whether it gave no answer, which `Policy.store_grace` may bridge. What was asked may have happened.
    """

    def __init__(self, message: str = "", *, unreachable: bool = False) -> None:
        self.unreachable = unreachable
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_store, (str(self), self.unreachable)


def _rebuild_store(message: str, unreachable: bool) -> StoreError:  # noqa: FBT001 - as pickle calls it
    return StoreError(message, unreachable=unreachable)


class SettingError(BudgetGuardError, ValueError):
    """A setting is wrong; the message names it, its value and what would be right. Since 0.1."""

    def __init__(self, name: str, value: object, right: str) -> None:
        self.name = name
        self.value = value
        self.right = right
        super().__init__(f"{name}={_shown(value)} is not usable: {right}.")

    def __reduce__(self) -> tuple[Any, ...]:
        # The value may be anything, also what cannot be pickled; its text is what counts.
        return type(self), (self.name, _Shown(_shown(self.value)), self.right)


def _shown(value: object) -> str:
    """Show a wrong value, which may be of any size, or refuse to be shown: an integer of 5,000 digits does."""
    if isinstance(value, _Shown):
        return str(value)
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever it is, it must not take the place of the message
        return f"({type(value).__name__})"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}... ({type(value).__name__})"


class _Shown(str):
    """The text of a value that stayed behind."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
