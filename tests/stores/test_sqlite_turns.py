"""Who waits for whom: threads, tasks, and others who hold the file."""

from __future__ import annotations

import asyncio
import collections
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import anyio
import pytest

from budgetguard.errors import StoreError
from budgetguard.ports import Put, Transaction
from budgetguard.stores._sqlite_line import Line, Ticket
from budgetguard.stores._sqlite_ring import RING
from budgetguard.stores.sqlite import SQLiteStore

ONE = Transaction(add={"a": 1})


@pytest.fixture(params=[False, True], ids=["quick", "durable"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SQLiteStore]:
    made = SQLiteStore(tmp_path / "accounts.db", durable=request.param)
    made.transact("a", Transaction(add={"a": 0}))
    yield made
    made.close()


class Holder:
    """Somebody who holds the file."""

    def __init__(self, store: SQLiteStore) -> None:
        self._connection = sqlite3.connect(store._file.path, isolation_level=None, check_same_thread=False)

    def __enter__(self) -> Self:
        self._connection.execute("BEGIN IMMEDIATE")
        return self

    def let_go(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._connection.close()


def commits(store: SQLiteStore) -> int:
    """How often this process has committed."""
    return store._links.commits


def test_threads_that_wait_at_the_same_moment_travel_in_one_commit(store: SQLiteStore) -> None:
    before = commits(store)
    with Holder(store) as holder, ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(store.transact, "a", ONE) for _ in range(10)]
        while len(store._turns.line) < 10:
            time.sleep(0.001)
        holder.let_go()
        results = [each.result() for each in waiting]
    assert sorted(done.counters["a"] for done in results) == list(range(1, 11))
    assert commits(store) == before + 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_that_wait_at_the_same_moment_travel_in_one_commit_and_the_loop_goes_on(
    store: SQLiteStore, backend: str
) -> None:
    before, rounds = commits(store), 0

    async def main() -> None:
        nonlocal rounds
        with Holder(store) as holder:
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(store.atransact, "a", ONE)
                while len(store._turns.line) < 10 or rounds < 20:
                    rounds += 1
                    await anyio.sleep(0.001)
                holder.let_go()

    anyio.run(main, backend=backend)
    assert store.load("a").counters["a"] == 10
    assert commits(store) == before + 1


def test_one_callers_mistake_is_not_anothers(store: SQLiteStore) -> None:
    wrong: Any = {"a": "one"}
    with Holder(store) as holder, ThreadPoolExecutor(9) as pool:
        waiting = [
            pool.submit(store.transact, "a", Transaction(add=wrong, put={"lost": Put(b"1")}) if number == 4 else ONE)
            for number in range(9)
        ]
        while len(store._turns.line) < 9:
            time.sleep(0.001)
        holder.let_go()
        errors = [each.exception() for each in waiting]
    assert [type(error) for error in errors if error] == [TypeError]
    loaded = store.load("a", ["lost"])
    assert (loaded.counters, loaded.records) == ({"a": 8}, {})
    assert store.transact("a", ONE).counters == {"a": 9}


def test_a_blocking_call_on_the_loop_does_not_wait_for_the_loops_own_tasks(store: SQLiteStore) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(store.atransact("a", ONE))
            for _ in range(20):
                await asyncio.sleep(0)
                store.transact("a", ONE)

    begin = time.monotonic()
    asyncio.run(main())
    assert store.load("a").counters["a"] == 40
    assert time.monotonic() - begin < store._file.patience


def test_threads_and_tasks_of_several_loops_share_one_line(store: SQLiteStore) -> None:
    async def tasks() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(25):
                group.start_soon(store.atransact, "a", ONE)

    def threads() -> None:
        for _ in range(25):
            store.transact("a", ONE)

    with ThreadPoolExecutor(4) as pool:
        for each in [
            pool.submit(anyio.run, tasks),
            pool.submit(lambda: anyio.run(tasks, backend="trio")),
            pool.submit(threads),
            pool.submit(threads),
        ]:
            each.result()
    assert store.load("a").counters["a"] == 100
    assert not store._turns.line


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_transaction_is_over_when_its_caller_hears_of_it(store: SQLiteStore, backend: str) -> None:
    seen: list[int] = []

    async def main() -> None:
        for turn in range(20):
            with anyio.move_on_after(0.0003 * turn):
                await store.atransact("a", ONE)
                await store.atransact("a", ONE)
                await anyio.sleep_forever()
            seen.append((await store.aload("a")).counters["a"])
            await anyio.sleep(0.002)
            assert (await store.aload("a")).counters["a"] == seen[-1]

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_transaction_cancelled_while_others_hold_the_file_never_happens(store: SQLiteStore, backend: str) -> None:
    async def main() -> None:
        with Holder(store):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(store.atransact, "a", ONE)
                await anyio.sleep(0.02)
                group.cancel_scope.cancel()
        await store.atransact("a", Transaction(add={"b": 1}))

    anyio.run(main, backend=backend)
    assert store.load("a").counters == {"a": 0, "b": 1}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_are_told_in_time_that_others_hold_the_file(tmp_path: Path, backend: str) -> None:
    store = SQLiteStore(tmp_path / "accounts.db", busy_timeout=0.05)
    store.transact("a", ONE)

    async def main() -> None:
        refused = 0

        async def take() -> None:
            nonlocal refused
            with pytest.raises(StoreError, match="locked by others"):
                await store.atransact("a", ONE)
            refused += 1

        with Holder(store):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(take)
        assert refused == 5

    anyio.run(main, backend=backend)
    assert store.load("a").counters == {"a": 1}
    store.close()


def test_a_task_that_comes_first_opens_the_file_without_blocking_the_loop(tmp_path: Path) -> None:
    loops, opened = [], threading.Event()

    async def main() -> None:
        store = SQLiteStore(tmp_path / "accounts.db")
        opening = store._file.open

        def slowly(*, reader: bool = False) -> sqlite3.Connection:
            loops.append(threading.current_thread() is threading.main_thread())
            opened.set()
            return opening(reader=reader)

        store._file.open = slowly  # type: ignore[method-assign]
        await store.atransact("a", ONE)
        await store.aload("a")
        await store.aclose()

    asyncio.run(main())
    assert loops == [False, False]


def test_the_log_of_commits_is_copied_into_the_file_in_time(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgetguard.stores._sqlite_links._TIDY_EVERY", 20)
    for number in range(200):
        store.transact("a", Transaction(put={f"r{number}": Put(b"x" * 1000)}))
    while store._links.is_tidying:
        time.sleep(0.001)
    path = store._file.path
    assert path.stat().st_size > 100_000
    assert path.with_name("accounts.db-wal").stat().st_size < 4_000_000


def test_a_watcher_that_fails_fails_nobody_else(store: SQLiteStore, capsys: pytest.CaptureFixture[str]) -> None:
    called = []

    def fails() -> None:
        raise RuntimeError("mine alone")

    store.watch("a", fails)
    store.watch("a", lambda: called.append(1))
    assert store.transact("a", Transaction(wake=True)).applied
    assert called
    assert "watcher_failed" in "".join(capsys.readouterr())


def test_a_store_that_is_forgotten_closes_its_file_and_ends_its_threads(tmp_path: Path) -> None:
    import gc

    before = threading.active_count()
    store = SQLiteStore(tmp_path / "accounts.db")
    store.watch("a", lambda: None)
    store.transact("a", ONE)
    del store
    deadline = time.monotonic() + 5
    log = tmp_path / "accounts.db-wal"
    while (threading.active_count() > before or log.exists()) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.005)
    assert threading.active_count() <= before
    assert not log.exists()


def test_statements_per_transaction_do_not_grow_with_what_is_held(tmp_path: Path) -> None:
    def steps(held: int) -> int:
        store = SQLiteStore(tmp_path / f"{held}.db")
        for start in range(0, held, 500):
            put = {f"r{number}": Put(b"1", 120.0 + number % 600) for number in range(start, min(start + 500, held))}
            store.transact("a", Transaction(add={"x": len(put)}, put=put))
        for _ in range(RING + 1):  # so that all of it is where it belongs
            store.transact("b", ONE)
        store.transact("a", ONE)
        store.load("a")
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        for connection in (store._links.writer(), store._links.reader()):
            connection.set_progress_handler(step, 1)
        store.transact("a", Transaction(add={"x": 1}, floor={"x": 0}, put={"new": Put(b"1", 120.0)}))
        store.transact("a", Transaction(add={"x": -1}, drop={"r0": b"1"}, wake=True))
        store.load("a", ["new"], due=True)
        store.close()
        return count

    few, many = steps(10), steps(10_000)
    assert many <= few + 2


class Crowded(collections.deque[Ticket]):
    """A line that somebody joins while it is looked at for the first time, as when memory is tidied up meanwhile."""

    late: Ticket | None = Ticket("a", ONE, 1.0, is_task=False)

    def __iter__(self) -> Iterator[Ticket]:
        for ticket in super().__iter__():
            if self.late is not None:
                self.append(self.late)
                self.late = None
            yield ticket


def test_whoever_joins_the_line_while_it_is_looked_at_fails_nobody() -> None:
    line, first = Line(), Ticket("a", ONE, 1.0, is_task=False)
    line.tickets = Crowded([first])
    mine: list[Ticket] = []
    line.claim(mine, 64)
    assert mine == [first, Crowded.late]
    line.tickets = Crowded([first])
    assert line.look() == [first, Crowded.late]
