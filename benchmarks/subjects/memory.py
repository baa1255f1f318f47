"""What an admission costs in one process: credits and a slot are held, and settled. Nobody waits, nothing is sent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio

from benchmarks import stage
from benchmarks.contest import Contest, Pace
from benchmarks.peers import peer
from benchmarks.statement import Names
from benchmarks.table import Goal, Table
from benchmarks.yardsticks import Floor, Ledger

R = "yardstick R: credits, slots, leases"
FIXED = "limits FixedWindow hit()"
PYRATE = "PyrateLimiter try_acquire()"
THROTTLED = "throttled-py token_bucket limit()"
NOTE = "Limiters only count: they hold nothing and settle nothing. Those that fill up begin every sample empty."

_TIMES = 5000
"""Operations in a sample of what fills up with use."""


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    yield blocking(pace)
    yield concurrent(pace)


def named(make: Callable[[], Any]) -> Callable[[], Names]:
    """Call whatever is made ``it``."""
    return lambda: {"it": make()}


def blocking(pace: Pace) -> Table:
    """Measure callers in one thread."""
    contest = Contest("reserve and settle, one thread", R, pace, note=NOTE, brief="blocking", clock=time.process_time)
    faster = tuple(Goal(1, beside=name) for name in (FIXED, PYRATE, THROTTLED))
    contest.statement(
        "budgetguard reserve(), settle()",
        "permit = guard.reserve(credits=35)\npermit.settle(charge=30)",
        lambda: {"guard": stage.guard()},
        kind="ours",
        goals=(Goal(3, 2), *faster),
    )
    contest.statement(
        "budgetguard with reserve(): settle()",
        "with guard.reserve(credits=35) as permit:\n    permit.settle(charge=30)",
        lambda: {"guard": stage.guard()},
        kind="ours",
    )
    contest.statement(
        "budgetguard with reserve(): pass",
        "with guard.reserve(credits=35):\n    pass",
        lambda: {"guard": stage.guard()},
        kind="ours",
    )
    contest.statement(
        "lock, dict",
        "with lock:\n    free = books['a']\n    if free >= 35:\n        books['a'] = free - 35",
        lambda: {"lock": threading.Lock(), "books": {"a": 10**15}},
        kind="floor",
    )
    contest.statement("floor: credits held", "it.settle(it.reserve('a', 35), 30)", named(Floor), kind="floor")
    contest.statement(R, "it.settle(it.reserve('a', 35), 30)", named(Ledger), kind="yardstick")
    contest.statement("breakerbox reserve(), reconcile()", "it.reconcile(it.reserve('a', 35), 30)", named(_breakerbox))
    contest.statement(FIXED, "it.hit(item, 'a')", lambda: _limits("FixedWindowRateLimiter"), fresh=True, times=_TIMES)
    contest.statement(
        "limits MovingWindow hit()",
        "it.hit(item, 'a')",
        lambda: _limits("MovingWindowRateLimiter"),
        fresh=True,
        times=_TIMES,
    )
    contest.statement(PYRATE, "it.try_acquire('a')", named(_Pyrate()), fresh=True, times=_TIMES)
    contest.statement(THROTTLED, "it.limit()", named(_throttled), fresh=True, times=_TIMES)
    contest.statement("credit-semaphore transact()", "it.transact(nothing, 35, 0)", _credit_semaphore)
    contest.statement("threading.Semaphore", "with it:\n    pass", named(lambda: threading.Semaphore(10)), kind="floor")
    return contest.table()


def concurrent(pace: Pace) -> Table:
    """Measure callers on an event loop."""
    r = "yardstick R, async with"
    contest = Contest("async with reserve(), asyncio", r, pace, note=NOTE, brief="async", clock=time.process_time)
    contest.statement(
        "budgetguard async with reserve(): settle()",
        "async with guard.reserve(credits=35) as permit:\n    await permit.settle(charge=30)",
        _async_guard,
        asynchronous=True,
        kind="ours",
        goals=(Goal(3, 2),),
    )
    contest.statement(
        "budgetguard async with reserve(): pass",
        "async with guard.reserve(credits=35):\n    pass",
        _async_guard,
        asynchronous=True,
        kind="ours",
        goals=(Goal(3, 2),),
    )
    contest.statement(
        r,
        "async with it.reserve('a', 35) as record:\n    it.settle(record, 30)",
        named(Ledger),
        asynchronous=True,
        kind="yardstick",
    )
    contest.statement(
        "asyncio.Semaphore",
        "async with it:\n    pass",
        named(lambda: asyncio.Semaphore(10)),
        asynchronous=True,
        kind="floor",
    )
    contest.statement(
        "aiolimiter AsyncLimiter",
        "async with it:\n    pass",
        named(lambda: peer("aiolimiter").AsyncLimiter(10**9, 1)),
        asynchronous=True,
    )
    contest.statement("anyio.CapacityLimiter", "async with it:\n    pass", _capacity_limiter, asynchronous=True)
    contest.statement(
        "credit-semaphore acquire(), release()",
        "await it.acquire(35, 0)\nit.release(35)",
        named(lambda: peer("credit_semaphore.async_credit_semaphore").AsyncCreditSemaphore(10**9)),
        asynchronous=True,
    )
    contest.statement(
        "throttled-py token_bucket limit()",
        "await it.limit()",
        named(lambda: _throttled("throttled.asyncio")),
        asynchronous=True,
        fresh=True,
        times=_TIMES,
    )
    return contest.table()


async def _async_guard() -> Names:
    return {"guard": await stage.async_guard()}


async def _capacity_limiter() -> Names:
    return {"it": anyio.CapacityLimiter(10)}  # it looks for a running loop


def _breakerbox() -> Any:
    ledger = peer("breakerbox.ledger").Ledger()
    ledger.open_account("root", None, 10**15)
    ledger.open_account("a", "root", 10**14)
    return ledger


def _limits(strategy: str) -> Names:
    limiter = getattr(peer("limits.strategies"), strategy)(peer("limits.storage").MemoryStorage())
    return {"it": limiter, "item": peer("limits").RateLimitItemPerSecond(10**9, 1)}


class _Pyrate:
    """Makes limiters, each after the one before was closed: each has a thread."""

    def __init__(self) -> None:
        self.last: Any = None

    def __call__(self) -> Any:
        pyrate = peer("pyrate_limiter")
        if self.last is not None:
            self.last.close()
        self.last = pyrate.Limiter(pyrate.InMemoryBucket([pyrate.Rate(10**9, 1000)]))
        return self.last


def _throttled(module: str = "throttled") -> Any:
    throttled = peer(module)
    quota = throttled.per_sec(10**9, burst=10**9)
    return throttled.Throttled(key="a", using="token_bucket", quota=quota, store=throttled.MemoryStore())


def _credit_semaphore() -> Names:
    made = peer("credit_semaphore.sync_credit_semaphore").SyncCreditSemaphore(10**9)
    return {"it": made, "nothing": lambda: None}
