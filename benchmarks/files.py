"""What the SQLite subject is divided by, and what it does: the raw transaction, and the admissions of budgetguard.

The raw transaction is the least that shares credits and a limit between processes through a file: take the lock, look,
change the account, write down the hold, commit. It has no lease, no generations and nothing to find what is overdue by.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from benchmarks.contest import Measured
from benchmarks.table import Column
from budgetguard import Policy
from budgetguard._core import counters as c
from budgetguard._core.account import Account
from budgetguard._core.records import Record, Stage
from budgetguard.ports import Transaction
from budgetguard.stores import SQLiteStore
from budgetguard.stores._sqlite_ring import LAYOUT, PLACE, RING, STEP

__all__ = ["CPU", "NAME", "Admissions", "Bare", "Raw", "Stopwatch", "in_chunks", "new_account", "open_raw"]

NAME = "vidu:benchmark"
CPU = Column("of the processors", "us")
"""What is left of a figure when the machine is busy with other things: neither their share nor the disk is in it."""
T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (
    key TEXT PRIMARY KEY, lim INT, reserved INT, spent INT, inflight INT, maxin INT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hold (id TEXT PRIMARY KEY, key TEXT, amount INT, expires REAL, state INT) WITHOUT ROWID;
INSERT OR IGNORE INTO account VALUES ('a', 1000000000000000, 0, 0, 0, 1000000000);
"""


_RECORDS = """CREATE TABLE record (
    account INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, due INTEGER, PRIMARY KEY (account, key)
) WITHOUT ROWID"""


def open_raw(path: Path, *, full: bool = False, busy: float = 30.0) -> sqlite3.Connection:
    """Open a file for raw transactions, as fast as SQLite is with a write-ahead log."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=busy, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
    connection.executescript(_SCHEMA)
    return connection


class Raw:
    """Holds and gives back, five statements and four."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._execute = connection.execute
        self._number = itertools.count(1)
        self._prefix = os.urandom(6).hex()

    def take(self) -> str:
        """Hold 35 credits and a slot: the raw transaction."""
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        row = execute("SELECT lim, reserved, spent, inflight, maxin FROM account WHERE key = ?", ("a",)).fetchone()
        if row[1] + row[2] + 35 > row[0] or row[3] >= row[4]:
            execute("ROLLBACK")
            raise RuntimeError
        execute("UPDATE account SET reserved = reserved + ?, inflight = inflight + 1 WHERE key = ?", (35, "a"))
        name = f"{self._prefix}{next(self._number)}"
        execute("INSERT INTO hold VALUES (?, ?, ?, ?, ?)", (name, "a", 35, 0.0, 0))
        execute("COMMIT")
        return name

    def give_back(self, name: str) -> None:
        """End a hold."""
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        execute("DELETE FROM hold WHERE id = ?", (name,))
        execute("UPDATE account SET reserved = reserved - ?, inflight = inflight - 1 WHERE key = ?", (35, "a"))
        execute("COMMIT")

    def together(self, many: int) -> list[str]:
        """Hold *many* times in one commit, with nobody to tell: the least a commit of many could cost."""
        execute = self._execute
        names = [f"{self._prefix}{next(self._number)}" for _ in range(many)]
        execute("BEGIN IMMEDIATE")
        for name in names:
            execute(
                "UPDATE account SET reserved = reserved + ?, inflight = inflight + 1 "
                "WHERE key = ? AND reserved + spent + ? <= lim AND inflight < maxin",
                (35, "a", 35),
            )
            execute("INSERT INTO hold VALUES (?, ?, ?, ?, ?)", (name, "a", 35, 0.0, 0))
        execute("COMMIT")
        return names


class Bare:
    """Writes what the store writes, the same bytes to the same places in the same manner, and does nothing else.

    It looks at no counters, keeps nothing in memory but what is to be put where it belongs, and has nobody to tell.
    """

    _BYTES = 204
    """Of an account's counters, of which a guard's has 25."""

    def __init__(self, path: Path) -> None:
        self._connection = connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA page_size = 1024",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            "PRAGMA wal_autocheckpoint = 16000",
            _RECORDS,
            "CREATE INDEX record_due ON record (account, due) WHERE due IS NOT NULL",
            *LAYOUT,
        ):
            connection.execute(statement)
        self._number = RING
        self._counters = os.urandom(self._BYTES)
        self._prefix = os.urandom(6).hex()
        self._held: list[tuple[int, str, bytes, int]] = []

    def _row(self, *, last: bool) -> tuple[Any, ...]:
        number, key, due = self._number, f"r:~{self._prefix}{self._number:x}", 10**15 + self._number
        self._number += 1
        self._held.append((1, key, b"x" * 70, due))
        return number % RING, number, 1, 0, self._counters if last else None, None, key, b"x" * 70, due

    def take(self) -> None:
        """Write one change."""
        if len(self._held) >= RING:
            self._connection.execute("BEGIN IMMEDIATE")
            self._fold()
            self._connection.execute("COMMIT")
        row = self._row(last=True)
        self._connection.execute(STEP, (*row, row[6], None, None))

    def together(self, many: int) -> None:
        """Write so many in one commit."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        if len(self._held) + many > RING:
            self._fold()
        self._connection.executemany(PLACE, [self._row(last=number == many - 1) for number in range(many)])
        execute("COMMIT")

    def _fold(self) -> None:
        self._connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?)", self._held)
        self._held.clear()

    def clear(self) -> None:
        """End everything that is held."""
        self._held.clear()
        self._connection.execute("DELETE FROM record")


def new_account(path: Path, **settings: Any) -> SQLiteStore:
    """Make a file with an account that never runs short."""
    store = SQLiteStore(path, **settings)
    amounts = (c.CREDITS, c.BALANCE, "slots", "limit", "base")
    store.transact(NAME, Transaction(add=dict.fromkeys(amounts, 10**12), stamp=(c.READ_AT, c.ASKED_AT, c.LIFE)))
    return store


class Admissions:
    """The transactions of admissions and of their ends, as the ledger makes them."""

    def __init__(self) -> None:
        self._books = Account(NAME, Policy(), listening=False).books
        self._number = itertools.count(1)
        self._prefix = os.urandom(6).hex()

    def make(self, many: int) -> list[tuple[Transaction, Transaction]]:
        """Make so many, each with what ends it."""
        books, made = self._books, []
        for _ in range(many):
            record = Record(f"{self._prefix}{next(self._number):x}", Stage.RESERVED, 35, 1)
            take, end = books.take(record, within=10**12), books.release(record)
            take.add[c.SERIAL] = end.add[c.SERIAL] = 1
            made.append((take, end))
        return made


class Stopwatch:
    """Adds up what a round takes, on the wall's clock and of the processors. Used as a block around what is timed."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0

    def __enter__(self) -> Self:
        self._cpu -= time.process_time()
        self._wall -= time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._wall += time.perf_counter()
        self._cpu += time.process_time()

    def per(self, times: int) -> Measured:
        """Give what each of so many took, in microseconds."""
        return Measured(self._wall / times * 1e6, {CPU.name: self._cpu / times * 1e6})


def in_chunks(begin: Callable[[], T], end: Callable[[T], object], *, chunks: int, size: int) -> Measured:
    """Time *begin*, a chunk at a time; what it gave is ended in between, outside the timed part."""
    watch = Stopwatch()
    for _ in range(chunks):
        with watch:
            held: Sequence[T] = [begin() for _ in range(size)]
        for each in held:
            end(each)
    return watch.per(chunks * size)
