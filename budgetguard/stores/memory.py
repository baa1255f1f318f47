"""The store inside one process."""

from __future__ import annotations

import heapq
import operator
import threading
import time
from collections.abc import Callable, Sequence

from budgetguard._settings import function
from budgetguard.ports import Loaded, Put, Scanned, Transacted, Transaction
from budgetguard.stores._calling import call

__all__ = ["MemoryStore"]

_DUE_MAX = 100
_PAGE = 100
_SPREAD = 1_000_000
"""Leases are found by the second in which they end, so that keeping one costs the same whatever is held."""


class _Books:
    __slots__ = ("counters", "due", "lock", "records", "seconds", "watchers")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counters: dict[str, int] = {}
        self.records: dict[str, tuple[bytes, int | None]] = {}
        self.due: dict[int, set[str]] = {}
        """Records by the second in which their lease ends."""
        self.seconds: list[int] = []
        """Those seconds, as a heap."""
        self.watchers: tuple[Callable[[], None], ...] = ()


class MemoryStore:
    """Keeps the accounts of one process, for all its threads and tasks; forgotten when the process ends. Since 0.1.

    Safe to share between threads, between event loops, and between several guards, which then share their accounts.
    Methods never block for longer than another caller's transaction takes, so ``async`` callers use it directly.

    Args:
        clock: Gives seconds that never run backwards; tests pass their own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        function("clock", clock, "give a function that tells seconds")
        self._clock = clock
        self._accounts: dict[str, _Books] = {}
        self._lock = threading.Lock()

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.Store.transact`."""
        books = self._accounts.get(account) or self._open(account)
        with books.lock:
            now = self._now()
            counters = books.counters
            if not _allowed(books, transaction, now):
                return Transacted(applied=False, counters=counters.copy(), now=now)
            # Worked out before anything changes, as a wrong type shows here.
            sums = {name: counters.get(name, 0) + operator.index(delta) for name, delta in transaction.add.items()}
            puts = [(key, put.value, _due_at(put, now)) for key, put in transaction.put.items()]
            counters.update(sums)
            counters.update(dict.fromkeys(transaction.stamp, now))
            for key in transaction.drop:
                _drop(books, key)
            for key, value, due in puts:
                _put(books, key, value, due)
            done = Transacted(applied=True, counters=counters.copy(), now=now)
            watchers = books.watchers if transaction.wake else ()
        call(watchers)
        return done

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.Store.load`."""
        books = self._accounts.get(account) or self._open(account)
        with books.lock:
            now = self._now()
            found = {key: books.records[key][0] for key in records if key in books.records}
            if due:
                for key in _due(books, now):
                    found[key] = books.records[key][0]
            return Loaded(books.counters.copy(), found, now)

    def scan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.Store.scan`."""
        books = self._accounts.get(account) or self._open(account)
        with books.lock:
            # A cursor is the last name given, behind a sign, as a name may be empty.
            rest = (key for key in books.records if not cursor or key > cursor[1:])
            page = heapq.nsmallest(_PAGE + 1, rest)
            more = f">{page[_PAGE - 1]}" if len(page) > _PAGE else ""
            return Scanned({key: books.records[key][0] for key in page[:_PAGE]}, more)

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        """See `budgetguard.ports.Store.watch`. What *changed* raises is logged."""
        books = self._accounts.get(account) or self._open(account)

        def watcher() -> None:
            changed()

        with books.lock:
            books.watchers = (*books.watchers, watcher)

        def unwatch() -> None:
            with books.lock:
                books.watchers = tuple(other for other in books.watchers if other is not watcher)

        return unwatch

    def close(self) -> None:
        """Does nothing: there is nothing to let go of."""

    async def atransact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.AsyncStore.atransact`."""
        return self.transact(account, transaction)

    async def aload(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.AsyncStore.aload`."""
        return self.load(account, records, due=due)

    async def ascan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.AsyncStore.ascan`."""
        return self.scan(account, cursor)

    async def aclose(self) -> None:
        """Does nothing: there is nothing to let go of."""

    def _now(self) -> int:
        return 1 + int(self._clock() * 1_000_000)

    def _open(self, account: str) -> _Books:
        with self._lock:
            return self._accounts.setdefault(account, _Books())

    def __repr__(self) -> str:
        held = sum(len(books.records) for books in self._accounts.values())
        return f"MemoryStore({len(self._accounts)} accounts, {held} records)"


def _allowed(books: _Books, transaction: Transaction, now: int) -> bool:
    counters, records = books.counters, books.records
    for name, value in transaction.expect.items():
        if counters.get(name, 0) != value:
            return False
    for name, age in transaction.within.items():
        at = counters.get(name, 0)
        if at == 0 or now - at > age:
            return False
    add = transaction.add
    for name, minimum in transaction.floor.items():
        if counters.get(name, 0) + add.get(name, 0) < minimum:
            return False
    for key, text in transaction.drop.items():
        record = records.get(key)
        if record is None or record[0] != text:
            return False
    return all(key not in records or key in transaction.drop for key in transaction.put)


def _due_at(put: Put, now: int) -> int | None:
    if not isinstance(put.value, bytes):
        raise TypeError(f"a record is bytes, not {type(put.value).__name__}")
    return None if put.lease is None else now + int(put.lease * 1_000_000)


def _put(books: _Books, key: str, value: bytes, due: int | None) -> None:
    books.records[key] = (value, due)
    if due is not None:
        second = due // _SPREAD
        keys = books.due.get(second)
        if keys is None:
            keys = books.due[second] = set()
            heapq.heappush(books.seconds, second)
        keys.add(key)


def _drop(books: _Books, key: str) -> None:
    record = books.records.pop(key, None)
    if record is not None and record[1] is not None:
        books.due[record[1] // _SPREAD].discard(key)


def _due(books: _Books, now: int) -> list[str]:
    found: list[str] = []
    kept: list[int] = []
    while books.seconds and books.seconds[0] <= now // _SPREAD and len(found) < _DUE_MAX:
        second = heapq.heappop(books.seconds)
        keys = books.due[second]
        if keys:
            kept.append(second)
            found += [key for key in keys if (books.records[key][1] or 0) <= now]
        else:
            del books.due[second]
    for second in kept:
        heapq.heappush(books.seconds, second)
    return found[:_DUE_MAX]
