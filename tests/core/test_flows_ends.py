"""However a flow ends, at whatever step, nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.admission import admit
from budgetguard._core.refreshing import adopt, claim_for_user, look_again
from budgetguard._core.settlement import abandon, call, finish, renew, settle
from budgetguard._core.steps import Send, Transact, Wait
from budgetguard.events import (
    Expired,
    OutcomeUnknown,
    Overspent,
    PriceMismatch,
    Refreshed,
    RefreshFailed,
    Released,
    Settled,
    StrangerSeen,
    TaskEnded,
)
from budgetguard.model import Capacity, Outcome, Reading, TaskSeen, TaskState, Verdict
from budgetguard.policy import Policy
from tests.core.hand import ACCEPTED, Hand, World

PATIENT = Policy(max_age=1e6, max_stale=1e6, stale_if_error=1e6)
Scene = Callable[[], tuple[World, Account]]


def first_call() -> tuple[World, Account]:
    world = World()
    return world, world.process()


def stale() -> tuple[World, Account]:
    world = World()
    account = world.process()
    world.run(admit(account, world.hold(0, 0)))
    world.clock.advance(30)
    return world, account


def crowded() -> tuple[World, Account]:
    world = World(limit=1)
    account = world.process()
    world.run(call(account, world.hold(0)), Verdict(Outcome.ACCEPTED, task_id="before"))
    world.running = 1
    world.clock.advance(11)
    return world, account


def paused() -> tuple[World, Account]:
    world = World()
    account = world.process()
    world.run(call(account, world.hold(0, resendable=False)), Verdict(Outcome.RATE, retry_after=60.0))
    return world, account


def failing() -> tuple[World, Account]:
    world, account = stale()
    world.readable = False
    return world, account


SCENES: list[Scene] = [first_call, stale, crowded, paused, failing]


def left(world: World, account: Account) -> dict[str, int]:
    view, pool = world.view, account.books.pool("")
    names = (c.SLACK, c.WAITING, pool.open, pool.quiet, c.CLAIM)
    return {name: view[name] for name in names if view[name] and not (name == c.CLAIM and view[name] <= view.now)}


def steps_of(scene: Scene) -> int:
    world, account = scene()
    hand = world.hand(admit(account, world.hold(10, credits_min=5)))
    if scene is crowded:
        for _ in range(8):
            hand.waits()
            hand.perform()
        world.running = 0
    hand.until()
    return len(hand.steps)


@pytest.mark.parametrize("performed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", SCENES)
def test_cancelled_at_any_step_a_call_gives_everything_back_and_hands_its_turn_on(
    scene: Scene, performed: bool
) -> None:
    for last in range(steps_of(scene)):
        world, account = scene()
        before = world.records
        hold = world.hold(10, credits_min=5)
        hand = world.hand(admit(account, hold))
        behind: tuple[Hold, Hand] | None = None
        for number in range(last):
            if scene is crowded and number == 8:
                other = world.hold(1)
                behind = other, world.hand(admit(account, other)).waits()
            if number > last - 3:
                world.running = 0
            hand.perform()
        if hand.done:
            break
        step = hand.step
        if performed and isinstance(step, Transact):
            world.store.transact(step.account, step.transaction)  # done, and the answer was lost
        hand.cancel(account, hold)
        hand.world.run(abandon(account, hold))
        if behind is not None:
            world.running = 0
            behind[1].finish()
            world.run(abandon(account, behind[0]))
        assert world.records == before, f"cancelled at step {last}, {step}"
        assert left(world, account) == {}, f"cancelled at step {last}, {step}"
        assert not account.watchers
        assert len(account.line("")) == 0


def test_cancelled_while_it_is_sent_a_call_stays_held_until_its_lease_ends() -> None:
    world = World()
    account, hold = world.process(), world.hold(30)
    world.hand(call(account, hold)).until(Send).cancel(account, hold)
    assert (world.free, len(world.told(OutcomeUnknown))) == ((70, 3), 1)
    world.clock.advance(121)
    world.credits, world.running = 70, 1
    world.run(admit(account, world.hold(0, 0)))
    assert [(event.what, event.reservation) for event in world.told(Expired)] == [("call", hold.id)]
    assert world.free == (70, 3)


def test_cancelled_while_it_is_settled_a_call_is_settled_by_its_lease() -> None:
    for outcome in (Outcome.ACCEPTED, Outcome.REJECTED, Outcome.CONCURRENCY):
        for performed in (False, True):
            world = World()
            account, hold = world.process(), world.hold(30, resendable=False)
            hand = world.hand(call(account, hold), Verdict(outcome, task_id="t")).until(Send)
            hand.perform()
            step = hand.step
            assert isinstance(step, Transact)
            if performed:
                world.store.transact(step.account, step.transaction)
            hand.cancel(account, hold)
            world.clock.advance(121)
            taken = outcome is Outcome.ACCEPTED
            world.credits, world.running = (70, 1) if taken else (100, 0)
            world.run(admit(account, world.hold(0, 0)))
            world.clock.advance(20)
            world.run(admit(account, world.hold(0, 0)))
            assert world.free == ((70, 3) if taken else (100, 4))


def test_abandoning_what_was_settled_or_never_begun_changes_nothing() -> None:
    world = World()
    account, hold = world.process(), world.hold()
    world.run(abandon(account, hold))
    world.run(call(account, hold))
    counters = world.view.counters
    world.run(abandon(account, hold))
    assert world.view.counters == counters


# -- settling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.REJECTED, Outcome.NOT_SENT, Outcome.INSUFFICIENT, Outcome.RATE])
def test_a_call_that_was_not_taken_is_given_back_whole(outcome: Outcome) -> None:
    world = World()
    account = world.process(Policy(resend_max=0))
    world.run(call(account, world.hold(30)), Verdict(outcome))
    assert (world.free, world.records) == ((100, 4), [])
    assert [event.credits for event in world.told(Released)] == [30]


@pytest.mark.parametrize("start", [0.0, 5.0, 1e6])
def test_after_the_providers_own_refusal_nobody_goes_on_with_the_same_reading(start: float) -> None:
    world = World(start=start)
    account = world.process(Policy(max_age=1e9, max_stale=1e9, stale_if_error=1e9))
    world.run(call(account, world.hold(30)), Verdict(Outcome.INSUFFICIENT))
    world.credits = 90
    world.run(admit(account, world.hold(30)))
    assert (world.fetches, world.free[0]) == (2, 60)


@pytest.mark.parametrize("outcome", [Outcome.INSUFFICIENT, Outcome.CONCURRENCY])
def test_what_a_refused_call_gives_back_is_given_out_only_after_another_reading(outcome: Outcome) -> None:
    world = World(30, 1)
    account, other = world.process(PATIENT), world.process(PATIENT)
    hand = world.hand(call(account, world.hold(30, resendable=False)), Verdict(outcome)).until(Send)
    world.run(other.load())
    while not hand.done:
        hand.perform()
        assert world.free != (30, 1) or not world.view.has_reading, "free, on the reading that was wrong"


def test_after_the_providers_refusal_the_latest_reading_is_not_believed_whoever_asked_for_it() -> None:
    world = World()
    account, other = world.process(PATIENT), world.process(PATIENT)
    hand = world.hand(call(account, world.hold(30)), Verdict(Outcome.INSUFFICIENT)).until(Send)
    world.clock.advance(5)
    world.run(look_again(other, world.hold(0, 0), other.view[c.READ_AT] + 1_000_000))
    hand.finish()
    assert not world.view.has_reading


def test_a_charge_is_told_beside_the_price_wherever_they_differ() -> None:
    world = World()
    account = world.process()
    charges = (10, 8, 12, 4, 3)
    for number, charge in enumerate(charges):
        least = 4 if charge in {4, 3} else None
        hold = world.hold(10, credits_min=least)
        world.run(call(account, hold), Verdict(Outcome.ACCEPTED, charge=charge, task_id=str(number)))
    assert [event.charge for event in world.told(PriceMismatch)] == [8, 12, 3]
    assert [(event.credits, event.charge) for event in world.told(Overspent)] == [(10, 12)]
    assert {event.source for event in world.told(PriceMismatch)} == {"row"}
    assert [(event.charge, event.reported) for event in world.told(Settled)] == [(charge, True) for charge in charges]


def test_a_task_that_ended_before_the_answer_that_names_it_frees_its_slot() -> None:
    world = World()
    account = world.process()
    hand = world.hand(call(account, world.hold()), ACCEPTED).until(Send)
    assert world.run(finish(account, TaskSeen("t", TaskState.SUCCEEDED))) is False
    hand.finish()
    assert world.free == (90, 4)
    assert [event.task_id for event in world.told(TaskEnded)] == ["t"]


@pytest.mark.parametrize("task_id", ["", "a\x1fb", "\x1f" * 20, "r:h1", "\ud800", "line\nfeed", "猫", "x" * 5000])
def test_a_task_may_be_called_anything(task_id: str) -> None:
    world = World()
    account = world.process()
    world.run(call(account, world.hold()), Verdict(Outcome.ACCEPTED, task_id=task_id))
    assert world.free == (90, 3)
    if task_id:
        assert world.run(finish(account, TaskSeen(task_id, TaskState.SUCCEEDED)))
    world.clock.advance(4000)
    world.run(admit(account, world.hold(0, 0)))
    assert world.records == ["r:" + f"h{world.numbers}"]


@pytest.mark.parametrize("terms", [{}, {"reports_slots": False}])
def test_a_provider_that_gives_one_id_twice_costs_no_slot(terms: dict[str, Any]) -> None:
    world = World(running=None if terms else 0)
    account = world.process(**terms)
    for _ in range(3):
        world.run(call(account, world.hold()), ACCEPTED)
    assert len(world.records) == 3
    world.run(finish(account, TaskSeen("t", TaskState.SUCCEEDED)))
    world.clock.advance(3700)
    world.run(admit(account, world.hold(0, 0)))
    world.clock.advance(20)
    world.run(admit(account, world.hold(0, 0)))
    assert world.free[1] == 4


@pytest.mark.parametrize("terms", [{}, {"reports_slots": False}, {"at_completion": True}], ids=str)
@pytest.mark.parametrize("task_id", [None, "t"])
def test_an_answer_that_comes_after_the_lease_is_counted_once(task_id: str | None, terms: dict[str, Any]) -> None:
    world = World(running=0 if terms.get("reports_slots", True) else None)
    account, hold = world.process(**terms), world.hold(30, credits_min=20)
    hand = world.hand(call(account, hold), Verdict(Outcome.ACCEPTED, task_id=task_id)).until(Send)
    world.clock.advance(130)
    world.run(admit(account, world.hold(0, 0)))
    hand.finish()
    assert world.free == (70, 3)
    assert world.run(finish(account, TaskSeen(task_id or hold.id, TaskState.SUCCEEDED)))
    world.credits = 70
    for _ in range(2):
        world.clock.advance(20)
        world.run(admit(account, world.hold(0, 0)))
    assert world.free == (70, 4)
    assert world.view[c.SLACK] == 0


def test_a_call_under_way_is_kept_alive_and_one_that_is_over_is_not() -> None:
    world = World()
    account, hold = world.process(), world.hold()
    assert world.run(renew(account, hold)) is False
    hand = world.hand(call(account, hold)).until(Send)
    for _ in range(5):
        world.clock.advance(100)
        assert world.run(renew(account, hold)) is True
        assert world.store.load("p:a", due=True).records == {}
    hand.finish()
    assert world.run(renew(account, hold)) is False
    world.clock.advance(3000)
    assert world.store.load("p:a", due=True).records == {}


def test_a_hold_that_ended_before_cannot_be_kept_alive() -> None:
    world = World()
    account, hold = world.process(), world.hold()
    world.run(admit(account, hold))
    world.clock.advance(121)
    world.run(admit(account, world.hold(0, 0)))
    assert world.run(renew(account, hold)) is False


def test_settling_what_was_never_admitted_does_nothing() -> None:
    world = World()
    hand = world.hand(settle(world.process(), world.hold(), ACCEPTED))
    assert hand.done
    assert hand.steps == []


def test_a_task_is_ended_once() -> None:
    world = World()
    account = world.process()
    world.run(call(account, world.hold()))
    ended = TaskSeen("t", TaskState.SUCCEEDED)
    hands = [world.hand(finish(account, ended)) for _ in range(2)]
    for hand in hands:
        hand.perform()
    assert [hand.finish() for hand in hands] == [True, False]
    assert world.free == (90, 4)


# -- readings -------------------------------------------------------------------------------------------------------


def test_the_users_own_question_is_a_reading() -> None:
    world = World()
    account, hold = world.process(), world.hold(0, 0)
    assert world.run(claim_for_user(account, hold))
    world.run(adopt(account, hold, Reading(55, {"": Capacity(4, 1)})))
    assert (world.free, world.fetches) == ((55, 3), 0)
    assert world.told(Refreshed)[0].asked_by == "user"


def test_the_users_question_is_left_alone_while_the_guard_asks() -> None:
    world = World()
    account, hold, other = world.process(), world.hold(0, 0), world.hold(0, 0)
    assert world.run(claim_for_user(account, hold))
    assert world.run(claim_for_user(account, other)) is False
    world.run(adopt(account, other, Reading(1)))
    world.run(adopt(account, hold, None))
    assert left(world, account) == {}
    assert not world.view.has_reading


def test_a_reading_that_was_overtaken_is_dropped() -> None:
    world = World()
    account, slow, quick = world.process(), world.hold(0, 0), world.hold(0, 0)
    world.run(claim_for_user(account, slow))
    world.clock.advance(13)
    world.run(claim_for_user(account, quick))
    world.run(adopt(account, quick, Reading(50, {"": Capacity(4, 0)})))
    world.run(adopt(account, slow, Reading(99, {"": Capacity(4, 0)})))
    assert world.free == (50, 4)
    assert left(world, account) == {}


def test_a_reading_that_fails_is_told_with_when_it_is_tried_again() -> None:
    world = World()
    world.readable = False
    account = world.process(Policy(on_credits_error="open"))
    world.run(admit(account, world.hold()))
    (failed,) = world.told(RefreshFailed)
    assert (failed.why, failed.failures) == ("status 500", 1)
    assert 0.5 <= failed.retry_in <= 1.0


def test_a_stranger_on_an_exclusive_account_is_told_once() -> None:
    world = World()
    account = world.process(Policy(exclusive=True))
    world.run(call(account, world.hold()))
    world.running = 3
    for _ in range(3):
        world.clock.advance(11)
        world.run(admit(account, world.hold(0, 0)))
    assert [(event.running, event.ours) for event in world.told(StrangerSeen)] == [(3, 1)]


def test_leases_that_ended_in_any_number_are_all_ended_in_time() -> None:
    world = World(credits_=1000, limit=None)
    account = world.process()
    for _ in range(250):
        world.run(admit(account, world.hold(1)))
    world.clock.advance(200)
    for _ in range(4):
        world.clock.advance(20)
        world.run(admit(account, world.hold(0, 0)))
    assert len(world.told(Expired)) >= 250
    assert world.view["open"] == 0


def test_two_processes_that_end_the_same_lease_end_it_once() -> None:
    world = World()
    account, other = world.process(), world.process()
    world.run(admit(account, world.hold(30)))
    world.clock.advance(130)
    hands = [world.hand(admit(process, world.hold(0, 0))) for process in (account, other)]
    for _ in range(4):
        for hand in hands:
            if not hand.done and not isinstance(hand.step, Wait):
                hand.perform()
    for hand in hands:
        hand.finish()
    assert len(world.told(Expired)) == 1
    world.clock.advance(20)
    world.run(admit(account, world.hold(0, 0)))
    assert world.free == (100, 4)
