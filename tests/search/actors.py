"""Who acts in a world: processes, each with its own view of the account, and the flows under way in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from budgetguard._core.account import Hold
from budgetguard._core.line import Ticket
from budgetguard._core.quick import QuickAccount
from budgetguard._core.steps import Fetch, Flow
from budgetguard.errors import Refused
from tests.search.provider import Snapshot
from tests.search.scenario import SECOND, Call

if TYPE_CHECKING:
    from tests.search.world import World

__all__ = ["ACCOUNT", "Actor", "Process", "UserFetch", "WakeUp"]

ACCOUNT = "model:account"


class UserFetch(Fetch):
    """A question for the balance by the user's own client."""

    __slots__ = ()


class Process:
    """A guard: one process's own view of the account."""

    def __init__(self, world: World, number: int) -> None:
        scenario = world.scenario
        self.number = number
        self.alive = True
        self.asleep_until = 0
        self.account = QuickAccount(
            ACCOUNT,
            scenario.policy,
            reports_slots=scenario.reports_slots,
            at_completion=scenario.at_completion,
            settlement_lag=scenario.lag / SECOND,
            task_lease=scenario.task_lease,
            listening=scenario.listening,
        )
        self.actors: set[Actor] = set()
        self.unwatch = world.store.watch(ACCOUNT, self._changed)
        books = world.store.books(ACCOUNT)
        self.account.attend(books.till, books.wake)

    def _changed(self) -> None:
        tickets = [ticket for ticket in self.account.changed() if not isinstance(ticket.signal, WakeUp)]
        for ticket in tickets:
            ticket.wake()
        # In one order, whatever the order of a set: a schedule must replay.
        waiting = [ticket for ticket in self.account.changed() if isinstance(ticket.signal, WakeUp)]
        for ticket in sorted(waiting, key=_number):
            ticket.wake()


class Actor:
    """A flow under way in a process."""

    def __init__(
        self,
        world: World,
        process: Process,
        name: str,
        flow: Flow[Any],
        hold: Hold | None = None,
        call: Call | None = None,
    ) -> None:
        self.number = world.count()
        self.process = process
        self.name = name
        self.flow = flow
        self.hold = hold
        self.call = call
        self.epoch = 0
        self.done = False
        self.rank = world.rng.random()
        self.started = world.now
        self.snapshot: Snapshot | None = None
        """The last reading it was given."""
        self.fetching = False
        self.then: Callable[[Any], None] | None = None
        self.on_refused: Callable[[Refused], None] | None = None
        process.actors.add(self)

    def __repr__(self) -> str:
        return f"{self.name}@{self.process.number}"


class WakeUp:
    """What a waiting actor is woken by."""

    __slots__ = ("actor", "epoch", "fired", "ticket", "world")

    def __init__(self, world: World, actor: Actor, ticket: Ticket) -> None:
        self.world = world
        self.actor = actor
        self.epoch = actor.epoch
        self.ticket = ticket
        self.fired = False

    def set(self) -> None:
        if not self.fired and self.actor.epoch == self.epoch:
            self.fired = True
            self.world.later(self.actor, self.world.hop(self.actor), self.resume, True)

    def over(self) -> None:
        if not self.fired:
            self.fired = True
            self.resume(woken=False)

    def resume(self, woken: bool) -> None:
        self.ticket.signal = None
        self.ticket.woken = False
        self.world.advance(self.actor, woken)


def _number(ticket: Ticket) -> int:
    assert isinstance(ticket.signal, WakeUp)
    return ticket.signal.actor.number
