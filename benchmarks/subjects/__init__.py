"""What is measured, one module a subject.

A module has ``tables(pace)``, which yields one table or more, each measured when it is asked for. To add one, write the
module and name it here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from benchmarks.contest import Pace
from benchmarks.table import Table

__all__ = ["SUBJECTS", "load"]

SUBJECTS = (
    "memory",
    "threads",
    "refusal",
    "transport",
    "client",
    "cached",
    "herd",
    "handover",
    "sqlite",
    "schedule",
    "valkey",
    "wake",
    "growth",
    "imports",
)
"""In the order they are measured in."""


def load(name: str) -> Callable[[Pace], Iterator[Table]]:
    """Find what measures a subject."""
    module = importlib.import_module(f"{__name__}.{name}")
    tables: Callable[[Pace], Iterator[Table]] = module.tables
    return tables
