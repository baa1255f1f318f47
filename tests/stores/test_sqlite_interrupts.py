"""Ctrl-C at every step of the store: what was interrupted is undone or done, and the store goes on at once."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import anyio
import pytest

from budgetguard.ports import Put, Transaction
from budgetguard.stores import _sqlite_turns
from budgetguard.stores._sqlite_ring import RING
from budgetguard.stores.sqlite import SQLiteStore
from tests.support.interrupts import Interrupt

SHIFT = Transaction(add={"a": 1, "b": -1}, put={"r": Put(b"1", 60.0)}, wake=True)
BACK = Transaction(add={"a": -1, "b": 1}, drop={"r": b"1"}, wake=True)


@cache
def ours(file: str) -> bool:
    path = file.replace("\\", "/")
    return "/stores/" in path and "budgetguard" in path and "/tests/" not in path


@pytest.fixture(scope="module")
def other() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of files are made and synced here, and no power is lost."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it is made safely
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def see_that_it_goes_on(store: SQLiteStore, other: ThreadPoolExecutor) -> None:
    """From another thread and from this one, with the right numbers, and without a wait that ran out."""
    # Each raises StoreError where anything is still held; a wait for the end of one would be cut off with an error.
    before = other.submit(store.load, "a", ["r"]).result(3)
    a = before.counters.get("a", 0)
    assert (a, before.records) in [(0, {}), (1, {"r": b"1"})]
    assert before.counters.get("b", 0) == -a
    assert other.submit(store.transact, "a", BACK if a else SHIFT).result(3).applied
    done = store.transact("a", SHIFT if a else BACK)
    assert done.applied
    assert (done.counters["a"], done.counters["b"]) == (a, -a)
    loaded = store.load("a", ["r"])
    assert loaded.counters == done.counters
    assert loaded.records == before.records
    assert len(store._turns.line) == 0
    assert not store._links.reading.locked()


def one(store: SQLiteStore) -> None:
    store.transact("a", SHIFT)


def look(store: SQLiteStore) -> None:
    store.load("a", ["r"], due=True)
    store.scan("a")


def close(store: SQLiteStore) -> None:
    store.transact("a", SHIFT)
    store.close()


def task(store: SQLiteStore) -> None:
    anyio.run(store.atransact, "a", SHIFT)


def tasks(store: SQLiteStore) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            for transaction in (SHIFT, BACK, SHIFT):
                group.start_soon(store.atransact, "a", transaction)

    anyio.run(main)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # interrupted before it could be
@pytest.mark.parametrize("durable", [False, True], ids=["quick", "durable"])
@pytest.mark.parametrize(
    ("act", "state"),
    [
        *((act, state) for act in (one, look, close, task) for state in ("open", "new")),
        *((act, state) for act in (one, task) for state in ("known", "full")),
        (tasks, "open"),
    ],
)
def test_an_interrupt_at_any_step_leaves_a_store_that_goes_on(
    act: Callable[[SQLiteStore], None],
    state: str,
    durable: bool,
    folder: Path,
    other: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody reads what an event loop says of those that were interrupted, and to word it takes longer than the rest.
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    # Nothing may have to wait for these: whoever would, fails.
    monkeypatch.setattr(_sqlite_turns, "_TRUST_CALL", 60.0)
    monkeypatch.setattr(_sqlite_turns, "_LAST", 60.0)
    used = folder / "used.db"
    first = SQLiteStore(used, durable=durable)
    first.transact("a", Transaction())
    first.close()
    number = came = 0
    stride = 11 if state == "full" else 1  # most of these steps are rounds of the same loop
    while True:
        path = folder / f"{number}.db"
        if state != "new":
            shutil.copyfile(used, path)
        store = SQLiteStore(path, durable=durable, busy_timeout=2.0)
        if state != "new":
            store.transact("a", Transaction())
            store.load("a")
        if state in {"known", "full"}:  # so it need not look before it changes it
            store.transact("a", SHIFT)
            store.transact("a", BACK)
        if state == "full":  # so the next change puts all before it where it belongs
            room = RING - 1 - (store._books.written.number - store._books.written.folded)
            store.transact("b", Transaction(put={f"r{number}": Put(b"1") for number in range(room + 1)}))
            assert not store._books.written.has_room(store._links.writer().execute, 1)
        interrupt = Interrupt(ours, number)
        try:
            with interrupt:
                act(store)
        except (KeyboardInterrupt, BaseExceptionGroup):
            pass
        if not interrupt.came and number > interrupt.count + 5:
            break
        came += interrupt.came
        see_that_it_goes_on(store, other)
        store.close()
        assert not store._links.can_write
        for left in folder.glob(f"{number}.db*"):
            left.unlink()
        number += stride
    assert came > 20
