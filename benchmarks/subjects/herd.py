"""A thousand callers at once, on a reading that is too old: one may ask, and nobody should wait longer than he must."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import httpx

from benchmarks import stage
from benchmarks.contest import Contest, Measured, Pace
from benchmarks.peers import peer
from benchmarks.table import Column, Goal, Kind, Table
from budgetguard import AsyncGuard, AsyncPermit
from budgetguard.providers import Vidu
from budgetguard.stores import MemoryStore

_CALLERS = 1000
_ASKING = 0.005
"""Seconds the credits request takes."""
_REQUESTS = Column("requests", over="max")

Get = Callable[[], Awaitable[Any]]


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    yield outdated(pace)
    yield stale(pace)


def outdated(pace: Pace) -> Table:
    """Measure callers who cannot go on without a new reading."""
    floor = "floor: 1,000 tasks await one timer"
    note = (
        f"A credits request takes {_ASKING * 1000:g} ms. Each caller of budgetguard gets credits and a slot; "
        "the caches only give a value."
    )
    contest = Contest(
        "1,000 callers, no usable reading", floor, pace, unit="ms", columns=[_REQUESTS], note=note, brief="outdated"
    )
    contest.run(floor, _timer, kind="floor")
    contest.run(
        "budgetguard reserve()",
        lambda: _reserve(beyond=True),
        kind="ours",
        goals=(Goal(1, of="requests", sign="=="), Goal(1.8, 1.5)),
    )

    def cache(name: str, make: Callable[[], Callable[[Get], Get]], kind: Kind = "peer") -> None:
        contest.run(name, lambda: _cached(make), kind=kind)

    cache("naive: each asks", lambda: lambda ask: ask)
    cache("yardstick: the first asks, the others await a future", lambda: _first_asks, "yardstick")
    cache("async-lru alru_cache(ttl)", lambda: peer("async_lru").alru_cache(maxsize=8, ttl=60))
    cache("aiocache cached()", lambda: peer("aiocache").cached(ttl=60))
    cache("aiocache cached_stampede()", lambda: peer("aiocache.decorators").cached_stampede(lease=2, ttl=60))
    cache("cashews cache(lock=True)", _cashews)
    return contest.table()


def stale(pace: Pace) -> Table:
    """Measure callers who may go on with the reading there is while one of them asks."""
    floor = "floor: 1,000 tasks that do nothing"
    note = "Waited: callers who had to. Within max_stale the others go on; the one who asks waits for his own answer."
    columns = (_REQUESTS, Column("waited", over="max"))
    contest = Contest(
        "1,000 callers, a stale reading", floor, pace, unit="ms", columns=columns, note=note, brief="stale"
    )
    contest.run(floor, _nothing, kind="floor")
    contest.run(
        "budgetguard reserve()",
        lambda: _reserve(beyond=False),
        kind="ours",
        goals=(Goal(1, of="requests", sign="=="), Goal(1, of="waited")),
    )
    return contest.table()


class Asking(httpx.AsyncBaseTransport):
    """Answers the credits request, and takes its time."""

    def __init__(self) -> None:
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.requests += 1
        await asyncio.sleep(_ASKING)
        return httpx.Response(200, json=stage.balance(), request=request)


async def _reserve(*, beyond: bool) -> Measured:
    """Let all callers reserve, on a reading that is older than it may be, or only stale."""
    later = 0.0
    store = MemoryStore(lambda: time.monotonic() + later)
    inner = Asking()
    policy = replace(stage.CALM, max_age=10.0, max_stale=60.0)
    guard = AsyncGuard(Vidu(), store=store, policy=policy, api_key=stage.KEY, inner=inner)
    await (await guard.reserve(credits=1)).release()
    later, inner.requests = (100.0 if beyond else 30.0), 0
    permits: list[AsyncPermit] = []

    async def call() -> None:
        permits.append(await guard.reserve(credits=1))

    measured = await _herd(call, watched=not beyond)
    for permit in permits:
        await permit.release()
    await guard.close()
    measured.columns["requests"] = inner.requests
    return measured


async def _cached(make: Callable[[], Callable[[Get], Get]]) -> Measured:
    """Let all callers want the value of a cache that is empty."""
    requests = 0

    async def ask() -> int:
        nonlocal requests
        requests += 1
        await asyncio.sleep(_ASKING)
        return 42

    get = make()(ask)
    measured = await _herd(get)
    measured.columns["requests"] = requests
    return measured


class Watched:
    """Awaits something, and notes whether it had to wait."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        self.waited = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps, sent = self._awaitable.__await__(), None
        while True:
            try:
                step = steps.send(sent)
            except StopIteration as stop:
                return stop.value
            self.waited |= step is not None  # a bare yield only lets others go first
            sent = yield step


async def _herd(call: Get, *, watched: bool = False) -> Measured:
    waited = 0

    async def one() -> None:
        await call()

    async def watched_one() -> None:
        nonlocal waited
        watched = Watched(call())
        await watched
        waited += watched.waited

    each = watched_one if watched else one
    begin = time.perf_counter()
    await asyncio.gather(*(each() for _ in range(_CALLERS)))
    return Measured((time.perf_counter() - begin) * 1000, {"waited": waited} if watched else {})


async def _timer() -> Measured:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(_ASKING, future.set_result, None)

    async def call() -> None:
        await future

    return await _herd(call)


async def _nothing() -> Measured:
    async def call() -> None:
        pass

    return await _herd(call, watched=True)


def _first_asks(ask: Get) -> Get:
    """The least that gives one request: the first caller makes it, the others await a plain future."""
    kept: list[Any] = []
    asked: list[asyncio.Future[Any]] = []

    async def get() -> Any:
        if kept:
            return kept[0]
        if asked:
            return await asked[0]
        asked.append(asyncio.get_running_loop().create_future())
        kept.append(await ask())
        asked.pop().set_result(kept[0])
        return kept[0]

    return get


def _cashews() -> Callable[[Get], Get]:
    cache = peer("cashews").Cache()
    cache.setup("mem://")
    decorate: Callable[[Get], Get] = cache(ttl="60s", key="k", lock=True)
    return decorate
