"""What the guard asks about a task: only the configured origin, only about this task, never with a key elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import httpx
import pytest

from budgetguard._asking import Asking, AsyncAsking, question_about
from budgetguard._core.steps import Asked
from budgetguard._fingerprints import Fingerprints
from budgetguard.engine import Engine
from budgetguard.model import TaskState
from budgetguard.policy import Policy
from budgetguard.ports import ProviderRequest
from budgetguard.providers import UdioPro, Vidu
from budgetguard.stores.memory import MemoryStore
from tests.support.vidu import HEADERS, HOME, KEY
from tests.support.ways import Way, in_thread

pytestmark = pytest.mark.anyio

BEARER = httpx.Request("POST", HOME, headers=HEADERS)
Answers = Callable[[httpx.Request], httpx.Response]


class Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers as the test says, and remembers what was asked."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answers(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.lowlevel.checkpoint()
        return self.handle_request(request)


def document(status: int = 200, **body: Any) -> httpx.Response:
    stream = httpx.ByteStream(json.dumps(body).encode())
    return httpx.Response(status, headers={"content-type": "application/json"}, stream=stream)


def engine(provider: Any = None, **policy: Any) -> Engine:
    made = Vidu() if provider is None else provider
    return Engine(made, MemoryStore(), Policy(**policy), (), Fingerprints(made.name, None), {})


async def ask(way: Way, wire: Wire, *task_ids: str, provider: Any = None, **policy: Any) -> Sequence[Asked]:
    made = engine(provider, **policy)
    if way.blocking:
        return await in_thread(lambda: Asking(made, wire).tasks(BEARER, task_ids))
    return await AsyncAsking(made, wire).tasks(BEARER, task_ids)


async def test_a_task_is_asked_about_with_the_key_at_the_configured_origin(way: Way) -> None:
    wire = Wire(lambda _: document(state="success", credits=35))
    (asked,) = await ask(way, wire, "812")
    assert asked.task is not None
    assert (asked.task.task_id, asked.task.state, asked.task.charge) == ("812", TaskState.SUCCEEDED, 35)
    (request,) = wire.asked
    assert (request.method, str(request.url)) == ("GET", f"{HOME}/ent/v2/tasks/812/creations")
    assert request.headers["authorization"] == f"Token {KEY}"
    assert request.extensions["timeout"]["read"] == Policy().credits_timeout


async def test_several_are_asked_about_at_once_and_answered_in_order(way: Way) -> None:
    states = {"1": "processing", "2": "failed", "3": "success"}
    wire = Wire(lambda request: document(state=states[request.url.path.split("/")[4]]))
    asked = await ask(way, wire, "3", "1", "2")
    assert [one.task and one.task.state.value for one in asked] == ["succeeded", "running", "failed"]
    assert len(wire.asked) == 3


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (document(404, code=404, reason="TaskNotFound", message="task not found"), False),
        (document(404, code=404, reason="NotFound", message="no such address"), True),
        (document(401, code=401, reason="Unauthorized"), True),
        (document(429, code=429, reason="TooManyRequests"), True),
        (document(500, code=500, reason="InternalServiceFailure"), True),
        (document(200, state="dancing"), True),
        (document(302, location="https://example.com"), True),
        (httpx.Response(502, html="<html>"), True),
        (httpx.Response(200, stream=httpx.ByteStream(b"[]")), True),
        (httpx.Response(200, stream=httpx.ByteStream(b"x" * (5 << 20))), True),
    ],
    ids=["missing", "no address", "key", "rate", "broken", "state", "redirect", "page", "shape", "endless"],
)
async def test_only_the_providers_own_word_says_that_there_is_no_such_task(
    way: Way, answer: httpx.Response, again: bool
) -> None:
    wire = Wire(lambda _: httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream))
    (asked,) = await ask(way, wire, "812")
    assert (asked.task, asked.again) == (None, again)
    assert asked.why
    assert len(wire.asked) == 1, "no redirect is followed"


async def test_a_network_that_fails_says_nothing_about_the_task(way: Way) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    (asked,) = await ask(way, Wire(fail), "812")
    assert (asked.task, asked.again, asked.why) == (None, True, "ConnectError")
    first, second = await ask(way, Wire(fail), "812", "813")
    assert first.again
    assert second.again


async def test_an_answer_that_never_comes_is_not_waited_for_for_ever(way: Way) -> None:
    if way.blocking:
        pytest.skip("there the transport keeps the time it is given")

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await anyio.sleep_forever()
            raise AssertionError(request)

    (asked,) = await AsyncAsking(engine(credits_timeout=0.01), Silent()).tasks(BEARER, ["812"])
    assert (asked.again, asked.why) == (True, "TimeoutError")


@pytest.mark.parametrize("task_id", ["..", ".", "a/b", "../../credits", "a\\b", "", "x" * 257, "a\nb", " a"])
async def test_an_id_that_could_lead_elsewhere_is_not_asked_about(way: Way, task_id: str) -> None:
    for provider in (Vidu(), UdioPro()):
        wire = Wire(lambda _: document())
        (asked,) = await ask(way, wire, task_id, provider=provider)
        assert (asked.task, asked.again, wire.asked) == (None, False, [])


@pytest.mark.parametrize("task_id", ["a?b=c", "a#b", "a%2fb", "a b", "a;b", "猫", "@evil.example", "a&workId=b", "::"])
def test_an_id_with_odd_characters_stays_in_its_place(task_id: str) -> None:
    for provider, path in ((Vidu(), ""), (Vidu(), "one-click/mv"), (UdioPro(), ""), (UdioPro(), "cover/generate")):
        found = question_about(engine(provider), task_id, path)
        assert found is not None
        url = httpx.URL(found[0].url)
        assert (f"{url.scheme}://{url.host}", found[1].task_id) == (provider.origins[0], task_id)


class Lying(Vidu):
    """An adapter with a mistake in it."""

    __slots__ = ("url",)

    def __init__(self, url: Any) -> None:
        super().__init__()
        self.url = url

    def task_request(self, task_id: str, *, path: str = "") -> ProviderRequest | None:
        if isinstance(self.url, Exception):
            raise self.url
        return ProviderRequest(self.url)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.vidu.com.example.com/ent/v2/tasks/812/creations",
        "https://api.vidu.com@example.com/ent/v2/tasks/812/creations",
        "http://api.vidu.com/ent/v2/tasks/812/creations",
        f"{HOME}/ent/v2/tasks/813/creations",
        f"{HOME}/ent/v2/tasks/812/../813/creations",
        f"{HOME}/ent/v2/credits",
        f"{HOME}:99999/",
        "",
        ValueError("odd"),
    ],
)
async def test_an_adapter_that_errs_sends_no_key_anywhere(way: Way, url: Any) -> None:
    wire = Wire(lambda _: document(state="success"))
    (asked,) = await ask(way, wire, "812", provider=Lying(url))
    assert (asked.task, asked.again, wire.asked) == (None, False, [])


async def test_an_adapter_that_cannot_say_whether_a_task_is_missing_leaves_it_open(way: Way) -> None:
    class Raising(Vidu):
        __slots__ = ()

        def missing(self, route: Any, answer: Any) -> bool:
            raise KeyError(route)

    (asked,) = await ask(way, Wire(lambda _: document(404, reason="TaskNotFound")), "812", provider=Raising())
    assert asked.again


async def test_no_more_threads_is_no_answer(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    if not way.blocking:
        pytest.skip("there are no threads")

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr("concurrent.futures.ThreadPoolExecutor.map", refuse)
    asked = Asking(engine(), Wire(lambda _: document())).tasks(BEARER, ["1", "2"])
    assert [one.again for one in asked] == [True, True]
