"""What each way a call can end does to what was held for it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from budgetguard.events import Expired, OutcomeUnknown, Released, Settled
from budgetguard.model import State
from tests.support.raw_server import RawServer, answer
from tests.support.scene import PATIENT, Scene, submit
from tests.support.vidu import BODY, HEADERS, HOME, KEY, SUBMIT, quick, vidu
from tests.support.ways import Way

pytestmark = pytest.mark.anyio

UNKNOWN = [
    "html_502",
    "http_499",
    "http_500",
    "http_502",
    "http_503",
    "InternalServiceFailure",
    "Canceled",
    "drop_before_accept",
    "drop_after_accept",
    "reset_before_accept",
    "reset_after_accept",
    "cut_body",
    "empty",
    "not_json",
    "wrong_shape",
]
GIVEN_BACK = ["redirect", "FieldLacking", "Unauthorized", "Forbidden", "NotFound", "Conflict", "AuditSubmitIllegal"]


def held(state: State) -> tuple[int, int]:
    return state.credits_held, sum(pool.open for pool in state.pools.values())


@pytest.mark.parametrize("kind", GIVEN_BACK)
async def test_a_call_the_provider_refused_or_sent_elsewhere_is_given_back_at_once(kind: str, way: Way) -> None:
    scene = Scene(way)
    scene.fake.fail_next(kind)
    async with scene.client() as client:
        assert 300 <= (await client.post(SUBMIT, json=BODY)).status_code < 500
        assert held(await way.state(scene.guard)) == (0, 0)
    assert len(scene.told(Released)) == 1


async def test_leases_given_as_whole_numbers_end_like_any_other(way: Way) -> None:
    scene = Scene(way, policy=quick(**PATIENT, lease=30, task_lease=900))
    scene.fake.fail_next("drop_before_accept")
    async with scene.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(SUBMIT, json=BODY)
        scene.clock.advance(31)
        for _ in range(2):
            await client.get("/ent/v2/credits")
            scene.clock.advance(1)
        assert held(await way.state(scene.guard)) == (0, 0)


@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.parametrize("kind", UNKNOWN)
async def test_a_call_nobody_knows_the_end_of_is_held_until_its_lease_ends_and_a_reading_settles_it(
    kind: str, handled: bool, way: Way
) -> None:
    scene = Scene(way, policy=quick(**PATIENT, lease=30.0))
    scene.fake.inject(kind, handled=handled)
    async with scene.client() as client:
        try:
            await client.post(SUBMIT, json=BODY)
        except httpx.HTTPError as error:
            assert isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)  # noqa: PT017 - some kinds answer instead
        assert held(await way.state(scene.guard)) == (10, 1)
        scene.clock.advance(29)
        await client.get("/ent/v2/credits")
        assert held(await way.state(scene.guard)) == (10, 1)
        scene.clock.advance(2)
        # The first reading after it finds the lease ended, and the one after that shows what became of it.
        for _ in range(2):
            await client.get("/ent/v2/credits")
            scene.clock.advance(1)
        state = await way.state(scene.guard)
        assert held(state) == (0, 0)
        assert state.credits_free == scene.fake.credits == (490 if handled else 500)
    (unknown,) = scene.told(OutcomeUnknown)
    (expired,) = [event for event in scene.told(Expired) if event.what == "call"]
    assert unknown.reservation == expired.reservation
    assert scene.told(Settled) == scene.told(Released) == []


async def test_a_call_whose_answer_is_late_is_held(way: Way) -> None:
    scene = Scene(way)
    scene.fake.inject("slow", seconds=1.0)
    async with scene.client(timeout=0.02) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(SUBMIT, json=BODY)
        assert held(await way.state(scene.guard)) == (10, 1)


NOT_SENT: list[type[Exception]] = [
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.ProxyError,
]
MAYBE_SENT: list[type[Exception]] = [
    httpx.ReadError,
    httpx.WriteError,
    httpx.WriteTimeout,
    httpx.ReadTimeout,
    httpx.CloseError,
    httpx.RemoteProtocolError,
    RuntimeError,
    OSError,
]


class Failing(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Fails paid calls in one way, and passes the rest on."""

    def __init__(self, inner: Any, error: Exception) -> None:
        self.inner, self.error = inner, error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == SUBMIT:
            raise self.error
        response: httpx.Response = self.inner.handle_request(request)
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


@pytest.mark.parametrize("kind", NOT_SENT + MAYBE_SENT)
async def test_errors_that_prove_nothing_was_sent_give_back_and_all_others_hold(
    kind: type[Exception], way: Way
) -> None:
    scene, error = Scene(way), kind("made up")
    inner = Failing(scene.fake.transport(), error)
    async with way.client(scene.guard, inner, base_url=HOME, headers=HEADERS) as client:
        with pytest.raises(kind) as raised:
            await client.post(SUBMIT, json=BODY)
    assert raised.value is error
    assert held(await way.state(scene.guard)) == ((0, 0) if kind in NOT_SENT else (10, 1))


async def test_a_server_that_is_gone_takes_nothing(way: Way) -> None:
    with RawServer(lambda seen, wire: None) as server:
        guard = way.guard(vidu(server.url), policy=quick(on_credits_error="open"))
    async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
        with pytest.raises(httpx.ConnectError):
            await client.post(SUBMIT, json=BODY)
    assert held(await way.state(guard, KEY)) == (0, 0)


async def test_an_error_is_the_one_a_plain_client_raises_with_its_request(way: Way) -> None:
    with RawServer(lambda seen, wire: wire.drop()) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        raised: list[httpx.RequestError] = []
        for guarded in (guard, None):
            async with way.client(guarded, base_url=server.url, headers=HEADERS) as client:
                with pytest.raises(httpx.RemoteProtocolError) as error:
                    await client.post(SUBMIT, json=BODY)
                raised.append(error.value)
        ours, plain = raised
        assert (type(ours), str(ours), str(ours.request.url)) == (type(plain), str(plain), str(plain.request.url))
        assert ours.__cause__.__class__ is plain.__cause__.__class__


async def test_a_charge_that_differs_from_the_price_is_what_counts(way: Way) -> None:
    for charge in (0, 3, 10, 25):
        scene = Scene(way, charge=charge)
        async with scene.client() as client:
            await submit(client)
            state = await way.state(scene.guard)
        assert (state.credits_held, state.credits_free) == (charge, 500 - charge)


async def test_an_adapter_that_fails_to_read_an_answer_does_not_fail_the_call(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise ZeroDivisionError

    scene = Scene(way)
    async with scene.client() as client:
        monkeypatch.setattr("budgetguard.providers.vidu.verdict", broken)
        monkeypatch.setattr("budgetguard.providers.vidu.observe", broken)
        task = await submit(client)
        assert held(await way.state(scene.guard)) == (10, 1)
        assert (await client.get(f"/ent/v2/tasks/{task}/creations")).status_code == 200


async def test_an_observer_that_fails_does_not_fail_the_call(way: Way) -> None:
    def broken(event: object) -> None:
        raise ZeroDivisionError

    with RawServer(lambda seen, wire: wire.send(answer(b'{"task_id":"1","credits":10}'))) as server:
        guard = way.guard(vidu(server.url), policy=quick(), observers=[broken])
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            await submit(client)
