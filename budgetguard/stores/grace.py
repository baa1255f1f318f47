"""A store that may fail for a moment: what was last seen of it is gone by, for a bounded time."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

import anyio

from budgetguard.errors import StoreError
from budgetguard.events import Event, StoreFound, StoreLost
from budgetguard.ports import AsyncStore, Loaded, Scanned, Transacted, Transaction
from budgetguard.stores._calling import call
from budgetguard.stores._grace_copy import Copy

__all__ = ["GraceStore"]

T = TypeVar("T")

_ACCOUNTS_MAX = 1024
_HOLDS_MAX = 1000
_ASK_AGAIN = 0.5
"""Seconds after a failure during which nobody who can do without asks the store."""
_PAUSE = 0.005
_PATIENCE = 30.0
_MICROS = 1_000_000


class _Look:
    __slots__ = ("due", "records")

    def __init__(self, records: Sequence[str], *, due: bool) -> None:
        self.records = records
        self.due = due


class _Page:
    __slots__ = ("cursor",)

    def __init__(self, cursor: str) -> None:
        self.cursor = cursor


_Talk: TypeAlias = Generator[Transaction | _Look | _Page | float, Any, T]
"""What to ask the store, or how many seconds to wait; takes the answers, and what the store raises."""


class GraceStore:
    """Bridges the moments in which a store cannot be reached. A guard with ``Policy(store_grace=...)`` makes its own.

    While the store gives no answer, and for at most *seconds* since the last one about this account, calls are admitted
    on the counters last seen, less what was admitted since; what was admitted so can be given back. All else fails with
    `StoreError` as before: what depends on the state of others, as booking an answer does. When the store answers
    again, what was admitted meanwhile is brought to it before anything else is said about the account.

    Each process gives out by itself what it last saw as free. So *n* guards may give out at most *n* times that. Other
    failures of a store, a file that is damaged or a password that is wrong, are not bridged. At most 1000 holds are.

    Safe to share between threads and event loops, as far as the store itself is. Since 0.1.

    Args:
        store: The store; one that says of a `StoreError` whether it is ``unreachable``.
        seconds: How long.
        serial: The counter that every transaction adds to.
        tell: Called with `StoreLost` and `StoreFound`.
        owned: Whether the store is closed with this.
        clock: Gives seconds that never run backwards.
    """

    def __init__(
        self,
        store: Any,
        seconds: float,
        *,
        serial: str,
        tell: Callable[[Event], None] | None = None,
        owned: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store: AsyncStore = store
        self._seconds = seconds
        self._serial = serial
        self.tell = tell
        self._owned = owned
        self._clock = clock
        self._lock = threading.Lock()
        self._copies: dict[str, Copy] = {}
        self._watchers: dict[str, tuple[Callable[[], None], ...]] = {}
        self._lost = self._asking = False
        self._ask_at = 0.0
        _all.add(self)

    # -- the store --------------------------------------------------------------------------------------------------

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.Store.transact`."""
        return self._run(account, self._transact(account, transaction))

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.Store.load`."""
        return self._run(account, self._load(account, records, due=due))

    def scan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.Store.scan`. Never answered from what was last seen."""
        return self._run(account, self._scan(account, cursor))

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        """See `budgetguard.ports.Store.watch`."""

        def watcher() -> None:
            changed()

        with self._lock:
            self._watchers[account] = (*self._watchers.get(account, ()), watcher)
        end = self._store.watch(account, watcher)

        def unwatch() -> None:
            end()
            with self._lock:
                left = tuple(other for other in self._watchers.get(account, ()) if other is not watcher)
                if left:
                    self._watchers[account] = left
                else:
                    self._watchers.pop(account, None)

        return unwatch

    def close(self) -> None:
        """Bring what is left to the store if it answers, and close it if it is this one's own."""
        for account in self._unfinished():
            with contextlib.suppress(StoreError):
                self.load(account)
        if self._owned:
            self._store.close()

    async def atransact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.AsyncStore.atransact`."""
        return await self._arun(account, self._transact(account, transaction))

    async def aload(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.AsyncStore.aload`."""
        return await self._arun(account, self._load(account, records, due=due))

    async def ascan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.AsyncStore.ascan`."""
        return await self._arun(account, self._scan(account, cursor))

    async def aclose(self) -> None:
        """See `close`."""
        for account in self._unfinished():
            with contextlib.suppress(StoreError):
                await self.aload(account)
        if self._owned:
            await self._store.aclose()

    def __repr__(self) -> str:
        return f"GraceStore({self._store!r}, {self._seconds:g} s)"

    # -- performing -------------------------------------------------------------------------------------------------

    def _run(self, account: str, talk: _Talk[T]) -> T:
        store = self._store
        try:
            step = next(talk)
            while True:
                reply: Any = None
                try:
                    if isinstance(step, Transaction):
                        reply = store.transact(account, step)
                    elif isinstance(step, _Look):
                        reply = store.load(account, step.records, due=step.due)
                    elif isinstance(step, _Page):
                        reply = store.scan(account, step.cursor)
                    else:
                        time.sleep(step)
                except StoreError as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            talk.close()

    async def _arun(self, account: str, talk: _Talk[T]) -> T:
        store = self._store
        try:
            step = next(talk)
            while True:
                reply: Any = None
                try:
                    if isinstance(step, Transaction):
                        reply = await store.atransact(account, step)
                    elif isinstance(step, _Look):
                        reply = await store.aload(account, step.records, due=step.due)
                    elif isinstance(step, _Page):
                        reply = await store.ascan(account, step.cursor)
                    else:
                        await anyio.sleep(step)
                except StoreError as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            talk.close()

    # -- talking to the store ---------------------------------------------------------------------------------------

    def _transact(self, account: str, transaction: Transaction) -> _Talk[Transacted]:
        copy, number, first = self._begin(account)
        if not first and (local := self._decide(account, copy, transaction, sent=False)) is not None:
            return local
        sent = False
        try:
            if copy.pending:
                yield from self._bring(copy)
            sent = True
            done: Transacted = yield transaction
        except StoreError as error:
            self._fail(error)
            local = self._decide(account, copy, transaction, sent=sent) if error.unreachable else None
            if local is None:
                raise
            return local
        finally:
            self._end(first=first)
        self._hear(account, copy, number, done)
        return done

    def _load(self, account: str, records: Sequence[str], *, due: bool) -> _Talk[Loaded]:
        copy, number, first = self._begin(account)
        if not first and (local := self._answer(account, copy, records, due=due)) is not None:
            return local
        try:
            if copy.pending:
                yield from self._bring(copy)
            loaded: Loaded = yield _Look(records, due=due)
        except StoreError as error:
            self._fail(error)
            local = self._answer(account, copy, records, due=due) if error.unreachable else None
            if local is None:
                raise
            return local
        finally:
            self._end(first=first)
        self._hear(account, copy, number, loaded)
        return loaded

    def _scan(self, account: str, cursor: str) -> _Talk[Scanned]:
        copy, _, first = self._begin(account)
        try:
            if copy.pending:
                yield from self._bring(copy)
            page: Scanned = yield _Page(cursor)
        except StoreError as error:
            self._fail(error)
            raise
        finally:
            self._end(first=first)
        return page

    def _bring(self, copy: Copy) -> _Talk[None]:
        """Bring to the store what was done without it, one thing after the other, before anything else is said."""
        until = time.monotonic() + _PATIENCE
        while not copy.turn.acquire(blocking=False):
            if time.monotonic() > until:
                raise StoreError("The store is slow: what was admitted without it takes too long to be brought to it.")
            yield _PAUSE
        try:
            while True:
                with self._lock:
                    held = copy.begin()
                if held is None:
                    return
                done: Transacted | None = None
                try:
                    done = yield from held.bring(self._serial)
                finally:
                    with self._lock:
                        copy.end(held, done, self._clock())
        finally:
            copy.turn.release()

    # -- bookkeeping ------------------------------------------------------------------------------------------------

    def _begin(self, account: str) -> tuple[Copy, int, bool]:
        """Find an account's copy, number the question, and tell whether the store is to be asked first."""
        with self._lock:
            copy = self._copies.get(account)
            if copy is None:
                if len(self._copies) >= _ACCOUNTS_MAX:
                    self._forget_one()
                copy = self._copies[account] = Copy(self._serial)
            first = not self._lost or not (self._asking or self._clock() < self._ask_at)
            if self._lost and first:
                self._asking = True
            return copy, copy.number(), first

    def _end(self, *, first: bool) -> None:
        if first:
            self._asking = False

    def _forget_one(self) -> None:
        for name, copy in self._copies.items():
            if not copy.pending:
                del self._copies[name]
                return

    def _unfinished(self) -> list[str]:
        with self._lock:
            self._lost = False  # it is asked once more, even if it failed a moment ago
            return [name for name, copy in self._copies.items() if copy.pending]

    def _fail(self, error: StoreError) -> None:
        if error.unreachable:
            with self._lock:
                self._lost = True
                self._ask_at = self._clock() + _ASK_AGAIN

    def _hear(self, account: str, copy: Copy, number: int, answer: Transacted | Loaded) -> None:
        self._lost = False
        found: StoreFound | None = None
        with self._lock:
            at = self._clock()
            copy.hear(number, answer.counters, answer.now, at)
            if copy.since is not None and not copy.pending:
                found = StoreFound(account, answer.now / _MICROS, at - copy.since, copy.brought)
                copy.since, copy.brought = None, 0
            watchers = self._watchers.get(account, ()) if found is not None else ()
        if found is not None:
            self._tell(found)
            call(watchers)

    def _answer(self, account: str, copy: Copy, records: Sequence[str], *, due: bool) -> Loaded | None:
        """Answer a look from the copy; ``None`` if only the store can."""
        with self._lock:
            at = self._clock()
            left = self._left(copy, at)
            loaded = None if left is None or due else copy.look(records, at)
            lost = self._use(account, copy, at, left) if loaded is not None else None
        self._tell(lost)
        return loaded

    def _decide(self, account: str, copy: Copy, transaction: Transaction, *, sent: bool) -> Transacted | None:
        """Decide on the copy; ``None`` if only the store can."""
        with self._lock:
            at = self._clock()
            left = self._left(copy, at)
            if self._copies.get(account) is not copy:
                return None  # forgotten meanwhile, as there are so many
            full = sum(len(other.holds) for other in self._copies.values() if other.holds) >= _HOLDS_MAX
            done = copy.decide(transaction, at, new=left is not None, full=full, sent=sent)
            lost = self._use(account, copy, at, left) if done is not None else None
            woken = self._watchers.get(account, ()) if done is not None and done.applied and transaction.wake else ()
        self._tell(lost)
        call(woken)
        return done

    def _left(self, copy: Copy, at: float) -> float | None:
        """How many seconds the copy may still be used; ``None`` if it may not."""
        left = -1.0 if copy.at is None else self._seconds - (at - copy.at)
        return None if left < 0 else left

    def _use(self, account: str, copy: Copy, at: float, left: float | None) -> StoreLost | None:
        if copy.since is not None:
            return None
        copy.since = at
        return StoreLost(account, copy.now(at) / _MICROS, left or 0.0)

    def _tell(self, event: Event | None) -> None:
        if event is not None and self.tell is not None:
            self.tell(event)

    def after_fork(self) -> None:
        """In a child, forget what the parent has yet to bring to the store, and whoever held a lock."""
        self._lock = threading.Lock()
        self._copies = {}
        self._lost = self._asking = False


_all: weakref.WeakSet[GraceStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_all):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
