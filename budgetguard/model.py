"""The values everything else speaks in.

Frozen, small, and free of behaviour beyond arithmetic on their own fields. Credits are whole numbers of the provider's
smallest unit (``int``), slots are units of concurrency, times are seconds. All of them may be shared between threads.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from budgetguard._settings import CREDITS_MAX, SLOTS_MAX, pool_name, seconds, whole
from budgetguard.errors import SettingError

__all__ = [
    "Balance",
    "Capacity",
    "Outcome",
    "Package",
    "PoolState",
    "Quote",
    "Reading",
    "Recovered",
    "Route",
    "RouteKind",
    "State",
    "TaskSeen",
    "TaskState",
    "Verdict",
]


_NAMED = 5
"""How many tasks a text names."""


class RouteKind(enum.StrEnum):
    """What a request is about, as far as the account is concerned. Since 0.1."""

    SUBMIT = "submit"
    """Starts paid work."""
    POLL = "poll"
    """Asks about one task; the answer says whether it still runs."""
    LIST = "list"
    """Asks about several tasks."""
    CANCEL = "cancel"
    """Tries to end a task."""
    CREDITS = "credits"
    """Asks for the balance."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes. Since 0.1.

    Attributes:
        kind: What it is about.
        path: The provider's name of the endpoint, e.g. ``text2video``; the key into its price list.
        task_id: The task asked about, for ``POLL`` and ``CANCEL``.
        quote: The price of a ``SUBMIT``, where it depends on the endpoint alone: then no body is read for it.
    """

    kind: RouteKind
    path: str
    task_id: str | None = None
    quote: Quote | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """What a call will cost. Since 0.1.

    Attributes:
        credits: Credits to hold: the exact price, or its upper bound.
        slots: Units of concurrency the call takes while it runs.
        pool: The name of the limit it counts against; ``""`` where an account has only one.
        credits_min: The lower bound, where the price is a range; ``None`` where ``credits`` is exact.
        task_lease: How long a task of this kind is believed to run when nothing is heard of it, in seconds;
            ``None`` for the provider's usual figure.
        source: The row of the price list this came from, for people to read.

    Raises:
        SettingError: If one of these cannot be: a price is a whole number from 0 to 10^15.
    """

    credits: int
    slots: int = 1
    pool: str = ""
    credits_min: int | None = None
    task_lease: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        # One look for what nearly all are; the second one finds out what is wrong, if anything is.
        if not (
            type(self.credits) is int
            and 0 <= self.credits <= CREDITS_MAX
            and type(self.slots) is int
            and 0 <= self.slots <= SLOTS_MAX
            and self.pool == ""
            and self.credits_min is None
            and self.task_lease is None
            and type(self.source) is str
        ):
            self._check()

    def _check(self) -> None:
        whole("credits", self.credits)
        whole("slots", self.slots, 0, SLOTS_MAX)
        pool_name("pool", self.pool)
        if self.credits_min is not None and whole("credits_min", self.credits_min) > self.credits:
            raise SettingError("credits_min", self.credits_min, f"give at most credits, {self.credits}")
        if self.task_lease is not None:
            seconds("task_lease", self.task_lease)
        if not isinstance(self.source, str):
            raise SettingError("source", self.source, "give text")

    @property
    def slack(self) -> int:
        """Credits that may come back when the charge is known."""
        return 0 if self.credits_min is None else self.credits - self.credits_min


class Outcome(enum.StrEnum):
    """What the provider did with a submitted call. Since 0.1."""

    ACCEPTED = "accepted"
    INSUFFICIENT = "insufficient"
    """Refused for want of credits; nothing was accepted."""
    CONCURRENCY = "concurrency"
    """Refused because too many tasks run; nothing was accepted."""
    RATE = "rate"
    """Refused because requests come too fast or the provider is loaded; nothing was accepted."""
    REJECTED = "rejected"
    """Refused for a reason of the caller's (input, moderation, key); nothing was accepted."""
    UNKNOWN = "unknown"
    """It may have been accepted: no answer, or one that does not tell."""
    NOT_SENT = "not_sent"
    """It certainly never reached the provider."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one submitted call ended, read from its answer. Since 0.1.

    Attributes:
        outcome: See `Outcome`.
        charge: Credits the answer says were charged; ``None`` where it does not say.
        task_id: The task that was started; ``None`` for synchronous work or where it was not told.
        retry_after: Seconds the provider asked us to wait, where it did.
        reason: The provider's own word for it, e.g. ``CreditInsufficient``.
        message: The provider's own sentence.
    """

    outcome: Outcome
    charge: int | None = None
    task_id: str | None = None
    retry_after: float | None = None
    reason: str = ""
    message: str = ""


class TaskState(enum.StrEnum):
    """What is known of a task. Since 0.1."""

    RUNNING = "running"
    """Accepted and not ended; waiting on the provider's side counts as running."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the task holds no slot any more."""
        return self is not TaskState.RUNNING


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """One task as an answer showed it. Since 0.1.

    Attributes:
        task_id: The provider's id.
        state: Whether it runs, or how it ended.
        charge: Credits the answer says the task cost; ``None`` where it does not say.
    """

    task_id: str
    state: TaskState
    charge: int | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """One limit on concurrency and how much of it is used. Since 0.1.

    Attributes:
        limit: Most slots at once; ``None`` where nobody says, which is taken as no limit.
        running: Slots in use, by anybody, *including* tasks that wait on the provider's side (they have a claim on the
            next free slot); ``None`` where the provider does not say.
    """

    limit: int | None = None
    running: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """One type of credit in a reading, as the provider listed it. Since 0.1."""

    type: str
    credits: int
    limit: int | None = None
    running: int | None = None
    queued: int | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """One purchase of credits, where the provider lists them. Dates are kept as the provider wrote them. Since 0.1."""

    id: str
    name: str
    type: str
    credits: int
    credits_bought: int | None = None
    limit: int | None = None
    valid_from: str = ""
    valid_to: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the credits endpoint said at one moment. Since 0.1.

    Attributes:
        credits: Credits that can be spent.
        pools: The limits on concurrency by pool; a single one is named ``""``.
        balances: The credits by type, as listed.
        packages: Purchases with their validity, where asked for and reported.
        document: The whole answer, for what is not modelled; ``None`` where it repeats the API key. Not compared, and
            not shown in ``repr``.
    """

    credits: int
    pools: Mapping[str, Capacity] = field(default_factory=lambda: {"": Capacity()})
    balances: tuple[Balance, ...] = ()
    packages: tuple[Package, ...] = ()
    document: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PoolState:
    """One limit on concurrency as the guard counts it now. Since 0.1.

    Attributes:
        limit: Most slots at once; ``None`` where there is no limit.
        free: Slots a new call could take; ``None`` where there is no limit. Below 0 when others took more than there
            is.
        open: Slots of calls being sent.
        running: Slots of our own tasks that were not seen to end.
        waiting: Calls in this process's line.
    """

    limit: int | None
    free: int | None
    open: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class State:
    """What the guard knows of an account now, without asking anybody. Since 0.1.

    Attributes:
        account: The account's name.
        balance: Credits the last reading showed; ``None`` if there is none.
        credits_free: Credits a new call could take.
        credits_held: Credits of the balance promised to calls the reading may not show yet.
        pools: The limits on concurrency by pool; a single one is named ``""``.
        age: Seconds since the last reading was asked for; ``None`` if there is none.
        paused: Seconds for which no call will be sent, as the provider asked; 0 usually.
    """

    account: str
    balance: int | None
    credits_free: int
    credits_held: int
    pools: Mapping[str, PoolState]
    age: float | None
    paused: float


@dataclass(frozen=True, slots=True, repr=False)
class Recovered:
    """What an earlier process left, and what became of it. Since 0.1.

    Attributes:
        account: The account's name.
        finished: Ids of the tasks that had ended; their slots are free.
        running: Ids of those that still run, whoever started them. Wait for them with ``wait_task``.
        unknown: Ids of those the provider does not know, or could not be asked about. They are asked about again when
            their lease is over.
        expired: Leases that were over: calls nobody said how they went, and tasks that cannot be asked about.
        held: Calls in line, being sent, or of unknown outcome. Those of a process that is gone end with their lease.
        unreadable: Records a newer version wrote.
    """

    account: str
    finished: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    expired: int = 0
    held: int = 0
    unreadable: int = 0

    def __repr__(self) -> str:
        names = ", ".join(self.running[:_NAMED]) + (", ..." if len(self.running) > _NAMED else "")
        parts = [
            f"{len(self.finished)} tasks finished",
            f"{len(self.running)} running" + (f" ({names})" if names else ""),
            f"{len(self.unknown)} unknown",
            f"{self.expired} leases over",
            f"{self.held} calls held",
        ]
        if self.unreadable:
            parts.append(f"{self.unreadable} records unreadable")
        return f"Recovered({self.account}: {', '.join(parts)})"
