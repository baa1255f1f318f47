"""The third way in: pools of workers that follow the live limit."""

from __future__ import annotations

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
