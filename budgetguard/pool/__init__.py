"""The third way in: pools of workers that follow the live limit."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budgetguard.pool.blocking import Results
    from budgetguard.pool.concurrent import Arrivals
    from budgetguard.pool.handle import PoolJob
    from budgetguard.pool.pools import AsyncPool, Pool
    from budgetguard.pool.progress import PoolProgress
    from budgetguard.pool.report import JobResult, NotRun, PoolReport

__all__ = [
    "Arrivals",
    "AsyncPool",
    "JobResult",
    "NotRun",
    "Pool",
    "PoolJob",
    "PoolProgress",
    "PoolReport",
    "Results",
]

# Loaded when they are first asked for: a guard offers a pool, and most programs make none.
_HOMES = {
    "Results": "blocking",
    "Arrivals": "concurrent",
    "PoolJob": "handle",
    "AsyncPool": "pools",
    "Pool": "pools",
    "PoolProgress": "progress",
    "JobResult": "report",
    "NotRun": "report",
    "PoolReport": "report",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
