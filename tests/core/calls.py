"""Calls as the machine knows them: what the books keep of one, and what is true of it."""

from __future__ import annotations

import dataclasses

from budgetguard._core.records import Record, Stage


@dataclasses.dataclass
class Call:
    """One call: what the books know of it (*record*) and what is true."""

    record: Record
    price: int
    charge: int
    taken: bool = False
    """The provider has taken it and runs its task."""
    refused: bool = False
    ended: bool = False
    failed: bool = False
    expired: bool = False
    settled: bool = False
    seen_under: int | None = None
    mark: int = 0
    """The mark that was installed when it got its slot."""


def is_waiting(call: Call) -> bool:
    return call.record.stage is Stage.WAITING


def is_open(call: Call) -> bool:
    return call.record.stage is Stage.RESERVED and not (call.taken or call.refused or call.settled or call.expired)


def is_answered(call: Call) -> bool:
    return (call.taken or call.refused) and not call.settled and not call.expired


def is_late(call: Call) -> bool:
    return call.taken and call.expired and not call.settled


def is_mortal(call: Call) -> bool:
    return not call.expired and not call.settled and (call.taken or call.refused or is_waiting(call))


def is_task(call: Call) -> bool:
    return call.record.stage in (Stage.ACCEPTED, Stage.LOST)


def is_running(call: Call) -> bool:
    return call.taken and not call.ended


def is_over(call: Call) -> bool:
    return call.ended and call.record.stage is Stage.ACCEPTED
