"""The seven things a flow can ask for.

A flow is a generator that decides and never does: it yields steps, and whoever drives it performs them and sends the
reply back. Each step carries the type of its reply, so that ``reply = yield from Transact(...)`` is checked. Two
drivers perform them for real, one in threads and one on an event loop; the tests perform them in any order they like.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from budgetguard._core.line import Ticket
from budgetguard.events import Event
from budgetguard.model import Reading, Verdict
from budgetguard.ports import Loaded, Transacted, Transaction

__all__ = ["Fetch", "Fetched", "Flow", "Load", "Send", "Step", "Tell", "Transact", "Wait", "Wake"]

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
