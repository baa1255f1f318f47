from __future__ import annotations

import math
from typing import ClassVar

import pytest

from budgetguard.ports import AsyncStore, Put, Store, Transaction
from budgetguard.stores import MemoryStore
from budgetguard.testing import ManualClock
from budgetguard.testing.stores import AsyncStoreContract, StoreContract


class TestBlocking(StoreContract):
    clock: ClassVar[ManualClock] = ManualClock(1000.0)

    def make_store(self) -> Store:
        return MemoryStore(self.clock)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestOnAsyncio(AsyncStoreContract):
    clock: ClassVar[ManualClock] = ManualClock(1000.0)

    async def make_store(self) -> AsyncStore:
        return MemoryStore(self.clock)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestOnTrio(TestOnAsyncio):
    backend = "trio"


def test_a_wake_up_comes_once_for_each_transaction_that_asks_for_it_and_was_applied() -> None:
    store, calls = MemoryStore(), list[str]()
    store.watch("a", lambda: calls.append("a"))
    store.watch("b", lambda: calls.append("b"))
    store.transact("a", Transaction(add={"x": 1}))
    store.transact("a", Transaction(expect={"x": 9}, wake=True))
    assert calls == []
    store.transact("a", Transaction(wake=True))
    store.transact("b", Transaction(wake=True))
    assert calls == ["a", "b"]


def test_a_watcher_may_look_at_the_store_it_watches() -> None:
    store, seen = MemoryStore(), list[int]()
    store.watch("a", lambda: seen.append(store.load("a").counters["x"]))
    store.transact("a", Transaction(add={"x": 1}, wake=True))
    assert seen == [1]


def test_the_first_moment_of_a_clock_is_not_mistaken_for_never() -> None:
    assert MemoryStore(ManualClock(0.0)).load("a").now > 0


def test_closing_is_harmless_and_forgets_nothing() -> None:
    store = MemoryStore()
    store.transact("a", Transaction(add={"x": 1}))
    store.close()
    assert store.load("a").counters == {"x": 1}


def test_a_transaction_costs_the_same_whatever_the_store_holds() -> None:
    def operations(held: int) -> int:
        store = MemoryStore(ManualClock(1000.0))
        for number in range(held):
            store.transact("a", Transaction(add={"x": 1}, put={f"r{number}": Put(b"1", 120.0 + number % 600)}))
        books = store._accounts["a"]
        counting = _Counting(books.records)
        books.records = counting
        step = Transaction(add={"x": -1}, floor={"x": 0}, put={"new": Put(b"1", 120.0)}, drop={"r0": b"1"})
        assert store.transact("a", step).applied
        store.load("a", ["new"], due=True)
        return counting.touched

    few, many = operations(10), operations(10_000)
    assert few == many
    assert few < 20


def test_a_record_of_a_distant_lease_and_one_of_no_lease_are_both_kept() -> None:
    clock = ManualClock(1000.0)
    store = MemoryStore(clock)
    store.transact("a", Transaction(put={"far": Put(b"1", 1e9), "never": Put(b"2")}))
    clock.advance(1e8)
    assert store.load("a", due=True).records == {}
    clock.advance(1e9)
    assert store.load("a", due=True).records == {"far": b"1"}


def test_its_repr_counts_what_it_holds_and_shows_no_content() -> None:
    store = MemoryStore()
    store.transact("secret", Transaction(put={"r": Put(b"content")}))
    assert repr(store) == "MemoryStore(1 accounts, 1 records)"


@pytest.mark.parametrize("held", [1, 3])
def test_seconds_in_which_nothing_is_left_are_forgotten(held: int) -> None:
    clock = ManualClock(1000.0)
    store = MemoryStore(clock)
    for turn in range(50):
        keys = [f"{turn} {number}" for number in range(held)]
        store.transact("a", Transaction(put={key: Put(b"1", 1.0) for key in keys}))
        store.transact("a", Transaction(drop=dict.fromkeys(keys, b"1")))
        clock.advance(1.0)
    clock.advance(2.0)
    store.load("a", due=True)
    books = store._accounts["a"]
    assert len(books.ends) == 0
    assert math.isfinite(store.load("a").now)


class _Counting(dict[str, tuple[bytes, int | None]]):
    touched = 0

    def __getitem__(self, key: str) -> tuple[bytes, int | None]:
        self.touched += 1
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.touched += 1
        return super().__contains__(key)

    def __iter__(self) -> object:  # type: ignore[override]
        raise AssertionError("a walk over all records")
