"""What a process has seen of a file: the ring of its latest changes, and the accounts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Any

from budgetguard.stores._sqlite_clock import Clock, damaged
from budgetguard.stores._sqlite_numbers import Pack, read
from budgetguard.stores._sqlite_ring import RING, Row

__all__ = ["Entry", "Execute", "Recent", "put_in_place"]

Execute = Callable[..., sqlite3.Cursor]

_CHUNK = 16
_REMEMBERED_MAX = 1024
_KINDS = {
    (int, *numbers, gone, *came)
    for numbers in ((NoneType, NoneType), (int, bytes), (int, str))
    for gone in (NoneType, str)
    for came in ((NoneType, NoneType, NoneType), (str, bytes, NoneType), (str, bytes, int))
}
"""The kinds of values a change may consist of."""
_PROBE = "SELECT number FROM change WHERE slot = ?"
_FOLLOW = (
    "SELECT number, account, wakes, counters, gone, key, value, due FROM change "
    "WHERE slot BETWEEN ? AND ? AND number > ? ORDER BY slot"
)
_ALL = "SELECT number, account, wakes, counters, gone, key, value, due FROM change ORDER BY number"
_FOLDED = "SELECT number FROM folded"
_ACCOUNT = "SELECT id, wakes, names, counters FROM account WHERE name = ?"
_VALUE = "SELECT value FROM record WHERE account = ? AND key = ?"
_REMOVE = "DELETE FROM record WHERE account = ? AND key = ?"
_WRITE = "INSERT OR REPLACE INTO record (account, key, value, due) VALUES (?, ?, ?, ?)"
_SAVE = "UPDATE account SET wakes = ?, counters = ? WHERE id = ?"


class Entry:
    """An account as it is after the latest change that was seen.

    Attributes:
        names: The names of its counters as the file has them.
        pack: What writes down the numbers of these counters; ``None`` where the names must be written anew, too.
        stale: Whether somebody else has changed it since.
    """

    __slots__ = ("counters", "id", "names", "pack", "stale", "wakes")

    def __init__(self, id: int, wakes: int, counters: dict[str, int], names: str, pack: Pack | None) -> None:
        self.id = id
        self.wakes = wakes
        self.counters = counters
        self.names = names
        self.pack = pack
        self.stale = False


class Recent:
    """What one connection has seen of the ring, and of the accounts. For one thread at a time.

    An interrupt may come between any two steps: what is noted here is always true of the file up to *number* at least,
    and noting it again does no harm.

    Attributes:
        number: The latest change that was seen; -1 for none.
        folded: Up to which change everything is known to be where it belongs.
        entries: Accounts by name.
        records: What the ring says of records: by account and key the change, the value (``None``: it is gone) and
            when it falls due.
    """

    __slots__ = ("_by_id", "_clock", "_latest", "entries", "folded", "number", "records")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.number = -1
        self.folded = -1
        self.entries: dict[str, Entry] = {}
        self.records: dict[tuple[int | None, str], tuple[int, bytes | None, int | None]] = {}
        self._by_id: dict[int | None, Entry] = {}
        self._latest: dict[int | None, tuple[int, int, bytes | str]] = {}
        """By account the latest change that tells its wakes and counters, and these."""

    # -- following --------------------------------------------------------------------------------------------------

    def is_latest(self, execute: Execute) -> bool:
        """Whether nothing was changed since."""
        number = self.number
        if number < 0:
            return False
        row = execute(_PROBE, ((number + 1) % RING,)).fetchone()
        return row is not None and row[0] == number + 1 - RING

    def catch_up(self, execute: Execute) -> None:
        """See what was changed since; inside a transaction."""
        if self.is_latest(execute) or (self.number >= 0 and self._follow(execute)):
            return
        self._begin_anew(execute)

    def _follow(self, execute: Execute) -> bool:
        """Read on from where this was; ``False`` if some of it is gone."""
        while True:
            number = self.number
            slot = (number + 1) % RING
            rows = execute(_FOLLOW, (slot, slot + _CHUNK - 1, number)).fetchall()
            for row in rows:
                if row[0] != self.number + 1:
                    return False
                self._see(row[0], row[1:])
                self.number = row[0]
            if len(rows) < min(_CHUNK, RING - slot):
                break
        if len(self.records) > 4 * RING:
            self._shorten(execute)
        return True

    def _begin_anew(self, execute: Execute) -> None:
        self.number = -1
        self.records.clear()
        self._latest.clear()
        self.entries.clear()
        self._by_id.clear()
        rows = execute(_ALL).fetchall()
        clock = execute("SELECT boot, base FROM clock").fetchone()
        first = rows[0][0] if rows else None
        if type(first) is not int or [row[0] for row in rows] != list(range(first, first + RING)) or clock is None:
            raise damaged("its latest changes cannot be read")
        self._clock.check(*clock)
        self.folded = self._read_folded(execute)
        for row in rows:
            if row[0] > self.folded:
                self._see(row[0], row[1:])
        self.number = first + RING - 1

    def _see(self, number: int, row: Row) -> None:
        """Note a change that was read."""
        if tuple(map(type, row)) not in _KINDS:
            raise damaged("one of its latest changes cannot be read")
        self._note(number, row)

    def _note(self, number: int, row: Row) -> None:
        account, wakes, counters, gone, key, value, due = row
        if gone is not None:
            self.records[account, gone] = (number, None, None)
        if key is not None:
            self.records[account, key] = (number, value, due)
        if counters is not None and wakes is not None:
            self._latest[account] = (number, wakes, counters)
            entry = self._by_id.get(account)
            if entry is not None:
                entry.stale = True

    def _read_folded(self, execute: Execute) -> int:
        row = execute(_FOLDED).fetchone()
        if row is None or type(row[0]) is not int:
            raise damaged("its latest changes cannot be read")
        return row[0]

    def _shorten(self, execute: Execute) -> None:
        """Forget what others have folded."""
        folded = self.folded = self._read_folded(execute)
        self.records = {name: told for name, told in self.records.items() if told[0] > folded}
        self._latest = {id: told for id, told in self._latest.items() if told[0] > folded}

    # -- looking ----------------------------------------------------------------------------------------------------

    def entry(self, execute: Execute, name: str) -> Entry | None:
        """Give an account; after `catch_up`, at the same moment."""
        known = self.entries.get(name)
        if known is not None and not known.stale:
            return known
        found = None if known is None else self._decoded(known)
        if found is None:
            row = execute(_ACCOUNT, (name,)).fetchone()
            if row is None:
                return None
            found = self._made(name, *row)
        if known is None and len(self.entries) >= _REMEMBERED_MAX:
            self.entries.clear()
            self._by_id.clear()
        self.keep(name, found)
        return found

    def keep(self, name: str, entry: Entry) -> None:
        """Remember an account as it is now."""
        entry.stale = False
        self._by_id[entry.id] = entry
        self.entries[name] = entry

    def _decoded(self, known: Entry) -> Entry | None:
        """Read what the latest change says; ``None`` if the file must be asked, for the names of new counters too."""
        told = self._latest.get(known.id)
        if told is None:
            return None
        try:
            counters, pack = read(known.names, told[2])
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        return Entry(known.id, told[1], counters, known.names, pack)

    def _made(self, name: str, id: int, wakes: int, names: str, counters: bytes | str) -> Entry:
        told = self._latest.get(id)
        if told is not None:
            _, wakes, counters = told
        try:
            entry = Entry(id, wakes, *_ordered(names, counters))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise damaged(f"the row of account {name!r} cannot be read") from None
        if type(wakes) is not int:
            raise damaged(f"the row of account {name!r} cannot be read")
        return entry

    def find(self, execute: Execute, id: int, key: str) -> bytes | None:
        """Read a record."""
        told = self.records.get((id, key))
        if told is not None:
            return told[1]
        row = execute(_VALUE, (id, key)).fetchone()
        return None if row is None else row[0]

    def of(self, id: int) -> dict[str, tuple[bytes | None, int | None]]:
        """Give what the ring says of an account's records: their values and when they fall due."""
        return {key: told[1:] for (account, key), told in self.records.items() if account == id}

    # -- writing ----------------------------------------------------------------------------------------------------

    def has_room(self, execute: Execute, changes: int) -> bool:
        """Whether the ring can take so many changes more without a fold."""
        needed = self.number + changes - RING
        if needed > self.folded:
            self.folded = self._read_folded(execute)
        return needed <= self.folded

    def fold(self, connection: sqlite3.Connection) -> None:
        """Put everything where it belongs; inside a write transaction."""
        gone, put = [], []
        for (id, key), (number, value, due) in self.records.items():
            if number > self.folded:
                if value is None:
                    gone.append((id, key))
                else:
                    put.append((id, key, value, due))
        put_in_place(connection, gone, put)
        saved = [(wakes, counters, id) for id, (_, wakes, counters) in self._latest.items()]
        connection.executemany(_SAVE, saved)
        connection.execute("UPDATE folded SET number = ?", (self.number,))

    def folded_up_to(self, number: int) -> None:
        """Note that everything up to a change is where it belongs, once that was committed."""
        if number > self.folded:
            self.folded = number
            self.records.clear()
            self._latest.clear()

    def note_one(self, entry: Entry, number: int, counters: dict[str, int], wakes: int, row: Row) -> None:
        """Note one change of an account that was seen before, once it was committed."""
        self._note(number, row)
        entry.counters, entry.wakes, entry.stale = counters, wakes, False
        self.number = number

    def note(self, changes: Iterable[tuple[int, Row]], entries: Mapping[str, Entry]) -> None:
        """Note what was changed here and what became of the accounts, once that was committed."""
        number = self.number
        for number, row in changes:
            self._note(number, row)
        for name, entry in entries.items():
            self.keep(name, entry)
        self.number = number


def put_in_place(
    connection: sqlite3.Connection, gone: Iterable[tuple[Any, ...]], put: Iterable[tuple[Any, ...]]
) -> None:
    """Remove records and write others, in the order of their keys: neighbours share a page."""
    connection.executemany(_REMOVE, sorted(gone))
    connection.executemany(_WRITE, sorted(put))


def _ordered(names: str, counters: bytes | str) -> tuple[dict[str, int], str, Pack | None]:
    found, pack = read(names, counters)
    return found, names, pack
