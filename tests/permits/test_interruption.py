"""Permits and jobs interrupted at any of their steps end once and leave nothing behind.

Every step of the store and of the provider counts, and at each of them in turn the caller is cancelled, interrupted as
by Ctrl-C, or let down by the store. Afterwards leases end, and all that was held must be there again.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from budgetguard.errors import InsufficientSlots, PermitError, StoreError
from tests.support.turnstile import Turnstile
from tests.support.vidu import BODY, KEY, PRICE, SUBMIT
from tests.support.ways import Way, in_thread
from tests.transport.test_interruption import KINDS, Stage

pytestmark = pytest.mark.anyio


class Mishap(Exception):
    """What goes wrong in a block."""


class PermitStage(Stage):
    """A stage whose guard has a key, so that it can hold by itself."""

    def __init__(self, way: Way, *, limit: int = 3) -> None:
        super().__init__(way, limit=limit)
        self.inside = self.client.client  # type: ignore[attr-defined]

    def settings(self) -> dict[str, Any]:
        return {"api_key": KEY, "inner": self.inner}


Scene = tuple[Callable[[PermitStage], None], Callable[[PermitStage], Awaitable[None]]]


def left_without_a_word(stage: PermitStage) -> None:
    with stage.guard.reserve(PRICE):
        pass


async def aleft_without_a_word(stage: PermitStage) -> None:
    async with stage.guard.reserve(PRICE):
        pass


def settled(stage: PermitStage) -> None:
    with stage.guard.reserve(PRICE) as permit:
        permit.sent()
        permit.settle(charge=4)


async def asettled(stage: PermitStage) -> None:
    async with stage.guard.reserve(PRICE) as permit:
        permit.sent()
        await permit.settle(charge=4)


def settled_with_a_task(stage: PermitStage) -> None:
    with stage.guard.reserve(PRICE) as permit:
        permit.sent()
        token = permit.token
        permit.settle(task_id="T")
    stage.guard.finished(token)


async def asettled_with_a_task(stage: PermitStage) -> None:
    async with stage.guard.reserve(PRICE) as permit:
        permit.sent()
        token = permit.token
        await permit.settle(task_id="T")
    await stage.guard.finished(token)


def left_by_an_exception(stage: PermitStage) -> None:
    with contextlib.suppress(Mishap), stage.guard.reserve(PRICE) as permit:
        permit.sent()
        raise Mishap


async def aleft_by_an_exception(stage: PermitStage) -> None:
    with contextlib.suppress(Mishap):
        async with stage.guard.reserve(PRICE) as permit:
            permit.sent()
            raise Mishap


def ended_by_token_first(stage: PermitStage) -> None:
    with stage.guard.reserve(PRICE) as permit:
        permit.sent()
        stage.guard.finished(permit.token, charge=4)


async def aended_by_token_first(stage: PermitStage) -> None:
    async with stage.guard.reserve(PRICE) as permit:
        permit.sent()
        await stage.guard.finished(permit.token, charge=4)


def tried_and_released(stage: PermitStage) -> None:
    permit = stage.guard.try_reserve(PRICE)
    if permit is not None:
        permit.release()
    stage.guard.can_afford(PRICE)


async def atried_and_released(stage: PermitStage) -> None:
    permit = await stage.guard.try_reserve(PRICE)
    if permit is not None:
        await permit.release()
    await stage.guard.can_afford(PRICE)


def with_a_call_inside(stage: PermitStage) -> None:
    with stage.guard.reserve(2 * PRICE):
        stage.inside.post(SUBMIT, json=BODY)


async def awith_a_call_inside(stage: PermitStage) -> None:
    async with stage.guard.reserve(2 * PRICE):
        await stage.inside.post(SUBMIT, json=BODY)


def through_a_pool(stage: PermitStage) -> None:
    with stage.guard.pool(credits=PRICE) as pool:
        list(pool.map(str, range(2)))


async def athrough_a_pool(stage: PermitStage) -> None:
    async def one(number: int) -> str:
        return str(number)

    async with stage.guard.pool(credits=PRICE) as pool:
        async for _ in pool.map(one, range(2)):
            pass


def with_a_rejected_call_inside(stage: PermitStage) -> None:
    stage.fake.fail_next("FieldLacking")
    with_a_call_inside(stage)


async def awith_a_rejected_call_inside(stage: PermitStage) -> None:
    stage.fake.fail_next("FieldLacking")
    await awith_a_call_inside(stage)


def with_a_crowded_call_inside(stage: PermitStage) -> None:
    stage.fake.fail_next("QuotaExceeded")
    with_a_call_inside(stage)


async def awith_a_crowded_call_inside(stage: PermitStage) -> None:
    stage.fake.fail_next("QuotaExceeded")
    await awith_a_call_inside(stage)


def with_a_dearer_call_inside(stage: PermitStage) -> None:
    with stage.guard.reserve(PRICE - 6):
        stage.inside.post(SUBMIT, json=BODY)


async def awith_a_dearer_call_inside(stage: PermitStage) -> None:
    async with stage.guard.reserve(PRICE - 6):
        await stage.inside.post(SUBMIT, json=BODY)


def with_two_calls_inside(stage: PermitStage) -> None:
    with stage.guard.reserve(2 * PRICE):
        stage.inside.post(SUBMIT, json=BODY)
        stage.inside.post(SUBMIT, json=BODY)


async def awith_two_calls_inside(stage: PermitStage) -> None:
    async with stage.guard.reserve(2 * PRICE):
        await stage.inside.post(SUBMIT, json=BODY)
        await stage.inside.post(SUBMIT, json=BODY)


def with_a_call_that_never_fits(stage: PermitStage) -> None:
    with stage.guard.reserve(PRICE), pytest.raises(InsufficientSlots):
        stage.inside.post(SUBMIT, json=BODY, extensions={"budgetguard": {"slots": 4}})


async def awith_a_call_that_never_fits(stage: PermitStage) -> None:
    async with stage.guard.reserve(PRICE):
        with pytest.raises(InsufficientSlots):
            await stage.inside.post(SUBMIT, json=BODY, extensions={"budgetguard": {"slots": 4}})


def jobs_in_a_job(stage: PermitStage) -> None:
    @stage.guard.job(PRICE, charge=lambda charge: charge)  # type: ignore[untyped-decorator]
    def inner() -> int:
        return 6

    @stage.guard.job(3 * PRICE, slots=2)  # type: ignore[untyped-decorator]
    def outer() -> None:
        inner()
        stage.inside.post(SUBMIT, json=BODY)

    outer()


async def ajobs_in_a_job(stage: PermitStage) -> None:
    @stage.guard.job(PRICE, charge=lambda charge: charge)  # type: ignore[untyped-decorator]
    async def inner() -> int:
        return 6

    @stage.guard.job(3 * PRICE, slots=2)  # type: ignore[untyped-decorator]
    async def outer() -> None:
        await inner()
        await stage.inside.post(SUBMIT, json=BODY)

    await outer()


def a_generator_closed_early(stage: PermitStage) -> None:
    @stage.guard.job(PRICE)  # type: ignore[untyped-decorator]
    def items() -> Any:
        yield 1
        yield 2

    made = items()
    try:
        next(made)
    finally:
        made.close()


async def a_generator_closed_early_async(stage: PermitStage) -> None:
    @stage.guard.job(PRICE)  # type: ignore[untyped-decorator]
    async def items() -> Any:
        yield 1
        yield 2

    made = items()
    try:
        await anext(made)
    finally:
        with anyio.CancelScope(shield=True):
            await made.aclose()


def calls_side_by_side(stage: PermitStage) -> None:
    def call() -> None:
        stage.inside.post(SUBMIT, json=BODY)

    with stage.guard.reserve(2 * PRICE, 2):
        other = threading.Thread(target=contextvars.copy_context().run, args=(quietly, call))
        other.start()
        try:
            call()
        finally:
            other.join()


def quietly(call: Callable[[], None]) -> None:
    try:
        call()
    except BaseException:  # noqa: BLE001 - the interruption may hit either
        return


async def acalls_side_by_side(stage: PermitStage) -> None:
    async with stage.guard.reserve(2 * PRICE, 2), anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(lambda: stage.inside.post(SUBMIT, json=BODY))


SCENES: dict[str, Scene] = {
    "left without a word": (left_without_a_word, aleft_without_a_word),
    "settled": (settled, asettled),
    "settled with a task": (settled_with_a_task, asettled_with_a_task),
    "left by an exception": (left_by_an_exception, aleft_by_an_exception),
    "ended by token first": (ended_by_token_first, aended_by_token_first),
    "tried and released": (tried_and_released, atried_and_released),
    "a call inside": (with_a_call_inside, awith_a_call_inside),
    "a rejected call inside": (with_a_rejected_call_inside, awith_a_rejected_call_inside),
    "a crowded call inside": (with_a_crowded_call_inside, awith_a_crowded_call_inside),
    "a dearer call inside": (with_a_dearer_call_inside, awith_a_dearer_call_inside),
    "two calls inside": (with_two_calls_inside, awith_two_calls_inside),
    "a call that never fits": (with_a_call_that_never_fits, awith_a_call_that_never_fits),
    "a pool": (through_a_pool, athrough_a_pool),
    "jobs in a job": (jobs_in_a_job, ajobs_in_a_job),
    "a generator closed early": (a_generator_closed_early, a_generator_closed_early_async),
    "calls side by side": (calls_side_by_side, acalls_side_by_side),
}


def call_of(scene: str, stage: PermitStage) -> Callable[[], Awaitable[None]]:
    blocking, concurrent = SCENES[scene]
    if stage.way.blocking:
        return lambda: in_thread(lambda: blocking(stage))
    return lambda: concurrent(stage)


async def check(stage: PermitStage, what: str) -> None:
    stage.fake.clear_injections()
    stage.clock.ahead += 1.0  # past a pause
    assert (await stage.submit()).status_code == 200, "the next call is served"
    await stage.settle()
    if stage.guard.heartbeat._calls:
        gc.collect()  # a permit that was dropped without a word is forgotten
    try:
        stage.assert_nothing_is_left()
    except AssertionError as error:
        error.add_note(what)
        raise


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", SCENES)
async def test_interrupted_anywhere_it_leaves_nothing_behind(scene: str, kind: str, way: Way) -> None:
    if way.blocking and KINDS[kind]:
        pytest.skip("a thread cannot be cancelled")
    for stop_at in range(1, 300):
        stage = PermitStage(way)
        turnstile = Turnstile(stop_at)
        async with stage.client:
            with anyio.fail_after(5):
                try:
                    await stage.interrupted(call_of(scene, stage), turnstile, cancel=KINDS[kind])
                except BaseExceptionGroup:
                    assert turnstile.struck  # in a task group
                await check(stage, f"interrupted at step {stop_at}")
        if not turnstile.struck:
            assert stop_at > 5
            return
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("scene", SCENES)
async def test_a_store_that_fails_once_leaves_nothing_behind(scene: str, way: Way) -> None:
    for stop_at in range(1, 300):
        stage = PermitStage(way)
        turnstile = Turnstile(stop_at, StoreError("made up"))
        async with stage.client:
            with anyio.fail_after(5):
                try:
                    await stage.interrupted(call_of(scene, stage), turnstile, cancel=False)
                except* (StoreError, PermitError):
                    assert turnstile.struck
                turnstile.failure = None  # it knows the frames it passed
                await check(stage, f"the store failed at step {stop_at}")
        if not turnstile.struck:
            assert stop_at > 2
            return
    raise AssertionError("it never came to an end")
