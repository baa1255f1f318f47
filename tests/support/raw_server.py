"""A server that says exactly the bytes it is told to, on loopback, from threads."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

__all__ = ["RawServer", "Seen", "Wire", "answer", "chunked", "credits_answer"]


class Seen(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str:
        return next((v.decode() for n, v in self.headers if n.lower() == name.lower().encode()), "")


class Wire:
    """The way back to whoever asked."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.closed = False

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def drop(self) -> None:
        """Close the connection after what was sent."""
        self.closed = True


def answer(
    body: bytes = b"",
    status: str = "200 OK",
    *,
    type: str = "application/json",
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Write an answer with the length of its body."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}"]
    if type:
        lines.append(f"Content-Type: {type}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(
    chunks: Iterable[bytes],
    status: str = "200 OK",
    *,
    type: str = "application/json",
    headers: Iterable[tuple[str, str]] = (),
    end: bytes = b"0\r\n\r\n",
) -> bytes:
    """Write an answer in chunked coding."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "Transfer-Encoding: chunked"]
    if type:
        lines.append(f"Content-Type: {type}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def credits_answer(credits: int = 1_000_000, limit: int = 1000, running: int = 0) -> bytes:
    """Write Vidu's answer to the question for the balance."""
    row = {
        "type": "metered",
        "credit_remain": credits,
        "concurrency_limit": limit,
        "current_concurrency": running,
        "queue_count": 0,
    }
    return answer(json.dumps({"remains": [row]}).encode())


class RawServer:
    """Answers each request by calling *say*; remembers all of them.

    Args:
        say: Given a request and the wire; what it raises closes the connection.
        credits: Said to ``GET .../credits`` before *say* is asked; ``None`` leaves those to *say* too.
    """

    def __init__(self, say: Callable[[Seen, Wire], None], *, credits: bytes | None = None) -> None:
        self._say = say
        self._credits = credits_answer() if credits is None else credits
        self.own_credits = True
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def requests(self, path: str) -> list[Seen]:
        """List the requests to a path that have come so far."""
        with self._lock:
            return [seen for seen in self.seen if seen.path == path]

    def _start(self, work: Callable[..., None], *given: Any) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as incoming:
            while not wire.closed:
                seen = _read(incoming)
                if seen is None:
                    break
                with self._lock:
                    self.seen.append(seen)
                if self.own_credits and seen.path.endswith("/credits"):
                    wire.send(self._credits)
                else:
                    self._say(seen, wire)
        with self._lock:
            self._open.discard(connection)


def _read(incoming: Any) -> Seen | None:
    first = incoming.readline()
    if not first.strip():
        return None
    method, target, _ = first.decode("latin-1").split(" ", 2)
    headers: list[tuple[bytes, bytes]] = []
    while (line := incoming.readline().rstrip(b"\r\n")) != b"":
        name, _, value = line.partition(b":")
        headers.append((name, value.strip()))
    lower = {name.lower(): value for name, value in headers}
    body = b""
    if lower.get(b"transfer-encoding") == b"chunked":
        while size := int(incoming.readline(), 16):
            body += incoming.read(size)
            incoming.readline()
        incoming.readline()
    elif b"content-length" in lower:
        body = incoming.read(int(lower[b"content-length"]))
    return Seen(method, target, tuple(headers), body)
