"""What a file holds of accounts, and how a transaction changes it.

An account is one row with all its counters, so that reading and writing them is one statement each however many there
are. What was changed last stands in a ring of changes first: see `budgetguard.stores._sqlite_recent`.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from budgetguard.ports import Loaded, Scanned, Transacted, Transaction
from budgetguard.stores._sqlite_changes import Changes
from budgetguard.stores._sqlite_clock import Clock, damaged
from budgetguard.stores._sqlite_recent import Entry, Execute, Recent, wakes_of

__all__ = ["Books", "Request", "allowed"]

_DUE_MAX = 100
_PAGE = 100
_DUE = "SELECT key, value, due FROM record WHERE account = ? AND due <= ? ORDER BY due LIMIT ?"
_FIRST = "SELECT key, value FROM record WHERE account = ? ORDER BY key LIMIT ?"
_NEXT = "SELECT key, value FROM record WHERE account = ? AND key > ? ORDER BY key LIMIT ?"


class Request:
    """One transaction somebody waits for.

    Attributes:
        account: Whose counters it changes.
        transaction: What is asked.
        result: What became of it, once known.
        error: What went wrong with it instead.
        done: Whether either stands.
    """

    # Not in slots, so that what nearly all begin with need not be written into each.
    result: Transacted | None = None
    error: Exception | None = None
    done = False

    def __init__(self, account: str, transaction: Transaction) -> None:
        self.account = account
        self.transaction = transaction


class Books:
    """Applies transactions to, and reads from, the connection it is given. Remembers what it read.

    Writing is for one thread at a time, and so is reading, which may go on beside it on another connection.

    Attributes:
        written: What the writing connection has seen of the file.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Begin anew, with another file perhaps."""
        # Whoever is at the old ones goes on with those, and what he finds there is of no use to anybody.
        self.written, self._read = Recent(self._clock), Recent(self._clock)

    # -- reading ----------------------------------------------------------------------------------------------------

    def look(self, execute: Execute, account: str) -> Loaded | None:
        """Read the counters of an account that nobody has changed since they were read; ``None`` otherwise."""
        recent = self._read
        entry = recent.entries.get(account)
        if entry is None or entry.stale or not recent.is_latest(execute):
            return None
        return Loaded(entry.counters.copy(), {}, self._clock.now())

    def load(self, execute: Execute, account: str, records: Sequence[str], *, due: bool) -> Loaded:
        """Read an account, inside a transaction."""
        recent = self._read
        recent.catch_up(execute)
        entry = recent.entry(execute, account)
        # After the first look, which fixes what is seen: no time in what is seen may lie ahead of the time told.
        now = self._clock.now()
        if entry is None:
            return Loaded({}, {}, now)
        found: dict[str, bytes] = {}
        for key in records:
            value = recent.find(execute, entry.id, key)
            if value is not None:
                found[key] = value
        if due:
            found.update(self._due(execute, entry.id, now))
        _check(found)
        return Loaded(entry.counters.copy(), found, now)

    def _due(self, execute: Execute, id: int, now: int) -> list[tuple[str, bytes]]:
        changed = self._read.records
        rows = execute(_DUE, (id, now, _DUE_MAX + len(changed))).fetchall()
        found = [(due, key, value) for key, value, due in rows if (id, key) not in changed]
        for (account, key), (_, value, due, _) in changed.items():
            if due is not None and due <= now and account == id and value is not None:
                found.append((due, key, value))
        found.sort(key=operator.itemgetter(0, 1))
        return [(key, value) for _, key, value in found[:_DUE_MAX]]

    def scan(self, execute: Execute, account: str, cursor: str) -> Scanned:
        """Read one page of an account's records, in the order of their names; inside a transaction."""
        recent = self._read
        recent.catch_up(execute)
        entry = recent.entry(execute, account)
        if entry is None:
            return Scanned({}, "")
        changed = recent.of(entry.id)
        # A cursor is the last name given, behind a sign, as a name may be empty. Enough is read for a page whatever
        # of it is gone.
        of = (cursor[1:],) if cursor else ()
        rows = execute(_NEXT if cursor else _FIRST, (entry.id, *of, _PAGE + 1 + len(changed))).fetchall()
        found: dict[str, bytes] = {key: value for key, value in rows if key not in changed}
        for key, (value, _) in changed.items():
            if value is not None and not (cursor and key <= cursor[1:]):
                found[key] = value
        _check(found)
        keys = sorted(found, key=str.encode)
        page = {key: found[key] for key in keys[:_PAGE]}
        return Scanned(page, f">{keys[_PAGE - 1]}" if len(keys) > _PAGE else "")

    def woken(self, execute: Execute, accounts: Iterable[str]) -> dict[str, int]:
        """Read how often the waiters of these accounts were asked to look again; inside a transaction."""
        return wakes_of(execute, accounts)

    # -- writing ----------------------------------------------------------------------------------------------------

    def apply(self, connection: sqlite3.Connection, requests: Sequence[Request]) -> Changes:
        """Apply requests in turn, inside a write transaction. Their results stand when that is committed.

        Raises:
            Collision: If some of them must be applied each alone.
        """
        recent, clock, execute = self.written, self._clock, connection.execute
        recent.catch_up(execute)
        changes = Changes(connection, recent, together=len(requests) > 1)
        now = 0
        for request in requests:
            account = request.account
            entry = changes.after.get(account) or changes.before.get(account)
            if entry is None:
                entry = recent.entry(execute, account) or Entry(0, 0, {}, "", None)
                changes.before[account] = entry
            now = clock.now()
            request.result = _apply(request, entry, changes, now)
        changes.write()
        clock.keep(execute, now)
        return changes


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
        if id == 0 or not changes.change(id, transaction.drop, transaction.put, now):
            return Transacted(applied=False, counters=counters.copy(), now=now)
    elif not (transaction.add or transaction.stamp or transaction.wake):
        return Transacted(applied=True, counters=counters.copy(), now=now)
    if entry is changes.before[account]:
        id = id or _insert(changes.execute, account)
        entry = changes.after[account] = Entry(id, entry.wakes, counters.copy(), entry.names, entry.pack)
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


def _check(records: Mapping[str, bytes]) -> None:
    if not ({str}.issuperset(map(type, records)) and {bytes}.issuperset(map(type, records.values()))):
        raise damaged("a record cannot be read")


def _insert(execute: Execute, account: str) -> int:
    id = execute("INSERT INTO account (name, wakes, names, counters) VALUES (?, 0, '', '{}')", (account,)).lastrowid
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
