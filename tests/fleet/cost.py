"""What each transaction costs each store, with few and with many calls held: ``python -m tests.fleet.cost``.

Round trips are what the guard asks of the store, one after the other. For SQLite, statements are those it executes, and
bytes are their text with all values; for Valkey, both are the server's own figures. Exits with 1 if the cost grows
with what is held.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.admission import admit
from budgetguard._core.records import Record, Stage
from budgetguard._core.refreshing import look_again
from budgetguard._core.settlement import finish, renew, settle
from budgetguard._core.steps import Fetched
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard.events import Event
from budgetguard.model import Capacity, Outcome, Quote, Reading, TaskSeen, TaskState, Verdict
from budgetguard.policy import Policy
from budgetguard.ports import Loaded, Put, Scanned, Store, Transacted, Transaction
from budgetguard.stores import MemoryStore, RedisStore, SQLiteStore
from tests.fleet.ground import SQLiteGround, ValkeyGround

__all__ = ["OPERATIONS", "SLACK_BYTES", "Cost", "grows", "measure"]

SLACK_BYTES = 40
"""Bytes by which the digits of the figures themselves may differ."""

_CREDITS = 5 * 10**9
_LEASE = 3600.0
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Cost:
    """What one operation cost.

    Attributes:
        trips: Transactions and looks, one after the other.
        work: Statements or commands they took.
        sent, received: Bytes to the store and back.
    """

    trips: int
    work: int = 0
    sent: int = 0
    received: int = 0


class Counted:
    """A store that counts what is asked of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.trips = 0

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        self.trips += 1
        return self._store.transact(account, transaction)

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        self.trips += 1
        return self._store.load(account, records, due=due)

    def scan(self, account: str, cursor: str = "") -> Scanned:
        self.trips += 1
        return self._store.scan(account, cursor)

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self._store.watch(account, changed)

    def close(self) -> None:
        self._store.close()


class Meter(ABC):
    """A store, and what it says of its work."""

    store: Store

    @abstractmethod
    def read(self) -> tuple[int, int, int]:
        """Read how much work was done, and the bytes sent and received, since the beginning."""

    def reading(self) -> tuple[int, int, int]:
        """Say what reading the meter itself costs."""
        return 0, 0, 0


class MemoryMeter(Meter):
    def __init__(self) -> None:
        self.store = MemoryStore()

    def read(self) -> tuple[int, int, int]:
        return 0, 0, 0


class SQLiteMeter(Meter):
    def __init__(self, url: str) -> None:
        self.store = store = SQLiteStore.from_url(url)
        self._statements = self._bytes = 0
        store.transact("another", Transaction(add={"x": 1}))
        store.load("another")
        for connection in (store._links.writer(), store._links.reader()):
            self._trace(connection)

    def _trace(self, connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(self._traced)

    def _traced(self, statement: str) -> None:
        self._statements += 1
        self._bytes += len(statement.encode())

    def read(self) -> tuple[int, int, int]:
        return self._statements, self._bytes, 0


class ValkeyMeter(Meter):
    def __init__(self, ground: ValkeyGround) -> None:
        self._client = ground.server.client
        self.store = RedisStore(ground.url)

    def read(self) -> tuple[int, int, int]:
        stats: dict[str, Any] = self._client.info("stats")
        commands: dict[str, Any] = self._client.info("commandstats")
        calls = commands.get("cmdstat_evalsha", {"calls": 0})["calls"]
        return calls, stats["total_net_input_bytes"], stats["total_net_output_bytes"]

    def reading(self) -> tuple[int, int, int]:
        before, after = self.read(), self.read()
        return after[0] - before[0], after[1] - before[1], after[2] - before[2]


class Bench:
    """One account on one store, with so many calls held."""

    def __init__(self, meter: Meter, held: int) -> None:
        self._meter = meter
        self._counted = Counted(meter.store)
        self._driver = BlockingDriver(self._counted, self._ignore)
        terms = Policy(
            max_age=1e6, max_stale=1e6, stale_if_error=1e6, min_interval=0.0, recheck_after=0.0, lease=_LEASE
        )
        self._account = Account(f"vidu:{held:06}", terms, listening=False)
        self._calls = 0
        self.ask()
        for first in range(0, held, _BATCH):
            self._hold(range(first, min(first + _BATCH, held)))
        self.ask()

    def _hold(self, numbers: range) -> None:
        """Reserve for many calls at once what each would reserve by itself."""
        records = [Record(f"held-{number:06}", Stage.RESERVED, 35, 1) for number in numbers]
        pool = self._account.books.pool("")
        transaction = Transaction(
            add={c.CREDITS: -35 * len(records), pool.slots: -len(records), pool.open: len(records)},
            put={record.key: Put(record.dumps(), _LEASE) for record in records},
        )
        assert self._counted.transact(self._account.name, transaction).applied

    def _ignore(self, event: Event) -> None:
        """Nobody listens."""

    def hold(self) -> Hold:
        self._calls += 1
        return Hold(f"call-{self._calls:06}", Quote(35))

    def admit(self) -> Hold:
        hold = self.hold()
        self._driver.run(self._account, admit(self._account, hold))
        return hold

    def accept(self, hold: Hold) -> str:
        task = f"task-{self._calls:06}"
        self._driver.run(self._account, settle(self._account, hold, Verdict(Outcome.ACCEPTED, 35, task)))
        return task

    def reject(self, hold: Hold) -> None:
        self._driver.run(self._account, settle(self._account, hold, Verdict(Outcome.REJECTED)))

    def renew(self, hold: Hold) -> None:
        assert self._driver.run(self._account, renew(self._account, hold))

    def end(self, task: str) -> None:
        assert self._driver.run(self._account, finish(self._account, TaskSeen(task, TaskState.SUCCEEDED)))

    def ask(self) -> None:
        """Get a new reading."""
        reading = Reading(_CREDITS, {"": Capacity(10**6, 0)})
        since = self._account.view[c.READ_AT] + 1
        self._driver.run(
            self._account,
            look_again(self._account, self.hold(), since),
            fetch=lambda: Fetched(reading, ""),
        )

    @contextmanager
    def cost(self, into: dict[str, Cost], name: str) -> Generator[None]:
        """Measure what is done inside."""
        meter, counted = self._meter, self._counted
        own = meter.reading()
        trips, before = counted.trips, meter.read()
        yield
        after = meter.read()
        work, sent, received = (after[i] - before[i] - own[i] for i in range(3))
        into[name] = Cost(counted.trips - trips, work, sent, received)


OPERATIONS = ("admit", "renew its lease", "accept", "end its task", "give back", "new reading")


def measure(meter: Meter, held: int) -> dict[str, Cost]:
    """Measure every operation with so many calls held."""
    bench = Bench(meter, held)
    for _ in range(3):  # what is done for the first time, such as loading the script, is not the cost of the operation
        bench.end(bench.accept(bench.admit()))
    found: dict[str, Cost] = {}
    with bench.cost(found, "admit"):
        hold = bench.admit()
    with bench.cost(found, "renew its lease"):
        bench.renew(hold)
    with bench.cost(found, "accept"):
        task = bench.accept(hold)
    with bench.cost(found, "end its task"):
        bench.end(task)
    hold = bench.admit()
    with bench.cost(found, "give back"):
        bench.reject(hold)
    with bench.cost(found, "new reading"):
        bench.ask()
    return found


def grows(few: Mapping[str, Cost], many: Mapping[str, Cost]) -> list[str]:
    """Name the operations whose cost depends on how much is held."""
    return [
        name
        for name in few
        if few[name].trips != many[name].trips
        or few[name].work != many[name].work
        or abs(few[name].sent - many[name].sent) > SLACK_BYTES
        or abs(few[name].received - many[name].received) > SLACK_BYTES
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.cost", description=__doc__)
    parser.add_argument("--few", type=int, default=10, metavar="N", help="calls held (%(default)s)")
    parser.add_argument("--many", type=int, default=10_000, metavar="N", help="and how many then (%(default)s)")
    options = parser.parse_args(arguments)
    with SQLiteGround() as file, ValkeyGround() as server:
        meters: dict[str, Meter] = {
            "memory": MemoryMeter(),
            "SQLite": SQLiteMeter(file.url),
            "Valkey": ValkeyMeter(server),
        }
        grown = [name for name, meter in meters.items() if _show(name, meter, options.few, options.many)]
        for meter in meters.values():
            meter.store.close()
    return 1 if grown else 0


def _show(name: str, meter: Meter, few: int, many: int) -> list[str]:
    costs = {held: measure(meter, held) for held in (few, many)}
    units = {"memory": "", "SQLite": ", statements", "Valkey": ", commands"}[name]
    sys.stdout.write(f"\n{name}: round trips{units}, bytes sent, bytes received\n")
    sys.stdout.write(f"  {'held':<18}{few:>24}{many:>24}\n")
    for operation in OPERATIONS:
        row = "".join(f"{_told(costs[held][operation]):>24}" for held in (few, many))
        sys.stdout.write(f"  {operation:<18}{row}\n")
    grown = grows(costs[few], costs[many])
    sys.stdout.write(f"  {'GROWS: ' + ', '.join(grown) if grown else 'does not grow'}\n")
    return grown


def _told(cost: Cost) -> str:
    return f"{cost.trips:>4}{cost.work:>4}{cost.sent:>7}{cost.received:>7}"


if __name__ == "__main__":
    sys.exit(main())
