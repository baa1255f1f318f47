"""The file: made once with the right mode, looked at before anything is written, refused if it is not ours."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from budgetguard.errors import StoreError
from budgetguard.stores._sqlite_clock import Clock
from budgetguard.stores._sqlite_ring import LAYOUT

__all__ = ["File", "is_busy"]

T = TypeVar("T")

_APPLICATION = 0x62647267
"""What marks a file as ours (``PRAGMA application_id``): "bdrg"."""

_STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE account (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, wakes INTEGER NOT NULL,
            counters TEXT NOT NULL
        )""",
        """CREATE TABLE record (
            account INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, due INTEGER, PRIMARY KEY (account, key)
        ) WITHOUT ROWID""",
        "CREATE INDEX record_due ON record (account, due) WHERE due IS NOT NULL",
        "CREATE TABLE clock (boot TEXT NOT NULL, base INTEGER NOT NULL, ceiling INTEGER NOT NULL)",
    ),
    # Counters became numbers in binary, with their names beside them. Rows of the first version are read as they are.
    ("ALTER TABLE account ADD COLUMN names TEXT NOT NULL DEFAULT ''",),
    # Changes are written into a ring first. A process of an older version that still has the file open would not see
    # them: it finds a column gone instead, and says that it cannot read the file.
    (
        "ALTER TABLE account RENAME TO account_before",
        """CREATE TABLE account (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, wakes INTEGER NOT NULL, names TEXT NOT NULL,
            counters BLOB NOT NULL
        )""",
        "INSERT INTO account SELECT id, name, wakes, names, counters FROM account_before",
        "DROP TABLE account_before",
        *LAYOUT,
    ),
)
"""What leads from each version of the schema to the next (``PRAGMA user_version`` counts them). Only ever appended to:
a file made by an older version is brought forward when it is opened, in one transaction."""

_PAGE = 1024
_WAL_PAGES = 16000
"""Pages in the write-ahead log at which a commit copies them into the file itself; a thread does so long before."""
_WAL_BYTES = 8 << 20
_STATEMENTS = 64

_opening = threading.Lock()
"""Held where a descriptor of the file is closed: that drops every lock this process holds on it."""


class File:
    """Opens connections to one file. Safe to share between threads.

    Args:
        path: Where it is, or shall be.
        durable: Whether a commit waits for the disk.
        patience: Seconds to wait for others who hold the file locked.
        clock: Whose base is read from the file when it is opened.
    """

    def __init__(self, path: Path, *, durable: bool, patience: float, clock: Clock) -> None:
        self.path = path
        self.durable = durable
        self.patience = patience
        self._clock = clock

    def open(self, *, reader: bool = False) -> sqlite3.Connection:
        """Open a connection, and make the file if there is none.

        Raises:
            StoreError: If that is impossible, or the file is damaged, another program's, or a newer version's.
        """
        try:
            with _opening:
                self._make()
            connection = sqlite3.connect(
                self.path,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_STATEMENTS,
            )
        except (OSError, sqlite3.Error) as error:
            raise self.trouble(error) from error
        try:
            self._prepare(connection, reader=reader)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error | UnicodeError):
                raise self.trouble(error) from error
            raise
        return connection

    def identity(self) -> tuple[int, int] | None:
        """Tell this file from another that took its place; ``None`` if there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def busy(self) -> StoreError:
        """Build the error for a wait that was too long."""
        return StoreError(
            f"{self.path} was locked by others for {self.patience:g} s. End what holds it (a database browser, a "
            "backup, a stopped process), or allow longer with SQLiteStore(busy_timeout=...)."
        )

    def trouble(self, error: Exception) -> StoreError:
        """Build the error for what went wrong, with what to do about it. Nothing was changed."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        remedy = _REMEDIES.get(code)
        if code == 0 and isinstance(error, sqlite3.OperationalError | UnicodeError):
            remedy = _DAMAGED  # Python's own: a text that is none, in a row or in what SQLite says of the file
        if remedy is None:
            remedy = "See that the folder and the file exist, and may be read and written by this user."
        return StoreError(f"{self.path} cannot be used ({error}). {remedy} Nothing was changed.")

    # -- opening ----------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        if self.path.exists():
            self._see_that_it_is_a_file()
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives the files it puts beside this one the same mode. A link may lead to where nothing is yet.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))

    def _see_that_it_is_a_file(self) -> None:
        mode = self.path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise StoreError(
                f"{self.path} cannot be used: it is a folder. Name a file, like {self.path / 'accounts.db'}."
            )
        if not stat.S_ISREG(mode):
            raise StoreError(f"{self.path} cannot be used: it is no file, but a device or the like. Name a file.")

    def _make_ours(self) -> None:
        """Let nobody else read an empty file that becomes a store."""
        with contextlib.suppress(PermissionError):  # somebody else's file, who lets us write it
            self.path.chmod(0o600)

    def _prepare(self, connection: sqlite3.Connection, *, reader: bool) -> None:
        execute = connection.execute
        execute("PRAGMA trusted_schema = OFF")
        if self._patiently(lambda: self._look(connection)[0]) == 0:
            self._make_ours()
            execute(f"PRAGMA page_size = {_PAGE}")
        mode = self._patiently(lambda: execute("PRAGMA journal_mode = WAL").fetchone()[0])
        if mode != "wal":
            raise StoreError(
                f"{self.path} cannot be shared by processes where it is (journal mode {mode!r}): network drives and "
                "the like cannot do it. Put it on a local disk."
            )
        execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
        execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        if self._patiently(lambda: self._look(connection)) != (len(_STEPS), True):
            self._patiently(lambda: self._renew(connection))
        if reader:
            execute("PRAGMA query_only = ON")

    def _look(self, connection: sqlite3.Connection) -> tuple[int, bool]:
        """See which version the file has, and whether its clock is up to date, both at one moment."""
        execute = connection.execute
        execute("BEGIN")
        try:
            version = self._version(connection)
            return version, version == len(_STEPS) and self._clock.read(execute)
        finally:
            if connection.in_transaction:
                execute("ROLLBACK")

    def _version(self, connection: sqlite3.Connection) -> int:
        """Say which version of the schema the file has, 0 for an empty one; anything else is refused."""
        execute = connection.execute
        (application,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version, tables) == (0, 0, 0):
            return 0
        if application != _APPLICATION or not version:
            raise StoreError(
                f"{self.path} is a database of another program. It was not touched: name another file, "
                "for instance SQLiteStore('accounts.db')."
            )
        if version > len(_STEPS):
            raise StoreError(
                f"{self.path} was written by a newer version of budgetguard (schema {version}, this one knows "
                f"{len(_STEPS)}). It was not touched: install that version, or name another file."
            )
        return int(version)

    def _renew(self, connection: sqlite3.Connection) -> None:
        """Bring the schema forward and the clock up to date, in one transaction."""
        execute = connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            version = self._version(connection)
            for statements in _STEPS[version:]:
                for statement in statements:
                    execute(statement)
            if version < len(_STEPS):
                execute(f"PRAGMA application_id = {_APPLICATION}")
                execute(f"PRAGMA user_version = {len(_STEPS)}")
            if version == 0 or not self._clock.read(execute):
                self._clock.choose(execute)
            execute("COMMIT")
        finally:
            if connection.in_transaction:
                execute("ROLLBACK")

    def _patiently(self, attempt: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                if time.monotonic() > deadline:
                    raise self.busy() from error
            time.sleep(random.uniform(0.0005, 0.003))  # noqa: S311 - a pause, not a secret


def is_busy(error: Exception) -> bool:
    """Whether somebody else holds the file, and trying again may help."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


_DAMAGED = (
    "It is damaged, or not a database. Restore it from a copy, or move it aside together with its -wal and -shm files "
    "and let a new one be made: the next reading of the balance fills it."
)
_REMEDIES = {
    # What asks is always the same, so what is wrong is what is asked: a table is missing or is another.
    sqlite3.SQLITE_ERROR: _DAMAGED,
    sqlite3.SQLITE_CONSTRAINT: _DAMAGED,
    sqlite3.SQLITE_MISMATCH: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FULL: "The disk is full: make room.",
    # Or a bit of its header that says which versions of SQLite may write it.
    sqlite3.SQLITE_READONLY: (
        "Let this user write the file and the folder it is in, or name another file. If he may, it is damaged: move it "
        "aside together with its -wal and -shm files."
    ),
    sqlite3.SQLITE_PERM: "Let this user write the file and the folder it is in, or name another file.",
    sqlite3.SQLITE_CANTOPEN: "Let this user write the file and the folder it is in, or name another file.",
    sqlite3.SQLITE_IOERR: "The disk failed, or is full: look at it.",
}
