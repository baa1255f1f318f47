"""Inquiring a batch before it runs: what fits the balance, what is missing, and how long it will take.

Nothing is held and nothing is sent but, where the last reading is too old, one question for the balance. A plan is true
of the moment it was made: whoever spends the account meanwhile changes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import anyio
import httpx

from budgetguard._asking import Asking, AsyncAsking
from budgetguard._batch import Job, Plannable, Reader, Why, serve
from budgetguard._core import counters as c
from budgetguard._core.account import Hold
from budgetguard._core.counters import MICROS, View
from budgetguard._core.quick import QuickAccount
from budgetguard._core.search import Search, freshen
from budgetguard._core.settlement import abandon
from budgetguard._core.steps import Flow
from budgetguard._desk import AsyncInquiring, Inquiring
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard._drivers.concurrent import ConcurrentDriver
from budgetguard._hidden import hide
from budgetguard.engine import Engine
from budgetguard.errors import CreditsUnavailable, SettingError, StoreError
from budgetguard.model import PoolState, Quote, State

__all__ = ["AsyncPlans", "Plan", "PlannedJob", "Plans", "duration", "slots_text"]

Order = Literal["given", "most"]
"""``given``: each job in turn takes what it needs, if there is as much left; ``most``: as many jobs as fit."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job of a `Plan`. Since 0.1.

    Attributes:
        index: Its place in the list that was given, from 0.
        label: What it was called, or the row of the price list.
        credits: What it costs at most; ``None`` where nobody knows.
        slots: Slots it takes.
        pool: The limit it counts against; ``""`` where there is only one.
        seconds: How long it is said to run; ``None`` where nobody said.
        fits: Whether it would be admitted.
        why: Why not: ``credits``, ``slots`` (more than the limit will ever give) or ``price`` (none is known).
        problem: For ``price``, what is missing.
        start: When its slots come free, in seconds from now; ``None`` where that cannot be told.
    """

    index: int
    label: str
    credits: int | None
    slots: int = 1
    pool: str = ""
    seconds: float | None = None
    fits: bool = False
    why: Why = ""
    problem: str = ""
    start: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What would become of a batch if it were run now. Immutable. Since 0.1.

    Attributes:
        account: The account's name.
        unit: What a credit is, for people to read.
        available: Credits free for new calls, after headroom and what is promised to others.
        total: Credits all jobs with a known price cost at most.
        spent: Credits of the jobs that fit.
        shortfall: Credits that are missing for all of them, but those whose slots never fit; 0 if nothing is.
        seconds: How long the jobs that fit take, at the limit there is now; ``None`` where durations are not known, or
            no slot is ours. Our own tasks under way are taken to need one mean duration more.
        slots: Slots that are ours now, free or taken by our own calls, by pool; ``None`` where there is no limit.
        jobs: All jobs, in the order given.
    """

    account: str
    unit: str
    available: int
    total: int
    spent: int
    shortfall: int
    seconds: float | None
    slots: Mapping[str, int | None]
    jobs: tuple[PlannedJob, ...]

    @property
    def fits(self) -> tuple[PlannedJob, ...]:
        """The jobs that would be admitted."""
        return tuple(job for job in self.jobs if job.fits)

    @property
    def left_out(self) -> tuple[PlannedJob, ...]:
        """The jobs that would be refused."""
        return tuple(job for job in self.jobs if not job.fits)

    def __repr__(self) -> str:
        parts = [
            f"{len(self.fits)} of {len(self.jobs)} jobs fit",
            f"{self.spent} of {self.total} {self.unit}, {self.available} available",
        ]
        if self.shortfall:
            parts.append(f"{self.shortfall} short")
        unpriced = sum(job.why == "price" for job in self.jobs)
        if unpriced:
            parts.append(f"{unpriced} without a price")
        if self.seconds is not None and self.fits:
            parts.append(f"about {duration(self.seconds)} on {slots_text(self.slots)}")
        return f"Plan({'; '.join(parts)})"


def duration(seconds: float) -> str:
    """Write a duration for people: two units at most."""
    whole = round(seconds)
    for size, name, next_size, next_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {name}" + (f" {rest} {next_name}" if rest else "")
    return f"{whole} s"


def slots_text(slots: Mapping[str, int | None]) -> str:
    """Write the slots of each pool for people."""
    said = [
        f"{'unlimited' if number is None else number}{f' {name}' if name else ''}" for name, number in slots.items()
    ]
    return f"{', '.join(said) or 'unlimited'} slot{'' if list(slots.values()) == [1] else 's'}"


# -- looking --------------------------------------------------------------------------------------------------------


def glance(account: QuickAccount, hold: Hold) -> Flow[View]:
    """Look at the account, and at the balance if the last reading is too old. Takes nothing.

    Raises:
        CreditsUnavailable: If the balance cannot be read and was not for long.
    """
    search = Search(account)
    view = yield from account.load()
    while search.too_old(view):
        yield from freshen(account, hold, view, search)
        view = account.view
    if view.age is None:  # the policy would admit unseen, but there is nothing to plan with
        raise CreditsUnavailable(
            account=account.name,
            age=None,
            failures=view[c.FAILURES],
            why=account.why.rstrip("."),
            retry_after=max(0.0, (view[c.BACKOFF] - view.now) / MICROS),
        )
    return view


# -- planning -------------------------------------------------------------------------------------------------------


class Planner:
    """Prices jobs, looks at the account once, and works a plan out. Good for one plan: it writes on the jobs.

    Args:
        engine: Knows the provider and the policy.
        account: Whose prices and limits count.
        jobs: What is to run.
        order: Which jobs fit; see `Order`.
        seconds: The mean duration of jobs that tell none of their own.

    Raises:
        SettingError: If a job is none, or a setting cannot work. A job without a known price is no error.
    """

    def __init__(
        self, engine: Engine, account: QuickAccount, jobs: Iterable[Plannable], *, order: Order, seconds: float | None
    ) -> None:
        if order not in ("given", "most"):
            raise SettingError("order", order, "give 'given' or 'most'")
        self._engine = engine
        self._account = account
        self._order = order
        reader = Reader(engine, account, seconds)
        self._mean = reader.mean
        self._jobs = reader.read(jobs)

    def plan(self, driver: BlockingDriver, asking: Asking, bearer: httpx.Request) -> Plan:
        """Look at the account, and work the plan out."""
        account, hold = self._account, self._engine.hold(Quote(0, 0))
        try:
            view = driver.run(
                account,
                glance(account, hold),
                fetch=lambda: asking.fetch(bearer),
                ask=lambda ids: asking.tasks(bearer, ids),
            )
        except BaseException:
            with contextlib.suppress(StoreError):  # a claim that cannot be given up ends by itself
                driver.run(account, abandon(account, hold))
            raise
        return self.work_out(self._engine.state(account, view))

    async def aplan(self, driver: ConcurrentDriver, asking: AsyncAsking, bearer: httpx.Request) -> Plan:
        """See `plan`."""
        account, hold = self._account, self._engine.hold(Quote(0, 0))
        try:
            view = await driver.run(
                account,
                glance(account, hold),
                fetch=lambda: asking.fetch(bearer),
                ask=lambda ids: asking.tasks(bearer, ids),
            )
        except BaseException:
            with anyio.CancelScope(shield=True), contextlib.suppress(StoreError):  # as above
                await driver.run(account, abandon(account, hold))
            raise
        return self.work_out(self._engine.state(account, view))

    def work_out(self, state: State) -> Plan:
        """Work the plan out for an account that stands so."""
        available = max(0, state.credits_free)
        slots = {name: self._ours(pool) for name, pool in state.pools.items()}
        for job in self._jobs:
            limit = state.pools[job.quote.pool].limit if job.quote and job.quote.pool in state.pools else None
            if job.quote is None:
                job.why = "price"
            elif limit is not None and job.quote.slots > limit - self._engine.policy.slots_headroom:
                job.why = "slots"
        total = sum(job.quote.credits for job in self._jobs if job.quote is not None)
        payable = sum(job.quote.credits for job in self._jobs if job.quote is not None and not job.why)
        spent = self._choose(available)
        seconds = self._simulate(state.pools, slots)
        return Plan(
            account=state.account,
            unit=self._engine.provider.unit,
            available=available,
            total=total,
            spent=spent,
            shortfall=max(0, payable - available),
            seconds=seconds,
            slots=slots,
            jobs=tuple(_shown(job) for job in self._jobs),
        )

    def _choose(self, available: int) -> int:
        """Leave out what cannot be paid; gives the credits of what can."""
        spent = 0
        jobs = [(job, job.quote) for job in self._jobs if job.quote is not None and not job.why]
        if self._order == "most":
            jobs.sort(key=lambda pair: pair[1].credits)
        for job, quote in jobs:
            if spent + quote.credits > available:
                job.why = "credits"
            else:
                spent += quote.credits
        return spent

    # -- time -------------------------------------------------------------------------------------------------------

    def _ours(self, pool: PoolState) -> int | None:
        """Count the slots that are ours now: what is free, and what our own calls hold."""
        if pool.limit is None or pool.free is None:
            return None
        most = max(0, pool.limit - self._engine.policy.slots_headroom)
        return min(most, max(0, pool.free + pool.open + pool.running))

    def _simulate(self, pools: Mapping[str, PoolState], slots: Mapping[str, int | None]) -> float | None:
        """Give each job a start, first come first served in each pool; gives the end of the last one."""
        lines: dict[str, list[tuple[Job, Quote, float]]] = {}
        known = [job.seconds for job in self._jobs if job.seconds is not None]
        mean = self._mean if self._mean is not None else sum(known) / len(known) if known else None
        for job in self._jobs:
            if job.quote is None or job.why:
                continue
            if job.seconds is None:
                return None
            lines.setdefault(job.quote.pool, []).append((job, job.quote, job.seconds))
        last = 0.0
        for name, line in lines.items():
            ours, pool = slots.get(name), pools.get(name)
            if ours == 0 and any(quote.slots for _, quote, _ in line):
                return None
            busy = (pool.open + pool.running, pool.waiting) if pool is not None and ours is not None else (0, 0)
            last = max(last, serve(line, ours, busy, mean or 0.0))
        return last


def _shown(job: Job) -> PlannedJob:
    quote = job.quote
    return PlannedJob(
        index=job.index,
        label=job.label,
        credits=None if quote is None else quote.credits,
        slots=1 if quote is None else quote.slots,
        pool="" if quote is None else quote.pool,
        seconds=job.seconds,
        fits=not job.why,
        why=job.why,
        problem=job.problem,
        start=job.start,
    )


# -- as guards offer it ---------------------------------------------------------------------------------------------


class Plans:
    """The part of `Guard` that plans."""

    def plan(
        self: Inquiring,
        jobs: Iterable[Plannable],
        *,
        order: Order = "given",
        seconds: float | None = None,
        key: str | None = None,
    ) -> Plan:
        """Say what would become of a batch if it were run now; nothing is held or sent. Since 0.1.

        The balance is looked at once, and asked for only if the last reading is too old. What does not fit is no error.

        Args:
            jobs: Each one credits (``int``), a `Quote`, an ``httpx.Request`` to the provider, or a mapping with
                ``credits``, ``slots`` and ``pool``, or with ``path`` and ``body`` (and ``method``) to be priced by the
                adapter; with a ``label`` and ``seconds`` of its own where it has them.
            order: Which jobs fit: ``"given"``, each in turn takes what it needs, if there is as much left, as when they
                are submitted one after another; or ``"most"``, as many as fit, the cheapest first.
            seconds: The mean duration of jobs that tell none of their own.
            key: The API key whose account is meant; by default the guard's own.

        Raises:
            SettingError: If a job is none; the message names it by its place. Or if there is no key.
            CreditsUnavailable: If the balance cannot be read.
            StoreError: If the store fails.
        """
        key = hide(key)
        account, bearer = self.asked(key)
        planner = Planner(self.engine, account, jobs, order=order, seconds=seconds)
        return planner.plan(self.driver, self.asking, bearer)


class AsyncPlans:
    """The part of `AsyncGuard` that plans."""

    async def plan(
        self: AsyncInquiring,
        jobs: Iterable[Plannable],
        *,
        order: Order = "given",
        seconds: float | None = None,
        key: str | None = None,
    ) -> Plan:
        """Say what would become of a batch if it were run now; nothing is held or sent. See `Guard.plan`. Since 0.1."""
        key = hide(key)
        account, bearer = self.asked(key)
        planner = Planner(self.engine, account, jobs, order=order, seconds=seconds)
        return await planner.aplan(self.driver, self.asking, bearer)
