"""Waiting in line with nobody to listen: slots are handed on on the quick path, whatever happens to who waits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from functools import cache
from typing import Any
from unittest import mock

import anyio
import anyio.lowlevel
import httpx
import pytest

from budgetguard import AsyncGuard, Guard
from budgetguard._core.counters import Pool, View
from budgetguard._drivers import blocking
from budgetguard.errors import InsufficientCredits, InsufficientSlots, QueueFull, QueueTimeout
from budgetguard.stores import MemoryStore
from budgetguard.testing import FakeVidu, ManualClock
from tests.support.interrupts import Interrupt
from tests.support.permits import said
from tests.support.scene import PATIENT, until
from tests.support.vidu import CREDITS, HEADERS, HOME, KEY, made_up, quick, vidu
from tests.support.ways import Way, in_thread

pytestmark = pytest.mark.anyio


class Scene:
    """A guard nobody listens to, so that its plain permits go the quick path."""

    def __init__(self, way: Way, *, policy: Any = None, clock: Any = None, **settings: Any) -> None:
        self.way = way
        self.fake: FakeVidu = made_up(**{"credits": 1000, "limit": 1, **settings})
        self.store = MemoryStore() if clock is None else MemoryStore(clock=clock)
        self.policy = quick(**PATIENT, min_interval=0.0) if policy is None else policy
        self.guard: Any = self.another()
        self.served: list[object] = []

    def another(self) -> Any:
        return self.way.guard(vidu(), store=self.store, policy=self.policy, api_key=KEY, inner=self.fake.transport())

    async def warm(self) -> Any:
        """Make the account quick, and hold its first slot."""
        for _ in range(2):
            await said((await self.get(0)).release())
        return await self.get()

    async def get(self, credits: int = 10, slots: int = 1, **given: Any) -> Any:
        if self.way.blocking:
            return await in_thread(lambda: self.guard.reserve(credits, slots, **given))
        return await self.guard.reserve(credits, slots, **given)

    async def stand(self, name: object, credits: int = 10, slots: int = 1, **given: Any) -> None:
        """Wait in line, and hand the slot on at once."""
        permit = await self.get(credits, slots, **given)
        self.served.append(name)
        await said(permit.release())

    @property
    def account(self) -> Any:
        return self.guard.engine.named(self.guard.account_name(KEY))

    def waiting(self) -> tuple[int, int]:
        """How many stand in line, and how many of them on the quick path."""
        line = self.account.line("")
        return len(line), line.places

    async def read(self) -> None:
        """Ask for the balance, which is a reading for the guard."""
        async with self.way.client(self.guard, self.fake.transport(), base_url=HOME, headers=HEADERS) as client:
            await client.get(CREDITS)

    async def in_line(self, many: int) -> None:
        await until(lambda: self.waiting()[0] == many)

    def assert_all_is_free(self) -> None:
        counters = self.store.load(self.guard.account_name(KEY)).counters
        assert counters[Pool("").slots] == counters[Pool("").limit]
        assert counters["credits"] == counters["balance"]
        assert counters.get("waiting", 0) == 0
        assert self.account.line("").head is None


async def test_who_came_first_is_served_first_by_whoever_frees_a_slot(way: Way) -> None:
    scene = Scene(way)
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(scene.stand, number)
            await scene.in_line(number + 1)
        assert scene.waiting() == (6, 6)
        assert scene.store.load(scene.guard.account_name(KEY)).counters["waiting"] == 60
        await said(held.release())
    assert scene.served == [0, 1, 2, 3, 4, 5]
    scene.assert_all_is_free()


async def test_a_slot_that_a_settled_call_frees_is_handed_on_too(way: Way) -> None:
    scene = Scene(way)
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        group.start_soon(scene.stand, "next")
        await scene.in_line(1)
        await said(held.settle(7))
    assert scene.served == ["next"]


async def test_nobody_who_needs_less_overtakes_the_head(way: Way) -> None:
    scene = Scene(way, limit=3)
    held = [await scene.warm(), await scene.get(), await scene.get()]
    async with anyio.create_task_group() as group:
        group.start_soon(scene.stand, "two", 10, 2)
        await scene.in_line(1)
        group.start_soon(scene.stand, "one")
        await scene.in_line(2)
        await said(held.pop().release())
        assert scene.waiting() == (2, 2)
        assert scene.served == []
        await said(held.pop().release())
    assert scene.served == ["two", "one"]
    await said(held.pop().release())
    scene.assert_all_is_free()


async def test_one_with_a_priority_goes_before_those_who_wait_there(way: Way) -> None:
    scene = Scene(way)
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(scene.stand, number)
            await scene.in_line(number + 1)

        async def urgent() -> None:
            await scene.stand("urgent", priority=1)

        group.start_soon(urgent)
        await scene.in_line(3)
        assert scene.waiting() == (3, 2)
        await said(held.release())
    assert scene.served == ["urgent", 0, 1]
    scene.assert_all_is_free()


async def test_who_gives_up_leaves_the_line_and_his_credits_come_back(way: Way) -> None:
    if way.blocking:
        pytest.skip("a thread cannot be cancelled")
    scene = Scene(way)
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as given_up:
            given_up.start_soon(scene.stand, "gives up")
            await scene.in_line(1)
            group.start_soon(scene.stand, "stays")
            await scene.in_line(2)
            given_up.cancel_scope.cancel()
        assert scene.waiting() == (1, 1)
        assert scene.store.load(scene.guard.account_name(KEY)).counters["waiting"] == 10
        await said(held.release())
    assert scene.served == ["stays"]
    scene.assert_all_is_free()


async def test_who_gives_up_while_the_balance_is_asked_for_leaves_nothing_either(way: Way) -> None:
    if way.blocking:
        pytest.skip("a thread cannot be cancelled")
    scene = Scene(way)
    held = await scene.warm()
    name = scene.guard.account_name(KEY)
    async with anyio.create_task_group() as group:
        group.start_soon(scene.stand, "gives up")
        await scene.in_line(1)
        loaded = scene.store.load(name)
        claim, _ = scene.account.books.claim(View(loaded.counters, loaded.now), 60.0)
        assert scene.store.transact(name, claim).applied
        group.cancel_scope.cancel()
    assert scene.waiting() == (0, 0)
    assert scene.store.load(name).counters["waiting"] == 0
    await said(held.release())


async def test_whoever_has_waited_too_long_is_told_so(way: Way) -> None:
    scene = Scene(way, policy=quick(**PATIENT, max_wait=0.05))
    held = await scene.warm()
    with pytest.raises(QueueTimeout, match=r"place 1 in line"):
        await scene.get()
    assert scene.waiting() == (0, 0)
    await said(held.release())
    scene.assert_all_is_free()


async def test_a_full_line_takes_nobody_else(way: Way) -> None:
    scene = Scene(way, policy=quick(**PATIENT, max_waiting=1))
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        group.start_soon(scene.stand, "waits")
        await scene.in_line(1)
        with pytest.raises(QueueFull):
            await scene.get()
        await said(held.release())


async def test_who_cannot_pay_does_not_wait(way: Way) -> None:
    scene = Scene(way)
    held = await scene.warm()
    with pytest.raises(InsufficientCredits):
        await scene.get(2000)
    with pytest.raises(InsufficientSlots):
        await scene.get(10, 2)
    assert scene.waiting() == (0, 0)
    await said(held.release())
    scene.assert_all_is_free()


async def test_what_needs_no_slot_does_not_wait_for_one(way: Way) -> None:
    scene = Scene(way)
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        group.start_soon(scene.stand, "waits")
        await scene.in_line(1)
        await scene.stand("needs none", 10, 0)
        await said(held.release())
    assert scene.served == ["needs none", "waits"]


async def test_when_the_reading_grows_old_the_head_looks_again_and_all_find_the_higher_limit(way: Way) -> None:
    scene = Scene(way, policy=quick(max_age=0.1, max_stale=60.0, min_interval=0.0, exclusive=True))
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(scene.stand, number)
        scene.fake.set_limit(3)
    assert sorted(scene.served, key=str) == [0, 1, 2, 3]
    await said(held.release())
    scene.assert_all_is_free()


async def test_a_new_reading_lets_all_through_for_whom_there_is_room_now(way: Way) -> None:
    scene = Scene(way)
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(scene.stand, number)
            await scene.in_line(number + 1)
        scene.fake.set_limit(3)
        await scene.read()
    assert sorted(scene.served, key=str) == [0, 1, 2]
    await said(held.release())


async def test_guards_that_share_a_store_hand_slots_to_each_other(way: Way) -> None:
    scene = Scene(way)
    held = await scene.warm()
    async with anyio.create_task_group() as group:
        group.start_soon(scene.stand, "early")
        await scene.in_line(1)
        other = scene.another()

        async def elsewhere() -> None:
            permit = await in_thread(lambda: other.reserve(10)) if way.blocking else await other.reserve(10)
            scene.served.append("elsewhere")
            await said(permit.release())

        group.start_soon(elsewhere)
        await until(lambda: len(other.engine.named(other.account_name(KEY)).line("")) == 1)
        await said(held.release())
    assert sorted(map(str, scene.served)) == ["early", "elsewhere"]
    scene.assert_all_is_free()


async def test_whoever_is_gone_without_a_word_is_passed_over(way: Way) -> None:
    if way.blocking:
        pytest.skip("a thread does not vanish")
    if not isinstance(anyio.lowlevel.current_token().native_token, asyncio.AbstractEventLoop):
        pytest.skip("trio drops no task")
    scene = Scene(way, clock=(clock := ManualClock(1000.0)))
    held = await scene.warm()
    dropped = scene.stand("dropped")
    with contextlib.suppress(StopIteration):
        dropped.send(None)  # as far as its wait in line
    assert scene.waiting() == (1, 1)
    async with anyio.create_task_group() as group:
        group.start_soon(scene.stand, "next")
        await scene.in_line(2)
        with scene.store.books(scene.guard.account_name(KEY)).lock:
            dropped.close()  # as the collector does, in the middle of anything
        del dropped
        gc.collect()
        await said(held.release())
    assert scene.served == ["next"]
    clock.advance(scene.policy.lease + 1)
    await scene.read()
    scene.assert_all_is_free()


OURS = ("/_core/", "/stores/", "/_drivers/", "/permit.py", "/_handle.py", "/_reserving.py", "/_scope.py")


@cache
def ours(file: str) -> bool:
    file = file.replace("\\", "/")
    return "/budgetguard/" in file and any(part in file for part in OURS) and "/tests/" not in file


def read(guard: Guard, fake: FakeVidu) -> None:
    with httpx.Client(transport=guard.transport(fake.transport()), base_url=HOME, headers=HEADERS) as client:
        client.get(CREDITS)


def interrupted(step: int, *, served: bool) -> bool:
    """Wait in line, be interrupted at a step, and see that nothing is left; ``False`` if there is no such step."""
    clock = ManualClock(1000.0)
    fake = made_up(credits=1000, limit=1)
    store = MemoryStore(clock=clock)
    policy = quick(**PATIENT, min_interval=0.0, max_wait=None if served else 5.0)
    guard = Guard(vidu(), store=store, policy=policy, api_key=KEY, inner=fake.transport())
    for _ in range(2):
        guard.reserve(0).release()
    held = guard.reserve(10)

    def wait(account: Any, ticket: Any, seconds: float | None) -> bool:
        if served:
            held.release()
        else:
            clock.advance(10.0)  # max_wait is over
        return True

    with mock.patch.object(blocking, "_wait", wait), Interrupt(ours, step) as interrupt:
        try:
            guard.reserve(10)
        except KeyboardInterrupt:
            assert interrupt.came
        except QueueTimeout:
            assert not served
    held.release()
    assert guard.engine.named(guard.account_name(KEY)).line("").head is None
    clock.advance(policy.lease + 1)
    read(guard, fake)
    counters = store.load(guard.account_name(KEY)).counters
    assert counters["credits"] == counters["balance"]
    assert counters[Pool("").slots] == 1
    assert counters.get("waiting", 0) == 0
    return interrupt.came > 0


@pytest.mark.parametrize(("served", "stride"), [(True, 1), (False, 5)])
def test_whoever_is_interrupted_at_any_step_leaves_nothing(served: bool, stride: int) -> None:
    """Ctrl-C in the main thread: while it gets in line, waits, is served, or goes on as a flow and is refused."""
    step = 0
    while interrupted(step, served=served):
        step += stride
    assert step > 100


def test_threads_and_loops_that_share_an_account_never_hold_more_than_its_limit() -> None:
    limit, most, now = 3, 0, 0
    fake = made_up(credits=10**6, limit=limit)
    policy = quick(**PATIENT, exclusive=True)
    guard = Guard(vidu(), policy=policy, api_key=KEY, inner=fake.transport())
    aguard = AsyncGuard(vidu(), policy=policy, api_key=KEY, inner=fake.transport())
    counting = threading.Lock()

    def count(change: int) -> None:
        nonlocal most, now
        with counting:
            now += change
            most = max(most, now)

    def thread() -> None:
        for _ in range(40):
            with guard.reserve(1):
                count(1)
                count(-1)

    workers = [threading.Thread(target=thread) for _ in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert 0 < most <= limit
    most = 0

    async def task() -> None:
        for _ in range(20):
            async with aguard.reserve(1):
                count(1)
                await asyncio.sleep(0)
                count(-1)

    async def tasks() -> None:
        await asyncio.gather(*(task() for _ in range(12)))

    workers = [threading.Thread(target=asyncio.run, args=(tasks(),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert 0 < most <= limit
    for one in (guard, aguard):
        counters = one.engine.store.load(one.account_name(KEY)).counters
        assert counters[Pool("").slots] == limit
        assert counters["credits"] == counters["balance"]
