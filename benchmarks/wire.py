"""One paid request and its answer, in process: what transports and clients are measured with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import stage
from benchmarks.flat import ORIGIN, SUBMIT, Flat
from benchmarks.peers import peer
from benchmarks.statement import Names
from benchmarks.table import Kind
from benchmarks.yardsticks import Ledger
from budgetguard import AsyncGuard, Guard
from budgetguard.ports import Provider
from budgetguard.providers import Vidu

__all__ = ["BARE", "Studio", "Way", "atidy", "tidy", "ways"]

BODY = {"model": "viduq2", "prompt": "a kite over the sea", "duration": 5, "resolution": "720p"}
HEADERS = {"Authorization": f"Token {stage.KEY}"}


class Studio(httpx.MockTransport):
    """Accepts everything, under a new id each time, as Vidu words it."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self._next = itertools.count().__next__
        self._balance = stage.balance()
        self.tasks: list[str] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=self._balance)
        task = f"task-{self._next()}"
        self.tasks.append(task)
        content = b'{"task_id":"%s","state":"created","credits":35}' % task.encode()
        return httpx.Response(200, headers=[("content-type", "application/json")], content=content)


class Passing(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The least a transport around another can do."""

    def __init__(self, inner: httpx.MockTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._inner.handle_request(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._inner.handle_async_request(request)


class Yardstick(Passing):
    """The least a guard can do: find the price by method and path, hold it in the yardstick's ledger, send, settle."""

    def __init__(self, inner: httpx.MockTransport) -> None:
        super().__init__(inner)
        self._ledger = Ledger()
        self._prices = {("POST", SUBMIT): 35}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        price = self._prices.get((request.method, request.url.path))
        if price is None:
            return super().handle_request(request)
        record = self._ledger.reserve("a", price)
        try:
            return self._inner.handle_request(request)
        finally:
            self._ledger.settle(record, price)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        price = self._prices.get((request.method, request.url.path))
        if price is None:
            return await super().handle_async_request(request)
        record = self._ledger.reserve("a", price)
        try:
            return await self._inner.handle_async_request(request)
        finally:
            self._ledger.settle(record, price)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to send: a name for its row, and what puts it around a studio.

    *make* gives the transport, and the guard that must be told when tasks are done, where there is one.
    """

    name: str
    kind: Kind
    make: Callable[[Studio], tuple[Any, Guard | AsyncGuard | None]]
    goal: str = ""
    """Which of a subject's goals it is measured by: ``table`` or ``json``."""
    path: str = SUBMIT

    def names(self, *, client: bool, asynchronous: bool) -> Names:
        """Make what a statement needs to send a request."""
        studio = Studio()
        transport, guard = self.make(studio)
        names = {"it": transport, "studio": studio, "guard": guard}
        if not client:
            return {**names, "request": httpx.Request("POST", ORIGIN + self.path, headers=HEADERS, json=BODY)}
        kind: type[Any] = httpx.AsyncClient if asynchronous else httpx.Client
        made = kind(transport=transport, base_url=ORIGIN, headers=HEADERS)
        return {**names, "it": made, "path": self.path, "body": BODY}


def tidy(studio: Studio, guard: Guard | None, **_: Any) -> None:
    """Tell the guard that the tasks of the last sample are done: outside the timed part, so that none gather."""
    if guard is not None:
        for task in studio.tasks:
            guard.finished(task)
    studio.tasks.clear()


async def atidy(studio: Studio, guard: AsyncGuard | None, **_: Any) -> None:
    """See `tidy`."""
    if guard is not None:
        for task in studio.tasks:
            await guard.finished(task)
    studio.tasks.clear()


BARE = "bare MockTransport"


def ways(folder: Path, *, asynchronous: bool) -> list[Way]:
    """List them; *folder* is for what keeps files."""

    def guarded(provider: Provider) -> Callable[[Studio], tuple[Any, Guard | AsyncGuard | None]]:
        return lambda studio: _guarded(studio, provider, asynchronous=asynchronous)

    found = [
        Way("a transport that passes on", "floor", lambda studio: (Passing(studio), None)),
        Way("yardstick R: routed, held, settled", "yardstick", lambda studio: (Yardstick(studio), None)),
        Way("budgetguard, priced by table", "ours", guarded(Flat()), "table"),
        Way("budgetguard, Vidu: both JSONs read", "ours", guarded(Vidu()), "json"),
        Way("budgetguard, a call that costs nothing", "ours", guarded(Flat()), path="/ent/v2/free"),
        Way("httpx-retries", "peer", lambda studio: (peer("httpx_retries").RetryTransport(transport=studio), None)),
    ]
    if asynchronous:
        found.append(Way("httpx-limiter (aiolimiter)", "peer", _httpx_limiter))
    hishel = Way(
        "hishel (not cacheable)", "peer", lambda studio: (_hishel(studio, folder, asynchronous=asynchronous), None)
    )
    found.append(hishel)
    return found


def _guarded(studio: Studio, provider: Provider, *, asynchronous: bool) -> tuple[Any, Guard | AsyncGuard | None]:
    kind: type[Any] = AsyncGuard if asynchronous else Guard
    guard = kind(provider, policy=stage.CALM, api_key=stage.KEY)
    return guard.transport(studio), guard if provider.name == "vidu" else None


def _httpx_limiter(studio: Studio) -> tuple[Any, None]:
    package = peer("httpx_limiter")
    limiter = peer("httpx_limiter.aiolimiter").AiolimiterAsyncLimiter.create(package.Rate.create(magnitude=10**9))
    return package.AsyncRateLimitedTransport(limiter=limiter, transport=studio), None


def _hishel(studio: Studio, folder: Path, *, asynchronous: bool) -> Any:
    storages, transports = peer("hishel"), peer("hishel.httpx")
    path = str(folder / f"hishel-{len(list(folder.iterdir()))}.db")
    if asynchronous:
        return transports.AsyncCacheTransport(studio, storage=storages.AsyncSqliteStorage(database_path=path))
    return transports.CacheTransport(studio, storage=storages.SqliteStorage(database_path=path))
