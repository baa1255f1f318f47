"""Jobs in a schedule: calls that draw on the hold around them, one after another or side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from budgetguard._core.account import Hold
from budgetguard._core.joining import enter
from budgetguard._core.settlement import abandon, renew, settle
from budgetguard._core.steps import Flow
from budgetguard.errors import Refused
from budgetguard.model import Outcome, Verdict
from tests.search.actors import Actor, Process
from tests.search.scenario import SECOND, Job

if TYPE_CHECKING:
    from tests.search.world import World

__all__ = ["run_job"]

Start = Callable[..., Actor | None]


def run_job(world: World, number: int, job: Job, start: Start) -> None:
    """Get what a job holds, make its calls, and give back what they left."""
    process = world.processes[job.process]
    if process.alive:
        _Run(world, f"j{number}", job, process, start)


class _Run:
    """One job under way."""

    def __init__(self, world: World, name: str, job: Job, process: Process, start: Start) -> None:
        self.world, self.job, self.process, self.start = world, job, process, start
        self.hold = Hold(name, job.quote)
        self.left = list(job.calls)
        self.running = 0
        self.over = False
        self.inside: list[Actor] = []
        self.keeper: Actor | None = None
        self.actor = world.start(
            process,
            f"job {name}",
            enter(process.account, self.hold),
            hold=self.hold,
            then=lambda _: self._begin(),
            on_refused=self._refused,
        )
        if job.cancel_after is not None:
            world.later(None, job.cancel_after, self._cancel)

    def _refused(self, refused: Refused) -> None:
        self.over = True
        self.world.watch.refused(self.actor, refused)
        self.world.start(self.process, f"cleanup {self.hold.id}", abandon(self.process.account, self.hold))

    def _begin(self) -> None:
        self.world.counted["jobs"] += 1
        self.keeper = Actor(self.world, self.process, f"keeper {self.hold.id}", _nothing(), self.hold)
        if self.job.kept:
            self._keep()
        for _ in range(len(self.left) if self.job.together else 1):
            self._next()

    def _keep(self) -> None:
        if self.keeper is not None:
            lease = int(self.world.scenario.policy.lease / 3 * SECOND)
            self.world.start(self.process, f"beat {self.hold.id}", renew(self.process.account, self.hold))
            self.world.later(self.keeper, lease, self._keep)

    def _next(self) -> None:
        if self.left:
            self.running += 1
            actor = self.start(self.left.pop(0), outer=self.hold, over=self._done)
            if actor is not None:
                self.inside.append(actor)

    def _done(self) -> None:
        self.running -= 1
        if self.over:
            return
        self._next()
        if not self.running:
            self._end(settle(self.process.account, self.hold, Verdict(Outcome.NOT_SENT)))

    def _cancel(self) -> None:
        if self.over or not self.process.alive:
            return
        self.world.counted["jobs cancelled"] += 1
        self.left.clear()
        if not self.actor.done:
            self.world.watch.cut(self.actor)
            self.world.stop(self.actor)
        self._end(abandon(self.process.account, self.hold))

    def _end(self, flow: Flow[Any]) -> None:
        self.over = True
        self.hold.closed = True
        if self.keeper is not None:
            self.keeper.done = True
            self.keeper.epoch += 1
            self.process.actors.discard(self.keeper)
            self.keeper = None
        self.world.start(self.process, f"job end {self.hold.id}", flow, hold=self.hold)


def _nothing() -> Flow[None]:
    yield from ()
