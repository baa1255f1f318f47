"""Several transactions in one commit, which must not fail each other."""

from __future__ import annotations

import collections
import sqlite3
from collections.abc import Callable

from budgetguard.errors import StoreError
from budgetguard.stores._sqlite_books import Books, Changes
from budgetguard.stores._sqlite_file import File, is_busy
from budgetguard.stores._sqlite_links import Links
from budgetguard.stores._sqlite_turns import Ticket

__all__ = ["Batch", "Writer"]

_TOGETHER_MAX = 64
"""How many transactions travel in one commit."""


class Writer:
    """Makes batches out of a line. For one thread at a time; whoever leads the line uses it.

    Args:
        told: Called with an account and its number of wake-ups, after they were committed.
    """

    def __init__(self, file: File, links: Links, books: Books, told: Callable[[str, int], None]) -> None:
        self.file = file
        self.links = links
        self.books = books
        self.told = told
        self.alone = 0
        """How many of the next transactions go each alone, because one of them failed."""

    def begin(self, waiting: collections.deque[Ticket]) -> Batch | None:
        """Do what waits in line, but for the commit; ``None``, with the line left alone, while others hold the file.

        Raises:
            StoreError: If the file cannot be used. The line is left alone then, too.
        """
        batch = Batch(self, waiting)
        try:
            if batch.begin():
                return batch
        except BaseException:
            batch.end()
            raise
        batch.end()
        return None


class Batch:
    """Transactions that were done and not committed yet. Whoever has one commits it, and ends it in any case."""

    __slots__ = ("_changes", "_connection", "_held", "_lock", "_tickets", "_waiting", "_writer")

    def __init__(self, writer: Writer, waiting: collections.deque[Ticket]) -> None:
        self._writer = writer
        self._waiting = waiting
        self._tickets: list[Ticket] = []
        self._changes = Changes()
        self._connection: sqlite3.Connection | None = None
        self._lock = writer.links.writing
        self._held = self._lock.acquire()

    def begin(self) -> bool:
        """Take tickets off the line and do what they ask for; ``False`` while others hold the file."""
        writer = self._writer
        self._connection = connection = writer.links.writer()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if is_busy(error):
                return False
            writer.links.drop_writer()
            raise writer.file.trouble(error) from error
        tickets, waiting = self._tickets, self._waiting
        most = 1 if writer.alone else _TOGETHER_MAX
        while waiting and len(tickets) < most:
            try:
                tickets.append(waiting.popleft())
            except IndexError:
                break  # it was withdrawn at this moment
        try:
            self._changes = writer.books.apply(connection.execute, tickets)
        except Exception as error:  # noqa: BLE001 - one caller's mistake must not become another's
            self._fail(error)
        return True

    def commit(self) -> None:
        """Commit, and tell those who wait what became of their transactions."""
        connection, writer = self._connection, self._writer
        if connection is None:
            return  # it failed before
        try:
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - told to whom it concerns
            self._fail(error)
            return
        self._tell()
        writer.alone = max(0, writer.alone - 1)
        writer.links.committed()
        self.end()
        for account in self._changes.woken:
            writer.told(account, self._changes.after[account].wakes)

    def end(self) -> None:
        """Let others write. Undoes what was not committed, whatever stopped it, and puts it back in line."""
        if not self._held:
            return
        self._held = False
        try:
            if self._connection is not None:
                self._settle(self._connection)
        finally:
            self._lock.release()

    def _settle(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            self._roll_back(connection)
            self._put_back()
        elif self._tickets:
            # An interrupt came right after the commit: what was done stands.
            self._tell()

    def _tell(self) -> None:
        self._writer.books.publish(self._changes)
        for ticket in self._tickets:
            ticket.done = True
            ticket.ring()
        self._tickets = []

    def _fail(self, error: Exception) -> None:
        """Undo everything. A single member is told why; of several each is tried alone."""
        writer = self._writer
        if self._connection is not None:
            self._roll_back(self._connection)
            self._connection = None
        if isinstance(error, (sqlite3.Error, StoreError)):
            writer.links.drop_writer()
        self._changes = Changes()
        if len(self._tickets) == 1:
            self._tickets[0].error = error
            self._tell()
            writer.alone = max(0, writer.alone - 1)
        else:
            writer.alone = len(self._tickets)
            self._put_back()

    def _put_back(self) -> None:
        self._waiting.extendleft(reversed(self._tickets))
        self._tickets = []

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._writer.links.drop_writer()
