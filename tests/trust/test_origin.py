"""The guard's own questions go to the configured origin and nowhere else, whatever an address looks like."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio.lowlevel
import httpx
import pytest

from budgetguard import CreditsUnavailable, Guard, NoResult, SettingError, TaskNotStarted
from budgetguard._asking import question_about
from budgetguard._fingerprints import Fingerprints
from budgetguard.engine import Engine
from budgetguard.model import RouteKind
from budgetguard.policy import Policy
from budgetguard.ports import ProviderRequest
from budgetguard.providers import UdioPro, Vidu
from budgetguard.stores import MemoryStore
from budgetguard.testing import FakeUdio
from tests.support.raw_server import RawServer, Seen, Wire, answer, credits_answer
from tests.support.vidu import BODY, CREDITS, HEADERS, KEY, SUBMIT, made_up, poll, quick
from tests.support.ways import Way, in_thread

pytestmark = pytest.mark.anyio

SONG = {"gpt_description_prompt": "rain", "model": "chirp-v3-5"}
PAID: dict[str, tuple[Callable[..., Any], str, str, Any, dict[str, str]]] = {
    "vidu": (Vidu, "https://api.vidu.com", SUBMIT, BODY, HEADERS),
    "udio": (UdioPro, "https://udioapi.pro", "/api/v2/generate", SONG, {"Authorization": f"Bearer {KEY}"}),
}


class Wiretap(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Plays both providers at every address there is, and remembers each request."""

    def __init__(self) -> None:
        self.sent: list[httpx.Request] = []
        self.vidu, self.udio = made_up(credits=10_000).transport(), FakeUdio(credits=10_000).transport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        inner = self.vidu if "/ent/" in request.url.path else self.udio
        path = request.url.raw_path.decode()
        return inner.handle_request(httpx.Request(request.method, f"http://x{path}", headers=request.headers))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.lowlevel.checkpoint()
        return self.handle_request(request)


# How an address is written, {home} being the provider's host; and whether the call is the guard's business.
WRITTEN = {
    "https://{home}": True,
    "https://{HOME}": True,
    "HTTPS://{home}": True,
    "https://{home}:443": True,
    "https://{home}:": True,
    "https://{home}:00443": True,
    "https://user@{home}": None,
    "https://user:secret@{home}": None,
    "https://evil.example@{home}": None,
    "https://evil.example%40{home}@{home}": None,
    "https://{wide}": True,
    "http://{home}": False,
    "http://{home}:443": False,
    "https://{home}:80": False,
    "https://{home}:8443": False,
    "https://{home}.": False,
    "https://{home}.evil.example": False,
    "https://{home}:443@evil.example": False,
    "https://{home}:443:443@evil.example": False,
    "https://{home}@evil.example": False,
    "https://evil.example/https://{home}": False,
    "https://evil.example#@{home}": False,
    "https://evil.example?@{home}": False,
    "https://evil.example\\@{home}": False,
    "https://{home}\\@evil.example": False,
    "https://{home}\\.evil.example": False,
    "https:\\\\{home}": False,
    "https:/{home}": False,
    "https:///{home}": False,
    "https://{home}%2eevil.example": False,
    "https://{home}%00.evil.example": False,
    "https://{home}%23.evil.example": False,
    "https://{home};.evil.example": False,
    "https://{home}\t.evil.example": False,
    "https://{home}\r\nHost: evil.example": False,
    "https://xn--{home}": False,
    "https://{homoglyph}": False,
    "https://[::1]": False,
    "https://2130706433": False,
    "//evil.example": True,  # httpx puts the client's own host in front
}


def written(form: str, home: str) -> str:
    host = home.partition("://")[2]
    forms = {"wide": host.replace(".", "。"), "homoglyph": host.replace("o", "о"), "HOME": host.upper()}  # noqa: RUF001
    return form.format(home=host, **forms)


@pytest.mark.parametrize("form", list(WRITTEN))
@pytest.mark.parametrize("name", PAID)
async def test_no_address_of_a_call_leads_the_question_for_the_balance_elsewhere(
    name: str, form: str, way: Way
) -> None:
    make, home, path, body, headers = PAID[name]
    tap = Wiretap()
    guard = way.guard(make(), policy=quick(), inner=tap)
    async with way.client(guard, tap, base_url=home, follow_redirects=True, headers=headers) as client:
        try:
            await client.post(written(form, home) + path, json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError, ValueError):
            assert WRITTEN[form] is False
            assert tap.sent == []
            return
    own, called = [r for r in tap.sent if r.method == "GET"], [r for r in tap.sent if r.method == "POST"]
    assert len(called) == 1
    if WRITTEN[form] is not None:
        assert len(own) == WRITTEN[form]
    for question in own:
        assert (question.url.scheme, question.url.host, question.url.port) == ("https", home[8:], None)
        assert question.url.userinfo == b""
        assert question.headers["host"] == home[8:]
    for request in tap.sent:
        if KEY in str(request.headers.raw):
            assert request in own or request.url.host == called[0].url.host


async def test_what_a_call_says_of_hosts_is_not_repeated_in_the_question(way: Way) -> None:
    tap = Wiretap()
    guard = way.guard(Vidu(), policy=quick())
    odd = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "Referer": "x"}
    extensions = {"sni_hostname": "evil.example", "target": b"http://evil.example/"}
    async with way.client(guard, tap) as client:
        await client.post(f"https://api.vidu.com{SUBMIT}", json=BODY, headers={**HEADERS, **odd}, extensions=extensions)
    (asked,) = [request for request in tap.sent if request.method == "GET"]
    assert asked.headers["host"] == "api.vidu.com"
    assert "evil" not in str(asked.headers.raw)
    assert set(asked.extensions) == {"timeout"}


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/ent/v2/text2video",
        "/https://evil.example/ent/v2/text2video",
        "/ent/v2/..//evil.example/ent/v2/text2video",
        "/ent/v2/text2video/../../../evil",
        "/ent/v2/%2e%2e/%2e%2e/text2video",
        "/ent/v2/text2video?@evil.example",
        "/ent/v2/text2video#@evil.example",
        "/ent/v2/text2video;@evil.example",
        "/ent/v2/text2video%0d%0aHost:%20evil.example",
    ],
)
async def test_no_path_of_a_call_leads_it_elsewhere(path: str, way: Way) -> None:
    tap = Wiretap()
    guard = way.guard(Vidu(), policy=quick(unknown_price=1))
    async with way.client(guard, tap) as client:
        await client.post(f"https://api.vidu.com{path}", json=BODY, headers=HEADERS)
    assert {request.url.host for request in tap.sent} == {"api.vidu.com"}
    assert {r.url.raw_path for r in tap.sent if r.method == "GET"} <= {CREDITS.encode()}


# -- the configured origin ------------------------------------------------------------------------------------------

GOOD = {
    "https://gate.example": "https://gate.example",
    "https://GATE.Example": "https://gate.example",
    "HTTPS://gate.example/": "https://gate.example",
    "https://gate.example:443": "https://gate.example",
    "https://gate.example:": "https://gate.example",
    "https://gate.example:08443": "https://gate.example:8443",
    "http://gate.example:80": "http://gate.example",
    "http://gate.example:443": "http://gate.example:443",
    "http://127.0.0.1:8900": "http://127.0.0.1:8900",
    "http://[::1]:8900": "http://[::1]:8900",
    "https://xn--mnchen-3ya.example": "https://xn--mnchen-3ya.example",
    "http://gate_way": "http://gate_way",
}
BAD = [
    "",
    "gate.example",
    "//gate.example",
    "https:gate.example",
    "https:/gate.example",
    "https:///gate.example",
    "https:\\\\gate.example",
    "https://",
    "https://:443",
    "ftp://gate.example",
    "file:///gate.example",
    "javascript:alert(1)",
    "https://https://gate.example",
    "https://user@gate.example",
    "https://user:secret@gate.example",
    "https://@gate.example",
    "https://gate.example@evil.example",
    "https://gate.example\\@evil.example",
    "https://gate.example%40evil.example",
    "https://gate.example%2eevil.example",
    "https://gate.example%00.evil.example",
    "https://%67ate.example",
    "https://gate.example;evil.example",
    "https://gate.example,evil.example",
    "https://gate.example|evil.example",
    "https://gate^.example",
    "https://gate.example.",
    "https://.gate.example",
    "https://gate..example",
    "https://-gate.example",
    "https://gate-.example",
    f"https://{'a' * 64}.example",
    "https://" + ".".join(["a" * 60] * 5),
    "https://127.1",
    "https://127.0.0.01",
    "https://0x7f000001",
    "https://2130706433",
    "https://1.2.3.4.5",
    "https://[::1",
    "https://::1",
    "https://[evil]",
    "https://[v1.evil]",
    "https://[::1%25eth0]",
    "https://[::ffff:1.2.3.999]",
    "https://gate.example:0",
    "https://gate.example:65536",
    "https://gate.example:-1",
    "https://gate.example:+443",
    "https://gate.example:443:443",
    "https://gate.example:４４３",  # noqa: RUF001
    "https://gаte.example",  # noqa: RUF001
    "https://gate。example",
    "https://ｇate.example",  # noqa: RUF001
    "https://gate.example\t",
    "https://ga\nte.example",
    "https://gate.example\r\nHost: evil.example",
    " https://gate.example",
    "https://gate.example\x00",
    "https://gate example",
    "https://gate.example?x=1",
    "https://gate.example#x",
    "https://gate.example/../evil",
    "https://gate.example//evil.example",
    "https://gate.example/ent/v2/../../evil",
]


@pytest.mark.parametrize("make", [Vidu, UdioPro])
@pytest.mark.parametrize("given", GOOD)
def test_an_origin_is_where_httpx_goes_too(make: Any, given: str) -> None:
    provider = make(base_url=given)
    assert provider.origins == (GOOD[given],)
    for asked in (provider.credits_request(), provider.credits_request(detail=True), provider.task_request("1")):
        url = httpx.URL(asked.url)
        assert f"{url.scheme}://{url.netloc.decode()}" == GOOD[given]
        assert url.userinfo == b""


@pytest.mark.parametrize("make", [Vidu, UdioPro])
@pytest.mark.parametrize("given", BAD)
def test_what_others_might_read_as_another_host_is_no_origin(make: Any, given: str) -> None:
    with pytest.raises(SettingError, match="base_url") as error:
        make(base_url=given)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/ent/v2/credits",
        "http://api.vidu.com/ent/v2/credits",
        "https://api.vidu.com:8443/ent/v2/credits",
    ],
)
async def test_an_adapter_that_asks_elsewhere_for_the_balance_gets_no_key_sent(url: str, way: Way) -> None:
    class Astray(Vidu):
        __slots__ = ()

        def credits_request(self, *, detail: bool = False) -> ProviderRequest:
            return ProviderRequest(url)

    tap = Wiretap()
    guard = way.guard(Astray(), policy=quick())
    async with way.client(guard, tap, headers=HEADERS) as client:
        with pytest.raises(CreditsUnavailable, match=r"asks elsewhere than at https://api\.vidu\.com"):
            await client.post(f"https://api.vidu.com{SUBMIT}", json=BODY)
    assert tap.sent == []


# -- questions about tasks ------------------------------------------------------------------------------------------

TASK_IDS = [
    "../../x", "..", ".", "%2e%2e", "..%2f..%2fcredits", "//evil.example", "/", "\\\\evil.example", "a/b", "a\\b",
    "https://evil.example", "@evil.example", ":443@evil.example", "?", "?x=1", "#", "#x", "a?b#c", "a;b", "a&workId=b",
    "a\r\nHost: evil.example", "a\nb", "a\x00b", "a\tb", " a", "a ", "", "x" * 257, "猫", "\u2028", "\ud800", "\u202e1",
]  # fmt: skip


@pytest.mark.parametrize(
    "path", ["", "text2video", "one-click/mv", "cover/generate", "../..", "//evil.example", "?", "\r\n"]
)
@pytest.mark.parametrize("name", PAID)
def test_no_id_of_a_task_leads_a_question_to_anything_but_that_task_at_the_origin(name: str, path: str) -> None:
    make, home, *_ = PAID[name]
    engine = Engine(make(), MemoryStore(), Policy(), (), Fingerprints(name, None), {})
    asked = 0
    for task_id in TASK_IDS:
        found = question_about(engine, task_id, path)
        if found is None:
            continue
        asked += 1
        url = httpx.URL(found[0].url)
        assert f"{url.scheme}://{url.netloc.decode()}" == home, task_id
        assert (found[1].kind, found[1].task_id) == (RouteKind.POLL, task_id)
        assert b"\r" not in url.raw_path
        assert b"\n" not in url.raw_path
        assert not {"authorization", "host"} & {key.lower() for key in found[0].headers}
    assert asked >= 5, "most odd characters are harmless once quoted"


async def test_a_hostile_id_from_the_provider_itself_gets_nothing_asked(way: Way) -> None:
    paid = answer(json.dumps({"task_id": "../../credits?x=", "state": "created", "credits": 1}).encode())
    with RawServer(lambda seen, wire: wire.send(paid)) as server:
        guard = way.guard(Vidu(base_url=server.url), policy=quick())
        async with way.client(guard, headers=HEADERS, base_url=server.url) as client:
            inner: Any = client.client  # type: ignore[attr-defined]
            with pytest.raises(NoResult):
                await run(way, guard, inner, SUBMIT)
        assert [seen.method for seen in server.seen] == ["GET", "POST"]


async def run(way: Way, guard: Any, client: Any, path: str) -> Any:
    return await said(way, partial(guard.run_task, client, path, json=BODY))


async def said(way: Way, ask: Callable[[], Any]) -> Any:
    return await in_thread(ask) if way.blocking else await ask()


# -- redirects and proxies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("what", ["submit", "poll"])
async def test_running_a_task_follows_no_redirect_even_where_the_client_does(what: str, status: str, way: Way) -> None:
    with RawServer(lambda seen, wire: wire.send(answer(b'{"task_id":"9","state":"success","credits":1}'))) as elsewhere:
        elsewhere.own_credits = False
        away = answer(b"", status, headers=[("Location", f"{elsewhere.url}/ent/v2/text2video")])
        paid = answer(b'{"task_id":"1","state":"created","credits":1}')

        def say(seen: Seen, wire: Wire) -> None:
            wire.send(paid if what == "poll" and seen.method == "POST" else away)

        with RawServer(say) as server:
            guard = way.guard(Vidu(base_url=server.url), policy=quick())
            async with way.client(guard, headers=HEADERS, base_url=server.url, follow_redirects=True) as client:
                inner: Any = client.client  # type: ignore[attr-defined]
                if what == "submit":
                    with pytest.raises(TaskNotStarted) as refused:
                        await run(way, guard, inner, SUBMIT)
                    assert refused.value.status == int(status[:3])
                else:
                    await failing_polls(way, guard, inner)
        assert elsewhere.seen == []
        assert len(server.seen) >= (10 if what == "poll" else 2)


async def failing_polls(way: Way, guard: Any, client: Any) -> None:
    given: dict[str, Any] = {"poll_every": 0.001, "poll_max": 0.001}
    with pytest.raises(NoResult, match="HTTP 30"):
        await said(way, partial(guard.wait_task, client, "1", **given))


class Follower(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """An inner transport that follows redirects by itself, as one made of a client does."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def wire(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.url.host)
        if request.url.path == CREDITS and request.url.host == "api.vidu.com":
            return httpx.Response(302, headers={"location": "https://evil.example/ent/v2/credits"})
        row = {"type": "metered", "credit_remain": 999, "concurrency_limit": 9, "current_concurrency": 0}
        return httpx.Response(200, json={"remains": [row]})

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with httpx.Client(transport=httpx.MockTransport(self.wire), follow_redirects=True) as client:
            return client.send(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.wire), follow_redirects=True) as client:
            return await client.send(request)


async def test_the_answer_to_a_redirect_that_the_inner_transport_followed_is_not_believed(way: Way) -> None:
    inner = Follower()
    guard = way.guard(Vidu(), policy=quick())
    async with way.client(guard, inner, headers=HEADERS) as client:
        with pytest.raises(CreditsUnavailable, match="TooManyRedirects"):
            await client.post(f"https://api.vidu.com{SUBMIT}", json=BODY)
    assert inner.seen == ["api.vidu.com", "evil.example"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_of_the_environment_sees_no_key(variable: str, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    paid = answer(b'{"task_id":"1","state":"created","credits":1}')
    with (
        RawServer(lambda seen, wire: wire.send(paid)) as proxy,
        RawServer(lambda seen, wire: wire.send(paid)) as server,
    ):
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        guard = way.guard(Vidu(base_url=server.url), policy=quick(), api_key=KEY)
        async with way.client(guard, guard_inner(way), headers=HEADERS, base_url=server.url) as client:
            await client.post(SUBMIT, json=BODY)
            await client.get(poll("1"))
        # The guard's own transport, which nobody chose.
        assert await said(way, partial(guard.can_afford, 1))
        await said(way, guard.close)
        assert proxy.seen == []
        assert len(server.requests(CREDITS)) >= 1


def guard_inner(way: Way) -> Any:
    return httpx.HTTPTransport() if way.blocking else httpx.AsyncHTTPTransport()


def test_the_command_shows_no_key_to_a_proxy_that_it_could_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from budgetguard.cli.app import app

    with RawServer(lambda seen, wire: wire.send(credits_answer())) as proxy:
        with RawServer(lambda seen, wire: wire.send(credits_answer())) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("VIDU_API_KEY", KEY)
            done = CliRunner().invoke(app, ["status", "vidu", "--base-url", server.url, "--store", "memory:"])
            assert done.exit_code == 0, done.output
            assert len(server.seen) == 1
        assert proxy.seen == []
        assert KEY not in done.output


def test_a_guard_of_a_plain_http_origin_is_one_the_user_asked_for() -> None:
    # Nothing turns https into http, or the other way round.
    assert Guard(Vidu(base_url="http://gate.example")).engine.origins == {"http://gate.example"}
    assert Guard(Vidu()).engine.origins == {"https://api.vidu.com"}
