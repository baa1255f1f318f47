"""One test for both transports: a way to call, blocking in threads or on an event loop.

A test is written once, as a coroutine. `BlockingWay` does every request in a worker thread with ``httpx.Client`` and
`Guard`; `ConcurrentWay` awaits ``httpx.AsyncClient`` and `AsyncGuard` on whatever loop the test runs on.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx

from budgetguard.guard import AsyncGuard, Guard
from budgetguard.model import State
from budgetguard.transport import OnRefusal

__all__ = ["Body", "Caller", "Way", "way_named"]

T = TypeVar("T")

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Shared, as reading the certificates of the machine for each client takes longer than all the rest."""


async def in_thread(function: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(function, limiter=anyio.CapacityLimiter(1))


class Body(Protocol):
    """An answer whose body is read piece by piece."""

    response: httpx.Response

    def pieces(self, how: str) -> AsyncIterator[Any]:
        """Iterate with ``iter_raw``, ``iter_bytes``, ``iter_text`` or ``iter_lines``, named without ``iter_``."""
        ...


class _BlockingBody:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    async def pieces(self, how: str) -> AsyncIterator[Any]:
        rest: Iterator[Any] = getattr(self.response, f"iter_{how}")()
        end = object()
        while (piece := await in_thread(lambda: next(rest, end))) is not end:
            yield piece


class _ConcurrentBody:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    def pieces(self, how: str) -> AsyncIterator[Any]:
        pieces: AsyncIterator[Any] = getattr(self.response, f"aiter_{how}")()
        return pieces


class Caller(Protocol):
    """A client, guarded or not."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def request(self, method: str, url: str, **given: Any) -> httpx.Response: ...

    async def post(self, url: str, **given: Any) -> httpx.Response: ...

    async def get(self, url: str, **given: Any) -> httpx.Response: ...

    async def send(self, request: httpx.Request) -> httpx.Response: ...

    def stream(self, method: str, url: str, **given: Any) -> AbstractAsyncContextManager[Body]: ...

    async def close(self) -> None: ...


class _BlockingCaller:
    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    async def __aenter__(self) -> Self:
        await in_thread(self.client.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await in_thread(lambda: self.client.__exit__(kind, error, traceback))

    async def request(self, method: str, url: str, **given: Any) -> httpx.Response:
        return await in_thread(lambda: self.client.request(method, url, **given))

    async def post(self, url: str, **given: Any) -> httpx.Response:
        return await self.request("POST", url, **given)

    async def get(self, url: str, **given: Any) -> httpx.Response:
        return await self.request("GET", url, **given)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await in_thread(lambda: self.client.send(request))

    @asynccontextmanager
    async def stream(self, method: str, url: str, **given: Any) -> AsyncGenerator[Body]:
        manager: AbstractContextManager[httpx.Response] = self.client.stream(method, url, **given)
        response = await in_thread(manager.__enter__)
        try:
            yield _BlockingBody(response)
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(response.close)

    async def close(self) -> None:
        await in_thread(self.client.close)


class _ConcurrentCaller:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, traceback)

    async def request(self, method: str, url: str, **given: Any) -> httpx.Response:
        return await self.client.request(method, url, **given)

    async def post(self, url: str, **given: Any) -> httpx.Response:
        return await self.request("POST", url, **given)

    async def get(self, url: str, **given: Any) -> httpx.Response:
        return await self.request("GET", url, **given)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self.client.send(request)

    @asynccontextmanager
    async def stream(self, method: str, url: str, **given: Any) -> AsyncGenerator[Body]:
        async with self.client.stream(method, url, **given) as response:
            yield _ConcurrentBody(response)

    async def close(self) -> None:
        await self.client.aclose()


class Way:
    """How a test calls. Made by `way_named`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.blocking = name == "blocking"

    def guard(self, provider: Any, **settings: Any) -> Any:
        """Make a `Guard` or an `AsyncGuard`."""
        return Guard(provider, **settings) if self.blocking else AsyncGuard(provider, **settings)

    def inner(self, **settings: Any) -> Any:
        """Make what httpx sends with, when it speaks over sockets."""
        if self.blocking:
            return httpx.HTTPTransport(verify=_NO_TLS, **settings)
        return httpx.AsyncHTTPTransport(verify=_NO_TLS, **settings)

    def transport(self, guard: Any, inner: Any = None, *, on_refusal: OnRefusal = "raise") -> Any:
        return guard.transport(self.inner() if inner is None else inner, on_refusal=on_refusal)

    def client(self, guard: Any = None, inner: Any = None, *, on_refusal: OnRefusal = "raise", **given: Any) -> Caller:
        """Make a client; without a *guard*, a plain one."""
        inner = self.inner() if inner is None else inner
        transport = inner if guard is None else self.transport(guard, inner, on_refusal=on_refusal)
        if self.blocking:
            return _BlockingCaller(httpx.Client(transport=transport, **given))
        return _ConcurrentCaller(httpx.AsyncClient(transport=transport, **given))

    async def state(self, guard: Any, key: str | None = None) -> State:
        state = guard.state(key)
        return state if isinstance(state, State) else await _awaited(state)

    async def finished(self, guard: Any, task_id: str, **given: Any) -> bool:
        ended = guard.finished(task_id, **given)
        return ended if isinstance(ended, bool) else await _awaited(ended)

    def hooks(self, note: Callable[[Any], None]) -> dict[str, list[Any]]:
        """Build event hooks that note every request and response."""
        if self.blocking:
            return {"request": [note], "response": [note]}

        async def later(what: Any) -> None:
            await anyio.lowlevel.checkpoint()
            note(what)

        return {"request": [later], "response": [later]}

    def chunks(self, chunks: Iterable[bytes]) -> Any:
        """Turn chunks into a streamed request body."""
        if self.blocking:
            return iter(chunks)

        async def body() -> AsyncIterator[bytes]:
            for chunk in chunks:
                await anyio.lowlevel.checkpoint()
                yield chunk

        return body()

    def traced(self, names: list[str]) -> Mapping[str, Any]:
        """Build the request extension with which httpcore tells what it does."""
        if self.blocking:
            return {"trace": lambda name, info: names.append(name)}

        async def trace(name: str, info: Any) -> None:
            await anyio.lowlevel.checkpoint()
            names.append(name)

        return {"trace": trace}

    def __repr__(self) -> str:
        return self.name


async def _awaited(value: Awaitable[T]) -> T:
    return await value


def way_named(name: str) -> Way:
    """Make the way of that name: ``blocking``, ``asyncio`` or ``trio``."""
    return Way(name)
