"""Where a fleet keeps its account, and what may happen to it in the middle of a run."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.valkey import ValkeyServer

__all__ = ["TROUBLES", "Ground", "SQLiteGround", "Trouble", "ValkeyGround", "ground"]


class Ground(ABC):
    """A store that a fleet shares. A context manager; everything it made is gone afterwards.

    Attributes:
        url: Its address.
    """

    url: str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Remove what it made."""


class SQLiteGround(Ground):
    """A file."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bg-fleet-"))
        self.url = f"sqlite:///{self._folder}/accounts.db"

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def remove(self) -> None:
        """Take the file away from those who use it."""
        for name in ("accounts.db", "accounts.db-wal", "accounts.db-shm"):
            (self._folder / name).unlink(missing_ok=True)


class ValkeyGround(Ground):
    """A server of its own.

    Args:
        persistent: Whether what it held is there again after a restart.
    """

    def __init__(self, *, persistent: bool = False) -> None:
        arguments = ("--appendonly", "yes", "--appendfsync", "always") if persistent else ()
        self.server = ValkeyServer(*arguments)
        try:
            self.server.start()
        except BaseException:
            self.server.close()
            raise
        self.url = self.server.url

    def close(self) -> None:
        self.server.close()

    def restart(self, seconds: float) -> None:
        """Kill the server, and start it again after some seconds."""
        self.server.stop(how=signal.SIGKILL)
        time.sleep(seconds)
        self.server.start()

    def pause(self, seconds: float) -> None:
        """Let the server answer nothing for some seconds, with every connection open."""
        self.server.pause()
        try:
            time.sleep(seconds)
        finally:
            self.server.resume()


def _flush(ground: ValkeyGround) -> None:
    ground.server.client.script_flush()


def _wipe(ground: ValkeyGround) -> None:
    ground.server.client.flushall()


def _set_back(ground: ValkeyGround) -> None:
    ground.server.client.save()
    time.sleep(1.0)
    ground.restart(0.0)
    (ground.server.folder / "dump.rdb").unlink()


@dataclass(frozen=True, slots=True)
class Trouble:
    """What may happen to a server.

    Attributes:
        says: How it is told.
        act: What is done.
        persistent: Whether what the server held must be there again after a restart.
    """

    says: str
    act: Callable[[ValkeyGround], None]
    persistent: bool = False


TROUBLES: dict[str, Trouble] = {
    "stop": Trouble("stopped for 3 s, and back with its data", lambda ground: ground.restart(3.0), persistent=True),
    "empty": Trouble("killed, and restarted empty", lambda ground: ground.restart(0.0)),
    "wiped": Trouble("emptied, with every connection open", _wipe),
    "old": Trouble("killed, and restarted with what it held a second before", _set_back),
    "data": Trouble("killed, and restarted with its data", lambda ground: ground.restart(0.0), persistent=True),
    "pause": Trouble("stopped in its tracks for 3 s (SIGSTOP)", lambda ground: ground.pause(3.0)),
    "flush": Trouble("made to forget its scripts", _flush),
}


def ground(store: str, *, trouble: str = "") -> Ground:
    """Make the place a store is kept in."""
    if store == "sqlite":
        return SQLiteGround()
    return ValkeyGround(persistent=bool(trouble) and TROUBLES[trouble].persistent)
