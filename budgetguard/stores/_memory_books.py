"""What the memory store keeps of one account."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable

from budgetguard._core.till import Till
from budgetguard.ports import Put, Transaction
from budgetguard.stores._calling import call

__all__ = ["MemoryBooks", "due_at"]

_DUE_MAX = 100
_PAGE = 100
_SPREAD = 1_000_000
"""Leases are found by the second in which they end, so that keeping one costs the same whatever is held."""


class MemoryBooks:
    """Counters, records by their leases, who watches, and the till. Whoever changes any of it holds the lock.

    An interrupt may come in the middle of any function here. What is begun is then done once more, from the start.
    """

    __slots__ = ("counters", "ends", "lock", "records", "till", "watchers")

    def __init__(self, now: Callable[[], int]) -> None:
        self.lock = threading.Lock()
        self.counters: dict[str, int] = {}
        self.records: dict[str, tuple[bytes, int | None]] = {}
        self.till = Till(self.counters, self.lock, now, self.records)
        self.ends: dict[int, set[str]] = {}
        """Records by the second in which their lease ends."""
        self.watchers: tuple[Callable[[], None], ...] = ()

    def allows(self, transaction: Transaction, now: int) -> bool:
        """Tell whether a transaction may happen."""
        counters = self.counters
        for name, value in transaction.expect.items():
            if counters.get(name, 0) != value:
                return False
        for name, age in transaction.within.items():
            at = counters.get(name, 0)
            if at == 0 or now - at > age:
                return False
        add = transaction.add
        for name, minimum in transaction.floor.items():
            if counters.get(name, 0) + add.get(name, 0) < minimum:
                return False
        for key, text in transaction.drop.items():
            if self.look(key) != text:
                return False
        return all(self.look(key) is None or key in transaction.drop for key in transaction.put)

    def look(self, key: str) -> bytes | None:
        """Read a record."""
        record = self.records.get(key)
        if record is not None:
            return record[0]
        return self.till.look(key) if self.till.shelves else None

    def change(
        self, values: dict[str, int], drop: Iterable[str], puts: Iterable[tuple[str, bytes, int | None]]
    ) -> None:
        """Set counters, forget records and keep others. Doing it twice is the same as once."""
        self.counters.update(values)
        for key in drop:
            self.drop(key)
        for key, value, due in puts:
            self.put(key, value, due)

    def put(self, key: str, value: bytes, due: int | None) -> None:
        """Keep a record."""
        self.records[key] = (value, due)
        if due is not None:
            self.ends.setdefault(due // _SPREAD, set()).add(key)

    def drop(self, key: str) -> None:
        """Forget a record."""
        record = self.records.pop(key, None)
        if record is None:
            self.till.drop(key)
        elif record[1] is not None:
            self.ends.get(record[1] // _SPREAD, set()).discard(key)

    def due(self, now: int) -> list[str]:
        """List records whose lease has ended, a hundred at most."""
        found = self.till.due(now)
        for second in sorted(second for second in self.ends if second <= now // _SPREAD):
            if len(found) >= _DUE_MAX:
                break
            keys = self.ends[second]
            for key in list(keys):
                _, due = self.records.get(key, (b"", None))
                if due is None or due // _SPREAD != second:
                    keys.discard(key)  # an interrupt left it
                elif due <= now:
                    found.append(key)
            if not keys:
                del self.ends[second]
        return found[:_DUE_MAX]

    def page(self, cursor: str) -> tuple[dict[str, bytes], str]:
        """List the records after a cursor, a hundred at most, and where to go on."""
        # A cursor is the last name given, behind a sign, as a name may be empty.
        rest = (key for key in itertools.chain(self.records, self.till.keys()) if not cursor or key > cursor[1:])
        page = heapq.nsmallest(_PAGE + 1, rest)
        more = f">{page[_PAGE - 1]}" if len(page) > _PAGE else ""
        return {key: text for key in page[:_PAGE] if (text := self.look(key)) is not None}, more

    @property
    def held(self) -> int:
        """How many records there are, those not written down too."""
        return len(self.records) + self.till.held

    def wake(self) -> None:
        """Call everybody who watches. Not under the lock."""
        call(self.watchers)

    def watched_by(self, watchers: tuple[Callable[[], None], ...]) -> None:
        """Note who watches."""
        self.watchers = watchers
        self.till.shared = len(watchers) > 1


def due_at(put: Put, now: int) -> int | None:
    """Tell when a record falls due.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(put.value, bytes):
        raise TypeError(f"a record is bytes, not {type(put.value).__name__}")
    return None if put.lease is None else now + int(put.lease * 1_000_000)
