"""The file's time: the same for all processes, whatever the wall clock does and however often the machine starts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from budgetguard.errors import StoreError
from budgetguard.ports import Transaction
from budgetguard.stores._sqlite_clock import Clock, machine
from budgetguard.stores.sqlite import SQLiteStore

SECOND = 1_000_000


class Machine:
    """A machine whose clocks stand still until they are moved."""

    def __init__(self) -> None:
        self.boot, self.uptime, self.wall = "first", 100 * SECOND, 1_000_000 * SECOND

    def store(self, path: Path) -> SQLiteStore:
        store = SQLiteStore(path)
        store._clock = Clock(self.boot, lambda: self.uptime, lambda: self.wall)
        store._file._clock = store._books._clock = store._shortcut._clock = store._clock
        return store

    def restart(self, boot: str, *, wall: int) -> None:
        self.boot, self.uptime, self.wall = boot, 5 * SECOND, wall


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.db"


def now(store: SQLiteStore) -> int:
    return store.transact("a", Transaction(add={"x": 1})).now


def test_time_begins_as_the_wall_clocks_and_goes_on_without_it(path: Path) -> None:
    this = Machine()
    store = this.store(path)
    begin = now(store)
    assert begin == this.wall
    for wall in (0, 10**17):
        this.wall = wall
        this.uptime += SECOND
        later = now(store)
        other = this.store(path)
        assert later == begin + SECOND == now(other)
        other.close()
        begin = later
    store.close()


def test_a_restart_never_turns_time_back_and_makes_everything_a_minute_older(path: Path) -> None:
    this = Machine()
    for start, wall in enumerate((this.wall + 5, 0, this.wall - 10**9)):
        store = this.store(path)
        before = now(store)
        this.uptime += 3600 * SECOND
        before = max(before, store.load("a").now)
        store.close()
        this.restart(f"start {start}", wall=wall)
        store = this.store(path)
        assert now(store) >= before + 60 * SECOND
        store.close()


def test_after_a_restart_time_is_the_wall_clocks_again_where_that_went_on(path: Path) -> None:
    this = Machine()
    store = this.store(path)
    now(store)
    store.close()
    this.restart("second", wall=this.wall + 7200 * SECOND)
    store = this.store(path)
    assert now(store) == this.wall
    store.close()


def test_a_restart_is_noticed_even_where_starts_have_no_identity(path: Path) -> None:
    this = Machine()
    this.boot = ""
    store = this.store(path)
    this.uptime += 50 * SECOND
    before = now(store)
    store.close()
    this.restart("", wall=this.wall)
    store = this.store(path)
    assert now(store) >= before
    store.close()


def test_who_only_looks_is_told_no_time_that_a_restart_could_take_back(path: Path) -> None:
    this = Machine()
    store = this.store(path)
    now(store)
    this.uptime += 1000 * SECOND
    before = store.load("a").now
    store.close()
    look = sqlite3.connect(path)
    assert look.execute("SELECT ceiling FROM clock").fetchone()[0] >= before
    look.close()


def test_two_machines_on_one_file_are_told(path: Path) -> None:
    this, that = Machine(), Machine()
    that.boot = "another machine"
    store, other = this.store(path), that.store(path)
    now(store)
    now(other)
    with pytest.raises(StoreError, match="two machines at once"):
        now(store)
    store.close()
    other.close()


def test_the_machines_own_clock_has_an_identity_and_runs() -> None:
    clock = machine()
    assert machine()._boot == clock._boot
    assert clock.now() <= machine().now()
