"""The application that takes callbacks, spoken to in plain ASGI."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog.testing

from budgetguard import AsyncGuard, Guard, SettingError, StoreError
from budgetguard.events import Event, TaskEnded
from budgetguard.providers import UdioPro, Vidu
from budgetguard.stores import MemoryStore
from budgetguard.webhooks import WebhookApp, webhook_app
from tests.support.letters import NOW, Post
from tests.support.permits import said
from tests.support.scene import PATIENT, submit
from tests.support.vidu import HOME, KEY, headers, made_up, quick, vidu
from tests.support.ways import Way, way_named

pytestmark = pytest.mark.anyio

OTHER = "vda_27182818284590452353"


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def way(request: pytest.FixtureRequest) -> Way:
    return way_named(request.param)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name = str(request.getfixturevalue("way")) if "way" in request.fixturenames else "asyncio"
    return "trio" if name == "trio" else "asyncio"


class Answer:
    def __init__(self, sent: list[MutableMapping[str, Any]]) -> None:
        start, body = sent
        self.status = int(start["status"])
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.body: bytes = body["body"]
        assert self.headers["content-length"] == str(len(self.body))

    @property
    def detail(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        return str(json.loads(self.body)["detail"])


async def deliver(app: WebhookApp, post: Post, *, pieces: int = 1, **scope: Any) -> Answer:
    """Post a callback, its body in so many pieces."""
    path, _, query = post.target.partition("?")
    size = max(1, -(-len(post.body) // pieces))
    chunks = [post.body[at : at + size] for at in range(0, len(post.body), size)] or [b""]
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await anyio.lowlevel.checkpoint()
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        await anyio.lowlevel.checkpoint()
        sent.append(message)

    usual = {
        "type": "http",
        "method": post.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in post.headers.items()],
    }
    await app({**usual, **scope}, receive, send)
    return Answer(sent)


class Shop:
    """A provider, a guard in front of it, and what takes its callbacks."""

    def __init__(self, way: Way, *, store: Any = None, **settings: Any) -> None:
        self.way = way
        self.fake = made_up()
        self.told: list[Event] = []
        self.store = MemoryStore() if store is None else store
        self.guard: Any = way.guard(
            vidu(), store=self.store, policy=quick(**PATIENT), observers=[self.told.append], api_key=KEY
        )
        self.now = NOW
        self.app = webhook_app(self.guard, clock=lambda: self.now, **settings)

    async def buy(self, key: str = KEY) -> str:
        async with self.way.client(self.guard, self.fake.transport(), base_url=HOME, headers=headers(key)) as client:
            return await submit(client)

    async def running(self, key: str = KEY) -> int:
        return (await self.way.state(self.guard, key)).pools[""].running

    @property
    def ends(self) -> int:
        return sum(isinstance(event, TaskEnded) for event in self.told)


# -- what is taken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["success", "failed"])
async def test_a_genuine_callback_ends_its_task(way: Way, state: str) -> None:
    shop = Shop(way)
    task = await shop.buy()
    assert await shop.running() == 1
    assert (await deliver(shop.app, Post(task, "processing"))).status == 200
    assert await shop.running() == 1
    answer = await deliver(shop.app, Post(task, state, nonce="2"), pieces=7)
    assert (answer.status, answer.body) == (200, b"")
    assert await shop.running() == 0


async def test_repeats_and_wrong_order_change_nothing(way: Way) -> None:
    shop = Shop(way)
    task = await shop.buy()
    last = Post(task, "success", credits=10)
    for post in (last, last, Post(task, "processing", nonce="0"), Post(task, "failed", nonce="3"), last):
        assert (await deliver(shop.app, post)).status == 200
    assert await shop.running() == 0
    assert shop.ends == 1


async def test_the_charge_a_callback_tells_is_counted(way: Way) -> None:
    shop = Shop(way)
    task = await shop.buy()
    before = (await way.state(shop.guard, KEY)).credits_free
    await deliver(shop.app, Post(task, "success", credits=4))
    assert (await way.state(shop.guard, KEY)).credits_free == before + 6


async def test_a_task_nobody_knows_is_taken_and_changes_nothing(way: Way) -> None:
    shop = Shop(way)
    await shop.buy()
    assert (await deliver(shop.app, Post("12345"))).status == 200
    assert await shop.running() == 1


async def test_a_callback_that_overtakes_the_answer_that_names_its_task_counts_too(way: Way) -> None:
    shop = Shop(way)
    first = await shop.buy()
    coming = str(int(first) + 1)
    assert (await deliver(shop.app, Post(coming))).status == 200
    assert await shop.buy() == coming
    assert await shop.running() == 1


async def test_a_process_that_has_just_begun_ends_tasks_an_earlier_one_started(way: Way) -> None:
    shop = Shop(way)
    task = await shop.buy()
    later = Shop(way, store=shop.store)
    assert (await deliver(later.app, Post(task))).status == 200
    assert later.ends == 1
    assert await shop.running() == 0


async def test_without_a_key_too_a_guard_that_has_just_begun_looks_into_its_own_account(way: Way) -> None:
    shop = Shop(way)
    task = await shop.buy()
    later = Shop(way, store=shop.store)
    assert await way.finished(later.guard, task)
    assert await shop.running() == 0


async def test_a_task_of_another_account_is_not_ended_by_a_callback_of_this_one(way: Way) -> None:
    shop = Shop(way, secret=[KEY, OTHER])
    await shop.buy()
    task = await shop.buy(OTHER)
    assert (await deliver(shop.app, Post(task, key=KEY))).status == 200
    assert await shop.running(OTHER) == 1
    assert (await deliver(shop.app, Post(task, key=OTHER, nonce="2"))).status == 200
    assert (await shop.running(), await shop.running(OTHER)) == (1, 0)


async def test_the_address_the_provider_knows_may_differ_from_the_one_that_arrives(way: Way) -> None:
    shop = Shop(way, signed_path="/hooks/vidu")
    task = await shop.buy()
    moved: dict[str, Any] = {"path": "/internal", "raw_path": b"/internal"}
    assert (await deliver(Shop(way).app, Post(task), **moved)).status == 401
    assert (await deliver(shop.app, Post(task), **moved)).status == 200
    assert await shop.running() == 0


async def test_a_server_that_gives_no_raw_path_is_understood(way: Way) -> None:
    shop = Shop(way)
    assert (await deliver(shop.app, Post(url="https://shop.example/a%20b"), path="/a b", raw_path=None)).status == 200


# -- what is not ----------------------------------------------------------------------------------------------------


async def test_a_forged_callback_is_refused(way: Way) -> None:
    shop = Shop(way)
    task = await shop.buy()
    answer = await deliver(shop.app, Post(task, key="guessed"))
    assert answer.status == 401
    assert "signature" in answer.detail
    unsigned = Post(task)
    unsigned.headers = {"Content-Type": "application/json"}
    assert (await deliver(shop.app, unsigned)).status == 401
    assert await shop.running() == 1


async def test_a_callback_from_yesterday_or_tomorrow_is_refused(way: Way) -> None:
    shop = Shop(way)
    task = await shop.buy()
    for at in (NOW - 301, NOW + 61):
        answer = await deliver(shop.app, Post(task, at=at))
        assert answer.status == 401
        assert "Date" in answer.detail or "ago" in answer.detail
    assert await shop.running() == 1


async def test_a_signature_that_was_seen_before_cannot_be_sent_with_another_body(way: Way) -> None:
    shop = Shop(way)
    first, second = await shop.buy(), await shop.buy()
    seen = Post(first)
    assert (await deliver(shop.app, seen)).status == 200
    seen.body = Post(second).body
    answer = await deliver(shop.app, seen)
    assert answer.status == 401
    assert "another body" in answer.detail
    assert await shop.running() == 1


@pytest.mark.parametrize("more", ["\xa0", "\x85", " ", "\t"])
async def test_a_signature_with_a_blank_more_is_the_same_signature(way: Way, more: str) -> None:
    shop = Shop(way)
    first, second = await shop.buy(), await shop.buy()
    seen = Post(first)
    assert (await deliver(shop.app, seen)).status == 200
    seen.body = Post(second).body
    seen.headers["X-HMAC-SIGNATURE"] += more
    assert (await deliver(shop.app, seen)).status == 401
    assert await shop.running() == 1


async def test_no_callback_ends_a_permit(way: Way) -> None:
    shop = Shop(way)
    async with way.client(shop.guard, shop.fake.transport(), base_url=HOME, headers=headers()) as client:
        await submit(client)  # which reads the balance
    permit = await said(shop.guard.reserve(10))
    for word in (permit.token, "bg1.", "bg1.AAAA"):
        assert (await deliver(shop.app, Post(word, nonce=word[-4:]))).status == 200
    assert permit.state == "held"
    assert (await way.state(shop.guard, KEY)).pools[""].open == 1
    await said(permit.release())


async def test_a_header_that_comes_twice_is_none_of_the_two(way: Way) -> None:
    post = Post()
    twice = [(name.lower().encode(), value.encode()) for name, value in post.headers.items()]
    answer = await deliver(Shop(way).app, post, headers=[*twice, (b"date", post.headers["Date"].encode())])
    assert answer.status == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"state": "success"}'])
async def test_a_body_that_cannot_be_read_is_refused_whoever_signed_it(way: Way, body: bytes) -> None:
    post = Post()
    post.body = body
    assert (await deliver(Shop(way).app, post)).status == 400


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(way: Way) -> None:
    shop = Shop(way, body_max=300)
    post = Post(payload="x" * 1000)
    assert (await deliver(shop.app, post, pieces=20)).status == 413
    post.headers["Content-Length"] = "301"
    post.body = b"never looked at"
    assert (await deliver(shop.app, post)).status == 413
    post.headers["Content-Length"] = "9" * 5000
    assert (await deliver(shop.app, post)).status == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "DELETE"])
async def test_only_posting_is_allowed(way: Way, method: str) -> None:
    answer = await deliver(Shop(way).app, Post(), method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


async def test_only_the_path_that_was_named_is_served(way: Way) -> None:
    shop = Shop(way, path="/hooks/vidu")
    assert (await deliver(shop.app, Post())).status == 200
    assert (await deliver(shop.app, Post(url="https://shop.example/hooks"))).status == 404


class Failing(MemoryStore):
    broken = False

    def load(self, *given: Any, **named: Any) -> Any:
        if self.broken:
            raise StoreError("it is not there")
        return super().load(*given, **named)

    async def aload(self, *given: Any, **named: Any) -> Any:
        return self.load(*given, **named)


async def test_while_the_store_fails_the_provider_is_asked_to_send_again(way: Way) -> None:
    store = Failing()
    shop = Shop(way, store=store)
    task = await shop.buy()
    store.broken = True
    answer = await deliver(shop.app, Post(task))
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    store.broken = False
    assert (await deliver(shop.app, Post(task))).status == 200
    assert await shop.running() == 0


async def test_who_hangs_up_in_the_middle_is_not_answered(way: Way) -> None:
    shop = Shop(way)
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    post = Post()
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    await shop.app(scope, receive, send)
    assert post.body


async def test_it_starts_and_stops_with_the_server_and_takes_no_websockets(way: Way) -> None:
    shop = Shop(way)
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        return messages.pop(0)

    async def send(message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        sent.append(message["type"])

    await shop.app({"type": "lifespan"}, receive, send)
    await shop.app({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


async def test_a_refusal_is_logged_once_for_each_kind_and_shows_no_key(way: Way) -> None:
    shop = Shop(way)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await deliver(shop.app, Post(key="guessed"))
    assert [log["event"] for log in logs] == ["callback_refused"]
    assert logs[0]["kind"] == "forged"
    assert KEY not in repr(logs) + repr(shop.app) + repr(vars(shop.app))


# -- how it is made -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_a_guard_of_a_provider_that_signs_nothing_takes_no_callbacks(kind: Callable[..., Any]) -> None:
    with pytest.raises(SettingError, match="not signed"):
        webhook_app(kind(UdioPro()), secret=KEY)


def test_there_must_be_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDU_API_KEY", raising=False)
    with pytest.raises(SettingError, match="VIDU_API_KEY"):
        webhook_app(Guard(Vidu()))
    monkeypatch.setenv("VIDU_API_KEY", KEY)
    webhook_app(Guard(Vidu()))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("secret", ""),
        ("secret", []),
        ("secret", [KEY, ""]),
        ("secret", [5]),
        ("secret", 5),
        ("secret", "caf\xe9"),
        ("secret", "\ud800"),
        ("clock", 5.0),
        ("path", "hooks"),
        ("path", "/a?b"),
        ("signed_path", ""),
        ("max_age", 0),
        ("body_max", 0),
        ("body_max", True),
    ],
)
def test_a_setting_that_cannot_work_is_named(setting: str, value: Any) -> None:
    with pytest.raises(SettingError, match=setting) as refused:
        webhook_app(Guard(Vidu(), api_key=KEY), **{setting: value})
    assert KEY not in str(refused.value)


def test_what_is_no_guard_is_refused() -> None:
    wrong: Any = Vidu()
    with pytest.raises(SettingError, match="give a Guard or an AsyncGuard"):
        webhook_app(wrong, secret=KEY)
