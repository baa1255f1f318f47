"""Flows driven by hand: a step at a time, each performed, answered or left open as the test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import View
from budgetguard._core.settlement import abandon
from budgetguard._core.steps import (
    Ask,
    Asked,
    Fetch,
    Fetched,
    Flow,
    Load,
    Scan,
    Send,
    Step,
    Tell,
    Transact,
    Wait,
    Wake,
)
from budgetguard.events import Event
from budgetguard.model import Capacity, Outcome, Quote, Reading, Verdict
from budgetguard.policy import Policy
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import ManualClock

__all__ = ["ACCEPTED", "NAME", "Hand", "World"]

NAME = "p:a"
ACCEPTED = Verdict(Outcome.ACCEPTED, task_id="t")


class World:
    """A provider's account, a store and a clock, and as many processes as a test wants."""

    def __init__(
        self, credits_: int = 100, limit: int | None = 4, running: int | None = 0, start: float = 1000.0
    ) -> None:
        self.clock = ManualClock(start)
        self.store = MemoryStore(self.clock)
        self.credits = credits_
        self.limit = limit
        self.running = running
        self.readable = True
        self.seconds = 0.0
        """How long the credits endpoint takes."""
        self.fetches = 0
        self.tasks: dict[str, Asked] | None = None
        """What the provider says of its tasks; ``None`` where nobody can ask."""
        self.asked: list[str] = []
        self.events: list[Event] = []
        self.numbers = 0

    def process(self, policy: Policy | None = None, **terms: Any) -> Account:
        account = Account(NAME, Policy() if policy is None else policy, **terms)

        def changed() -> None:
            for ticket in account.changed():
                ticket.wake()

        self.store.watch(NAME, changed)
        return account

    def hold(self, credits_: int = 10, slots: int = 1, pool: str = "", **given: Any) -> Hold:
        self.numbers += 1
        least = given.pop("credits_min", None)
        return Hold(f"h{self.numbers}", Quote(credits_, slots, pool, least, source="row"), **given)

    def reading(self) -> Fetched:
        self.fetches += 1
        self.clock.advance(self.seconds)
        if not self.readable:
            return Fetched(None, "status 500")
        return Fetched(Reading(self.credits, {"": Capacity(self.limit, self.running)}))

    def answers(self, task_ids: Sequence[str]) -> list[Asked] | None:
        if self.tasks is None:
            return None
        self.asked += task_ids
        return [self.tasks.get(task_id) or Asked(None, "no such task") for task_id in task_ids]

    def hand(self, flow: Flow[Any], *verdicts: Verdict) -> Hand:
        return Hand(self, flow, list(verdicts))

    def run(self, flow: Flow[Any], *verdicts: Verdict) -> Any:
        """Perform a flow to its end; time passes where it waits. Gives what it returns, or raises what it raises."""
        return self.hand(flow, *verdicts).finish()

    @property
    def view(self) -> View:
        loaded = self.store.load(NAME)
        return View(loaded.counters, loaded.now)

    @property
    def free(self) -> tuple[int, int]:
        return self.view["credits"], self.view["slots"]

    @property
    def records(self) -> list[str]:
        return sorted(self.store._accounts[NAME].records)

    def told(self, *kinds: type[Event]) -> list[Any]:
        return [event for event in self.events if not kinds or isinstance(event, kinds)]

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


class Hand:
    """One flow and the step it stands at."""

    def __init__(self, world: World, flow: Flow[Any], verdicts: list[Verdict]) -> None:
        self.world = world
        self.flow = flow
        self.verdicts = verdicts
        self.steps: list[Step[Any]] = []
        self.step: Step[Any] | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self.answer(None)

    @property
    def done(self) -> bool:
        return self.step is None

    @property
    def names(self) -> list[str]:
        return [type(step).__name__ for step in self.steps]

    @property
    def seconds(self) -> float | None:
        """How long it asks to wait."""
        assert isinstance(self.step, Wait), self.step
        return self.step.seconds

    def answer(self, reply: Any) -> None:
        try:
            self.step = self.flow.send(reply)
            self.steps.append(self.step)
        except StopIteration as stop:
            self.step, self.result = None, stop.value
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.step, self.error = None, error

    def perform(self) -> None:
        """Perform the step it stands at. Waiting takes as long as it may, unless news has come."""
        step, world = self.step, self.world
        match step:
            case Transact():
                self.answer(world.store.transact(step.account, step.transaction))
            case Load():
                self.answer(world.store.load(step.account, step.records, due=step.due))
            case Fetch():
                self.answer(world.reading())
            case Ask():
                self.answer(world.answers(step.task_ids))
            case Scan():
                self.answer(world.store.scan(step.account, step.cursor))
            case Send():
                self.answer(self.verdicts.pop(0) if self.verdicts else ACCEPTED)
            case Wait():
                woken, step.ticket.woken = step.ticket.woken, False
                assert step.seconds is not None, "it would wait for ever"
                if not woken:
                    world.clock.advance(step.seconds)
                self.answer(woken)
            case Wake():
                step.ticket.wake()
                self.answer(None)
            case Tell():
                world.events.append(step.event)
                self.answer(None)
            case _:
                raise AssertionError(step)

    def until(self, *kinds: type[Step[Any]], when: Callable[[], bool] = lambda: True) -> Hand:
        """Perform steps until it stands at one of these, or has ended."""
        for _ in range(5000):
            if self.done or (isinstance(self.step, kinds) and when()):
                return self
            self.perform()
        raise AssertionError(f"it goes on for ever: {self.names[-20:]}")

    def waits(self) -> Hand:
        """Perform steps until it waits for more than a moment with no news there, or has ended."""
        return self.until(Wait, when=self._idle)

    def _idle(self) -> bool:
        step = self.step
        return isinstance(step, Wait) and not step.ticket.woken and (step.seconds is None or step.seconds > 0.1)

    def finish(self) -> Any:
        self.until()
        if self.error is not None:
            raise self.error
        return self.result

    def cancel(self, account: Account, hold: Hold) -> None:
        """Close it where it stands, and clean up."""
        self.flow.close()
        self.step = None
        self.world.run(abandon(account, hold))
