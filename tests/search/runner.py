"""Runs many schedules, in several processes, and adds up what they met."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.search.life import live
from tests.search.mirror import Broken
from tests.search.mutations import MUTATIONS, Mutation
from tests.search.scenario import draw, kind_of

__all__ = ["Caught", "Found", "Tally", "break_one", "catch", "search"]

_CHUNK = 200
_WORKS = "the code works"


@dataclass(frozen=True, slots=True)
class Found:
    """A schedule that broke a promise."""

    seed: int
    kind: str
    promise: str
    what: str


@dataclass(slots=True)
class Tally:
    """What a number of schedules came to."""

    schedules: int = 0
    steps: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    waited: dict[str, int] = field(default_factory=dict)
    """The longest that a head of a line waited beside room of each kind, in microseconds."""
    found: list[Found] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.kinds += other.kinds
        self.met += other.met
        for kind, longest in other.waited.items():
            self.waited[kind] = max(longest, self.waited.get(kind, 0))
        self.found += other.found


@dataclass(frozen=True, slots=True)
class Caught:
    """What became of a deliberate mutation of the rule."""

    name: str
    schedules: int
    found: Found | None


def break_one(seed: int, tally: Tally | None = None, *, books: bool = True) -> Found | None:
    """Run one schedule; give the promise it breaks, if any."""
    try:
        world = live(draw(seed), books=books)
    except Broken as broken:
        return Found(seed, kind_of(seed), broken.promise, str(broken))
    except Exception as error:  # noqa: BLE001 - a flow that fails breaks a promise too
        return Found(seed, kind_of(seed), _WORKS, f"{type(error).__name__}: {error}")
    if tally is not None:
        tally.steps += world.steps
        tally.met += world.counted
        tally.met += world.watch.counted
        for kind, longest in world.watch.patience.longest.items():
            tally.waited[kind] = max(longest, tally.waited.get(kind, 0))
    return None


def _run(seeds: range) -> Tally:
    tally = Tally()
    for seed in seeds:
        tally.schedules += 1
        tally.kinds[kind_of(seed)] += 1
        found = break_one(seed, tally)
        if found is not None:
            tally.found.append(found)
    return tally


def search(
    first: int,
    schedules: int,
    *,
    processes: int = 1,
    progress: Callable[[Tally, list[Found], float], None] | None = None,
) -> Tally:
    """Run so many schedules from the *first* seed on. *progress* is told the sum, what is new, and the seconds."""
    total, begun = Tally(), time.perf_counter()
    for tally in _mapped(
        [range(at, min(at + _CHUNK, first + schedules)) for at in range(first, first + schedules, _CHUNK)], processes
    ):
        total.add(tally)
        if progress is not None:
            progress(total, tally.found, time.perf_counter() - begun)
    return total


def _mapped(chunks: list[range], processes: int) -> Iterator[Tally]:
    if processes == 1:
        yield from map(_run, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_run, chunks)


def catch(mutation: Mutation, first: int, schedules: int) -> Caught:
    """Apply a mutation and run schedules until one of them breaks a promise.

    Only schedules of the classes in which the mutation can show are run, and only the promises count: that the counters
    contradict the records would be too easy to see.
    """
    tried, seed = 0, first
    while tried < schedules:
        if not mutation.kinds or kind_of(seed) in mutation.kinds:
            tried += 1
            with mutation.applied():
                found = break_one(seed, books=False)
            if found is not None and found.promise != _WORKS and break_one(seed, books=False) is None:
                return Caught(mutation.name, tried, found)
        seed += 1
    return Caught(mutation.name, tried, None)


def _catch(task: tuple[str, int, int]) -> Caught:
    name, first, schedules = task
    return catch(MUTATIONS[name], first, schedules)


def catch_all(first: int, schedules: int, *, processes: int = 1) -> Iterator[Caught]:
    """Try every mutation."""
    tasks = [(name, first, schedules) for name in MUTATIONS]
    if processes == 1:
        yield from map(_catch, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_catch, tasks)
