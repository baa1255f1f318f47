"""What a transaction asks of SQLite, of other threads and of the loop: counted, never timed."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import anyio
import anyio.to_thread
import pytest

from budgetguard.ports import Put, Transaction
from budgetguard.stores import _sqlite_turns
from budgetguard.stores._sqlite_ring import RING
from budgetguard.stores.sqlite import SQLiteStore

T = TypeVar("T")

COUNTERS = {"credits": 10**9, "slots": 10**6, "open": 0, "serial": 0}


def take(name: str) -> Transaction:
    add = {"credits": -35, "slots": -1, "open": 1, "serial": 1}
    return Transaction(add=add, floor={"credits": 0, "slots": 0}, put={f"r:{name}": Put(name.encode(), 120.0)})


def accept(name: str) -> Transaction:
    add = {"open": -1, "serial": 1}
    return Transaction(add=add, drop={f"r:{name}": name.encode()}, put={f"t:{name}": Put(name.encode(), 900.0)})


def finish(name: str) -> Transaction:
    return Transaction(add={"slots": 1, "serial": 1}, drop={f"t:{name}": name.encode()}, wake=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore(tmp_path / "accounts.db")
    made.transact("a", Transaction(add=COUNTERS))
    made.transact("a", take("first"))
    yield made
    made.close()


def go_on(store: SQLiteStore) -> None:
    """Do so much that all that was done before is where it belongs."""
    for _ in range(RING + 1):
        store.transact("another", Transaction(add={"x": 1}))


class Seen:
    """The statements the writing connection was given, and the commits it made."""

    def __init__(self, store: SQLiteStore) -> None:
        self.statements: list[str] = []
        self._store = store
        self._before = store._links.commits
        store._links.writer().set_trace_callback(self._see)

    def _see(self, statement: str) -> None:
        self.statements.append(statement.split(maxsplit=1)[0])

    @property
    def commits(self) -> int:
        return self._store._links.commits - self._before


def counters_written(store: SQLiteStore, last: int) -> int:
    """How many of the last changes tell the account's counters."""
    with store._links.reading:
        rows = store._links.reader().execute("SELECT counters FROM change ORDER BY number DESC LIMIT ?", (last,))
        return sum(counters is not None for (counters,) in rows)


def test_each_change_of_a_known_account_is_one_statement(store: SQLiteStore) -> None:
    for make in (take, accept, finish):
        seen = Seen(store)
        assert store.transact("a", make("x")).applied
        assert seen.statements == ["UPDATE"]
        assert seen.commits == 1
    seen = Seen(store)
    assert store.transact("a", Transaction(add={"serial": 1})).applied
    assert seen.statements == ["UPDATE"]


def test_a_refusal_is_one_look_that_locks_nothing(store: SQLiteStore) -> None:
    with sqlite3.connect(store._file.path, isolation_level=None) as holder:
        holder.execute("BEGIN IMMEDIATE")
        seen = Seen(store)
        done = store.transact("a", Transaction(add={"slots": -(10**7)}, floor={"slots": 0}))
        assert not done.applied
        assert done.counters == store.load("a").counters
        assert seen.statements == ["SELECT"]
        holder.execute("ROLLBACK")
    holder.close()


def test_a_refusal_is_not_taken_from_what_was_true_before(store: SQLiteStore) -> None:
    other = SQLiteStore(store._file.path)
    want = Transaction(add={"credits": -(10**10)}, floor={"credits": 0})
    assert not store.transact("a", want).applied
    other.transact("a", Transaction(add={"credits": 10**11}))
    assert store.transact("a", want).applied
    other.close()


@pytest.mark.parametrize(("make", "left"), [(take, {"r:x", "t:x"}), (accept, {"t:x"}), (finish, set[str]())])
def test_what_another_process_changed_costs_one_look_more_and_is_not_overwritten(
    store: SQLiteStore, make: Callable[[str], Transaction], left: set[str]
) -> None:
    store.transact("a", take("x") if make is accept else Transaction(put={"t:x": Put(b"x")}))
    other = SQLiteStore(store._file.path)
    other.transact("a", Transaction(add={"credits": -5}))
    expected = other.load("a").counters
    for name, delta in make("x").add.items():
        expected[name] += delta
    seen = Seen(store)
    assert store.transact("a", make("x")).counters == expected
    assert other.load("a", ["r:x", "t:x"]).records.keys() == left
    assert other.load("a").counters == expected
    assert seen.statements.count("BEGIN") == 1
    assert store.transact("a", take("y")).applied
    assert seen.statements[-1] == "UPDATE"
    other.close()


def test_a_record_that_is_gone_or_there_already_changes_nothing_on_the_short_way_either(store: SQLiteStore) -> None:
    store.transact("a", take("second"))
    before = store.load("a").counters
    for wrong in (
        take("first"),
        accept("absent"),
        finish("absent"),
        Transaction(add={"slots": 1}, drop={"r:first": b"another"}),
        Transaction(add={"slots": 1}, drop={"r:first": b"first"}, put={"r:second": Put(b"1")}),
    ):
        assert not store.transact("a", wrong).applied
        assert store.load("a", ["r:first"]).counters == before
    assert store.load("a", ["r:first"]).records == {"r:first": b"first"}


def test_statements_do_not_grow_with_what_is_held(tmp_path: Path) -> None:
    def steps(held: int) -> list[int]:
        store = SQLiteStore(tmp_path / f"{held}.db")
        store.transact("a", Transaction(add=COUNTERS))
        for start in range(0, held, 500):
            put = {f"r:{number}": Put(b"1", 120.0) for number in range(start, min(start + 500, held))}
            store.transact("a", Transaction(put=put))
        go_on(store)
        store.transact("a", take("first"))
        counts, count = [], 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        store._links.writer().set_progress_handler(step, 1)
        for make in (take, accept, finish):
            count = 0
            assert store.transact("a", make("x")).applied
            counts.append(count)
        store.close()
        return counts

    few, many = steps(10), steps(10_000)
    assert all(more <= less + 2 for less, more in zip(few, many, strict=True))


def test_what_came_and_went_before_the_ring_was_full_never_gets_into_the_table_of_records(store: SQLiteStore) -> None:
    seen = Seen(store)
    for number in range(RING):
        assert store.transact("a", take(f"{number}")).applied
        assert store.transact("a", Transaction(drop={f"r:{number}": f"{number}".encode()})).applied
    assert seen.statements.count("INSERT") <= 5, "one for the first record, and one or two for who was there at a fold"
    assert seen.commits == 2 * RING


# -- many at once -----------------------------------------------------------------------------------------------------


def test_sixteen_threads_that_wait_at_once_travel_in_one_commit(store: SQLiteStore) -> None:
    seen = Seen(store)
    holder = sqlite3.connect(store._file.path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(store.transact, "a", take(str(number))) for number in range(16)]
        while len(store._turns.line) < 16:
            threading.Event().wait(0.001)
        seen.statements.clear()
        holder.execute("ROLLBACK")
        assert all(each.result().applied for each in waiting)
    holder.close()
    assert seen.commits == 1
    assert seen.statements.count("COMMIT") == 1
    assert seen.statements.count("INSERT") == 16, "each is one row, and that is all"
    assert counters_written(store, 16) == 1, "the counters are written once for all"


def test_of_many_that_travel_together_only_the_one_that_cannot_be_is_refused(store: SQLiteStore) -> None:
    names = ["0", "first", "1", "1", "2"]
    holder = sqlite3.connect(store._file.path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = []
        for number, name in enumerate(names):
            waiting.append(pool.submit(store.transact, "a", take(name)))
            while len(store._turns.line) <= number:
                threading.Event().wait(0.001)
        holder.execute("ROLLBACK")
        assert [each.result().applied for each in waiting] == [True, False, True, False, True]
    holder.close()
    loaded = store.load("a", [f"r:{name}" for name in names])
    assert loaded.counters["open"] == len(loaded.records) == 4


def test_sixteen_tasks_in_a_row_end_in_few_commits_though_nobody_holds_the_file(store: SQLiteStore) -> None:
    rounds = 10

    async def call(number: int) -> None:
        for turn in range(rounds):
            assert (await store.atransact("a", take(f"{number} {turn}"))).applied

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(call(number))

    # One after the other is the same as close together: how far apart they come is the machine's affair.
    store._turns.crowd.is_dense = True
    seen = Seen(store)
    asyncio.run(main())
    assert store.load("a").counters["open"] == 1 + 16 * rounds
    assert seen.commits <= rounds + 2
    assert not store._turns.line


def test_who_comes_alone_after_a_crowd_is_not_held_up(store: SQLiteStore) -> None:
    async def main() -> None:
        store._turns.crowd.is_dense = True
        await store.atransact("a", take("x"))
        assert not store._turns.crowd.is_dense
        at_once(store.atransact("a", take("y")))

    asyncio.run(main())


# -- threads and the loop ---------------------------------------------------------------------------------------------


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits for anything."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("it waited")


def forbid(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a thread was asked")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_task_that_waits_for_nobody_touches_neither_a_thread_nor_the_loop(
    store: SQLiteStore, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.load("a")

    async def main() -> None:
        for make in (take, accept, finish):
            assert at_once(store.atransact("a", make("x"))).applied
        assert at_once(store.aload("a")).counters["open"] == 1
        assert not at_once(store.atransact("a", Transaction(expect={"open": 7}))).applied

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", forbid)
        patch.setattr(anyio.to_thread, "run_sync", forbid)
        patch.setattr(store._turns, "_leave_to_thread", forbid)
        anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_while_others_hold_the_file_the_loop_tries_a_few_times_and_a_thread_waits(
    store: SQLiteStore, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, slept = [], []
    begin, sleep = store._turns._begin, time.sleep
    loop_thread = threading.get_ident()

    def count(line: Any) -> Any:
        tries.append(threading.get_ident() == loop_thread)
        return begin(line)

    def pause(seconds: float) -> None:
        slept.append(threading.get_ident() == loop_thread)
        sleep(seconds)

    monkeypatch.setattr(store._turns, "_begin", count)
    monkeypatch.setattr(time, "sleep", pause)

    async def main() -> None:
        holder = sqlite3.connect(store._file.path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            group.start_soon(store.atransact, "a", take("x"))
            while tries.count(False) < 3:
                await anyio.lowlevel.checkpoint()
            holder.execute("ROLLBACK")
        holder.close()

    anyio.run(main, backend=backend)
    assert tries.count(True) <= 1 + _sqlite_turns._ROUNDS
    assert not any(slept), "no pause is made on the loop's thread"
    assert store.load("a").counters["open"] == 2
