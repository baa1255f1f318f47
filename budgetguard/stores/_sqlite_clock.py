"""The time of a file: shared by the processes of one machine, and never running backwards.

The wall clock may be set, and a process's own clock means nothing to another. What all processes of a machine share is
the time since it was started, asleep or not. So the file keeps a *base* which, added to that, gives the file's time. It
begins as the wall clock's and is left alone from then on, however the wall clock is set.

A restart of the machine begins a new count, and shows by the identity of the start. The base is then chosen anew, so
that time resumes at the wall clock's time, and in any case above whatever time was told before. For this the file keeps
a *ceiling*: no time above it is told before it has been raised, a few seconds ahead, in the file.

A restart also makes every lease and every reading a minute older than it may be. Nobody who held a lease is alive; and
after a loss of power the last transactions may be gone, so what was read before should be read again.
"""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from budgetguard.errors import StoreError
from budgetguard.stores._sqlite_ring import SHIFT

__all__ = ["Clock", "damaged", "given", "machine"]

_MICROS = 1_000_000
_AHEAD = 10 * _MICROS
"""How far ahead the ceiling is set."""
_LEFT = 5 * _MICROS
"""How little may be left below the ceiling before a transaction raises it in passing."""
_LEAP = 60 * _MICROS
"""How much time passes, at least, when the machine is restarted."""

_FARTHEST = 2**61
"""Microseconds, either way, beyond which a time is none: 73,000 years. SQLite's integers leave room for sums of it."""

Execute = Callable[..., sqlite3.Cursor]


class Clock:
    """Tells the time of one file in whole microseconds. Safe to share between threads once it is set.

    Args:
        boot: The identity of the machine's start; ``""`` where none can be told.
        uptime: Gives the microseconds since then, the same to all processes.
        wall: Gives microseconds of the wall clock; asked only where a base is chosen.
    """

    __slots__ = ("_base", "_boot", "_ceiling", "_uptime", "_wall", "near")

    def __init__(self, boot: str, uptime: Callable[[], int], wall: Callable[[], int]) -> None:
        self._boot = boot
        self._uptime = uptime
        self._wall = wall
        self._base = 0
        self._ceiling = 0
        self.near = 0
        """From when on little is left below the ceiling, so that a transaction should raise it in passing."""

    def now(self) -> int:
        """Tell the time."""
        return self._base + self._uptime()

    def is_due(self, now: int) -> bool:
        """Whether the ceiling must be raised before this time is told."""
        return now > self._ceiling

    def read(self, execute: Execute) -> bool:
        """Take the base from the file; ``False`` if it must be chosen anew.

        Raises:
            sqlite3.DatabaseError: If what the file holds is no such thing.
        """
        row = execute("SELECT boot, base, ceiling FROM clock").fetchone()
        if row is None or type(row[0]) is not str or not (_is_time(row[1]) and _is_time(row[2])):
            raise damaged("its clock cannot be read")
        if not self._holds(*row):
            return False
        _, self._base, ceiling = row
        self._reach(ceiling)
        return True

    def choose(self, execute: Execute) -> None:
        """Choose the base anew, inside a write transaction. Everybody reads everything anew, so that it is seen."""
        row = execute("SELECT ceiling FROM clock").fetchone()
        uptime = self._uptime()
        start = self._wall() if row is None else max(self._wall(), row[0] + _LEAP)
        self._base = start - uptime
        self._reach(start + _AHEAD)
        execute("DELETE FROM clock")
        execute("INSERT INTO clock (boot, base, ceiling) VALUES (?, ?, ?)", (self._boot, self._base, self._ceiling))
        for statement in SHIFT:
            execute(statement)

    def check(self, boot: str, base: int) -> None:
        """See whether the base this process goes by is still the file's.

        Raises:
            StoreError: If another machine has chosen one.
        """
        if type(boot) is not str or not _is_time(base):
            raise damaged("its clock cannot be read")
        if boot != self._boot:
            raise StoreError(
                "The file is used by two machines at once, which SQLite cannot do safely. Let one machine use it, or "
                "share the accounts through a server: store='redis://...'."
            )
        self._base = base

    def keep(self, execute: Execute, now: int) -> None:
        """Raise the ceiling where little is left below it, inside a write transaction."""
        if now > self.near:
            execute("UPDATE clock SET ceiling = max(ceiling, ?)", (now + _AHEAD,))
            self._reach(now + _AHEAD)

    def _reach(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self.near = ceiling - _LEFT

    def _holds(self, boot: str, base: int, ceiling: int) -> bool:
        # The second half finds a restart where starts have no identity, and a machine set back to an earlier state.
        return boot == self._boot and base + self._uptime() >= ceiling - _AHEAD - _MICROS


def _is_time(value: object) -> bool:
    return type(value) is int and -_FARTHEST <= value <= _FARTHEST


def damaged(what: str) -> sqlite3.DatabaseError:
    """Build the error for contents that are not ours, though SQLite finds no fault with the file."""
    error = sqlite3.DatabaseError(what)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def given(seconds: Callable[[], float]) -> Clock:
    """Make a clock of one that tests move by hand."""

    def micros() -> int:
        return 1 + int(seconds() * _MICROS)

    return Clock("given", micros, micros)


def machine() -> Clock:
    """Make a clock of the machine's own."""
    return Clock(_boot(), _uptime(), lambda: time.time_ns() // 1000)


def _uptime() -> Callable[[], int]:
    # Asleep or not: Linux counts that by one name, macOS by another; Windows always does.
    name = "CLOCK_MONOTONIC_RAW" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    which: int | None = getattr(time, name, None)
    if which is None:
        return lambda: time.monotonic_ns() // 1000
    read = time.clock_gettime_ns
    return lambda: read(which) // 1000


def _boot() -> str:
    """Find what tells one start of the machine from another."""
    find = {"linux": _boot_of_linux, "darwin": _boot_of_macos, "win32": _boot_of_windows}.get(sys.platform)
    if find is not None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return find()
    return ""


def _boot_of_linux() -> str:
    start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with contextlib.suppress(OSError):
        # A container may have a clock of its own, which is as good as another start.
        return f"{start} {Path('/proc/self/ns/time').readlink()}"
    return start


def _boot_of_macos() -> str:
    import ctypes  # noqa: PLC0415 - only there

    text, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0)
    return text.value.decode("ascii")


def _boot_of_windows() -> str:
    winreg: Any = importlib.import_module("winreg")
    place = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
        return str(winreg.QueryValueEx(key, "BootId")[0])
