"""Callbacks on real sockets: a fake provider sends them, a real server takes them, a guard is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from budgetguard import AsyncGuard, Guard
from budgetguard.events import Event, TaskEnded
from budgetguard.providers import Vidu
from budgetguard.stores import MemoryStore
from budgetguard.testing import FakeVidu, ManualClock
from budgetguard.testing.callbacks import sign
from budgetguard.webhooks import webhook_app
from tests.support.letters import Post
from tests.support.served import Served
from tests.support.vidu import BODY, HEADERS, HOME, KEY, SUBMIT, made_up, quick

Kind = type[Guard] | type[AsyncGuard]


class Shop:
    """A provider that calls back, a guard that sells, and one that takes the callbacks: on one store."""

    def __init__(self, kind: Kind, *, mount: str = "") -> None:
        self.clock = ManualClock(1000.0)
        self.fake: FakeVidu = made_up(clock=self.clock, duration=5.0)
        self.store = MemoryStore(clock=self.clock)
        self.told: list[Event] = []
        patient: Any = {"max_age": 600.0, "max_stale": 600.0, "stale_if_error": 600.0}
        self.guard = Guard(Vidu(prices={"text2video": 10}), store=self.store, policy=quick(**patient), api_key=KEY)
        listener: Any = kind(Vidu(), store=self.store, api_key=KEY, observers=[self.told.append])
        app: Any = webhook_app(listener, clock=self.clock.time, path=f"{mount}/vidu")
        self.served = Served(Starlette(routes=[Mount(mount, app)]) if mount else app)
        self.url = f"{self.served.url}{mount}/vidu?batch=7"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=HOME, headers=HEADERS, transport=self.guard.transport(self.fake.transport()))

    def buy(self, client: httpx.Client) -> str:
        answer = client.post(SUBMIT, json={**BODY, "callback_url": self.url})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    @property
    def running(self) -> int:
        return self.guard.state(KEY).pools[""].running

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        assert self.fake.callbacks.drain(10)


@pytest.fixture(params=[Guard, AsyncGuard])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def shop(kind: Kind) -> Iterator[Shop]:
    made = Shop(kind)
    with made.served:
        yield made
    made.fake.close()


def test_slots_come_back_as_callbacks_arrive(shop: Shop) -> None:
    with shop.client() as client:
        for _ in range(5):
            shop.buy(client)
        assert shop.running == 5
        shop.pass_time(6)
        assert shop.running == 0
        for _ in range(5):
            shop.buy(client)
    assert shop.fake.journal.summary()["refused_slots"] == 0
    assert sum(isinstance(event, TaskEnded) for event in shop.told) == 5


def test_callbacks_repeated_and_in_the_wrong_order_end_each_task_once(shop: Shop) -> None:
    shop.fake.callbacks.repeats, shop.fake.callbacks.reverse = 3, True
    with shop.client() as client:
        for _ in range(4):
            shop.buy(client)
        shop.pass_time(6)
    assert shop.running == 0
    assert sum(isinstance(event, TaskEnded) for event in shop.told) == 4
    assert shop.fake.journal.summary()["callbacks"] >= 12


def test_it_can_be_mounted_into_an_application(kind: Kind) -> None:
    shop = Shop(kind, mount="/hooks")
    with shop.served, shop.client() as client:
        shop.buy(client)
        shop.pass_time(6)
        assert shop.running == 0
        assert client.get(f"{shop.served.url}/hooks/other").status_code == 404
    shop.fake.close()


def test_what_does_not_come_from_the_provider_is_turned_away(shop: Shop) -> None:
    with shop.client() as client:
        task = shop.buy(client)
    genuine = Post(task, url=shop.url, at=shop.clock.time())
    with httpx.Client() as stranger:
        assert stranger.get(shop.url).status_code == 405
        assert stranger.post(shop.served.url).status_code == 404
        assert stranger.post(shop.url, content=genuine.body).status_code == 401
        assert stranger.post(f"{shop.url}8", content=genuine.body, headers=genuine.headers).status_code == 401
        stale = Post(task, url=shop.url, at=shop.clock.time() - 3600)
        assert stranger.post(shop.url, content=stale.body, headers=stale.headers).status_code == 401
        assert stranger.post(shop.url, content=b"no json", headers=genuine.headers).status_code == 400

        def endless() -> Iterator[bytes]:
            for _ in range(100):
                yield b" " * 65_536

        assert stranger.post(shop.url, content=endless(), headers=genuine.headers).status_code == 413
        assert shop.running == 1
        assert stranger.post(shop.url, content=genuine.body, headers=genuine.headers).status_code == 200
        assert shop.running == 0


def test_an_escaped_address_is_signed_as_it_was_sent(shop: Shop) -> None:
    url = f"{shop.served.url}/vidu?note=a%20b&x=%2F"
    post = Post("1", url=url, at=shop.clock.time())
    assert sign(KEY, url, date=post.headers["Date"], nonce="0001") == post.headers["X-HMAC-SIGNATURE"]
    assert httpx.post(url, content=post.body, headers=post.headers).status_code == 200
