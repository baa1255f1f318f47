"""What a schedule is about: the provider, the policy, the calls and the mishaps, drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from budgetguard.model import Quote
from budgetguard.policy import Policy

__all__ = ["KINDS", "Call", "Job", "Scenario", "draw", "kind_of"]

SECOND = 1_000_000

KINDS = (
    "plain",
    "pools",
    "priorities",
    "unknown",
    "foreign",
    "changes",
    "killed",
    "exclusive",
    "exclusive stranger",
    "no slot data",
    "completion",
    "lag",
    "ranges",
    "failing credits",
    "slow credits",
    "long calls",
    "anything",
)
"""The classes of scenarios; a seed belongs to one of them."""

PACES = ("uniform", "starved", "bursts", "ranks")
"""How the order of events is chosen: any, one process far behind, all at once, by ranks that change now and then."""


_JOBS = 0.25
"""In how many schedules some of the calls are made inside jobs."""
_QUICK = 0.25
"""In how many more than else nobody listens, so that plain calls go the quick path."""
_LINED = 0.4
"""In how many of these there is one process and little room, so that they wait in line there."""


@dataclass(slots=True)
class Call:
    """One call somebody makes. Times in microseconds after the start."""

    at: int
    process: int
    quote: Quote
    charge: int
    """What the provider will take."""
    duration: int
    """How long its task runs."""
    fails: bool
    sync: bool
    priority: int
    deadline: float | None
    cancel_at: int | None
    polled_by: int | None
    """The process that asks about its task; ``None`` for nobody."""
    poll_every: int
    told_by_webhook: bool
    """Whether the provider says when the task has ended, perhaps before the call has its answer."""


@dataclass(slots=True)
class Job:
    """Some of the calls, inside one hold. Times in microseconds after the start."""

    at: int
    process: int
    quote: Quote
    calls: tuple[int, ...]
    together: bool
    """Whether they are made side by side."""
    kept: bool
    """Whether its lease is renewed while it lasts."""
    cancel_after: int | None


@dataclass(slots=True)
class Scenario:
    """Everything about a schedule but the order of its events. Times in microseconds unless said otherwise."""

    seed: int
    kind: str
    policy: Policy
    pace: str
    processes: int
    balance: int
    limits: dict[str, int | None]
    calls: list[Call] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    reports_slots: bool = True
    at_completion: bool = False
    lag: int = 0
    task_lease: float = 200.0
    tells_charge: bool = True
    refunds: bool = True
    hop: int = 10_000
    """The longest way to the store."""
    fetch: int = 300_000
    """The longest way to the provider's credits endpoint, one way."""
    send: int = 500_000
    """The longest way of a call to the provider, one way."""
    lost: float = 0.0
    """How likely an answer to a call is lost, or says nothing."""
    not_sent: float = 0.0
    rejected: float = 0.0
    rate: float = 0.0
    fetch_fails: float = 0.0
    foreign: list[tuple[int, int]] = field(default_factory=list)
    """Credits somebody else spends: when, how many."""
    top_ups: list[tuple[int, int]] = field(default_factory=list)
    strangers: list[tuple[int, str, int, int]] = field(default_factory=list)
    """Slots somebody else takes: when, of which pool, how many, for how long."""
    new_limits: list[tuple[int, str, int]] = field(default_factory=list)
    kills: list[tuple[int, int]] = field(default_factory=list)
    """Processes that are killed: when, which."""
    sleeps: list[tuple[int, int, int]] = field(default_factory=list)
    """Processes that are suspended: when, which, for how long."""
    questions: list[tuple[int, int, bool]] = field(default_factory=list)
    """Questions for the balance by a user's own client: when, in which process, whether cancelled halfway."""
    asks: float | None = None
    """How likely a question about a task whose lease is over fails; ``None`` where nobody can ask."""
    heartbeat: bool = False
    """Whether leases of calls being sent are renewed; needed where a call may take longer than a lease."""
    listening: bool = True
    exact: bool = True
    """Whether prices are exact or upper bounds."""
    span: int = 0
    """When the last disturbance is over."""

    @property
    def calm(self) -> bool:
        """Whether nothing fails and nobody dies, so that waiting has short bounds."""
        return not (self.kills or self.sleeps or self.fetch_fails or self.rate or self.lost)


def kind_of(seed: int) -> str:
    """Tell the class of a seed's scenario."""
    return KINDS[seed % len(KINDS)]


def draw(seed: int) -> Scenario:
    """Draw the scenario of a seed."""
    rng = random.Random(seed)
    kind = kind_of(seed)
    traits = _traits(rng, kind)
    processes = rng.choice((1, 1, 2, 2, 3))
    policy = _policy(rng, traits)
    pools = ("", "b") if "pools" in traits else ("",)
    limits: dict[str, int | None] = {pool: rng.randint(1, 4) for pool in pools}
    if rng.random() < 0.05:
        limits[""] = None
    scenario = Scenario(
        seed,
        kind,
        policy,
        pace=rng.choice(PACES),
        processes=processes,
        balance=0,
        limits=limits,
        listening=rng.random() < 0.9,
        hop=rng.choice((0, 1_000, 10_000, 100_000)),
        fetch=rng.choice((1_000, 100_000, 300_000)),
        send=rng.choice((1_000, 300_000, 1_000_000)),
        tells_charge=rng.random() < 0.6,
        refunds=rng.random() < 0.6 or policy.refund_failed,
        asks=random.Random(f"asks {seed}").choice((None, 0.0, 0.5, 1.0)),
    )
    _provider(rng, scenario, traits)
    _calls(rng, scenario, traits)
    _mishaps(rng, scenario, traits)
    if random.Random(f"quick {seed}").random() < _QUICK:
        scenario.listening = False
        if random.Random(f"line {seed}").random() < _LINED:
            _gather(scenario)
        else:
            for pool, limit in limits.items():
                limits[pool] = None if limit is None else limit + 3
    dice = random.Random(f"jobs {seed}")
    if dice.random() < _JOBS:
        scenario.jobs = _jobs(dice, scenario)
    return scenario


def _gather(scenario: Scenario) -> None:
    """Let all of it happen in one process."""
    scenario.processes, scenario.kills = 1, []
    for call in scenario.calls:
        call.process, call.polled_by = 0, None if call.polled_by is None else 0
    scenario.sleeps = [(at, 0, length) for at, _, length in scenario.sleeps]
    scenario.questions = [(at, 0, cancelled) for at, _, cancelled in scenario.questions]


def _traits(rng: random.Random, kind: str) -> frozenset[str]:
    every = ("pools", "priorities", "unknown", "foreign", "changes", "killed", "completion", "lag", "ranges")
    if kind == "anything":
        chosen = {trait for trait in (*every, "failing credits", "questions", "cancels") if rng.random() < 0.35}
        chosen |= set(rng.choice(((), (), ("exclusive",), ("no slot data",))))
    else:
        chosen = set(kind.split(" ")) if kind == "exclusive stranger" else {kind}
        chosen |= {trait for trait in ("questions", "cancels") if rng.random() < 0.3}
        if rng.random() < 0.15:
            chosen.add(rng.choice(("pools", "priorities", "unknown", "ranges")))
    if "slow credits" in chosen:
        chosen.add("questions")
    if "unknown" in chosen or (chosen & {"killed", "lag", "no slot data"} and rng.random() < 0.5):
        chosen.add("short leases")
    return frozenset(chosen)


def _policy(rng: random.Random, traits: frozenset[str]) -> Policy:
    settings: dict[str, Any] = {
        "max_age": rng.choice((2.0, 10.0, 60.0)),
        "min_interval": rng.choice((0.2, 1.0)),
        "recheck_after": 1.0,
        "credits_timeout": rng.choice((5.0, 20.0)) if "slow credits" in traits else rng.choice((2.0, 10.0)),
        "lease": 6.0 if "long calls" in traits else 30.0 if "short leases" in traits else 120.0,
        "exclusive": "exclusive" in traits,
        "refund_failed": rng.random() < 0.3,
        "resend_max": rng.choice((0, 1, 5)),
    }
    settings["max_stale"] = settings["max_age"] + rng.choice((0.0, 5.0, 50.0))
    if rng.random() < 0.25:
        settings["credits_headroom"] = rng.choice((5, 20))
    if rng.random() < 0.1:
        settings["slots_headroom"] = 1
    if "priorities" in traits:
        settings["max_waiting"] = rng.choice((1, 2, 10))
        settings["max_wait"] = rng.choice((None, 3.0, 30.0))
    if "failing credits" in traits:
        settings["on_credits_error"] = rng.choice(("closed", "closed", "open"))
        settings["backoff_max"] = rng.choice((1.0, 8.0))
    if rng.random() < 0.1:
        settings["low_balance"] = (20, 50)
    return Policy(**settings)


def _provider(rng: random.Random, scenario: Scenario, traits: frozenset[str]) -> None:
    scenario.reports_slots = "no slot data" not in traits
    scenario.at_completion = "completion" in traits
    if "lag" in traits:
        scenario.lag = rng.choice((100_000, 2 * SECOND, 20 * SECOND))
        if scenario.lag == 100_000:
            # As long as a way to the store, so that whoever dates something by an older look is found out.
            scenario.hop, scenario.fetch, scenario.send = 100_000, 1_000, 1_000
    if "slow credits" in traits:
        scenario.fetch = rng.choice((2 * SECOND, 8 * SECOND))
    if "failing credits" in traits:
        scenario.fetch_fails = rng.choice((0.2, 0.6))
    if "unknown" in traits:
        scenario.lost = rng.choice((0.1, 0.5))
        scenario.not_sent = 0.1
    if "long calls" in traits:
        scenario.heartbeat, scenario.send = True, 8 * SECOND
    if rng.random() < 0.2:
        scenario.rejected = 0.2
        scenario.rate = rng.choice((0.0, 0.5))


def _calls(rng: random.Random, scenario: Scenario, traits: frozenset[str]) -> None:
    count = rng.randint(3, 9)
    spread = rng.choice((0, SECOND, 10 * SECOND, 60 * SECOND))
    longest = rng.choice((SECOND, 5 * SECOND, 40 * SECOND))
    unpolled = rng.choice((0.0, 0.0, 0.3))
    for _ in range(count):
        pool = rng.choice(list(scenario.limits))
        limit = scenario.limits[pool]
        price = 10 * rng.randint(1, 5)
        slots = 1 if rng.random() < 0.8 else rng.choice((0, 2, limit or 1))
        low, charge = None, price
        if "ranges" in traits and rng.random() < 0.7:
            low = rng.randrange(0, price)
            charge = rng.randint(low, price)
            if rng.random() < 0.1:
                charge, scenario.exact = price + 10, False
        cancelled = rng.random() < (0.4 if "cancels" in traits else 0.0)
        at = rng.randrange(spread + 1)
        process = rng.randrange(scenario.processes)
        scenario.calls.append(
            Call(
                at=at,
                process=process,
                quote=Quote(price, slots, pool, low),
                charge=charge,
                duration=rng.randrange(1000, longest),
                fails=rng.random() < 0.15,
                sync=rng.random() < 0.15,
                priority=rng.choice((0, 0, 1)) if "priorities" in traits else 0,
                deadline=rng.choice((None, 2.0, 20.0)) if "priorities" in traits else None,
                cancel_at=at + int(10 ** rng.uniform(0, 7.5)) if cancelled else None,
                polled_by=None
                if rng.random() < unpolled
                else process
                if rng.random() < 0.8
                else rng.randrange(scenario.processes),
                poll_every=rng.choice((200_000, SECOND, 3 * SECOND)),
                told_by_webhook=rng.random() < 0.1,
            )
        )
    total = sum(call.charge for call in scenario.calls)
    scenario.balance = int(total * rng.uniform(0.4, 1.3)) + scenario.policy.credits_headroom
    scenario.span = spread + longest + max(scenario.lag, 2 * SECOND)


def _mishaps(rng: random.Random, scenario: Scenario, traits: frozenset[str]) -> None:
    span = scenario.span

    def moments(most: int) -> list[int]:
        return [rng.randrange(span) for _ in range(rng.randint(1, most))]

    pools = [pool for pool, limit in scenario.limits.items() if limit is not None]
    if "foreign" in traits:
        scenario.foreign = [(at, 10 * rng.randint(1, 6)) for at in moments(4)]
    if "foreign" in traits or "stranger" in traits:
        scenario.strangers = [
            (at, rng.choice(pools), rng.randint(1, 2), rng.randrange(1, span)) for at in moments(4) if pools
        ]
    if "changes" in traits:
        scenario.top_ups = [(at, 10 * rng.randint(1, 10)) for at in moments(3)]
        scenario.new_limits = [(at, rng.choice(pools), rng.randint(0, 5)) for at in moments(3) if pools]
    if "killed" in traits:
        scenario.kills = [(at, rng.randrange(scenario.processes)) for at in moments(2)][: scenario.processes - 1]
        scenario.sleeps = [
            (at, rng.randrange(scenario.processes), rng.choice((SECOND, 40 * SECOND, 200 * SECOND)))
            for at in moments(2)
        ]
    if "questions" in traits:
        scenario.questions = [(at, rng.randrange(scenario.processes), rng.random() < 0.2) for at in moments(4)]


def _jobs(rng: random.Random, scenario: Scenario) -> list[Job]:
    """Put some of a scenario's calls into jobs. What they hold may be too little, just enough, or too much."""
    jobs: list[Job] = []
    free = list(range(len(scenario.calls)))
    rng.shuffle(free)
    while free and rng.random() < 0.7:
        inside = sorted(free[: rng.randint(1, 3)])
        del free[: len(inside)]
        calls = [scenario.calls[number] for number in inside]
        for call in calls[1:]:
            call.process = calls[0].process
        price = sum(call.quote.credits for call in calls)
        pool = calls[0].quote.pool
        limit = scenario.limits[pool]
        quote = Quote(
            int(price * rng.choice((0, 0.5, 1, 1, 1.5))),
            min(rng.choice((0, 1, 1, 2)), 2 if limit is None else limit),
            pool,
            0 if rng.random() < 0.1 else None,
        )
        jobs.append(
            Job(
                at=calls[0].at,
                process=calls[0].process,
                quote=quote,
                calls=tuple(inside),
                together=rng.random() < 0.5,
                kept=rng.random() < 0.8,
                cancel_after=rng.randrange(20 * SECOND) if rng.random() < 0.2 else None,
            )
        )
    return jobs
