"""What happens in a schedule: calls, polls, questions, mishaps, and the end of it all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from budgetguard._core import counters as c
from budgetguard._core.account import Hold
from budgetguard._core.counters import Pool
from budgetguard._core.refreshing import adopt, claim_for_user, look_again
from budgetguard._core.settlement import abandon, catch_up
from budgetguard._core.steps import Fetched, Flow
from budgetguard.errors import Refused
from budgetguard.model import Outcome, Quote, TaskState, Verdict
from tests.search.actors import ACCOUNT, Actor, Process, UserFetch
from tests.search.jobs import run_job
from tests.search.mirror import Broken
from tests.search.quick import call_quickly
from tests.search.scenario import SECOND, Call, Scenario
from tests.search.world import World

__all__ = ["live"]

_PATIENCE = 6000 * SECOND
"""How long after the last disturbance a schedule may still have callers in it."""


def live(scenario: Scenario, *, trace: list[str] | None = None, books: bool = True) -> World:
    """Run a schedule to its end. Without *books*, only the promises are checked, not the counters behind them.

    Raises:
        Broken: If a promise is broken.
    """
    world = World(scenario, trace=trace, books=books)
    _jobs(world)
    inside = {number for job in scenario.jobs for number in job.calls}
    for number, made in enumerate(scenario.calls):
        if number not in inside:
            world.later(None, made.at, _alone, world, number, made)
    _disturb(world)
    world.run(world.now + scenario.span)
    world.run(world.now + _PATIENCE)
    _settle(world)
    return world


# -- calls ----------------------------------------------------------------------------------------------------------


def _jobs(world: World) -> None:
    def start(number: int, *, outer: Hold, over: Callable[[], None]) -> Actor | None:
        return _call(world, number, world.scenario.calls[number], outer=outer, over=over)

    for number, job in enumerate(world.scenario.jobs):
        world.later(None, job.at, run_job, world, number, job, start)


def _alone(world: World, number: int, made: Call) -> None:
    _call(world, number, made)


def _call(
    world: World, number: int, made: Call, *, outer: Hold | None = None, over: Callable[[], None] | None = None
) -> Actor | None:
    process = world.processes[made.process]
    if not process.alive:
        return None
    hold = Hold(f"c{number}", made.quote, priority=made.priority, deadline=made.deadline)
    hold.outer = outer

    def then(verdict: Verdict) -> None:
        _answered(world, process, hold, made, verdict)
        if over is not None:
            over()

    def on_refused(refused: Refused) -> None:
        world.watch.refused(actor, refused)
        _abandon(world, process, hold)
        if over is not None:
            over()

    def flow() -> Flow[Verdict]:
        return (yield from call_quickly(world, process, hold, actor))

    actor = world.start(process, f"call c{number}", flow(), hold=hold, call=made, then=then, on_refused=on_refused)
    world.say(actor, f"comes with {made.quote}")
    if made.cancel_at is not None:
        world.later(actor, made.cancel_at - made.at, _cancel, world, actor, over)
    return actor


def _cancel(world: World, actor: Actor, over: Callable[[], None] | None = None) -> None:
    if actor.done:
        return
    world.say(actor, "is cancelled")
    world.counted["cancelled"] += 1
    world.watch.cancelled(actor)
    world.stop(actor)
    assert actor.hold is not None
    _abandon(world, actor.process, actor.hold)
    if over is not None:
        over()


def _abandon(world: World, process: Process, hold: Hold) -> None:
    world.start(process, f"cleanup {hold.id}", abandon(process.account, hold), hold=hold)


def _answered(world: World, process: Process, hold: Hold, made: Call, verdict: Verdict) -> None:
    if verdict.outcome is not Outcome.ACCEPTED:
        return
    if verdict.task_id is None:
        _follow(world, process, f"T{hold.id}", made, key=hold.id)
        return
    poller = process if made.polled_by is None else world.processes[made.polled_by]
    if made.polled_by is not None:
        _follow(world, poller, verdict.task_id, made, key=verdict.task_id)


def _follow(world: World, process: Process, task_id: str, made: Call, *, key: str) -> None:
    """Ask about a task until it has ended, then say so; synchronous work just ends."""
    if not process.alive:
        return
    poller = Actor(world, process, f"poll {task_id}", _nothing())
    sync = task_id != key

    def ask() -> None:
        # What a transport does before a poll is sent.
        world.start(process, f"catch up {task_id}", catch_up(process.account), then=lambda _: send())

    def send() -> None:
        mark = process.account.view[c.MARK]
        world.later(poller, world.rng.randrange(world.scenario.send + 1), arrive, mark)

    def arrive(mark: int) -> None:
        state = world.state_of(task_id)
        world.later(poller, world.rng.randrange(world.scenario.send + 1), answer, mark, state)

    def answer(mark: int, state: TaskState) -> None:
        if state.ended:
            process.actors.discard(poller)
            world.end_task(process, f"finish {task_id}", world.seen(task_id, key=key))
            return
        if not sync:
            process.account.seen[task_id] = mark
        world.later(poller, made.poll_every, ask)

    ask()


def _nothing() -> Flow[None]:
    yield from ()


# -- what else happens ----------------------------------------------------------------------------------------------


def _disturb(world: World) -> None:
    scenario, provider = world.scenario, world.provider
    at: Callable[..., None] = lambda when, act, *args: world.later(None, when, act, *args)  # noqa: E731

    def spend(credits_: int) -> None:
        world.say("stranger", f"spends {provider.spend(world.now, credits_)}, balance {provider.balance}")
        world.counted["foreign spending"] += 1
        world.watch.changed()

    def top_up(credits_: int) -> None:
        provider.top_up(world.now, credits_)
        world.say("provider", f"topped up, balance {provider.balance}")
        world.watch.changed()

    def intrude(name: str, pool: str, slots: int, seconds: int) -> None:
        task = provider.intrude(name, pool, slots)
        if task is not None:
            world.say("stranger", f"takes {slots} of pool {pool!r}")
            world.counted["stranger"] += 1
            world.later(None, seconds, world.end, task)

    def limit(pool: str, slots: int) -> None:
        provider.limits[pool] = slots
        world.say("provider", f"limit of pool {pool!r} is {slots}")
        world.watch.changed()

    for when, credits_ in scenario.foreign:
        at(when, spend, credits_)
    for when, credits_ in scenario.top_ups:
        at(when, top_up, credits_)
    for number, (when, pool, slots, seconds) in enumerate(scenario.strangers):
        at(when, intrude, f"S{number}", pool, slots, seconds)
    for when, pool, slots in scenario.new_limits:
        at(when, limit, pool, slots)
    for when, process in scenario.kills:
        at(when, _kill, world, world.processes[process])
    for when, process, length in scenario.sleeps:
        at(when, _suspend, world, world.processes[process], length)
    for number, (when, process, cancelled) in enumerate(scenario.questions):
        at(when, _question, world, number, world.processes[process], cancelled)


def _kill(world: World, process: Process) -> None:
    if process.alive:
        world.say(f"process {process.number}", "is killed")
        world.counted["killed"] += 1
        process.alive = False
        process.unwatch()
        for actor in sorted(process.actors, key=lambda one: one.number):
            world.watch.cut(actor)
            actor.done = True
            actor.epoch += 1
        process.actors.clear()


def _suspend(world: World, process: Process, length: int) -> None:
    world.say(f"process {process.number}", f"sleeps for {length / SECOND} s")
    world.counted["suspended"] += 1
    process.asleep_until = max(process.asleep_until, world.now + length)


def _question(world: World, number: int, process: Process, cancelled: bool) -> None:
    if not process.alive:
        return
    hold = Hold(f"q{number}", Quote(0, 0))

    def flow() -> Flow[None]:
        dated = yield from claim_for_user(process.account, hold)
        fetched: Fetched = yield from UserFetch(ACCOUNT)
        if dated:
            yield from adopt(process.account, hold, fetched.reading)

    actor = world.start(process, f"question q{number}", flow(), hold=hold)
    if cancelled:
        world.later(actor, world.rng.randrange(world.scenario.fetch + 1), _cancel, world, actor)


# -- the end --------------------------------------------------------------------------------------------------------


def _settle(world: World) -> None:
    """Nobody calls any more, every task has ended, every lease is over: nothing may be left of it all."""
    scenario, store = world.scenario, world.store
    world.watch.check_events()
    stuck = [actor for process in world.processes for actor in process.actors if actor.name.startswith(("call", "job"))]
    if stuck:
        raise Broken("2 never under for long", f"{stuck} still wait though everything is over")
    world.scenario.fetch_fails = 0.0
    world.scenario.asks = world.scenario.asks and 0.0
    world.scenario.fetch = min(world.scenario.fetch, SECOND)
    survivor = Process(world, len(world.processes))
    world.processes.append(survivor)
    account = survivor.account
    lease = int((max(scenario.task_lease, scenario.policy.lease) + scenario.policy.backoff_max) * SECOND)
    for number in range(5):
        world.run()
        # The first look ends leases of calls, the second those of tasks nobody knows of; two more dissolve both.
        world.now += lease if number < 2 else scenario.lag + int(max(1.0, scenario.policy.min_interval) * SECOND)

        def look(hold: Hold) -> Flow[Any]:
            yield from account.load()
            return (yield from look_again(account, hold, account.view.now))

        hold = Hold(f"end{number}", Quote(0, 0))
        world.start(survivor, f"look {number}", look(hold), hold=hold)
        world.run()
    loaded = store.load(ACCOUNT, due=True)
    left = {name: value for name, value in loaded.counters.items() if value}
    counters, provider = loaded.counters, world.provider
    world.say("end", f"{left}, balance {provider.balance}")
    if world.mirror.entries or loaded.records:
        raise Broken("3 nothing leaks", f"records left: {sorted(world.mirror.entries)}")
    if counters[c.CREDITS] != provider.balance:
        raise Broken("3 nothing leaks", f"{counters[c.CREDITS]} credits free of {provider.balance}")
    for name in provider.limits:
        pool, limit = Pool(name), provider.limits[name]
        if limit is not None and counters[pool.slots] != limit - provider.running(name):
            raise Broken("3 nothing leaks", f"{counters[pool.slots]} slots free of {limit} in pool {name!r}")
        for counter in (pool.open, pool.running, pool.quiet):
            if counters.get(counter, 0):
                raise Broken("3 nothing leaks", f"{counter} is {counters[counter]} at the end")
    for counter in (c.WAITING, c.SLACK):
        if counters.get(counter, 0):
            raise Broken("3 nothing leaks", f"{counter} is {counters[counter]} at the end")
