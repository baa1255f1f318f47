"""What an admission through a SQLite file costs: alone, with others in the process, with other processes, on a loop."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import stage
from benchmarks.contest import Contest, Measured, Pace
from benchmarks.files import CPU, NAME, Admissions, Bare, Raw, Stopwatch, in_chunks, new_account, open_raw
from benchmarks.peers import peer
from benchmarks.rivals import Holder, Rivals
from benchmarks.table import VALUE, Column, Goal, Table
from budgetguard import Policy
from budgetguard.ports import Transaction
from budgetguard.stores import SQLiteStore

_RAW = "sqlite3: a raw transaction"
_CALLERS = 16
_PROCESSES = 8
_CHUNK = 50
_EXCLUSIVE = Policy(max_age=1e6, max_stale=1e6, stale_if_error=1e6, exclusive=True)


def tables(pace: Pace) -> Iterator[Table]:
    """Measure. All files are made in one folder, on the disk where temporary files go."""
    for measure in (alone, together, rivals, on_a_loop, blocked, handed_over):
        with tempfile.TemporaryDirectory(prefix="budgetguard-bench-", ignore_cleanup_errors=True) as folder:
            yield measure(pace, Path(folder))


def alone(pace: Pace, folder: Path) -> Table:
    """Measure one caller, who waits for nobody."""
    chunks = 4 if pace.fast else 20
    note = (
        f"{chunks * _CHUNK} admissions a round, {_CHUNK} held at most. Raw: BEGIN IMMEDIATE, SELECT, UPDATE, INSERT, "
        "COMMIT; write-ahead log, synchronous NORMAL. Each copies its log into the file as it does: raw within a "
        "commit, ours in a thread."
    )
    contest = Contest("an admission, one caller", _RAW, pace, columns=(CPU,), note=note, brief="one caller")
    goal = (Goal(1 / 0.8, 1 / 0.9),)
    raw, full = Raw(open_raw(folder / "raw.db")), Raw(open_raw(folder / "full.db", full=True))
    contest.run(_RAW, lambda: in_chunks(raw.take, raw.give_back, chunks=chunks, size=_CHUNK), kind="floor")
    bare = Bare(folder / "bare.db")
    contest.run("sqlite3: what the store writes, bare", lambda: _bare(bare, chunks), kind="floor")
    store, durable = new_account(folder / "ours.db"), new_account(folder / "durable.db", durable=True)
    contest.run("budgetguard store.transact()", lambda: _store(store, chunks), kind="ours", goals=goal)
    guard = stage.guard(store=SQLiteStore(folder / "guard.db"))
    contest.run(
        "budgetguard reserve()",
        lambda: in_chunks(lambda: guard.reserve(credits=35), lambda held: held.release(), chunks=chunks, size=_CHUNK),
        kind="ours",
        goals=goal,
    )
    contest.run("budgetguard store.transact(), refused", lambda: _refused(store, chunks * _CHUNK), kind="ours")
    waits = "sqlite3: raw, synchronous FULL"
    few = max(1, chunks // 4)
    contest.run(waits, lambda: in_chunks(full.take, full.give_back, chunks=few, size=_CHUNK), kind="floor")
    contest.run("budgetguard, durable=True", lambda: _store(durable, few), kind="ours", beside=waits)
    for locked in (True, False):
        name = f"PyrateLimiter SQLiteBucket{', with its file lock' if locked else ''}"
        bucket = _Pyrate(folder / f"pyrate-{locked}.db", locked=locked)
        contest.run(name, bucket.micros, prepare=bucket.open)
    return contest.table()


def _store(store: SQLiteStore, chunks: int) -> Measured:
    admissions, watch = Admissions(), Stopwatch()
    for _ in range(chunks):
        pairs = admissions.make(_CHUNK)  # just before, as a guard does, so that they are in the cache
        with watch:
            for take, _ in pairs:
                if not store.transact(NAME, take).applied:
                    raise RuntimeError
        for _, end in pairs:
            store.transact(NAME, end)
    return watch.per(chunks * _CHUNK)


def _bare(bare: Bare, chunks: int) -> Measured:
    watch = Stopwatch()
    for _ in range(chunks):
        with watch:
            for _ in range(_CHUNK):
                bare.take()
        bare.clear()
    return watch.per(chunks * _CHUNK)


def _refused(store: SQLiteStore, times: int) -> Measured:
    want = Transaction(add={"slots": -(10**13)}, floor={"slots": 0})
    watch = Stopwatch()
    with watch:
        for _ in range(times):
            if store.transact(NAME, want).applied:
                raise RuntimeError
    return watch.per(times)


class _Pyrate:
    def __init__(self, path: Path, *, locked: bool) -> None:
        self._path = path
        self._locked = locked
        self._limiter: Any = None

    def open(self) -> None:
        module = peer("pyrate_limiter")
        rates = [module.Rate(10**9, 1000)]
        bucket = module.SQLiteBucket.init_from_file(rates, db_path=str(self._path), use_file_lock=self._locked)
        self._limiter = module.Limiter(bucket)
        self.micros()

    def micros(self, times: int = 60) -> Measured:
        watch = Stopwatch()
        with watch:
            for _ in range(times):
                self._limiter.try_acquire("a")
        return watch.per(times)


# -- many in one process ----------------------------------------------------------------------------------------------


def together(pace: Pace, folder: Path) -> Table:
    """Measure many callers of one process at once."""
    each = 20 if pace.fast else 60
    note = f"{_CALLERS} callers admit {each} calls each, one right after the other. Time per admission."
    title = f"an admission, {_CALLERS} callers in one process"
    contest = Contest(title, _RAW, pace, columns=(CPU,), note=note, brief="16 callers")
    raw = Raw(open_raw(folder / "raw.db"))
    contest.run(
        _RAW,
        lambda: in_chunks(raw.take, raw.give_back, chunks=_CALLERS * each // _CHUNK, size=_CHUNK),
        kind="floor",
    )
    batch = Raw(open_raw(folder / "batch.db"))
    contest.run(f"sqlite3: {_CALLERS} in one commit, nobody to tell", lambda: _batches(batch, each), kind="floor")
    bare = Bare(folder / "bare.db")
    name = f"sqlite3: what the store writes for {_CALLERS} tasks, bare"
    contest.run(name, lambda: _bare_tasks(bare, each), kind="floor")
    goal = (Goal(1 / 3, 1 / 4),)
    store = new_account(folder / "ours.db")
    contest.run("budgetguard atransact(), 16 tasks", lambda: _tasks(store, each), kind="ours", goals=goal)
    contest.run("budgetguard transact(), 16 threads", lambda: _threads(store, each), kind="ours", goals=goal)
    contest.run("budgetguard async reserve(), 16 tasks", lambda: _guarded(folder / "guard.db", each), kind="ours")
    return contest.table()


def _batches(raw: Raw, each: int) -> Measured:
    watch = Stopwatch()
    with watch:
        found = [raw.together(_CALLERS) for _ in range(each)]
    for names in found:
        for name in names:
            raw.give_back(name)
    return watch.per(_CALLERS * each)


async def _crowd(call: Callable[[int], Coroutine[Any, Any, None]], each: int) -> Measured:
    watch = Stopwatch()
    with watch:
        async with asyncio.TaskGroup() as group:
            for number in range(_CALLERS):
                group.create_task(call(number))
    return watch.per(_CALLERS * each)


async def _bare_tasks(bare: Bare, each: int) -> Measured:
    """The least that tasks could cost: each awaits a future, which one callback a turn of the loop sets for all."""
    loop, waiting = asyncio.get_running_loop(), list[asyncio.Future[None]]()

    def commit() -> None:
        told = waiting.copy()
        waiting.clear()
        bare.together(len(told))
        for future in told:
            future.set_result(None)

    async def call(_: int) -> None:
        for _turn in range(each):
            if not waiting:
                loop.call_soon(commit)
            future = loop.create_future()
            waiting.append(future)
            await future

    measured = await _crowd(call, each)
    bare.clear()
    return measured


async def _tasks(store: SQLiteStore, each: int) -> Measured:
    made = [Admissions().make(each) for _ in range(_CALLERS)]

    async def call(number: int) -> None:
        for take, _ in made[number]:
            if not (await store.atransact(NAME, take)).applied:
                raise RuntimeError

    measured = await _crowd(call, each)
    for pairs in made:
        for _, end in pairs:
            await store.atransact(NAME, end)
    return measured


def _threads(store: SQLiteStore, each: int) -> Measured:
    made = [Admissions().make(each) for _ in range(_CALLERS)]
    gate = threading.Barrier(_CALLERS + 1)

    def call(number: int) -> None:
        gate.wait()
        for take, _ in made[number]:
            if not store.transact(NAME, take).applied:
                raise RuntimeError

    with ThreadPoolExecutor(_CALLERS) as pool:
        waiting = [pool.submit(call, number) for number in range(_CALLERS)]
        watch = Stopwatch()
        with watch:
            gate.wait()
            for one in waiting:
                one.result()
    for pairs in made:
        for _, end in pairs:
            store.transact(NAME, end)
    return watch.per(_CALLERS * each)


async def _guarded(path: Path, each: int) -> Measured:
    store = SQLiteStore(path)
    guard = await stage.async_guard(store=store)
    held: list[Any] = []

    async def call(_: int) -> None:
        for _turn in range(each):
            held.append(await guard.reserve(credits=35))  # noqa: PERF401 - each waits for the one before

    measured = await _crowd(call, each)
    for permit in held:
        await permit.release()
    await guard.close()
    store.close()
    return measured


# -- many processes ---------------------------------------------------------------------------------------------------


def rivals(pace: Pace, folder: Path) -> Table:
    """Measure processes that all go at full load on one file."""
    seconds = 0.6 if pace.fast else 1.0
    columns = (Column("smallest / largest share"), Column("worst wait", "ms", "max"))
    note = f"{seconds:g} s a round. Time per transaction: all processes' transactions over that time."
    reference = "sqlite3: raw, waiting as SQLite does"
    contest = Contest(
        f"{_PROCESSES} processes at full load",
        reference,
        pace,
        columns=columns,
        rounds=pace.runs,
        note=note,
        brief="8 processes",
    )
    goals = (
        Goal(1 / 0.65, 1 / 0.8),
        Goal(0.4, 0.6, of=columns[0].name, sign=">="),
        Goal(150, 80, of=columns[1].name),
    )
    open_raw(folder / "raw.db").close()
    new_account(folder / "ours.db").close()
    stage.guard(store=SQLiteStore(folder / "guard.db")).close()
    with ExitStack() as stack:
        ways = {
            reference: stack.enter_context(Rivals("raw", folder / "raw.db", _PROCESSES)),
            "budgetguard transact()": stack.enter_context(Rivals("store", folder / "ours.db", _PROCESSES)),
            "budgetguard reserve(), release()": stack.enter_context(Rivals("guard", folder / "guard.db", _PROCESSES)),
        }
        for name, way in ways.items():
            mine = name != reference
            per = 2 if "release" in name else 1
            contest.run(
                name,
                lambda way=way, per=per: _full_load(way, seconds, columns, per),  # type: ignore[misc]
                kind="ours" if mine else "floor",
                goals=goals if mine and per == 1 else (),
            )
        return contest.table()


def _full_load(way: Rivals, seconds: float, columns: tuple[Column, Column], per: int) -> Measured:
    efforts = way.go(seconds)
    counts = [effort.count for effort in efforts]
    return Measured(
        seconds / (sum(counts) * per) * 1e6,
        {
            columns[0].name: min(counts) / max(counts),
            columns[1].name: max(effort.worst for effort in efforts) * 1e3,
        },
    )


# -- on an event loop -------------------------------------------------------------------------------------------------


def on_a_loop(pace: Pace, folder: Path) -> Table:
    """Measure one caller on asyncio."""
    chunks = 4 if pace.fast else 20
    reference = "sqlite3: raw, on the loop itself"
    title = "an admission from asyncio, nobody else about"
    contest = Contest(title, reference, pace, columns=(CPU,), brief="asyncio")
    raw = Raw(open_raw(folder / "raw.db"))
    threads = ThreadPoolExecutor(1)
    goals = (Goal(1.6, 1.3),)

    async def inline() -> str:
        return raw.take()

    async def hop() -> str:
        return await asyncio.get_running_loop().run_in_executor(threads, raw.take)

    async def give_back(name: str) -> None:
        raw.give_back(name)

    contest.run(reference, lambda: _awaited(inline, give_back, chunks), kind="floor")
    store = new_account(folder / "ours.db")
    contest.run("budgetguard atransact()", lambda: _awaited_store(store, chunks), kind="ours", goals=goals)
    contest.run(
        "budgetguard async reserve()", lambda: _awaited_guard(folder / "guard.db", chunks), kind="ours", goals=goals
    )
    contest.run("sqlite3: raw, in a thread kept for it", lambda: _awaited(hop, give_back, 1), kind="floor")
    contest.run("sqlite3: raw, asyncio.to_thread", lambda: _awaited(lambda: asyncio.to_thread(raw.take), give_back, 1))
    contest.run("aiosqlite: raw", lambda: _aiosqlite(folder / "aiosqlite.db"))
    contest.run("hishel AsyncSqliteStorage: a look", lambda: _hishel(folder / "hishel.db"))
    try:
        return contest.table()
    finally:
        threads.shutdown()


async def _awaited(begin: Callable[[], Awaitable[Any]], end: Callable[[Any], Awaitable[Any]], chunks: int) -> Measured:
    watch = Stopwatch()
    for _ in range(chunks):
        with watch:
            held = [await begin() for _ in range(_CHUNK)]
        for each in held:
            await end(each)
    return watch.per(chunks * _CHUNK)


async def _awaited_store(store: SQLiteStore, chunks: int) -> Measured:
    admissions, watch = Admissions(), Stopwatch()
    for _ in range(chunks):
        pairs = admissions.make(_CHUNK)
        with watch:
            for take, _ in pairs:
                await store.atransact(NAME, take)
        for _, end in pairs:
            await store.atransact(NAME, end)
    return watch.per(chunks * _CHUNK)


async def _awaited_guard(path: Path, chunks: int) -> Measured:
    store = SQLiteStore(path)
    guard = await stage.async_guard(store=store)
    measured = await _awaited(lambda: _held(guard), lambda permit: permit.release(), chunks)
    await guard.close()
    store.close()
    return measured


async def _held(guard: Any) -> Any:
    return await guard.reserve(credits=35)


async def _aiosqlite(path: Path) -> Measured:
    module = peer("aiosqlite")
    open_raw(path).close()
    connection = await module.connect(path, isolation_level=None)
    await connection.execute("PRAGMA synchronous = NORMAL")

    async def take() -> None:
        execute = connection.execute
        await execute("BEGIN IMMEDIATE")
        found = await execute("SELECT lim, reserved, spent, inflight, maxin FROM account WHERE key = ?", ("a",))
        await found.fetchone()
        await execute("UPDATE account SET reserved = reserved + 35, inflight = inflight + 1 WHERE key = ?", ("a",))
        await execute("INSERT INTO hold VALUES (hex(randomblob(8)), 'a', 35, 0.0, 0)")
        await execute("COMMIT")

    async def keep(_: Any) -> None:
        return

    try:
        return await _awaited(take, keep, 1)
    finally:
        await connection.close()


async def _hishel(path: Path) -> Measured:
    storage = peer("hishel").AsyncSqliteStorage(database_path=path)

    async def keep(_: Any) -> None:
        return

    try:
        await storage.get_entries("a")
        return await _awaited(lambda: storage.get_entries("a"), keep, 1)
    finally:
        await storage.close()


def blocked(pace: Pace, folder: Path) -> Table:
    """Measure how long a loop stands still while another process is at the file without a pause."""
    seconds = 0.4 if pace.fast else 1.0
    columns = (Column("admissions a second"),)
    note = (
        "The longest time the loop spent in one go, worst of a round. Another process is at full load on the same file."
    )
    reference = "a loop that has nothing to do"
    contest = Contest(
        "a loop stands still", reference, pace, unit="ms", rounds=pace.runs, columns=columns, note=note, brief="blocked"
    )
    new_account(folder / "ours.db").close()
    with Rivals("store", folder / "ours.db", 1) as rival:
        store = SQLiteStore(folder / "ours.db", busy_timeout=30.0)
        contest.run(reference, lambda: _stands_still(rival, None, seconds, columns[0]), kind="floor")
        contest.run(
            "budgetguard atransact(), 4 tasks",
            lambda: _stands_still(rival, store, seconds, columns[0]),
            kind="ours",
            goals=(Goal(2, 1, of=VALUE),),
        )
        return contest.table()


async def _stands_still(rival: Rivals, store: SQLiteStore | None, seconds: float, column: Column) -> Measured:
    admissions = Admissions()
    count, worst = 0, 0.0
    rival.begin(seconds)
    end = time.monotonic() + 0.05 + seconds

    async def admit() -> None:
        nonlocal count
        while time.monotonic() < end:
            for take, _ in admissions.make(8):
                if store is not None:
                    await store.atransact(NAME, take)
                    count += 1
                await asyncio.sleep(0.0005)

    async def watch() -> None:
        nonlocal worst
        before = time.perf_counter()
        while time.monotonic() < end:
            await asyncio.sleep(0)
            now = time.perf_counter()
            worst = max(worst, now - before)
            before = now

    await asyncio.gather(watch(), *(admit() for _ in range(4)))
    await asyncio.to_thread(rival.efforts)
    return Measured(worst * 1e3, {column.name: count / seconds})


# -- between processes ------------------------------------------------------------------------------------------------


def handed_over(pace: Pace, folder: Path) -> Table:
    """Measure how long a slot that one process lets go takes to reach one that waits in another."""
    times = 8 if pace.fast else 25
    columns = (Column("longest", "ms", "max"),)
    note = (
        "From before release() in one process until reserve() returns in another, which waited for the only slot for "
        f"50 to 500 ms. The median of {times} a round."
    )
    reference = "multiprocessing: a pipe"
    contest = Contest(
        "hand over a freed slot between processes",
        reference,
        pace,
        unit="ms",
        rounds=1 if pace.fast else 3,
        columns=columns,
        note=note,
        brief="hand-over",
    )
    path = folder / "ours.db"
    holder = Holder(path)
    guard = stage.guard(stage.wallet(limit=1), store=SQLiteStore(path), policy=_EXCLUSIVE)
    waits = random.Random(pace.seed)

    def hand_over() -> Measured:
        late = []
        for _ in range(times):
            holder.take(waits.uniform(0.05, 0.5))
            permit = guard.reserve(credits=1)
            now = time.monotonic()
            late.append((now - holder.released()) * 1e3)
            permit.release()
        return Measured(statistics.median(late), {columns[0].name: max(late)})

    contest.run(reference, lambda: _pipe(holder, times, columns[0]), kind="floor")
    contest.run("budgetguard reserve(), waiting", hand_over, kind="ours", goals=(Goal(5, of=VALUE),))
    try:
        return contest.table()
    finally:
        holder.close()
        guard.close()


def _pipe(holder: Holder, times: int, column: Column) -> Measured:
    late = []
    for _ in range(times):
        holder.take(0.02)
        released = holder.released()
        late.append((time.monotonic() - released) * 1e3)
    return Measured(statistics.median(late), {column.name: max(late)})
