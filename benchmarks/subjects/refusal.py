"""What it costs to be told no, on a reading that is fresh: `InsufficientCredits` with its numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks import stage
from benchmarks.contest import Contest, Pace
from benchmarks.statement import Names
from benchmarks.table import Goal, Table
from benchmarks.yardsticks import Ledger
from budgetguard import InsufficientCredits

_TOO_MUCH = 10**15
"""Credits nobody has here."""

_POLICY = replace(stage.CALM, recheck_after=1e6)


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    admission, returned = "budgetguard reserve(), settle()", "budgetguard reserve(), release()"
    contest = Contest("a refusal beside an admission", admission, pace, clock=time.process_time)
    contest.statement(
        "budgetguard InsufficientCredits",
        "try:\n    guard.reserve(credits=too_much)\nexcept InsufficientCredits:\n    pass",
        _guarded,
        kind="ours",
        goals=(Goal(2, 1), Goal(2, 1, beside=returned)),
    )
    contest.statement(admission, "permit = guard.reserve(credits=35)\npermit.settle(charge=30)", _guarded, kind="ours")
    contest.statement(returned, "guard.reserve(credits=35).release()", _guarded, kind="ours")
    contest.statement(
        "yardstick R refuses",
        "try:\n    ledger.reserve('a', too_much)\nexcept RuntimeError:\n    pass",
        lambda: {"ledger": Ledger(), "too_much": 10**16},
        kind="yardstick",
    )
    contest.statement(
        "raise and catch",
        "try:\n    raise RuntimeError('no')\nexcept RuntimeError:\n    pass",
        lambda: {"nothing": None},
        kind="floor",
    )
    yield contest.table()


def _guarded() -> Names:
    guard = stage.guard(policy=_POLICY)
    try:
        guard.reserve(credits=_TOO_MUCH)
    except InsufficientCredits:
        return {"guard": guard, "too_much": _TOO_MUCH, "InsufficientCredits": InsufficientCredits}
    raise RuntimeError("this should have been refused")
