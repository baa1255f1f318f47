"""What ``import budgetguard`` adds to a program that has imported httpx already, in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.contest import Contest, Pace
from benchmarks.table import VALUE, Goal, Kind, Table

_BESIDE = ("limits", "pyrate_limiter", "structlog", "throttled", "hishel.httpx", "anyio", "cachetools")


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    reference = "import httpx"
    note = "All but httpx itself are imported after httpx; the figure is what they add. The files are in the cache."
    contest = Contest(
        "import in a fresh interpreter", reference, pace, unit="ms", rounds=3 if pace.fast else 9, note=note
    )

    def row(name: str, module: str, first: str, kind: Kind, goals: tuple[Goal, ...] = ()) -> None:
        def importing() -> float:
            return milliseconds(module, first)

        contest.run(name, importing, kind=kind, goals=goals, prepare=importing)  # once to fill the caches

    row(reference, "httpx", "time", "floor")
    row("import budgetguard", "budgetguard", "httpx", "ours", (Goal(15, 8, of=VALUE),))
    for module in _BESIDE[:3] if pace.fast else _BESIDE:
        row(f"import {module}", module, "httpx", "peer")
    yield contest.table()


def milliseconds(module: str, first: str) -> float:
    """Give the milliseconds it takes to import *module* after *first*.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    code = (
        f"import {first}, time\n"
        "begin = time.perf_counter()\n"
        f"import {module}\n"
        "print((time.perf_counter() - begin) * 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        missing = done.stderr.strip().splitlines()[-1:]
        raise ModuleNotFoundError(" ".join(missing), name=module)
    return float(done.stdout)
