"""How counters are spoken of by their places: who knows which names, and what happens when they are others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis.exceptions

from budgetguard.ports import Put, Transaction
from budgetguard.stores.redis import RedisStore
from tests.support.valkey import ValkeyServer, valkey_server

__all__ = ["valkey_server"]

KEY = "budgetguard:{a}:counters"


@pytest.fixture
def server(valkey_server: ValkeyServer) -> ValkeyServer:
    valkey_server.client.flushall()
    return valkey_server


@pytest.fixture
def stores(server: ValkeyServer) -> Iterator[tuple[RedisStore, RedisStore]]:
    here, there = RedisStore(server.url), RedisStore(server.url)
    yield here, there
    here.close()
    there.close()


def add(**amounts: int) -> Transaction:
    return Transaction(add=amounts)


def calls_of(server: ValkeyServer, store: RedisStore, transaction: Transaction) -> int:
    before = server.calls.get("evalsha", 0)
    assert store.transact("a", transaction).applied
    return server.calls["evalsha"] - before


def test_names_are_learnt_with_one_more_call_and_only_when_somebody_else_made_new_ones(
    server: ValkeyServer, stores: tuple[RedisStore, RedisStore]
) -> None:
    here, there = stores
    here.transact("a", add(warm=1))
    there.transact("a", add(warm=1))
    assert calls_of(server, here, add(x=1, y=2)) == 1  # new ones of its own cost nothing
    assert calls_of(server, here, add(x=1)) == 1
    assert calls_of(server, there, add(y=1)) == 2
    assert calls_of(server, there, add(y=1, x=1)) == 1
    there.transact("a", add(z=1))
    here.load("a")  # a look learns them too, for nothing
    assert calls_of(server, here, add(z=1)) == 1
    assert here.load("a").counters == {"warm": 2, "x": 3, "y": 4, "z": 2}


def test_one_who_remembers_other_names_in_the_same_places_is_not_believed(
    server: ValkeyServer, stores: tuple[RedisStore, RedisStore]
) -> None:
    here, there = stores
    here.transact("a", add(x=1))
    saved: Any = server.client.get(KEY)
    here.transact("a", add(y=10))  # in the second place
    server.client.set(KEY, saved)  # the server is set back to older data
    there.transact("a", add(z=100))  # in the second place, too
    done = here.transact("a", Transaction(add={"y": 5}, floor={"y": 0, "z": 100}))
    assert done.counters == {"x": 1, "z": 100, "y": 5}
    server.client.flushall()
    there.transact("a", add(z=1, y=2, x=3))
    assert here.transact("a", add(x=1)).counters == {"z": 1, "y": 2, "x": 4}


def test_what_was_only_asked_about_or_refused_leaves_no_counter(stores: tuple[RedisStore, RedisStore]) -> None:
    here, there = stores
    here.transact("a", add(x=1))
    asked = Transaction(add={"x": 1}, floor={"never": 0}, expect={"new": 0})
    assert here.transact("a", asked).counters == {"x": 2}
    assert not here.transact("a", Transaction(add={"y": -1, "z": 1}, floor={"y": 0})).applied
    assert not here.transact("a", Transaction(within={"when": 5}, stamp=("when",))).applied
    assert there.load("a").counters == {"x": 2}
    assert here.transact("a", add(z=1)).counters == {"x": 2, "z": 1}
    assert there.load("a").counters == {"x": 2, "z": 1}


def test_steps_of_several_kinds_that_travel_together_share_their_places(stores: tuple[RedisStore, RedisStore]) -> None:
    here, there = stores
    there.transact("a", add(b=1, a=1, f=7))
    wire, lane, address = here._wire, here._lanes._all[0], here._rules.names.of("a")
    transactions = [
        Transaction(add={"a": 1, "c": 5}, floor={"c": 0}),
        Transaction(add={"d": -1}, floor={"d": 0}),
        Transaction(add={"b": 2}, expect={"c": 5}, put={"r": Put(b"1")}),
        Transaction(add={"c": -5, "e": 1}, floor={"c": 0}, drop={"r": b"1"}, stamp=("t",)),
        Transaction(add={"a": 1}, within={"t": 10**9}),
    ]
    steps = [wire.Transact(address, transaction) for transaction in transactions]
    lane.link.exchange(lane.calls(here._rules, steps))
    done = [step.result() for step in steps]
    assert [one.applied for one in done] == [True, False, True, True, True]
    after = done[-1].counters
    assert after == {"a": 3, "b": 3, "c": 0, "e": 1, "f": 7, "t": done[-1].now}
    assert here.load("a").counters == there.load("a").counters == after


def test_a_transaction_with_hundreds_of_counters_is_one_like_any_other(stores: tuple[RedisStore, RedisStore]) -> None:
    here, there = stores
    many = {f"c{number}": number + 1 for number in range(1400)}
    assert here.transact("a", Transaction(add=many, floor=dict.fromkeys(many, 0))).applied
    assert there.transact("a", Transaction(add={"c7": 1, "c1399": 1})).applied
    assert here.load("a").counters == many | {"c7": 9, "c1399": 1401}


@pytest.mark.parametrize("ways", ["threads", "tasks"])
def test_many_transactions_with_many_counters_share_no_call_that_is_too_long(
    server: ValkeyServer, stores: tuple[RedisStore, RedisStore], ways: str
) -> None:
    here, there = stores
    transactions = [add(**{f"c{number}x{part}": 1 for part in range(900)}) for number in range(12)]
    here.transact("a", add(warm=1))
    if ways == "tasks":

        async def run() -> None:
            done = await asyncio.gather(*(here.atransact("a", each) for each in transactions))
            assert all(one.applied for one in done)
            await here.aclose()

        asyncio.run(run())
    else:
        with ThreadPoolExecutor(12) as pool:
            assert all(one.applied for one in pool.map(lambda each: here.transact("a", each), transactions))
    assert sum(there.load("a").counters.values()) == 12 * 900 + 1


# -- done once ------------------------------------------------------------------------------------------------------


def test_what_was_sent_twice_is_done_once_whoever_came_in_between(
    stores: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = stores
    here.transact("a", add(x=1))
    kind = type(here._lanes._all[0].link)
    ask = kind.ask
    between: list[Transaction] = []

    def lose(link: Any, commands: Any) -> Any:
        replies = ask(link, commands)
        if between:
            transaction = between.pop()
            assert there.transact("a", transaction).applied
            raise redis.exceptions.ConnectionError("lost")
        return replies

    monkeypatch.setattr(kind, "ask", lose)
    between.append(add(x=100))
    done = here.transact("a", Transaction(add={"x": 10}, expect={"x": 1}, put={"r": Put(b"1")}, wake=True))
    assert (done.applied, done.counters) == (True, {"x": 111})
    between.append(add(y=1))  # what it is sent again with has other places
    done = here.transact("a", Transaction(add={"x": -1}, floor={"x": 110}))
    assert (done.applied, done.counters) == (True, {"x": 110, "y": 1})
    between.append(add(y=1))
    done = here.transact("a", Transaction(add={"x": -1}, floor={"x": 110}))
    assert (done.applied, done.counters) == (False, {"x": 110, "y": 2})
