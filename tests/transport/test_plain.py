"""Plain calls: nobody listens, the price is exact, the books are quiet. They go the quick path, and end like others."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any
from unittest import mock

import httpx
import pytest

from budgetguard import _documents, _http, _plain
from budgetguard.errors import InsufficientCredits
from budgetguard.model import Outcome, Quote, Route, RouteKind, State, TaskSeen, TaskState, Verdict
from budgetguard.ports import Answer
from budgetguard.providers import Vidu
from tests.support.scene import PATIENT, Scene, submit, until
from tests.support.vidu import BODY, HEADERS, HOME, SUBMIT, headers, poll, quick, vidu
from tests.support.ways import Way
from tests.transport.test_outcomes import GIVEN_BACK, UNKNOWN

pytestmark = pytest.mark.anyio


def held(state: State) -> tuple[int, int, int]:
    return state.credits_held, sum(pool.open for pool in state.pools.values()), state.pools[""].running


def taken_quickly(scene: Scene) -> int:
    """How many calls stand on the till: drafts, where the long way leaves records."""
    return sum(books.till.held for books in scene.store._accounts.values())


async def warm(scene: Scene, client: Any) -> None:
    """Make the first calls, which the long way lets through: it reads the balance and learns the account's life."""
    for _ in range(2):
        task = await submit(client)
        assert await scene.way.finished(scene.guard, task)
    await client.get("/ent/v2/credits")
    await submit(client, extensions={"budgetguard": {}})
    assert taken_quickly(scene) == 0


async def test_a_plain_call_leaves_a_draft_that_any_way_of_ending_it_ends(way: Way) -> None:
    scene = Scene(way, quiet=True, limit=9)
    async with scene.client() as client:
        await warm(scene, client)
        before = await way.state(scene.guard)
        told, polled, looked_at = [await submit(client) for _ in range(3)]
        assert taken_quickly(scene) == 3
        scene.clock.advance(11)
        assert await way.finished(scene.guard, told)
        assert not await way.finished(scene.guard, told)
        await client.get(poll(polled))
        assert taken_quickly(scene) == 1
        await client.get("/ent/v2/credits")  # the books move on, and the rest goes the long way
        await client.get(poll(looked_at))
        assert taken_quickly(scene) == 0
        await client.get("/ent/v2/credits")
    state = await way.state(scene.guard)
    assert state.credits_free == before.credits_free - 30 == scene.fake.credits
    assert state.pools[""].free == 9
    assert scene.fake.journal.breaches == 0


@pytest.mark.parametrize("kind", GIVEN_BACK)
async def test_one_the_provider_refused_is_given_back_at_once(kind: str, way: Way) -> None:
    scene = Scene(way, quiet=True, limit=9)
    async with scene.client() as client:
        await warm(scene, client)
        before = await way.state(scene.guard)
        scene.fake.fail_next(kind)
        assert 300 <= (await client.post(SUBMIT, json=BODY)).status_code < 500
        assert held(await way.state(scene.guard)) == held(before)


@pytest.mark.parametrize("kind", UNKNOWN)
async def test_one_nobody_knows_the_end_of_is_held_until_its_lease_ends(kind: str, way: Way) -> None:
    scene = Scene(way, quiet=True, limit=9, policy=quick(**PATIENT, lease=30.0), duration=1000.0)
    async with scene.client() as client:
        await warm(scene, client)
        before = await way.state(scene.guard)
        scene.fake.inject(kind, handled=True)
        try:
            await client.post(SUBMIT, json=BODY)
        except httpx.HTTPError as error:
            assert isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)  # noqa: PT017 - some kinds answer instead
        now = held(await way.state(scene.guard))
        assert (now[0] - before.credits_held, now[1]) == (10, 1)
        gc.collect()
        for _ in range(4):
            scene.clock.advance(16)
            await client.get("/ent/v2/credits")
        assert held(await way.state(scene.guard))[1] == 0
    assert (await way.state(scene.guard)).credits_free == scene.fake.credits


async def test_one_refused_for_want_of_a_slot_goes_back_into_the_line(way: Way) -> None:
    policy = quick(**PATIENT, min_interval=0.0, recheck_after=0.0)  # no time passes in which it could wait
    scene = Scene(way, quiet=True, limit=9, policy=policy)
    async with scene.client() as client:
        await warm(scene, client)
        scene.fake.fail_next("QuotaExceeded")
        await submit(client)
    assert scene.fake.journal.accepted == 4


async def test_one_the_provider_says_is_not_covered_raises_the_same_refusal(way: Way) -> None:
    scene = Scene(way, quiet=True, limit=9)
    async with scene.client() as client:
        await warm(scene, client)
        scene.fake.fail_next("CreditInsufficient")
        with pytest.raises(InsufficientCredits, match="by the provider itself"):
            await client.post(SUBMIT, json=BODY)
        assert held(await way.state(scene.guard))[1] == 0


async def test_one_that_cannot_be_paid_is_refused_before_anything_is_sent(way: Way) -> None:
    scene = Scene(way, quiet=True, limit=99, credits=55)
    async with scene.client() as client:
        await warm(scene, client)
        await submit(client)
        await submit(client)
        with pytest.raises(InsufficientCredits) as caught:
            await submit(client)
    assert (caught.value.needed, caught.value.available) == (10, 5)
    assert scene.fake.journal.breaches == 0


async def test_a_webhook_that_is_quicker_than_the_answer_ends_it_too(way: Way) -> None:
    scene = Scene(way, quiet=True, limit=9)
    async with scene.client() as client:
        await warm(scene, client)
        before = await way.state(scene.guard)
        with mock.patch.object(
            _plain.PlainCall, "settle", autospec=True, side_effect=_plain.PlainCall.settle
        ) as settle:
            (account,) = scene.guard.engine.accounts()
            settle.side_effect = lambda call, verdict, *, over: ended_early(account, call, verdict, over=over)
            await submit(client)
        assert (await way.state(scene.guard)).pools[""].running == before.pools[""].running


REALLY = _plain.PlainCall.settle


def ended_early(account: Any, call: Any, verdict: Verdict, *, over: bool) -> bool:
    """The webhook comes while the answer is on its way."""
    account.ended[verdict.task_id] = TaskSeen(verdict.task_id or "", TaskState.SUCCEEDED)
    return REALLY(call, verdict, over=over)


# -- an adapter that says little ------------------------------------------------------------------------------------


class Priced:
    """Prices by endpoint, and judges by the status alone."""

    name = "priced"
    unit = "credits"
    origins = (HOME,)
    charged_at = "submit"
    settlement_lag = 0.0
    reports_slots = True
    task_lease = 600.0
    key_header = "authorization"

    def __init__(self) -> None:
        self.vidu = Vidu()
        self.asked: list[str] = []

    def match(self, method: str, path: str, query: Mapping[str, str]) -> Route | None:
        self.asked.append(f"match {path}")
        if method == "POST":
            return Route(RouteKind.SUBMIT, path, quote=Quote(10))
        return self.vidu.match(method, path, query)

    def quote(self, route: Route, body: Any) -> Quote:
        raise AssertionError("the route has told the price")

    def verdict(self, route: Route, answer: Answer) -> Verdict:
        return Verdict(Outcome.ACCEPTED if answer.status == 200 else Outcome.REJECTED)

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        self.asked.append("key")
        return self.vidu.key_of(headers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vidu, name)


def priced(way: Way, answer: Any = None) -> tuple[Any, Priced, list[int]]:
    """A client in front of a provider that answers with whatever it is told to."""
    provider, seen = Priced(), [0]

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            row = {"type": "metered", "credit_remain": 1000, "concurrency_limit": 5, "current_concurrency": 0}
            return httpx.Response(200, json={"remains": [{**row, "queue_count": 0}]})
        seen[0] += 1
        return httpx.Response(200, json={"ok": True}) if answer is None else answer()

    guard = way.guard(provider, policy=quick(**PATIENT))
    client: Any = way.client(guard, httpx.MockTransport(handle), base_url=HOME, headers=HEADERS)
    client.guard = guard
    return client, provider, seen


async def test_a_price_that_depends_on_the_endpoint_alone_needs_no_body(way: Way) -> None:
    client, _, seen = priced(way)
    with mock.patch.object(_plain, "decode", side_effect=AssertionError("the body was read")):
        async with client:
            for _ in range(5):
                assert (await client.post("/work", content=b"\xff")).status_code == 200
    assert seen == [5]
    assert held(await way.state(client.guard)) == (50, 0, 0)


async def test_an_answer_is_decoded_only_when_the_adapter_looks_at_it(way: Way) -> None:
    client, _, _ = priced(way)
    with mock.patch.object(_http, "decode", wraps=_documents.decode) as decode:
        async with client:
            for _ in range(3):
                assert (await client.post("/work")).json() == {"ok": True}
    assert decode.call_count == 1  # of the balance


async def test_what_comes_again_is_found_without_asking_the_adapter(way: Way) -> None:
    client, provider, _ = priced(way)
    async with client:
        for _ in range(3):
            await client.post("/work")
        provider.asked.clear()
        for _ in range(3):
            await client.post("/work")
        assert provider.asked == []
        await client.post("/other")
        await client.post("/work?page=2")
        assert [what for what in provider.asked if what.startswith("match")] == ["match /other", "match /work"]


async def test_keys_stay_apart_and_are_kept_nowhere(way: Way) -> None:
    client, provider, _ = priced(way)
    async with client:
        for key in ("vda_one", "vda_two"):
            for _ in range(3):
                await client.post("/work", headers=headers(key))
        names = {client.guard.account_name(key) for key in ("vda_one", "vda_two")}
        assert len(names) == 2
        for key in ("vda_one", "vda_two"):
            assert (await way.state(client.guard, key)).credits_held == 30
        paid = client.client._transport._paid._plain
        kept = repr([paid._accounts, paid._routes, vars(paid)]) + repr(gc.get_referents(paid._accounts))
        assert "vda_one" not in kept
        assert len(paid._accounts) == 2
    assert "key" in provider.asked


async def test_a_key_is_found_wherever_its_header_stands(way: Way) -> None:
    client, _, _ = priced(way)
    async with client:
        for _ in range(3):
            await client.post("/work", headers=[("x-trace", "1"), ("authorization", "Token vda_one")])
            await client.post("/work", headers=[("Authorization", "Token vda_two"), ("x-trace", "1")])
            await client.post("/work", headers=[("x-trace", "1"), ("x-more", "2"), ("AUTHORIZATION", "Token vda_two")])
        assert (await way.state(client.guard, "vda_one")).credits_held == 30
        assert (await way.state(client.guard, "vda_two")).credits_held == 60


async def test_a_header_that_stands_twice_is_left_to_the_adapter(way: Way) -> None:
    client, provider, _ = priced(way)
    async with client:
        twice = [("Authorization", "Token vda_one"), ("authorization", "Token vda_two")]
        for _ in range(2):
            provider.asked.clear()
            await client.post("/work", headers=twice)
            assert "key" in provider.asked


async def test_what_is_remembered_is_bounded(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plain, "_ROUTES_MAX", 3)
    monkeypatch.setattr(_plain, "_ACCOUNTS_MAX", 3)
    client, _, seen = priced(way)
    async with client:
        for number in range(10):
            await client.post(f"/work{number}", headers={**headers(f"vda_{number}"), f"x-{number}": ""})
        paid = client.client._transport._paid._plain
        assert len(paid._routes) <= 3
        assert len(paid._accounts) <= 3
        assert 0 < len(paid._columns) <= 3
    assert seen == [10]


async def test_work_done_while_the_caller_waits_keeps_its_slot_until_the_answer_is_closed(way: Way) -> None:
    def streamed() -> httpx.Response:
        return httpx.Response(200, content=way.chunks([b"a", b"b"]), headers={"content-type": "video/mp4"})

    client, _, _ = priced(way, streamed)
    async with client:
        for _ in range(3):
            await client.post("/work")
        async with client.stream("POST", "/work") as body:
            assert held(await way.state(client.guard))[2] == 1
            async for _ in body.pieces("bytes"):
                pass
        assert held(await way.state(client.guard))[2] == 0


async def test_an_answer_that_came_read_already_is_looked_at_as_it_is(way: Way) -> None:
    packed = {"content-encoding": "gzip", "content-type": "application/json"}

    def zipped() -> httpx.Response:
        import gzip

        return httpx.Response(200, content=gzip.compress(b'{"task_id": "7", "credits": 3}'), headers=packed)

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            row = {"type": "metered", "credit_remain": 1000, "concurrency_limit": 5, "current_concurrency": 0}
            return httpx.Response(200, json={"remains": [{**row, "queue_count": 0}]})
        return zipped()

    guard = way.guard(vidu(), policy=quick(**PATIENT))
    async with way.client(guard, httpx.MockTransport(handle), base_url=HOME, headers=HEADERS) as client:
        assert (await client.post(SUBMIT, json=BODY)).json()["task_id"] == "7"
        assert await way.finished(guard, "7")
    assert (await way.state(guard)).credits_held == 3


async def test_a_call_whose_caller_is_gone_ends_with_its_lease(way: Way) -> None:
    def broken() -> httpx.Response:
        raise KeyboardInterrupt

    client, _, seen = priced(way)
    async with client:
        for _ in range(2):
            await client.post("/work")
    client, _, seen = priced(way, broken)
    async with client:
        with pytest.raises(BaseException):  # noqa: B017, PT011 - as the event loop hands it on
            await client.post("/work")
    assert seen == [1]
    await until(lambda: True)
    assert held(await way.state(client.guard))[:2] == (10, 1)
