"""The flows without a call of their own, closed at each of their steps: what they leave, the next one finishes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from budgetguard._core import counters as c
from budgetguard._core.account import Account
from budgetguard._core.admission import admit
from budgetguard._core.counters import Pool
from budgetguard._core.endings import finish
from budgetguard._core.permits import can_afford, end_by_token
from budgetguard._core.recovery import recover
from budgetguard._core.refreshing import expire_due
from budgetguard._core.settlement import call
from budgetguard._core.steps import Asked, Flow, Send
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict
from tests.core.hand import Hand, World

POOL = Pool("")
DONE = TaskSeen("t", TaskState.SUCCEEDED)


def spend(world: World, account: Account, task_id: str = "t", credits_: int = 10) -> None:
    world.run(call(account, world.hold(credits_)), Verdict(Outcome.ACCEPTED, task_id=task_id))


def after_a_task(world: World, account: Account) -> Callable[[], Flow[object]]:
    spend(world, account)
    return lambda: finish(account, DONE)


def after_an_open_permit(world: World, account: Account) -> Callable[[], Flow[object]]:
    hold = world.hold(10)
    world.run(admit(account, hold))
    return lambda: end_by_token(account, hold.id, TaskSeen("", TaskState.SUCCEEDED))


def after_an_earlier_process(world: World, account: Account) -> Callable[[], Flow[object]]:
    spend(world, account)
    world.hand(call(account, world.hold(20)), Verdict(Outcome.ACCEPTED, task_id="u")).until(Send)
    world.tasks = {"t": Asked(DONE)}
    heir = world.process()
    return lambda: recover(heir)


def after_leases_are_over(world: World, account: Account) -> Callable[[], Flow[object]]:
    spend(world, account)
    world.hand(call(account, world.hold(20)), Verdict(Outcome.ACCEPTED, task_id="u")).until(Send)
    world.tasks = {"t": Asked(DONE)}
    world.clock.advance(4000)
    return lambda: expire_due(account)


def before_a_look(world: World, account: Account) -> Callable[[], Flow[object]]:
    world.clock.advance(100)
    return lambda: can_afford(account, world.hold(500))


SCENES = [after_a_task, after_an_open_permit, after_an_earlier_process, after_leases_are_over, before_a_look]


def begin(scene: Callable[[World, Account], Callable[[], Flow[object]]]) -> tuple[World, Callable[[], Flow[object]]]:
    world = World(1000, limit=10)
    account = world.process()
    world.run(admit(account, world.hold(0, 0)))
    return world, scene(world, account)


def ended(world: World, flow: Callable[[], Flow[object]]) -> dict[str, int]:
    """Let it be done again, and a lease and a reading pass; tell how the books stand."""
    world.run(flow())
    for _ in range(2):
        world.clock.advance(4000)
        world.run(admit(world.process(), world.hold(0, 0)))
    view = world.view
    return {name: view[name] for name in (c.CREDITS, c.WAITING, POOL.slots, POOL.open, POOL.running, POOL.quiet)}


@pytest.mark.parametrize("heard", [True, False], ids=["its last step undone", "its last step done and unheard"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_closed_at_any_step_it_leaves_what_the_next_one_finishes(
    scene: Callable[[World, Account], Callable[[], Flow[object]]], heard: bool
) -> None:
    whole = ended(*begin(scene))
    assert whole == {c.CREDITS: 1000, c.WAITING: 0, POOL.slots: 10, POOL.open: 0, POOL.running: 0, POOL.quiet: 0}
    for steps in range(1000):
        world, flow = begin(scene)
        hand: Hand = world.hand(flow())
        for _ in range(steps):
            if not hand.done:
                hand.perform()
        if hand.done:
            assert steps > 0
            return
        if not heard:
            deaf = world.hand(iter_once(hand))
            deaf.perform()
        hand.flow.close()
        assert ended(world, flow) == whole, f"closed at step {steps}, {type(hand.step).__name__}"
    raise AssertionError("it has no end")


def iter_once(hand: Hand) -> Flow[object]:
    """Have the step a flow stands at performed, and tell nobody."""
    assert hand.step is not None
    return (yield hand.step)
