"""A tiny language for the ledger: one row one event, and what is free, held and in doubt afterwards.

::

    read 100, 0 of 4 run            100    4     0    0
    reserve a for 30                 70    3    30    0

The numbers are free credits, free slots, credits held on top of the reading, and slots in doubt. The events:

    read C, R of L run              mark, ask and install in one; "? of L" where the provider does not say what runs
    mark                            make a mark; the reading is under way
    install C, R of L run           install the reading under way
    reserve X for N [slack S] [slots K] [in POOL]
    X cannot have N [...]           the same, refused; nothing changes
    X waits for N [...]             credits without slots
    X takes its slot, X finds no slot
    accept X [at N]
    release X
    X is seen running
    X ends [failed] [at N]          its end was seen
    the lease of X ends
    S seconds pass
    nobody trusts the reading
"""

from __future__ import annotations

import re
from typing import Any

from budgetguard._core import counters as c
from budgetguard._core.counters import View, micros
from budgetguard._core.ledger import Books
from budgetguard._core.readings import Claim
from budgetguard._core.records import Record, Stage
from budgetguard.model import Capacity, Reading
from budgetguard.ports import Transacted, Transaction
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import ManualClock

__all__ = ["ACCOUNT", "Story", "play"]

ACCOUNT = "p:a"
_ROW = re.compile(r"^(?P<event>.*?)\s+(?P<numbers>-?\d+\s+-?\d+\s+-?\d+\s+-?\d+)$")
_CALL = r"for (?P<n>\d+)(?: slack (?P<slack>\d+))?(?: slots (?P<slots>\d+))?(?: in (?P<pool>\w+))?"
_EVENTS = {
    name: re.compile(f"^{pattern}$")
    for name, pattern in {
        "read": r"read (?P<n>\d+), (?P<running>\d+|\?) of (?P<limit>\d+|\?) run(?: in (?P<pool>\w+))?",
        "mark": r"mark",
        "install": r"install (?P<n>\d+), (?P<running>\d+|\?) of (?P<limit>\d+|\?) run(?: in (?P<pool>\w+))?",
        "reserve": rf"reserve (?P<who>\w+) {_CALL}",
        "refuse": r"(?P<who>\w+) cannot have (?P<n>\d+)(?: slots (?P<slots>\d+))?(?: in (?P<pool>\w+))?",
        "wait": rf"(?P<who>\w+) waits {_CALL}",
        "take_slot": r"(?P<who>\w+) takes its slot",
        "no_slot": r"(?P<who>\w+) finds no slot",
        "accept": r"accept (?P<who>\w+)(?: at (?P<n>\d+))?",
        "release": r"release (?P<who>\w+)",
        "seen": r"(?P<who>\w+) is seen running",
        "end": r"(?P<who>\w+) ends(?P<failed> failed)?(?: at (?P<n>\d+))?",
        "expire": r"the lease of (?P<who>\w+) ends",
        "pass_": r"(?P<n>\d+) seconds pass",
        "distrust": r"nobody trusts the reading",
    }.items()
}


class Story:
    """One account's books on a store, and what is done to them."""

    def __init__(self, **terms: Any) -> None:
        self.clock = ManualClock(1000.0)
        self.store = MemoryStore(self.clock)
        self.books = Books(**terms)
        self.records: dict[str, Record] = {}
        self.taken: dict[str, int] = {}
        """The mark that was installed when a call got its slot."""
        self.marks: dict[str, int] = {}
        self.claim: Claim | None = None
        self.pool = ""
        self.transactions: list[Transaction] = []

    @property
    def view(self) -> View:
        loaded = self.store.load(ACCOUNT)
        return View(loaded.counters, loaded.now)

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        view, pool = self.view, self.books.pool(self.pool)
        return view[c.CREDITS], view[pool.slots], view.held, view.doubt(pool)

    def play(self, table: str) -> None:
        for line in table.strip().splitlines():
            row = _ROW.match(line.strip())
            assert row is not None, f"not a row: {line!r}"
            self.tell(row["event"])
            expected = tuple(int(number) for number in row["numbers"].split())
            assert self.numbers == expected, f"after {row['event']!r}: {self.numbers} and not {expected}"

    def tell(self, event: str) -> None:
        for name, pattern in _EVENTS.items():
            match = pattern.match(event)
            if match is not None:
                getattr(self, f"_{name}")(match.groupdict())
                return
        raise AssertionError(f"no such event: {event!r}")

    def transact(self, transaction: Transaction) -> Transacted:
        self.transactions.append(transaction)
        return self.store.transact(ACCOUNT, transaction)

    def do(self, transaction: Transaction) -> None:
        assert self.transact(transaction).applied, transaction

    # -- the events -------------------------------------------------------------------------------------------------

    def _read(self, said: dict[str, str]) -> None:
        self._mark(said)
        self._install(said)

    def _mark(self, _said: dict[str, str]) -> None:
        transaction, claim = self.books.claim(self.view, 12.0)
        done = self.transact(transaction)
        assert done.applied
        self.claim = Claim(claim.until, claim.mark, done.now)

    def _install(self, said: dict[str, str]) -> None:
        assert self.claim is not None
        limit = None if said["limit"] == "?" else int(said["limit"])
        running = None if said["running"] == "?" else int(said["running"])
        reading = Reading(int(said["n"]), {said["pool"] or "": Capacity(limit, running)})
        assert self.books.supersedes(self.view, self.claim)
        self.do(self.books.install(self.view, self.claim, reading))

    def _record(self, said: dict[str, str], stage: Stage) -> Record:
        slots, slack = said.get("slots"), said.get("slack")
        return Record(
            said["who"],
            stage,
            int(said["n"]),
            1 if slots is None else int(slots),
            said["pool"] or "",
            0 if slack is None else int(slack),
            task_lease=3600.0,
        )

    def _reserve(self, said: dict[str, str], stage: Stage = Stage.RESERVED) -> None:
        record = self.records[said["who"]] = self._record(said, stage)
        self.do(self.books.take(record, within=micros(10)))
        self.taken[said["who"]] = self.view[c.MARK]

    def _wait(self, said: dict[str, str]) -> None:
        self._reserve(said, Stage.WAITING)

    def _refuse(self, said: dict[str, str]) -> None:
        before = self.view.counters
        record = self._record(said, Stage.RESERVED)
        assert not self.transact(self.books.take(record, within=micros(10))).applied
        assert self.view.counters == before

    def _take_slot(self, said: dict[str, str]) -> None:
        record = self.records[said["who"]]
        self.do(self.books.take_slots(record, within=micros(10)))
        self.records[said["who"]] = record.moved(Stage.RESERVED)
        self.taken[said["who"]] = self.view[c.MARK]

    def _no_slot(self, said: dict[str, str]) -> None:
        assert not self.transact(self.books.take_slots(self.records[said["who"]], within=micros(10))).applied

    def _accept(self, said: dict[str, str]) -> None:
        who = said["who"]
        record = self.records[who]
        charge = record.credits if said["n"] is None else int(said["n"])
        view = self.view
        read_since = view[c.MARK] != self.taken[who]
        transaction, after = self.books.accept(view, record, charge, f"task {who}", read_since=read_since)
        self.do(transaction)
        self.records[who] = after

    def _release(self, said: dict[str, str]) -> None:
        self.do(self.books.release(self.records.pop(said["who"])))

    def _seen(self, said: dict[str, str]) -> None:
        self.marks[said["who"]] = self.view[c.MARK]

    def _end(self, said: dict[str, str]) -> None:
        who = said["who"]
        charge = None if said["n"] is None else int(said["n"])
        seen = self.marks.get(who)
        record = self.records.pop(who)
        self.do(self.books.finish(self.view, record, seen_under=seen, failed=bool(said["failed"]), charge=charge))

    def _expire(self, said: dict[str, str]) -> None:
        record = self.records[said["who"]]
        transaction = self.books.expire(self.view, record)
        self.do(transaction)
        for put in transaction.put.values():
            # The call itself may still hear of its acceptance, late, with the record it knew.
            self.records[f"lost_{said['who']}"] = Record.loads(put.value)

    def _pass_(self, said: dict[str, str]) -> None:
        self.clock.advance(int(said["n"]))

    def _distrust(self, _said: dict[str, str]) -> None:
        self.do(self.books.distrust(self.view))


def play(table: str, **terms: Any) -> Story:
    """Play a table on books of these terms."""
    story = Story(**terms)
    story.play(table)
    return story
