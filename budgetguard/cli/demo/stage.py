"""What happens on the account while the batch runs: a stranger, and a limit that changes.

The scene is the same, second for second, in every run. What is ours to use (the limit less the stranger's slots) grows
or stays: the stranger takes slots that were there before the batch, and some of those a raised limit adds in the same
instant; the limit is lowered when he leaves. Were he to take a slot that has just come free, somebody would be refused
once: neither of the two can know of the other between two readings. That is what ``Policy(slots_headroom=...)`` is for;
it costs slots, so the demonstration does without.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from budgetguard.cli.demo.jobs import Work, draw
from budgetguard.testing import FakeVidu

__all__ = ["Act", "Scene", "Stage", "scene"]

KEY = "demo-key"
LATENCY_SECONDS = 0.01
_AFFORDABLE = 0.78
_JOBS = 60
_LIMITS = (6, 12, 10)
_STRANGER = (2, 2)
_MEAN_SECONDS = 2.55


@dataclass(frozen=True, slots=True)
class Act:
    """One change of the account.

    Attributes:
        at: Seconds after the batch began.
        limit: The limit from then on.
        foreign: The slots the stranger holds from then on.
        spends: Credits the stranger takes.
        says: What a spectator is told.
    """

    at: float
    limit: int
    foreign: int
    spends: int
    says: str

    @property
    def ours(self) -> int:
        """Slots that are ours to use from then on."""
        return self.limit - self.foreign


@dataclass(frozen=True, slots=True)
class Scene:
    """A batch, an account, and what happens to it. The first act is how things stand when the batch begins."""

    seed: int
    work: Work
    credits: int
    threads: int
    acts: tuple[Act, ...]


def scene(jobs: int, seed: int) -> Scene:
    """Make up a scene whose account does not suffice for all jobs, in credits and in slots."""
    rng = random.Random(seed)  # noqa: S311 - chance that can be repeated
    work = draw(jobs, rng)
    share = max(0.5, min(1.0, jobs / _JOBS))
    first, raised, last = (round(limit * share) for limit in _LIMITS)
    early, late = (max(1, round(slots * share)) for slots in _STRANGER)
    prices = [work.price(job) for job in work.jobs]
    threads = min(raised + 6, max(2, jobs * 2 // 3))
    # The stranger spends while there is enough for everything begun so far; later it is short for the batch anyway.
    ours = max(round(sum(prices) * _AFFORDABLE), sum(prices[: threads + 2]))
    spends = [rng.randint(4, 9) * 10 for _ in range(2)]
    total = jobs * _AFFORDABLE * _MEAN_SECONDS / (raised - late)
    acts = (
        Act(0.0, first, early, 0, f"limit {first}, stranger holds {early}"),
        Act(0.08 * total, first, early, spends[0], f"stranger spends {spends[0]} credits"),
        Act(0.16 * total, first, early, spends[1], f"stranger spends {spends[1]} credits"),
        Act(0.25 * total, first, 0, 0, "stranger leaves"),
        Act(0.5 * total, raised, late, 0, f"limit {raised}, stranger takes {late}"),
        Act(0.8 * total, last, 0, 0, f"stranger leaves, limit {last}"),
    )
    return Scene(seed, work, ours + sum(spends), threads, acts)


class Stage:
    """A fake Vidu with a scene played on it. Safe to share between threads.

    Args:
        scene: What is played.
        told: Called with each act as it happens, in whatever thread the provider works in; must be quick.
    """

    def __init__(self, scene: Scene, told: Callable[[Act], None]) -> None:
        self.scene = scene
        self.fake = FakeVidu(
            credits=scene.credits,
            limit=scene.acts[0].limit,
            mode="reject",
            keys=KEY,
            duration=scene.work.duration,
            latency=LATENCY_SECONDS,
            seed=scene.seed,
        )
        self._told = told
        self._lock = threading.Lock()
        self._room: list[tuple[float, int]] = []
        self.fake.stranger_takes(slots=scene.acts[0].foreign)

    def begin(self) -> None:
        """Start the clock of the scene."""
        self._play(self.scene.acts[0])
        for act in self.scene.acts[1:]:
            self.fake.later(act.at, lambda act=act: self._play(act))  # type: ignore[misc]

    @property
    def room(self) -> list[tuple[float, int]]:
        """From when on how many slots were ours to use, in seconds of the fake's clock."""
        with self._lock:
            return list(self._room)

    def _play(self, act: Act) -> None:
        fake = self.fake
        foreign = fake.state.foreign
        if act.foreign < foreign:
            fake.strangers_leave()
            foreign = 0
        fake.set_limit(act.limit)
        fake.stranger_takes(slots=act.foreign - foreign, credits=act.spends)
        with self._lock:
            self._room.append((fake.clock.monotonic(), act.ours))
        self._told(act)
