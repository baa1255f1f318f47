"""Admit, queue or refuse paid API calls before they are sent.

Put a `Guard` in front of an httpx client for a provider that is paid from prepaid credits and runs only so many tasks
at once. It knows the balance and the running tasks, knows what it has promised since, and never lets a call through
that the provider would refuse.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from budgetguard._version import __version__

if TYPE_CHECKING:
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

# Loaded when they are first asked for: whoever only names an error, or looks at the version, waits for no more.
_HOMES = {
    "BudgetGuardError": "budgetguard.errors",
    "CallbackError": "budgetguard.errors",
    "CreditsUnavailable": "budgetguard.errors",
    "InsufficientCredits": "budgetguard.errors",
    "InsufficientSlots": "budgetguard.errors",
    "PermitError": "budgetguard.errors",
    "ProviderError": "budgetguard.errors",
    "QueueFull": "budgetguard.errors",
    "QueueTimeout": "budgetguard.errors",
    "ReadingError": "budgetguard.errors",
    "Refused": "budgetguard.errors",
    "SettingError": "budgetguard.errors",
    "StoreError": "budgetguard.errors",
    "UnknownPrice": "budgetguard.errors",
    "AsyncGuard": "budgetguard.guard",
    "Guard": "budgetguard.guard",
    "PoolState": "budgetguard.model",
    "Quote": "budgetguard.model",
    "Recovered": "budgetguard.model",
    "State": "budgetguard.model",
    "TaskState": "budgetguard.model",
    "AsyncPermit": "budgetguard.permit",
    "Permit": "budgetguard.permit",
    "Plan": "budgetguard.plan",
    "PlannedJob": "budgetguard.plan",
    "Policy": "budgetguard.policy",
    "AsyncPool": "budgetguard.pool",
    "JobResult": "budgetguard.pool",
    "Pool": "budgetguard.pool",
    "PoolReport": "budgetguard.pool",
    "NoResult": "budgetguard.task_errors",
    "TaskFailed": "budgetguard.task_errors",
    "TaskNotStarted": "budgetguard.task_errors",
    "TaskUnfinished": "budgetguard.task_errors",
    "AsyncGuardTransport": "budgetguard.transport",
    "GuardTransport": "budgetguard.transport",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
