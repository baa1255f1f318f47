"""What happens when the provider refuses a call the guard had let through."""

from __future__ import annotations

import gzip
import json
import threading
import time
from typing import Any

import anyio
import httpx
import pytest

from budgetguard.errors import InsufficientCredits, QueueTimeout
from budgetguard.events import Admitted, Paused, Queued, RefusedByProvider, Released
from tests.support.raw_server import RawServer, Seen, Wire, answer, credits_answer
from tests.support.scene import PATIENT, Scene, submit, until
from tests.support.vidu import BODY, HEADERS, HOME, SUBMIT, made_up, poll, quick, vidu
from tests.support.ways import Way

pytestmark = pytest.mark.anyio
NO_CREDITS = {"code": 400, "reason": "CreditInsufficient", "message": "insufficient credits", "metadata": {}}


def over_sockets(way: Way, url: str, **settings: Any) -> Any:
    return way.guard(vidu(url), policy=quick(**settings))


# -- concurrency ----------------------------------------------------------------------------------------------------


async def test_a_call_refused_for_concurrency_goes_back_into_the_line_and_succeeds(way: Way) -> None:
    fake = made_up()
    fake.inject("QuotaExceeded", times=3)
    with fake.serve() as url:
        guard = over_sockets(way, url)
        async with way.client(guard, base_url=url, headers=HEADERS) as client:
            await submit(client)
        state = await way.state(guard)
    assert fake.journal.submits == 4
    assert (state.pools[""].open, state.pools[""].running) == (0, 1)
    assert state.credits_free == 490


@pytest.mark.parametrize("bound", [0, 1, 3])
async def test_a_call_is_sent_again_only_so_often_and_then_the_refusal_reaches_the_caller(bound: int, way: Way) -> None:
    scene = Scene(way, policy=quick(resend_max=bound, **PATIENT))
    scene.fake.inject("TooManyRequests", times=None, retry_after=0)
    async with scene.client() as client:
        response = await client.post(SUBMIT, json=BODY)
    assert (response.status_code, response.json()["reason"]) == (429, "TooManyRequests")
    assert scene.fake.journal.submits == bound + 1
    assert [event.resent for event in scene.told(RefusedByProvider)] == [True] * bound + [False]
    assert len(scene.told(Released)) == bound + 1
    state = await way.state(scene.guard)
    assert (state.credits_held, state.pools[""].open) == (0, 0)


@pytest.mark.parametrize("kind", ["QuotaExceeded", "TooManyRequests"])
async def test_a_streamed_body_is_sent_once_and_the_refusal_reaches_the_caller(kind: str, way: Way) -> None:
    fake = made_up()
    fake.inject(kind, retry_after=0.001)
    with fake.serve() as url:
        guard = over_sockets(way, url)
        async with way.client(guard, base_url=url, headers=HEADERS) as client:
            response = await client.post(
                SUBMIT,
                content=way.chunks([json.dumps(BODY).encode()]),
                headers={"content-type": "application/json"},
                extensions={"budgetguard": {"credits": 10}},
            )
        assert (response.status_code, response.json()["reason"]) == (429, kind)
        assert fake.journal.submits == 1
        assert (await way.state(guard)).credits_held == 0


async def test_a_streamed_body_that_was_read_for_its_price_can_be_sent_again(way: Way) -> None:
    fake = made_up()
    fake.inject("QuotaExceeded")
    with fake.serve() as url:
        guard = over_sockets(way, url)
        async with way.client(guard, base_url=url, headers=HEADERS) as client:
            sent = {"content-type": "application/json"}
            response = await client.post(SUBMIT, content=way.chunks([json.dumps(BODY).encode()]), headers=sent)
        assert response.status_code == 200


async def test_a_refused_call_does_not_keep_its_connection_while_it_waits(way: Way) -> None:
    fake = made_up()
    fake.inject("QuotaExceeded", times=2)
    with fake.serve() as url:
        guard = over_sockets(way, url)
        inner = way.inner(limits=httpx.Limits(max_connections=1))
        async with way.client(guard, inner, base_url=url, headers=HEADERS, timeout=2.0) as client:
            with anyio.fail_after(5):
                await submit(client)
    assert fake.journal.accepted == 1


async def test_a_refused_call_keeps_its_place_before_those_who_came_later(way: Way) -> None:
    order: list[str] = []
    first_arrived, release = threading.Event(), threading.Event()

    def say(seen: Seen, wire: Wire) -> None:
        if seen.path != SUBMIT:
            wire.send(answer(b'{"id":"1","state":"success"}'))
            return
        name = json.loads(seen.body)["prompt"]
        order.append(name)
        if order == ["first"]:
            first_arrived.set()
            release.wait(5)
            wire.send(answer(b'{"reason":"QuotaExceeded"}', "429 Too Many"))
        else:
            wire.send(answer(json.dumps({"task_id": name, "state": "success", "credits": 10}).encode()))

    with RawServer(say) as server:
        server._credits = credits_answer(1000, limit=1)
        events = list[Any]()
        guard = way.guard(vidu(server.url), policy=quick(**PATIENT), observers=[events.append])
        async with (
            way.client(guard, base_url=server.url, headers=HEADERS) as client,
            anyio.create_task_group() as group,
        ):

            async def call(name: str) -> None:
                await client.post(SUBMIT, json={**BODY, "prompt": name})

            group.start_soon(call, "first")
            await until(first_arrived.is_set)
            for number in range(3):
                group.start_soon(call, f"later {number}")
            await until(lambda: sum(isinstance(event, Queued) for event in events) == 3)
            release.set()
    assert order[:2] == ["first", "first"]
    assert sorted(order[2:]) == ["later 0", "later 1", "later 2"]


# -- rate -----------------------------------------------------------------------------------------------------------


async def test_a_rate_refusal_pauses_the_account_as_long_as_asked_for(way: Way) -> None:
    times: list[float] = []

    def say(seen: Seen, wire: Wire) -> None:
        times.append(time.monotonic())
        refused = answer(b'{"reason":"TooManyRequests"}', "429 Slow Down", headers=[("Retry-After", "0.05")])
        wire.send(refused if len(times) == 1 else answer(b'{"task_id":"1","credits":10}'))

    with RawServer(say) as server:
        guard = over_sockets(way, server.url)
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            await submit(client)
    assert 0.05 <= times[1] - times[0] < 1.0


async def test_a_pause_holds_for_other_callers_and_other_guards_of_the_account(way: Way) -> None:
    fake, events = made_up(), list[Any]()
    fake.inject("SystemThrottling", retry_after=0.08)
    first = way.guard(vidu(), policy=quick(), observers=[events.append])
    second = way.guard(vidu(), policy=quick(), store=first.engine.store)
    async with (
        way.client(first, fake.transport(), base_url=HOME, headers=HEADERS) as client,
        way.client(second, fake.transport(), base_url=HOME, headers=HEADERS) as elsewhere,
    ):
        began = time.monotonic()
        async with anyio.create_task_group() as group:
            group.start_soon(submit, client)
            await until(lambda: [event for event in events if isinstance(event, Paused)])
            for caller in (client, elsewhere):
                with pytest.raises(QueueTimeout):
                    await submit(caller, extensions={"budgetguard": {"deadline": 0.01}})
                group.start_soon(submit, caller)
            assert 0 < (await way.state(second)).paused <= 0.08
            assert fake.journal.submits == 1
        assert time.monotonic() - began >= 0.08
    assert fake.journal.accepted == 3
    assert (await way.state(second)).credits_held == 30


async def test_without_retry_after_the_pause_grows_with_each_refusal(way: Way) -> None:
    scene = Scene(way, policy=quick(**{**PATIENT, "resend_max": 0, "backoff": 4.0, "backoff_max": 60.0}))
    async with scene.client() as client:
        scene.fake.inject("TooManyRequests", times=1)
        assert (await client.post(SUBMIT, json=BODY)).status_code == 429
        (paused,) = scene.told(Paused)
        assert 2.0 <= paused.seconds <= 4.0
        assert (await way.state(scene.guard)).paused == pytest.approx(paused.seconds, abs=0.001)


async def test_polls_and_questions_for_the_balance_are_not_held_up_by_a_pause(way: Way) -> None:
    scene = Scene(way, policy=quick(resend_max=0, **PATIENT))
    scene.fake.inject("TooManyRequests", retry_after=1000)
    async with scene.client() as client:
        await client.post(SUBMIT, json=BODY)
        with anyio.fail_after(2):
            assert (await client.get(poll("1"))).status_code == 404
            assert (await client.get("/ent/v2/credits")).status_code == 200


# -- credits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
async def test_the_providers_own_refusal_for_credits_is_ours_with_its_answer_attached(packed: bool, way: Way) -> None:
    data = json.dumps(NO_CREDITS).encode()
    headers = [("X-Request-Id", "r-1")]
    if packed:
        data = gzip.compress(data)
        headers.append(("Content-Encoding", "gzip"))
    with RawServer(lambda seen, wire: wire.send(answer(data, "400 Bad Request", headers=headers))) as server:
        guard = over_sockets(way, server.url)
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            with pytest.raises(InsufficientCredits, match="by the provider itself") as refused:
                await client.post(SUBMIT, json=BODY)
        error = refused.value
        assert error.by_provider
        assert (error.needed, error.balance) == (10, 1_000_000)
        response = error.response
        assert response.status_code == 400
        assert response.json() == NO_CREDITS
        assert response.headers["x-request-id"] == "r-1"
        assert json.loads(json.dumps(error.facts))["by_provider"] is True
        assert (await way.state(guard)).credits_held == 0


async def test_a_refusal_for_credits_that_is_no_json_is_attached_whole(way: Way) -> None:
    page = answer(b"<h1>Pay up</h1>", "402 Payment Required", type="text/html")
    with RawServer(lambda seen, wire: wire.send(page)) as server:
        guard = over_sockets(way, server.url)
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            with pytest.raises(InsufficientCredits) as refused:
                await client.post(SUBMIT, json=BODY)
        assert refused.value.response.text == "<h1>Pay up</h1>"


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b" " * (64 * 1024 * 1024))], ids=["damaged", "a bomb"])
async def test_a_refusal_that_cannot_be_unpacked_is_attached_without_its_body(body: bytes, way: Way) -> None:
    page = answer(body, "402 Payment Required", headers=[("Content-Encoding", "gzip"), ("X-Request-Id", "r-1")])
    with RawServer(lambda seen, wire: wire.send(page)) as server:
        guard = over_sockets(way, server.url)
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            with pytest.raises(InsufficientCredits) as refused:
                await client.post(SUBMIT, json=BODY)
        assert (refused.value.response.content, refused.value.response.headers["x-request-id"]) == (b"", "r-1")
        assert (await way.state(guard)).credits_held == 0


async def test_with_answers_for_refusals_the_provider_speaks_for_itself(way: Way) -> None:
    data = answer(json.dumps(NO_CREDITS).encode(), "400 Bad Request", headers=[("X-Request-Id", "r-1")])
    with RawServer(lambda seen, wire: wire.send(data)) as server:
        guard = over_sockets(way, server.url)
        async with way.client(guard, base_url=server.url, headers=HEADERS, on_refusal="respond") as client:
            response = await client.post(SUBMIT, json=BODY)
        assert (response.status_code, response.json()) == (400, NO_CREDITS)
        assert response.headers["x-request-id"] == "r-1"
        assert "x-should-retry" not in response.headers


async def test_after_a_refusal_for_credits_the_next_call_looks_again_first(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        await submit(client)
        scene.fake.stranger_takes(credits=490)
        scene.clock.advance(1)
        with pytest.raises(InsufficientCredits) as refused:
            await submit(client)
        assert refused.value.by_provider
        scene.clock.advance(1)
        with pytest.raises(InsufficientCredits) as again:
            await submit(client)
        assert not again.value.by_provider
        assert again.value.balance == 0
    assert scene.fake.journal.refused_credits == 1
    assert len(scene.told(Admitted)) == 2


async def test_a_connection_is_free_again_after_the_providers_refusal_was_raised(way: Way) -> None:
    data = answer(json.dumps(NO_CREDITS).encode(), "400 Bad Request")
    with RawServer(lambda seen, wire: wire.send(data)) as server:
        guard = over_sockets(way, server.url)
        inner = way.inner(limits=httpx.Limits(max_connections=1))
        async with way.client(guard, inner, base_url=server.url, headers=HEADERS, timeout=2.0) as client:
            for _ in range(3):
                with pytest.raises(InsufficientCredits):
                    await client.post(SUBMIT, json=BODY)
