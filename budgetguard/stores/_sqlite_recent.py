"""What a process has seen of a file: the ring of its latest changes, and the accounts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from types import NoneType
from typing import Any

from budgetguard.stores._sqlite_clock import Clock, damaged
from budgetguard.stores._sqlite_numbers import Pack, read
from budgetguard.stores._sqlite_ring import RING, Row

__all__ = ["Entry", "Execute", "Recent", "put_in_place", "wakes_of"]

Execute = Callable[..., sqlite3.Cursor]

_CHUNK = 16
_REMEMBERED_MAX = 1024
_KINDS: tuple[set[type], ...] = (
    {int},
    {int, NoneType},
    {bytes, str, NoneType},
    {str, NoneType},
    {str, NoneType},
    {bytes, NoneType},
    {int, NoneType},
)
"""What the columns of a change may hold."""
_PROBE = "SELECT number FROM change WHERE slot = ?"
_FOLLOW = (
    "SELECT number, account, wakes, counters, gone, key, value, due FROM change "
    "WHERE slot BETWEEN ? AND ? AND number > ? ORDER BY slot"
)
_UNFOLDED = (
    "SELECT number, account, wakes, counters, gone, key, value, due FROM change WHERE number > ? ORDER BY number"
)
_FOLDED = "SELECT number FROM folded"
_ACCOUNT = "SELECT id, wakes, names, counters FROM account WHERE name = ?"
_WAKES = "SELECT id, wakes FROM account WHERE name = ?"
_WAKES_TOLD = (
    "SELECT number, wakes FROM change WHERE account = ? AND wakes IS NOT NULL AND slot BETWEEN ? AND ? "
    "ORDER BY slot DESC LIMIT 1"
)
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

    What is not mentioned is as the tables say. An interrupt may come between any two
    steps: what is noted here is always true of the file up to *number* at least, and noting it again does no harm.

    Attributes:
        number: The latest change that was seen; -1 for none.
        folded: Up to which change everything is known to be where it belongs.
        entries: Accounts by name.
        records: What changes after that say of records, and perhaps some before: by account and key the change, the
            value (``None``: it is gone), when it falls due, and the change by which it came first, or -1.
    """

    __slots__ = ("_by_id", "_clock", "_latest", "entries", "folded", "number", "records")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.number = -1
        self.folded = -1
        self.entries: dict[str, Entry] = {}
        self.records: dict[tuple[int | None, str], tuple[int, bytes | None, int | None, int]] = {}
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
        if self.number < 0 or not self._follow(execute):
            self._begin_anew(execute)
        elif self.number - self.folded >= RING:
            self._forget(execute)

    def _follow(self, execute: Execute) -> bool:
        """Read on from where this was; ``False`` if some of it is gone."""
        while True:
            slot = (self.number + 1) % RING
            rows = execute(_FOLLOW, (slot, slot + _CHUNK - 1, self.number)).fetchall()
            if rows and not self._see(rows):
                return False
            if len(rows) < min(_CHUNK, RING - slot):
                return True

    def _forget(self, execute: Execute) -> None:
        """Forget what others have folded."""
        folded = self._read_folded(execute)
        self.records = {name: told for name, told in self.records.items() if told[0] > folded}
        self._latest = {id: told for id, told in self._latest.items() if told[0] > folded}
        self.folded = folded

    def _read_folded(self, execute: Execute) -> int:
        row = execute(_FOLDED).fetchone()
        if row is None or type(row[0]) is not int:
            raise damaged("its latest changes cannot be read")
        return row[0]

    def _begin_anew(self, execute: Execute) -> None:
        """Read what was not folded yet, and forget everything else."""
        self.number = -1
        self.records.clear()
        self._latest.clear()
        for entry in self.entries.values():
            entry.stale = True
        clock = execute("SELECT boot, base FROM clock").fetchone()
        if clock is None:
            raise damaged("its clock cannot be read")
        self._clock.check(*clock)
        self.folded = folded = self._read_folded(execute)
        rows = execute(_UNFOLDED, (folded,)).fetchall()
        self.number = folded
        # Whatever is missing, the place of the next change tells.
        if (rows and not self._see(rows)) or not self.is_latest(execute):
            self.number = -1
            raise damaged("its latest changes cannot be read")

    def _see(self, rows: list[tuple[Any, ...]]) -> bool:
        """Note changes that were read; ``False`` if they are not the next ones."""
        first = self.number + 1
        numbers, *columns = zip(*rows, strict=True)
        if numbers != tuple(range(first, first + len(rows))):
            return False
        if not all(kinds.issuperset(map(type, column)) for kinds, column in zip(_KINDS, columns, strict=True)):
            raise damaged("one of its latest changes cannot be read")
        for number, *row in rows:
            self._note(number, *row)
        self.number = numbers[-1]
        return True

    def _note(
        self,
        number: int,
        account: int | None,
        wakes: int | None,
        counters: bytes | str | None,
        gone: str | None,
        key: str | None,
        value: bytes | None,
        due: int | None,
    ) -> None:
        if (wakes is None) is not (counters is None) or (key is None) is not (value is None):
            raise damaged("one of its latest changes cannot be read")
        records = self.records
        if gone is not None:
            told = records.get((account, gone))
            records[account, gone] = (number, None, None, -1 if told is None else told[3])
        if key is not None:
            told = records.get((account, key))
            records[account, key] = (number, value, due, number if told is None else told[3])
        if counters is not None and wakes is not None:
            self._latest[account] = (number, wakes, counters)
            entry = self._by_id.get(account)
            if entry is not None:
                entry.stale = True

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
        return {key: (told[1], told[2]) for (account, key), told in self.records.items() if account == id}

    # -- writing ----------------------------------------------------------------------------------------------------

    def has_room(self, execute: Execute, changes: int) -> bool:
        """Whether the ring can take so many changes more without a fold; after `catch_up`."""
        needed = self.number + changes - RING
        if needed > self.folded:
            self._forget(execute)
        return needed <= self.folded

    def fold(self, connection: sqlite3.Connection) -> None:
        """Put everything where it belongs; inside a write transaction, after `has_room` said that there is none."""
        gone, put = [], []
        for (id, key), (_, value, due, since) in self.records.items():
            if value is not None:
                put.append((id, key, value, due))
            elif since <= self.folded:  # one that came after the last fold never got there
                gone.append((id, key))
        put_in_place(connection, gone, put)
        saved = [(wakes, counters, id) for id, (_, wakes, counters) in self._latest.items()]
        connection.executemany(_SAVE, saved)
        connection.execute("UPDATE folded SET number = ?", (self.number,))

    def folded_up_to(self, number: int) -> None:
        """Note that everything up to a change is where it belongs, once that was committed."""
        if number > self.folded:
            self.records.clear()
            self._latest.clear()
            self.folded = number

    def note_one(self, entry: Entry, number: int, counters: dict[str, int], wakes: int, row: Row) -> None:
        """Note one change of an account that was seen before, once it was committed."""
        self._note(number, *row)
        entry.counters, entry.wakes, entry.stale = counters, wakes, False
        self.number = number

    def note(self, changes: Iterable[tuple[int, Row]], entries: Mapping[str, Entry]) -> None:
        """Note what was changed here and what became of the accounts, once that was committed."""
        number = self.number
        for number, row in changes:
            self._note(number, *row)
        for name, entry in entries.items():
            self.keep(name, entry)
        self.number = number


def wakes_of(execute: Execute, accounts: Iterable[str]) -> dict[str, int]:
    """Read how often the waiters of these accounts were asked to look again; inside a transaction.

    Whoever only looks for that, every few milliseconds, reads one change and not all that came since.
    """
    newest = _newest_slot(execute)
    ((folded,),) = execute(_FOLDED).fetchall()
    found: dict[str, int] = {}
    for account in accounts:
        row = execute(_WAKES, (account,)).fetchone()
        if row is None:
            found[account] = 0
            continue
        id, wakes = row
        for first, last in ((0, newest), (newest + 1, RING - 1)):
            told = execute(_WAKES_TOLD, (id, first, last)).fetchone()
            if told is not None:
                number, latest = told
                wakes = latest if number > folded else wakes
                break
        if type(wakes) is not int:
            raise damaged(f"the row of account {account!r} cannot be read")
        found[account] = wakes
    return found


def _newest_slot(execute: Execute) -> int:
    """Find where the latest change stands: the last slot whose number follows on that of the first."""

    def number(slot: int) -> int:
        row = execute(_PROBE, (slot,)).fetchone()
        if row is None or type(row[0]) is not int:
            raise damaged("its latest changes cannot be read")
        return int(row[0])

    first, low, high = number(0), 0, RING - 1
    while low < high:
        middle = (low + high + 1) // 2
        if number(middle) == first + middle:
            low = middle
        else:
            high = middle - 1
    return low


def put_in_place(
    connection: sqlite3.Connection, gone: Iterable[tuple[Any, ...]], put: Iterable[tuple[Any, ...]]
) -> None:
    """Remove records and write others, in the order of their keys: neighbours share a page."""
    connection.executemany(_REMOVE, sorted(gone))
    connection.executemany(_WRITE, sorted(put))


def _ordered(names: str, counters: bytes | str) -> tuple[dict[str, int], str, Pack | None]:
    found, pack = read(names, counters)
    return found, names, pack
