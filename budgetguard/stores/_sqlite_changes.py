"""What transactions that travel together make of accounts and records, and how it is written down."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Mapping
from itertools import zip_longest

from budgetguard.ports import Put
from budgetguard.stores._sqlite_numbers import write
from budgetguard.stores._sqlite_recent import Entry, Execute, Recent, put_in_place
from budgetguard.stores._sqlite_ring import PLACE, RING, SHIFT, Row

__all__ = ["Changes", "Collision", "due_at"]

_LATEST = 2**62
"""The largest time a record falls due at: the file's numbers end somewhere."""
_PLACES = (1, 4, 16, 64)
_THERE = {
    places: f"SELECT count(*) FROM record WHERE account = ? AND key IN ({', '.join('?' * places)})"  # noqa: S608
    for places in _PLACES
}
"""Counts how many of so many keys are among the records."""
_NOTHING: tuple[str | None, bytes | None, int | None] = (None, None, None)
_SAVE = "UPDATE account SET wakes = ?, counters = ? WHERE id = ?"
_SAVE_NAMES = "UPDATE account SET names = ? WHERE id = ?"


class Collision(Exception):
    """Of several transactions done together one should not have been applied; nobody knows which."""


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
        "_asked",
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
        self._made: list[Row] = []
        self._asked: dict[int, list[str]] = {}
        """By account the keys that must not be among the records yet; nobody has looked."""

    def change(self, id: int, drop: Mapping[str, bytes], put: Mapping[str, Put], now: int) -> bool:
        """Change an account's records, or none of them."""
        if len(put) == 1 and not drop:
            ((key, record),) = put.items()
            return self._add(id, key, record, now)
        for key, value in drop.items():
            if self._find(id, key) != value:
                return False
        for key in put:
            if key not in drop and self._find(id, key) is not None:
                return False
        came = {key: (key, record.value, due_at(record, now)) for key, record in put.items()}
        for key in drop:
            self._pending[id, key] = None
            if key in came:  # written over: one change, so that it is not taken for a new one
                _, value, due = came.pop(key)
                self._made.append((id, None, None, key, key, value, due))
        for key, record in put.items():
            self._pending[id, key] = record.value
        went = [key for key in drop if key not in put]
        for gone, new in zip_longest(went, came.values()):
            other, content, until = new or _NOTHING
            self._made.append((id, None, None, gone, other, content, until))
        return True

    def _add(self, id: int, key: str, record: Put, now: int) -> bool:
        """Add one record, as most do; several that come together are looked for together."""
        name, pending = (id, key), self._pending
        value, due = record.value, due_at(record, now)
        if self._together and name not in pending and name not in self.recent.records:
            self._asked.setdefault(id, []).append(key)
        elif self._find(id, key) is not None:
            return False
        pending[name] = value
        self._made.append((id, None, None, None, key, value, due))
        return True

    def _find(self, id: int, key: str) -> bytes | None:
        name = (id, key)
        return self._pending[name] if name in self._pending else self.recent.find(self.execute, id, key)

    def write(self) -> None:
        """Write it all down.

        Raises:
            Collision: If one of the new records is there already.
        """
        if any(self._are_there(id, keys) for id, keys in self._asked.items()):
            raise Collision
        self._add_counters()
        made, recent = self._made, self.recent
        if not made:
            return
        if not recent.has_room(self.execute, len(made)):
            recent.fold(self._connection)
            self.folded = recent.number
            if len(made) > RING:
                self._write_apart()
                return
        self.rows = list(enumerate(made, recent.number + 1))
        self._connection.executemany(PLACE, [(number % RING, number, *row) for number, row in self.rows])

    def _are_there(self, id: int, keys: list[str]) -> bool:
        most = _PLACES[-1]
        for begin in range(0, len(keys), most):
            some = keys[begin : begin + most]
            places = next(places for places in _PLACES if places >= len(some))
            some += some[-1:] * (places - len(some))
            ((count,),) = self.execute(_THERE[places], (id, *some)).fetchall()
            if count:
                return True
        return False

    def _add_counters(self) -> None:
        """Let the last change of each account tell its counters."""
        made = self._made
        last = {row[0]: place for place, row in enumerate(made)}
        for entry in self.after.values():
            place = last.get(entry.id)
            if place is None:
                place = len(made)
                made.append((entry.id, None, None, None, *_NOTHING))
            made[place] = (entry.id, entry.wakes, self._numbers(entry), *made[place][3:])

    def _numbers(self, entry: Entry) -> bytes | str:
        if entry.pack is not None:
            with contextlib.suppress(struct.error):
                return entry.pack(*entry.counters.values())
        entry.names, numbers, entry.pack = write(entry.counters)
        self.execute(_SAVE_NAMES, (entry.names, entry.id))
        return numbers

    def _write_apart(self) -> None:
        """Put it all where it belongs, past the ring; after a fold."""
        records: dict[tuple[int | None, str], tuple[bytes, int | None] | None] = {}
        for id, wakes, counters, gone, key, value, due in self._made:
            if gone is not None:
                records[id, gone] = None
            if key is not None and value is not None:
                records[id, key] = (value, due)
            if counters is not None:
                self.execute(_SAVE, (wakes, counters, id))
        went = [name for name, record in records.items() if record is None]
        put = [(*name, *record) for name, record in records.items() if record is not None]
        put_in_place(self._connection, went, put)
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
