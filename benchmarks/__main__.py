"""Prints what an admission and a guarded request cost, as ratios: ``python -m benchmarks``.

Each subject is measured in rounds, interleaved with its yardstick, and the median of the rounds' ratios is printed.
Absolute times are there for orientation only; they move with the machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from budgetguard import Guard, Policy
from budgetguard._core.account import Account, Hold
from budgetguard._core.admission import admit
from budgetguard._core.settlement import settle
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard.events import Event
from budgetguard.model import Capacity, Outcome, Quote, Reading, TaskSeen, TaskState, Verdict
from budgetguard.providers import Vidu
from budgetguard.stores import MemoryStore

KEY = "benchmark"
BODY = {"model": "viduq2", "prompt": "a kite over the sea", "duration": 5, "resolution": "720p"}


class LockAndDict:
    """The least that could be called a reservation: a sum under a lock, and what to give back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free = 10**15
        self.held: dict[int, int] = {}
        self.number = itertools.count().__next__

    def once(self) -> None:
        with self.lock:
            if self.free < 35:
                raise RuntimeError
            self.free -= 35
            name = self.number()
            self.held[name] = 35
        with self.lock:
            self.free += self.held.pop(name)


class Admission:
    """Reserve and release through the flows, on the memory store, with *held* other calls under way."""

    def __init__(self, held: int) -> None:
        self.driver = BlockingDriver(MemoryStore(), self.ignore)
        self.account = Account("vidu:a", Policy(max_age=1e6, max_stale=1e6, stale_if_error=1e6), listening=False)
        self.numbers = itertools.count()
        self.reading()
        for _ in range(held):
            self.admit()

    def reading(self) -> None:
        books, run = self.account.books, self.driver.run
        view = run(self.account, self.account.load())
        transaction, claim = books.claim(view, 10)
        run(self.account, self.account.transact(transaction))
        whole = Reading(10**14, {"": Capacity(10**9, 0)})
        run(self.account, self.account.transact(books.install(self.account.view, claim, whole)))

    def ignore(self, event: Event) -> None:
        """Nobody listens."""

    def admit(self) -> Hold:
        hold = Hold(f"b-{next(self.numbers):x}", Quote(35))
        self.driver.run(self.account, admit(self.account, hold))
        return hold

    def once(self) -> None:
        hold = self.admit()
        self.driver.run(self.account, settle(self.account, hold, Verdict(Outcome.REJECTED)))


class Requests:
    """One paid request through an httpx client that answers by itself."""

    def __init__(self, *, guarded: bool) -> None:
        self.numbers = itertools.count()
        inner = httpx.MockTransport(self.answer)
        self.guard = Guard(Vidu(), policy=Policy(max_age=1e6, max_stale=1e6, stale_if_error=1e6))
        self.client = httpx.Client(
            base_url="https://api.vidu.com",
            headers={"Authorization": f"Token {KEY}"},
            transport=self.guard.transport(inner) if guarded else inner,
        )
        self.guarded = guarded

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            row = {"type": "metered", "credit_remain": 10**14, "concurrency_limit": 10**9, "current_concurrency": 0}
            return httpx.Response(200, json={"remains": [{**row, "queue_count": 0}]})
        return httpx.Response(200, json={"task_id": f"t{next(self.numbers)}", "state": "created", "credits": 35})

    def once(self) -> None:
        task = self.client.post("/ent/v2/text2video", json=BODY).json()["task_id"]
        if self.guarded:
            self.guard.finished(task, state=TaskSeen(task, TaskState.SUCCEEDED).state)


@dataclass
class Row:
    """One subject beside its yardstick."""

    name: str
    beside: str
    ratios: list[float]
    micros: float

    def line(self) -> str:
        low, middle, high = min(self.ratios), statistics.median(self.ratios), max(self.ratios)
        return f"{self.name:<46} {middle:6.2f} x  ({low:.2f} to {high:.2f})  {self.micros:8.2f} us   {self.beside}"


def seconds(work: Callable[[], None], times: int) -> float:
    """Time *times* runs of *work*, in seconds."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - start


def compare(
    name: str, work: Callable[[], None], beside: str, floor: Callable[[], None], times: int, rounds: int
) -> Row:
    """Measure *work* and its yardstick in turns."""
    seconds(work, times // 10 + 1)
    seconds(floor, times // 10 + 1)
    pairs = [(seconds(work, times), seconds(floor, times)) for _ in range(rounds)]
    micros = statistics.median(mine for mine, _ in pairs) / times * 1e6
    return Row(name, beside, [mine / other for mine, other in pairs], micros)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What the guard costs.")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each pair (9)")
    rounds = parser.parse_args().rounds
    few, many = Admission(10), Admission(10_000)
    floor, bare, guarded = LockAndDict(), Requests(guarded=False), Requests(guarded=True)
    rows = [
        compare("reserve and release, 10 held", few.once, "lock and dict", floor.once, 5_000, rounds),
        compare("reserve and release, 10,000 held", many.once, "the same with 10 held", few.once, 5_000, rounds),
        compare("guarded request, finished", guarded.once, "the same client bare", bare.once, 500, rounds),
    ]
    print(f"{'subject':<46} {'ratio':>8}  {'(range)':<15} {'one':>9}     beside")
    for row in rows:
        print(row.line())


if __name__ == "__main__":
    main()
