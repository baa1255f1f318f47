"""Those who wait and never come back: their loop was closed, or the collector took them. Nobody is kept by them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from budgetguard import AsyncGuard
from budgetguard._core.counters import Pool
from budgetguard.errors import PermitError, QueueFull
from budgetguard.stores import MemoryStore
from budgetguard.testing import FakeVidu, ManualClock
from tests.support.scene import PATIENT, until
from tests.support.vidu import KEY, made_up, quick, vidu


class Scene:
    """A guard whose plain permits go the quick path, and whose only slot is held."""

    def __init__(self, **policy: Any) -> None:
        self.clock = ManualClock(1000.0)
        self.store = MemoryStore(clock=self.clock)
        self.fake: FakeVidu = made_up(credits=1000, limit=1)
        self.policy = quick(**PATIENT, min_interval=0.0, **policy)
        self.guard = AsyncGuard(vidu(), store=self.store, policy=self.policy, api_key=KEY, inner=self.fake.transport())
        self.held: Any = None
        self.waiter: Any = None

    async def warm(self) -> None:
        for _ in range(2):
            await (await self.guard.reserve(0)).release()
        self.held = await self.guard.reserve(10)

    async def stand(self, **given: Any) -> None:
        async with self.guard.reserve(10, **given):
            pass

    @property
    def account(self) -> Any:
        return self.guard.engine.named(self.guard.account_name(KEY))

    def counters(self) -> dict[str, int]:
        return dict(self.store.load(self.guard.account_name(KEY)).counters)

    async def in_line(self, many: int) -> None:
        await until(lambda: len(self.account.line("")) == many)

    def drop_one_in_line(self) -> Any:
        """Begin to wait, as far as that goes without a loop's help."""
        dropped = self.stand()
        with contextlib.suppress(StopIteration):
            dropped.send(None)
        assert len(self.account.line("")) == 1
        return dropped


@contextlib.contextmanager
def abandoned_loop() -> Generator[asyncio.AbstractEventLoop]:
    """A loop that is closed with tasks that still wait, of which it complains."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    try:
        yield loop
    finally:
        loop.close()


# What is left in a loop that is gone is collected here, not in a later test; it cannot clean up any more.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("given", [{}, {"tags": ["as a flow"]}])
def test_who_waits_in_a_loop_that_was_closed_is_passed_over(elsewhere: bool, given: dict[str, Any]) -> None:
    scene = Scene()

    async def wait() -> None:
        await scene.warm()
        scene.waiter = asyncio.ensure_future(scene.stand(**given))
        await scene.in_line(1)

    async def go_on() -> None:
        await scene.held.release()
        await asyncio.wait_for(scene.stand(), 5)
        done.append(True)

    done: list[bool] = []
    with abandoned_loop() as loop:
        loop.run_until_complete(wait())
    if elsewhere:
        thread = threading.Thread(target=asyncio.run, args=(go_on(),))
        thread.start()
        thread.join()
    else:
        asyncio.run(go_on())
    assert done == [True]
    assert scene.counters()[Pool("").slots] == 1
    scene.waiter = None
    gc.collect()


async def _full(scene: Scene) -> None:
    await scene.warm()
    scene.drop_one_in_line().close()
    scene.held = None  # so nobody is left who could hand anything on
    gc.collect()
    scene.clock.advance(1000.0)  # the leases are over, and the reading is old


def test_those_who_are_gone_do_not_fill_the_line() -> None:
    scene = Scene(max_waiting=1)

    async def run() -> None:
        await _full(scene)
        await asyncio.wait_for(scene.stand(tags=["as a flow"]), 5)

    asyncio.run(run())


def test_those_who_stand_in_a_full_line_still_keep_others_out() -> None:
    scene = Scene(max_waiting=1)

    async def run() -> None:
        await scene.warm()
        waiter = asyncio.ensure_future(scene.stand())
        await scene.in_line(1)
        with pytest.raises(QueueFull):
            await scene.stand()
        await scene.held.release()
        await waiter

    asyncio.run(run())


def test_whoever_does_not_wait_gets_a_slot_for_which_only_those_wait_who_are_gone() -> None:
    scene = Scene()

    async def run() -> None:
        await _full(scene)
        permit = await scene.guard.try_reserve(10)
        assert permit is not None
        await permit.release()

    asyncio.run(run())


def test_a_waiter_may_be_collected_while_his_account_is_locked() -> None:
    """The collector comes in the middle of anything, in a thread that may hold any lock."""
    scene = Scene()
    dropped: Any = None

    def collect() -> None:
        with scene.account.lock:
            dropped.close()

    async def run() -> None:
        nonlocal dropped
        await scene.warm()
        dropped = scene.drop_one_in_line()
        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
        await scene.held.release()
        await asyncio.wait_for(scene.stand(), 5)

    asyncio.run(run())


def test_a_thread_that_runs_a_second_loop_waits_for_the_balance_in_that_one() -> None:
    """Somebody else asks all the while, and the first loop gave up waiting for his answer."""
    fake, asked, answer = made_up(credits=1000, limit=3), threading.Event(), threading.Event()
    inner = fake.transport()

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.set()
            while not answer.is_set():  # noqa: ASYNC110 - it is set in another thread
                await asyncio.sleep(0.001)
            return await inner.handle_async_request(request)

    guard = AsyncGuard(vidu(), policy=quick(**PATIENT), api_key=KEY, inner=Slow())
    had: list[str] = []

    async def get(name: str) -> None:
        async with guard.reserve(10):
            had.append(name)

    async def give_up() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(get("gave up"), 0.01)

    async def again() -> None:
        second = asyncio.ensure_future(get("second loop"))
        await asyncio.sleep(0)
        answer.set()
        await second

    asker = threading.Thread(target=asyncio.run, args=(get("asker"),))
    asker.start()
    try:
        assert asked.wait(5)
        asyncio.run(give_up())
        asyncio.run(again())
    finally:
        answer.set()
        asker.join()
    assert sorted(had) == ["asker", "second loop"]


@pytest.mark.parametrize("given", [{}, {"tags": ["as a flow"]}])
def test_one_task_gets_a_permit_and_another_that_awaits_it_meanwhile_is_told(given: dict[str, Any]) -> None:
    scene = Scene()

    async def run() -> None:
        await scene.warm()
        permit = scene.guard.reserve(10, **given)

        async def get() -> Any:
            return await permit

        first = asyncio.ensure_future(get())
        await scene.in_line(1)
        with pytest.raises(PermitError, match="Another task is getting this permit"):
            await asyncio.wait_for(get(), 5)
        assert permit.state == "waiting"
        await scene.held.release()
        assert await first is permit
        assert await permit is permit
        await permit.release()
        assert scene.counters()[Pool("").slots] == 1
        assert scene.counters()["credits"] == 1000

    asyncio.run(run())


def test_a_permit_nobody_waits_for_any_more_may_be_awaited_anew() -> None:
    scene = Scene()

    async def run() -> None:
        await scene.warm()
        permit = scene.guard.reserve(10)

        async def get() -> Any:
            return await permit

        first = asyncio.ensure_future(get())
        await scene.in_line(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await scene.held.release()
        await (await permit).release()
        assert scene.counters()[Pool("").slots] == 1

    asyncio.run(run())
