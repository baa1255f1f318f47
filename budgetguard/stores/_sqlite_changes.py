"""What transactions that travel together make of accounts and records, and how it is written down."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Mapping
from itertools import zip_longest

from budgetguard.ports import Put
from budgetguard.stores._sqlite_clock import damaged
from budgetguard.stores._sqlite_numbers import write
from budgetguard.stores._sqlite_recent import Entry, Execute, Recent, put_in_place
from budgetguard.stores._sqlite_ring import RING, SHIFT, STEP, Row

__all__ = ["Changes", "Collision", "due_at"]

_LATEST = 2**62
"""The largest time a record falls due at: the file's numbers end somewhere."""
_THERE = "SELECT 1 FROM record WHERE account = ? AND key = ?"
_SAVE = "UPDATE account SET wakes = ?, counters = ? WHERE id = ?"
_SAVE_NAMES = "UPDATE account SET names = ? WHERE id = ?"


class Collision(Exception):
    """Of several transactions done together one should not have been applied; nobody knows which."""


class _Change:
    """One row to be, without its number."""

    __slots__ = ("account", "asked", "counters", "due", "gone", "key", "value", "wakes")

    def __init__(
        self,
        account: int,
        gone: str | None = None,
        new: tuple[str, bytes, int | None] | None = None,
        asked: str | None = None,
    ) -> None:
        self.account = account
        self.wakes: int | None = None
        self.counters: bytes | str | None = None
        self.gone = gone
        self.key: str | None
        self.value: bytes | None
        self.due: int | None
        self.key, self.value, self.due = new or (None, None, None)
        self.asked = asked
        """A key that must not be among the records yet, where nobody has looked."""

    @property
    def row(self) -> Row:
        return self.account, self.wakes, self.counters, self.gone, self.key, self.value, self.due


class Changes:
    """What a batch of transactions makes of the accounts it touches.

    Attributes:
        recent: What was seen of the file before.
        before, after: The accounts as they were found, and as they shall be.
        woken: The accounts whose waiters shall look again.
        rows: The changes with their numbers, once they are written.
        folded: Up to which change everything was put where it belongs, if it was.
        is_apart: Whether they were too many for the ring, so that everybody has to read everything anew.
    """

    __slots__ = (
        "_connection",
        "_made",
        "_pending",
        "_together",
        "after",
        "before",
        "execute",
        "folded",
        "is_apart",
        "recent",
        "rows",
        "woken",
    )

    def __init__(self, connection: sqlite3.Connection, recent: Recent, *, together: bool) -> None:
        self.execute: Execute = connection.execute
        self.recent = recent
        self.before: dict[str, Entry] = {}
        self.after: dict[str, Entry] = {}
        self.woken: set[str] = set()
        self.rows: list[tuple[int, Row]] = []
        self.folded = -1
        self.is_apart = False
        self._connection = connection
        self._together = together
        self._pending: dict[tuple[int, str], bytes | None] = {}
        """What these changes make of records: their values, ``None`` where they go."""
        self._made: list[_Change] = []

    def change(self, id: int, drop: Mapping[str, bytes], put: Mapping[str, Put], now: int) -> bool:
        """Change an account's records, or none of them."""
        pending = self._pending
        for key, value in drop.items():
            if self._find(id, key) != value:
                return False
        asked = None
        for key in put:
            if key in drop:
                continue
            if self._together and len(put) == 1 and (id, key) not in pending and (id, key) not in self.recent.records:
                asked = key  # looked for as it is written, with those of the others
            elif self._find(id, key) is not None:
                return False
        came = [(key, record.value, due_at(record, now)) for key, record in put.items()]
        went = [key for key in drop if key not in put]
        for key in went:
            pending[id, key] = None
        for key, value, _ in came:
            pending[id, key] = value
        for gone, new in zip_longest(went, came):
            self._made.append(_Change(id, gone, new, asked))
            asked = None
        return True

    def _find(self, id: int, key: str) -> bytes | None:
        name = (id, key)
        return self._pending[name] if name in self._pending else self.recent.find(self.execute, id, key)

    def write(self) -> None:
        """Write it all down.

        Raises:
            Collision: If one of the new records is there already.
        """
        made, recent = self._made, self.recent
        self._add_counters()
        if not made:
            return
        if not recent.has_room(self.execute, len(made)):
            recent.fold(self._connection)
            self.folded = recent.number
            if len(made) > RING:
                self._write_apart()
                return
        number, steps = recent.number, []
        for change in made:
            number += 1
            row = change.row
            steps.append((number % RING, number, *row, change.asked, None, None))
            self.rows.append((number, row))
        if self._connection.executemany(STEP, steps).rowcount != len(steps):
            if self._together:
                raise Collision
            raise damaged("its latest changes cannot be read")

    def _add_counters(self) -> None:
        """Let the last change of each account tell its counters."""
        last = {change.account: change for change in self._made}
        for entry in self.after.values():
            change = last.get(entry.id)
            if change is None:
                change = _Change(entry.id)
                self._made.append(change)
            change.wakes, change.counters = entry.wakes, self._numbers(entry)

    def _numbers(self, entry: Entry) -> bytes | str:
        if entry.pack is not None:
            with contextlib.suppress(struct.error):
                return entry.pack(*entry.counters.values())
        entry.names, numbers, entry.pack = write(entry.counters)
        self.execute(_SAVE_NAMES, (entry.names, entry.id))
        return numbers

    def _write_apart(self) -> None:
        """Put it all where it belongs, past the ring; after a fold."""
        records: dict[tuple[int, str], tuple[bytes, int | None] | None] = {}
        for change in self._made:
            if change.asked is not None and self.execute(_THERE, (change.account, change.asked)).fetchone():
                raise Collision
            if change.gone is not None:
                records[change.account, change.gone] = None
            if change.key is not None and change.value is not None:
                records[change.account, change.key] = (change.value, change.due)
            if change.counters is not None:
                self.execute(_SAVE, (change.wakes, change.counters, change.account))
        gone = [name for name, record in records.items() if record is None]
        put = [(*name, *record) for name, record in records.items() if record is not None]
        put_in_place(self._connection, gone, put)
        for statement in SHIFT:
            self.execute(statement)
        self.is_apart = True

    def publish(self) -> None:
        """Note in what was seen of the file what was committed. May be done twice."""
        recent = self.recent
        if self.is_apart:
            recent.number = -1
            return
        if self.folded >= 0:
            recent.folded_up_to(self.folded)
        recent.note(self.rows, self.after)


def due_at(put: Put, now: int) -> int | None:
    """Say when a record falls due.

    Raises:
        TypeError: If it is no bytes.
    """
    if not isinstance(put.value, bytes):
        raise TypeError(f"a record is bytes, not {type(put.value).__name__}")
    return None if put.lease is None else min(now + int(put.lease * 1_000_000), _LATEST)
