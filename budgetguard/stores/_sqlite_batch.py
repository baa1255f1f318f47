"""Several transactions in one commit, which must not fail each other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from budgetguard.errors import StoreError
from budgetguard.stores._sqlite_books import Books
from budgetguard.stores._sqlite_changes import Changes
from budgetguard.stores._sqlite_file import File, is_busy
from budgetguard.stores._sqlite_line import Line, Ticket
from budgetguard.stores._sqlite_links import Links

__all__ = ["Batch", "Writer"]

_TOGETHER_MAX = 64
"""How many transactions travel in one commit."""
_COMMIT = ("COMMIT",)


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
        self._batch: Batch | None = None

    def begin(self, line: Line) -> Batch | None:
        """Do what waits in line, but for the commit; ``None``, with the line left alone, while others hold the file.

        Raises:
            StoreError: If the file cannot be used. The line is left alone then, too.
        """
        self.recover()
        # Noted before it takes anything, so that whoever is interrupted, or comes next, can end it.
        self._batch = batch = Batch(self, line)
        try:
            if batch.begin():
                return batch
        except BaseException:
            batch.end()
            raise
        batch.end()
        return None

    def recover(self) -> None:
        """End what an interrupt left: what was committed stands, anything else is undone and waits on in line."""
        if self._batch is not None:
            self._batch.end()

    def forked(self) -> None:
        """Begin anew in the child of a fork."""
        self._batch = None
        self.alone = 0


class Batch:
    """Transactions that were done and not committed yet. Whoever has one commits it, and ends it in any case."""

    __slots__ = ("_changes", "_committed", "_connection", "_ended", "_line", "_tickets", "_writer", "_writing")

    def __init__(self, writer: Writer, line: Line) -> None:
        self._writer = writer
        self._line = line
        self._tickets: list[Ticket] = []
        self._changes: Changes | None = None
        self._connection: sqlite3.Connection | None = None
        self._committed: list[sqlite3.Cursor] = []
        self._ended = False
        self._writing = writer.links.writing

    @property
    def size(self) -> int:
        """How many transactions these are."""
        return len(self._tickets)

    def begin(self) -> bool:
        """Claim tickets in line and do what they ask for; ``False`` while others hold the file."""
        writer = self._writer
        if not self._writing.take(self):
            return False  # it is being opened or closed
        self._connection = connection = writer.links.writer()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if is_busy(error):
                return False
            writer.links.drop_writer()
            raise writer.file.trouble(error) from error
        self._line.claim(self._tickets, 1 if writer.alone else _TOGETHER_MAX)
        try:
            self._changes = writer.books.apply(connection, self._tickets)
        except Exception as error:  # noqa: BLE001 - one caller's mistake must not become another's
            self._fail(error)
        return True

    def commit(self) -> None:
        """Commit, and tell those who wait what became of their transactions."""
        connection, writer, changes = self._connection, self._writer, self._changes
        if connection is None or changes is None:
            return  # it failed before
        try:
            # To commit and to note that it succeeded is one step, which no interrupt can part: both are made in C.
            self._committed.extend(map(connection.execute, _COMMIT))
        except Exception as error:  # noqa: BLE001 - told to whom it concerns
            self._fail(error)
            return
        self._tell()
        writer.alone = max(0, writer.alone - 1)
        writer.links.committed()
        self.end()
        for account in changes.woken:
            writer.told(account, changes.after[account].wakes)

    def end(self) -> None:
        """Let others write. Undoes what was not committed, whatever stopped it, and lets it wait on.

        May be interrupted at any step, and is then called again.
        """
        if self._ended:
            return
        if self._committed:
            self._tell()
        else:
            if self._connection is not None:
                self._roll_back(self._connection)
            self._line.give_back(self._tickets)
        self._writing.free(self)
        self._connection = None
        self._committed = []
        self._ended = True

    def _tell(self) -> None:
        if self._changes is not None:
            self._changes.publish()
        self._line.tell(self._tickets)

    def _fail(self, error: Exception) -> None:
        """Undo everything. A single member is told why; of several each is tried alone."""
        writer = self._writer
        if self._connection is not None:
            self._roll_back(self._connection)
            self._connection = None
        if isinstance(error, (sqlite3.Error, StoreError)):
            writer.links.drop_writer()
        self._changes = None
        if len(self._tickets) == 1:
            self._tickets[0].error = error
            self._line.tell(self._tickets)
            writer.alone = max(0, writer.alone - 1)
        else:
            writer.alone = len(self._tickets)
            self._line.give_back(self._tickets)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._writer.links.drop_writer()
