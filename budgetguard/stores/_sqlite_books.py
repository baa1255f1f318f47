"""What a file holds of accounts, and how a transaction changes it.

An account is one row with all its counters, so that reading and writing them is one statement each however many there
are. Each change gives the row a new *version*; a process that has read that version before need not read the counters
again, and one that changes that version need not look first.
"""

from __future__ import annotations

import contextlib
import operator
import sqlite3
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

from budgetguard.ports import Loaded, Put, Scanned, Transacted, Transaction
from budgetguard.stores._sqlite_clock import Clock, damaged
from budgetguard.stores._sqlite_numbers import Pack, read, write

__all__ = ["Books", "Changes", "Collision", "Entry", "Execute", "Request", "allowed", "due_at"]

_DUE_MAX = 100
_PAGE = 100
_REMEMBERED_MAX = 1024
_LATEST = 2**62
"""The largest time a record falls due at: the file's numbers end somewhere."""
_ID = "(SELECT id FROM account WHERE name = ?)"
_FIRST = f"SELECT key, value FROM record WHERE account = {_ID} ORDER BY key LIMIT ?"  # noqa: S608 - all of it is here
_NEXT = f"SELECT key, value FROM record WHERE account = {_ID} AND key > ? ORDER BY key LIMIT ?"  # noqa: S608

_PUT = "INSERT OR IGNORE INTO record (account, key, value, due) VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM record WHERE account = ? AND key = ? AND value = ?"
_REPLACE = "UPDATE record SET value = ?, due = ? WHERE account = ? AND key = ? AND value = ?"
_SAVE = "UPDATE account SET version = ?, wakes = ?, names = ?, counters = ? WHERE id = ?"
_SAVE_NUMBERS = "UPDATE account SET version = ?, wakes = ?, counters = ? WHERE id = ?"

Execute = Callable[..., sqlite3.Cursor]


class Collision(Exception):
    """Of several transactions done together one should not have been applied; nobody knows which."""


class Request:
    """One transaction somebody waits for.

    Attributes:
        account: Whose counters it changes.
        transaction: What is asked.
        result: What became of it, once known.
        error: What went wrong with it instead.
        done: Whether either stands.
    """

    __slots__ = ("account", "done", "error", "result", "transaction")

    def __init__(self, account: str, transaction: Transaction) -> None:
        self.account = account
        self.transaction = transaction
        self.result: Transacted | None = None
        self.error: Exception | None = None
        self.done = False


class Entry:
    """An account's row. Never changed once others than the batch that makes it can see it.

    Attributes:
        pack: What writes down the numbers of these counters; ``None`` where the names must be written anew, too.
    """

    __slots__ = ("counters", "id", "pack", "version", "wakes")

    def __init__(self, id: int, version: int, wakes: int, counters: dict[str, int], pack: Pack | None) -> None:
        self.id = id
        self.version = version
        self.wakes = wakes
        self.counters = counters
        self.pack = pack


class Changes:
    """What a batch of transactions makes of the accounts it touches.

    Attributes:
        before, after: The rows of accounts as they were found, and as they shall be.
        woken: The accounts whose waiters shall look again.
    """

    __slots__ = ("_puts", "_together", "after", "before", "connection", "execute", "woken")

    def __init__(self, connection: sqlite3.Connection, *, together: bool) -> None:
        self.connection = connection
        self.execute: Execute = connection.execute
        self.before: dict[str, Entry] = {}
        self.after: dict[str, Entry] = {}
        self.woken: set[str] = set()
        self._together = together
        self._puts: dict[tuple[int, str], tuple[bytes, int | None]] = {}
        """New records, which are written together in the end."""

    def write(self, id: int, drop: Mapping[str, bytes], put: Mapping[str, Put], now: int) -> bool:
        """Change an account's records, or none of them. The usual few are one statement that checks and changes."""
        execute, puts = self.execute, self._puts
        if len(put) == 1 and not drop:
            ((key, record),) = put.items()
            due = due_at(record, now)
            if not self._together or (id, key) in puts:
                self.flush()
                return execute(_PUT, (id, key, record.value, due)).rowcount == 1
            puts[id, key] = (record.value, due)
            return True
        if puts and not puts.keys().isdisjoint((id, key) for key in (*drop, *put)):
            self.flush()
        dues = {key: due_at(record, now) for key, record in put.items()}
        if len(drop) == 1 and (not put or (len(put) == 1 and next(iter(put)) in drop)):
            ((key, value),) = drop.items()
            if not put:
                return execute(_DROP, (id, key, value)).rowcount == 1
            return execute(_REPLACE, (put[key].value, dues[key], id, key, value)).rowcount == 1
        for key, value in drop.items():
            row = execute("SELECT value FROM record WHERE account = ? AND key = ?", (id, key)).fetchone()
            if row is None or row[0] != value:
                return False
        for key in put:
            if key not in drop and execute("SELECT 1 FROM record WHERE account = ? AND key = ?", (id, key)).fetchone():
                return False
        for key, value in drop.items():
            execute(_DROP, (id, key, value))
        for key, record in put.items():
            execute(_PUT, (id, key, record.value, dues[key]))
        return True

    def flush(self) -> None:
        """Write the records that are still to be written.

        Raises:
            Collision: If one of them is there already.
        """
        puts = self._puts
        if puts:
            rows = [(*name, *record) for name, record in puts.items()]
            puts.clear()
            if self.connection.executemany(_PUT, rows).rowcount != len(rows):
                raise Collision


class Books:
    """Applies transactions to, and reads from, the connection it is given. Remembers what it read.

    Writing is for one thread at a time; reading may go on beside it on another connection.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.entries: dict[str, Entry] = {}
        """What was last seen of each account; it may have changed since."""

    def forget(self) -> None:
        """Begin anew, with another file perhaps."""
        self.entries.clear()

    # -- reading ----------------------------------------------------------------------------------------------------

    def load(self, execute: Execute, account: str, records: Sequence[str], *, due: bool) -> Loaded:
        """Read an account; inside a transaction, where records are asked for."""
        entry = self._read(execute, account)
        # After the first look, which fixes what is seen: no time in what is seen may lie ahead of the time told.
        now = self._clock.now()
        if entry is None:
            return Loaded({}, {}, now)
        self._remember(account, entry)
        found: dict[str, bytes] = {}
        for key in records:
            row = execute("SELECT value FROM record WHERE account = ? AND key = ?", (entry.id, key)).fetchone()
            if row is not None:
                found[key] = row[0]
        if due:
            found.update(
                execute(
                    "SELECT key, value FROM record WHERE account = ? AND due <= ? ORDER BY due LIMIT ?",
                    (entry.id, now, _DUE_MAX),
                ).fetchall()
            )
        _check(found)
        return Loaded(entry.counters.copy(), found, now)

    def scan(self, execute: Execute, account: str, cursor: str) -> Scanned:
        """Read one page of an account's records, in the order of their names."""
        # A cursor is the last name given, behind a sign, as a name may be empty.
        of = (cursor[1:],) if cursor else ()
        rows: list[tuple[str, bytes]] = execute(_NEXT if cursor else _FIRST, (account, *of, _PAGE + 1)).fetchall()
        _check(dict(rows))
        return Scanned(dict(rows[:_PAGE]), f">{rows[_PAGE - 1][0]}" if len(rows) > _PAGE else "")

    def woken(self, execute: Execute, accounts: Iterable[str]) -> dict[str, int]:
        """Read how often the waiters of these accounts were asked to look again."""
        found: dict[str, int] = {}
        for account in accounts:
            row = execute("SELECT wakes FROM account WHERE name = ?", (account,)).fetchone()
            found[account] = wakes = 0 if row is None else row[0]
            if type(wakes) is not int:
                raise damaged(f"the row of account {account!r} cannot be read")
        return found

    def _read(self, execute: Execute, account: str) -> Entry | None:
        entry = self.entries.get(account)
        if entry is not None:
            row = execute("SELECT version FROM account WHERE id = ?", (entry.id,)).fetchone()
            if row is not None and row[0] == entry.version:
                return entry
        row = execute(
            "SELECT id, version, wakes, names, counters, boot, base FROM account, clock WHERE name = ?", (account,)
        ).fetchone()
        if row is None:
            return None
        self._clock.check(row[5], row[6])
        try:
            entry = Entry(row[0], row[1], row[2], *read(row[3], row[4]))
        except (ValueError, TypeError, AttributeError, RecursionError):
            whole = False
        else:
            whole = type(entry.version) is int and type(entry.wakes) is int
        if not whole:
            raise damaged(f"the row of account {account!r} cannot be read")
        return entry

    def _remember(self, account: str, entry: Entry) -> None:
        known = self.entries.get(account)
        if known is None:
            if len(self.entries) >= _REMEMBERED_MAX:
                self.entries.clear()
        elif known.version > entry.version:
            return  # whoever looked was overtaken by whoever wrote
        self.entries[account] = entry

    # -- writing ----------------------------------------------------------------------------------------------------

    def apply(self, connection: sqlite3.Connection, requests: Sequence[Request]) -> Changes:
        """Apply requests in turn, inside a write transaction. Their results stand when that is committed.

        Raises:
            Collision: If some of them must be applied each alone.
        """
        changes = Changes(connection, together=len(requests) > 1)
        execute, clock = connection.execute, self._clock
        now = 0
        for request in requests:
            account = request.account
            entry = changes.after.get(account) or changes.before.get(account)
            if entry is None:
                entry = self._read(execute, account) or Entry(0, 0, 0, {}, None)
                changes.before[account] = entry
            now = clock.now()
            request.result = _apply(request, entry, changes, now)
        changes.flush()
        for entry in changes.after.values():
            _save(execute, entry)
        clock.keep(execute, now)
        return changes

    def publish(self, changes: Changes) -> None:
        """Remember what was committed."""
        for account, entry in changes.after.items():
            self._remember(account, entry)


def _apply(request: Request, entry: Entry, changes: Changes, now: int) -> Transacted:
    """Apply one request to *entry*, which this batch may change if it has changed it before."""
    transaction, account = request.transaction, request.account
    counters = entry.counters
    if not allowed(counters, transaction, now):
        return Transacted(applied=False, counters=counters.copy(), now=now)
    id = entry.id
    if transaction.put or transaction.drop:
        if id == 0 and transaction.put and not transaction.drop:
            id = _insert(changes.execute, account)
        if id == 0 or not changes.write(id, transaction.drop, transaction.put, now):
            return Transacted(applied=False, counters=counters.copy(), now=now)
    elif not (transaction.add or transaction.stamp or transaction.wake):
        return Transacted(applied=True, counters=counters.copy(), now=now)
    if entry is changes.before[account]:
        id = id or _insert(changes.execute, account)
        entry = changes.after[account] = Entry(id, entry.version + 1, entry.wakes, counters.copy(), entry.pack)
        counters = entry.counters
    size = len(counters)
    for name, delta in transaction.add.items():
        counters[name] = counters.get(name, 0) + operator.index(delta)
    for name in transaction.stamp:
        counters[name] = now
    if len(counters) != size:
        entry.pack = None
    if transaction.wake:
        changes.woken.add(account)
        entry.wakes += 1
    return Transacted(True, counters.copy(), now)  # noqa: FBT003 - quicker, and on every call's way


def _save(execute: Execute, entry: Entry) -> None:
    if entry.pack is not None:
        with contextlib.suppress(struct.error):
            numbers = entry.pack(*entry.counters.values())
            execute(_SAVE_NUMBERS, (entry.version, entry.wakes, numbers, entry.id))
            return
    names, written, entry.pack = write(entry.counters)
    execute(_SAVE, (entry.version, entry.wakes, names, written, entry.id))


def _check(records: Mapping[str, bytes]) -> None:
    if not ({str}.issuperset(map(type, records)) and {bytes}.issuperset(map(type, records.values()))):
        raise damaged("a record cannot be read")


def _insert(execute: Execute, account: str) -> int:
    id = execute("INSERT INTO account (name, version, wakes, counters) VALUES (?, 0, 0, '{}')", (account,)).lastrowid
    assert id is not None  # noqa: S101 - it was inserted
    return id


def allowed(counters: Mapping[str, int], transaction: Transaction, now: int) -> bool:
    """Tell whether counters are as a transaction expects them, and would keep their floors."""
    for name, value in transaction.expect.items():
        if counters.get(name, 0) != value:
            return False
    for name, age in transaction.within.items():
        at = counters.get(name, 0)
        if at == 0 or now - at > age:
            return False
    add = transaction.add
    for name, minimum in transaction.floor.items():  # noqa: SIM110 - on every call's way, and quicker like this
        if counters.get(name, 0) + add.get(name, 0) < minimum:
            return False
    return True


def due_at(put: Put, now: int) -> int | None:
    """Say when a record falls due.

    Raises:
        TypeError: If it is no bytes.
    """
    if not isinstance(put.value, bytes):
        raise TypeError(f"a record is bytes, not {type(put.value).__name__}")
    return None if put.lease is None else min(now + int(put.lease * 1_000_000), _LATEST)
