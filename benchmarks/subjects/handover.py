"""How long a slot that became free takes to reach the next in line, in one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import anyio

from benchmarks import stage
from benchmarks.contest import Contest, Pace
from benchmarks.peers import peer
from benchmarks.table import Goal, Table

_POLICY = replace(stage.CALM, exclusive=True)


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    waiting = 500 if pace.fast else 1000
    reference = "asyncio.Semaphore"
    note = f"{waiting:,} tasks wait for the only slot; each takes it and hands it on at once. Time per hand-over."
    contest = Contest("hand over a freed slot", reference, pace, note=note)
    contest.run(reference, lambda: _plain(asyncio.Semaphore(1), waiting), kind="floor")
    contest.run("budgetguard reserve(), release()", lambda: _guarded(waiting), kind="ours", goals=(Goal(1.4, 1.1),))
    contest.run("asyncio.Lock", lambda: _plain(asyncio.Lock(), waiting), kind="floor")
    contest.run("anyio.Semaphore", lambda: _plain(anyio.Semaphore(1), waiting))
    contest.run("credit-semaphore", lambda: _credit_semaphore(waiting))
    yield contest.table()


async def _line(waiting: int, call: Callable[[], Awaitable[Any]], begin: Callable[[], Any]) -> float:
    """Let everybody join the line, then open it; give the microseconds of a hand-over."""
    tasks = [asyncio.ensure_future(call()) for _ in range(waiting)]
    for _ in range(10):
        await asyncio.sleep(0)
    began = time.process_time()  # nothing here waits for anything else
    opened = begin()
    if opened is not None:
        await opened
    await asyncio.gather(*tasks)
    return (time.process_time() - began) / waiting * 1e6


async def _plain(limiter: Any, waiting: int) -> float:
    async def call() -> None:
        await limiter.acquire()
        limiter.release()

    await limiter.acquire()
    return await _line(waiting, call, limiter.release)


async def _credit_semaphore(waiting: int) -> float:
    limiter = peer("credit_semaphore.async_credit_semaphore").AsyncCreditSemaphore(1)

    async def call() -> None:
        await limiter.acquire(1, 0)
        limiter.release(1)

    await limiter.acquire(1, 0)
    return await _line(waiting, call, lambda: limiter.release(1))


async def _guarded(waiting: int) -> float:
    guard = await stage.async_guard(stage.wallet(limit=1), policy=_POLICY)

    async def call() -> None:
        await (await guard.reserve(credits=1)).release()

    held = await guard.reserve(credits=1)
    micros = await _line(waiting, call, held.release)
    await guard.close()
    return micros
