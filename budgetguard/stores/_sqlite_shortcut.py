"""The way of a transaction for which nobody has to wait: alone, at once, in one statement.

It is worked out on what this process last saw of the account, and the statement changes nothing if that has changed
since. Whatever is out of the ordinary is left to the line, which looks first and tells what is wrong: others who hold
the file, a row that was changed, a new counter, an error. Nothing was done then.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from budgetguard.ports import Transacted, Transaction
from budgetguard.stores._sqlite_books import Books, Entry, allowed, due_at
from budgetguard.stores._sqlite_clock import Clock
from budgetguard.stores._sqlite_links import Links
from budgetguard.stores._sqlite_step import STEP
from budgetguard.stores._sqlite_turns import Turns

__all__ = ["Shortcut"]

_VERSION = "SELECT version FROM account WHERE id = ?"


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
        entry = self._books.entries.get(account)
        turns = self._turns
        if entry is None or turns.line.tickets:
            return None
        me = object()
        done = None
        try:
            try:
                if turns.lead.take(me) and self._links.writing.take(me):
                    done = self._make(account, entry, transaction)
            finally:
                self._leave(me)
        except BaseException:
            self._leave(me)  # an interrupt may have come before the first
            raise
        if transaction.wake and done is not None and done.applied:
            self._told(account, entry.wakes + 1)
        return done

    def _leave(self, me: object) -> None:
        turns = self._turns
        self._links.writing.free(me)
        turns.lead.free(me)
        if turns.line.tickets:
            turns.call()

    def _make(self, account: str, entry: Entry, transaction: Transaction) -> Transacted | None:
        clock, links, counters, pack = self._clock, self._links, entry.counters, entry.pack
        now = clock.now()
        connection = links.at_hand()
        if connection is None or pack is None or now > clock.near:
            return None
        try:
            if not allowed(counters, transaction, now):
                # So it is on what was last seen; that still holds if the row has the same version.
                ((version,),) = connection.execute(_VERSION, (entry.id,)).fetchall()
                return Transacted(False, counters.copy(), now) if version == entry.version else None  # noqa: FBT003
            after = counters.copy()
            for name, delta in transaction.add.items():
                after[name] = after.get(name, 0) + operator.index(delta)
            for name in transaction.stamp:
                after[name] = now
            gone = was = key = value = due = None
            if transaction.drop:
                ((gone, was),) = transaction.drop.items()
            if transaction.put:
                ((key, put),) = transaction.put.items()
                value, due = put.value, due_at(put, now)
            if len(after) != len(counters):
                return None
            version, wakes = entry.version, entry.wakes + transaction.wake
            before = connection.total_changes
            connection.execute(STEP, (entry.id, version, wakes, pack(*after.values()), gone, was, key, value, due))
        except Exception:  # noqa: BLE001 - the line tells what is wrong, to whom it concerns
            return None
        if connection.total_changes == before:
            return None
        self._books.entries[account] = Entry(entry.id, version + 1, wakes, after, pack)
        links.committed()
        return Transacted(True, after.copy(), now)  # noqa: FBT003
