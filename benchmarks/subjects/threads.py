"""What an admission costs when eight threads want one at the same time, on one account."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from benchmarks import stage
from benchmarks.contest import Contest, Pace
from benchmarks.table import Goal, Table
from benchmarks.yardsticks import Ledger

_MANY = 8
_WARM_UP = 200


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    one, many = "yardstick R, 1 thread", f"yardstick R, {_MANY} threads"
    mine = "budgetguard, 1 thread"
    note = "Time per operation: all threads' operations over the time from the first start to the last end."
    contest = Contest("reserve and settle, one thread and eight", one, pace, note=note)
    yardstick, guarded = Crowd(_yardstick, pace), Crowd(_guarded, pace)
    contest.run(one, lambda: yardstick.micros(1), kind="yardstick", prepare=yardstick.calibrate)
    contest.run(many, lambda: yardstick.micros(_MANY), kind="yardstick", beside=one, prepare=yardstick.calibrate)
    contest.run(mine, lambda: guarded.micros(1), kind="ours", prepare=guarded.calibrate)
    contest.run(
        f"budgetguard, {_MANY} threads",
        lambda: guarded.micros(_MANY),
        kind="ours",
        beside=mine,
        goals=(Goal(1.3, 1.1),),
        prepare=guarded.calibrate,
    )
    yield contest.table()


def _yardstick() -> Callable[[int], None]:
    ledger = Ledger()
    reserve, settle = ledger.reserve, ledger.settle

    def work(times: int) -> None:
        for _ in range(times):
            settle(reserve("a", 35), 30)

    return work


def _guarded() -> Callable[[int], None]:
    reserve = stage.guard().reserve

    def work(times: int) -> None:
        for _ in range(times):
            permit = reserve(credits=35)
            permit.settle(charge=30)

    return work


class Crowd:
    """Threads that do the same work at the same time."""

    def __init__(self, make: Callable[[], Callable[[int], None]], pace: Pace) -> None:
        self._make = make
        self._seconds = pace.sample * 4
        self._work: Callable[[int], None] | None = None
        self._times = 0

    def calibrate(self) -> None:
        """Find how many operations take the time of a sample; threads are not worth starting for less."""
        if self._work is not None:
            return
        self._work = self._make()
        self._work(_WARM_UP)
        begin = time.perf_counter()
        self._work(_WARM_UP)
        each = (time.perf_counter() - begin) / _WARM_UP
        self._times = max(_MANY, int(self._seconds / each) // _MANY * _MANY)

    def micros(self, threads: int) -> float:
        """Share the operations out over so many threads, and give the microseconds each took."""
        if self._work is None:
            raise RuntimeError("calibrate first")
        gate = threading.Barrier(threads + 1)
        work, times = self._work, self._times // threads

        def run() -> None:
            gate.wait()
            work(times)

        crowd = [threading.Thread(target=run) for _ in range(threads)]
        for each in crowd:
            each.start()
        begin = time.perf_counter()
        gate.wait()
        for each in crowd:
            each.join()
        return (time.perf_counter() - begin) / (times * threads) * 1e6
