"""The connections one process keeps to a file: one that writes, one that reads, and one that tidies up.

They are opened when first needed and stay open: opening one costs more than fifty transactions. A fork must not take
an open connection along (SQLite's locks do not survive it, its notes about them do), so all are closed before a fork
and opened anew after it, in either process.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable

from budgetguard.errors import StoreError
from budgetguard.stores._sqlite_file import File
from budgetguard.stores._sqlite_line import Hold

__all__ = ["Links"]

_LOOK_AGAIN = 1.0
"""Seconds between two looks whether the file is still the one that was opened."""
_FORK_PATIENCE = 5.0
_PAUSE = 0.5e-3
_TIDY_EVERY = 1000
"""Commits after which what they left in the write-ahead log is copied into the file."""
_TIDY_PATIENCE = 10
"""Milliseconds to wait, for that, for other processes."""

_stranded: list[sqlite3.Connection] = []
"""Connections of a parent process. To close them here would take the parent's locks away."""


class Links:
    """Opens and closes connections. Who uses one holds its lock. Safe to share between threads.

    Attributes:
        writing: Held by who uses the writer.
        reading: Held by who uses the reader.
        data_version: What the reader last saw of other connections' commits.
        commits: How often this process has committed.
    """

    def __init__(self, file: File, replaced: Callable[[], None], forked: Callable[[], None]) -> None:
        self.writing = Hold()
        self.reading = threading.Lock()
        self.data_version: int | None = None
        self._keeping = threading.Lock()
        self._file = file
        # Methods of the store; whoever forgets that shall not find it kept alive by what closes the file in the end.
        self._replaced = weakref.WeakMethod(replaced)
        self._forked = weakref.WeakMethod(forked)
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._keeper: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._look_at = 0.0
        self.commits = 0
        self._tidied_at = 0
        self._tidier: threading.Thread | None = None
        self._process = os.getpid()
        self._lost = self._doubted = False
        self._paused: list[threading.Lock] = []
        _all.add(self)

    # -- opening ----------------------------------------------------------------------------------------------------

    @property
    def can_write(self) -> bool:
        """Whether the writer is open, so that asking for it costs nothing."""
        return self._writer is not None

    @property
    def can_read(self) -> bool:
        """Whether the reader is open."""
        return self._reader is not None

    def writer(self) -> sqlite3.Connection:
        """Give the connection that writes."""
        self._check()
        if self._writer is None:
            if self._doubted:
                self._drop_others()
            self._writer = self._open()
        return self._writer

    def at_hand(self) -> sqlite3.Connection | None:
        """Give the connection that writes, if it is open and nothing must be looked at before it is used."""
        if time.monotonic() < self._look_at and self._process == os.getpid():
            return self._writer
        return None

    def reader(self) -> sqlite3.Connection:
        """Give the connection that reads."""
        self._check()
        if self._reader is None:
            self._reader = self._open(reader=True)
            self.data_version = None
        if self._reader.in_transaction:
            self._reader.execute("ROLLBACK")  # somebody was interrupted before that
        return self._reader

    def _open(self, *, reader: bool = False) -> sqlite3.Connection:
        connection = self._file.open(reader=reader)
        identity = self._file.identity()
        if self._identity != identity or (self._writer is None and self._reader is None):
            # What is known of a file that nobody here kept open may be wrong, even if it looks the same.
            _tell(self._replaced)
        self._identity = identity
        return connection

    def _check(self) -> None:
        if self._process != os.getpid():
            self.forked()
        if self._lost:
            raise StoreError(
                f"{self._file.path} was in use when this process was forked, in a way that Python did not see. Make "
                "a store of its own in each process, after the fork."
            )
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_AGAIN
        if self._identity is not None and self._identity != self._file.identity():
            self._look_at = 0.0
            raise StoreError(
                f"{self._file.path} was moved, removed or replaced while it was in use. Processes that go on with "
                "different files would spend the same balance twice: end them all, put the file back or begin with a "
                "new one, and start them again."
            )

    # -- closing ----------------------------------------------------------------------------------------------------

    def drop_writer(self) -> None:
        """Close the writer after a fault, with its lock held; the next who needs one opens another."""
        connection, self._writer = self._writer, None
        self._doubted = True
        _close(connection)

    def drop_reader(self) -> None:
        """Close the reader, likewise."""
        connection, self._reader = self._reader, None
        _close(connection)

    def close(self, patience: float) -> None:
        """Close all. What is in use for longer than this many seconds is left to the end of the process."""
        deadline = time.monotonic() + patience
        self.writing.use(object(), patience, self.drop_writer)
        for lock, drop in ((self.reading, self.drop_reader), (self._keeping, self._drop_keeper)):
            while not _with(lock, drop) and time.monotonic() < deadline:
                time.sleep(_PAUSE)
        self._identity = None

    def _drop_others(self) -> None:
        """Close the reader and the keeper before another writer is opened, with its lock held.

        A process that found the file read-only finds it so, whatever is done about it, while a connection is open.
        """
        others = [_with(self.reading, self.drop_reader), _with(self._keeping, self._drop_keeper)]
        self._doubted = not all(others)

    def _drop_keeper(self) -> None:
        connection, self._keeper = self._keeper, None
        _close(connection)

    # -- forks ------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Before a fork: close everything, and let nobody open anything."""
        writes = self.writing.wait(self, _FORK_PATIENCE)
        for lock in (self.reading, self._keeping):
            if lock.acquire(timeout=_FORK_PATIENCE):
                self._paused.append(lock)
        if writes and len(self._paused) == 2:
            self.drop_writer()
            self.drop_reader()
            self._drop_keeper()

    def resume(self) -> None:
        """After it, in the parent."""
        self.writing.free(self)
        while self._paused:
            self._paused.pop().release()

    def forked(self) -> None:
        """After it, in the child."""
        self._process = os.getpid()
        self._paused.clear()
        self.writing, self.reading, self._keeping = Hold(), threading.Lock(), threading.Lock()
        self._tidier = None
        open_ones = [link for link in (self._writer, self._reader, self._keeper) if link is not None]
        if open_ones:
            _stranded.extend(open_ones)
            self._writer = self._reader = self._keeper = None
            self._lost = True
        _tell(self._forked)

    # -- tidying ----------------------------------------------------------------------------------------------------

    def committed(self) -> None:
        """Count a commit, and now and then shorten the write-ahead log; in a thread, for that waits for the disk."""
        self.commits += 1
        if self.commits - self._tidied_at >= _TIDY_EVERY and not self.is_tidying:
            self._tidied_at = self.commits
            self._tidier = threading.Thread(target=self._tidy, name="budgetguard-sqlite-tidy", daemon=True)
            self._tidier.start()

    @property
    def is_tidying(self) -> bool:
        """Whether the log is being shortened just now."""
        return self._tidier is not None and self._tidier.is_alive()

    def _tidy(self) -> None:
        # Where this fails, a commit does it in the end.
        with contextlib.suppress(sqlite3.Error, StoreError), self._keeping:
            if self._keeper is None:
                self._keeper = self._file.open()
                self._keeper.execute(f"PRAGMA busy_timeout = {_TIDY_PATIENCE}")
            # Most of it beside those who write; then, while nobody does, the rest, so that the log begins anew.
            self._keeper.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.writing.use(self, _TIDY_PATIENCE / 1000, self._begin_log_anew)

    def _begin_log_anew(self) -> None:
        keeper = self._keeper
        if keeper is not None:
            busy, _, _ = keeper.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            if not busy:
                # Whoever writes first waits for the disk once more. That shall be nobody's event loop.
                keeper.execute("UPDATE clock SET ceiling = ceiling + 1")


_all: weakref.WeakSet[Links] = weakref.WeakSet()


def _before_fork() -> None:
    for links in list(_all):
        links.pause()


def _after_fork_in_parent() -> None:
    for links in list(_all):
        links.resume()


def _after_fork_in_child() -> None:
    for links in list(_all):
        links.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _tell(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    call = method()
    if call is not None:
        call()


def _with(lock: threading.Lock, drop: Callable[[], None]) -> bool:
    """Do it while nobody else has the lock; ``False`` if somebody does. An interrupt leaves nothing locked."""
    if lock.locked():
        return False
    with lock:
        drop()
    return True


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
