"""Where everything is kept that the library writes in a run, for the search for keys that ends it.

There is one folder for each scene; ``python -m tests.chaos --keep DIR`` says where, and leaves it. In it are, of each
process, all log lines from DEBUG up, all events as they show, exceptions with the values of the library's own
variables, and the texts of the objects a user holds; and of each store what stood in it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from budgetguard.events import Event, Observer
from budgetguard.instruments import LogObserver
from tests.secrets.written import Written

__all__ = ["Keep", "can_mount", "dump_valkey"]


class Keep:
    """Writes down all that the library says in one process.

    Args:
        folder: Where to; ``None`` writes nothing.
        label: The beginning of the files' names.
        observers: Who else is told of events.
    """

    def __init__(self, folder: Path | None, label: str, observers: Sequence[Observer] = ()) -> None:
        self._folder = folder
        self._label = label
        self._written: Written | None = None
        self.observers: list[Observer] = list(observers)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._written = Written(folder / label, foreign=False)
            self._log()
            self.observers += [LogObserver(), self._event]

    def _log(self) -> None:
        import structlog

        logging.raiseExceptions = can_mount()
        handler = _Handler(self)
        handler.setFormatter(logging.Formatter("%(created)f %(name)s %(levelname)s %(message)s"))
        logging.basicConfig(level=logging.DEBUG, handlers=[handler])
        structlog.configure(
            processors=[
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(default=repr),
            ],
            logger_factory=lambda *_: _Lines(self, "events.log"),
        )

    def _event(self, event: Event) -> None:
        self.write("events.txt", repr(event))

    def write(self, name: str, text: str) -> None:
        """Add a line to a file."""
        if self._folder is not None:
            # Without a lock, which a fork could leave locked: a line is written, and added to a file, at once.
            with _while_it_can(), (self._folder / f"{self._label}.{name}").open("ab", buffering=0) as file:
                file.write(f"{text}\n".encode())

    def error(self, error: BaseException) -> None:
        """Write down an exception as logs, consoles and error reporters show it."""
        if self._written is not None:
            with _while_it_can():
                self._written.error(error)

    def show(self, *objects: object) -> None:
        """Write down how objects show themselves."""
        for thing in objects:
            self.write("shown.txt", f"{thing!r}\n{thing}")


class _Handler(logging.Handler):
    """Writes log lines. A stream has a lock of its own, which a fork could leave locked."""

    def __init__(self, keep: Keep) -> None:
        super().__init__()
        self._keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line."""
        try:
            self._keep.write("log", self.format(record))
        except Exception:  # noqa: BLE001 - as handlers do
            self.handleError(record)


class _Lines:
    """What structlog writes to. Its own loggers have a lock, which a fork could leave locked."""

    def __init__(self, keep: Keep, name: str) -> None:
        self._keep = keep
        self._name = name

    def msg(self, message: str) -> None:
        """Add a line."""
        self._keep.write(self._name, message)

    debug = info = warning = error = critical = exception = log = msg


@contextlib.contextmanager
def _while_it_can() -> Generator[None]:
    """Leave out what cannot be written, as a limit on the size of files stands in for a full disk, or cannot be shown,
    as it changes at that moment.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
    except RuntimeError as error:
        if "during iteration" not in str(error):
            raise


def can_mount() -> bool:
    """Whether small disks can be mounted here, seen by nobody else: see `tests.chaos.__main__`."""
    return os.environ.get("CHAOS_MOUNTS") == "1"


def dump_valkey(client: Any, path: Path) -> None:
    """Write down all that stands in a server: each key, its kind, and what it holds."""
    read = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    with path.open("w") as file:
        for key in sorted(client.keys("*")):
            kind = client.type(key)
            file.write(f"{key!r} {kind!r} {read.get(kind, client.dump)(key)!r}\n")
