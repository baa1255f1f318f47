"""The same commands, given to the store in memory and to the one in a file, are answered alike."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from budgetguard.ports import Put, Transaction
from budgetguard.stores import MemoryStore
from budgetguard.stores._sqlite_ring import RING
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing import ManualClock

ACCOUNTS = st.sampled_from(["a", "b"])
COUNTERS = st.sampled_from(["x", "y", "z"])
RECORDS = st.sampled_from(["p", "q", "r"])
VALUES = st.sampled_from([b"", b"1", b"22"])
LEASES = st.sampled_from([None, 0.0, 1.0, 2.5])
AMOUNTS = st.integers(-3, 3) | st.sampled_from([10**15, -(10**20)])
PUTS = st.dictionaries(RECORDS, st.builds(Put, VALUES, LEASES), max_size=2)

MANY = st.sampled_from([3, RING // 2, RING + 2])

TRANSACTIONS = st.builds(
    Transaction,
    add=st.dictionaries(COUNTERS, AMOUNTS, max_size=2),
    floor=st.dictionaries(COUNTERS, st.integers(-3, 1), max_size=1),
    expect=st.dictionaries(COUNTERS, st.integers(-1, 1), max_size=1),
    within=st.dictionaries(COUNTERS, st.sampled_from([0, 10**6, 10**9]), max_size=1),
    stamp=st.just(()) | st.tuples(COUNTERS),
    put=PUTS,
    drop=st.dictionaries(RECORDS, VALUES, max_size=2),
    wake=st.booleans(),
)


class SameAsMemory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1000.0)
        self.memory = MemoryStore(self.clock)
        self.folder = Path(tempfile.mkdtemp())
        self.files = [self.open(), self.open()]
        self.known: dict[tuple[str, str], bytes] = {}

    def open(self) -> SQLiteStore:
        return SQLiteStore(self.folder / "accounts.db", clock=self.clock)

    @rule(account=ACCOUNTS, transaction=TRANSACTIONS, who=st.integers(0, 1))
    def transact(self, account: str, transaction: Transaction, who: int) -> None:
        done = self.memory.transact(account, transaction)
        assert self.files[who].transact(account, transaction) == done
        if done.applied:
            for key in transaction.drop:
                self.known.pop((account, key), None)
            self.known |= {(account, key): put.value for key, put in transaction.put.items()}

    @rule(
        account=ACCOUNTS,
        put=st.dictionaries(RECORDS, st.builds(Put, VALUES, LEASES), max_size=2),
        who=st.integers(0, 1),
    )
    def overwrite(self, account: str, put: dict[str, Put], who: int) -> None:
        drop = {key: value for (of, key), value in self.known.items() if of == account and key in put}
        self.transact(account=account, transaction=Transaction(put=put, drop=drop), who=who)

    @rule(account=ACCOUNTS, times=st.sampled_from([1, 60, RING - 1, RING + 1]), who=st.integers(0, 1))
    def go_on(self, account: str, times: int, who: int) -> None:
        for _ in range(times):
            self.transact(account=account, transaction=Transaction(add={"x": 1, "y": -1}), who=who)

    @rule(
        account=ACCOUNTS, first=st.integers(0, 2), size=st.sampled_from([3, RING // 2, RING + 2]), who=st.integers(0, 1)
    )
    def put_many(self, account: str, first: int, size: int, who: int) -> None:
        put = {f"s{number:03}": Put(b"1") for number in range(first, first + size)}
        self.transact(account=account, transaction=Transaction(put=put), who=who)

    @rule(account=ACCOUNTS, first=st.integers(0, 2), size=MANY, who=st.integers(0, 1))
    def drop_many(self, account: str, first: int, size: int, who: int) -> None:
        drop = {f"s{number:03}": b"1" for number in range(first, first + size)}
        self.transact(account=account, transaction=Transaction(drop=drop), who=who)

    @rule(account=ACCOUNTS, records=st.lists(RECORDS, max_size=3), due=st.booleans(), who=st.integers(0, 1))
    def load(self, account: str, records: list[str], due: bool, who: int) -> None:
        assert self.files[who].load(account, records, due=due) == self.memory.load(account, records, due=due)

    @rule(account=ACCOUNTS, cursor=st.sampled_from(["", ">", ">o", ">p", ">z"]), who=st.integers(0, 1))
    def scan(self, account: str, cursor: str, who: int) -> None:
        assert self.files[who].scan(account, cursor) == self.memory.scan(account, cursor)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(who=st.integers(0, 1))
    def reopen(self, who: int) -> None:
        self.files[who].close()
        self.files[who] = self.open()

    @invariant()
    def both_hold_the_same(self) -> None:
        for account in ("a", "b"):
            assert self.files[0].load(account, ["p", "q", "r"], due=True) == self.memory.load(
                account, ["p", "q", "r"], due=True
            )

    def teardown(self) -> None:
        for file in self.files:
            file.close()
        shutil.rmtree(self.folder)


TestSameAsMemory = SameAsMemory.TestCase
TestSameAsMemory.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
