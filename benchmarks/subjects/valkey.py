"""What an admission costs on a Valkey server, beside one bare call of a script written for nothing else.

The bare script takes credits and a lease for a call and gives them back, so that any number of calls leaves the same.
budgetguard admits in the timed part, and gives back between samples. Peers admit: they hold nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from benchmarks import stage
from benchmarks.contest import Contest, Measured, Pace
from benchmarks.peers import peer
from benchmarks.server import Server
from benchmarks.table import Column, Goal, Table
from budgetguard import Guard
from budgetguard._core import counters as c
from budgetguard._core.ledger import Books
from budgetguard._core.records import Record, Stage
from budgetguard.ports import Transaction
from budgetguard.stores import RedisStore

BARE = """
local acct, leases = KEYS[1], KEYS[2]
local id, amount, now, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local lim = tonumber(redis.call('HGET', acct, 'lim') or '1000000000000000')
local reserved = tonumber(redis.call('HGET', acct, 'reserved') or '0')
local spent = tonumber(redis.call('HGET', acct, 'spent') or '0')
if reserved + spent + amount > lim then
  return {0, 'credit', lim - reserved - spent}
end
redis.call('HSET', acct, 'reserved', reserved + amount)
redis.call('ZADD', leases, now + ttl, id)
redis.call('HSET', acct, 'reserved', reserved)
redis.call('ZREM', leases, id)
return {1, id, lim - reserved - spent}
"""
ARGUMENTS = (2, "acct", "leases", "id1", 5, "1700000000", 60)

_CALLS = Column("calls")
_CPU = Column("CPU us")
_COLUMNS = (_CALLS, _CPU)
_NOTE = (
    "Calls of a script per admission; CPU of this process and the server together, which other programs disturb less."
)
_BIG = 10**6
_WARM_UP = 25


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    with Server() as server:
        stand = Stand(server, 25 if pace.fast else 300)
        yield stand.alone(pace)
        yield stand.alone_async(pace)
        for callers in (8, 64):
            yield stand.threads(pace, callers)
            yield stand.tasks(pace, callers)


class Admissions:
    """Transactions that admit calls of 35 credits and a slot, and those that give them back."""

    def __init__(self) -> None:
        self._books = Books(
            credits_headroom=0,
            slots_headroom=0,
            exclusive=False,
            reports_slots=True,
            lag=0,
            at_completion=False,
            lease=3600.0,
            refund_failed=True,
        )
        self._name = secrets.token_hex(6)
        self._numbers = itertools.count()

    def some(self, count: int) -> tuple[list[Transaction], list[Transaction]]:
        """Make *count* of both."""
        books = self._books
        records = [Record(f"{self._name}{next(self._numbers)}", Stage.RESERVED, 35, 1) for _ in range(count)]
        take = [books.take(record, within=10**12) for record in records]
        release = [books.release(record) for record in records]
        for transaction in (*take, *release):
            transaction.add[c.SERIAL] = 1
        return take, release


class Stand:
    """A server with an account, and everybody's way to it."""

    def __init__(self, server: Server, times: int) -> None:
        self.server = server
        self.times = times
        self.script = server.client.script_load(BARE)
        self.store = RedisStore(server.url)
        self.guard: Guard = stage.guard(store=self.store)
        self.account = self.guard.account_name(stage.KEY)
        self.admissions = Admissions()
        self.redis = peer("redis")
        self.aredis = peer("redis.asyncio")

    # -- one caller -------------------------------------------------------------------------------------------------

    def alone(self, pace: Pace) -> Table:
        """Measure one blocking caller."""
        bare = "one bare EVALSHA, redis-py"
        contest = Contest("admit a call, one caller", bare, pace, columns=_COLUMNS, note=_NOTE, brief="blocking")
        client = self.redis.Redis(port=self.server.port)
        single = self.redis.Redis(port=self.server.port, single_connection_client=True)
        contest.run(bare, lambda: self._timed(lambda: client.evalsha(self.script, *ARGUMENTS)), kind="floor")
        contest.run(
            "the same, single_connection_client",
            lambda: self._timed(lambda: single.evalsha(self.script, *ARGUMENTS)),
            kind="floor",
        )
        contest.run(
            "budgetguard store.transact()",
            self._transact,
            kind="ours",
            goals=(Goal(1 / 0.9, 1 / 0.95), Goal(1, of=_CALLS.name)),
        )
        contest.run("budgetguard guard.reserve()", self._reserve, kind="ours", goals=(Goal(1, of=_CALLS.name),))
        contest.run("budgetguard reserve(), release()", self._reserve_and_release, kind="ours")
        contest.run("redis-py Lock acquire(), release()", lambda: self._timed(_locking(client)))
        for name, make in self._peers().items():
            self._peer(contest, name, make)
        return contest.table()

    def _timed(self, call: Callable[[], Any]) -> Measured:
        for _ in range(_WARM_UP):
            call()
        end = self._meter()
        for _ in range(self.times):
            call()
        return end(self.times)

    def _meter(self) -> Callable[[int], Measured]:
        """Begin to measure; what is given ends it, and shares it out over so many admissions."""
        calls, server = self.server.script_calls(), self.server.cpu()
        cpu, begin = time.process_time(), time.perf_counter()

        def end(count: int) -> Measured:
            seconds, used = time.perf_counter() - begin, time.process_time() - cpu
            used += self.server.cpu() - server
            columns = {_CALLS.name: (self.server.script_calls() - calls) / count, _CPU.name: used / count * 1e6}
            return Measured(seconds / count * 1e6, columns)

        return end

    def _transact(self) -> Measured:
        take, release = self.admissions.some(self.times)
        transact, account = self.store.transact, self.account
        for both in zip(*self.admissions.some(_WARM_UP), strict=True):
            _check([transact(account, each) for each in both])
        end = self._meter()
        done = [transact(account, each) for each in take]
        measured = end(self.times)
        _check([*done, *(transact(account, each) for each in release)])
        return measured

    def _reserve(self) -> Measured:
        reserve = self.guard.reserve
        for _ in range(_WARM_UP):
            reserve(credits=35).release()
        end = self._meter()
        permits = [reserve(credits=35) for _ in range(self.times)]
        measured = end(self.times)
        for permit in permits:
            permit.release()
        return measured

    def _reserve_and_release(self) -> Measured:
        reserve = self.guard.reserve
        for _ in range(_WARM_UP):
            reserve(credits=35).release()
        end = self._meter()
        for _ in range(self.times):
            reserve(credits=35).release()
        return end(self.times)

    def _peers(self) -> dict[str, Callable[[], Callable[[], Any]]]:
        url = self.server.url

        def limits(strategy: str) -> Callable[[], Any]:
            limiter = getattr(peer("limits.strategies"), strategy)(peer("limits.storage").RedisStorage(url))
            item = peer("limits").RateLimitItemPerSecond(_BIG, 1)
            return lambda: limiter.hit(item, strategy)

        def throttled() -> Callable[[], Any]:
            lib, store = peer("throttled"), peer("throttled.store")
            quota = lib.per_sec(_BIG, burst=_BIG)
            limiter = lib.Throttled(
                key="a", using="token_bucket", quota=quota, store=store.RedisStore(server=url + "/0")
            )
            made: Callable[[], Any] = limiter.limit
            return made

        def pyrate() -> Callable[[], Any]:
            lib = peer("pyrate_limiter")
            client = self.redis.Redis(port=self.server.port)
            limiter = lib.Limiter(lib.RedisBucket.init([lib.Rate(_BIG, 1000)], client, "pyrate"))
            return lambda: limiter.try_acquire("a")

        return {
            "limits FixedWindow hit()": lambda: limits("FixedWindowRateLimiter"),
            "limits MovingWindow hit()": lambda: limits("MovingWindowRateLimiter"),
            "throttled-py token_bucket limit()": throttled,
            "PyrateLimiter try_acquire()": pyrate,
        }

    def _peer(self, contest: Contest, name: str, make: Callable[[], Callable[[], Any]]) -> None:
        made: list[Callable[[], Any]] = []
        contest.run(name, lambda: self._timed(made[0]), prepare=lambda: made.append(make()))

    def alone_async(self, pace: Pace) -> Table:
        """Measure one caller on an event loop."""
        bare = "one bare EVALSHA, redis-py asyncio"
        contest = Contest(
            "admit a call, one caller on asyncio", bare, pace, columns=_COLUMNS, note=_NOTE, brief="asyncio"
        )
        self._bare_tasks(contest, bare, 1)
        self._our_tasks(contest, 1, (Goal(1 / 0.9, 1 / 0.95), Goal(1, of=_CALLS.name)))
        contest.run("limits FixedWindow hit()", lambda: self._tasks(1, self._limits_async()))
        contest.run("throttled-py token_bucket limit()", lambda: self._tasks(1, self._throttled_async()))
        return contest.table()

    # -- many callers -----------------------------------------------------------------------------------------------

    def tasks(self, pace: Pace, callers: int) -> Table:
        """Measure many callers on one event loop."""
        bare = "one bare EVALSHA each, pooled"
        contest = Contest(
            f"admit calls, {callers} tasks", bare, pace, columns=_COLUMNS, note=_NOTE, brief=f"{callers} tasks"
        )
        self._bare_tasks(contest, bare, callers)
        self._our_tasks(contest, callers, (_many(callers),))
        contest.run("limits FixedWindow hit()", lambda: self._tasks(callers, self._limits_async()))
        contest.run("throttled-py token_bucket limit()", lambda: self._tasks(callers, self._throttled_async()))
        return contest.table()

    def _bare_tasks(self, contest: Contest, name: str, callers: int) -> None:
        async def work() -> Measured:
            client = self.aredis.Redis(port=self.server.port, max_connections=2 * callers)
            measured = await self._tasks(callers, lambda: client.evalsha(self.script, *ARGUMENTS))
            await client.aclose()
            return measured

        contest.run(name, work, kind="floor")

    def _our_tasks(self, contest: Contest, callers: int, goals: tuple[Goal, ...]) -> None:
        async def transact() -> Measured:
            take, release = self.admissions.some(self.times * min(callers, 8))
            atransact, account = self.store.atransact, self.account
            await atransact(account, Transaction(add={c.SERIAL: 1}))
            done: list[Any] = []

            async def all_of(transactions: list[Transaction]) -> None:
                left = iter(transactions)

                async def work() -> None:
                    done.extend([await atransact(account, each) for each in left])

                await asyncio.gather(*(work() for _ in range(callers)))

            end = self._meter()
            await all_of(take)
            measured = end(len(take))
            await all_of(release)
            _check(done)
            return measured

        async def reserve() -> Measured:
            guard = await stage.async_guard(store=self.store)
            permits: list[Any] = []
            left = iter(range(self.times * min(callers, 8)))

            async def work() -> None:
                permits.extend([await guard.reserve(credits=35) for _ in left])

            end = self._meter()
            await asyncio.gather(*(work() for _ in range(callers)))
            measured = end(len(permits))
            await asyncio.gather(*(permit.release() for permit in permits))
            await guard.close()
            return measured

        contest.run("budgetguard store.atransact()", transact, kind="ours", goals=goals)
        contest.run("budgetguard guard.reserve()", reserve, kind="ours")

    async def _tasks(self, callers: int, call: Callable[[], Awaitable[Any]]) -> Measured:
        count = self.times * min(callers, 8)
        await asyncio.gather(*(call() for _ in range(callers)))
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                await call()

        end = self._meter()
        await asyncio.gather(*(work() for _ in range(callers)))
        return end(count)

    def _limits_async(self) -> Callable[[], Awaitable[Any]]:
        storage = peer("limits.aio.storage").RedisStorage("async+" + self.server.url, implementation="redispy")
        limiter = peer("limits.aio.strategies").FixedWindowRateLimiter(storage)
        item = peer("limits").RateLimitItemPerSecond(_BIG, 1)
        return lambda: limiter.hit(item, "a")

    def _throttled_async(self) -> Callable[[], Awaitable[Any]]:
        lib = peer("throttled.asyncio")
        quota = lib.per_sec(_BIG, burst=_BIG)
        store = lib.RedisStore(server=self.server.url + "/0")
        made: Callable[[], Awaitable[Any]] = lib.Throttled(
            key="b", using="token_bucket", quota=quota, store=store
        ).limit
        return made

    def threads(self, pace: Pace, callers: int) -> Table:
        """Measure many callers in threads."""
        bare = "one bare EVALSHA each, one client"
        contest = Contest(
            f"admit calls, {callers} threads", bare, pace, columns=_COLUMNS, note=_NOTE, brief=f"{callers} threads"
        )
        client = self.redis.Redis(port=self.server.port)
        contest.run(bare, lambda: self._threads(callers, lambda: client.evalsha(self.script, *ARGUMENTS)), kind="floor")

        def transact() -> Measured:
            count = self.times * 4 // callers * callers
            take, release = self.admissions.some(count)
            left, done = iter(take), list[Any]()
            measured = self._threads(callers, lambda: done.append(self.store.transact(self.account, next(left))))
            _check([*done, *(self.store.transact(self.account, each) for each in release)])
            return measured

        contest.run("budgetguard store.transact()", transact, kind="ours", goals=(_many(callers),))
        for name, make in self._peers().items():
            if name.startswith(("limits Fixed", "throttled")):
                self._crowd(contest, name, callers, make)
        return contest.table()

    def _crowd(self, contest: Contest, name: str, callers: int, make: Callable[[], Callable[[], Any]]) -> None:
        made: list[Callable[[], Any]] = []
        contest.run(name, lambda: self._threads(callers, made[0]), prepare=lambda: made.append(make()))

    def _threads(self, callers: int, call: Callable[[], Any]) -> Measured:
        times = self.times * 4 // callers
        gate = threading.Barrier(callers + 1)

        def work() -> None:
            gate.wait()
            for _ in range(times):
                call()

        threads = [threading.Thread(target=work) for _ in range(callers)]
        for thread in threads:
            thread.start()
        end = self._meter()
        gate.wait()
        for thread in threads:
            thread.join()
        return end(times * callers)


def _many(callers: int) -> Goal:
    """Give the goal for so many: rates are the other way round from times."""
    return Goal(1 / 2.5, 1 / 4) if callers == 64 else Goal(1 / 0.9, 1 / 0.95)


def _locking(client: Any) -> Callable[[], Any]:
    def lock_and_unlock() -> None:
        lock = client.lock("lock", timeout=10)
        lock.acquire()
        lock.release()

    return lock_and_unlock


def _check(done: list[Any]) -> None:
    refused = sum(not each.applied for each in done)
    if refused:
        raise RuntimeError(f"{refused} of {len(done)} transactions were not applied")
