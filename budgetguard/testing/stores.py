# ruff: noqa: S101 - a contract is made of assertions
"""What every store must do, as a suite that anybody's store can be put through.

Derive a class, say how to make a store, and let pytest collect it::

    from budgetguard.stores import MemoryStore
    from budgetguard.testing import ManualClock
    from budgetguard.testing.stores import StoreContract


    class TestMemoryStore(StoreContract):
        clock = ManualClock(1000.0)

        def make_store(self) -> MemoryStore:
            return MemoryStore(self.clock)

        def advance(self, seconds: float) -> None:
            self.clock.advance(seconds)

For readable failures call ``pytest.register_assert_rewrite("budgetguard.testing")`` before the import.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ClassVar, TypeVar

from anyio import create_task_group
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.lowlevel import checkpoint

from budgetguard.ports import AsyncStore, Loaded, Put, Scanned, Store, Transacted, Transaction
from budgetguard.testing._store_cases import ODD, PATIENCE, StoreCases

__all__ = ["AsyncStoreContract", "StoreContract"]

T = TypeVar("T")


class _Contract(StoreCases):
    """What takes many pages, or many callers at once, too."""

    threads: ClassVar[int] = 8
    """How many callers race."""

    # -- races ------------------------------------------------------------------------------------------------------

    def test_many_who_take_from_one_purse_never_overdraw_it(self) -> None:
        """And leave nothing that somebody could have had."""
        self._do(add={"purse": 200})
        handles = (self.store, self._other())
        lowest: list[int] = []

        def take(number: int) -> int:
            rng, taken = random.Random(number), 0  # noqa: S311 - a schedule to be replayed, not a secret
            while True:
                amount = rng.choice((1, 1, 2, 3))
                step = Transaction(add={"purse": -amount}, floor={"purse": 0})
                done = handles[number % 2].transact(self.account, step)
                lowest.append(done.counters["purse"])
                if done.applied:
                    taken += amount
                elif done.counters["purse"] == 0:
                    return taken

        assert sum(self._race(take)) == 200
        assert min(lowest) == 0

    def test_of_many_who_end_one_record_one_succeeds(self) -> None:
        """However they race."""
        for turn in range(10):
            key = f"r{turn}"
            self._do(put={key: Put(b"1", None)})
            step = Transaction(add={"ended": 1}, drop={key: b"1"})
            assert sum(done.applied for done in self._race(partial(self._step, step))) == 1
        assert self._of(self._load().counters, "ended") == (10,)

    def test_many_who_open_a_new_store_at_once_share_it(self) -> None:
        """Whatever is made when a store is first used is made once."""
        handles, account = (self.store, self._other()), self.account
        barrier = threading.Barrier(self.threads)

        def begin(number: int) -> bool:
            barrier.wait(PATIENCE)
            step = Transaction(add={"a": 1}, put={f"r{number}": Put(b"1", None)})
            return handles[number % 2].transact(account, step).applied

        with ThreadPoolExecutor(self.threads) as pool:
            assert all(pool.map(begin, range(self.threads)))
        loaded = self._load(*(f"r{number}" for number in range(self.threads)))
        assert (loaded.counters["a"], len(loaded.records)) == (self.threads, self.threads)

    def test_a_transaction_that_is_cut_short_is_applied_whole_or_not_at_all(self) -> None:
        """Wherever it is cancelled, or found to be wrong. The store goes on."""
        names = [f"r{turn}" for turn in range(40)]
        for turn, name in enumerate(names):
            self._cut_short(name, turn)
            loaded = self._load(*names)
            assert loaded.counters.get("a", 0) == len(loaded.records)
        assert self._do(add={"b": 1}).applied

    def test_any_mixture_of_transactions_adds_up_to_what_was_applied(self) -> None:
        """Seeded schedules of additions, expectations and records, in many threads at once."""
        names = ["a", "b", "c"]

        def run(number: int) -> dict[str, int]:
            rng = random.Random(f"mixture {number}")  # noqa: S311
            applied: dict[str, int] = dict.fromkeys([*names, "records"], 0)
            view: dict[str, int] = {}
            for turn in range(40):
                add = {name: rng.randint(-3, 4) for name in rng.sample(names, 2)}
                key = f"r{number} {turn}"
                step = Transaction(add=add, floor=dict.fromkeys(add, 0))
                if rng.random() < 0.3:
                    step.expect = {"a": view.get("a", 0)}
                if rng.random() < 0.3:
                    step.put = {key: Put(b"1", 0.0)}
                done = self.store.transact(self.account, step)
                view = done.counters
                assert all(view.get(name, 0) >= 0 for name in names)
                if done.applied:
                    applied["records"] += len(step.put)
                    for name, delta in add.items():
                        applied[name] += delta
            return applied

        totals = self._race(run)
        assert self._of(self._load().counters, *names) == tuple(sum(t[name] for t in totals) for name in names)
        assert len(self._due()) == min(100, sum(total["records"] for total in totals))

    # -- pages ------------------------------------------------------------------------------------------------------

    def test_every_record_is_found_page_by_page(self) -> None:
        """With and without a lease, whatever their names, and none of another account."""
        self.store.transact(f"{self.account}2", Transaction(put={"other": Put(b"0", None)}))
        written = {f"r{number}": b"%d" % number for number in range(1100)}
        written |= {"": b"empty"} | {f"t:{name}": name.encode() for name in ODD}
        for start in range(0, len(written), 100):
            some = list(written.items())[start : start + 100]
            self._do(put={key: Put(value, 3600.0 if start else None) for key, value in some})
        assert self._pages() == written

    def test_an_account_that_holds_nothing_has_one_empty_page(self) -> None:
        """Whether it was ever written to or not."""
        assert self.store.scan(self.account) == Scanned({}, "")
        self._do(add={"a": 1})
        assert self.store.scan(self.account) == Scanned({}, "")

    def test_what_others_do_between_two_pages_hides_no_record_that_stays(self) -> None:
        """Records come and go, and change, while somebody goes through them."""
        stays = {f"stays {number}": Put(b"1", 3600.0) for number in range(600)}
        goes = {f"goes {number}": Put(b"1", 3600.0) for number in range(600)}
        self._do(put=stays)
        self._do(put=goes)
        left, turn = list(goes), 0

        def meanwhile() -> None:
            nonlocal turn
            turn += 1
            gone, left[:] = left[:90], left[90:]
            self._do(drop=dict.fromkeys(gone, b"1"))
            self._do(put={f"new {turn} {number}": Put(b"1", 3600.0) for number in range(20)} if turn < 9 else {})
            self._do(drop={f"stays {turn}": b"1"}, put={f"stays {turn}": Put(b"1", None)})

        assert self._pages(meanwhile).keys() >= stays.keys()

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _pages(self, meanwhile: Callable[[], None] | None = None) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        page = self.store.scan(self.account)
        while True:
            assert len(page.records) <= 1000, "some at a time"
            found |= page.records
            if not page.cursor:
                return found
            if meanwhile is not None:
                meanwhile()
            page = self.store.scan(self.account, page.cursor)

    def _cut_short(self, name: str, turn: int) -> None:
        """Begin to write a record and to count it, and fail in the middle of it now and then."""
        put = {name: Put(b"1", None)} | ({f"{name}x": Put("no bytes", None)} if turn % 2 else {})  # type: ignore[arg-type]
        with contextlib.suppress(TypeError):
            self._do(add={"a": 1}, put=put)

    def _step(self, transaction: Transaction, _number: int) -> Transacted:
        return self.store.transact(self.account, transaction)

    def _race(self, run: Callable[[int], T]) -> list[T]:
        self._load()  # opens what is opened when first asked for, before anybody races for it
        barrier = threading.Barrier(self.threads)

        def start(number: int) -> T:
            barrier.wait(PATIENCE)
            return run(number)

        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(start, range(self.threads)))


class StoreContract(_Contract):
    """The tests of a blocking store. Derive, and say how to make one. Since 0.1.

    Attributes:
        tick: The shortest time the suite lets pass, in seconds; leases are made of it.
        threads: How many threads race.
    """

    def make_store(self) -> Store:
        """Make the store under test, empty or not: each test uses an account of its own."""
        raise NotImplementedError

    def make_other(self) -> Store:
        """Make another handle on the same data, as another process would. By default the same one serves."""
        return self.store

    def _open(self) -> Store:
        return self.make_store()

    def _other(self) -> Store:
        other = self.make_other()
        if other is not self.store:
            self._stack.callback(other.close)
        return other


class AsyncStoreContract(_Contract):
    """The same tests for an ``async`` store, which runs on an event loop in a thread of its own. Since 0.1.

    Attributes:
        backend: ``"asyncio"`` or ``"trio"``.
        tick: The shortest time the suite lets pass, in seconds; leases are made of it.
        threads: How many callers race.
    """

    backend: ClassVar[str] = "asyncio"

    async def make_store(self) -> AsyncStore:
        """Make the store under test, empty or not: each test uses an account of its own."""
        raise NotImplementedError

    def _cut_short(self, name: str, turn: int) -> None:
        store = self.store
        assert isinstance(store, _Blocking)
        store.portal.call(self._cancelled, name, turn // 2)

    async def _cancelled(self, name: str, steps: int) -> None:
        step = Transaction(add={"a": 1}, put={name: Put(b"1", None)})
        async with create_task_group() as group:
            group.start_soon(self._first.atransact, self.account, step)
            for _ in range(steps):
                await checkpoint()
            group.cancel_scope.cancel()

    async def make_other(self) -> AsyncStore:
        """Make another handle on the same data, as another process would. By default the same one serves."""
        return self._first

    def _open(self) -> Store:
        portal = self._stack.enter_context(start_blocking_portal(self.backend))
        self._first = portal.call(self.make_store)
        return _Blocking(self._first, portal)

    def _other(self) -> Store:
        store = self.store
        assert isinstance(store, _Blocking)
        other = store.portal.call(self.make_other)
        if other is self._first:
            return store
        blocking = _Blocking(other, store.portal)
        self._stack.callback(blocking.close)
        return blocking


class _Blocking:
    """An ``async`` store as callers in threads see it."""

    def __init__(self, store: AsyncStore, portal: BlockingPortal) -> None:
        self.portal = portal
        self._store = store

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        return self.portal.call(self._store.atransact, account, transaction)

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        async def load() -> Loaded:
            return await self._store.aload(account, records, due=due)

        return self.portal.call(load)

    def scan(self, account: str, cursor: str = "") -> Scanned:
        return self.portal.call(self._store.ascan, account, cursor)

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        unwatch = self.portal.call(self._store.watch, account, changed)
        return lambda: self.portal.call(unwatch)

    def close(self) -> None:
        self.portal.call(self._store.aclose)
