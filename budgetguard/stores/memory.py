"""The store inside one process."""

from __future__ import annotations

import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from budgetguard._half_made import even_half_made
from budgetguard._settings import function
from budgetguard.ports import Loaded, Scanned, Transacted, Transaction
from budgetguard.stores._calling import call
from budgetguard.stores._memory_books import MemoryBooks, due_at

__all__ = ["MemoryStore"]


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
        self._now = _machine_now if clock is time.monotonic else self._clock_now
        self._accounts: dict[str, MemoryBooks] = {}
        self._lock = threading.Lock()
        _stores.add(self)

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.Store.transact`."""
        books = self.books(account)
        with books.lock:
            books.till.close()
            now = self._now()
            counters = books.counters
            if not books.allows(transaction, now):
                return Transacted(applied=False, counters=counters.copy(), now=now)
            books.till.moves += 1
            # Worked out before anything changes, as a wrong type shows here.
            sums = {name: counters.get(name, 0) + operator.index(delta) for name, delta in transaction.add.items()}
            puts = [(key, put.value, due_at(put, now)) for key, put in transaction.put.items()]
            values = sums | dict.fromkeys(transaction.stamp, now)
            interrupt: BaseException | None = None
            try:
                books.change(values, transaction.drop, puts)
            except BaseException as error:  # noqa: BLE001 - it is raised again below: all of it or nothing
                interrupt = error
                books.change(values, transaction.drop, puts)
            done = Transacted(applied=True, counters=counters.copy(), now=now)
            watchers = books.watchers if transaction.wake else ()
        call(watchers)
        if interrupt is not None:
            raise interrupt
        return done

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.Store.load`."""
        books = self.books(account)
        with books.lock:
            books.till.close()
            now = self._now()
            found = {key: text for key in records if (text := books.look(key)) is not None}
            if due:
                for key in books.due(now):
                    found[key] = books.look(key) or b""
            return Loaded(books.counters.copy(), found, now)

    def scan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.Store.scan`."""
        books = self.books(account)
        with books.lock:
            return Scanned(*books.page(cursor))

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        """See `budgetguard.ports.Store.watch`. What *changed* raises is logged."""
        books = self.books(account)

        def watcher() -> None:
            changed()

        with books.lock:
            books.watched_by((*books.watchers, watcher))

        def unwatch() -> None:
            with books.lock:
                books.watched_by(tuple(other for other in books.watchers if other is not watcher))

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

    def books(self, account: str) -> MemoryBooks:
        """Find what is kept of an account. For the library's own quick path; see `budgetguard._core.till`."""
        return self._accounts.get(account) or self._open(account)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        for books in self._accounts.values():
            books.lock = books.till.lock = threading.Lock()

    def _clock_now(self) -> int:
        return 1 + int(self._clock() * 1_000_000)

    def _open(self, account: str) -> MemoryBooks:
        with self._lock:
            return self._accounts.setdefault(account, MemoryBooks(self._now))

    @even_half_made
    def __repr__(self) -> str:
        held = sum(books.held for books in self._accounts.values())
        return f"MemoryStore({len(self._accounts)} accounts, {held} records)"


def _machine_now() -> int:
    return 1 + time.monotonic_ns() // 1000


_stores: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


def _after_fork() -> None:
    """Begin with locks that no thread of the parent holds. What is kept is a copy, and the child's alone."""
    for store in list(_stores):
        store._forked()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - our own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
