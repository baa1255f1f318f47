"""Leases of calls under way are renewed from a thread."""

from __future__ import annotations

import threading

import pytest

from budgetguard._core.account import Account, Hold
from budgetguard._core.records import Record, Stage
from budgetguard._core.settlement import settle
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard._drivers.heartbeat import Heartbeat
from budgetguard.errors import StoreError
from budgetguard.events import Event
from budgetguard.model import Outcome, Quote, Verdict
from budgetguard.policy import Policy
from budgetguard.ports import Transacted, Transaction
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing.clock import ManualClock


class Bench:
    def __init__(self, lease: float = 30.0) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock.monotonic)
        self.driver = BlockingDriver(self.store, self.ignore)
        self.account = Account("vidu:a", Policy(lease=lease))
        self.hold = Hold("r1", Quote(35))
        self.hold.record = Record("r1", Stage.RESERVED, 35, 1)
        self.hold.sent = True
        self.store.transact("vidu:a", self.account.books.take(self.hold.record, within=None, forced=True))
        self.heartbeat = Heartbeat(self.driver, lease)

    def ignore(self, event: Event) -> None:
        """Nobody listens."""

    def due(self) -> list[str]:
        return list(self.store.load("vidu:a", due=True).records)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_call_that_is_watched_does_not_fall_due(bench: Bench) -> None:
    bench.heartbeat._calls[bench.hold] = bench.account
    for _ in range(5):
        bench.clock.advance(20)
        bench.heartbeat.beat()
    assert bench.due() == []


def test_a_call_that_is_not_watched_falls_due(bench: Bench) -> None:
    bench.clock.advance(31)
    bench.heartbeat.beat()
    assert bench.due() == ["r:r1"]


def test_a_call_that_ended_is_not_renewed_into_being_again(bench: Bench) -> None:
    bench.heartbeat._calls[bench.hold] = bench.account
    record = bench.hold.record
    bench.driver.run(bench.account, settle(bench.account, bench.hold, Verdict(Outcome.REJECTED)))
    bench.hold.record = record
    bench.heartbeat.beat()
    assert bench.store.load("vidu:a", ["r:r1"]).records == {}


def test_a_store_that_fails_once_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.heartbeat._calls[bench.hold] = bench.account
    whole = bench.store.transact
    failures = iter([True, False])

    def flaky(account: str, transaction: Transaction) -> Transacted:
        if next(failures):
            raise StoreError("gone")
        return whole(account, transaction)

    monkeypatch.setattr(bench.store, "transact", flaky)
    bench.clock.advance(20)
    bench.heartbeat.beat()
    bench.heartbeat.beat()
    bench.clock.advance(20)
    assert bench.due() == []


def test_the_thread_is_there_only_while_there_are_calls() -> None:
    bench = Bench(lease=0.003)
    before = set(threading.enumerate())
    bench.heartbeat.watch(bench.account, bench.hold)
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    bench.heartbeat.forget(bench.hold)
    thread.join(5)
    assert not thread.is_alive()
