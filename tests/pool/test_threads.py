"""The pool in threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import itertools
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

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
from budgetguard.guard import Guard
from budgetguard.model import Quote
from budgetguard.pool import JobResult
from budgetguard.ports import Transacted, Transaction
from tests.pool.ground import PATIENCE, Ground, assert_nothing_is_held, in_line, pool_threads, wait_until
from tests.support.vidu import BODY, HEADERS, HOME, KEY, PRICE, SUBMIT, made_up, quick, vidu


@pytest.fixture
def guard(ground: Ground) -> Guard:
    return ground.guard()


# -- as many as the account admits ----------------------------------------------------------------------------------


def test_as_many_jobs_run_as_the_limit_admits_and_one_item_is_taken_ahead(ground: Ground, guard: Guard) -> None:
    with guard.pool(credits=PRICE) as pool:
        results = pool.map(ground.job, ground.items(1_000_000))
        wait_until(ground, lambda: len(ground.taken) == 4 and ground.running == 3)
        assert sorted(ground.begun) == [0, 1, 2]
        ground.end(1)
        wait_until(ground, lambda: len(ground.taken) == 5 and ground.running == 3)
        assert sorted(ground.begun) == [0, 1, 2, 3]
        assert len(pool_threads()) == 4
        ground.end(0, 2, 3)
        assert [next(results) for _ in range(2)] == [0, 10]
        results.close()
        ground.end()
    assert ground.running_max == 3
    assert len(ground.taken) <= len(ground.begun) + 1
    assert_nothing_is_held(guard.state(), spent=PRICE * len(ground.begun))


def test_a_raised_limit_is_found_with_the_next_reading_and_a_lowered_one_kept() -> None:
    ground = Ground(policy=quick(max_age=0.02))
    with ground.guard().pool(credits=PRICE) as pool:
        results = pool.imap_unordered(ground.job, ground.items(100))
        wait_until(ground, lambda: ground.running == 3)
        ground.fake.set_limit(5)
        ground.clock.advance(0.03)
        wait_until(ground, lambda: ground.running == 5)
        ground.fake.set_limit(2)
        ground.clock.advance(0.03)
        ground.end(0, 1, 2, 3)
        assert sorted(next(results) for _ in range(4)) == [0, 10, 20, 30]
        wait_until(ground, lambda: len(ground.begun) == 6)
        assert ground.running == 2
        results.close()
        ground.end()


def test_while_the_limit_is_0_the_pool_takes_no_items_and_waits() -> None:
    ground = Ground(policy=quick(max_age=0.02))
    ground.end()
    ground.fake.set_limit(0)
    guard = ground.guard()
    with guard.pool(credits=PRICE) as pool:
        results = pool.map(ground.job, ground.items(10))
        wait_until(ground, lambda: in_line(guard.state()) == 1)
        assert (ground.taken, ground.begun) == ([0], [])
        ground.fake.set_limit(2)
        ground.clock.advance(0.03)
        assert list(results) == [number * 10 for number in range(10)]
    assert pool.report.failed == 0


def test_a_headroom_that_leaves_no_slot_ends_the_call_at_once() -> None:
    ground = Ground(policy=quick(slots_headroom=3))
    with ground.guard().pool(credits=PRICE) as pool:
        with pytest.raises(InsufficientSlots):
            list(pool.map(ground.job, ground.items(1000)))
        assert (len(ground.taken), len(pool.report.not_run), pool.report.failed) == (1, 1, 0)


def test_closed_results_give_nothing_more(ground: Ground, guard: Guard) -> None:
    ground.end()
    with guard.pool(credits=PRICE) as pool:
        results = pool.map(ground.job, range(6))
        assert next(results) == 0
        wait_until(ground, lambda: pool.report.done == 6)
        results.close()
        assert list(results) == []


def test_a_bound_of_its_own_keeps_the_pool_smaller(ground: Ground, guard: Guard) -> None:
    with guard.pool(credits=PRICE, max_workers=2) as pool:
        first = pool.map(ground.job, ground.items(10))
        second = pool.submit(ground.job, 77)
        wait_until(ground, lambda: ground.running == 2)
        ground.end()
        assert list(first) == [n * 10 for n in range(10)]
        assert second.result(PATIENCE) == 770
    assert ground.running_max == 2


def test_whoever_waits_already_goes_first(ground: Ground, guard: Guard) -> None:
    order: list[str] = []

    def one_call() -> None:
        with guard.reserve(credits=PRICE):
            order.append("call")

    def job(number: int) -> None:
        order.append("job")
        ground.job(number)

    crowd = guard.reserve(credits=0, slots=3)
    caller = threading.Thread(target=one_call)
    caller.start()
    wait_until(ground, lambda: in_line(guard.state()) == 1)
    pool = guard.pool(credits=PRICE)
    future = pool.submit(job, 0)
    wait_until(ground, lambda: in_line(guard.state()) == 2)
    crowd.release()
    ground.end()
    future.result(PATIENCE)
    caller.join(PATIENCE)
    pool.shutdown()
    assert order == ["call", "job"]


# -- results --------------------------------------------------------------------------------------------------------


def test_results_come_in_order_or_as_they_are_done(ground: Ground, guard: Guard) -> None:
    with guard.pool() as pool:
        ordered = pool.map(ground.job, range(3))
        wait_until(ground, lambda: ground.running == 3)
        ground.end(2, 1)
        wait_until(ground, lambda: ground.running == 1)
        ground.end(0)
        assert list(ordered) == [0, 10, 20]
        ground.ended.clear()
        unordered = pool.imap_unordered(ground.job, range(3))
        wait_until(ground, lambda: ground.running == 3)
        for number in (1, 2, 0):
            ground.end(number)
            assert next(unordered) == number * 10
        assert list(unordered) == []


def test_several_iterables_go_together_to_the_end_of_the_shortest(guard: Guard) -> None:
    with guard.pool() as pool:
        assert list(pool.map(lambda a, b: a + b, [1, 2, 3], itertools.count(10))) == [11, 13, 15]
        assert list(pool.map(str, [])) == []


def test_what_a_job_raises_comes_at_its_place_and_the_next_ones_behind_it(guard: Guard) -> None:
    def job(number: int) -> int:
        if number == 1:
            raise LookupError("no such prompt")
        return number

    with guard.pool() as pool:
        results = pool.map(job, range(3))
        assert next(results) == 0
        with pytest.raises(LookupError, match="no such prompt"):
            next(results)
        assert list(results) == [2]
        assert (pool.report.done, pool.report.failed) == (2, 1)
        assert [(failure.index, type(failure.error)) for failure in pool.report.errors] == [(1, LookupError)]
    assert_nothing_is_held(guard.state(), spent=0)


def test_a_job_that_raises_stop_iteration_does_not_end_the_loop_around_it(guard: Guard) -> None:
    with guard.pool() as pool:
        results = pool.map(lambda n: next(iter(range(n))), [1, 0, 2])
        assert next(results) == 0
        with pytest.raises(RuntimeError, match="StopIteration"):
            next(results)
        assert list(results) == [0]


def test_a_task_run_to_its_end_holds_the_slot_of_its_job() -> None:
    fake = made_up(credits=200, limit=2, duration=0.03)
    with fake.serve() as url:
        guard = Guard(vidu(url), policy=quick(max_age=0.2, min_interval=0.02, recheck_after=0.02), api_key=KEY)
        client = httpx.Client(base_url=url, headers=HEADERS, transport=guard.transport(), timeout=30)

        def render(number: int) -> str:
            done = guard.run_task(client, SUBMIT, json=BODY, poll_every=0.01, poll_max=0.01)
            return str(done["state"])

        with client, guard.pool() as pool:
            assert list(pool.map(render, range(12))) == ["success"] * 12
        assert (pool.report.done, pool.report.spent) == (12, 120)
        state = guard.state().pools[""]
        assert (state.open, state.running, state.waiting) == (0, 0, 0)
        guard.close()
    assert (fake.journal.breaches, fake.journal.submits, fake.journal.running_max) == (0, 12, 2)


def test_as_completed_names_the_item_of_every_result_and_raises_nothing(guard: Guard) -> None:
    with guard.pool() as pool:
        found = sorted(pool.as_completed(lambda n: 12 // n, [1, 0, 4]), key=lambda result: result.index)
    assert [(result.index, result.args, result.value) for result in found] == [
        (0, (1,), 12),
        (1, (0,), None),
        (2, (4,), 3),
    ]
    assert found[2].get() == 3
    with pytest.raises(ZeroDivisionError):
        found[1].get()


def test_an_iterable_that_fails_is_told_when_all_before_it_was_given_out(guard: Guard) -> None:
    def prompts() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the file ends here")

    with guard.pool() as pool:
        results = pool.map(str, prompts())
        assert [next(results), next(results)] == ["1", "2"]
        with pytest.raises(OSError, match="the file ends here"):
            next(results)
        assert list(results) == []


def test_results_that_nobody_takes_keep_the_pool_from_taking_more(ground: Ground, guard: Guard) -> None:
    ground.end()
    with guard.pool() as pool:
        results = pool.imap_unordered(ground.job, ground.items(100), buffersize=5)
        wait_until(ground, lambda: pool.report.done == 5)
        wait_until(ground, lambda: not pool.report.running)
        assert len(ground.taken) == 5
        next(results)
        wait_until(ground, lambda: pool.report.done == 6)
        assert len(ground.taken) == 6
        assert len(list(results)) == 99


def test_a_result_that_does_not_come_in_time_ends_the_call(ground: Ground, guard: Guard) -> None:
    with guard.pool() as pool:
        results = pool.map(ground.job, ground.items(10), timeout=0.0)
        wait_until(ground, lambda: ground.running == 3)
        with pytest.raises(TimeoutError):
            next(results)
        ground.end()
    assert sorted(ground.begun) == [0, 1, 2]
    assert_nothing_is_held(guard.state())


# -- lazy -----------------------------------------------------------------------------------------------------------


def test_a_million_jobs_stopped_early_leave_nothing_behind(ground: Ground, guard: Guard) -> None:
    ground.end()
    with guard.pool(credits=1) as pool:
        for result in pool.imap_unordered(ground.job, ground.items(1_000_000), buffersize=20):
            if result == 1000:
                break
    assert len(ground.taken) <= 100 + 40
    assert_nothing_is_held(guard.state(), spent=len(ground.begun))


def test_memory_does_not_grow_with_the_jobs(guard: Guard) -> None:
    guard.engine.observers = ()
    with guard.pool() as pool:
        results = pool.map(lambda _: bytes(10_000), itertools.count())
        for _ in itertools.islice(results, 200):
            pass
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in itertools.islice(results, 1500):
                pass
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        results.close()
    # Up to a thousand results of 10 kB may wait; 1,500 that were taken must be gone.
    assert after - before < 12_000_000


def test_items_given_as_an_iterator_stay_with_their_owner_when_the_balance_ends() -> None:
    ground = Ground(credits=20)
    ground.end()
    guard = ground.guard()
    items = ground.items(10)
    with guard.pool(credits=PRICE) as pool, pytest.raises(InsufficientCredits):
        list(pool.map(ground.job, items))
    assert list(items) == [3, 4, 5, 6, 7, 8, 9]


# -- no credits -----------------------------------------------------------------------------------------------------


def test_a_job_the_balance_does_not_cover_stops_the_rest_and_the_report_lists_them() -> None:
    ground = Ground(credits=35)
    ground.end()
    guard = ground.guard()
    found: list[int] = []
    with guard.pool(credits=PRICE) as pool:
        with pytest.raises(InsufficientCredits) as caught:
            found.extend(pool.map(ground.job, list(range(8))))
        report = pool.report
    assert found == [0, 10, 20]
    assert (report.done, report.failed, report.left, report.spent) == (3, 0, 0, 30)
    assert [(job.index, job.args) for job in report.not_run] == [(n, (n,)) for n in range(3, 8)]
    assert report.not_run[0].why is caught.value
    assert [job.why for job in report.not_run[1:]] == ["stopped"] * 4
    assert (caught.value.needed, caught.value.available) == (10, 5)
    assert caught.value.report == report
    assert "3 done, 0 failed, 5 not run, 30 credits" in repr(report)
    assert "not run #3 (3): InsufficientCredits" in str(report)
    assert any("Nothing more was taken up" in note for note in caught.value.__notes__)
    assert_nothing_is_held(guard.state())


def test_what_an_iterable_does_not_tell_the_report_does_not_claim_to_know() -> None:
    ground = Ground(credits=25)
    ground.end()
    with ground.guard().pool(credits=PRICE) as pool, pytest.raises(InsufficientCredits):
        list(pool.map(ground.job, ground.items(10)))
    assert pool.report.left is None
    assert [job.index for job in pool.report.not_run] == [2]
    with ground.guard().pool(credits=PRICE) as pool, pytest.raises(InsufficientCredits):
        list(pool.map(ground.job, {1: "a", 2: "b", 3: "c"}))
    assert (pool.report.left, len(pool.report.not_run)) == (2, 1)


def test_what_the_balance_does_not_cover_is_left_out_if_so_wanted_and_cheaper_jobs_go_on() -> None:
    ground = Ground(credits=30)
    ground.end()
    guard = ground.guard()
    with guard.pool(credits=lambda n: n, on_insufficient="skip") as pool:
        assert list(pool.map(ground.job, [10, 500, 5, 400, 15])) == [100, 50, 150]
        assert [(job.index, job.args) for job in pool.report.not_run] == [(1, (500,)), (3, (400,))]
        assert {type(job.why) for job in pool.report.not_run} == {InsufficientCredits}
        left_out = [result for result in pool.as_completed(ground.job, [0, 600]) if result.error]
        assert [(result.index, type(result.error)) for result in left_out] == [(1, InsufficientCredits)]
    assert_nothing_is_held(guard.state())


def test_a_job_whose_own_call_is_refused_counts_as_not_run() -> None:
    ground = Ground(credits=25)
    guard = ground.guard()
    client = httpx.Client(base_url=HOME, headers=HEADERS, transport=guard.transport(ground.fake.transport()))

    def job(number: int) -> str:
        return str(client.post(SUBMIT, json={**BODY, "payload": str(number)}).json()["task_id"])

    with client, guard.pool() as pool:
        with pytest.raises(InsufficientCredits):
            list(pool.map(job, range(6)))
        assert pool.report.done == 2
        assert pool.report.spent == 20
        assert {job.why if isinstance(job.why, str) else type(job.why) for job in pool.report.not_run} <= {
            InsufficientCredits,
            "stopped",
        }
        assert len(pool.report.not_run) == 4
    assert ground.fake.journal.breaches == 0
    assert guard.state().pools[""].open == 0


def test_a_refusal_nobody_asked_about_is_raised_when_the_block_is_left() -> None:
    ground = Ground(credits=25)
    ground.end()
    guard = ground.guard()
    with pytest.raises(InsufficientCredits), guard.pool(credits=PRICE) as pool:
        pool.map(ground.job, range(6))
    assert sorted(ground.begun) == [0, 1]
    assert_nothing_is_held(guard.state())


def test_a_refusal_is_raised_though_the_results_nobody_asked_for_are_kept() -> None:
    ground = Ground(credits=25)
    ground.end()
    kept: list[Any] = []
    with pytest.raises(InsufficientCredits), ground.guard().pool(credits=PRICE) as pool:
        kept.append(pool.map(ground.job, range(6)))
    assert list(kept[0]) == [0, 10]


def test_a_refusal_is_raised_too_if_the_results_are_dropped_when_all_is_over() -> None:
    ground = Ground(credits=25)
    ground.end()
    guard = ground.guard()

    def forget_the_results() -> None:
        with guard.pool(credits=PRICE) as pool:
            results = pool.map(ground.job, range(6))
            wait_until(ground, lambda: bool(pool.report.not_run) and not pool._foreman._busy)
            del results

    with pytest.raises(InsufficientCredits):
        forget_the_results()


# -- other things that go wrong -------------------------------------------------------------------------------------


def test_an_account_that_cannot_be_read_ends_the_call_instead_of_using_its_items_up() -> None:
    ground = Ground(policy=quick(stale_if_error=10.0))
    ground.fake.inject("html_502", on="credits", times=None)
    guard = ground.guard()
    with guard.pool(credits=PRICE) as pool:
        with pytest.raises(CreditsUnavailable):
            list(pool.map(ground.job, ground.items(1000)))
        assert len(ground.taken) == 1
        assert [type(job.why) for job in pool.report.not_run] == [CreditsUnavailable]


def test_a_store_that_fails_ends_the_call(ground: Ground, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(account: str, transaction: Transaction) -> Transacted:
        raise StoreError("gone")

    ground.end()
    with guard.pool(credits=PRICE) as pool:
        monkeypatch.setattr(ground.store, "transact", fails)
        with pytest.raises(StoreError):
            list(pool.map(ground.job, ground.items(1000)))
        monkeypatch.undo()
    assert len(ground.taken) == 1
    assert ground.begun == []


def test_what_concerns_one_job_fails_that_job(ground: Ground, guard: Guard) -> None:
    def price(number: int) -> int | Quote:
        if number == 0:
            raise KeyError("model")
        return Quote(PRICE, 99) if number == 1 else -1 if number == 2 else PRICE

    ground.end()
    with guard.pool(credits=price) as pool:
        errors = {result.index: type(result.error) for result in pool.as_completed(ground.job, range(4))}
    assert errors == {0: KeyError, 1: InsufficientSlots, 2: SettingError, 3: type(None)}
    assert pool.report.failed == 3
    assert_nothing_is_held(guard.state())


def test_a_job_that_is_not_admitted_in_time_fails_alone(ground: Ground, guard: Guard) -> None:
    crowd = guard.reserve(credits=0, slots=3)
    with guard.pool(credits=PRICE, deadline=0.0) as pool:
        assert [type(result.error) for result in pool.as_completed(ground.job, range(2))] == [QueueTimeout] * 2
    crowd.release()


def test_a_pool_that_cannot_work_is_refused_at_once(ground: Ground, guard: Guard) -> None:
    given: Any
    for given in (
        {"credits": -1},
        {"credits": "35"},
        {"slots": 0.5},
        {"max_workers": 0},
        {"max_workers": True},
        {"on_insufficient": "ask"},
        {"progress": 7},
        {"tags": "word"},
        {"credits": Quote(1), "slots": 2},
    ):
        with pytest.raises(SettingError):
            guard.pool(**given)
    with guard.pool() as pool, pytest.raises(SettingError):
        pool.map(ground.job, [], buffersize=0)


# -- prices ---------------------------------------------------------------------------------------------------------


def test_a_job_function_knows_its_price_and_holds_it_once(ground: Ground, guard: Guard) -> None:
    class Studio:
        @guard.job(credits=lambda self, number, seconds=5: 7 * seconds)
        def render(self, number: int, seconds: int = 5) -> int:
            return ground.job(number)

    with guard.pool() as pool:
        future = pool.submit(functools.partial(Studio().render, seconds=4), 1)
        wait_until(ground, lambda: ground.running == 1)
        state = guard.state()
        assert (state.credits_held, state.pools[""].open) == (28, 1)
        ground.end()
        assert future.result(PATIENCE) == 10
    assert [event.credits for event in ground.told(Admitted)] == [28]
    assert len(ground.told(Joined)) == 1
    assert pool.report.spent == 28
    assert_nothing_is_held(guard.state(), spent=28)


def test_a_priced_function_that_raises_may_have_sent_its_call(ground: Ground, guard: Guard) -> None:
    def job(number: int) -> None:
        raise ConnectionError

    with guard.pool(credits=PRICE) as pool:
        assert [type(result.error) for result in pool.as_completed(job, [1])] == [ConnectionError]
    state = guard.state()
    assert (state.credits_held, state.pools[""].open) == (PRICE, 1)
    assert pool.report.spent == PRICE


def test_a_job_may_say_itself_how_it_ended(guard: Guard) -> None:
    def job(number: int) -> None:
        permit = guard.current_permit()
        permit.settle(charge=number) if number else permit.release()

    with guard.pool(credits=PRICE, tags=["batch=7"]) as pool:
        list(pool.map(job, [0, 4]))
        assert pool.report.spent == 4
    assert_nothing_is_held(guard.state(), spent=4)


def test_a_pool_inside_a_permit_draws_on_it(ground: Ground, guard: Guard) -> None:
    with guard.reserve(credits=100, slots=2) as permit:
        with guard.pool(credits=PRICE) as pool:
            results = pool.map(ground.job, range(2))
            wait_until(ground, lambda: ground.running == 2)
            state = guard.state()
            assert (state.credits_held, state.pools[""].open) == (100, 2)
            ground.end()
            assert list(results) == [0, 10]
        assert permit.state == "held"
    assert_nothing_is_held(guard.state(), spent=20)


# -- one by one -----------------------------------------------------------------------------------------------------


def test_it_is_an_executor(guard: Guard) -> None:
    def cube(number: int) -> int:
        return number * number * number

    pool = guard.pool()
    with pool:
        futures = [pool.submit(pow, 2, number) for number in range(5)]
        assert isinstance(pool, concurrent.futures.Executor)
        assert {future.result() for future in concurrent.futures.as_completed(futures, PATIENCE)} == {1, 2, 4, 8, 16}
        done, open_ = concurrent.futures.wait([pool.submit(int, "x")], PATIENCE)
        assert isinstance(done.pop().exception(), ValueError)
        assert not open_

    async def on_a_loop() -> list[int]:
        loop = asyncio.get_running_loop()
        with guard.pool() as pool:
            return list(await asyncio.gather(*(loop.run_in_executor(pool, cube, number) for number in range(3))))

    assert asyncio.run(on_a_loop()) == [0, 1, 8]
    for call in (lambda: pool.submit(str), lambda: pool.map(str, [1])):
        with pytest.raises(RuntimeError, match="after shutdown"):
            call()
    pool.shutdown()


def test_a_refusal_is_the_exception_of_its_future_and_the_others_go_on() -> None:
    ground = Ground(credits=20)
    ground.end()
    with ground.guard().pool(credits=lambda n: n) as pool:
        dear, cheap = pool.submit(ground.job, 30), pool.submit(ground.job, 10)
        assert isinstance(dear.exception(PATIENCE), InsufficientCredits)
        assert cheap.result(PATIENCE) == 100
        assert [job.args for job in pool.report.not_run] == [(30,)]


def test_a_future_that_is_cancelled_leaves_the_line_at_once(ground: Ground, guard: Guard) -> None:
    with guard.pool(credits=PRICE) as pool:
        running = [pool.submit(ground.job, number) for number in range(3)]
        waiting, behind = pool.submit(ground.job, 3), pool.submit(ground.job, 4)
        wait_until(ground, lambda: in_line(guard.state()) == 1)
        assert not running[0].running() or not running[0].cancel()
        assert waiting.cancel()
        wait_until(ground, lambda: [job.args for job in pool.report.not_run] == [(3,)])
        wait_until(ground, lambda: in_line(guard.state()) == 1)
        assert behind.cancel()
        wait_until(ground, lambda: in_line(guard.state()) == 0)
        assert guard.state().credits_held == 30
        ground.end()
    assert sorted(ground.begun) == [0, 1, 2]
    assert [job.why for job in pool.report.not_run] == ["cancelled"] * 2
    assert_nothing_is_held(guard.state(), spent=30)


def test_a_job_may_submit_another(ground: Ground, guard: Guard) -> None:
    with guard.pool() as pool:
        inner = pool.submit(lambda: pool.submit(pow, 2, 5)).result(PATIENCE)
        assert inner.result(PATIENCE) == 32


# -- the end --------------------------------------------------------------------------------------------------------


def test_leaving_the_block_waits_for_all_that_nobody_has_begun_to_take(ground: Ground, guard: Guard) -> None:
    ground.end()
    with guard.pool() as pool:
        pool.map(ground.job, ground.items(50), buffersize=1)
        kept = pool.map(ground.job, range(50, 60), buffersize=1)
        future = pool.submit(ground.job, 60)
    assert sorted(ground.begun) == list(range(61))
    assert list(kept) == [n * 10 for n in range(50, 60)]
    assert future.result() == 600
    assert pool_threads() == []


def test_leaving_the_block_takes_no_more_of_what_somebody_has_begun_to_take(ground: Ground, guard: Guard) -> None:
    ground.end()
    with guard.pool() as pool:
        results = pool.map(ground.job, ground.items(1_000_000), buffersize=10)
        assert next(results) == 0
    given = [0]
    with pytest.raises(RuntimeError, match="left before all jobs"):
        given.extend(results)
    assert len(given) == pool.report.done
    assert len(ground.taken) <= 20
    assert_nothing_is_held(guard.state())


def test_an_exception_in_the_block_begins_nothing_more_and_waits_for_what_runs(ground: Ground, guard: Guard) -> None:
    futures: list[concurrent.futures.Future[int]] = []

    def use() -> None:
        with guard.pool(credits=PRICE) as pool:
            futures.extend(pool.submit(ground.job, number) for number in range(5))
            pool.map(ground.job, ground.items(1000))
            wait_until(ground, lambda: ground.running == 3)
            threading.Timer(0.01, ground.end).start()
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        use()
    assert ground.running == 0
    assert len(ground.begun) == 3
    assert all(future.done() for future in futures)
    assert pool_threads() == []
    assert_nothing_is_held(guard.state(), spent=PRICE * len(ground.begun))


def test_shutting_down_can_cancel_what_has_not_begun_and_need_not_wait(ground: Ground, guard: Guard) -> None:
    pool = guard.pool(credits=PRICE)
    futures = [pool.submit(ground.job, number) for number in range(5)]
    results = pool.map(ground.job, range(10, 15))
    wait_until(ground, lambda: ground.running == 3)
    pool.shutdown(wait=False, cancel_futures=True)
    assert ground.running == 3
    ground.end()
    wait_until(ground, lambda: not pool_threads())
    assert len(ground.begun) == 3
    assert sum(future.cancelled() for future in futures) + sum(future.done() for future in futures) >= 5
    with pytest.raises(RuntimeError, match="left before"):
        list(results)
    assert_nothing_is_held(guard.state(), spent=30)


def test_a_closed_call_leaves_the_others_alone(ground: Ground, guard: Guard) -> None:
    with guard.pool(credits=PRICE) as pool:
        first, second = pool.map(ground.job, ground.items(100)), pool.map(ground.job, range(200, 204))
        wait_until(ground, lambda: ground.running == 3)
        first.close()
        ground.end()
        assert list(second) == [2000, 2010, 2020, 2030]
        assert list(first) == []
    assert_nothing_is_held(guard.state())


def test_a_pool_nobody_shuts_down_keeps_no_threads(
    ground: Ground, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgetguard.pool.threads._IDLE_SECONDS", 0.01)
    pool = guard.pool()
    assert pool.submit(pow, 2, 3).result(PATIENCE) == 8
    wait_until(ground, lambda: not pool_threads())
    assert pool.submit(pow, 2, 4).result(PATIENCE) == 16


def test_a_result_can_be_shown(guard: Guard) -> None:
    with guard.pool() as pool:
        list(pool.map(str, [1]))
        assert repr(pool).startswith("<Pool on vidu:")
        assert "1 done, 0 failed, 0 not run, 0 credits" in repr(pool)
    assert JobResult(0, (), 1).get() == 1
