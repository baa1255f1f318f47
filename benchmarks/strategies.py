"""How a batch of jobs is got through a provider with a limit: budgetguard's three ways in, and other people's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

import httpx

from benchmarks.flat import ORIGIN, SUBMIT, Flat
from benchmarks.peers import peer
from benchmarks.simulated import Simulated, TooMany, Wire
from benchmarks.stage import KEY
from budgetguard import AsyncGuard, Policy

__all__ = [
    "Strategy",
    "adaptive",
    "aimd",
    "aiometer",
    "guarded_pool",
    "guarded_reserve",
    "guarded_tasks",
    "guarded_transport",
    "retrying",
    "semaphore",
]

Strategy = Callable[[Simulated, Sequence[float]], Awaitable[object]]
Call = Callable[[Simulated, float], Coroutine[Any, Any, None]]


async def _plainly(provider: Simulated, seconds: float) -> None:
    await provider.call(seconds)


async def _all(one: Callable[[float], Coroutine[Any, Any, object]], jobs: Sequence[float]) -> None:
    await asyncio.gather(*(one(seconds) for seconds in jobs))


# -- budgetguard ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _guard(provider: Simulated, policy: Policy) -> AsyncGenerator[AsyncGuard]:
    """Make a guard that has its first reading; the batch begins then."""
    async with AsyncGuard(Flat(), policy=policy, api_key=KEY, inner=Wire(provider)) as guard:
        await (await guard.reserve(credits=1)).release()
        provider.begin()
        yield guard


def guarded_transport(policy: Policy) -> Strategy:
    """Send every job through a guarded transport; a refusal goes back into the line by itself."""

    async def run(provider: Simulated, jobs: Sequence[float]) -> None:
        async with _guard(provider, policy) as guard:
            transport = guard.transport(Wire(provider))

            async def one(seconds: float) -> None:
                headers = {"Authorization": KEY, "x-seconds": repr(seconds)}
                response = await transport.handle_async_request(httpx.Request("POST", ORIGIN + SUBMIT, headers=headers))
                if response.status_code != 200:
                    raise TooMany

            await _all(one, jobs)

    return run


def guarded_reserve(policy: Policy) -> Strategy:
    """Hold a permit around every call, and try again with a new one where the provider refused."""

    async def run(provider: Simulated, jobs: Sequence[float]) -> None:
        async with _guard(provider, policy) as guard:

            async def one(seconds: float) -> None:
                while True:
                    async with guard.reserve(credits=35) as permit:
                        permit.sent()
                        try:
                            await provider.call(seconds)
                        except TooMany:
                            await permit.release()
                        else:
                            return

            await _all(one, jobs)

    return run


def guarded_tasks(policy: Policy) -> Strategy:
    """Start every job as a task, and tell the guard when it is done, as a webhook would."""

    async def run(provider: Simulated, jobs: Sequence[float]) -> None:
        async with _guard(provider, policy) as guard:

            async def one(seconds: float) -> None:
                async with guard.reserve(credits=35) as permit:
                    permit.sent()
                    task = await provider.start(seconds)
                    await permit.settle(task_id=task)
                await asyncio.sleep(seconds)
                await guard.finished(task)

            await _all(one, jobs)

    return run


def guarded_pool(policy: Policy) -> Strategy:
    """Give all jobs to a pool."""

    async def run(provider: Simulated, jobs: Sequence[float]) -> None:
        async with _guard(provider, policy) as guard, guard.pool(credits=35) as pool:
            async for _ in pool.map(provider.call, jobs):
                pass

    return run


# -- others ------------------------------------------------------------------------------------------


def retrying(first: float, most: float) -> Call:
    """Try until it is taken, with tenacity's exponential pauses and full jitter, in seconds."""

    async def call(provider: Simulated, seconds: float) -> None:
        tenacity = peer("tenacity")
        wait = tenacity.wait_random_exponential(multiplier=first, max=most)
        async for attempt in tenacity.AsyncRetrying(retry=tenacity.retry_if_exception_type(TooMany), wait=wait):
            with attempt:
                await provider.call(seconds)

    return call


def semaphore(limit: int | None, call: Call = _plainly) -> Strategy:
    """Let so many go at once; ``None`` for no limiter at all."""

    async def run(provider: Simulated, jobs: Sequence[float]) -> None:
        limiter = asyncio.Semaphore(len(jobs) if limit is None else limit)

        async def one(seconds: float) -> None:
            async with limiter:
                await call(provider, seconds)

        await _all(one, jobs)

    return run


def aiometer(limit: int, call: Call = _plainly) -> Strategy:
    """Let aiometer run so many at once."""

    async def run(provider: Simulated, jobs: Sequence[float]) -> None:
        async def one(seconds: float) -> None:
            await call(provider, seconds)

        await peer("aiometer").run_on_each(one, jobs, max_at_once=limit)

    return run


def adaptive(workers: int, most: int, call: Call) -> Strategy:
    """Let adaptive-concurrency find out how many workers do well."""

    async def run(provider: Simulated, jobs: Sequence[float]) -> None:
        package = peer("adaptive_concurrency")

        async def work(chunk: Sequence[float]) -> tuple[bool, int, str]:
            for seconds in chunk:
                await call(provider, seconds)
            return True, len(chunk), ""

        settings = package.AdaptiveConfig(batch_size=1, workers=workers, max_workers=most)
        await package.arun_adaptive(jobs, work, settings)

    return run


def aimd(provider: Simulated, jobs: Sequence[float]) -> Awaitable[object]:
    """Let aimd-limiter find out which rate does well; what is refused is sent again at that rate."""
    limiter = peer("aimd_limiter").AIMDAsyncLimiter(max_rate=1000.0, initial_rate=100.0, slow_start_threshold=200.0)

    async def one(seconds: float) -> None:
        while True:
            try:
                async with limiter.acquire():
                    await provider.call(seconds)
            except TooMany:
                continue
            return

    return _all(one, jobs)
