"""The batch: mixed generations with prices from the price list and made-up running times, all drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from budgetguard.cli.demo.batch import Job
from budgetguard.model import Route, RouteKind
from budgetguard.providers.vidu import Vidu

__all__ = ["Work", "draw"]

_SECONDS = (1.5, 3.6)
_KINDS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("text2video", {"model": "viduq2", "prompt": "a harbour at dawn", "duration": 4, "resolution": "540p"}),
    ("text2video", {"model": "viduq2", "prompt": "a fox in the snow", "duration": 5, "resolution": "720p"}),
    ("text2video", {"model": "viduq3-turbo", "prompt": "a street in rain", "duration": 4, "resolution": "720p"}),
    ("text2video", {"model": "viduq3-turbo", "prompt": "a storm at sea", "duration": 8, "resolution": "1080p"}),
    ("img2video", {"model": "viduq2-turbo", "images": ["harbour.png"], "duration": 4, "resolution": "720p"}),
    ("img2video", {"model": "viduq2-pro-fast", "images": ["fox.png"], "duration": 5, "resolution": "1080p"}),
    ("start-end2video", {"model": "viduq2-turbo", "images": ["a.png", "b.png"], "duration": 3, "resolution": "720p"}),
    ("reference2video", {"model": "viduq2", "images": ["fox.png"], "prompt": "the fox runs", "duration": 4}),
    ("reference2image", {"model": "viduq2", "images": ["fox.png"], "prompt": "the fox, in oil", "resolution": "2K"}),
    ("text2audio", {"model": "audio1.0", "prompt": "waves", "duration": 10}),
)


@dataclass(frozen=True, slots=True)
class Work:
    """A batch, with what only the provider and the observer of the demonstration know of it.

    Attributes:
        jobs: The generations, in the order in which they are begun.
        seconds: How long each runs at the provider, by the name in its ``payload``.
        credits: What each costs, by the same name.
    """

    jobs: tuple[Job, ...]
    seconds: Mapping[str, float]
    credits: Mapping[str, int]

    def duration(self, path: str, body: Mapping[str, Any]) -> float:
        """Say how long a task runs: what the fake asks."""
        del path
        return self.seconds[body["payload"]]

    def price(self, job: Job) -> int:
        """Say what a job costs."""
        return self.credits[job.body["payload"]]


def draw(count: int, rng: random.Random) -> Work:
    """Draw a batch in which every kind of generation has its share."""
    provider = Vidu()
    kinds = [_KINDS[place % len(_KINDS)] for place in range(count)]
    rng.shuffle(kinds)
    jobs: list[Job] = []
    seconds: dict[str, float] = {}
    credits: dict[str, int] = {}
    for number, (path, body) in enumerate(kinds, 1):
        name = f"job-{number}"
        jobs.append(Job(path, {**body, "payload": name}))
        seconds[name] = rng.uniform(*_SECONDS)
        credits[name] = provider.quote(Route(RouteKind.SUBMIT, path), body).credits
    return Work(tuple(jobs), seconds, credits)
