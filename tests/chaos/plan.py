"""What a chaos run will do: scenes, each with its workers and its faults. All of it is drawn from one seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from budgetguard.policy import Policy
from tests.chaos.faults import EVERYWHERE, FAULTS, LAG, LEASE, SHARED, Fault

__all__ = [
    "CREDITS_TIMEOUT",
    "FLAVOURS",
    "MAX_AGE",
    "TASK_LEASE",
    "WAYS",
    "Injection",
    "Part",
    "Scene",
    "everything",
    "policy",
    "scenes",
]

FLAVOURS = ("threads", "asyncio", "trio")
WAYS = ("transport", "decorator", "pool")
CREDITS_TIMEOUT = 0.8
"""Seconds the credits endpoint has; whoever is killed while he asks keeps the others waiting 2 s longer than this."""

MAX_AGE = 0.5
"""Seconds after which whoever waits looks at the balance again."""
TASK_LEASE = 1.5
"""Seconds of `Policy.task_lease`: more than any task takes."""

_LOAD = 5.0
_LOAD_LAST = 15.0
"""Seconds for which calls are made in a scene, and in the last ones."""
_FAULTS = 4
"""Most faults of one scene."""
_FIRST, _REST = 0.7, 0.6
"""Seconds at the beginning and at the end of a scene in which nothing is injected."""
_TIGHT = {"stranger-credits", "top-up", "expiry"}
"""Faults about credits: with them there are never many."""
_TIGHT_TOO = 0.5
"""How many of the other scenes have few as well: credits that are given out twice show only where they run out."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some callers of one process: how they run, by which way they call, and how many they are."""

    flavour: str
    way: str
    width: int


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault, at one moment: *at* is in seconds after the first call."""

    at: float
    fault: str
    how: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A provider, a store, some processes, and what goes wrong.

    Attributes:
        number: Its place in the run.
        seed: Where its chance comes from.
        store: ``"memory"``, ``"sqlite"`` or ``"valkey"``.
        provider: ``"vidu"`` or ``"udio"``.
        mode: What the provider does with a submit above the limit: ``"reject"`` or ``"queue"``.
        limit: Most tasks it runs at once.
        calls: How many calls the balance pays for at the beginning.
        supply: Where that is not many: when it is topped up, and by how many calls.
        workers: The parts of each process.
        faults: What may go wrong.
        injections: When it does.
        load: Seconds for which calls are made.
    """

    number: int
    seed: int
    store: str
    provider: str
    mode: str
    limit: int
    calls: int
    supply: list[tuple[float, int]]
    workers: list[list[Part]]
    faults: list[str]
    injections: list[Injection] = field(default_factory=list)
    load: float = _LOAD

    @property
    def lag(self) -> float:
        """Seconds by which the balance lags."""
        return LAG if "balance-lag" in self.faults else 0.0

    @property
    def persistent(self) -> bool:
        """Whether a server must have its data again after a restart."""
        return not {"server-empty", "server-wiped"} & set(self.faults)

    @property
    def title(self) -> str:
        parts = ", ".join(" + ".join(f"{p.width} {p.flavour}/{p.way}" for p in worker) for worker in self.workers)
        return f"{self.store}, {self.provider} ({self.mode}, limit {self.limit}), {parts}: {', '.join(self.faults)}"

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain values, for the log."""
        return asdict(self)


def policy(lag: float) -> Policy:
    """Scale the policy's times to tasks that take half a second."""
    return Policy(
        max_age=MAX_AGE,
        max_stale=2.0,
        min_interval=0.05,
        recheck_after=0.05,
        credits_timeout=CREDITS_TIMEOUT,
        stale_if_error=2.0,
        backoff=0.1,
        backoff_max=0.5,
        lease=LEASE,
        task_lease=TASK_LEASE,
        settlement_lag=lag,
    )


def scenes(seed: int) -> Iterator[Scene]:
    """Draw the scenes of a run, without end. Every pass through them has every fault once; no two passes are alike."""
    number = itertools.count()
    for lap in itertools.count():
        rng = random.Random(f"{seed} {lap}")
        left = list(FAULTS.values())
        rng.shuffle(left)
        while left:
            first = left.pop(0)
            store, provider = rng.choice(first.stores), rng.choice(first.providers)
            chosen = [first]
            for other in [] if first.alone else list(left):
                if len(chosen) == _FAULTS:
                    break
                if store in other.stores and provider in other.providers and not other.alone:
                    left.remove(other)
                    chosen.append(other)
            here = next(number)
            yield _draw(random.Random(f"{seed} scene {here}"), here, store, provider, chosen)


def first_pass(seed: int) -> int:
    """Find the number of the scene with which every fault has had its turn."""
    left = set(FAULTS)
    for scene in scenes(seed):
        left -= set(scene.faults)
        if not left:
            return scene.number
    raise AssertionError


def everything(seed: int, number: int, store: str) -> Scene:
    """Draw one of the last scenes, in which everything happens that can."""
    rng = random.Random(f"{seed} everything {store}")
    chosen = [fault for fault in FAULTS.values() if store in fault.stores and fault.name != "balance-lag"]
    if rng.random() < 0.5:
        chosen.append(FAULTS["balance-lag"])
    return _draw(rng, number, store, "vidu", chosen, load=_LOAD_LAST)


def _draw(
    rng: random.Random, number: int, store: str, provider: str, faults: list[Fault], *, load: float = _LOAD
) -> Scene:
    names = [fault.name for fault in faults]
    assert store in EVERYWHERE
    injections = []
    for fault in faults:
        times = 0 if fault.whole else 1 if load == _LOAD_LAST else rng.randint(*fault.times)
        for _ in range(times):
            at = round(rng.uniform(_FIRST, load - _REST), 2)
            injections.append(Injection(at, fault.name, fault.draw(rng)))
    tight = bool(_TIGHT & set(names)) or rng.random() < _TIGHT_TOO
    return Scene(
        number=number,
        seed=rng.randrange(10**6),
        store=store,
        provider=provider,
        mode="reject" if provider == "udio" else rng.choice(("reject", "queue")),
        limit=rng.randint(5, 8),
        calls=rng.randint(8, 20) if tight else 100_000,
        supply=[(round(at / 2 + 0.5, 1), rng.randint(3, 7)) for at in range(int(load * 2) - 2)] if tight else [],
        workers=_workers(rng, store),
        faults=names,
        injections=sorted(injections, key=lambda injection: injection.at),
        load=load,
    )


def _workers(rng: random.Random, store: str) -> list[list[Part]]:
    """Draw who calls: each flavour and each way is there once, in one process or in three."""
    ways = rng.sample(WAYS, 3)
    parts = [Part(flavour, way, rng.randint(3, 5)) for flavour, way in zip(FLAVOURS, ways, strict=True)]
    if store not in SHARED:
        return [parts]
    return [[part] for part in parts]
