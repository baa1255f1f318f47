"""Bodies that are long, slow or not JSON reach the caller, or the provider, as they come."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from budgetguard._http import BODY_MAX
from budgetguard.errors import UnknownPrice
from tests.support.raw_server import RawServer, Seen, Wire, answer, chunked
from tests.support.vidu import BODY, HEADERS, PRICE, SUBMIT, poll, quick, vidu
from tests.support.ways import Way

pytestmark = [
    pytest.mark.anyio,
    # What httpx leaves behind on trio when a caller does not read to the end, guarded or not.
    pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning"
    ),
]
PATHS = {"submit": ("POST", SUBMIT), "poll": ("GET", poll("task-1")), "credits": ("GET", "/ent/v2/credits")}
FIRST = b"x" * 1000


def head(type: str, length: int | None) -> bytes:
    coding = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\n{coding}\r\n\r\n".encode()


class Halting:
    """Answers with the first part of a body, and the rest when told to."""

    def __init__(self, type: str, length: int | None = None, first: bytes = FIRST) -> None:
        self.start = head(type, length) + (b"%x\r\n%b\r\n" % (len(first), first) if length is None else first)
        self.rest = b"4\r\nrest\r\n0\r\n\r\n" if length is None else b"rest"
        self.go_on = threading.Event()
        self.gave_up = False

    def __call__(self, seen: Seen, wire: Wire) -> None:
        wire.send(self.start)
        if not self.go_on.wait(5):
            self.gave_up = True
        wire.send(self.rest)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("length", [None, len(FIRST) + 4], ids=["in chunks", "with a length"])
@pytest.mark.parametrize("type", ["video/mp4", "text/event-stream", "text/html"])
async def test_the_first_bytes_arrive_before_the_server_sends_the_rest(
    type: str,
    length: int | None,
    name: str,
    way: Way,
) -> None:
    say = Halting(type, length)
    method, path = PATHS[name]
    with RawServer(say) as server:
        server.own_credits = name != "credits"
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            given = {"json": BODY} if method == "POST" else {}
            async with client.stream(method, path, **given) as body:
                got = b""
                async for piece in body.pieces("raw"):
                    got += piece
                    if len(got) == len(FIRST):
                        say.go_on.set()
                assert got == FIRST + b"rest"
    assert not say.gave_up


@pytest.mark.parametrize("type", ["application/x-ndjson", "application/json-seq", "application/stream+json"])
async def test_a_stream_of_json_documents_arrives_as_it_is_sent(type: str, way: Way) -> None:
    say = Halting(type)
    with RawServer(say) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with (
            way.client(guard, base_url=server.url, headers=HEADERS) as client,
            client.stream("POST", SUBMIT, json=BODY) as body,
        ):
            async for _ in body.pieces("raw"):
                say.go_on.set()
    assert not say.gave_up


@pytest.mark.parametrize("name", PATHS)
async def test_json_that_says_it_is_too_long_to_be_looked_at_arrives_as_it_is_sent(name: str, way: Way) -> None:
    say = Halting("application/json", BODY_MAX + 1)
    say.rest = b"x"
    method, path = PATHS[name]
    with RawServer(say) as server:
        server.own_credits = name != "credits"
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            given = {"json": BODY} if method == "POST" else {}
            async with client.stream(method, path, **given) as body:
                async for piece in body.pieces("raw"):
                    assert piece.startswith(b"x")
                    say.go_on.set()
                    break
    assert not say.gave_up


async def test_json_that_turns_out_too_long_is_passed_on_from_there_without_loss(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgetguard._bodies.BODY_MAX", 2000)
    chunks = [bytes([65 + place]) * 700 for place in range(10)]
    last = threading.Event()
    late: list[bool] = []

    def say(seen: Seen, wire: Wire) -> None:
        wire.send(chunked(chunks[:5], end=b""))
        late.append(not last.wait(5))
        wire.send(b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks[5:]) + b"0\r\n\r\n")

    with RawServer(say) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with (
            way.client(guard, base_url=server.url, headers=HEADERS) as client,
            client.stream("POST", SUBMIT, json=BODY) as body,
        ):
            got = b""
            async for piece in body.pieces("raw"):
                last.set()
                got += piece
            assert got == b"".join(chunks)
    assert late == [False]


async def test_a_body_longer_than_the_bound_is_whole_and_its_call_stays_held(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgetguard._bodies.BODY_MAX", 100)
    document = json.dumps({"task_id": "1", "credits": PRICE, "padding": "x" * 500}).encode()
    with RawServer(lambda seen, wire: wire.send(chunked([document]))) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            assert (await client.post(SUBMIT, json=BODY)).content == document
        assert (await way.state(guard)).credits_held == PRICE


async def test_a_caller_that_leaves_in_the_middle_of_a_body_frees_the_connection(way: Way) -> None:
    big = answer(bytes(3_000_000), type="video/mp4")
    with RawServer(lambda seen, wire: wire.send(big if seen.path == SUBMIT else answer(b"{}"))) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        inner = way.inner(limits=httpx.Limits(max_connections=1))
        settings: dict[str, Any] = {"base_url": server.url, "headers": HEADERS, "timeout": 2.0}
        async with way.client(guard, inner, **settings) as client:
            for _ in range(3):
                async with client.stream("POST", SUBMIT, json=BODY) as body:
                    async for _ in body.pieces("raw"):
                        break
                assert (await client.get(poll("1"))).status_code == 200


# -- request bodies -------------------------------------------------------------------------------------------------


def parts(data: bytes) -> Iterator[bytes]:
    for place in range(0, len(data), 7):
        yield data[place : place + 7]


async def test_a_streamed_json_body_is_priced_and_arrives_whole(way: Way) -> None:
    data = json.dumps(BODY).encode()
    with RawServer(lambda seen, wire: wire.send(answer(b'{"task_id":"1","credits":10}'))) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            sent = {"content-type": "application/json"}
            response = await client.post(SUBMIT, content=way.chunks(parts(data)), headers=sent)
            assert response.status_code == 200
        (seen,) = server.requests(SUBMIT)
        assert seen.body == data
        assert seen.header("transfer-encoding") == "chunked"
        assert (await way.state(guard)).credits_held == PRICE


STREAMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "no json": ("application/json", lambda: b"{not json" * 9),
    "a picture": ("image/png", lambda: bytes(range(256)) * 20),
    "json in another wrapping": ("text/plain", lambda: json.dumps(BODY).encode()),
    "nothing": ("application/json", lambda: b""),
}


def unpriced(url: str) -> object:
    """An adapter without a flat price: it has to look into the body."""
    return vidu(url).__class__(base_url=url)


@pytest.mark.parametrize("name", STREAMS)
async def test_a_body_that_cannot_be_read_has_no_price_and_is_not_sent(name: str, way: Way) -> None:
    kind, data = STREAMS[name]
    with RawServer(lambda seen, wire: wire.send(answer(b'{"task_id":"1"}'))) as server:
        guard = way.guard(unpriced(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            # What lies ready as bytes is looked at, whatever it says it is.
            for content in (data(), way.chunks(parts(data())))[kind == "text/plain" :]:
                with pytest.raises(UnknownPrice, match="extensions="):
                    await client.post(SUBMIT, content=content, headers={"content-type": kind})
        assert server.seen == []


@pytest.mark.parametrize("name", STREAMS)
async def test_a_body_that_cannot_be_read_passes_byte_for_byte_once_it_has_a_price(name: str, way: Way) -> None:
    kind, data = STREAMS[name]
    with RawServer(lambda seen, wire: wire.send(answer(b'{"task_id":"1"}'))) as server:
        guard = way.guard(unpriced(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            extensions = {"budgetguard": {"credits": 7}}
            for content in (data(), way.chunks(parts(data()))):
                await client.post(SUBMIT, content=content, headers={"content-type": kind}, extensions=extensions)
        assert [seen.body for seen in server.requests(SUBMIT)] == [data(), data()]
        assert (await way.state(guard)).credits_held == 14


async def test_a_form_with_files_has_no_price_but_passes_with_one(way: Way) -> None:
    with RawServer(lambda seen, wire: wire.send(answer(b'{"task_id":"1"}'))) as server:
        guard = way.guard(unpriced(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            given = {"files": {"image": ("a.png", bytes(5000), "image/png")}, "data": {"model": "viduq2"}}
            with pytest.raises(UnknownPrice):
                await client.post(SUBMIT, **given)
            assert server.seen == []
            response = await client.post(SUBMIT, **given, extensions={"budgetguard": {"credits": 7}})
        (seen,) = server.requests(SUBMIT)
        assert len(seen.body) == int(seen.header("content-length"))
        assert bytes(5000) in seen.body
        assert response.json() == {"task_id": "1"}


async def test_a_streamed_body_beyond_the_bound_has_no_price_but_passes_whole_where_the_policy_prices_it(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgetguard._bodies.BODY_MAX", 1000)
    data = json.dumps({**BODY, "images": ["x" * 5000]}).encode()
    sent = {"content-type": "application/json"}
    with RawServer(lambda seen, wire: wire.send(answer(b'{"task_id":"1"}'))) as server:
        for rule in ("refuse", "pass", 9):
            guard = way.guard(unpriced(server.url), policy=quick(unknown_price=rule))
            async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
                if rule == "refuse":
                    with pytest.raises(UnknownPrice):
                        await client.post(SUBMIT, content=way.chunks(parts(data)), headers=sent)
                    assert server.seen == []
                else:
                    await client.post(SUBMIT, content=way.chunks(parts(data)), headers=sent)
                    assert server.requests(SUBMIT)[-1].body == data
                    if rule == 9:
                        assert (await way.state(guard)).credits_held == 9


async def test_a_body_whose_making_fails_holds_nothing_and_raises_what_it_raised(way: Way) -> None:
    def broken() -> Iterator[bytes]:
        yield b'{"model":'
        raise LookupError("no more")

    with RawServer(lambda seen, wire: wire.send(answer(b"{}"))) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            sent = {"content-type": "application/json"}
            with pytest.raises(LookupError, match="no more"):
                await client.post(SUBMIT, content=way.chunks(broken()), headers=sent)
        assert server.seen == []
        state = await way.state(guard, HEADERS["Authorization"].split()[1])
        assert state.credits_held == 0
