"""The nine things a flow can ask for.

A flow is a generator that decides and never does: it yields steps, and whoever drives it performs them and sends the
reply back. Each step carries the type of its reply, so that ``reply = yield from Transact(...)`` is checked. Two
drivers perform them for real, one in threads and one on an event loop; the tests perform them in any order they like.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from budgetguard._core.line import Ticket
from budgetguard.events import Event
from budgetguard.model import Reading, TaskSeen, Verdict
from budgetguard.ports import Loaded, Scanned, Transacted, Transaction

__all__ = [
    "Ask",
    "Asked",
    "Fetch",
    "Fetched",
    "Flow",
    "Load",
    "Scan",
    "Send",
    "Step",
    "Tell",
    "Transact",
    "Wait",
    "Wake",
]

T = TypeVar("T")


class Step(Generic[T]):
    """Something asked for, with a reply of type ``T``."""

    __slots__ = ()

    def __iter__(self) -> Generator[Step[Any], Any, T]:
        reply: T = yield self
        return reply


Flow: TypeAlias = Generator[Step[Any], Any, T]
"""A procedure that yields steps and ends in a ``T``."""


class Transact(Step[Transacted]):
    """Apply a transaction to the account's counters and records."""

    __slots__ = ("account", "transaction")

    def __init__(self, account: str, transaction: Transaction) -> None:
        self.account = account
        self.transaction = transaction


class Load(Step[Loaded]):
    """Look at the account's counters, at some records, and at those whose lease has ended."""

    __slots__ = ("account", "due", "records")

    def __init__(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> None:
        self.account = account
        self.records = records
        self.due = due


class Scan(Step[Scanned]):
    """Look at one page of the account's records."""

    __slots__ = ("account", "cursor")

    def __init__(self, account: str, cursor: str) -> None:
        self.account = account
        self.cursor = cursor


class Fetched:
    """What came of asking for the balance: a reading, or why there is none."""

    __slots__ = ("reading", "why")

    def __init__(self, reading: Reading | None, why: str = "") -> None:
        self.reading = reading
        self.why = why


class Fetch(Step[Fetched]):
    """Ask the provider for the balance."""

    __slots__ = ("account",)

    def __init__(self, account: str) -> None:
        self.account = account


class Asked:
    """What came of asking about one task: how it stands, or why nobody knows."""

    __slots__ = ("again", "task", "why")

    def __init__(self, task: TaskSeen | None, why: str = "", *, again: bool = False) -> None:
        self.task = task
        self.why = why
        self.again = again
        """Whether asking once more may tell; if not, the provider has no such task, or cannot be asked about it."""


class Ask(Step[Sequence[Asked] | None]):
    """Ask the provider about some tasks, all at once; ``None`` where nobody can ask."""

    __slots__ = ("account", "task_ids")

    def __init__(self, account: str, task_ids: Sequence[str]) -> None:
        self.account = account
        self.task_ids = task_ids


class Send(Step[Verdict]):
    """Send the call, and say what the provider did with it."""

    __slots__ = ("reservation",)

    def __init__(self, reservation: str) -> None:
        self.reservation = reservation


class Wait(Step[bool]):
    """Wait until the ticket is woken (``True``) or the seconds are over (``False``). A wake-up before counts."""

    __slots__ = ("seconds", "ticket")

    def __init__(self, ticket: Ticket, seconds: float | None) -> None:
        self.ticket = ticket
        self.seconds = seconds


class Wake(Step[None]):
    """Wake whoever waits on a ticket."""

    __slots__ = ("ticket",)

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket


class Tell(Step[None]):
    """Tell the observers what happened."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event
