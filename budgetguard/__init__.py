"""Admit, queue or refuse paid API calls before they are sent.

Put a `Guard` in front of an httpx client for a provider that is paid from prepaid credits and runs only so many tasks
at once. It knows the balance and the running tasks, knows what it has promised since, and never lets a call through
that the provider would refuse.
"""

from __future__ import annotations

from budgetguard._version import __version__
from budgetguard.errors import (
    BudgetGuardError,
    CallbackError,
    CreditsUnavailable,
    InsufficientCredits,
    InsufficientSlots,
    PermitError,
    ProviderError,
    QueueFull,
    QueueTimeout,
    ReadingError,
    Refused,
    SettingError,
    StoreError,
    UnknownPrice,
)
from budgetguard.guard import AsyncGuard, Guard
from budgetguard.model import PoolState, Quote, Recovered, State, TaskState
from budgetguard.permit import AsyncPermit, Permit
from budgetguard.plan import Plan, PlannedJob
from budgetguard.policy import Policy
from budgetguard.pool import AsyncPool, JobResult, Pool, PoolReport
from budgetguard.task_errors import NoResult, TaskFailed, TaskNotStarted, TaskUnfinished
from budgetguard.transport import AsyncGuardTransport, GuardTransport

__all__ = [
    "AsyncGuard",
    "AsyncGuardTransport",
    "AsyncPermit",
    "AsyncPool",
    "BudgetGuardError",
    "CallbackError",
    "CreditsUnavailable",
    "Guard",
    "GuardTransport",
    "InsufficientCredits",
    "InsufficientSlots",
    "JobResult",
    "NoResult",
    "Permit",
    "PermitError",
    "Plan",
    "PlannedJob",
    "Policy",
    "Pool",
    "PoolReport",
    "PoolState",
    "ProviderError",
    "QueueFull",
    "QueueTimeout",
    "Quote",
    "ReadingError",
    "Recovered",
    "Refused",
    "SettingError",
    "State",
    "StoreError",
    "TaskFailed",
    "TaskNotStarted",
    "TaskState",
    "TaskUnfinished",
    "UnknownPrice",
    "__version__",
]
