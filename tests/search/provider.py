"""The provider of a schedule: the truth the guards try to keep up with.

Strict where a real one might be kind: it refuses whatever exceeds the balance or a limit at the moment of arrival.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from budgetguard.model import Capacity, Outcome, Reading
from tests.search.scenario import Scenario

__all__ = ["Attempt", "Provider", "Snapshot", "Task"]


@dataclass(slots=True, eq=False)
class Attempt:
    """One sending of one call, whatever the guards think became of it."""

    id: str
    credits: int
    """What is held for it at most."""
    charge: int
    slots: int
    pool: str
    state: str = "idle"
    """``idle``, ``flying``, ``accepted``, ``refused`` or ``lost``."""
    stray: bool = False
    """Its lease ended before it reached the provider: the guards stopped believing in it."""
    admissions: int = 0

    @property
    def call(self) -> int:
        """The number of the call it sends: an id is ``c``, that number, and whatever the guards add."""
        return int(re.match(r"c(\d+)", self.id)[1])  # type: ignore[index]


@dataclass(slots=True, eq=False)
class Task:
    """Something that runs at the provider."""

    id: str
    slots: int
    pool: str
    charge: int
    serial: int
    """Counts starts, so that a reading can tell what started after it."""
    foreign: bool
    attempt: Attempt | None = None
    fails: bool = False
    overdue: bool = False
    """Its lease ended while it still ran: the guards stopped believing in it."""
    unforeseen: int = 0
    """What it will be charged at its end that the guards do not reckon with."""
    ended: bool = False

    @property
    def queued(self) -> bool:
        """Whether it still waits on the provider's side, where it counts as running."""
        return self.serial % 3 == 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A reading and what only the world knows of the moment it was taken."""

    reading: Reading
    taken_at: int
    serial: int
    foreign_credits: int
    """What others had spent of the balance, as far as the reading shows it."""
    gains: int
    """What had come in by then."""


class Provider:
    """A balance, limits, and what runs."""

    def __init__(self, scenario: Scenario, now: int) -> None:
        self.scenario = scenario
        self.balance = scenario.balance
        self.limits = dict(scenario.limits)
        self.tasks: dict[str, Task] = {}
        self.foreign_credits = 0
        """Everything that left the balance without the guards having a chance to know."""
        self.gains = 0
        """Everything that came in: top-ups and refunds."""
        self.serial = 0
        self.uncharged = 0
        """What running tasks will be charged when they end, where that is when they are charged."""
        self.unforeseen = 0
        """The part of it that the guards cannot reckon with."""
        self._past: list[tuple[int, int, int]] = [(now, self.balance, 0)]
        self._shown = now

    # -- what is there ----------------------------------------------------------------------------------------------

    def running(self, pool: str) -> int:
        return sum(task.slots for task in self.tasks.values() if task.pool == pool)

    def shown(self, pool: str) -> int:
        """Count what a reading shows as running."""
        return self.running(pool)

    def strangers(self, pool: str, after: int = -1) -> int:
        """Count slots of others that run now and started after the *after*-th start."""
        return sum(
            task.slots for task in self.tasks.values() if task.pool == pool and task.foreign and task.serial > after
        )

    def overdue(self, pool: str) -> int:
        return sum(task.slots for task in self.tasks.values() if task.pool == pool and task.overdue)

    def room(self, pool: str) -> int | None:
        limit = self.limits[pool]
        return None if limit is None else limit - self.running(pool)

    def read(self, now: int, behind: int) -> Snapshot:
        """Look at the account, *behind* microseconds late; never further behind than before."""
        shown = max(self._shown, now - behind)
        self._shown = shown
        _, balance, foreign = next(entry for entry in reversed(self._past) if entry[0] <= shown)
        reads = self.scenario.reports_slots
        pools = {name: Capacity(limit, self.shown(name) if reads else None) for name, limit in self.limits.items()}
        return Snapshot(Reading(balance, pools), now, self.serial, foreign, self.gains)

    # -- what happens -----------------------------------------------------------------------------------------------

    def submit(self, now: int, attempt: Attempt, name: str, *, fails: bool) -> Outcome:
        """Take a call of ours, or refuse it."""
        if self.balance - self.uncharged < attempt.charge:
            attempt.state = "refused"
            return Outcome.INSUFFICIENT
        room = self.room(attempt.pool)
        if room is not None and attempt.slots and room < attempt.slots:
            attempt.state = "refused"
            return Outcome.CONCURRENCY
        attempt.state = "accepted"
        self.serial += 1
        task = Task(name, attempt.slots, attempt.pool, attempt.charge, self.serial, attempt.stray, attempt, fails)
        self.tasks[name] = task
        excess = attempt.charge if attempt.stray else max(0, attempt.charge - attempt.credits)
        if self.scenario.at_completion:
            self.uncharged += attempt.charge
            self.foresee(task, excess)
        else:
            self._move(now, -attempt.charge, excess)
        return Outcome.ACCEPTED

    def foresee(self, task: Task, unforeseen: int) -> None:
        """Note how much of a task's charge at its end the guards do not reckon with."""
        self.unforeseen += unforeseen - task.unforeseen
        task.unforeseen = unforeseen

    def neglect(self, task: Task) -> None:
        """Note that the lease of a running task ended."""
        task.overdue = True
        if self.scenario.at_completion:
            self.foresee(task, task.charge)

    def end(self, now: int, task: Task) -> None:
        """End a task of ours or of a stranger."""
        task.ended = True
        self.tasks.pop(task.id, None)
        if task.attempt is None:
            return
        if self.scenario.at_completion:
            self.uncharged -= task.charge
            unforeseen = task.unforeseen
            self.foresee(task, 0)
            if not (task.fails and self.scenario.refunds):
                self._move(now, -task.charge, unforeseen)
            else:
                self.gains += task.charge
        elif task.fails and self.scenario.refunds:
            self._move(now, task.charge, 0)

    def spend(self, now: int, credits_: int) -> int:
        """Let somebody else spend; says how much there was."""
        spent = max(0, min(credits_, self.balance - self.uncharged))
        self._move(now, -spent, spent)
        return spent

    def top_up(self, now: int, credits_: int) -> None:
        self._move(now, credits_, 0)

    def intrude(self, name: str, pool: str, slots: int) -> Task | None:
        """Let somebody else start a task, if there is room."""
        room = self.room(pool)
        if room is None or room < slots:
            return None
        self.serial += 1
        task = self.tasks[name] = Task(name, slots, pool, 0, self.serial, foreign=True)
        return task

    def _move(self, now: int, credits_: int, foreign: int) -> None:
        self.balance += credits_
        self.gains += max(0, credits_)
        self.foreign_credits += foreign
        self._past.append((now, self.balance, self.foreign_credits))
