"""What a process remembers of one account while its store cannot be reached, and what it did on it meanwhile.

Pure: no clock, no I/O, no lock. Whoever uses a copy holds the lock that guards it, and tells it the time.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence

from budgetguard.ports import Loaded, Put, Transacted, Transaction

__all__ = ["Copy", "Held"]

_MICROS = 1_000_000

Version = tuple[dict[str, int], dict[str, Put]]


class Held:
    """What hangs together: some records, and what all transactions that led to them added.

    Attributes:
        add: That sum.
        put: The records. None are left of what was taken and given back, both on the copy.
        sent: What the store was asked for and may have done, oldest first.
        moving: Whether the store is being asked, so that nothing may change.
        twice: Whether it may be inside the counters last heard of, and was counted on top of them all the same.
    """

    __slots__ = ("add", "moving", "put", "sent", "twice")

    def __init__(self) -> None:
        self.add: dict[str, int] = {}
        self.put: dict[str, Put] = {}
        self.sent: list[Version] = []
        self.moving = self.twice = False

    def bring(self, serial: str) -> Generator[Transaction, Transacted, Transacted]:
        """Ask for what makes the store hold this, whatever it did of what it was asked before; gives its answer."""
        add, put, before = self.add.copy(), self.put.copy(), list(self.sent)
        if put:
            if (add, put) not in before:
                self.sent.append((add, put))
            done = yield Transaction(add=add.copy(), put=put)
            if done.applied:
                return done
        for old_add, old_put in reversed(before):
            if (old_add, old_put) == (add, put):
                continue
            rest = _sum(add, old_add, -1)
            drop = {key: record.value for key, record in old_put.items()}
            done = yield Transaction(add=rest, drop=drop, put=put, wake=True)
            if done.applied:
                return done
        # It holds it already, or somebody has ended it since, or it was taken and given back without it: all it has to
        # hear of is the serial.
        return (yield Transaction(add={serial: add.get(serial, 1) if not put or not before else 0}))


class Copy:
    """One account, as last seen, with what was done since.

    Args:
        serial: The counter that every transaction adds to.
    """

    __slots__ = (
        "_base",
        "_base_now",
        "_counters",
        "_heard",
        "_keys",
        "_numbers",
        "_rest",
        "_serial",
        "at",
        "brought",
        "holds",
        "since",
        "told",
        "turn",
    )

    def __init__(self, serial: str) -> None:
        self._serial = serial
        self._base: dict[str, int] = {}
        """The counters as last heard of."""
        self._base_now = 0
        self._counters: dict[str, int] = {}
        """The same, with what was done since."""
        self._keys: dict[str, Held] = {}
        self._rest = 0
        """Steps of the serial that were told here, of what was taken and given back."""
        self._numbers = self._heard = 0
        self.at: float | None = None
        """When the store last answered, by the process's own clock."""
        self.holds: list[Held] = []
        self.since: float | None = None
        """When the copy was first used, while it is."""
        self.brought = 0
        self.told = 0
        """The latest time told."""
        self.turn = threading.Lock()
        """Held by who brings to the store what was done here."""

    @property
    def pending(self) -> bool:
        """Whether the store has yet to hear of something."""
        return bool(self.holds or self._rest)

    # -- hearing ----------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """Number a question to the store when it is sent."""
        self._numbers += 1
        return self._numbers

    def hear(self, number: int, counters: Mapping[str, int], now: int, at: float) -> None:
        """Remember an answer, if it is the latest. What was sent after the last answer came is later in any case."""
        if number > self._heard or self._is_later(counters, now):
            self._know(counters, now, at)

    def _is_later(self, counters: Mapping[str, int], now: int) -> bool:
        return (counters.get(self._serial, 0), now) >= (self._base.get(self._serial, 0), self._base_now)

    def _know(self, counters: Mapping[str, int], now: int, at: float) -> None:
        self._heard = self._numbers
        self._base, self._base_now, self.at = dict(counters), now, at
        self._counters = self._base.copy()
        for held in self.holds:
            held.twice = held.twice or held.moving or bool(held.sent)
            _add(self._counters, held.add)
        if self._rest:
            _add(self._counters, {self._serial: self._rest})

    # -- answering --------------------------------------------------------------------------------------------------

    def now(self, at: float) -> int:
        """Tell the store's time, as it must be by now."""
        passed = 0.0 if self.at is None else max(0.0, at - self.at)
        self.told = max(self.told, self._base_now + int(passed * _MICROS))
        return self.told

    def look(self, records: Sequence[str], at: float) -> Loaded | None:
        """Answer a look; ``None`` if only the store can."""
        if not all(key in self._keys for key in records):
            return None
        return Loaded(self._counters.copy(), {key: self._keys[key].put[key].value for key in records}, self.now(at))

    def decide(self, transaction: Transaction, at: float, *, new: bool, full: bool, sent: bool) -> Transacted | None:
        """Apply a transaction here, or refuse it; ``None`` if only the store can decide.

        Only what adds records, and what changes records added here, is decided here.

        Args:
            transaction: What is asked.
            at: The time, by the process's own clock.
            new: Whether records may be written.
            full: Whether there is no room for another hold.
            sent: Whether the store was asked before, and may have applied it.
        """
        held = self._held(transaction)
        if held is None or (transaction.put and not new) or (full and not transaction.drop):
            return None
        now = self.now(at)
        if not self._allowed(transaction, held, now):
            return Transacted(applied=False, counters=self._counters.copy(), now=now)
        add = _sum(held.add, transaction.add)
        empty = not transaction.put and held.put.keys() == transaction.drop.keys()
        if empty and any(amount for name, amount in add.items() if name != self._serial):
            return None
        _add(self._counters, transaction.add)
        held.add = add
        for key in transaction.drop:
            del held.put[key], self._keys[key]
        for key, record in transaction.put.items():
            held.put[key] = record
            self._keys[key] = held
        if not transaction.drop:
            self.holds.append(held)
            if sent:
                held.sent.append((add.copy(), held.put.copy()))
                held.twice = True
        if empty and not held.sent:
            self.holds.remove(held)
            self._rest += add.get(self._serial, 0)
        return Transacted(applied=True, counters=self._counters.copy(), now=now)

    def _held(self, transaction: Transaction) -> Held | None:
        """Find what a transaction changes, something new perhaps; ``None`` if it is not for this copy to decide."""
        if self.at is None or transaction.expect or transaction.stamp:
            return None
        if not transaction.drop:
            return Held() if transaction.put else None
        found = [self._keys.get(key) for key in transaction.drop]
        held = found[0]
        return None if held is None or held.moving or any(other is not held for other in found) else held

    def _allowed(self, transaction: Transaction, held: Held, now: int) -> bool:
        counters, add = self._counters, transaction.add
        for name, age in transaction.within.items():
            at = counters.get(name, 0)
            if at == 0 or now - at > age:
                return False
        if any(counters.get(name, 0) + add.get(name, 0) < least for name, least in transaction.floor.items()):
            return False
        if any(held.put[key].value != value for key, value in transaction.drop.items()):
            return False
        return all(key not in self._keys or key in transaction.drop for key in transaction.put)

    # -- bringing ---------------------------------------------------------------------------------------------------

    def begin(self) -> Held | None:
        """Take the next thing to bring to the store; ``None`` if nothing is left."""
        if self._rest:
            held = Held()
            held.add, self._rest = {self._serial: self._rest}, 0
            self.holds.insert(0, held)
        if not self.holds:
            return None
        self.holds[0].moving = True
        return self.holds[0]

    def end(self, held: Held, done: Transacted | None, at: float) -> None:
        """Note that the store has it now, and its answer; without one, it may have it."""
        held.moving = False
        if done is None:
            return
        self.holds.remove(held)
        for key in held.put:
            del self._keys[key]
        if held.twice:
            # Looks are put in order by the serial, so the store's must not stay behind what was told here.
            self._rest += held.add.get(self._serial, 0)
        self.brought += bool(held.put)
        if self._is_later(done.counters, done.now):
            self._know(done.counters, done.now, at)
        else:
            self._know(self._base, self._base_now, at)  # an answer that overtook this one has it inside already


def _add(counters: dict[str, int], amounts: Mapping[str, int]) -> None:
    for name, amount in amounts.items():
        counters[name] = counters.get(name, 0) + amount


def _sum(one: Mapping[str, int], other: Mapping[str, int], sign: int = 1) -> dict[str, int]:
    total = dict(one)
    _add(total, {name: sign * amount for name, amount in other.items()})
    return total
