"""What the guard has nothing to do with passes untouched, and what httpx itself does still works."""

from __future__ import annotations

from typing import Any, Self

import anyio
import httpx
import pytest

from budgetguard.transport import AsyncGuardTransport, GuardTransport
from tests.support.raw_server import RawServer, answer
from tests.support.vidu import BODY, CREDITS, HEADERS, HOME, KEY, SUBMIT, made_up, poll, quick, vidu
from tests.support.ways import Way

pytestmark = pytest.mark.anyio
OK = answer(b'{"task_id":"task-1","state":"created","credits":10}')


class Recording(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """An inner transport that keeps what it is given, and counts how it is opened and closed."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.opened = self.left = self.closed = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json={}, extensions={"mine": [1]})

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.answer(request)

    def __enter__(self) -> Self:
        self.opened += 1
        return self

    def __exit__(self, *error: object) -> None:
        self.left += 1

    async def __aenter__(self) -> Self:
        self.opened += 1
        return self

    async def __aexit__(self, *error: object) -> None:
        self.left += 1

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


async def hand_over(transport: Any, request: httpx.Request) -> httpx.Response:
    if isinstance(transport, GuardTransport):
        return transport.handle_request(request)
    assert isinstance(transport, AsyncGuardTransport)
    return await transport.handle_async_request(request)


ELSEWHERE: dict[str, tuple[str, str, Any]] = {
    "another host": ("POST", f"https://example.com{SUBMIT}", HEADERS),
    "another port": ("POST", f"{HOME}:8443{SUBMIT}", HEADERS),
    "another scheme": ("POST", f"http://api.vidu.com{SUBMIT}", HEADERS),
    "a host below ours": ("POST", f"https://x.api.vidu.com{SUBMIT}", HEADERS),
    "our host as somebody's user": ("POST", f"https://api.vidu.com@example.com{SUBMIT}", HEADERS),
    "our host as a path": ("POST", f"https://example.com/{HOME}{SUBMIT}", HEADERS),
    "our host in the Host header only": ("POST", f"https://example.com{SUBMIT}", {**HEADERS, "Host": "api.vidu.com"}),
    "the root's dot": ("POST", f"https://api.vidu.com.{SUBMIT}", HEADERS),
    "another path": ("POST", f"{HOME}/v3/things", HEADERS),
    "another method": ("DELETE", f"{HOME}{SUBMIT}", HEADERS),
    "no key": ("POST", f"{HOME}{SUBMIT}", {}),
    "a key in another scheme": ("POST", f"{HOME}{SUBMIT}", {"Authorization": "Basic eDp5"}),
    "two keys at once": ("POST", f"{HOME}{SUBMIT}", [("Authorization", "Token a"), ("Authorization", "Token b")]),
}


@pytest.mark.parametrize("name", ELSEWHERE)
async def test_a_request_that_is_none_of_ours_reaches_the_inner_transport_as_it_is(name: str, way: Way) -> None:
    method, url, given = ELSEWHERE[name]
    inner = Recording()
    transport = way.transport(way.guard(vidu(), policy=quick()), inner)
    request = httpx.Request(method, url, headers=given, json=BODY)
    stream, extensions, headers = request.stream, dict(request.extensions), list(request.headers.raw)
    response = await hand_over(transport, request)
    assert inner.requests == [request]
    assert inner.requests[0] is request
    assert request.stream is stream
    assert request.extensions == extensions
    assert request.headers.raw == headers
    assert response.extensions == {"mine": [1]}
    assert isinstance(response.stream, httpx.ByteStream)


OURS = {
    "capitals": "https://API.Vidu.COM",
    "the port said aloud": "https://api.vidu.com:443",
    "a user": "https://user:secret@api.vidu.com",
    "a user that looks like another host": "https://example.com@api.vidu.com",
    "dots in the path": "https://api.vidu.com/x/..",
    "two slashes": "https://api.vidu.com/",
    "a query": "https://api.vidu.com",
}


@pytest.mark.parametrize("name", OURS)
async def test_no_spelling_of_the_address_evades_the_guard(name: str, way: Way) -> None:
    fake = made_up()
    guard = way.guard(vidu(), policy=quick())
    url = f"{OURS[name]}{SUBMIT}{'?a=1&a=2' if name == 'a query' else ''}"
    request = httpx.Request("POST", url, headers=HEADERS, json=BODY)
    await hand_over(way.transport(guard, fake.transport()), request)
    assert (await way.state(guard)).balance == 500
    assert fake.journal.credits_requests == 1


async def test_a_paid_call_reaches_the_inner_transport_as_the_same_request(way: Way) -> None:
    inner = Recording()
    transport = way.transport(way.guard(vidu(), policy=quick(on_credits_error="open")), inner)
    for method, path in (("POST", SUBMIT), ("GET", poll("1")), ("GET", CREDITS)):
        request = httpx.Request(method, f"{HOME}{path}", headers=HEADERS, json=BODY)
        await hand_over(transport, request)
        assert inner.requests[-1] is request


async def test_closing_the_client_closes_the_inner_transport(way: Way) -> None:
    inner = Recording()
    client = way.client(way.guard(vidu()), inner)
    await client.close()
    assert inner.closed == 1


async def test_entering_and_leaving_the_client_enters_and_leaves_the_inner_transport(way: Way) -> None:
    plain, guarded = Recording(), Recording()
    async with way.client(None, plain), way.client(way.guard(vidu()), guarded):
        assert (guarded.opened, guarded.left) == (plain.opened, plain.left) == (1, 0)
    assert (guarded.opened, guarded.left, guarded.closed) == (plain.opened, plain.left, plain.closed)


async def test_the_trace_extension_and_the_network_stream_work_as_ever(way: Way) -> None:
    with RawServer(lambda seen, wire: wire.send(OK)) as server:
        names: dict[bool, list[str]] = {False: [], True: []}
        guard = way.guard(vidu(server.url), policy=quick())
        for guarded in (False, True):
            async with way.client(guard if guarded else None, base_url=server.url, headers=HEADERS) as client:
                await client.get("/warm-up")
                async with client.stream("POST", SUBMIT, json=BODY, extensions=way.traced(names[guarded])) as body:
                    stream = body.response.extensions["network_stream"]
                    assert stream.get_extra_info("server_addr")[1] == server.port
                    assert body.response.extensions["http_version"] == b"HTTP/1.1"
                    assert body.response.http_version == "HTTP/1.1"
                    async for _ in body.pieces("raw"):
                        pass
        mine = [name for name in names[True] if not name.startswith("connection.")]
        assert set(mine) == {name for name in names[False] if not name.startswith("connection.")}
        assert "http11.send_request_body.complete" in mine


async def test_event_hooks_see_the_callers_requests_and_answers_and_nothing_of_the_guards_own(way: Way) -> None:
    noted: list[Any] = []
    with RawServer(lambda seen, wire: wire.send(OK)) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        hooks = way.hooks(noted.append)
        async with way.client(guard, base_url=server.url, headers=HEADERS, event_hooks=hooks) as client:
            response = await client.post(SUBMIT, json=BODY)
        assert noted == [response.request, response]
        assert len(server.seen) == 2


async def test_cookies_of_an_answer_are_kept_and_sent_again(way: Way) -> None:
    data = answer(b"{}", headers=[("Set-Cookie", "session=1; Path=/"), ("Set-Cookie", "other=2; Path=/")])
    with RawServer(lambda seen, wire: wire.send(data)) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            assert dict((await client.get(poll("1"))).cookies) == {"session": "1", "other": "2"}
            await client.post(SUBMIT, json=BODY)
        by_guard, by_client = server.requests(CREDITS) + server.requests(SUBMIT)
        assert by_client.header("cookie") == "session=1; other=2"
        assert by_guard.header("cookie") == ""


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect"])
async def test_the_client_follows_redirects_of_a_paid_call_and_pays_once(status: str, way: Way) -> None:
    fake = made_up()
    with fake.serve() as url, RawServer(lambda seen, wire: None) as server:
        server._say = lambda seen, wire: wire.send(answer(b"", status, headers=[("Location", f"{url}{SUBMIT}")]))
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS, follow_redirects=True) as client:
            response = await client.post(SUBMIT, json=BODY)
        assert [before.status_code for before in response.history] == [int(status[:3])]
        # The other origin gets no key from httpx, and nothing from the guard.
        assert response.status_code in (401, 404)
        assert fake.journal.accepted == 0
        assert (await way.state(guard)).credits_held == 0


async def test_a_call_redirected_within_the_origin_is_guarded_where_it_arrives(way: Way) -> None:
    def say(seen: Any, wire: Any) -> None:
        wire.send(
            OK if "again" in seen.target else answer(b"", "307 Temporary Redirect", headers=[("Location", "?again=1")])
        )

    with RawServer(say) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS, follow_redirects=True) as client:
            assert (await client.post(SUBMIT, json=BODY)).json()["task_id"] == "task-1"
        assert (await way.state(guard)).credits_held == 10


async def test_the_time_a_call_took_and_its_bytes_are_counted(way: Way) -> None:
    with RawServer(lambda seen, wire: wire.send(OK)) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            response = await client.post(SUBMIT, json=BODY)
        assert response.elapsed.total_seconds() > 0
        assert response.num_bytes_downloaded == len(response.content) > 0


async def test_clients_and_transports_of_one_guard_share_its_accounts(way: Way) -> None:
    fake = made_up(credits=30)
    guard = way.guard(vidu(), policy=quick())
    async with (
        way.client(guard, fake.transport(), base_url=HOME, headers=HEADERS) as one,
        way.client(guard, fake.transport(), base_url=HOME, headers=HEADERS) as other,
    ):
        await one.post(SUBMIT, json=BODY)
        await other.post(SUBMIT, json=BODY)
        assert (await way.state(guard, KEY)).credits_free == 10
        assert fake.journal.credits_requests == 1


async def test_one_async_transport_serves_several_event_loops_at_once() -> None:
    fake = made_up(limit=100)
    guard = Way("asyncio").guard(vidu(), policy=quick())
    transport = guard.transport(fake.transport())

    async def calls() -> None:
        for _ in range(5):
            request = httpx.Request("POST", f"{HOME}{SUBMIT}", headers=HEADERS, json=BODY)
            await transport.handle_async_request(request)

    async def loop(backend: str) -> None:
        await anyio.to_thread.run_sync(lambda: anyio.run(calls, backend=backend))

    async with anyio.create_task_group() as group:
        for backend in ("asyncio", "trio", "asyncio"):
            group.start_soon(loop, backend)
    assert fake.journal.accepted == 15
    assert fake.journal.credits_in_flight_max == 1


async def test_a_length_of_more_digits_than_python_reads_is_only_a_length(way: Way) -> None:
    def absurd(request: httpx.Request) -> httpx.Response:
        body = b'{"remains": []}' if request.url.path == CREDITS else b'{"task_id": "1"}'
        return httpx.Response(200, headers={"content-length": "9" * 5000}, stream=httpx.ByteStream(body))

    client = way.client(way.guard(vidu(), policy=quick()), httpx.MockTransport(absurd), base_url=HOME, headers=HEADERS)
    async with client:
        response = await client.post(SUBMIT, json=BODY, extensions={"budgetguard": {"credits": 0}})
        assert response.json() == {"task_id": "1"}
