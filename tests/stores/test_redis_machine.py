"""The same random commands to this store, one by one and together, and to the store in memory: the same answers."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from budgetguard.ports import Put, Transacted, Transaction
from budgetguard.stores.memory import MemoryStore
from budgetguard.stores.redis import RedisStore
from tests.support.valkey import ValkeyServer, valkey_server

__all__ = ["valkey_server"]

NAMES = st.sampled_from(["a", "b", "slots:x y", "@now", "@@", "猫", ""])
TIMES = st.sampled_from(["t", "@t"])
KEYS = st.sampled_from(["r", "s", "t:{x}", "@v", ""])
AMOUNTS = st.one_of(st.integers(-3, 5), st.sampled_from([10**15, -(10**15), 0]))
VALUES = st.sampled_from([b"", b"1", b"\x00\xff", b"two words"])
LEASES = st.sampled_from([None, 0.0, -5.0, 3600.0, 1e9])
PUTS = st.builds(Put, VALUES, LEASES)
ALWAYS, NEVER = 4 * 10**15, -1
SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


class Twins(RuleBasedStateMachine):
    url: ClassVar[str]
    number: ClassVar[int] = 0

    @initialize()
    def begin(self) -> None:
        Twins.number += 1
        self.account = f"account {os.getpid()} {Twins.number}"
        self.ours, self.model = RedisStore(self.url, timeout=30.0), MemoryStore()
        self.address = self.ours._rules.names.of(self.account)
        self.known: dict[str, bytes] = {}

    def teardown(self) -> None:
        if hasattr(self, "ours"):
            self.ours.close()

    def draw(self, data: st.DataObject) -> Transaction:
        view = self.model.load(self.account).counters
        right = {name: view.get(name, 0) for name in data.draw(st.sets(NAMES, max_size=2))}
        drop = {key: self.known.get(key, b"1") for key in data.draw(st.sets(KEYS, max_size=2))}
        if data.draw(st.integers(0, 4)) == 0:
            drop |= data.draw(st.dictionaries(KEYS, VALUES, max_size=1))
        return Transaction(
            add=data.draw(st.dictionaries(NAMES, AMOUNTS, max_size=3)),
            floor=data.draw(st.dictionaries(NAMES, st.integers(-5, 1), max_size=1)),
            expect=data.draw(st.one_of(st.just(right), st.dictionaries(NAMES, AMOUNTS, max_size=1))),
            within=data.draw(st.dictionaries(TIMES, st.sampled_from([ALWAYS, ALWAYS, NEVER]), max_size=1)),
            stamp=tuple(sorted(data.draw(st.sets(TIMES, max_size=2)))),
            put=data.draw(st.dictionaries(KEYS, PUTS, max_size=2)),
            drop=drop,
            wake=data.draw(st.booleans()),
        )

    def compare(self, transaction: Transaction, ours: Transacted, model: Transacted) -> None:
        assert ours.applied == model.applied, transaction
        assert _timeless(ours.counters) == _timeless(model.counters), transaction
        if ours.applied:
            for name in transaction.stamp:
                assert ours.counters[name] == ours.now
            for key in transaction.drop:
                self.known.pop(key, None)
            self.known |= {key: put.value for key, put in transaction.put.items()}

    @rule(data=st.data())
    def transact(self, data: st.DataObject) -> None:
        transaction = self.draw(data)
        self.compare(
            transaction,
            self.ours.transact(self.account, transaction),
            self.model.transact(self.account, transaction),
        )

    @rule(data=st.data(), size=st.integers(2, 5))
    def transact_several_together(self, data: st.DataObject, size: int) -> None:
        """What travels together is as if it came one after the other, and looks see what lies between."""
        wire, lane = self.ours._wire, self.ours._lanes._all[0]
        transactions = [self.draw(data) for _ in range(size)]
        steps = [wire.Transact(self.address, transaction) for transaction in transactions]
        look = wire.Look(self.address, ["r", ""], due=True)
        lane.link.exchange(lane.calls(self.ours._rules, [*steps[:-1], look, steps[-1]]))
        for transaction, step in zip(transactions[:-1], steps, strict=False):
            self.compare(transaction, step.result(), self.model.transact(self.account, transaction))
        theirs = self.model.load(self.account, ["r", ""], due=True)
        assert _timeless(look.result().counters) == _timeless(theirs.counters)
        assert look.result().records == theirs.records
        self.compare(transactions[-1], steps[-1].result(), self.model.transact(self.account, transactions[-1]))

    @rule(keys=st.lists(KEYS, max_size=3), due=st.booleans())
    def load(self, keys: list[str], due: bool) -> None:
        ours, model = self.ours.load(self.account, keys, due=due), self.model.load(self.account, keys, due=due)
        assert _timeless(ours.counters) == _timeless(model.counters)
        assert ours.records == model.records

    @rule()
    def scan(self) -> None:
        assert self.ours.scan(self.account) == self.model.scan(self.account)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), put=PUTS)
    def put_anew(self, data: st.DataObject, put: Put) -> None:
        key = data.draw(st.sampled_from(sorted(self.known)))
        transaction = Transaction(drop={key: self.known[key]}, put={key: put})
        ours = self.ours.transact(self.account, transaction)
        assert ours.applied
        self.compare(transaction, ours, self.model.transact(self.account, transaction))
        self.load([key], due=True)

    @precondition(lambda self: self.known)
    @rule()
    def end_all(self) -> None:
        transaction = Transaction(drop=dict(self.known))
        assert self.ours.transact(self.account, transaction).applied
        assert self.model.transact(self.account, transaction).applied
        self.known.clear()


def _timeless(counters: dict[str, int]) -> dict[str, int | bool]:
    return {name: value > 0 if name.endswith("t") else value for name, value in counters.items()}


@pytest.mark.timeout(120)
def test_the_answers_are_those_of_the_store_in_memory(valkey_server: ValkeyServer) -> None:
    Twins.url = valkey_server.url
    limits = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=SLOW)
    run_state_machine_as_test(Twins, settings=limits)
