"""The three ways to run a fake: a real server in a background thread, one in the foreground, and none at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl

import anyio
import httpx

from budgetguard.errors import SettingError
from budgetguard.testing.exchange import Delivery, Reply, Request, Served

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

__all__ = ["InProcessTransport", "Serving", "application", "run"]

_ENDS = {Delivery.DROPPED: "budgetguard.drop", Delivery.CUT: "budgetguard.drop", Delivery.RESET: "budgetguard.reset"}
_SILENT = (Delivery.DROPPED, Delivery.RESET)
_NO_ANSWER = "Server disconnected without sending a response."
_RESET = "Connection reset by peer (the fake was told to)"
_CUT = "peer closed connection without sending complete message body (the fake was told to)"


def missing(error: ImportError) -> NoReturn:
    """Say which extra to install. Since 0.1."""
    remedy = f"install the extra: pip install 'budgetguard-py[testing]' ({error.name} is missing)"
    raise SettingError("serve", "a real server", remedy) from error


def application(fake: Served) -> Starlette:
    """Build the ASGI application of a fake.

    A dropped connection is a closed socket under `Serving`, and an ``httpx.RemoteProtocolError`` under
    ``httpx.ASGITransport``, which has none. Since 0.1.
    """
    try:
        from starlette.applications import Starlette  # noqa: PLC0415 - an extra
        from starlette.routing import Mount  # noqa: PLC0415 - an extra
    except ImportError as error:
        missing(error)

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        request = Request(
            scope["method"],
            scope["path"],
            tuple(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
            {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            bytes(body),
        )
        flow = fake.flow(request)
        try:
            for step in flow:
                if isinstance(step, Reply):
                    await _send(step, scope, receive, send)
                else:
                    await anyio.sleep(step)
        finally:
            flow.close()

    return Starlette(routes=[Mount("/", app=endpoint)])


async def _send(reply: Reply, scope: Any, receive: Any, send: Any) -> None:
    if reply.delivery not in _SILENT:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items()]
        headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        cut = reply.delivery is Delivery.CUT
        body = reply.body[: len(reply.body) // 2] if cut else reply.body
        await send({"type": "http.response.body", "body": body, "more_body": cut})
        if not cut:
            return
    end = scope.get("extensions", {}).get(_ENDS[reply.delivery])
    if end is None:
        raise _ended(reply.delivery)
    end()
    while (await receive())["type"] != "http.disconnect":
        pass


def _ended(delivery: Delivery, request: httpx.Request | None = None) -> httpx.TransportError:
    """Build the error httpx raises where a connection ended like that."""
    if delivery is Delivery.RESET:
        return httpx.ReadError(_RESET, request=request)
    return httpx.RemoteProtocolError(_NO_ANSWER if delivery is Delivery.DROPPED else _CUT, request=request)


class InProcessTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Speaks to a fake without sockets, threads or servers, from ``Client`` and ``AsyncClient``. Since 0.1.

    Delays are waited for, and a read timeout strikes as it would on a socket: the client gives up, and the fake
    handles the request all the same. May be shared between threads.
    """

    def __init__(self, fake: Served) -> None:
        self._fake = fake

    def __repr__(self) -> str:
        return f"<InProcessTransport to {self._fake!r}>"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request. Since 0.1."""
        patience = _Patience(request)
        reply = None
        with contextlib.closing(self._fake.flow(_plain(request, request.read()))) as flow:
            for step in flow:
                if isinstance(step, Reply):
                    reply = step
                else:
                    time.sleep(patience.take(step))
        return patience.answer(reply)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request. Since 0.1."""
        patience = _Patience(request)
        reply = None
        with contextlib.closing(self._fake.flow(_plain(request, await request.aread()))) as flow:
            for step in flow:
                if isinstance(step, Reply):
                    reply = step
                else:
                    await anyio.sleep(patience.take(step))
        return patience.answer(reply)


def _plain(request: httpx.Request, body: bytes) -> Request:
    query = tuple(parse_qsl(request.url.query.decode("ascii"), keep_blank_values=True))
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(request.method, request.url.path, query, headers, body)


class _Patience:
    """How long the client of one request is willing to wait."""

    def __init__(self, request: httpx.Request) -> None:
        self.request = request
        self.left: float | None = request.extensions.get("timeout", {}).get("read")
        self.ended = False

    def take(self, seconds: float) -> float:
        if self.ended:
            return 0.0
        if self.left is not None:
            self.ended = seconds > self.left
            seconds = min(seconds, self.left)
            self.left -= seconds
        return seconds

    def answer(self, reply: Reply | None) -> httpx.Response:
        if self.ended:
            raise httpx.ReadTimeout("The fake was slower than the client's read timeout.", request=self.request)
        delivery = Delivery.DROPPED if reply is None else reply.delivery
        if reply is None or delivery in _SILENT:
            raise _ended(delivery, self.request)
        headers = {**reply.headers, "content-length": str(len(reply.body))}
        if reply.delivery is Delivery.CUT:
            return httpx.Response(reply.status, headers=headers, stream=_CutStream(reply.body), request=self.request)
        return httpx.Response(reply.status, headers=headers, content=reply.body, request=self.request)


class _CutStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._half = body[: len(body) // 2]

    def __iter__(self) -> Iterator[bytes]:
        yield self._half
        raise httpx.RemoteProtocolError(_CUT)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._half
        raise httpx.RemoteProtocolError(_CUT)


def _server(fake: Served, listening: Callable[[], None]) -> uvicorn.Server:
    try:
        from budgetguard.testing.loopback import build  # noqa: PLC0415 - needs the extra
    except ImportError as error:
        missing(error)
    return build(application(fake), listening)


def _bind(host: str, port: int) -> tuple[socket.socket, str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    shown = f"[{host}]" if ":" in host else host
    return sock, f"http://{shown}:{sock.getsockname()[1]}"


def run(
    fake: Served, *, host: str = "127.0.0.1", port: int = 8900, started: Callable[[str], None] | None = None
) -> None:
    """Serve a fake in the foreground until Ctrl-C.

    Args:
        fake: The fake.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        started: Called with the address once it listens.

    Raises:
        SettingError: If the extra ``testing`` is not installed.
        OSError: If the port is taken.

    Since 0.1.
    """
    sock, url = _bind(host, port)
    with sock, contextlib.closing(fake):
        fake.url = url
        server = _server(fake, lambda: started(url) if started else None)
        try:
            with contextlib.suppress(KeyboardInterrupt):  # The server stops cleanly first and then passes it on.
                server.run(sockets=[sock])
        finally:
            fake.url = ""


class Serving:
    """A fake on a real socket, served from a background thread. Since 0.1.

    A context manager that gives the address: when it is entered the server answers, when it is left the socket, the
    connections and the thread are gone. `start` and `stop` do the same by hand. One at a time, by one thread.

    Attributes:
        url: The address, e.g. ``http://127.0.0.1:41234``; ``""`` before the start.
    """

    def __init__(self, fake: Served, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._fake = fake
        self._host = host
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> str:
        """Bind, start the thread, and return the address once the server answers.

        Raises:
            OSError: If the port is taken, or the server does not start.

        Since 0.1.
        """
        if self._thread is not None:
            return self.url
        listening = threading.Event()
        server = _server(self._fake, listening.set)
        sock, self.url = _bind(self._host, self._port)
        self._fake.url = self.url

        def work() -> None:
            try:
                with asyncio.Runner() as runner:
                    runner.run(server.serve(sockets=[sock]))
            finally:
                sock.close()
                listening.set()

        self._server = server
        self._thread = threading.Thread(target=work, name=f"budgetguard-fake-{sock.getsockname()[1]}", daemon=True)
        self._thread.start()
        listening.wait()
        if not server.started:
            self.stop()
            raise OSError(f"the server of {self._fake!r} did not start; its thread has told why")
        return self.url

    def stop(self) -> None:
        """Close the socket and all connections and end the thread; requests under way get a moment. Since 0.1."""
        if self._thread is not None and self._server is not None:
            self._server.should_exit = True
            self._thread.join()
        self._thread = self._server = None
        self._fake.url = self.url = ""
        self._fake.close()
