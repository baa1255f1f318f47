"""Tries cases for as long as there is time, keeps what broke a promise, and makes it smaller."""

from __future__ import annotations

import collections
import hashlib
import logging
import random
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from tests.fuzz.target import Target
from tests.fuzz.targets import made

__all__ = ["Found", "Tally", "fault_of", "kept", "read", "share", "shrunk", "tried"]

_SHRINKING = 5.0
"""Seconds spent on making one finding smaller."""
_SLICE = 2.0
"""Seconds a target is tried before the next one has its turn."""
_KINDS_MAX = 20


@dataclass(slots=True)
class Found:
    """A case that broke a promise, and how."""

    target: str
    case: bytes
    fault: str
    detail: str


@dataclass(slots=True)
class Tally:
    """What became of one target."""

    target: str
    tried: int = 0
    broken: int = 0
    seconds: float = 0.0
    found: list[Found] = field(default_factory=list[Found])


def fault_of(target: Target, case: bytes) -> tuple[str, str]:
    """Try a case; gives a name of what went wrong, the same for the same fault, and the story. Empty if nothing did."""
    try:
        target.run(case)
    except Exception as error:  # noqa: BLE001 - whatever it was is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}", "".join(
            traceback.format_exception(error, limit=-6)
        )
    return "", ""


def tried(target: Target, seed: int, until: Callable[[Tally], bool], tally: Tally | None = None) -> Tally:
    """Try cases one after another; the one of each number is the same for the same seed."""
    tally = Tally(target.name) if tally is None else tally
    kinds = collections.Counter(found.fault for found in tally.found)
    begun = time.perf_counter()
    while not until(tally):
        case = target.draw(random.Random(f"{seed} {target.name} {tally.tried}"))
        tally.tried += 1
        fault, detail = fault_of(target, case)
        if fault:
            tally.broken += 1
            kinds[fault] += 1
            if kinds[fault] == 1 and len(kinds) <= _KINDS_MAX:
                tally.found.append(Found(target.name, shrunk(target, case, fault), fault, detail))
    tally.seconds += time.perf_counter() - begun
    return tally


def share(names: Sequence[str], seed: int, seconds: float) -> list[Tally]:
    """Try some targets in turn until the time is over. A process of its own may do it."""
    config = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # complaints are wanted
    targets = {name: made(name) for name in names}
    tallies = {name: Tally(name) for name in names}
    end = time.perf_counter() + seconds
    try:
        while time.perf_counter() < end:
            for name, target in targets.items():
                turn = min(end, time.perf_counter() + _SLICE)
                tried(target, seed, lambda _, turn=turn: time.perf_counter() >= turn, tallies[name])  # type: ignore[misc]
    finally:
        structlog.configure(**config)
        for target in targets.values():
            target.close()
    return list(tallies.values())


def shrunk(target: Target, case: bytes, fault: str, seconds: float = _SHRINKING) -> bytes:
    """Leave out of a case what is not needed for the same fault."""
    end = time.perf_counter() + seconds
    size = len(case) // 2
    while size and time.perf_counter() < end:
        at = 0
        while at < len(case) and time.perf_counter() < end:
            smaller = case[:at] + case[at + size :]
            if fault_of(target, smaller)[0] == fault:
                case = smaller
            else:
                at += size
        size //= 2
    return case


def kept(found: Found, folder: Path) -> Path:
    """Write a finding down, to be tried again."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(found.case).hexdigest()[:12]
    path = folder / f"{found.target}-{name}.case"
    path.write_bytes(found.case)
    path.with_suffix(".txt").write_text(f"{found.fault}\n\n{found.detail}", encoding="utf-8", errors="replace")
    return path


def read(path: Path) -> tuple[str, bytes]:
    """Read a finding back: the name of its target, and the case."""
    return path.stem.rpartition("-")[0], path.read_bytes()
