"""Guards to measure: on accounts that never run short, whose provider answers in the same process and at once."""

from __future__ import annotations

from typing import Any

import httpx

from budgetguard import AsyncGuard, Guard, Policy
from budgetguard.providers import Vidu

__all__ = ["CALM", "KEY", "MANY", "async_guard", "balance", "guard", "wallet"]

KEY = "benchmark"
MANY = 10**9
"""Slots that nobody uses up."""

CALM = Policy(max_age=1e6, max_stale=1e6, stale_if_error=1e6)
"""One reading lasts."""


def balance(credits: int = 10**14, limit: int = MANY, running: int = 0) -> dict[str, Any]:
    """Build what Vidu's credits endpoint answers."""
    row = {"type": "metered", "credit_remain": credits, "concurrency_limit": limit, "current_concurrency": running}
    return {"remains": [{**row, "queue_count": 0}]}


def wallet(credits: int = 10**14, limit: int = MANY) -> httpx.MockTransport:
    """Build a transport that answers every question with the same balance."""
    document = balance(credits, limit)
    return httpx.MockTransport(lambda _: httpx.Response(200, json=document))


def guard(inner: httpx.BaseTransport | None = None, **settings: Any) -> Guard:
    """Make a guard that has its first reading."""
    made = Guard(Vidu(), policy=settings.pop("policy", CALM), api_key=KEY, inner=inner or wallet(), **settings)
    made.reserve(credits=1).release()
    return made


async def async_guard(inner: httpx.AsyncBaseTransport | None = None, **settings: Any) -> AsyncGuard:
    """Make a guard that has its first reading."""
    made = AsyncGuard(Vidu(), policy=settings.pop("policy", CALM), api_key=KEY, inner=inner or wallet(), **settings)
    await (await made.reserve(credits=1)).release()
    return made
