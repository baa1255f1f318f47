"""A provider that runs so many jobs at once and refuses more, in process and in real time, and its best schedule."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Sequence

import httpx

from benchmarks.stage import balance

__all__ = ["Plan", "Simulated", "TooMany", "Wire", "draw", "list_schedule"]

Plan = Sequence[tuple[float, int]]
"""Seconds from the beginning, and the limit from then on."""

_REFUSING = 0.001
"""Seconds a refusal takes."""


class TooMany(Exception):
    """The provider refused a job: so many run already."""


class Simulated:
    """Runs jobs for as long as they take. The plan begins when it is made, or when `begin` is called.

    Args:
        plan: How the limit moves.
        strangers: Slots that others have, all the time.
        asking: Seconds a credits request takes.
    """

    def __init__(self, plan: Plan, *, strangers: int = 0, asking: float = 0.005) -> None:
        self._plan = plan
        self._strangers = strangers
        self._asking = asking
        self._ids = itertools.count()
        self.running = 0
        self.begin()

    def begin(self) -> None:
        """Begin now: whoever has something to prepare has done so."""
        self.began = time.perf_counter()
        self.refused = 0
        self.readings = 0

    @property
    def limit(self) -> int:
        """The limit now."""
        passed = time.perf_counter() - self.began
        return next(limit for seconds, limit in reversed(self._plan) if seconds <= passed)

    async def call(self, seconds: float) -> None:
        """Run a job to its end.

        Raises:
            TooMany: If as many run as may.
        """
        await self._admit()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1

    async def start(self, seconds: float) -> str:
        """Start a job as a task, and give its id at once.

        Raises:
            TooMany: If as many run as may.
        """
        await self._admit()
        asyncio.get_running_loop().call_later(seconds, self._ended)
        return f"task-{next(self._ids)}"

    async def _admit(self) -> None:
        if self.running + self._strangers >= self.limit:
            self.refused += 1
            await asyncio.sleep(_REFUSING)
            raise TooMany
        self.running += 1

    def _ended(self) -> None:
        self.running -= 1

    async def reading(self) -> tuple[int, int]:
        """Tell the limit and how many run, whoever's they are, as of the middle of the request."""
        self.readings += 1
        await asyncio.sleep(self._asking / 2)
        found = self.limit, self.running + self._strangers
        await asyncio.sleep(self._asking / 2)
        return found


class Wire(httpx.AsyncBaseTransport):
    """Speaks to a simulated provider by requests: a job's seconds stand in a header; its answer comes at its end."""

    def __init__(self, provider: Simulated) -> None:
        self._provider = provider

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        if request.method == "GET":
            limit, running = await self._provider.reading()
            return httpx.Response(200, json=balance(limit=limit, running=running))
        try:
            await self._provider.call(float(request.headers["x-seconds"]))
        except TooMany:
            return httpx.Response(429, content=b"{}")
        return httpx.Response(200, content=b"{}")


def draw(many: int, least: float, most: float) -> list[float]:
    """Draw the seconds of so many jobs, always the same."""
    chance = random.Random(7)
    return [chance.uniform(least, most) for _ in range(many)]


def list_schedule(plan: Plan, jobs: Sequence[float]) -> float:
    """Give the seconds it takes when jobs begin in their order, each as soon as the limit lets it, at no cost."""
    moves = [*plan[1:], (float("inf"), 0)]
    limit = plan[0][1]
    waiting, ends, now = list(reversed(jobs)), list[float](), 0.0
    while waiting or ends:
        while waiting and len(ends) < limit:
            heapq.heappush(ends, now + waiting.pop())
        if moves[0][0] <= (ends[0] if ends else float("inf")):
            now, limit = moves.pop(0)
        else:
            now = heapq.heappop(ends)
    return now
