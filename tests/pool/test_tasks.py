"""The pool on an event loop: asyncio and trio."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import threading
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from budgetguard.errors import (
    CreditsUnavailable,
    InsufficientCredits,
    InsufficientSlots,
    QueueTimeout,
    SettingError,
    StoreError,
)
from budgetguard.events import Admitted, Joined
from budgetguard.guard import AsyncGuard
from budgetguard.model import Quote
from budgetguard.pool import Arrivals, AsyncPool
from budgetguard.ports import Transacted, Transaction
from tests.pool.ground import Ground, assert_nothing_is_held, in_line
from tests.support.scene import until
from tests.support.vidu import BODY, HEADERS, HOME, PRICE, SUBMIT, quick

pytestmark = pytest.mark.anyio


@pytest.fixture
def guard(ground: Ground) -> AsyncGuard:
    return ground.async_guard()


async def all_of(results: Arrivals[Any]) -> list[Any]:
    return [result async for result in results]


async def waiting(guard: AsyncGuard, count: int) -> None:
    with anyio.fail_after(10):
        while in_line(await guard.state()) != count:  # noqa: ASYNC110 - it may happen in any thread
            await anyio.sleep(0.001)


# -- as many as the account admits ----------------------------------------------------------------------------------


async def test_as_many_jobs_run_as_the_limit_admits_and_one_item_is_taken_ahead(
    ground: Ground, guard: AsyncGuard
) -> None:
    async with guard.pool(credits=PRICE) as pool:
        results = pool.map(ground.ajob, ground.items(1_000_000))
        await until(lambda: len(ground.taken) == 4 and ground.running == 3)
        assert sorted(ground.begun) == [0, 1, 2]
        ground.end(1)
        await until(lambda: len(ground.taken) == 5 and ground.running == 3)
        assert sorted(ground.begun) == [0, 1, 2, 3]
        ground.end(0, 2, 3)
        assert [await anext(results) for _ in range(2)] == [0, 10]
        await results.aclose()
        ground.end()
    assert ground.running_max == 3
    assert len(ground.taken) <= len(ground.begun) + 1
    assert_nothing_is_held(await guard.state(), spent=PRICE * len(ground.begun))


async def test_while_the_limit_is_0_the_pool_takes_no_items_and_waits() -> None:
    ground = Ground(policy=quick(max_age=0.02))
    ground.end()
    ground.fake.set_limit(0)
    guard = ground.async_guard()
    async with guard.pool(credits=PRICE) as pool:
        results = pool.map(ground.ajob, ground.items(10))
        while in_line(await guard.state()) != 1:  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.001)
        assert (ground.taken, ground.begun) == ([0], [])
        ground.fake.set_limit(2)
        ground.clock.advance(0.03)
        assert [result async for result in results] == [number * 10 for number in range(10)]


async def test_closed_results_give_nothing_more() -> None:
    ground = Ground()
    ground.end()
    async with ground.async_guard().pool(credits=PRICE) as pool:
        results = pool.map(ground.ajob, range(6))
        assert await anext(results) == 0
        await until(lambda: pool.report.done == 6)
        await results.aclose()
        assert [result async for result in results] == []


async def test_a_raised_limit_is_found_with_the_next_reading_and_a_lowered_one_kept() -> None:
    ground = Ground(policy=quick(max_age=0.02))
    async with ground.async_guard().pool(credits=PRICE) as pool:
        results = pool.imap_unordered(ground.ajob, ground.items(100))
        await until(lambda: ground.running == 3)
        ground.fake.set_limit(5)
        ground.clock.advance(0.03)
        await until(lambda: ground.running == 5)
        ground.fake.set_limit(2)
        ground.clock.advance(0.03)
        ground.end(0, 1, 2, 3)
        assert sorted([await anext(results) for _ in range(4)]) == [0, 10, 20, 30]
        await until(lambda: len(ground.begun) == 6)
        assert ground.running == 2
        await results.aclose()
        ground.end()


async def test_a_bound_of_its_own_keeps_the_pool_smaller(ground: Ground, guard: AsyncGuard) -> None:
    async with guard.pool(credits=PRICE, max_workers=2) as pool:
        first = pool.map(ground.ajob, ground.items(10))
        second = pool.submit(ground.ajob, 77)
        await until(lambda: ground.running == 2)
        ground.end()
        assert await all_of(first) == [n * 10 for n in range(10)]
        assert await second == 770
    assert ground.running_max == 2


# -- results --------------------------------------------------------------------------------------------------------


async def test_results_come_in_order_or_as_they_are_done(ground: Ground, guard: AsyncGuard) -> None:
    async with guard.pool() as pool:
        ordered = pool.map(ground.ajob, range(3))
        await until(lambda: ground.running == 3)
        ground.end(2, 1)
        await until(lambda: ground.running == 1)
        ground.end(0)
        assert await all_of(ordered) == [0, 10, 20]
        ground.ended.clear()
        unordered = pool.imap_unordered(ground.ajob, range(3))
        await until(lambda: ground.running == 3)
        for number in (1, 2, 0):
            ground.end(number)
            assert await anext(unordered) == number * 10
        assert await all_of(unordered) == []


async def test_items_may_come_from_async_iterables_too_and_the_shortest_ends_it(guard: AsyncGuard) -> None:
    async def prompts() -> AsyncGenerator[int]:
        for number in itertools.count(10):
            await anyio.lowlevel.checkpoint()
            yield number

    async def add(a: int, b: int) -> int:
        return a + b

    async with guard.pool() as pool, contextlib.aclosing(prompts()) as source:
        assert await all_of(pool.map(add, [1, 2, 3], source)) == [11, 13, 15]
        assert await all_of(pool.map(add)) == []


async def test_a_function_that_is_not_async_runs_in_a_thread(guard: AsyncGuard) -> None:
    async def later(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return number + 1

    class Later:
        async def __call__(self, number: int) -> int:
            return await later(number)

    here = threading.get_ident()
    async with guard.pool() as pool:
        (there,) = await all_of(pool.map(lambda _: threading.get_ident(), [1]))
        assert there != here
        assert await all_of(pool.map(lambda number: later(number), [1])) == [2]  # noqa: PLW0108 - it is not async itself
        assert await all_of(pool.map(functools.partial(later), [2])) == [3]
        assert await pool.submit(Later(), 3) == 4


async def test_what_a_job_raises_comes_at_its_place_and_the_next_ones_behind_it(guard: AsyncGuard) -> None:
    async def job(number: int) -> int:
        if number == 1:
            raise LookupError("no such prompt")
        return number

    async with guard.pool() as pool:
        results = pool.map(job, range(3))
        assert await anext(results) == 0
        with pytest.raises(LookupError, match="no such prompt"):
            await anext(results)
        assert await all_of(results) == [2]
        found = await all_of(pool.as_completed(job, [5, 1]))
        assert sorted((result.index, type(result.error)) for result in found) == [(0, type(None)), (1, LookupError)]
        assert (pool.report.done, pool.report.failed) == (3, 2)
    assert_nothing_is_held(await guard.state(), spent=0)


async def test_a_job_that_raises_stop_iteration_does_not_end_the_loop_around_it(guard: AsyncGuard) -> None:
    def job(number: int) -> int:
        return next(iter(range(number)))

    async with guard.pool() as pool:
        (result,) = await all_of(pool.as_completed(job, [1]))
        assert result.get() == 0
        with pytest.raises(RuntimeError):
            await all_of(pool.map(job, [0]))


async def test_an_iterable_that_fails_is_told_when_all_before_it_was_given_out(guard: AsyncGuard) -> None:
    def prompts() -> Iterator[int]:
        yield 1
        raise OSError("the file ends here")

    async with guard.pool() as pool:
        results = pool.map(str, prompts())
        assert await anext(results) == "1"
        with pytest.raises(OSError, match="the file ends here"):
            await anext(results)
        assert await all_of(results) == []


async def test_results_that_nobody_takes_keep_the_pool_from_taking_more(ground: Ground, guard: AsyncGuard) -> None:
    ground.end()
    async with guard.pool() as pool:
        results = pool.imap_unordered(ground.ajob, ground.items(100), buffersize=5)
        await until(lambda: pool.report.done == 5)
        assert len(ground.taken) == 5
        await anext(results)
        await until(lambda: pool.report.done == 6)
        assert len(ground.taken) == 6
        assert len(await all_of(results)) == 99


async def test_a_result_that_does_not_come_in_time_ends_the_call(ground: Ground, guard: AsyncGuard) -> None:
    async with guard.pool() as pool:
        results = pool.map(ground.ajob, ground.items(10), timeout=0.0)
        await until(lambda: ground.running == 3)
        with pytest.raises(TimeoutError):
            await anext(results)
        ground.end()
    assert sorted(ground.begun) == [0, 1, 2]
    assert_nothing_is_held(await guard.state())


async def test_a_million_jobs_stopped_early_leave_nothing_behind(ground: Ground, guard: AsyncGuard) -> None:
    ground.end()
    async with guard.pool(credits=1) as pool:
        async for result in pool.imap_unordered(ground.ajob, ground.items(1_000_000), buffersize=20):
            if result == 1000:
                break
    assert len(ground.taken) <= 100 + 40
    assert_nothing_is_held(await guard.state(), spent=len(ground.begun))


# -- no credits -----------------------------------------------------------------------------------------------------


async def test_a_job_the_balance_does_not_cover_stops_the_rest_and_the_report_lists_them() -> None:
    ground = Ground(credits=35)
    ground.end()
    guard = ground.async_guard()
    found: list[int] = []
    async with guard.pool(credits=PRICE) as pool:
        results = pool.map(ground.ajob, list(range(8)))
        found += [await anext(results) for _ in range(3)]
        with pytest.raises(InsufficientCredits) as caught:
            await anext(results)
        assert await all_of(results) == []
        report = pool.report
    assert found == [0, 10, 20]
    assert (report.done, report.failed, report.left, report.spent) == (3, 0, 0, 30)
    assert [(job.index, job.args) for job in report.not_run] == [(n, (n,)) for n in range(3, 8)]
    assert caught.value.report == report
    assert_nothing_is_held(await guard.state())


async def test_what_the_balance_does_not_cover_is_left_out_if_so_wanted_and_cheaper_jobs_go_on() -> None:
    ground = Ground(credits=30)
    ground.end()
    guard = ground.async_guard()
    async with guard.pool(credits=lambda n: n, on_insufficient="skip") as pool:
        assert await all_of(pool.map(ground.ajob, [10, 500, 5, 400, 15])) == [100, 50, 150]
        assert [(job.index, job.args) for job in pool.report.not_run] == [(1, (500,)), (3, (400,))]
    assert_nothing_is_held(await guard.state())


async def test_a_job_whose_own_call_is_refused_counts_as_not_run() -> None:
    ground = Ground(credits=25)
    guard = ground.async_guard()
    transport = guard.transport(ground.fake.transport())
    async with httpx.AsyncClient(base_url=HOME, headers=HEADERS, transport=transport) as client:

        async def job(number: int) -> str:
            return str((await client.post(SUBMIT, json={**BODY, "payload": str(number)})).json()["task_id"])

        async with guard.pool() as pool:
            with pytest.raises(InsufficientCredits):
                await all_of(pool.map(job, range(6)))
            assert (pool.report.done, pool.report.spent, len(pool.report.not_run)) == (2, 20, 4)
    assert ground.fake.journal.breaches == 0
    assert (await guard.state()).pools[""].open == 0


async def test_a_refusal_nobody_asked_about_is_raised_when_the_block_is_left() -> None:
    ground = Ground(credits=25)
    ground.end()
    guard = ground.async_guard()
    with pytest.raises(InsufficientCredits):
        async with guard.pool(credits=PRICE) as pool:
            pool.map(ground.ajob, range(6))
    assert sorted(ground.begun) == [0, 1]
    assert_nothing_is_held(await guard.state())


# -- other things that go wrong -------------------------------------------------------------------------------------


async def test_an_account_that_cannot_be_read_ends_the_call_instead_of_using_its_items_up() -> None:
    ground = Ground(policy=quick(stale_if_error=10.0))
    ground.fake.inject("html_502", on="credits", times=None)
    async with ground.async_guard().pool(credits=PRICE) as pool:
        with pytest.raises(CreditsUnavailable):
            await all_of(pool.map(ground.ajob, ground.items(1000)))
        assert len(ground.taken) == 1


async def test_a_store_that_fails_ends_the_call(
    ground: Ground, guard: AsyncGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(account: str, transaction: Transaction) -> Transacted:
        raise StoreError("gone")

    async with guard.pool(credits=PRICE) as pool:
        monkeypatch.setattr(ground.store, "atransact", fails)
        with pytest.raises(StoreError):
            await all_of(pool.map(ground.ajob, ground.items(1000)))
        monkeypatch.undo()
    assert len(ground.taken) == 1
    assert ground.begun == []


async def test_what_concerns_one_job_fails_that_job(ground: Ground, guard: AsyncGuard) -> None:
    def price(number: int) -> int | Quote:
        if number == 0:
            raise KeyError("model")
        return Quote(PRICE, 99) if number == 1 else -1 if number == 2 else PRICE

    ground.end()
    async with guard.pool(credits=price) as pool:
        errors = {result.index: type(result.error) for result in await all_of(pool.as_completed(ground.ajob, range(4)))}
    assert errors == {0: KeyError, 1: InsufficientSlots, 2: SettingError, 3: type(None)}
    crowd = await guard.reserve(credits=0, slots=3)
    async with guard.pool(credits=PRICE, deadline=0.0) as pool:
        (late,) = await all_of(pool.as_completed(ground.ajob, [1]))
        assert isinstance(late.error, QueueTimeout)
    await crowd.release()
    assert_nothing_is_held(await guard.state())


async def test_a_pool_is_used_inside_its_block_and_once(guard: AsyncGuard) -> None:
    with pytest.raises(SettingError):
        guard.pool(max_workers=0)
    pool = guard.pool()
    with pytest.raises(RuntimeError, match="async with"):
        pool.submit(str)
    async with pool:
        assert await pool.submit(str, 5) == "5"
    for call in (lambda: pool.submit(str), lambda: pool.map(str, [1])):
        with pytest.raises(RuntimeError, match="after shutdown"):
            call()
    with pytest.raises(RuntimeError, match="once"):
        await pool.__aenter__()
    assert "1 done" in repr(pool)


# -- prices ---------------------------------------------------------------------------------------------------------


async def test_a_job_function_knows_its_price_and_holds_it_once(ground: Ground, guard: AsyncGuard) -> None:
    class Studio:
        @guard.job(credits=lambda self, number, seconds=5: 7 * seconds)
        async def render(self, number: int, seconds: int = 5) -> int:
            return await ground.ajob(number)

    async with guard.pool() as pool:
        job = pool.submit(functools.partial(Studio().render, seconds=4), 1)
        await until(lambda: ground.running == 1)
        state = await guard.state()
        assert (state.credits_held, state.pools[""].open) == (28, 1)
        ground.end()
        assert await job == 10
    assert [event.credits for event in ground.told(Admitted)] == [28]
    assert len(ground.told(Joined)) == 1
    assert pool.report.spent == 28
    assert_nothing_is_held(await guard.state(), spent=28)


async def test_a_pool_inside_a_permit_draws_on_it(ground: Ground, guard: AsyncGuard) -> None:
    async with guard.reserve(credits=100, slots=2) as permit:
        async with guard.pool(credits=PRICE) as pool:
            results = pool.map(ground.ajob, range(2))
            await until(lambda: ground.running == 2)
            state = await guard.state()
            assert (state.credits_held, state.pools[""].open) == (100, 2)
            ground.end()
            assert await all_of(results) == [0, 10]
        assert permit.state == "held"
    assert_nothing_is_held(await guard.state(), spent=20)


# -- one by one -----------------------------------------------------------------------------------------------------


async def test_a_job_can_be_awaited_by_many_and_looked_at(ground: Ground, guard: AsyncGuard) -> None:
    async def fails() -> None:
        raise LookupError("no")

    async with guard.pool() as pool:
        job = pool.submit(ground.ajob, 4)
        assert not job.done()
        assert "pending" in repr(job)
        with pytest.raises(concurrent.futures.InvalidStateError):
            job.result()
        found: list[int] = []

        async def take() -> None:
            found.append(await job)

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            group.start_soon(take)
            ground.end()
        assert found == [40, 40]
        assert job.result() == 40
        assert not job.cancel()
        with pytest.raises(LookupError):
            await pool.submit(fails)


async def test_a_job_that_is_cancelled_leaves_the_line_or_ends_at_once(ground: Ground, guard: AsyncGuard) -> None:
    async with guard.pool(credits=PRICE) as pool:
        running = [pool.submit(ground.ajob, number) for number in range(3)]
        head, behind = pool.submit(ground.ajob, 3), pool.submit(ground.ajob, 4)
        await until(lambda: ground.running == 3)
        await waiting(guard, 1)
        assert head.cancel()
        assert behind.cancel()
        for job in (head, behind):
            with pytest.raises(concurrent.futures.CancelledError):
                await job
        await waiting(guard, 0)
        assert (await guard.state()).credits_held == 30
        assert running[0].cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            await running[0]
        assert ground.running == 2
        ground.end()
        assert await running[1] == 10
    assert [job.why for job in pool.report.not_run] == ["cancelled"] * 2
    # The one that ran may have sent its call: it stays held until its lease ends.
    state = await guard.state()
    assert (state.credits_held, state.pools[""].open) == (PRICE + 20, 1)


# -- the end --------------------------------------------------------------------------------------------------------


async def test_leaving_the_block_waits_for_all_that_nobody_has_begun_to_take(ground: Ground, guard: AsyncGuard) -> None:
    ground.end()
    async with guard.pool() as pool:
        pool.map(ground.ajob, ground.items(50), buffersize=1)
        kept = pool.map(ground.ajob, range(50, 60), buffersize=1)
        job = pool.submit(ground.ajob, 60)
    assert sorted(ground.begun) == list(range(61))
    assert await all_of(kept) == [n * 10 for n in range(50, 60)]
    assert job.result() == 600


async def test_leaving_the_block_takes_no_more_of_what_somebody_has_begun_to_take(
    ground: Ground, guard: AsyncGuard
) -> None:
    ground.end()
    async with guard.pool() as pool:
        results = pool.map(ground.ajob, ground.items(1_000_000), buffersize=10)
        assert await anext(results) == 0
    with pytest.raises(RuntimeError, match="left before all jobs"):
        await all_of(results)
    assert len(ground.taken) <= 20


class Crash(Exception):
    pass


async def test_an_exception_in_the_block_cancels_the_jobs_and_comes_out_bare(ground: Ground, guard: AsyncGuard) -> None:
    async def use() -> None:
        async with guard.pool(credits=PRICE) as pool:
            jobs = [pool.submit(ground.ajob, number) for number in range(5)]
            pool.map(ground.ajob, ground.items(1000))
            await until(lambda: ground.running == 3)
            assert not any(job.done() for job in jobs)
            raise Crash

    with pytest.raises(Crash):
        await use()
    assert ground.running == 0
    assert len(ground.begun) == 3
    # What ran may have sent its call; what waited is given back.
    state = await guard.state()
    assert (state.credits_held, state.pools[""].open, state.pools[""].waiting) == (30, 3, 0)


async def test_a_cancelled_block_ends_every_hold(ground: Ground, guard: AsyncGuard) -> None:
    pools: list[AsyncPool] = []

    async def use() -> None:
        async with guard.pool() as pool:  # what its functions do is priced inside: nothing was sent
            pools.append(pool)
            await all_of(pool.map(ground.ajob, ground.items(1000)))

    async with anyio.create_task_group() as group:
        group.start_soon(use)
        await until(lambda: ground.running == 3)
        await waiting(guard, 1)
        group.cancel_scope.cancel()
    assert_nothing_is_held(await guard.state(), spent=0)
    report = pools[0].report
    assert (report.done, report.failed, report.running) == (0, 3, 0)
    assert [job.why for job in report.not_run] == ["cancelled"]


async def test_shutting_down_can_cancel_what_has_not_begun_and_need_not_wait(ground: Ground, guard: AsyncGuard) -> None:
    async with guard.pool(credits=PRICE) as pool:
        jobs = [pool.submit(ground.ajob, number) for number in range(5)]
        results = pool.map(ground.ajob, range(10, 15))
        await until(lambda: ground.running == 3)
        await pool.shutdown(wait=False, cancel_futures=True)
        assert ground.running == 3
        ground.end()
        await pool.shutdown()
        assert all(job.done() for job in jobs)
        with pytest.raises(RuntimeError, match="left before"):
            await all_of(results)
    assert len(ground.begun) == 3
    assert_nothing_is_held(await guard.state(), spent=30)


async def test_a_closed_call_leaves_the_others_alone(ground: Ground, guard: AsyncGuard) -> None:
    async with guard.pool(credits=PRICE) as pool:
        first, second = pool.map(ground.ajob, ground.items(100)), pool.map(ground.ajob, range(200, 204))
        await until(lambda: ground.running == 3)
        await first.aclose()
        ground.end()
        assert await all_of(second) == [2000, 2010, 2020, 2030]
        assert await all_of(first) == []
    assert_nothing_is_held(await guard.state())
