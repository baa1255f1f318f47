"""A guarded client and a plain one get the same answer from the same server, whatever it says."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from tests.support.raw_server import RawServer, Seen, Wire, answer, chunked, credits_answer
from tests.support.vidu import BODY, CREDITS, HEADERS, SUBMIT, poll, quick, vidu
from tests.support.ways import Caller, Way

pytestmark = [
    pytest.mark.anyio,
    # What httpx leaves behind on trio when a body ends in an error, guarded or not.
    pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning"
    ),
]
HOWS = {SUBMIT: ("whole", "raw", "bytes", "lines"), CREDITS: ("whole", "raw", "text"), poll("task-1"): ("whole", "raw")}

TASK = {"task_id": "task-1", "id": "task-1", "state": "processing", "credits": 10, "prompt": "späße\n" * 50}
DOCUMENT = json.dumps(TASK).encode()
DATE = ("Date", "Sat, 01 Aug 2026 00:00:00 GMT")
ODD_CHUNKS = [DOCUMENT[:1], DOCUMENT[1:2], DOCUMENT[2:130], DOCUMENT[130:131], DOCUMENT[131:]]


def deflated(data: bytes, *, raw: bool = False) -> bytes:
    worker = zlib.compressobj(wbits=-15 if raw else 15)
    return worker.compress(data) + worker.flush()


ANSWERS: Mapping[str, bytes] = {
    "json": answer(DOCUMENT, headers=[DATE]),
    "json with parameters": answer(DOCUMENT, type="Application/JSON; charset=utf-8"),
    "vendor json": answer(DOCUMENT, type="application/vnd.vidu+json"),
    "json that does not say so": answer(DOCUMENT, type=""),
    "text that says it is json": answer(b"{never closed"),
    "nothing that says it is json": answer(b""),
    "gzip": answer(gzip.compress(DOCUMENT, mtime=0), headers=[("Content-Encoding", "gzip")]),
    "gzip in chunks": chunked([gzip.compress(DOCUMENT, mtime=0)[:9], gzip.compress(DOCUMENT, mtime=0)[9:]],
                              headers=[("Content-Encoding", "gzip")]),
    "deflate": answer(deflated(DOCUMENT), headers=[("content-encoding", "deflate")]),
    "raw deflate": answer(deflated(DOCUMENT, raw=True), headers=[("content-encoding", "deflate")]),
    "gzip over deflate": answer(
        gzip.compress(deflated(DOCUMENT), mtime=0), headers=[("content-encoding", "deflate, gzip")]
    ),
    "an encoding nobody knows": answer(DOCUMENT, headers=[("content-encoding", "x-unheard-of")]),
    "gzip that is none": answer(DOCUMENT, headers=[("content-encoding", "gzip")]),
    "json in odd chunks": chunked(ODD_CHUNKS),
    "chunks with trailers": chunked(ODD_CHUNKS, end=b"0\r\nX-Checksum: 1\r\n\r\n"),
    "no length, ended by closing": b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + DOCUMENT,
    "html": answer(b"<p>fine</p>\r\n" * 9, type="text/html; charset=utf-8"),
    "another alphabet": answer("Grüße\nan alle\r\n".encode("latin-1"), type="text/plain; charset=iso-8859-1"),
    "a quarter of a megabyte of video": answer(bytes(range(128, 256)) * 2048, type="video/mp4"),
    "events": chunked([b"data: 1\n\n", b"data: 2\n\n"], type="text/event-stream"),
    "lines of json": chunked([b'{"n":1}\n', b'{"n":2}\n{"n"', b":3}\n"], type="application/x-ndjson"),
    "no content": b"HTTP/1.1 204 No Content\r\nX-Odd:\r\n\r\n",
    "a reason of its own": answer(DOCUMENT, "200 Perfectly Fine"),
    "created": answer(DOCUMENT, "201 Created"),
    "repeated and oddly written headers": answer(
        DOCUMENT,
        headers=[("SET-cookie", "a=1; Path=/"), ("set-Cookie", "b=2; Path=/"), ("x-EMPTY", ""), ("X-Latin", "\xe4")],
    ),
    "early hints first": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(DOCUMENT),
    "a redirect": answer(b"", "302 Found", headers=[("Location", "/ent/v2/elsewhere")]),
    "not modified": b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    "a refusal": answer(b'{"code":400,"reason":"FieldLacking","message":"no"}', "400 Bad Request"),
    "no credits": answer(b'{"code":400,"reason":"CreditInsufficient"}', "400 Bad Request"),
    "too many tasks": answer(b'{"reason":"QuotaExceeded"}', "429 Too Many Requests"),
    "too fast": answer(b'{"reason":"TooManyRequests"}', "429 Too Many Requests", headers=[("Retry-After", "0")]),
    "client closed": answer(b'{"reason":"Canceled"}', "499 Client Closed Request"),
    "an error in html": answer(b"<h1>502</h1>", "502 Bad Gateway", type="text/html"),
    "an error in json": answer(b'{"code":500,"reason":"InternalServiceFailure"}', "500 Internal Server Error"),
    "a body cut short": answer(DOCUMENT)[:-20],
    "a gzip body cut short": answer(gzip.compress(DOCUMENT, mtime=0), headers=[("content-encoding", "gzip")])[:-9],
    "chunks cut short": chunked(ODD_CHUNKS)[:-30],
    "chunks without an end": chunked(ODD_CHUNKS, end=b""),
    "a video cut short": answer(bytes(9999), type="video/mp4")[:-20],
    "a chunk of nonsense": chunked(ODD_CHUNKS, end=b"nonsense\r\n"),
    "nothing at all": b"",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-",
    "no http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
}  # fmt: skip

ROUTES: Mapping[str, Callable[[Caller, str], Any]] = {
    SUBMIT: lambda client, how: read(client, how, "POST", SUBMIT, json=BODY),
    poll("task-1"): lambda client, how: read(client, how, "GET", poll("task-1")),
    "/ent/v2/tasks": lambda client, how: read(client, how, "GET", "/ent/v2/tasks", params={"pager.page": 0}),
    "/ent/v2/tasks/task-1/cancel": lambda client, how: read(client, how, "POST", "/ent/v2/tasks/task-1/cancel"),
    CREDITS: lambda client, how: read(client, how, "GET", CREDITS),
    "/health": lambda client, how: read(client, how, "GET", "/health"),
}


async def read(client: Caller, how: str, method: str, url: str, **given: Any) -> dict[str, Any]:
    """Make one request, read its answer in one way, and note all there is to see."""
    seen: dict[str, Any] = {}
    response: httpx.Response | None = None
    try:
        if how == "whole":
            response = await client.request(method, url, **given)
            seen["content"] = response.content
            seen["text"] = response.text
        else:
            async with client.stream(method, url, **given) as body:
                response = body.response
                seen["closed before"] = response.is_closed
                seen["consumed before"] = response.is_stream_consumed
                pieces = [piece async for piece in body.pieces(how)]
                seen["joined"] = pieces if how == "lines" else ("" if how == "text" else b"").join(pieces)
    except Exception as error:  # noqa: BLE001 - compared with the other client's
        seen["error"] = type(error)
        seen["message"] = str(error)
        seen["request of the error"] = str(getattr(error, "request", "")) if isinstance(error, httpx.HTTPError) else ""
    if response is not None:
        seen |= facts(response)
    return seen


def facts(response: httpx.Response) -> dict[str, Any]:
    try:
        response.raise_for_status()
        status = ""
    except httpx.HTTPStatusError as error:
        status = str(error)
    return {
        "status": (response.status_code, response.reason_phrase, response.http_version, status),
        "headers": response.headers.raw,
        "cookies": dict(response.cookies),
        "bytes": response.num_bytes_downloaded,
        "closed": response.is_closed,
        "consumed": response.is_stream_consumed,
        "extensions": sorted(response.extensions),
        "encoding": response.encoding,
        "elapsed": hasattr(response, "_elapsed") and response.elapsed.total_seconds() > 0,
        "request": (response.request.method, str(response.request.url), response.request.headers.raw),
        "next": response.next_request and str(response.next_request.url),
    }


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_guarded_answer_is_the_plain_answer(name: str, way: Way) -> None:
    data = ANSWERS[name]

    def say(seen: Seen, wire: Wire) -> None:
        wire.send(data)
        if name.endswith(("cut short", "an end", "closing", "nonsense", "at all", "header", "http")):
            wire.drop()

    with RawServer(say) as server:
        settings: dict[str, Any] = {"base_url": server.url, "headers": HEADERS}
        guard = way.guard(vidu(server.url), policy=quick(resend_max=0))
        async with way.client(**settings) as plain, way.client(guard, on_refusal="respond", **settings) as guarded:
            for path, fetch in ROUTES.items():
                server.own_credits = path != CREDITS
                for how in HOWS.get(path, ("raw",)):
                    expected = await fetch(plain, how)
                    assert await fetch(guarded, how) == expected, (path, how)


async def test_the_twins_do_differ_where_the_server_does(way: Way) -> None:
    answers = iter([answer(b"{}", headers=[("X-Count", "1")]), answer(b"{}", headers=[("X-Count", "2")])])
    with RawServer(lambda seen, wire: wire.send(next(answers))) as server:
        settings: dict[str, Any] = {"base_url": server.url, "headers": HEADERS}
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(**settings) as plain, way.client(guard, **settings) as guarded:
            route = ROUTES[poll("task-1")]
            assert await route(plain, "whole") != await route(guarded, "whole")


async def test_credits_answers_of_any_form_do_no_harm_to_a_call(way: Way) -> None:
    good = credits_answer()
    with RawServer(lambda seen, wire: wire.send(answer(DOCUMENT)), credits=good) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            assert (await client.post(SUBMIT, json=BODY)).json() == TASK
        assert [seen.path for seen in server.seen] == [CREDITS, SUBMIT]
