"""What it costs to ask what is known, without asking the provider."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import cachetools

from benchmarks import stage
from benchmarks.contest import Contest, Pace
from benchmarks.statement import Names
from benchmarks.table import Goal, Table


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    reference = "dict, time.monotonic()"
    contest = Contest("read what is known of an account", reference, pace, clock=time.process_time)
    contest.statement(
        reference,
        "value, until = kept['a']\nfresh = monotonic() < until",
        lambda: {"kept": {"a": (42, 1e12)}, "monotonic": time.monotonic},
        kind="floor",
    )
    contest.statement(
        "budgetguard state()", "guard.state()", lambda: {"guard": stage.guard()}, kind="ours", goals=(Goal(4, 2),)
    )
    contest.statement("cachetools.TTLCache", "kept['a']", _ttl_cache)
    contest.statement(
        "cachetools.TTLCache and a lock",
        "with lock:\n    kept['a']",
        lambda: {**_ttl_cache(), "lock": threading.Lock()},
    )
    yield contest.table()


def _ttl_cache() -> Names:
    kept: cachetools.TTLCache[str, int, float] = cachetools.TTLCache(8, 1e6, time.monotonic)
    kept["a"] = 42
    return {"kept": kept}
