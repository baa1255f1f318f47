"""The user's own code: a batch of generations in threads, with httpx, as it was before the guard.

Nothing here knows of budgetguard. `run` and `generate` are what all three runs share; under the guard they run as they
are, with ``transport=guard.transport()`` in the client. `generate_carefully` is what one writes without a guard: a
semaphore of the size the account had when the code was written, and patience on a 429.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import httpx

__all__ = ["Job", "generate", "generate_carefully", "run"]

POLL_SECONDS = 0.1
BACKOFF_SECONDS = 0.1
BACKOFF_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """One generation: where it is posted, and with which body."""

    path: str
    body: Mapping[str, Any]


def generate(client: httpx.Client, job: Job) -> str:
    """Start a generation, wait until it has ended, and say how.

    Raises:
        httpx.HTTPStatusError: If the provider does not take it.
    """
    answer = client.post(f"/ent/v2/{job.path}", json=job.body).raise_for_status()
    task_id = answer.json()["task_id"]
    while True:
        time.sleep(POLL_SECONDS)
        answer = client.get(f"/ent/v2/tasks/{task_id}/creations").raise_for_status()
        state: str = answer.json()["state"]
        if state in ("success", "failed"):
            return state


def generate_carefully(client: httpx.Client, job: Job, slots: AbstractContextManager[Any]) -> str:
    """Do the same with a semaphore, and try again as often as the provider says that too many tasks run."""
    with slots:
        pause = BACKOFF_SECONDS
        while True:
            try:
                return generate(client, job)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 429:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(2 * pause, BACKOFF_SECONDS_MAX)


def run(work: Callable[[Job], str], jobs: Iterable[Job], threads: int) -> Iterator[tuple[Job, str | Exception]]:
    """Do all jobs in threads; give each with how it ended, as they end."""
    with ThreadPoolExecutor(max_workers=threads) as pool:
        futures = {pool.submit(work, job): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], error if isinstance(error, Exception) else future.result()
