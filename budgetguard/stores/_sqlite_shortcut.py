"""The way of a transaction for which nobody has to wait: alone, at once, in one statement.

It is worked out on what this process last saw of the file, and the statement changes nothing if that has changed
since. Whatever is out of the ordinary is left to the line, which looks first and tells what is wrong: others who hold
the file, a row that was changed, a new counter, an error. Nothing was done then.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from budgetguard.ports import Transacted, Transaction
from budgetguard.stores._sqlite_books import Books, allowed
from budgetguard.stores._sqlite_changes import due_at
from budgetguard.stores._sqlite_clock import Clock
from budgetguard.stores._sqlite_links import Links
from budgetguard.stores._sqlite_recent import Recent
from budgetguard.stores._sqlite_ring import RING, STEP
from budgetguard.stores._sqlite_turns import Turns

__all__ = ["Shortcut"]


class Shortcut:
    """Makes transactions alone and at once. Safe to share between threads and event loops.

    Args:
        told: Called with an account and its number of wake-ups, after they were committed.
    """

    def __init__(
        self, links: Links, books: Books, clock: Clock, turns: Turns, told: Callable[[str, int], None]
    ) -> None:
        self._links = links
        self._books = books
        self._clock = clock
        self._turns = turns
        self._told = told

    def take(self, account: str, transaction: Transaction) -> Transacted | None:
        """Make it, if nobody is before it; ``None``, with nothing done, where it must join the line."""
        turns = self._turns
        if turns.line.tickets:
            return None
        me = object()
        done = None
        try:
            try:
                if turns.lead.take(me) and self._links.writing.take(me):
                    done = self._make(account, transaction)
            finally:
                self._leave(me)
        except BaseException:
            self._leave(me)  # an interrupt may have come before the first
            raise
        if done is None:
            return None
        transacted, wakes = done
        if wakes:
            self._told(account, wakes)
        return transacted

    def _leave(self, me: object) -> None:
        turns = self._turns
        self._links.writing.free(me)
        turns.lead.free(me)
        if turns.line.tickets:
            turns.call()

    def _make(self, account: str, transaction: Transaction) -> tuple[Transacted, int] | None:
        """Make it, and say to which number of wake-ups it brought the account, if it wakes anybody."""
        clock, links, recent = self._clock, self._links, self._books.written
        entry = recent.entries.get(account)
        if entry is None or entry.stale or entry.pack is None:
            return None
        now, connection, counters = clock.now(), links.at_hand(), entry.counters
        number = recent.number + 1
        if connection is None or now > clock.near or number - RING > recent.folded:
            return None
        try:
            if not allowed(counters, transaction, now):
                # So it is on what was last seen; that still holds if nothing was changed since.
                is_so = recent.is_latest(connection.execute)
                return (Transacted(False, counters.copy(), now), 0) if is_so else None  # noqa: FBT003
            after = counters.copy()
            for name, delta in transaction.add.items():
                after[name] = after.get(name, 0) + operator.index(delta)
            for name in transaction.stamp:
                after[name] = now
            *record, absent, present, was = _records(recent, entry.id, transaction, now)
            if len(after) != len(counters):
                return None
            wakes = entry.wakes + transaction.wake
            row = (entry.id, wakes, entry.pack(*after.values()), *record)
            before = connection.total_changes
            connection.execute(STEP, (number % RING, number, *row, absent, present, was))
        except Exception:  # noqa: BLE001 - the line tells what is wrong, to whom it concerns
            return None
        if connection.total_changes == before:
            return None
        recent.note_one(entry, number, after, wakes, row)
        links.committed()
        return Transacted(True, after.copy(), now), wakes if transaction.wake else 0  # noqa: FBT003


def _records(recent: Recent, id: int, transaction: Transaction, now: int) -> tuple[Any, ...]:
    """Say what a change does to records, and what must be looked for among those that the ring does not mention.

    Raises:
        ValueError: If it is not to be, or more than one goes or comes.
    """
    gone = key = value = due = absent = present = was = None
    if transaction.drop:
        ((gone, was),) = transaction.drop.items()
        told = recent.records.get((id, gone))
        if told is None:
            present = gone
        elif told[1] != was:
            raise ValueError(gone)
    if transaction.put:
        ((key, put),) = transaction.put.items()
        value, due = put.value, due_at(put, now)
        if key != gone:
            told = recent.records.get((id, key))
            if told is None:
                absent = key
            elif told[1] is not None:
                raise ValueError(key)
    return gone, key, value, due, absent, present, was
