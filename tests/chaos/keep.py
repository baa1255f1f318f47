"""What a run is kept in, if that is asked for: everything the library writes, and a search for keys in it.

``python -m tests.chaos --keep DIR`` makes one folder for each scene. In it are, of each process, all log lines from
DEBUG up, all events as they show, exceptions with the values of the library's own variables, and the texts of the
objects a user holds; and of each store what stood in it. Then the keys are looked for in all of it.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from budgetguard.events import Event, Observer
from budgetguard.instruments import LogObserver

__all__ = ["Keep", "dump_valkey", "fingerprint", "forms", "search"]

_OURS = "budgetguard"


class Keep:
    """Writes down all that the library says in one process.

    Args:
        folder: Where to; ``None`` writes nothing.
        label: The beginning of the files' names.
        observers: Who else is told of events.
    """

    def __init__(self, folder: Path | None, label: str, observers: Sequence[Observer] = ()) -> None:
        self._lock = threading.Lock()
        self._folder = folder
        self._label = label
        self.observers: list[Observer] = list(observers)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._log(folder / f"{label}.log")
            self.observers += [LogObserver(), self._event]

    def _log(self, path: Path) -> None:
        import structlog

        logging.basicConfig(filename=path, level=logging.DEBUG, format="%(created)f %(name)s %(levelname)s %(message)s")
        structlog.configure(
            processors=[
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(default=repr),
            ],
            logger_factory=structlog.WriteLoggerFactory(path.with_suffix(".events.log").open("a")),
        )

    def _event(self, event: Event) -> None:
        self.write("events.txt", repr(event))

    def write(self, name: str, text: str) -> None:
        """Add a line to a file."""
        if self._folder is not None:
            with self._lock, (self._folder / f"{self._label}.{name}").open("a") as file:
                file.write(f"{text}\n")

    def error(self, error: BaseException) -> None:
        """Write down an exception as a tool for finding mistakes would show it."""
        if self._folder is None:
            return
        lines = [repr(error), str(error), *traceback.format_exception(error)]
        seen: BaseException | None = error
        while seen is not None:
            for frame, _ in traceback.walk_tb(seen.__traceback__):
                if frame.f_globals.get("__name__", "").partition(".")[0] == _OURS:  # a caller's variables are his own
                    where = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
                    lines.append(f"  {where}: {_shown(frame.f_locals)}")
            lines.append(f"  {getattr(seen, 'facts', '')!r}")
            seen = seen.__cause__ or seen.__context__
        self.write("errors.txt", "\n".join(lines))

    def show(self, *objects: object) -> None:
        """Write down how objects show themselves."""
        for thing in objects:
            self.write("shown.txt", f"{thing!r}\n{thing}")


def _shown(values: dict[str, Any]) -> str:
    parts = []
    for name, value in values.items():
        try:
            parts.append(f"{name}={value!r}")
        except Exception as error:  # noqa: BLE001 - half made, perhaps
            parts.append(f"{name} cannot be shown: {type(error).__name__}")
    return ", ".join(parts)


def fingerprint(key: str) -> str:
    """Name a key without telling it."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def forms(key: str) -> list[bytes]:
    """List the forms in which a key could be written: as it is, by its halves, in hex and base64, in an address."""
    raw = key.encode()
    found = [raw, raw[: len(raw) // 2], raw[len(raw) // 2 :], raw[::-1], raw.hex().encode(), quote(key).encode()]
    for shift in range(3):  # what stands before it moves the letters of base64
        text = base64.b64encode(b"\0" * shift + raw)
        found.append(text[4 * bool(shift) : len(text) - len(text) % 4 - 4])
    return list(dict.fromkeys(found))


def search(folder: Path, keys: Iterable[str]) -> list[str]:
    """Look for keys in every file of a folder, in the forms of `forms`. Gives what was found, without the keys."""
    patterns = [(fingerprint(key), form) for key in keys for form in forms(key)]
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            for name, form in patterns:
                at = content.find(form)
                if at >= 0:
                    found.append(f"{path.relative_to(folder)}, byte {at}: key {name}")
    return found


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
