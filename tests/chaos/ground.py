"""Where a scene keeps its account, and what can be done to it there."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from tests.chaos.keep import can_mount, dump_valkey
from tests.chaos.plan import Scene
from tests.chaos.wallclock import SERVER_KEY
from tests.fleet.ground import Ground, SQLiteGround, ValkeyGround

__all__ = ["File", "Nothing", "Server", "make"]

_DISK = "16m"
_LOCK = """
import sqlite3, sys
link = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
link.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
_SMALL = 4096
"""Bytes of a file that a process may write while its disk is said to be full, where no small disk can be mounted."""


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


class Nothing(Ground):
    """No place at all: memory."""

    url = ""

    def close(self) -> None:
        """There is nothing to remove."""


class File(SQLiteGround):
    """A file, on a small disk of its own where that can be had."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = self._folder
        self._mounted = can_mount()
        if self._mounted:
            _mount("-t", "tmpfs", "-o", f"size={_DISK}", "chaos", str(self.folder))

    def close(self) -> None:
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)
        super().close()

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Let another program keep the file to itself."""
        command = [sys.executable, "-c", _LOCK, str(self.folder / "accounts.db")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            yield
            other.kill()

    @contextlib.contextmanager
    def full(self, processes: Iterable[int]) -> Generator[str]:
        """Let the disk be full. Where no small disk is, these processes cannot write instead."""
        if self._mounted:
            filler = self.folder / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"\0" * 4096):
                    pass
            try:
                yield "disk"
            finally:
                filler.unlink()
            return
        for process in processes:
            _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
            resource.prlimit(process, resource.RLIMIT_FSIZE, (_SMALL, hard))
        try:
            yield "limit"
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
                    resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))

    @contextlib.contextmanager
    def read_only(self) -> Generator[bool]:
        """Let whoever opens the folder from now on find it read-only. Gives whether that can be done here."""
        here = str(self.folder)
        if self._mounted:
            # Made read-only where nobody looks, and then put over the folder, in one step.
            with tempfile.TemporaryDirectory(prefix="bg-chaos-") as aside:
                _mount("--bind", here, aside)
                _mount("-o", "remount,bind,ro", aside)
                _mount("--move", aside, here)
            try:
                yield True
            finally:
                subprocess.run(["umount", "--lazy", here], check=True, capture_output=True)
            return
        if os.geteuid() == 0:  # nothing is read-only to root
            yield False
            return
        modes = {path: path.stat().st_mode for path in (self.folder, *self.folder.iterdir())}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        try:
            yield True
        finally:
            for path, mode in modes.items():
                with contextlib.suppress(FileNotFoundError):
                    path.chmod(mode)

    def keep(self, folder: Path) -> None:
        """Copy what stands in it."""
        for path in self.folder.iterdir():
            shutil.copy(path, folder / f"store.{path.name}")


class Server(ValkeyGround):
    """A Valkey server."""

    def step(self, seconds: float) -> None:
        """Let its clock be off by so many seconds."""
        with contextlib.suppress(Exception):  # it may be away just now
            self.server.client.set(SERVER_KEY, int(seconds))

    def act(self, how: str, seconds: float) -> None:
        """Do something to it."""
        client: Any = self.server.client
        if how in ("stop", "empty"):
            self.restart(seconds if how == "stop" else 0.0)
        elif how == "wiped":
            client.flushall()
        elif how == "flush":
            client.script_flush()
        else:
            self.pause(seconds)

    def keep(self, folder: Path) -> None:
        """Write down what stands in it."""
        dump_valkey(self.server.client, folder / "store.valkey.txt")


def make(scene: Scene) -> Nothing | File | Server:
    """Make the place a scene needs."""
    if scene.store == "memory":
        return Nothing()
    return File() if scene.store == "sqlite" else Server(persistent=scene.persistent)
