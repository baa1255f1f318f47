"""A call interrupted at any of its steps ends once, leaves nothing behind, and passes the turn on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from budgetguard._core import counters as c
from budgetguard._core.counters import Pool
from budgetguard.errors import StoreError
from budgetguard.events import Event, Queued, Released, Settled
from tests.support.scene import until
from tests.support.turnstile import (
    MINE,
    Interruption,
    JumpingClock,
    SteppingStore,
    SteppingTransport,
    Turnstile,
)
from tests.support.vidu import BODY, CREDITS, HEADERS, HOME, KEY, SUBMIT, made_up, poll, quick, vidu
from tests.support.ways import Way

pytestmark = [
    pytest.mark.anyio,
    # What httpx leaves behind on trio when a body ends in an error, guarded or not.
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning"
    ),
]
POOL = Pool("")
VIDU = vidu()  # it never changes, and every step has a stage of its own


class Stage:
    """A provider, a guard, and a client of it, all of whose steps are counted."""

    def __init__(self, way: Way, *, limit: int = 1) -> None:
        self.way = way
        self.clock = JumpingClock()
        self.fake = made_up(credits=500, limit=limit, clock=self.clock, duration=30.0)
        self.store = SteppingStore(clock=self.clock)
        self.inner = SteppingTransport(self.fake.transport())
        self.events: list[Event] = []
        policy = quick(lease=100.0, task_lease=200.0, max_age=50.0, max_stale=5000.0, stale_if_error=5000.0)
        self.guard = way.guard(VIDU, store=self.store, policy=policy, observers=[self.events.append], **self.settings())
        self.client = way.client(self.guard, self.inner, base_url=HOME, headers=HEADERS)

    def settings(self) -> dict[str, Any]:
        """Tell what else its guard is told."""
        return {}

    async def submit(self) -> httpx.Response:
        return await self.client.post(SUBMIT, json=BODY)

    async def interrupted(self, call: Callable[[], Awaitable[Any]], turnstile: Turnstile, *, cancel: bool) -> None:
        """Make the call under test, and interrupt it at its step."""
        token = MINE.set(turnstile)
        try:
            if cancel:
                with anyio.CancelScope() as turnstile.scope:
                    await call()
            else:
                await call()
        except Interruption:
            assert turnstile.struck
        finally:
            MINE.reset(token)

    def counters(self) -> dict[str, int]:
        return self.store.load(self.guard.account_name(KEY)).counters

    def records(self) -> set[str]:
        return set(self.store._accounts[self.guard.account_name(KEY)].records)

    async def settle(self) -> None:
        """Let all leases end and all tasks be seen to end, and read the balance until nothing is in doubt."""
        for _ in range(2):  # one look may leave open what the next decides
            self.clock.ahead += 300.0
            await self.client.get("/ent/v2/tasks", params={"pager.pagesz": "100"})
            await self.client.get(CREDITS)

    def assert_nothing_is_left(self) -> None:
        counters, name = self.counters(), self.guard.account_name(KEY)
        credits, limit = self.fake.credits, self.fake.limit
        assert self.records() == set(), "records"
        assert (counters[c.CREDITS], counters[c.BALANCE]) == (credits, credits)
        assert counters[POOL.slots] == counters[POOL.limit] == limit
        for counter in (POOL.open, POOL.running, c.WAITING, c.SLACK, c.CLAIM):
            assert counters.get(counter, 0) == 0, counter
        account = self.guard.engine.named(name)
        assert [len(line) for line in account.lines.values()] == [0] * len(account.lines)
        assert account.watchers == set()
        assert self.guard.heartbeat._calls == {}
        assert self.inner.open == 0, "answers left open"
        assert self.fake.journal.breaches == 0
        ends = [event.reservation for event in self.events if isinstance(event, Settled | Released)]
        assert len(ends) == len(set(ends)), "a hold ended twice"


async def plain(stage: Stage) -> Callable[[], Awaitable[Any]]:
    return stage.submit


async def refused_once(stage: Stage) -> Callable[[], Awaitable[Any]]:
    stage.fake.fail_next("QuotaExceeded")
    return stage.submit


async def throttled_once(stage: Stage) -> Callable[[], Awaitable[Any]]:
    stage.fake.inject("TooManyRequests", retry_after=0.001)
    return stage.submit


async def rejected(stage: Stage) -> Callable[[], Awaitable[Any]]:
    stage.fake.fail_next("FieldLacking")
    return stage.submit


async def poor(stage: Stage) -> Callable[[], Awaitable[Any]]:
    async def call() -> None:
        with pytest.raises(Exception, match="by the provider"):
            await stage.submit()

    stage.fake.fail_next("CreditInsufficient")
    return call


async def answered_with_a_page(stage: Stage) -> Callable[[], Awaitable[Any]]:
    stage.fake.fail_next("html_502")
    return stage.submit


async def with_a_failed_reading(stage: Stage) -> Callable[[], Awaitable[Any]]:
    stage.fake.fail_next("html_502", on="credits")

    async def call() -> None:
        with pytest.raises(Exception, match="cannot be read"):
            await stage.submit()

    return call


async def polling(stage: Stage) -> Callable[[], Awaitable[Any]]:
    task = (await stage.submit()).json()["task_id"]
    stage.clock.ahead += 40.0
    return lambda: stage.client.get(poll(task))


async def asking_for_the_balance(stage: Stage) -> Callable[[], Awaitable[Any]]:
    return lambda: stage.client.get(CREDITS)


async def synchronous(stage: Stage) -> Callable[[], Awaitable[Any]]:
    extensions = {"budgetguard": {"credits": 10, "slots": 1}}
    return lambda: stage.client.post("/ent/v2/audio-clone", json=BODY, extensions=extensions)


SCENES = [plain, refused_once, throttled_once, rejected, poor, answered_with_a_page, with_a_failed_reading, polling,
          asking_for_the_balance, synchronous]  # fmt: skip
KINDS = {"cancelled": True, "interrupted": False}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", SCENES, ids=[scene.__name__ for scene in SCENES])
async def test_interrupted_anywhere_it_leaves_nothing_behind(scene: Any, kind: str, way: Way) -> None:
    if way.blocking and KINDS[kind]:
        pytest.skip("a thread cannot be cancelled")
    for stop_at in range(1, 200):
        stage = Stage(way, limit=3)
        turnstile = Turnstile(stop_at)
        async with stage.client:
            call = await scene(stage)
            with anyio.fail_after(5):
                await stage.interrupted(call, turnstile, cancel=KINDS[kind])
                stage.fake.clear_injections()
                stage.clock.ahead += 1.0  # past the pause after a failed reading
                assert (await stage.submit()).status_code == 200, "the next call is served"
                await stage.settle()
            try:
                stage.assert_nothing_is_left()
            except AssertionError as error:
                error.add_note(f"interrupted at step {stop_at}")
                raise
        if not turnstile.struck:
            assert stop_at > 5
            return
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("scene", [plain, refused_once, polling, asking_for_the_balance, synchronous])
async def test_a_store_that_fails_once_never_costs_the_caller_an_answer_that_came(scene: Any, way: Way) -> None:
    for stop_at in range(1, 200):
        stage = Stage(way)
        turnstile = Turnstile(stop_at, StoreError("made up"))
        answers: list[httpx.Response] = []
        async with stage.client:
            call = await scene(stage)
            before = len(stage.fake.journal.entries)

            async def attempt(call: Any = call, answers: list[httpx.Response] = answers) -> None:
                try:
                    answers.append(await call())
                except StoreError as error:
                    assert str(error) == "made up"  # noqa: PT017 - it may also succeed

            with anyio.fail_after(5):
                await stage.interrupted(attempt, turnstile, cancel=False)
                accepted = [e for e in stage.fake.journal.entries[before:] if e.fact == "accepted"]
                assert len(answers) == 1 or not accepted, f"paid for and lost at step {stop_at}"
                stage.fake.clear_injections()
                await stage.settle()
            try:
                stage.assert_nothing_is_left()
            except AssertionError as error:
                error.add_note(f"the store failed at step {stop_at}")
                raise
        if not turnstile.struck:
            assert stop_at > 2
            return
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_interrupted_in_line_passes_the_turn_on(kind: str, way: Way) -> None:
    if way.blocking and KINDS[kind]:
        pytest.skip("a thread cannot be cancelled")
    for stop_at in range(1, 200):
        stage = Stage(way)
        turnstile = Turnstile(stop_at)
        done: list[str] = []

        async def behind(stage: Stage = stage, done: list[str] = done) -> None:
            done.append((await stage.submit()).json()["task_id"])

        def in_line(count: int, stage: Stage = stage, turnstile: Turnstile = turnstile) -> bool:
            return turnstile.struck or sum(isinstance(event, Queued) for event in stage.events) >= count

        async with stage.client:
            first = (await stage.submit()).json()["task_id"]
            with anyio.fail_after(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(partial(stage.interrupted, stage.submit, turnstile, cancel=KINDS[kind]))
                    await until(partial(in_line, 1))
                    group.start_soon(behind)
                    await until(partial(in_line, 2))
                    # The first task ends, and whoever is at the head has its turn.
                    stage.clock.ahead += 40.0
                    await stage.client.get(poll(first))
                    while not done:
                        await anyio.sleep(0.001)
                        stage.clock.ahead += 40.0
                        await stage.client.get("/ent/v2/tasks", params={"pager.pagesz": "100"})
                        await stage.client.get(CREDITS)
                await stage.settle()
            try:
                stage.assert_nothing_is_left()
            except AssertionError as error:
                error.add_note(f"interrupted at step {stop_at}")
                raise
        if not turnstile.struck:
            assert stop_at > 5
            return
    raise AssertionError("it never came to an end")


async def test_a_request_over_sockets_can_be_cancelled_at_each_of_its_stages_and_frees_its_connection(
    way: Way,
) -> None:
    if way.blocking:
        pytest.skip("a thread cannot be cancelled")
    fake = made_up(credits=10_000, limit=1000)
    with fake.serve() as url:
        for stop_at in range(1, 50):
            turnstile = Turnstile(stop_at)

            async def trace(name: str, info: Any, turnstile: Turnstile = turnstile) -> None:
                if turnstile.turn() and turnstile.scope is not None:
                    turnstile.scope.cancel()
                    await anyio.lowlevel.checkpoint()

            guard = way.guard(vidu(url), policy=quick())
            inner = way.inner(limits=httpx.Limits(max_connections=1))
            async with way.client(guard, inner, base_url=url, headers=HEADERS, timeout=2.0) as client:
                with anyio.fail_after(5):
                    with anyio.CancelScope() as turnstile.scope:
                        await client.post(SUBMIT, json=BODY, extensions={"trace": trace})
                    assert (await client.get(CREDITS)).status_code == 200
                state = await way.state(guard)
                assert state.pools[""].waiting == 0
                # Nobody can know whether a call cancelled on its way has arrived; one that was not sent is given back.
                assert state.credits_held in (0, 10)
            if not turnstile.struck:
                assert stop_at > 10
                return
    raise AssertionError("it never came to an end")


async def test_closing_the_client_while_others_wait_ends_each_call_once(way: Way) -> None:
    stage = Stage(way)
    ended: list[str] = []

    async def call() -> None:
        try:
            ended.append(str((await stage.submit()).status_code))
        except Exception as error:  # noqa: BLE001 - however it ends
            ended.append(type(error).__name__)

    first = (await stage.submit()).json()["task_id"]
    other = way.client(stage.guard, stage.inner, base_url=HOME, headers=HEADERS)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call)
            await until(lambda: sum(isinstance(event, Queued) for event in stage.events) == 3)
            await stage.client.close()
            while len(ended) < 3:
                await anyio.sleep(0.001)
                stage.clock.ahead += 40.0
                await other.get("/ent/v2/tasks", params={"pager.pagesz": "100"})
                await other.get(CREDITS)
        stage.client = other
        await stage.settle()
        await other.close()
    assert first
    assert len(ended) == 3
    stage.assert_nothing_is_left()


async def test_a_task_group_of_callers_cancelled_as_a_whole_gives_everything_back(way: Way) -> None:
    if way.blocking:
        pytest.skip("a thread cannot be cancelled")
    stage = Stage(way, limit=2)
    async with stage.client:
        for _ in range(2):
            await stage.submit()
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(stage.submit)
            await until(lambda: sum(isinstance(event, Queued) for event in stage.events) == 10)
            group.cancel_scope.cancel()
        state = await way.state(stage.guard)
        assert (state.pools[""].waiting, state.credits_held) == (0, 20)
        assert stage.fake.journal.submits == 2
        await stage.settle()
    stage.assert_nothing_is_left()
