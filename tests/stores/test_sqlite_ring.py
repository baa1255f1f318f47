"""The ring of latest changes: who folds it, who follows, and what must not come back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from budgetguard.ports import Put, Transaction
from budgetguard.stores._sqlite_ring import RING
from budgetguard.stores.sqlite import SQLiteStore

PUT = Transaction(put={"k": Put(b"1", 60.0)})
DROP = Transaction(drop={"k": b"1"})
OVER = Transaction(drop={"k": b"1"}, put={"k": Put(b"1", 90.0)})
ONE = Transaction(add={"x": 1})


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[SQLiteStore, SQLiteStore]]:
    made = SQLiteStore(tmp_path / "accounts.db"), SQLiteStore(tmp_path / "accounts.db")
    for store in made:
        store.transact("a", ONE)
    yield made
    for store in made:
        store.close()


def fill(store: SQLiteStore, left: int) -> None:
    """Change something until so many changes are left before a fold."""
    store.transact("a", ONE)
    recent = store._books.written
    while recent.number + left - RING < recent.folded:
        store.transact("a", ONE)


def keys(store: SQLiteStore) -> set[str]:
    look = sqlite3.connect(store._file.path)
    found = {key for (key,) in look.execute("SELECT key FROM record")}
    look.close()
    return found


@pytest.mark.parametrize("then", [[DROP], [OVER, DROP], [DROP, PUT, DROP]])
@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_a_record_that_somebody_else_put_where_it_belongs_does_not_come_back_once_it_went(
    stores: tuple[SQLiteStore, SQLiteStore], then: list[Transaction], left: int
) -> None:
    one, other = stores
    fill(one, 5)
    assert one.transact("a", PUT).applied
    fill(one, left)
    for _ in range(left):
        other.transact("a", ONE)
    for each in then:  # the first of these, or one before it, finds the ring full
        assert other.transact("a", each).applied
    for store in (one, other):
        for _ in range(RING + 1):
            store.transact("a", ONE)
        assert store.load("a", ["k"]).records == {}
        assert store.scan("a").records == {}
        assert keys(store) == set()
    assert one.transact("a", PUT).applied


def test_what_goes_on_in_one_account_is_followed_by_who_works_on_another(
    stores: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, other = stores
    for turn in range(3 * RING):
        store = stores[turn % 2]
        assert store.transact("ab"[turn % 2], ONE).applied
        if turn % 50 == 0:
            assert store.transact("b", Transaction(put={f"{turn}": Put(b"1")})).applied
    assert one.load("a").counters == other.load("a").counters == {"x": 2 + 3 * RING // 2}
    assert one.scan("b") == other.scan("b")
    assert len(one.scan("b").records) == 8


def test_how_often_waiters_were_called_is_found_wherever_it_stands(stores: tuple[SQLiteStore, SQLiteStore]) -> None:
    one, other = stores
    wakes = {"a": 0, "b": 0, "absent": 0}
    wake = Transaction(add={"x": 1}, wake=True)
    many = Transaction(put={f"{number}": Put(b"1") for number in range(RING + 1)}, wake=True)
    for turn in range(2 * RING + 3):
        assert other.look(wakes, always=True) == wakes
        if turn % 40 == 7:
            other.transact("b", wake)
            wakes["b"] += 1
        if turn == RING:
            assert other.transact("a", many).applied
        else:
            one.transact("a", wake)
        wakes["a"] += 1
    for _ in range(RING + 1):
        one.transact("c", ONE)
    assert other.look(wakes, always=True) == wakes
