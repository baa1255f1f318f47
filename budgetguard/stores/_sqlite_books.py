"""What a file holds of accounts, and how a transaction changes it.

An account is one row: its counters, as one JSON object, so that reading and writing them is one statement each however
many there are. Whole numbers of any size survive that. Each change gives the row a new *version*; a process that has
read that version before need not read the counters again.
"""

from __future__ import annotations

import json
import operator
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

from budgetguard.ports import Loaded, Put, Scanned, Transacted, Transaction
from budgetguard.stores._sqlite_clock import Clock, damaged

__all__ = ["Books", "Changes", "Execute", "Request"]

_DUE_MAX = 100
_PAGE = 100
_REMEMBERED_MAX = 1024
_LATEST = 2**62
"""The largest time a record falls due at: the file's numbers end somewhere."""
_ID = "(SELECT id FROM account WHERE name = ?)"
_FIRST = f"SELECT key, value FROM record WHERE account = {_ID} ORDER BY key LIMIT ?"  # noqa: S608 - all of it is here
_NEXT = f"SELECT key, value FROM record WHERE account = {_ID} AND key > ? ORDER BY key LIMIT ?"  # noqa: S608

_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

Execute = Callable[..., sqlite3.Cursor]


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


class _Entry:
    """An account's row. Never changed once it can be seen by others."""

    __slots__ = ("counters", "id", "version", "wakes")

    def __init__(self, id: int, version: int, wakes: int, counters: dict[str, int]) -> None:
        self.id = id
        self.version = version
        self.wakes = wakes
        self.counters = counters


class Changes:
    """What a batch of transactions makes of the accounts it touches."""

    __slots__ = ("after", "before", "woken")

    def __init__(self) -> None:
        self.before: dict[str, _Entry] = {}
        self.after: dict[str, _Entry] = {}
        self.woken: set[str] = set()


class Books:
    """Applies transactions to, and reads from, the connection it is given. Remembers what it read.

    Writing is for one thread at a time; reading may go on beside it on another connection.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def forget(self) -> None:
        """Begin anew, with another file perhaps."""
        self._entries.clear()

    def wakes(self, account: str) -> int:
        """Say how often the account's waiters were asked to look again, as of the last look at its row."""
        entry = self._entries.get(account)
        return 0 if entry is None else entry.wakes

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

    def _read(self, execute: Execute, account: str) -> _Entry | None:
        entry = self._entries.get(account)
        if entry is not None:
            row = execute("SELECT version FROM account WHERE id = ?", (entry.id,)).fetchone()
            if row is not None and row[0] == entry.version:
                return entry
        row = execute(
            "SELECT id, version, wakes, counters, boot, base FROM account, clock WHERE name = ?", (account,)
        ).fetchone()
        if row is None:
            return None
        self._clock.check(row[4], row[5])
        try:
            entry = _Entry(row[0], row[1], row[2], _decode(row[3]))
            whole = {int}.issuperset(map(type, (entry.version, entry.wakes, *entry.counters.values())))
        except (ValueError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise damaged(f"the row of account {account!r} cannot be read")
        return entry

    def _remember(self, account: str, entry: _Entry) -> None:
        if len(self._entries) >= _REMEMBERED_MAX and account not in self._entries:
            self._entries.clear()
        self._entries[account] = entry

    # -- writing ----------------------------------------------------------------------------------------------------

    def apply(self, execute: Execute, requests: Iterable[Request]) -> Changes:
        """Apply requests in turn, inside a write transaction. Their results stand when that is committed."""
        changes = Changes()
        now = 0
        for request in requests:
            account = request.account
            entry = changes.after.get(account) or changes.before.get(account)
            if entry is None:
                entry = self._read(execute, account) or _Entry(0, 0, 0, {})
                changes.before[account] = entry
            now = self._clock.now()
            request.result = self._apply(execute, request, entry, changes, now)
        for entry in changes.after.values():
            execute(
                "UPDATE account SET version = ?, wakes = ?, counters = ? WHERE id = ?",
                (entry.version, entry.wakes, _encode(entry.counters), entry.id),
            )
        self._clock.keep(execute, now)
        return changes

    def publish(self, changes: Changes) -> None:
        """Remember what was committed."""
        for account, entry in changes.after.items():
            self._remember(account, entry)

    def _apply(self, execute: Execute, request: Request, entry: _Entry, changes: Changes, now: int) -> Transacted:
        transaction, account = request.transaction, request.account
        counters = entry.counters
        if not _allowed(counters, transaction, now):
            return Transacted(applied=False, counters=counters.copy(), now=now)
        id = entry.id
        if transaction.put or transaction.drop:
            if id == 0 and transaction.put and not transaction.drop:
                id = _insert(execute, account)
            if id == 0 or not _write(execute, id, transaction.drop, transaction.put, now):
                return Transacted(applied=False, counters=counters.copy(), now=now)
        elif not (transaction.add or transaction.stamp or transaction.wake):
            return Transacted(applied=True, counters=counters.copy(), now=now)
        counters = counters.copy()
        for name, delta in transaction.add.items():
            counters[name] = counters.get(name, 0) + operator.index(delta)
        for name in transaction.stamp:
            counters[name] = now
        if transaction.wake:
            changes.woken.add(account)
        changes.after[account] = _Entry(
            id or _insert(execute, account),
            changes.before[account].version + 1,
            entry.wakes + transaction.wake,
            counters,
        )
        return Transacted(applied=True, counters=counters.copy(), now=now)


def _check(records: Mapping[str, bytes]) -> None:
    if not ({str}.issuperset(map(type, records)) and {bytes}.issuperset(map(type, records.values()))):
        raise damaged("a record cannot be read")


def _insert(execute: Execute, account: str) -> int:
    id = execute("INSERT INTO account (name, version, wakes, counters) VALUES (?, 0, 0, '{}')", (account,)).lastrowid
    assert id is not None  # noqa: S101 - it was inserted
    return id


def _allowed(counters: Mapping[str, int], transaction: Transaction, now: int) -> bool:
    for name, value in transaction.expect.items():
        if counters.get(name, 0) != value:
            return False
    for name, age in transaction.within.items():
        at = counters.get(name, 0)
        if at == 0 or now - at > age:
            return False
    add = transaction.add
    return all(counters.get(name, 0) + add.get(name, 0) >= minimum for name, minimum in transaction.floor.items())


def _write(execute: Execute, id: int, drop: Mapping[str, bytes], put: Mapping[str, Put], now: int) -> bool:
    """Change an account's records, or none of them. The usual few are one statement that checks and changes."""
    if len(put) == 1 and not drop:
        ((key, record),) = put.items()
        return _put(execute, id, key, record, now)
    if len(drop) == 1 and (not put or (len(put) == 1 and next(iter(put)) in drop)):
        ((key, value),) = drop.items()
        if not put:
            return (
                execute("DELETE FROM record WHERE account = ? AND key = ? AND value = ?", (id, key, value)).rowcount
                == 1
            )
        record = put[key]
        return (
            execute(
                "UPDATE record SET value = ?, due = ? WHERE account = ? AND key = ? AND value = ?",
                (record.value, _due(record, now), id, key, value),
            ).rowcount
            == 1
        )
    for key, value in drop.items():
        row = execute("SELECT value FROM record WHERE account = ? AND key = ?", (id, key)).fetchone()
        if row is None or row[0] != value:
            return False
    for key in put:
        if key not in drop and execute("SELECT 1 FROM record WHERE account = ? AND key = ?", (id, key)).fetchone():
            return False
    for key in drop:
        execute("DELETE FROM record WHERE account = ? AND key = ?", (id, key))
    for key, record in put.items():
        _put(execute, id, key, record, now)
    return True


def _put(execute: Execute, id: int, key: str, record: Put, now: int) -> bool:
    return (
        execute(
            "INSERT OR IGNORE INTO record (account, key, value, due) VALUES (?, ?, ?, ?)",
            (id, key, record.value, _due(record, now)),
        ).rowcount
        == 1
    )


def _due(record: Put, now: int) -> int | None:
    return None if record.lease is None else min(now + int(record.lease * 1_000_000), _LATEST)
