"""Bodies of httpx requests and responses, read ahead and given back whole. Both colours, side by side."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import anyio
import httpx

from budgetguard._http import BODY_MAX, is_json, looks_small
from budgetguard.engine import decode

__all__ = [
    "AsyncReplay",
    "Replay",
    "aclosing_on_error",
    "aread",
    "aread_body",
    "aread_some",
    "aslot",
    "broken",
    "closing_on_error",
    "read",
    "read_body",
    "read_some",
    "slot",
]

_PIECE = 64
"""Bytes that a piece of a body takes at least, however short it is."""


class Replay(httpx.SyncByteStream):
    """A body that was read ahead: gives what was read, then the rest, then the error that ended it, if one did."""

    def __init__(self, inner: httpx.SyncByteStream) -> None:
        self._inner = inner
        self._rest: Iterator[bytes] | None = None
        self._error: Exception | None = None
        self._chunks: list[bytes] = []
        self._inner_closed = False
        self.on_close: Callable[[], None] | None = None
        """Called once, when the body is closed."""

    def read_ahead(self) -> bytes | None:
        """Read the body as it comes; ``None`` if it is too long, or broke off."""
        size = 0
        rest = iter(self._inner)
        try:
            for chunk in rest:
                self._chunks.append(chunk)
                size += max(len(chunk), _PIECE)
                if size > BODY_MAX:
                    self._rest = rest
                    return None
        except Exception as error:  # noqa: BLE001 - it is raised again when the caller gets there
            self._error = error
            chunk = b""  # a traceback may show what this frame names, and an answer may repeat what was sent
        # The connection is free from here on: a call that waits to be sent again must not keep it from the others.
        self._inner_closed = True
        self._inner.close()
        return b"".join(self._chunks) if self._error is None else None

    def pass_on(self) -> None:
        """Leave the body to the caller unread."""
        self._rest = iter(self._inner)

    @property
    def broken(self) -> Exception | None:
        """What ended the body early."""
        return self._error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._rest is not None:
            yield from self._rest
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        try:
            if not self._inner_closed:
                self._inner_closed = True
                self._inner.close()
        finally:
            done, self.on_close = self.on_close, None
            if done is not None:
                done()


class AsyncReplay(httpx.AsyncByteStream):
    """The same for ``async``."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner
        self._rest: AsyncIterator[bytes] | None = None
        self._error: Exception | None = None
        self._chunks: list[bytes] = []
        self._inner_closed = False
        self.on_close: Callable[[], Awaitable[None]] | None = None
        """Awaited once, when the body is closed."""

    async def read_ahead(self) -> bytes | None:
        """Read the body as it comes; ``None`` if it is too long, or broke off."""
        size = 0
        rest = aiter(self._inner)
        try:
            async for chunk in rest:
                self._chunks.append(chunk)
                size += max(len(chunk), _PIECE)
                if size > BODY_MAX:
                    self._rest = rest
                    return None
        except Exception as error:  # noqa: BLE001 - it is raised again when the caller gets there
            self._error = error
            chunk = b""  # a traceback may show what this frame names, and an answer may repeat what was sent
        # As above.
        self._inner_closed = True
        await self._inner.aclose()
        return b"".join(self._chunks) if self._error is None else None

    def pass_on(self) -> None:
        """Leave the body to the caller unread."""
        self._rest = aiter(self._inner)

    @property
    def broken(self) -> Exception | None:
        """What ended the body early."""
        return self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # No name here stands for a piece, in which a provider may repeat the key: a trace may show a frame's names.
        for at in range(len(self._chunks)):
            yield self._chunks[at]
        while self._rest is not None:
            try:
                yield await anext(self._rest)
            except StopAsyncIteration:
                break
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        try:
            if not self._inner_closed:
                self._inner_closed = True
                await self._inner.aclose()
        finally:
            done, self.on_close = self.on_close, None
            if done is not None:
                await done()


def read(response: httpx.Response) -> bytes | None:
    """Read an answer ahead, if it is one to look at, leaving the caller all of it."""
    if not looks_small(response):
        return None
    response.stream = stream = Replay(_sync(response.stream))
    return stream.read_ahead()


async def aread(response: httpx.Response) -> bytes | None:
    """The same for ``async``."""
    if not looks_small(response):
        return None
    response.stream = stream = AsyncReplay(_async(response.stream))
    return await stream.read_ahead()


def broken(response: httpx.Response) -> bool:
    """Tell whether an answer that was read ahead broke off."""
    return isinstance(response.stream, Replay | AsyncReplay) and response.stream.broken is not None


def slot(response: httpx.Response, closed: Callable[[], None]) -> None:
    """Have *closed* called when the caller closes the answer."""
    stream = response.stream
    if not isinstance(stream, Replay):
        response.stream = stream = Replay(_sync(stream))
        stream.pass_on()
    stream.on_close = closed


def aslot(response: httpx.Response, closed: Callable[[], Awaitable[None]]) -> None:
    """The same for ``async``."""
    stream = response.stream
    if not isinstance(stream, AsyncReplay):
        response.stream = stream = AsyncReplay(_async(stream))
        stream.pass_on()
    stream.on_close = closed


@contextlib.contextmanager
def closing_on_error(response: httpx.Response) -> Generator[None]:
    """Close an answer that the caller will not get."""
    try:
        yield
    except BaseException:
        response.close()
        raise


@contextlib.asynccontextmanager
async def aclosing_on_error(response: httpx.Response) -> AsyncGenerator[None]:
    """The same for ``async``."""
    try:
        yield
    except BaseException:
        with anyio.CancelScope(shield=True):
            await response.aclose()
        raise


def read_some(response: httpx.Response, most: int, seconds: float) -> bytes | None:
    """Read an answer that is not the caller's, unless it is longer than *most* bytes or takes longer than *seconds*."""
    content, end = bytearray(), time.monotonic() + seconds
    for chunk in _sync(response.stream):
        content += chunk
        if len(content) > most or time.monotonic() > end:
            return None
    return bytes(content)


async def aread_some(response: httpx.Response, most: int, seconds: float) -> bytes | None:
    """The same for ``async``."""
    content, end = bytearray(), time.monotonic() + seconds
    rest = aiter(_async(response.stream))
    try:
        async for chunk in rest:
            content += chunk
            if len(content) > most or time.monotonic() > end:
                return None
    finally:
        # A generator left half-way is trio's to complain about.
        if isinstance(rest, AsyncGenerator):
            await rest.aclose()
    return bytes(content)


def read_body(request: httpx.Request, *, wanted: bool) -> tuple[Any, bool]:
    """Read a call's JSON body, where there is one and it is *wanted*; and tell whether the call can be sent twice."""
    if isinstance(request.stream, httpx.ByteStream):
        return (decode(request.read()) if wanted else None), True
    if not wanted or not is_json(request.headers):
        return None, False
    chunks: list[bytes] = []
    size = 0
    stream = iter(_sync(request.stream))
    for chunk in stream:
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_MAX:
            request.stream = _Rest(chunks, stream)
            return None, False
    content = b"".join(chunks)
    request.stream = httpx.ByteStream(content)
    return decode(content), True


async def aread_body(request: httpx.Request, *, wanted: bool) -> tuple[Any, bool]:
    """The same for ``async``."""
    if isinstance(request.stream, httpx.ByteStream):
        return (decode(request.read()) if wanted else None), True
    if not wanted or not is_json(request.headers):
        return None, False
    chunks: list[bytes] = []
    size = 0
    stream = aiter(_async(request.stream))
    async for chunk in stream:
        chunks.append(chunk)
        size += len(chunk)
        if size > BODY_MAX:
            request.stream = _AsyncRest(chunks, stream)
            return None, False
    content = b"".join(chunks)
    request.stream = httpx.ByteStream(content)
    return decode(content), True


class _Rest(httpx.SyncByteStream):
    def __init__(self, chunks: list[bytes], rest: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        yield from self._rest


class _AsyncRest(httpx.AsyncByteStream):
    def __init__(self, chunks: list[bytes], rest: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(len(self._chunks)):
            yield self._chunks[at]
        async for chunk in self._rest:
            yield chunk


def _sync(stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> httpx.SyncByteStream:
    assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - what a sync transport gives
    return stream


def _async(stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> httpx.AsyncByteStream:
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - what an async transport gives
    return stream
