"""What a transaction costs, and what is kept."""

from __future__ import annotations

import asyncio
import gc
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from redis.crc import key_slot

from budgetguard.errors import StoreError
from budgetguard.ports import Put, Transaction
from budgetguard.stores import _redis_wire
from budgetguard.stores.redis import RedisStore
from tests.support.valkey import ValkeyServer, valkey_server

__all__ = ["valkey_server"]

ADD = Transaction(add={"x": 1})


@pytest.fixture
def server(valkey_server: ValkeyServer) -> ValkeyServer:
    valkey_server.client.flushall()
    valkey_server.client.config_resetstat()
    return valkey_server


@pytest.fixture
def store(server: ValkeyServer) -> Iterator[RedisStore]:
    store = RedisStore(server.url)
    yield store
    store.close()


NOW, UNTIL = 1, 2


def head(server: ValkeyServer, account: str, number: int, value: int | None = None) -> int:
    """Read, or write, one of the numbers at the head of an account's counters."""
    key, at = f"budgetguard:{{{account}}}:counters", 8 * number
    if value is not None:
        server.client.setrange(key, at, value.to_bytes(8, "little"))
    return int.from_bytes(server.client.getrange(key, at, at + 7), "little")  # type: ignore[arg-type]


# -- round trips and bytes ------------------------------------------------------------------------------------------


def test_a_lone_transaction_or_look_is_one_call(server: ValkeyServer, store: RedisStore) -> None:
    store.transact("a", ADD)
    for act in (
        lambda: store.transact("a", Transaction(add={"x": 1}, put={"r": Put(b"1", 60.0)}, wake=True)),
        lambda: store.load("a", ["r"], due=True),
    ):
        server.client.config_resetstat()
        act()
        calls = server.calls
        from_outside = {name for name in calls if name in {"evalsha", "eval", "multi", "script|load", "select", "ping"}}
        assert from_outside == {"evalsha"}
        assert calls["evalsha"] == 1


def test_on_an_event_loop_too(server: ValkeyServer, store: RedisStore) -> None:
    async def run() -> None:
        await store.atransact("a", ADD)
        server.client.config_resetstat()
        await store.atransact("a", ADD)
        assert server.calls["evalsha"] == 1
        await store.aclose()

    asyncio.run(run())


def test_an_admission_and_its_release_cost_the_server_no_more_commands_than_they_must(
    server: ValkeyServer, store: RedisStore
) -> None:
    def commands(transaction: Transaction) -> dict[str, int]:
        server.client.config_resetstat()
        assert store.transact("a", transaction).applied
        return {name: count for name, count in server.calls.items() if name != "config|resetstat"}

    store.transact("a", Transaction(add={"credits": 100, "slots": 2, "open": 0}, stamp=("read_at",)))
    take = Transaction(
        add={"credits": -35, "slots": -1, "open": 1},
        floor={"credits": 0, "slots": 0, "quiet": 0},
        within={"read_at": 10**9},
        put={"r": Put(b"1", 60.0)},
    )
    both = {"evalsha": 1, "get": 1, "time": 1, "set": 1}
    assert commands(take) == both | {"hsetnx": 1, "zadd": 1}
    release = Transaction(add={"credits": 35, "slots": 1, "open": -1}, drop={"r": b"1"}, wake=True)
    assert commands(release) == both | {"hget": 1, "hdel": 1, "zrem": 1, "publish": 1}


@pytest.mark.parametrize("counters", [5, 200])
def test_what_is_sent_does_not_grow_with_the_counters_of_an_account(
    server: ValkeyServer, store: RedisStore, counters: int
) -> None:
    store.transact("a", Transaction(add={f"c{number:03}": 1 for number in range(counters)}))
    before = server.client.info("stats")["total_net_input_bytes"]
    assert store.transact("a", Transaction(add={"c002": 1}, floor={"c004": 0})).applied
    assert server.client.info("stats")["total_net_input_bytes"] - before < 500


def test_bytes_and_commands_are_the_same_with_10_and_with_10_000_records(
    server: ValkeyServer, store: RedisStore
) -> None:
    def cost(account: str, held: int) -> tuple[int, int, dict[str, int]]:
        for start in range(0, held, 500):
            puts = {f"r{number:05}": Put(b"1", 3600.0) for number in range(start, min(held, start + 500))}
            assert store.transact(account, Transaction(add={"x": len(puts)}, put=puts)).applied
        store.transact(account, Transaction(add={"x": 10_000 - held}))
        server.client.config_resetstat()
        before = server.client.info("stats")
        put = {"new": Put(b"1", 120.0)}
        assert store.transact(
            account, Transaction(add={"x": -1}, floor={"x": 0}, put=put, drop={"r00000": b"1"})
        ).applied
        store.load(account, ["new"], due=True)
        after: dict[str, Any] = server.client.info("stats")
        sent, received = (after[name] - before[name] for name in ("total_net_output_bytes", "total_net_input_bytes"))
        calls = server.calls
        return sent, received, {name: calls[name] for name in calls if name not in {"info", "config|resetstat"}}

    few, many = cost("few0", 10), cost("many", 10_000)
    assert abs(few[0] - many[0]) <= 32  # the digits of the server's own figures
    assert abs(few[1] - many[1]) <= 32
    assert few[2] == many[2]


def test_threads_that_wait_at_the_same_moment_travel_together(server: ValkeyServer, store: RedisStore) -> None:
    barrier = threading.Barrier(64)

    def run(number: int) -> None:
        barrier.wait(10)
        for _ in range(20):
            assert store.transact(f"a{number % 4}", ADD).applied

    threads = [threading.Thread(target=run, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(store.load(f"a{number}").counters["x"] for number in range(4)) == 64 * 20
    assert server.calls["evalsha"] < 64 * 20 / 3


def test_tasks_that_wait_at_the_same_moment_travel_together(server: ValkeyServer, store: RedisStore) -> None:
    async def run() -> None:
        async def act(number: int) -> None:
            for _ in range(20):
                assert (await store.atransact("a", Transaction(add={f"x{number % 3}": 1}))).applied

        await asyncio.gather(*(act(number) for number in range(64)))
        assert sum((await store.aload("a")).counters.values()) == 64 * 20
        await store.aclose()

    asyncio.run(run())
    assert server.calls["evalsha"] < 64 * 20 / 12


def test_a_task_that_is_cancelled_harms_nobody_and_nothing_is_lost(server: ValkeyServer, store: RedisStore) -> None:
    async def run() -> None:
        applied = 0
        rng = random.Random(7)

        async def act() -> None:
            nonlocal applied
            for _ in range(10):
                done = await store.atransact("a", ADD)
                applied += done.applied

        tasks = [asyncio.create_task(act()) for _ in range(30)]
        for task in rng.sample(tasks, 20):
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        held = (await store.aload("a")).counters.get("x", 0)
        assert applied <= held <= applied + 20
        await store.aclose()

    asyncio.run(run())


def test_a_thread_that_is_interrupted_leaves_the_lane_to_the_others(
    server: ValkeyServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = store._lanes
    lanes._all = lanes._all[:1]  # one lane will do
    lanes._state = lanes._state[0][:1], ()
    kind = type(lanes._all[0].link)
    exchange = kind.exchange
    first, gathered = threading.Event(), threading.Event()
    interrupted: list[int] = []

    def interrupt(link: Any, calls: Any) -> None:
        if not first.is_set():
            first.set()
            gathered.wait(10)
            exchange(link, calls)
        elif not interrupted:
            interrupted.append(len(calls[0].steps))
            link.ask([call.command for call in calls])  # it was done, and nobody was told
            raise KeyboardInterrupt
        else:
            exchange(link, calls)

    monkeypatch.setattr(kind, "exchange", interrupt)
    outcomes: list[str] = []

    def run() -> None:
        try:
            outcomes.append(f"applied {store.transact('a', ADD).applied}")
        except KeyboardInterrupt:
            outcomes.append("interrupted")

    threads = [threading.Thread(target=run) for _ in range(5)]
    threads[0].start()
    assert first.wait(10)
    for thread in threads[1:]:
        thread.start()
    while sum(1 for _ in lanes._state[1]) < 4:
        threads[0].join(0.01)
    gathered.set()
    for thread in threads:
        thread.join(10)
    assert interrupted == [4]
    assert sorted(outcomes) == ["applied True"] * 4 + ["interrupted"]
    assert store.load("a").counters == {"x": 5}


def test_closing_under_use_leaves_no_connection_open(store: RedisStore) -> None:
    made: list[Any] = []
    make = store._rules.server.async_connection

    def remember() -> Any:
        made.append(make())
        return made[-1]

    store._rules.server.async_connection = remember  # type: ignore[method-assign]

    async def run() -> None:
        tasks: set[asyncio.Task[Any]] = set()
        for turn in range(40):
            tasks |= {asyncio.create_task(store.atransact("a", ADD)) for _ in range(6)}
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            if turn % 2:
                store.close()
            else:
                await store.aclose()
            gc.collect()  # what was closed is forgotten, and may not take along what came after it
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (await store.atransact("a", ADD)).applied
        assert sum(connection.is_connected for connection in made) == 1

    asyncio.run(run())
    assert len(made) > 10
    assert not any(connection.is_connected for connection in made)


# -- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["vidu:12ab", "a}b", "}", "{", "{}", "", "%", "猫", "with space", "\ud800", "a\nb"])
def test_all_keys_of_an_account_are_in_one_slot_and_no_two_accounts_share_one(account: str) -> None:
    names = _redis_wire.Names("budgetguard")
    keys = names.of(account).keys
    assert len({key_slot(key.encode()) for key in [*keys, f"{keys[3]}:sender"]}) == 1
    others = {names.of(other).keys for other in ("a", "%7B", "%25", "b}", "a%7Db")}
    assert keys not in others


def test_every_key_of_the_store_lives_longer_than_its_leases_and_not_for_ever(
    server: ValkeyServer, store: RedisStore
) -> None:
    silent = RedisStore(server.url, forget_after=100.0, prefix="mine")
    silent.transact("a", Transaction(add={"x": 1}))
    silent.transact("a", Transaction(put={"r": Put(b"1", 5000.0), "s": Put(b"2")}))
    silent.transact("a", Transaction(drop={"r": b"1", "s": b"2"}))
    silent.transact("a", Transaction(put={"r": Put(b"1", 4000.0)}))
    left = [server.client.ttl(f"mine:{{a}}:{kind}") for kind in ("counters", "records", "due")]
    assert all(5090 <= seconds <= 5100 for seconds in left), left
    assert server.client.keys("mine:{a}:last:*") == []
    other = RedisStore(server.url, prefix="mine")
    other.transact("a", ADD)
    (last,) = server.client.keys("mine:{a}:last:*")
    assert 55 <= server.client.ttl(last) <= 60
    for opened in (silent, other):
        opened.close()
    assert server.client.keys("budgetguard*") == []


def test_a_life_is_prolonged_by_use_and_not_at_every_transaction(server: ValkeyServer, store: RedisStore) -> None:
    store.transact("a", ADD)
    server.client.config_resetstat()
    store.transact("a", ADD)
    assert "pexpireat" not in server.calls
    day = 86_400_000_000
    head(server, "a", UNTIL, head(server, "a", UNTIL) - day)
    store.transact("a", ADD)
    assert server.calls["pexpireat"] == 2  # and the third with the counters themselves
    assert 7 * 86_400 - 5 <= server.client.ttl("budgetguard:{a}:counters") <= 7 * 86_400


def test_time_goes_on_from_where_it_was_when_the_servers_clock_is_set_back(
    server: ValkeyServer, store: RedisStore
) -> None:
    now = store.transact("a", ADD).now
    later = now + 3_600_000_000
    head(server, "a", NOW, later)
    times = [store.load("a").now, store.transact("a", Transaction(stamp=("t",))).now]
    store.transact("a", Transaction(put={"r": Put(b"1", 0.001)}))
    while not store.load("a", due=True).records:
        time.sleep(0.001)
    times.append(store.load("a").now)
    assert times[0] == later
    assert times == sorted(set(times))
    assert times[-1] < later + 60_000_000


def test_keys_live_by_the_servers_clock_however_far_ahead_the_accounts_time_is(
    server: ValkeyServer, store: RedisStore
) -> None:
    store.transact("a", ADD)
    lives = server.client.pttl("budgetguard:{a}:counters")
    head(server, "a", NOW, head(server, "a", NOW) + 365 * 86_400_000_000)
    store.transact("a", ADD)
    assert 0 < server.client.pttl("budgetguard:{a}:counters") <= lives + 60_000


def test_a_look_leaves_the_time_it_told_to_those_who_come_later(server: ValkeyServer, store: RedisStore) -> None:
    store.transact("a", ADD)
    now = store.load("a").now
    assert head(server, "a", NOW) == now


def test_a_lease_without_its_record_is_cleared_away(server: ValkeyServer, store: RedisStore) -> None:
    store.transact("a", Transaction(put={"r": Put(b"1", 0.0), "s": Put(b"2", 0.0)}))
    server.client.hdel("budgetguard:{a}:records", "r")
    assert store.load("a", due=True).records == {"s": b"2"}
    assert server.client.zrange("budgetguard:{a}:due", 0, -1) == [b"s", b"@"]


def test_looking_at_an_account_nobody_uses_keeps_nothing(server: ValkeyServer, store: RedisStore) -> None:
    assert store.load("nobody", ["r"], due=True).counters == {}
    assert server.client.keys("*") == []


# -- coming and going -----------------------------------------------------------------------------------------------


def ours(server: ValkeyServer) -> int:
    return len([client for client in server.client.client_list() if client["cmd"] != "client|list"])


def test_closing_leaves_no_connection_and_no_thread_and_a_later_call_opens_anew(
    server: ValkeyServer, store: RedisStore
) -> None:
    async def run() -> None:
        await asyncio.gather(*(store.atransact("a", ADD) for _ in range(8)))
        store.watch("a", lambda: None)
        await store.aclose()

    for _ in range(2):
        asyncio.run(run())
        store.transact("a", ADD)
        store.close()
        store.close()
        assert [thread.name for thread in threading.enumerate() if "redis" in thread.name] == []
        assert _until(lambda: ours(server) == 0)
    assert store.load("a").counters == {"x": 18}


def test_connections_of_a_loop_are_closed_with_it(server: ValkeyServer, store: RedisStore) -> None:
    async def run() -> None:
        await asyncio.gather(*(store.atransact("a", ADD) for _ in range(8)))

    for _ in range(3):
        asyncio.run(run())
        assert _until(lambda: ours(server) == 0)
        assert len(store._loops) == 0
    gc.collect()


def test_a_store_serves_several_loops_at_once(server: ValkeyServer, store: RedisStore) -> None:
    async def run() -> None:
        for _ in range(20):
            await store.atransact("a", ADD)

    threads = [threading.Thread(target=asyncio.run, args=(run(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert store.load("a").counters == {"x": 80}


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name == "redis" or name.startswith(("redis.", "budgetguard.stores._redis"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    import budgetguard.stores as package

    for name in [name for name in vars(package) if name.startswith("_redis")]:
        monkeypatch.delattr(package, name)
    with pytest.raises(StoreError, match=r"pip install 'budgetguard-py\[redis\]'"):
        RedisStore("redis://localhost")


def test_the_client_is_imported_only_when_a_store_is_made() -> None:
    code = "import sys, budgetguard.stores.redis; assert 'redis' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_times_grow_whoever_asks(server: ValkeyServer, store: RedisStore) -> None:
    other = RedisStore(server.url)
    times = [handle.transact("a", ADD).now for _ in range(50) for handle in (store, other)]
    assert all(earlier <= later for earlier, later in pairwise(times))
    other.close()


def _until(condition: Callable[[], bool]) -> bool:
    waiting = threading.Event()
    return any(condition() or waiting.wait(0.01) for _ in range(500))
