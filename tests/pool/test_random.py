"""Submitting, cancelling, taking, closing and dropping at random: nothing is lost, and nothing is left behind."""

from __future__ import annotations

import concurrent.futures
import itertools
import random
import threading
import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from budgetguard.guard import Guard
from tests.pool.ground import PATIENCE, Ground, assert_nothing_is_held, pool_threads

SECONDS = 0.3
CREDITS = 10**6


class Work:
    """A job function that fails now and then, and counts."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ran = 0
        self.lock = threading.Lock()

    def job(self, number: int, guard: Guard) -> int:
        with self.lock:
            self.ran += 1
        if not number % 7:
            time.sleep(self.rng.random() * 0.002)  # so that threads meet in other places each time
        if not number % 11:
            guard.current_permit().settle()
            raise ValueError(number)
        return number


@pytest.mark.parametrize("seed", range(4))
def test_threads_that_do_as_they_like_leave_nothing_behind(seed: int) -> None:
    rng = random.Random(seed)
    limit = rng.choice([1, 2, 5])
    ground = Ground(credits=CREDITS, limit=limit)
    guard = ground.guard()
    guard.engine.observers = ()
    work, over, errors = Work(rng), threading.Event(), list[BaseException]()
    pool = guard.pool(credits=1, max_workers=rng.choice([None, 1, 3]))

    def job(number: int) -> int:
        return work.job(number, guard)

    def submit() -> None:
        futures = [pool.submit(job, rng.randrange(100)) for _ in range(rng.randrange(8))]
        time.sleep(rng.random() * 0.003)
        for future in futures:
            if rng.random() < 0.6:
                future.cancel()
        concurrent.futures.wait(futures, PATIENCE)

    def take() -> None:
        call = rng.choice([pool.map, pool.imap_unordered, pool.as_completed])
        results: Any = call(job, itertools.count(), buffersize=rng.choice([1, 3, 50]))
        for _ in range(1 + rng.randrange(20)):
            try:
                next(results)
            except ValueError:
                continue
        if rng.random() < 0.5:
            results.close()

    def play(act: Any) -> None:
        try:
            while not over.is_set():
                act()
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=play, args=(rng.choice([submit, take]),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    over.wait(SECONDS)
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    pool.shutdown(cancel_futures=rng.random() < 0.5)
    assert errors == []
    report = pool.report
    assert (report.done + report.failed, report.running, report.spent) == (work.ran, 0, work.ran)
    assert pool_threads() == []
    assert_nothing_is_held(guard.state(), limit=limit)
    assert guard.state().credits_free == CREDITS - work.ran


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(4))
async def test_tasks_that_do_as_they_like_leave_nothing_behind(seed: int) -> None:
    rng = random.Random(seed)
    limit = rng.choice([1, 2, 5])
    ground = Ground(credits=CREDITS, limit=limit)
    guard = ground.async_guard()
    guard.engine.observers = ()
    ran = 0
    begun = anyio.current_time()

    async def job(number: int) -> int:
        nonlocal ran
        ran += 1
        await anyio.sleep(rng.random() * 0.002)
        if not number % 11:
            raise ValueError(number)
        return number

    async with guard.pool(max_workers=rng.choice([None, 1, 3])) as pool:

        async def submit() -> None:
            jobs = [pool.submit(job, rng.randrange(100)) for _ in range(rng.randrange(8))]
            await anyio.sleep(rng.random() * 0.003)
            for one in jobs:
                if rng.random() < 0.6:
                    one.cancel()
            for one in jobs:
                try:
                    await one
                except (ValueError, concurrent.futures.CancelledError):
                    continue

        async def take() -> None:
            call: Any = rng.choice([pool.map, pool.imap_unordered, pool.as_completed])
            results = call(job, itertools.count(), buffersize=rng.choice([1, 3, 50]))
            for _ in range(1 + rng.randrange(20)):
                try:
                    await anext(results)
                except ValueError:
                    continue
            if rng.random() < 0.5:
                await results.aclose()

        async def play(act: Any) -> None:
            while anyio.current_time() < begun + SECONDS:
                await anyio.lowlevel.checkpoint()
                await act()

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(play, rng.choice([submit, take]))
    report = pool.report
    assert (report.done + report.failed, report.running) == (ran, 0)
    state = await guard.state()
    assert_nothing_is_held(state, limit=limit)
    assert state.credits_free == CREDITS
