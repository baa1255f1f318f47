"""What ``import budgetguard`` adds to a program that has imported httpx already, in a fresh interpreter."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.contest import Contest, Pace
from benchmarks.table import VALUE, Goal, Kind, Table

_BESIDE = ("limits", "pyrate_limiter", "structlog", "throttled", "hishel.httpx", "anyio", "cachetools")


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    reference = "import httpx"
    note = (
        "All but httpx are imported after httpx; the figure is the processor time they add. All are compiled already."
    )
    contest = Contest(
        "import in a fresh interpreter", reference, pace, unit="ms", rounds=2 if pace.fast else 9, note=note
    )

    def row(name: str, statement: str, first: str, kind: Kind, goals: tuple[Goal, ...] = ()) -> None:
        def importing() -> float:
            return milliseconds(statement, first)

        contest.run(name, importing, kind=kind, goals=goals, prepare=importing)  # once to fill the caches

    row(reference, reference, "time", "floor")
    row("import budgetguard", "import budgetguard", "httpx", "ours", (Goal(15, 8, of=VALUE),))
    guard = "from budgetguard import Guard"
    row(guard, guard, "httpx", "ours")
    row(f"{guard}, and Vidu", f"{guard}; from budgetguard.providers import Vidu", "httpx", "ours")
    for module in _BESIDE[:3] if pace.fast else _BESIDE:
        row(f"import {module}", f"import {module}", "httpx", "peer")
    yield contest.table()


def milliseconds(statement: str, first: str) -> float:
    """Give the milliseconds a statement that imports something takes after *first* was imported.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    code = (
        f"import {first}, time\nbegin = time.process_time()\n{statement}\nprint((time.process_time() - begin) * 1000)"
    )
    # What is compiled is kept, also where the environment asks that it be not: compiling is none of what is measured.
    names = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    names["PYTHONPYCACHEPREFIX"] = _kept().name
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=names)
    if done.returncode:
        missing = done.stderr.strip().splitlines()[-1:]
        raise ModuleNotFoundError(" ".join(missing), name=statement)
    return float(done.stdout)


@functools.cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="budgetguard-compiled-")
