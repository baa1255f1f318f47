"""Real SDKs of vendors, pointed at a server on this machine, with the guard in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from budgetguard.errors import CreditsUnavailable, InsufficientCredits, QueueTimeout, Refused
from budgetguard.events import Admitted, Event, Queued, RefusedCall
from tests.sdks.studio import PRICE, Studio
from tests.sdks.vendors import VENDORS, Sdk, Vendor
from tests.support.scene import PATIENT, until
from tests.support.served import Served
from tests.support.vidu import quick
from tests.support.ways import Way, way_named

pytestmark = pytest.mark.anyio

TRIES = 3
"""The SDKs' own: a call, and two more."""


@pytest.fixture(params=["blocking", "asyncio"])
def way(request: pytest.FixtureRequest) -> Way:
    return way_named(request.param)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=VENDORS, ids=repr)
def vendor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Vendor:
    chosen: Vendor = request.param
    # They pause before each further try.
    monkeypatch.setattr(f"{chosen.module.__name__}._base_client.INITIAL_RETRY_DELAY", 0.0)
    return chosen


class Door:
    """One server for all tests, as starting one takes longer than a test; each brings its own studio."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def door() -> Iterator[tuple[Door, str]]:
    made = Door()
    made.app = Studio(0, 0).app
    with Served(made) as served:
        yield made, served.url


@pytest.fixture
def studio(door: tuple[Door, str]) -> Iterator[Studio]:
    made = Studio(credits=100, limit=1)
    door[0].app, made.url = made.app, door[1]
    yield made
    made.go.set()


class Shop:
    """A vendor's SDK with a guard in it."""

    def __init__(self, vendor: Vendor, studio: Studio, way: Way, mode: Any, **policy: Any) -> None:
        self.studio = studio
        self.told: list[Event] = []
        self.guard: Any = way.guard(
            vendor.adapter(studio.url, studio.limit),
            policy=quick(**{**PATIENT, **policy}),
            observers=[self.told.append],
        )
        self.sdk = Sdk(vendor, studio.url, way.transport(self.guard, on_refusal=mode), blocking=way.blocking)
        self.module = vendor.module

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.told)


@asynccontextmanager
async def shop(vendor: Vendor, studio: Studio, way: Way, mode: str, **policy: Any) -> AsyncGenerator[Shop]:
    made = Shop(vendor, studio, way, mode, **policy)
    try:
        yield made
    finally:
        await made.sdk.close()


@pytest.mark.parametrize("mode", ["raise", "respond"])
async def test_a_call_that_fits_passes_through_and_its_answer_is_the_vendors(
    vendor: Vendor, studio: Studio, way: Way, mode: str
) -> None:
    async with shop(vendor, studio, way, mode) as here:
        answer = await here.sdk.submit()
        if vendor.poll is None:
            assert answer.data[0].b64_json == "cG5n"
        else:
            assert answer.id == "task-1"
        assert (studio.submits, studio.credits, here.count(Admitted)) == (1, 100 - PRICE, 1)


@pytest.mark.parametrize("mode", ["raise", "respond"])
async def test_a_call_that_finds_no_slot_waits_for_one_and_is_sent_once(
    vendor: Vendor, studio: Studio, way: Way, mode: str
) -> None:
    async with shop(vendor, studio, way, mode) as here:
        if vendor.poll is None:
            studio.go.clear()
        async with anyio.create_task_group() as group:
            group.start_soon(here.sdk.submit)
            await until(lambda: studio.running == 1)
            group.start_soon(here.sdk.submit)
            await until(lambda: here.count(Queued) == 1)
            assert studio.submits == 1
            if vendor.poll is None:
                studio.go.set()
            else:
                studio.end_all()
                await here.sdk.poll("task-1")
            await until(lambda: studio.submits == 2)
    assert studio.refused == []


async def test_where_refusals_are_answered_the_sdk_raises_its_own_error_at_once_and_does_not_try_again(
    vendor: Vendor, studio: Studio, way: Way
) -> None:
    studio.credits = PRICE - 1
    async with shop(vendor, studio, way, "respond") as here:
        with pytest.raises(here.module.APIStatusError) as raised:
            await here.sdk.submit()
        assert raised.value.status_code == 402
        body = raised.value.response.json()
        assert (body["title"], body["needed"], body["available"]) == ("InsufficientCredits", PRICE, PRICE - 1)
        assert (studio.submits, here.count(RefusedCall)) == (0, 1)


@pytest.mark.parametrize(("policy", "title"), [({"max_wait": 0.0}, "QueueTimeout"), ({"max_waiting": 0}, "QueueFull")])
async def test_a_line_that_is_too_long_is_a_rate_limit_to_the_sdk_and_not_tried_again_either(
    vendor: Vendor, studio: Studio, way: Way, policy: dict[str, Any], title: str
) -> None:
    studio.limit = 1
    studio.go.clear()
    async with shop(vendor, studio, way, "respond", **policy) as here, anyio.create_task_group() as group:
        group.start_soon(here.sdk.submit)
        await until(lambda: studio.running == 1)
        with pytest.raises(here.module.RateLimitError) as raised:
            await here.sdk.submit()
        assert raised.value.response.json()["title"] == title
        assert (studio.submits, here.count(RefusedCall)) == (1, 1)
        studio.go.set()


async def test_a_balance_that_cannot_be_read_is_a_server_error_to_the_sdk_and_not_tried_again_either(
    vendor: Vendor, studio: Studio, way: Way
) -> None:
    studio.broken = True
    async with shop(vendor, studio, way, "respond") as here:
        with pytest.raises(here.module.InternalServerError) as raised:
            await here.sdk.submit()
        assert raised.value.status_code == 503
        assert (studio.submits, here.count(RefusedCall)) == (0, 1)


async def test_where_refusals_are_raised_the_sdk_tries_again_and_wraps_the_last_in_its_connection_error(
    vendor: Vendor, studio: Studio, way: Way
) -> None:
    studio.credits = PRICE - 1
    async with shop(vendor, studio, way, "raise") as here:
        with pytest.raises(here.module.APIConnectionError) as raised:
            await here.sdk.submit()
        cause = raised.value.__cause__
        assert isinstance(cause, InsufficientCredits)
        assert (cause.needed, cause.available) == (PRICE, PRICE - 1)
        assert (studio.submits, here.count(RefusedCall)) == (0, TRIES)


@pytest.mark.parametrize("kind", [QueueTimeout, CreditsUnavailable])
async def test_whatever_the_refusal_it_is_the_cause(
    vendor: Vendor, studio: Studio, way: Way, kind: type[Refused]
) -> None:
    studio.broken = kind is CreditsUnavailable
    studio.go.clear()
    async with shop(vendor, studio, way, "raise", max_wait=0.0) as here, anyio.create_task_group() as group:
        if kind is QueueTimeout:
            group.start_soon(here.sdk.submit)
            await until(lambda: studio.running == 1)
        with pytest.raises(here.module.APIConnectionError) as raised:
            await here.sdk.submit()
        assert isinstance(raised.value.__cause__, kind)
        assert studio.submits == (kind is QueueTimeout)
        studio.go.set()


async def test_without_tries_of_its_own_the_sdk_passes_a_raised_refusal_on_at_once(
    vendor: Vendor, studio: Studio, way: Way
) -> None:
    studio.credits = 0
    async with shop(vendor, studio, way, "raise") as here:
        here.sdk.client = here.sdk.client.with_options(max_retries=0)
        with pytest.raises(here.module.APIConnectionError) as raised:
            await here.sdk.submit()
        assert isinstance(raised.value.__cause__, InsufficientCredits)
        assert here.count(RefusedCall) == 1


async def test_a_batch_through_an_sdk_meets_no_refusal_of_the_providers(
    vendor: Vendor, studio: Studio, way: Way
) -> None:
    studio.credits, studio.limit = 6 * PRICE + 1, 2
    refused: list[Exception] = []
    async with shop(vendor, studio, way, "respond") as here:

        async def one() -> None:
            try:
                answer = await here.sdk.submit()
            except here.module.APIStatusError as error:
                refused.append(error)
                return
            if vendor.poll is not None:
                studio.tasks[answer.id] = False
                await here.sdk.poll(answer.id)

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(one)
    assert studio.refused == []
    assert (studio.submits, studio.credits, len(refused)) == (6, 1, 4)
