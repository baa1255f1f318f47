"""What happened, as frozen facts.

An observer is any callable that takes one event. It is called in the thread or task in which the thing happened, after
it happened, so it must be quick; what it raises is logged once and never stops a request. Nothing is built when nobody
listens. No event holds an API key. All of them may be shared between threads. Where a call has *tags*, they are the
caller's own words for it, each a ``word`` or ``name=value``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from budgetguard.model import Reading, TaskState

__all__ = [
    "Admitted",
    "Event",
    "Expired",
    "Joined",
    "LowBalance",
    "Observer",
    "OutcomeUnknown",
    "Overspent",
    "Paused",
    "PriceMismatch",
    "Queued",
    "RefreshFailed",
    "Refreshed",
    "RefusedByProvider",
    "RefusedCall",
    "Released",
    "Settled",
    "StoreFound",
    "StoreLost",
    "StrangerSeen",
    "TaskEnded",
]


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all events. Since 0.1.

    Attributes:
        account: The account's name.
        at: When, in seconds of the store's clock.
    """

    account: str
    at: float


@dataclass(frozen=True, slots=True)
class Admitted(Event):
    """A call got its credits and slots, and will be sent now. *waited* is in seconds."""

    reservation: str
    credits: int
    slots: int
    pool: str
    waited: float
    credits_free: int
    slots_free: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Queued(Event):
    """A call joined the line.

    *reason* is ``slots``, ``credits`` or ``line`` (others wait already); *place* counts from 1.
    """

    reservation: str
    credits: int
    slots: int
    pool: str
    reason: str
    place: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Joined(Event):
    """A call drew on the hold of the job around it. *outer* is that hold; *credits* and *slots* are what it drew.

    What it needed beyond that was admitted before.
    """

    reservation: str
    outer: str
    credits: int
    slots: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedCall(Event):
    """A call was refused and not sent. *error* is the class name of the refusal, *message* its text."""

    reservation: str
    credits: int
    error: str
    message: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedByProvider(Event):
    """The provider refused a call the guard had let through.

    *outcome* is as in `Outcome`; *resent* tells whether the call goes back into the line.
    """

    reservation: str
    outcome: str
    reason: str
    resent: bool


@dataclass(frozen=True, slots=True)
class Settled(Event):
    """The provider accepted a call. *charge* is what it reported, or the price where it reported nothing."""

    reservation: str
    task_id: str | None
    credits: int
    charge: int
    reported: bool
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Released(Event):
    """A hold was given back whole: the call was not sent, or not accepted."""

    reservation: str
    credits: int
    slots: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutcomeUnknown(Event):
    """A call may or may not have been accepted. It stays held until its lease ends; then the next reading tells."""

    reservation: str
    credits: int
    slots: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expired(Event):
    """A lease ended. *what* is ``call`` (nobody said how it went) or ``task`` (nobody saw it finish)."""

    reservation: str
    what: str
    task_id: str | None
    credits: int
    slots: int


@dataclass(frozen=True, slots=True)
class TaskEnded(Event):
    """A task was seen to have ended. *freed* tells whether its slots came back at once or with the next reading."""

    task_id: str
    state: TaskState
    slots: int
    freed: bool


@dataclass(frozen=True, slots=True)
class Refreshed(Event):
    """A reading was installed. *asked_by* is ``guard`` or ``user``; *seconds* is how long the answer took."""

    reading: Reading
    credits_free: int
    slots_free: int
    asked_by: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RefreshFailed(Event):
    """The balance could not be read. *retry_in* is in seconds."""

    why: str
    failures: int
    retry_in: float


@dataclass(frozen=True, slots=True)
class Overspent(Event):
    """A call was charged more than was held for it. The money is gone; the difference is counted at once."""

    reservation: str
    credits: int
    charge: int


@dataclass(frozen=True, slots=True)
class PriceMismatch(Event):
    """A charge differs from the price list: the list is out of date, or a discount applied. *source* names the row."""

    source: str
    credits: int
    charge: int


@dataclass(frozen=True, slots=True)
class LowBalance(Event):
    """The free credits fell below a threshold. Told once, until they have risen above it again."""

    threshold: int
    credits_free: int


@dataclass(frozen=True, slots=True)
class StrangerSeen(Event):
    """An account said to be exclusive runs more than we started. From here on the careful rule applies to it."""

    pool: str
    running: int
    ours: int


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """No call of this account is sent for *seconds*, in any process.

    *reason* is the provider's word where it asked for fewer requests, or ``store_forgot`` where the store lost the
    account.
    """

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class StoreLost(Event):
    """The store gives no answer. For *seconds* more, calls are admitted on what was last seen of it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class StoreFound(Event):
    """The store answers again, after *seconds*. *holds* are the calls admitted meanwhile that it has been told of."""

    seconds: float
    holds: int


Observer: TypeAlias = Callable[[Event], None]
"""What is told of events: any callable of one `Event`. Since 0.1."""
