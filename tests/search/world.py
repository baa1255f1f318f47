"""A world without threads, event loops and real time, in which the real flows run in any order.

Time is whole microseconds and moves from event to event. Whatever a flow asks for takes a way there and a way back;
how long each takes, and who goes first among those whose moment is the same, is drawn from the schedule's one source of
chance. That choice is the order of events, and the seed replays it.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from budgetguard._core import counters as c
from budgetguard._core.account import Hold
from budgetguard._core.serving import Place
from budgetguard._core.settlement import renew
from budgetguard._core.steps import (
    Ask,
    Asked,
    Fetch,
    Fetched,
    Flow,
    Load,
    Send,
    Step,
    Tell,
    Transact,
    Wait,
    Wake,
)
from budgetguard._core.till import Draft
from budgetguard.errors import Refused
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict
from budgetguard.stores.memory import MemoryStore
from tests.search.actors import Actor, Process, UserFetch, WakeUp
from tests.search.mirror import Broken, Mirror
from tests.search.provider import Attempt, Provider, Snapshot, Task
from tests.search.quick import end_quickly, sync
from tests.search.scenario import SECOND, Call, Scenario
from tests.search.watch import Watch

__all__ = ["World"]

_START = 1_000_000 * SECOND
_STEPS_MAX = 100_000


class World:
    """One schedule under way."""

    def __init__(self, scenario: Scenario, *, trace: list[str] | None = None, books: bool = True) -> None:
        self.books = books
        """Whether the counters are compared with the records too."""
        self.scenario = scenario
        self.rng = random.Random(scenario.seed * 2 + 1)
        self.trace = trace
        self.now = _START
        self.steps = 0
        self.counted: Counter[str] = Counter()
        self._heap: list[tuple[int, float, int, Actor | None, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = 0
        self.store = MemoryStore(clock=lambda: (self.now + 0.5) / SECOND)
        self.provider = Provider(scenario, self.now)
        self.mirror = Mirror(self.provider, scenario.policy)
        self.watch = Watch(self)
        self._starved = self.rng.randrange(scenario.processes)
        self.processes = [Process(self, number) for number in range(scenario.processes)]
        self.fetches: set[Actor] = set()
        self.drafts: dict[str, Draft] = {}
        """Calls that were taken on the quick path, by the records they stand for."""
        self.places: dict[Place, Actor] = {}
        """Who waits there, and was not found to be served."""

    # -- time -------------------------------------------------------------------------------------------------------

    def count(self) -> int:
        self._numbers += 1
        return self._numbers

    def later(self, actor: Actor | None, delay: int, act: Callable[..., None], *args: Any) -> None:
        """Do something after a while, unless the actor is gone by then."""
        tie = actor.rank if actor is not None and self.scenario.pace == "ranks" else self.rng.random()
        epoch = 0 if actor is None else actor.epoch
        heapq.heappush(self._heap, (self.now + delay, tie, self.count(), actor, epoch, act, args))

    def run(self, until: int | None = None) -> None:
        """Let everything happen that is due *until* then; without a moment, until nothing is left to happen."""
        heap = self._heap
        while heap and (until is None or heap[0][0] <= until):
            when, tie, _, actor, epoch, act, args = heapq.heappop(heap)
            if actor is not None:
                if actor.epoch != epoch:
                    continue
                if actor.process.asleep_until > when:
                    again = (actor.process.asleep_until, tie, self.count(), actor, epoch, act, args)
                    heapq.heappush(heap, again)
                    continue
            self.now = when
            self.steps += 1
            if self.steps > _STEPS_MAX:
                raise Broken("2 never under for long", "the schedule does not end: something turns in a circle")
            act(*args)
        if until is not None:
            self.now = max(self.now, until)

    def hop(self, actor: Actor) -> int:
        """Draw how long a way to the store takes."""
        return self._way(self.scenario.hop, actor)

    def _way(self, longest: int, actor: Actor) -> int:
        rng, pace = self.rng, self.scenario.pace
        if pace == "bursts" and rng.random() < 0.6:
            return 0
        if pace == "ranks":
            if rng.random() < 0.05:
                actor.rank = rng.random()
            return longest if rng.random() < 0.3 else 0
        if pace == "starved" and actor.process.number == self._starved:
            return int(rng.random() * (longest + 1)) * 3
        return int(rng.random() * (longest + 1))

    def say(self, actor: object, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{(self.now - _START) / SECOND:12.6f}  {actor!s:<16} {what}")

    # -- flows ------------------------------------------------------------------------------------------------------

    def start(
        self,
        process: Process,
        name: str,
        flow: Flow[Any],
        *,
        hold: Hold | None = None,
        call: Call | None = None,
        then: Callable[[Any], None] | None = None,
        on_refused: Callable[[Refused], None] | None = None,
    ) -> Actor:
        """Set a flow going."""
        actor = Actor(self, process, name, flow, hold, call)
        actor.then, actor.on_refused = then, on_refused
        self.later(actor, 0, self.advance, actor, None)
        return actor

    def advance(self, actor: Actor, reply: Any) -> None:
        """Give a flow its reply, and see to what it asks for next."""
        while True:
            try:
                step = actor.flow.send(reply)
            except StopIteration as stop:
                self._ended(actor)
                if actor.then is not None:
                    actor.then(stop.value)
                return
            except Refused as refused:
                self._ended(actor)
                self.say(actor, f"refused: {refused}")
                if actor.on_refused is None:
                    raise
                actor.on_refused(refused)
                return
            reply = None
            if isinstance(step, Tell):
                self.watch.told(actor, step.event)
            elif isinstance(step, Wake):
                step.ticket.wake()
            else:
                self._perform(actor, step)
                return

    def _ended(self, actor: Actor) -> None:
        actor.done = True
        actor.epoch += 1
        actor.process.actors.discard(actor)

    def stop(self, actor: Actor) -> None:
        """Stop a flow where it stands, as a cancellation does."""
        self._ended(actor)
        self.fetches.discard(actor)
        actor.flow.close()

    def _perform(self, actor: Actor, step: Step[Any]) -> None:
        if isinstance(step, Transact | Load):
            self.later(None, self.hop(actor), self._at_store, actor, actor.epoch, step)
        elif isinstance(step, Wait):
            self._wait(actor, step)
        elif isinstance(step, Fetch):
            self._fetch(actor, step)
        elif isinstance(step, Ask):
            self._ask(actor, step)
        elif isinstance(step, Send):
            self._send(actor, step)
        else:
            raise NotImplementedError(step)

    def _wait(self, actor: Actor, step: Wait) -> None:
        ticket, seconds = step.ticket, step.seconds
        self.watch.patience.waits(actor, ticket)
        if ticket.woken:
            ticket.woken = False
            self.later(actor, 0, self.advance, actor, True)
        elif seconds is not None and seconds <= 0:
            self.later(actor, 0, self.advance, actor, False)
        else:
            ticket.signal = signal = WakeUp(self, actor, ticket)
            if seconds is not None:
                self.later(actor, int(seconds * SECOND) + 1, signal.over)

    def _at_store(self, actor: Actor, epoch: int, step: Transact | Load) -> None:
        gone = actor.epoch != epoch
        if gone and self.rng.random() < 0.5:
            return  # what was under way got lost with whoever sent it
        reply: Any
        if isinstance(step, Load):
            reply = self.store.load(step.account, step.records, due=step.due)
        else:
            reply = self.store.transact(step.account, step.transaction)
            if self.trace is not None:
                self.say(actor, f"{'applied' if reply.applied else 'refused'} {_words(step.transaction)}")
            if reply.applied:
                sync(self)
                self.mirror.follow(step.transaction, reply, actor.snapshot)
                self.watch.transacted(actor, step.transaction, reply)
        if not gone:
            self.later(actor, self.hop(actor), self.advance, actor, reply)

    # -- the provider's credits endpoint ----------------------------------------------------------------------------

    def _fetch(self, actor: Actor, step: Fetch) -> None:
        ours = not isinstance(step, UserFetch)
        if ours:
            self.watch.fetching(actor)
            self.fetches.add(actor)
        rng, scenario = self.rng, self.scenario
        there, back = self._way(scenario.fetch, actor), self._way(scenario.fetch, actor)
        if not ours and scenario.fetch > SECOND:
            back *= 4  # nobody bounds a user's own question; its answer may come when its claim is long over
        timeout = int(scenario.policy.credits_timeout * SECOND)
        if rng.random() < scenario.fetch_fails:
            self.later(actor, there + back, self._fetched, actor, None)
        elif ours and there + back >= timeout:
            self.later(actor, timeout, self._fetched, actor, None)
        else:
            self.later(actor, there, self._read, actor, back)

    def _read(self, actor: Actor, back: int) -> None:
        lag = self.scenario.lag
        snapshot = self.provider.read(self.now, self.rng.choice((0, lag, self.rng.randrange(lag + 1))) if lag else 0)
        self.later(actor, back, self._fetched, actor, snapshot)

    def _fetched(self, actor: Actor, snapshot: Snapshot | None) -> None:
        self.fetches.discard(actor)
        actor.snapshot = snapshot
        self.say(actor, f"fetched {None if snapshot is None else snapshot.reading}")
        self.advance(actor, Fetched(None, "fault") if snapshot is None else Fetched(snapshot.reading))

    def _ask(self, actor: Actor, step: Ask) -> None:
        """Ask about tasks, all at once."""
        scenario = self.scenario
        if scenario.asks is None or not step.task_ids:
            self.later(actor, 0, self.advance, actor, None)
            return
        self.counted["asked about"] += len(step.task_ids)
        there, back = self._way(scenario.fetch, actor), self._way(scenario.fetch, actor)
        fails = self.rng.random() < scenario.asks
        self.later(actor, there, self._tell_tasks, actor, step, back, fails)

    def _tell_tasks(self, actor: Actor, step: Ask, back: int, fails: bool) -> None:
        answers = [Asked(None, "fault", again=True) if fails else Asked(self.seen(name)) for name in step.task_ids]
        self.say(actor, f"asked about {list(step.task_ids)}: {[answer.task for answer in answers]}")
        self.later(actor, back, self.advance, actor, answers)

    # -- calls ------------------------------------------------------------------------------------------------------

    def _send(self, actor: Actor, step: Send) -> None:
        rng, scenario = self.rng, self.scenario
        attempt = self.mirror.sent(step.reservation)
        self.watch.sent(attempt)
        there, back = self._way(scenario.send, actor), self._way(scenario.send, actor)
        self.say(actor, f"sends {attempt.id}")
        if scenario.heartbeat:
            self.later(actor, int(scenario.policy.lease / 3 * SECOND), self._beat, actor, attempt.id)
        chance = rng.random()
        if chance < scenario.not_sent:
            self._lost(attempt)
            self.later(actor, there, self.advance, actor, Verdict(Outcome.NOT_SENT))
            return
        if chance < scenario.not_sent + scenario.lost:
            fate = rng.choice(("request lost", "answer lost", "500 before", "500 after", "late"))
            self.counted[fate] += 1
            if fate in ("request lost", "500 before"):
                self._lost(attempt)
            else:
                late = rng.randrange(5 * SECOND) if fate == "late" else 0
                self.later(None, there + late, self._arrived, actor, -1, attempt, 0)
            self.later(actor, there + back, self.advance, actor, Verdict(Outcome.UNKNOWN))
            return
        self.later(None, there, self._arrived, actor, actor.epoch, attempt, back)

    def _beat(self, actor: Actor, id_: str) -> None:
        """Renew the lease of a call that is being sent."""
        hold = actor.hold
        assert hold is not None
        if hold.id == id_ and hold.sent and not actor.done:
            self.counted["renewed"] += 1
            self.start(actor.process, f"beat {id_}", renew(actor.process.account, hold))
            self.later(actor, int(self.scenario.policy.lease / 3 * SECOND), self._beat, actor, id_)

    def _lost(self, attempt: Attempt) -> None:
        attempt.state = "lost"
        self.mirror.decided(attempt)

    def _arrived(self, actor: Actor, epoch: int, attempt: Attempt, back: int) -> None:
        """A call reaches the provider."""
        scenario, rng, call = self.scenario, self.rng, actor.call
        assert call is not None
        self.mirror.decided(attempt)
        if rng.random() < scenario.rejected:
            outcome = Outcome.RATE if rng.random() < scenario.rate else Outcome.REJECTED
            attempt.state = "refused"
        else:
            outcome = self.provider.submit(self.now, attempt, f"T{attempt.id}", fails=call.fails)
        self.say("provider", f"{outcome} {attempt.id}, balance {self.provider.balance}")
        self.counted[outcome.value] += 1
        task = self.provider.tasks.get(f"T{attempt.id}")
        if task is not None:
            self.later(None, call.duration, self.end, task)
        if outcome in (Outcome.INSUFFICIENT, Outcome.CONCURRENCY):
            self.mirror.check_refusal(attempt, outcome)
        self.watch.changed()
        if actor.epoch != epoch:
            return
        if outcome is Outcome.ACCEPTED:
            charge = attempt.charge if scenario.tells_charge and not scenario.at_completion else None
            verdict = Verdict(outcome, charge, None if call.sync else f"T{attempt.id}")
        else:
            verdict = Verdict(outcome, retry_after=1.0 if outcome is Outcome.RATE and rng.random() < 0.5 else None)
        self.later(actor, back, self.advance, actor, verdict)

    def end(self, task: Task) -> None:
        """A task of ours or of a stranger ends."""
        self.provider.end(self.now, task)
        self.say("provider", f"ended {task.id}, balance {self.provider.balance}")
        call = None if task.attempt is None else self._call(task.attempt)
        if call is not None and call.told_by_webhook and not call.sync:
            self.later(None, int(self.rng.random() * self.scenario.send), self._webhook, call, task.id)
        self.watch.changed()

    def _webhook(self, call: Call, task_id: str) -> None:
        process = self.processes[call.process if call.polled_by is None else call.polled_by]
        if process.alive:
            self.counted["webhooks"] += 1
            self.end_task(process, f"webhook {task_id}", self.seen(task_id))

    def end_task(self, process: Process, name: str, task: TaskSeen) -> None:
        """A process hears that a task has ended."""

        def flow() -> Flow[bool]:
            return (yield from end_quickly(self, process, actor, task))

        actor = self.start(process, name, flow())

    def _call(self, attempt: Attempt) -> Call:
        return self.scenario.calls[attempt.call]

    def seen(self, task_id: str, *, key: str = "") -> TaskSeen:
        """Say how a task ended, under the name the guards know it by."""
        call, state = self._call(self.mirror.attempts[task_id[1:]]), self.state_of(task_id)
        charge = call.charge if self.scenario.at_completion and state is TaskState.SUCCEEDED else None
        return TaskSeen(key or task_id, state, charge)

    def state_of(self, task_id: str) -> TaskState:
        """Say what a poll shows of a task that was accepted."""
        if task_id in self.provider.tasks:
            return TaskState.RUNNING
        return TaskState.FAILED if self._call(self.mirror.attempts[task_id[1:]]).fails else TaskState.SUCCEEDED


def _words(transaction: Any) -> str:
    parts = [f"{name}{delta:+d}" for name, delta in transaction.add.items() if delta]
    parts += [f"drop {key}" for key in transaction.drop if key not in transaction.put]
    parts += [f"put {key}" for key in transaction.put]
    if transaction.within:
        parts.append(f"within {transaction.within[c.READ_AT] / SECOND:g}s")
    return " ".join(parts)
