"""What budgetguard is divided by: the least code that could be called a reservation, and the least that is of use.

Neither is a design. The first is what a lock and a dictionary cost; the second also bounds concurrency, and gives every
hold a record with an end, as a ledger that wants to be believed must.
"""

from __future__ import annotations

import itertools
import threading
import time
from types import TracebackType
from typing import Self

__all__ = ["Floor", "Ledger", "Record"]


class Floor:
    """Credits under a lock, and what is held by whom."""

    __slots__ = ("_free", "_held", "_lock", "_next")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = {"a": 10**15}
        self._held: dict[int, tuple[str, int]] = {}
        self._next = itertools.count(1).__next__

    def reserve(self, account: str, credits: int) -> int:
        """Hold credits, and name the hold."""
        with self._lock:
            free = self._free[account]
            if credits > free:
                raise RuntimeError(account)
            self._free[account] = free - credits
            name = self._next()
            self._held[name] = (account, credits)
        return name

    def settle(self, name: int, charge: int) -> None:
        """End a hold at what it did cost."""
        with self._lock:
            account, credits = self._held.pop(name)
            self._free[account] += credits - charge


class Record:
    """A hold of the yardstick, which can be entered as a block too."""

    __slots__ = ("account", "credits", "ends", "ledger", "made", "name", "open")

    def __init__(self, ledger: Ledger, name: int, account: str, credits: int, made: float, ends: float) -> None:
        self.ledger = ledger
        self.name = name
        self.account = account
        self.credits = credits
        self.made = made
        self.ends = ends
        self.open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.open:
            self.ledger.settle(self, self.credits)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.open:
            self.ledger.settle(self, self.credits)


class _Account:
    __slots__ = ("held", "limit", "most", "running", "spent")

    def __init__(self) -> None:
        self.limit = 10**15
        self.spent = self.held = 0
        self.most = 10**9
        self.running = 0


class Ledger:
    """The yardstick R: credits, concurrency and an end for every hold, under one lock."""

    __slots__ = ("_accounts", "_lease", "_lock", "_next", "_records")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts = {"a": _Account()}
        self._records: dict[int, Record] = {}
        self._next = itertools.count(1).__next__
        self._lease = 60.0

    def reserve(self, account: str, credits: int) -> Record:
        """Hold credits and a slot, until settled or the lease ends."""
        now = time.monotonic()
        with self._lock:
            found = self._accounts[account]
            if found.running >= found.most or found.spent + found.held + credits > found.limit:
                raise RuntimeError(account)
            found.held += credits
            found.running += 1
            name = self._next()
            record = self._records[name] = Record(self, name, account, credits, now, now + self._lease)
        return record

    def settle(self, record: Record, charge: int) -> None:
        """End a hold at what it did cost."""
        with self._lock:
            if self._records.pop(record.name, None) is None:
                raise RuntimeError(record.name)
            found = self._accounts[record.account]
            found.held -= record.credits
            found.spent += charge
            found.running -= 1
            record.open = False
