"""Processes that all want the same file at the same time, and one that passes a slot on to another."""

from __future__ import annotations

import multiprocessing as mp
import multiprocessing.process
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks import stage
from benchmarks.files import NAME, Admissions, Raw, open_raw
from budgetguard import Policy
from budgetguard.stores import SQLiteStore

__all__ = ["Effort", "Holder", "Rivals"]

_PATIENCE = 60.0
_LIFETIME = 900.0
"""Seconds after which a worker ends by itself, whatever became of who started it."""
_POLICY = Policy(max_age=1e6, max_stale=1e6, stale_if_error=1e6, exclusive=True)


@dataclass(frozen=True, slots=True)
class Effort:
    """What one process did in its time: how many transactions, and the longest one, in seconds."""

    count: int
    worst: float


class Rivals:
    """Worker processes that go at full load when told to, all on one file. Ended when the block is left."""

    def __init__(self, way: str, path: Path, many: int) -> None:
        self._way = way
        self._path = path
        self._many = many
        self._workers: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []

    def __enter__(self) -> Self:
        context = mp.get_context("spawn")
        try:
            for _ in range(self._many):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(self._way, self._path, theirs), daemon=True)
                process.start()
                theirs.close()
                self._workers.append((process, ours))
            for _, pipe in self._workers:
                _receive(pipe)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def begin(self, seconds: float) -> None:
        """Let all begin, a moment from now."""
        for _, pipe in self._workers:
            pipe.send((time.monotonic() + 0.05, seconds))

    def efforts(self) -> list[Effort]:
        """Wait until all are done."""
        return [Effort(*_receive(pipe)) for _, pipe in self._workers]

    def go(self, seconds: float) -> list[Effort]:
        """Let all go for so long."""
        self.begin(seconds)
        return self.efforts()

    def _end(self) -> None:
        for process, pipe in self._workers:
            with suppress(OSError):
                pipe.send(None)
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()
        self._workers.clear()


def _work(way: str, path: Path, pipe: Connection) -> None:
    step = _WAYS[way](path)
    step()
    pipe.send("ready")
    give_up = time.monotonic() + _LIFETIME
    while pipe.poll(max(0.0, give_up - time.monotonic())):
        told = pipe.recv()
        if told is None:
            return
        start, seconds = told
        while time.monotonic() < start:
            time.sleep(0.001)
        pipe.send(_effort(step, start + seconds))


def _effort(step: Callable[[], None], end: float) -> tuple[int, float]:
    count, worst, clock = 0, 0.0, time.monotonic
    now = clock()
    while now < end:
        step()
        before, now = now, clock()
        worst = max(worst, now - before)
        count += 1
    return count, worst


def _raw(path: Path) -> Callable[[], None]:
    raw = Raw(open_raw(path))

    def step() -> None:
        raw.take()

    return step


def _store(path: Path) -> Callable[[], None]:
    store, admissions = SQLiteStore(path, busy_timeout=30.0), Admissions()
    made = iter(admissions.make(0))

    def step() -> None:
        nonlocal made
        found = next(made, None)
        if found is None:
            made = iter(admissions.make(64))
            found = next(made)
        if not store.transact(NAME, found[0]).applied:
            raise RuntimeError

    return step


def _guard(path: Path) -> Callable[[], None]:
    reserve = stage.guard(store=SQLiteStore(path, busy_timeout=30.0)).reserve

    def step() -> None:
        reserve(credits=35).release()

    return step


_WAYS: dict[str, Callable[[Path], Callable[[], None]]] = {"raw": _raw, "store": _store, "guard": _guard}


class Holder:
    """Another process, which holds the only slot for a while and lets it go."""

    def __init__(self, path: Path) -> None:
        context = mp.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_hold, args=(path, theirs), daemon=True)
        self._process.start()
        theirs.close()
        _receive(self._pipe)

    def take(self, seconds: float) -> None:
        """Let it take the slot now, and let it go that much later."""
        self._pipe.send(seconds)
        _receive(self._pipe)

    def released(self) -> float:
        """Say when it let it go, on the clock of this machine."""
        return float(_receive(self._pipe))

    def close(self) -> None:
        """End it."""
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


def _hold(path: Path, pipe: Connection) -> None:
    guard = stage.guard(stage.wallet(limit=1), store=SQLiteStore(path), policy=_POLICY)
    pipe.send("ready")
    while pipe.poll(_LIFETIME):
        seconds = pipe.recv()
        if seconds is None:
            return
        permit = guard.reserve(credits=1)
        pipe.send("held")
        time.sleep(seconds)
        released = time.monotonic()
        permit.release()
        pipe.send(released)


def _receive(pipe: Connection) -> Any:
    if not pipe.poll(_PATIENCE):
        raise TimeoutError("a worker gave no answer")
    return pipe.recv()
