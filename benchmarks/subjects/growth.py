"""What many holds do: to the cost of one more, and to memory."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from benchmarks import stage
from benchmarks.contest import Contest, Pace
from benchmarks.statement import Names
from benchmarks.table import VALUE, Goal, Table
from benchmarks.yardsticks import Floor, Ledger

_FEW = 10
_POLICY = replace(stage.CALM, lease=1e6)  # so that nobody is busy renewing leases


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    many = 5_000 if pace.fast else 100_000
    yield cost(pace, many)
    yield memory(pace, many)


def cost(pace: Pace, many: int) -> Table:
    """Measure one more hold, beside few and beside many."""
    few = f"budgetguard, {_FEW} held"
    contest = Contest("reserve and settle beside other holds", few, pace, brief="cost", clock=time.process_time)
    for name, held, goals in ((few, _FEW, ()), (f"budgetguard, {many:,} held", many, (Goal(1.1),))):
        contest.statement(
            name,
            "permit = guard.reserve(credits=35)\npermit.settle(charge=30)",
            lambda held=held: _holding(held),  # type: ignore[misc]
            kind="ours",
            goals=goals,
        )
    r = f"yardstick R, {_FEW} held"
    for name, held in ((r, _FEW), (f"yardstick R, {many:,} held", many)):
        contest.statement(
            name,
            "it.settle(it.reserve('a', 35), 30)",
            lambda held=held: _recorded(held),  # type: ignore[misc]
            kind="yardstick",
            beside=r,
        )
    return contest.table()


def memory(pace: Pace, many: int) -> Table:
    """Weigh a hold."""
    r = "yardstick R: a record"
    note = f"What Python's allocator gave out for {many:,} of them, by tracemalloc, the caller's list of them included."
    contest = Contest("memory of a hold", r, pace, unit="bytes", rounds=1, note=note, brief="memory")
    guard = stage.guard(policy=_POLICY)
    contest.run(
        "budgetguard, a permit that is open",
        lambda: weigh(lambda: guard.reserve(credits=35), many),
        kind="ours",
        goals=(Goal(700, 400, of=VALUE),),
    )
    ids = iter(range(10**9))
    contest.run(
        "budgetguard, a task that runs, its permit dropped", lambda: weigh(lambda: _task(next(ids)), many), kind="ours"
    )
    ledger, floor = Ledger(), Floor()
    contest.run(r, lambda: weigh(lambda: ledger.reserve("a", 35), many), kind="yardstick")
    contest.run("floor: a number and a tuple", lambda: weigh(lambda: floor.reserve("a", 35), many), kind="floor")
    tasks = stage.guard(policy=_POLICY)

    def _task(number: int) -> None:
        tasks.reserve(credits=35).settle(charge=30, task_id=f"task-{number}")

    return contest.table()


def _holding(held: int) -> Names:
    guard = stage.guard(policy=_POLICY)
    return {"guard": guard, "held": [guard.reserve(credits=35) for _ in range(held)]}


def _recorded(held: int) -> Names:
    ledger = Ledger()
    return {"it": ledger, "held": [ledger.reserve("a", 35) for _ in range(held)]}


def weigh(make: Callable[[], Any], many: int) -> float:
    """Give the bytes one of many takes."""
    make()
    gc.collect()
    tracemalloc.start()
    try:
        kept = [make() for _ in range(many)]
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return taken / len(kept)
