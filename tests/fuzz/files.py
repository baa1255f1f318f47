"""Files of SQLite with bytes flipped, cut, or rewritten: read exactly as they were, or refused with what to do."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from budgetguard._core.records import Record, Stage
from budgetguard.errors import StoreError
from budgetguard.ports import Loaded, Put, Transaction
from budgetguard.stores.sqlite import SQLiteStore
from tests.fuzz.spoil import NUMBERS
from tests.fuzz.target import Broken, Target, joined, parted

__all__ = ["Files"]

_ACCOUNT = "vidu:0123456789abcdef"
_COUNTERS = {
    "credits": 480,
    "balance": 500,
    "gen": 3,
    "mark": 2,
    "slots": 4,
    "limit": 5,
    "quiet": -1,
    "read_at": 10**15,
}
_RECORDS = {
    f"t:{number}": Put(Record(f"h{number}", Stage.ACCEPTED, 10, 1, task_id=str(number)).dumps()) for number in range(40)
}
_COLUMNS = (
    ("account", "counters"),
    ("account", "version"),
    ("account", "wakes"),
    ("account", "name"),
    ("record", "value"),
    ("record", "key"),
    ("record", "account"),
    ("record", "due"),
    ("clock", "boot"),
    ("clock", "base"),
    ("clock", "ceiling"),
)
_EDGES = (2**63 - 1, -(2**63), 2**62, 2**53 + 1, 0, -1)
_REMEDIES = ("damaged", "newer version", "another program", "two machines", "locked")


def _write(path: Path, *, closed: bool) -> list[Path]:
    """Write a store's file; without *closed*, with what a killed process leaves beside it."""
    store = SQLiteStore(path)
    store.transact(_ACCOUNT, Transaction(add=_COUNTERS, put=_RECORDS))
    store.transact("another", Transaction(add={"credits": 5}))
    files = [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")]
    if closed:
        store.close()
    kept = {file.name: file.read_bytes() for file in files if file.exists()}
    store.close()
    for name, data in kept.items():
        path.with_name(f"kept-{name}").write_bytes(data)
    return files


class Files(Target):
    """A store's file, damaged."""

    name = "sqlite-files"
    examples = 20

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bg-fuzz-")
        self._home = Path(self._folder.name)
        self._kept: dict[bool, dict[str, bytes]] = {}
        for closed in (True, False):
            folder = self._home / str(closed)
            folder.mkdir()
            _write(folder / "a.db", closed=closed)
            self._kept[closed] = {path.name.removeprefix("kept-"): path.read_bytes() for path in folder.glob("kept-*")}

    def draw(self, chance: random.Random) -> bytes:
        closed = chance.random() < 0.5
        facts: dict[str, Any] = {"closed": closed}
        if chance.random() < 0.4:
            table, column = chance.choice(_COLUMNS)
            kind = chance.choice(("text", "number", "edge", "blob", "null", "digit"))
            facts["cell"] = [table, column, kind, chance.choice(NUMBERS), chance.randrange(100)]
        else:
            name = chance.choice(list(self._kept[closed]))
            size = len(self._kept[closed][name])
            facts["file"] = name
            if chance.random() < 0.15:
                facts["cut"] = chance.randrange(size)
            else:
                many = chance.choice((1, 1, 4, 40))
                facts["flips"] = [[chance.randrange(size), 1 << chance.randrange(8)] for _ in range(many)]
        return joined(facts)

    def run(self, case: bytes) -> None:
        facts, _ = parted(case)
        with tempfile.TemporaryDirectory(dir=self._home) as name:
            path = Path(name) / "a.db"
            for file, data in self._kept[bool(facts.get("closed"))].items():
                path.with_name(file).write_bytes(_spoilt(data, facts) if facts.get("file") == file else data)
            if isinstance(facts.get("cell"), list) and len(facts["cell"]) == 5:
                _rewrite(path, *facts["cell"])
            self._use(path)

    def _use(self, path: Path) -> None:
        store = SQLiteStore(path, busy_timeout=0.2)
        try:
            loaded = store.load(_ACCOUNT, list(_RECORDS)[:3], due=True)
            _check(loaded)
            found: dict[str, bytes] = {}
            page = store.scan(_ACCOUNT)
            found.update(page.records)
            for key, value in found.items():
                _read(key, value)
            done = store.transact(_ACCOUNT, Transaction(add={"credits": -10}, floor={"credits": 0}))
            if loaded.counters and not (done.applied and done.counters["credits"] == 470):
                raise Broken(f"10 of 480 credits were taken, and {done.counters.get('credits')} are left")
            if not loaded.counters and done.applied:
                raise Broken("credits were taken that are not there")
        except StoreError as error:
            text = str(error)
            if not any(word in text for word in _REMEDIES):
                raise Broken(f"refused without a remedy: {text}") from error
        finally:
            store.close()

    def close(self) -> None:
        self._folder.cleanup()


def _check(loaded: Loaded) -> None:
    if loaded.counters and loaded.counters != _COUNTERS:
        wrong = {name: value for name, value in loaded.counters.items() if _COUNTERS.get(name) != value}
        raise Broken(f"counters nobody wrote: {wrong or set(_COUNTERS) - set(loaded.counters)}")


def _read(key: str, text: bytes) -> None:
    """Whoever reads a record believes what it says of itself, not the name it is kept under."""
    try:
        record = Record.loads(text)
    except StoreError:
        return
    kept = _RECORDS.get(record.key)
    if kept is None or kept.value != text:
        raise Broken(f"a record {text!r} was read under {key!r}, which nobody wrote")


def _spoilt(data: bytes, facts: dict[str, Any]) -> bytes:
    if isinstance(facts.get("cut"), int):
        return data[: max(0, facts["cut"])]
    changed = bytearray(data)
    for flip in facts.get("flips", []):
        if isinstance(flip, list) and len(flip) == 2 and 0 <= flip[0] < len(changed):
            changed[flip[0]] ^= flip[1] & 0xFF
    return bytes(changed)


def _rewrite(path: Path, table: str, column: str, kind: str, number: str, at: int) -> None:
    """Write something else into a cell, as another program would."""
    if (table, column) not in _COLUMNS:
        return
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        (old,) = connection.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone()  # noqa: S608 - of a fixed list
        text = old if isinstance(old, str) else old.decode("latin-1") if isinstance(old, bytes) else str(old)
        digits = [place for place, letter in enumerate(text) if letter.isdigit()]
        new: str | bytes | float | None = number
        if kind == "digit" and digits:
            place = digits[at % len(digits)]
            exchanged = str((int(text[place]) + 1 + at) % 10)
            new = f"{text[:place]}{exchanged}{text[place + 1 :]}"
            new = new.encode("latin-1") if isinstance(old, bytes) else new
        elif kind == "number":
            new = float(number) if "." in number or "e" in number.lower() else 7
        elif kind == "edge":
            new = _EDGES[at % len(_EDGES)]
        elif kind == "blob":
            new = number.encode()
        elif kind == "null":
            new = None
        elif column == "counters":
            new = json.dumps({"credits": 0}).replace("0", number)
        one = "key IN (SELECT key" if table == "record" else "rowid IN (SELECT rowid"
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {one} FROM {table} LIMIT 1)", (new,))  # noqa: S608
    except (sqlite3.Error, OverflowError, ValueError, TypeError):
        return
    finally:
        connection.close()
