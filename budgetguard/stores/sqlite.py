"""The store in a file, shared by the processes of one machine."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self, TypeVar

import anyio
import anyio.to_thread

from budgetguard._half_made import even_half_made
from budgetguard._settings import flag, function
from budgetguard.errors import StoreError
from budgetguard.ports import Loaded, Scanned, Transacted, Transaction
from budgetguard.stores._sqlite_batch import Batch, Writer
from budgetguard.stores._sqlite_books import Books
from budgetguard.stores._sqlite_clock import given, machine
from budgetguard.stores._sqlite_file import File, is_busy
from budgetguard.stores._sqlite_line import Line, Ticket
from budgetguard.stores._sqlite_links import Links
from budgetguard.stores._sqlite_place import default_path, path_of, path_of_url
from budgetguard.stores._sqlite_recent import Execute
from budgetguard.stores._sqlite_shortcut import Shortcut
from budgetguard.stores._sqlite_turns import Turns
from budgetguard.stores._sqlite_watch import Watchers

__all__ = ["SQLiteStore", "default_path"]

T = TypeVar("T")

_RETRY = 0.001
_CLOSING = 1.0
"""Seconds to wait, at the end of the process, for whoever is using the file."""


class SQLiteStore:
    """Keeps accounts in one file, for all processes of this machine. Since 0.1.

    Needs no server and no lock file. Made when first used, readable by its owner alone (mode 0600). What was committed
    survives the end of any process at any moment, ``kill -9`` included. After a loss of power the file is whole; with
    *durable* nothing that was answered is missing, without it the last moments may be, and everything read before
    counts as a minute older, so that guards look at the balance again.

    Safe to share between threads, between event loops and between several guards; a fork is survived in both
    processes. ``async`` callers never wait for a lock on the loop: a transaction, some 20 µs, is tried there, and
    tried again a little later while other processes have their turn; *durable* ones are made in a thread.

    A transaction for which nobody has to wait is one statement. Those that wait in one process, and those of tasks that
    come right after each other, travel together in one commit. Cost does not grow with what is held.

    Args:
        path: The file. Its folder is made if it is missing.
        busy_timeout: Seconds to wait for the turn of others before `StoreError` is raised.
        durable: Whether a commit waits for the disk, 0.2 to 20 ms. Worth it where the provider's balance lags, or
            readings are used for longer than a minute.
        clock: Gives seconds that never run backwards and mean the same in all processes; tests pass their own.

    Raises:
        SettingError: If one of these cannot work.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout: float = 5.0,
        durable: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        where = path_of(path, busy_timeout=busy_timeout)
        flag("durable", durable)
        if clock is not None:
            function("clock", clock, "give a function that tells seconds, or None for the machine's clock")
        self._clock = machine() if clock is None else given(clock)
        self._file = File(where, durable=durable, patience=busy_timeout, clock=self._clock)
        self._books = Books(self._clock)
        self._watchers = Watchers()
        self._links = Links(self._file, self._begin_anew, self._in_child)
        self._writer = Writer(self._file, self._links, self._books, self._watchers.told)
        self._turns, self._shortcut = self._ways()
        self._forked = False
        self._finalizer = weakref.finalize(self, _shut, self._links, self._watchers)

    @classmethod
    def from_url(cls, url: str, *, busy_timeout: float = 5.0, durable: bool = False) -> Self:
        """Make a store from an address: ``sqlite:///accounts.db`` below this folder, ``sqlite:////var/lib/accounts.db``.

        Three slashes begin a relative path, four an absolute one, ``sqlite:///~/accounts.db`` one at home. ``sqlite:``
        alone is `default_path`. Since 0.1.

        Raises:
            SettingError: If it is no such address.
        """
        return cls(path_of_url(url), busy_timeout=busy_timeout, durable=durable)

    # -- the store --------------------------------------------------------------------------------------------------

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.Store.transact`.

        Raises:
            StoreError: If others held the file for too long, or it cannot be used. Then nothing was changed.
        """
        done = self._shortcut.take(account, transaction)
        return self._result(self._turns.take(account, transaction)) if done is None else done

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.Store.load`.

        Raises:
            StoreError: If the file cannot be used.
        """
        deadline = time.monotonic() + self._file.patience
        while True:
            loaded = self._load(account, records, due=due)
            if loaded is None:
                self._late(deadline)
                time.sleep(_RETRY)
            elif self._clock.is_due(loaded.now):
                self.transact(account, Transaction())
            else:
                return loaded

    def scan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.Store.scan`.

        Raises:
            StoreError: If the file cannot be used.
        """
        deadline = time.monotonic() + self._file.patience
        while (page := self._scan(account, cursor)) is None:
            self._late(deadline)
            time.sleep(_RETRY)
        return page

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        """See `budgetguard.ports.Store.watch`.

        Changes by other processes are told from a thread of the store's own, 2 to 5 ms after they were made (50 in a
        process that has changed nothing for a minute), several at a time perhaps, and perhaps once without a cause.
        What *changed* raises is logged.
        """
        return self._watchers.add(account, changed, self)

    def close(self) -> None:
        """Close the file and end every watch. What was stored stays stored; whoever goes on opens it again."""
        self._watchers.forget()
        self._links.close(max(_CLOSING, self._file.patience))

    async def atransact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.AsyncStore.atransact`.

        A transaction that is cancelled was either applied by then, or never will be.

        Raises:
            StoreError: As `transact`.
        """
        if not (self._file.durable or self._turns.crowd.look()):
            done = self._shortcut.take(account, transaction)
            if done is not None:
                return done
        if not self._links.can_write:
            await anyio.to_thread.run_sync(self._open)
        return self._result(await self._turns.atake(account, transaction))

    async def aload(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.AsyncStore.aload`.

        Raises:
            StoreError: As `load`.
        """
        deadline = time.monotonic() + self._file.patience
        while True:
            if self._links.can_read:
                loaded = self._load(account, records, due=due)
            else:
                loaded = await anyio.to_thread.run_sync(lambda: self._load(account, records, due=due))
            if loaded is None:
                self._late(deadline)
                await anyio.sleep(_RETRY)
            elif self._clock.is_due(loaded.now):
                await self.atransact(account, Transaction())
            else:
                return loaded

    async def ascan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.AsyncStore.ascan`. Made in a thread: it is not often wanted, and reads many records.

        Raises:
            StoreError: As `scan`.
        """
        return await anyio.to_thread.run_sync(self.scan, account, cursor)

    async def aclose(self) -> None:
        """Close the file, in a thread: the last to close it copies what is left in the write-ahead log."""
        await anyio.to_thread.run_sync(self.close)

    @even_half_made
    def __repr__(self) -> str:
        return f"SQLiteStore({str(self._file.path)!r})"

    # -- one attempt ------------------------------------------------------------------------------------------------

    def _ways(self) -> tuple[Turns, Shortcut]:
        file, recover = self._file, self._writer.recover
        turns = Turns(self._begin, recover, file.busy, file.patience, is_quick=not file.durable)
        return turns, Shortcut(self._links, self._books, self._clock, turns, self._watchers.told)

    def _open(self) -> None:
        self._links.writing.use(object(), self._file.patience, self._open_writer)

    def _open_writer(self) -> None:
        self._links.writer()

    def _begin(self, line: Line) -> Batch | None:
        if self._forked:
            self._go_on()
        return self._writer.begin(line)

    def _result(self, ticket: Ticket) -> Transacted:
        error = ticket.error
        if error is not None:
            if isinstance(error, sqlite3.Error | UnicodeError):
                raise self._file.trouble(error) from error
            raise error
        assert ticket.result is not None  # noqa: S101 - it is done
        return ticket.result

    def _load(self, account: str, records: Sequence[str], *, due: bool) -> Loaded | None:
        """Look once; ``None`` while others keep the file to themselves."""
        books = self._books
        if not (records or due):
            loaded = self._read(lambda execute: books.look(execute, account), together=False)
            if loaded is not None:
                return loaded
        return self._read(lambda execute: books.load(execute, account, records, due=due))

    def _scan(self, account: str, cursor: str) -> Scanned | None:
        return self._read(lambda execute: self._books.scan(execute, account, cursor))

    def _read(self, read: Callable[[Execute], T], *, together: bool = True) -> T | None:
        """Read once, several statements *together* at one moment; ``None`` while others keep the file to themselves."""
        if self._forked:
            self._go_on()
        links = self._links
        with links.reading:
            connection = links.reader()
            try:
                if together:
                    connection.execute("BEGIN")
                return read(connection.execute)
            except (sqlite3.Error, UnicodeError) as error:
                if is_busy(error):
                    return None
                links.drop_reader()
                raise self._file.trouble(error) from error
            except StoreError:
                links.drop_reader()
                raise
            finally:
                if links.can_read and connection.in_transaction:
                    connection.execute("ROLLBACK")

    @property
    def commits(self) -> int:
        """How often this process has committed, for `Watchers`. Not for callers."""
        return self._links.commits

    def look(self, accounts: Iterable[str], *, always: bool) -> Mapping[str, int] | None:
        """Look whether other processes changed anything, for `Watchers`. Not for callers."""
        links = self._links
        with links.reading:
            connection = links.reader()
            execute = connection.execute
            try:
                (version,) = execute("PRAGMA data_version").fetchone()
                if version == links.data_version and not always:
                    return None
                execute("BEGIN")
                found = self._books.woken(execute, accounts)
            except (sqlite3.Error, UnicodeError) as error:
                if is_busy(error):
                    return {}
                links.drop_reader()
                raise self._file.trouble(error) from error
            finally:
                if links.can_read and connection.in_transaction:
                    connection.execute("ROLLBACK")
            links.data_version = version
            return found

    def _late(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise self._file.busy()

    def _begin_anew(self) -> None:
        self._books.forget()
        self._watchers.begin_anew()

    def _in_child(self) -> None:
        self._watchers.forked()
        self._books.forget()
        self._writer.forked()
        self._turns, self._shortcut = self._ways()
        self._forked = True

    def _go_on(self) -> None:
        self._forked = False
        self._watchers.resume(self)


def _shut(links: Links, watchers: Watchers) -> None:
    watchers.forget()
    links.close(_CLOSING)
