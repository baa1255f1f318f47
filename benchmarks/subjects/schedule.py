"""How near a batch comes to the schedule of a queue that knows everything and costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from benchmarks.contest import Contest, Measured, Pace
from benchmarks.simulated import Plan, Simulated, draw, list_schedule
from benchmarks.strategies import (
    Strategy,
    adaptive,
    aimd,
    aiometer,
    guarded_pool,
    guarded_reserve,
    guarded_tasks,
    guarded_transport,
    retrying,
    semaphore,
)
from benchmarks.table import Column, Goal, Kind, Table
from budgetguard import Policy

IDEAL = "FIFO list schedule"

_LIMIT = 10
_PATIENCE = 120
"""Seconds after which a strategy has failed."""
_COLUMNS = (Column("refusals", over="max"), Column("readings"))
_NONE_REFUSED = Goal(0, of="refusals", sign="==")
_TUNED = retrying(0.02, 0.5)
_SDK = retrying(0.5, 8)

_CAREFUL = 600
"""Tasks of a minute are played in a tenth of a second, and the default policy as much quicker."""


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    many = 100 if pace.fast else 500
    yield constant(pace, many)
    yield moving(pace, many)
    yield strangers(pace, 60 if pace.fast else 500)


class _Batch:
    """One table: the same jobs, the same provider, many strategies."""

    def __init__(
        self,
        title: str,
        brief: str,
        pace: Pace,
        plan: Plan,
        jobs: Sequence[float],
        *,
        strangers: int = 0,
        asking: float = 0.005,
        note: str = "",
    ) -> None:
        rounds = 1 if pace.fast else 3
        self.contest = Contest(title, IDEAL, pace, unit="s", columns=_COLUMNS, rounds=rounds, note=note, brief=brief)
        self._plan, self._jobs, self._strangers, self._asking = plan, jobs, strangers, asking
        ideal = list_schedule([(seconds, limit - strangers) for seconds, limit in plan], jobs)
        self.contest.run(IDEAL, lambda: ideal, kind="floor")

    def row(self, name: str, strategy: Strategy, kind: Kind = "peer", goals: Sequence[Goal] = ()) -> None:
        """Add a strategy."""

        async def run() -> Measured:
            provider = Simulated(self._plan, strangers=self._strangers, asking=self._asking)
            async with asyncio.timeout(_PATIENCE):
                await strategy(provider, self._jobs)
            seconds = time.perf_counter() - provider.began
            return Measured(seconds, {"refusals": provider.refused, "readings": provider.readings})

        def warm_up() -> None:
            asyncio.run(_few(strategy))

        self.contest.run(name, run, kind=kind, goals=goals, prepare=warm_up)


async def _few(strategy: Strategy) -> None:
    """Import and compile what a strategy needs, before it counts."""
    async with asyncio.timeout(_PATIENCE):
        await strategy(Simulated([(0.0, _LIMIT)]), [0.001] * _LIMIT)


def constant(pace: Pace, many: int) -> Table:
    """Measure an account of one's own whose limit stays."""
    batch = _Batch(
        f"{many} jobs of 20 to 60 ms, exclusive account, limit {_LIMIT}",
        "constant",
        pace,
        [(0.0, _LIMIT)],
        draw(many, 0.02, 0.06),
    )
    policy, goals = Policy(exclusive=True), (Goal(1.04, 1.03), _NONE_REFUSED)
    batch.row("budgetguard transport", guarded_transport(policy), "ours", goals)
    batch.row("budgetguard reserve()", guarded_reserve(policy), "ours", goals)
    batch.row("budgetguard pool", guarded_pool(policy), "ours", goals)
    batch.row(f"asyncio.Semaphore({_LIMIT}), told the limit", semaphore(_LIMIT), "floor")
    batch.row(f"aiometer max_at_once={_LIMIT}, told the limit", aiometer(_LIMIT))
    batch.row("asyncio.Semaphore(8), careful", semaphore(8), "floor")
    batch.row("asyncio.Semaphore(12), tenacity 20 ms to 0.5 s", semaphore(12, _TUNED))
    batch.row("tenacity 20 ms to 0.5 s", semaphore(None, _TUNED))
    if not pace.fast:
        batch.row("tenacity 0.5 to 8 s, as SDKs do", semaphore(None, _SDK))
    batch.row("adaptive-concurrency, tenacity", adaptive(_LIMIT, 12, _TUNED))
    batch.row("aimd-limiter", aimd)
    return batch.contest.table()


def moving(pace: Pace, many: int) -> Table:
    """Measure a limit that falls and rises while the batch runs."""
    scale = many / 500
    plan = [(0.0, _LIMIT), (0.6 * scale, 4), (1.6 * scale, 12)]
    note = (
        "Readings are fresh for 50 ms. Nobody tells of the fall: what is refused was let through on the last reading."
    )
    batch = _Batch(
        f"{many} jobs of 20 to 60 ms, exclusive account, limit 10, then 4, then 12",
        "moving",
        pace,
        plan,
        draw(many, 0.02, 0.06),
        note=note,
    )
    policy = Policy(exclusive=True, max_age=0.05, min_interval=0.02, recheck_after=0.02, resend_max=50)
    goals = (Goal(1.06, 1.04),)
    batch.row("budgetguard transport", guarded_transport(policy), "ours", goals)
    batch.row("budgetguard reserve(), tried again", guarded_reserve(policy), "ours", goals)
    batch.row(f"asyncio.Semaphore({_LIMIT}), tenacity 20 ms to 0.5 s", semaphore(_LIMIT, _TUNED))
    batch.row("asyncio.Semaphore(12), tenacity 20 ms to 0.5 s", semaphore(12, _TUNED))
    batch.row(f"aiometer max_at_once={_LIMIT}, tenacity", aiometer(_LIMIT, _TUNED))
    batch.row("tenacity 20 ms to 0.5 s", semaphore(None, _TUNED))
    if not pace.fast:
        batch.row("asyncio.Semaphore(4), careful", semaphore(4), "floor")
        batch.row("tenacity 0.5 to 8 s, as SDKs do", semaphore(None, _SDK))
    batch.row("adaptive-concurrency, tenacity", adaptive(_LIMIT, 12, _TUNED))
    batch.row("aimd-limiter", aimd)
    return batch.contest.table()


def strangers(pace: Pace, many: int) -> Table:
    """Measure an account that others use too: two of twelve slots are theirs, and nobody says so but the readings."""
    note = (
        "Tasks take 50 times as long as a credits request (2 ms): tasks of a minute in a tenth of a second, and every "
        f"interval of the default policy as much shorter ({_CAREFUL} times). Two of the twelve slots are others' all "
        "the time; the schedule is that of the ten that are left."
    )
    batch = _Batch(
        f"{many} tasks of 50 to 150 ms, shared account, limit 12, 2 strangers",
        "strangers",
        pace,
        [(0.0, 12)],
        draw(many, 0.05, 0.15),
        strangers=2,
        asking=0.002,
        note=note,
    )
    usual = Policy()
    policy = Policy(
        max_age=usual.max_age / _CAREFUL,
        max_stale=usual.max_stale / _CAREFUL,
        min_interval=usual.min_interval / _CAREFUL,
        recheck_after=usual.recheck_after / _CAREFUL,
        backoff=usual.backoff / _CAREFUL,
        backoff_max=usual.backoff_max / _CAREFUL,
    )
    goals = (Goal(1.08, 1.05), _NONE_REFUSED)
    batch.row("budgetguard tasks, told when done", guarded_tasks(policy), "ours", goals)
    batch.row("budgetguard synchronous calls", guarded_transport(policy), "ours", (_NONE_REFUSED,))
    batch.row(f"asyncio.Semaphore({_LIMIT}), told of the strangers", semaphore(_LIMIT), "floor")
    batch.row("asyncio.Semaphore(12), tenacity 20 ms to 0.5 s", semaphore(12, _TUNED))
    batch.row("tenacity 20 ms to 0.5 s", semaphore(None, _TUNED))
    batch.row("adaptive-concurrency, tenacity", adaptive(_LIMIT, 12, _TUNED))
    batch.row("aimd-limiter", aimd)
    return batch.contest.table()
