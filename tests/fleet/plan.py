"""What a fleet is to do: how many processes, which jobs, on which terms. Everything drawn comes from one seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from budgetguard.model import Route, RouteKind
from budgetguard.policy import Policy
from budgetguard.providers import Vidu

__all__ = ["KEY", "Job", "Plan", "Way", "policy"]

KEY = "fleet-key"
Way = Literal["threads", "tasks", "both"]

_KINDS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("text2video", {"model": "viduq2", "prompt": "a fox in the snow", "duration": 5, "resolution": "720p"}),
    ("text2video", {"model": "viduq2", "prompt": "a harbour at dawn", "duration": 4, "resolution": "540p"}),
    ("text2audio", {"model": "audio1.0", "prompt": "waves", "duration": 10}),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One generation: where it is posted, with which body, what it costs and how long it runs."""

    name: str
    path: str
    body: Mapping[str, Any]
    credits: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run of a fleet.

    Attributes:
        processes: How many there are.
        jobs: Jobs in all; each process has its share.
        limit: Most tasks the provider runs at once.
        threads: Threads, or tasks, of each process.
        seconds: How long a generation runs, at least and at most.
        poll: Seconds between two polls of a task.
        latency: Seconds a submit is on its way, on average.
        lease: The policy's lease.
        patience: Seconds a call to the store may take.
        spare: Credits on the account above what the jobs cost.
        way: Whether the processes use threads, tasks of an event loop, or every other one the one or the other.
        seed: Where all chance comes from.
        time_max: Seconds after which a run is given up.
    """

    processes: int = 8
    jobs: int = 400
    limit: int = 40
    threads: int = 14
    seconds: tuple[float, float] = (1.2, 2.0)
    poll: float = 0.15
    latency: float = 0.01
    lease: float = 10.0
    patience: float = 5.0
    spare: int = 0
    way: Way = "both"
    seed: int = 1
    time_max: float = 90.0

    def batch(self) -> list[list[Job]]:
        """Draw each process's jobs."""
        rng = random.Random(self.seed)
        prices = Vidu()
        shares: list[list[Job]] = [[] for _ in range(self.processes)]
        for number in range(self.jobs):
            path, body = _KINDS[number % len(_KINDS)]
            name = f"job-{number}"
            credits = prices.quote(Route(RouteKind.SUBMIT, path), body).credits
            job = Job(name, path, {**body, "payload": name}, credits, rng.uniform(*self.seconds))
            shares[number % self.processes].append(job)
        return shares

    def way_of(self, process: int) -> str:
        """Tell how a process does its jobs."""
        if self.way == "both":
            return "tasks" if process % 2 else "threads"
        return self.way


def policy(lease: float) -> Policy:
    """Scale the policy's times to generations that take seconds, not minutes."""
    return Policy(max_age=0.5, min_interval=0.05, recheck_after=0.05, credits_timeout=2.0, lease=lease)
