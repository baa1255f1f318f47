"""Guards whose store goes away in the middle of their work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from budgetguard._core.counters import SERIAL
from budgetguard.errors import StoreError
from budgetguard.events import Event, StoreFound, StoreLost
from budgetguard.guard import Guard
from budgetguard.stores.grace import GraceStore
from budgetguard.stores.memory import MemoryStore
from budgetguard.stores.redis import RedisStore
from budgetguard.testing import ManualClock
from tests.support.failing import FailingStore
from tests.support.scene import PATIENT, submit
from tests.support.valkey import ValkeyServer
from tests.support.vidu import BODY, CREDITS, HEADERS, HOME, PRICE, SUBMIT, made_up, poll, quick, vidu
from tests.support.ways import Caller, Way, way_named

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def way(request: pytest.FixtureRequest) -> Way:
    return way_named(request.param)


@pytest.fixture
def anyio_backend(way: Way) -> str:
    return "trio" if str(way) == "trio" else "asyncio"


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    try:
        yield server.start()
    finally:
        server.close()


async def test_calls_go_on_while_the_server_is_gone_then_stop_and_its_numbers_are_right_when_it_is_back(
    way: Way, server: ValkeyServer
) -> None:
    clock = ManualClock(1000.0)
    store = GraceStore(RedisStore(server.url, timeout=0.2), 30.0, serial=SERIAL, clock=clock)
    fake = made_up(credits=10 * PRICE, limit=9)
    policy = quick(**PATIENT, lease=1.0)
    guard = way.guard(vidu(), store=store, policy=policy)
    async with way.client(guard, fake.transport(), base_url=HOME, headers=HEADERS) as client:
        for _ in range(3):
            await submit(client)
        server.client.save()
        server.stop()
        for _ in range(4):
            await submit(client)
        clock.advance(31.0)
        for _ in range(2):
            with pytest.raises(StoreError, match="gave no answer"):
                await client.post(SUBMIT, json=BODY)
        assert (fake.journal.breaches, fake.journal.accepted) == (0, 7)
        server.start()
        state = await way.state(guard)
        assert (state.credits_free, state.pools[""].free, state.pools[""].open) == (3 * PRICE, 2, 4)
        await submit(client)
        with anyio.fail_after(20):
            while state.credits_held or state.pools[""].open or state.pools[""].free != 1:
                # The leases of those whose answers could not be booked end, and the next reading shows them.
                await client.get(CREDITS)
                await anyio.sleep(0.02)
                state = await way.state(guard)
        assert state.credits_free == fake.credits == 2 * PRICE
    store.close()


class Gone:
    """A guard whose store fails, with the wrapper it makes by itself."""

    def __init__(self, way: Way, **settings: Any) -> None:
        self.way = way
        self.clock = ManualClock(1000.0)
        self.fake = made_up(clock=self.clock, credits=10 * PRICE, limit=3, duration=10.0)
        self.store = FailingStore(MemoryStore(self.clock))
        self.events: list[Event] = []
        self.guard = way.guard(
            vidu(), store=self.store, policy=quick(**PATIENT, **settings), observers=[self.events.append]
        )

    def client(self) -> Caller:
        return self.way.client(self.guard, self.fake.transport(), base_url=HOME, headers=HEADERS)


async def test_a_guard_that_was_told_so_bridges_its_store_and_tells_its_observers(way: Way) -> None:
    gone = Gone(way, store_grace=60.0)
    async with gone.client() as client:
        await submit(client)
        gone.store.be("gone")
        task = await submit(client)
        gone.store.be("fine")
        await client.get(poll(task))
        gone.clock.advance(1.0)
        while not any(isinstance(event, StoreFound) for event in gone.events):
            await anyio.sleep(0.01)
            await gone.way.state(gone.guard)
    told = [event for event in gone.events if isinstance(event, StoreLost | StoreFound)]
    assert [type(event) for event in told] == [StoreLost, StoreFound]
    assert isinstance(told[1], StoreFound)
    assert told[1].holds == 1
    state = await way.state(gone.guard)
    assert (state.pools[""].open, state.pools[""].running, state.credits_free) == (1, 1, 8 * PRICE)


async def test_whoever_waits_in_line_while_the_store_is_gone_is_told_that_it_is(way: Way) -> None:
    gone = Gone(way, store_grace=0.2, lease=0.6)
    async with gone.client() as client:
        for _ in range(3):
            await submit(client)
        gone.store.be("gone")
        with anyio.fail_after(10), pytest.raises(StoreError, match="gave no answer"):
            await client.post(SUBMIT, json=BODY)
    assert gone.fake.journal.breaches == 0


async def test_a_guard_that_was_not_told_so_admits_nobody_without_its_store(way: Way) -> None:
    gone = Gone(way)
    assert not isinstance(gone.guard.engine.store, GraceStore)
    async with gone.client() as client:
        await submit(client)
        gone.store.be("gone")
        with pytest.raises(StoreError):
            await client.post(SUBMIT, json=BODY)
    assert gone.fake.journal.accepted == 1


def test_closing_a_guard_leaves_a_store_open_that_it_did_not_make() -> None:
    store = FailingStore(MemoryStore())
    Guard(vidu(), store=store, policy=quick(store_grace=1.0)).close()
    assert store.closed == 0
