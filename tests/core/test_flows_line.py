from __future__ import annotations

from typing import Any

import pytest

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.admission import admit
from budgetguard._core.records import Record, Stage
from budgetguard._core.settlement import abandon, call, finish
from budgetguard._core.steps import Fetch, Send, Transact, Wait
from budgetguard.errors import InsufficientCredits, InsufficientSlots, QueueFull, QueueTimeout
from budgetguard.events import Admitted, Paused, Queued, RefusedByProvider
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict
from budgetguard.policy import Policy
from tests.core.hand import NAME, Hand, World

CROWDED = Verdict(Outcome.CONCURRENCY, reason="QuotaExceeded")
TOO_FAST = Verdict(Outcome.RATE, retry_after=30.0, reason="TooManyRequests")


def busy(world: World, policy: Policy | None = None, **terms: object) -> Account:
    """A process whose provider runs as much as it can, all of it ours and seen running."""
    account = world.process(policy, **terms)
    assert world.limit is not None
    for number in range(world.limit):
        world.run(call(account, world.hold(1)), Verdict(Outcome.ACCEPTED, task_id=f"t{number}"))
    world.running = world.limit
    world.credits -= world.limit
    world.events.clear()
    return account


def end(world: World, account: Account, number: int) -> None:
    assert world.running is not None
    world.running -= 1
    assert world.run(finish(account, TaskSeen(f"t{number}", TaskState.SUCCEEDED)))


def queue(world: World, account: Account, **given: Any) -> tuple[Hold, Hand]:
    hold = world.hold(**given)
    return hold, world.hand(admit(account, hold)).waits()


def served(world: World) -> list[str]:
    return [event.reservation for event in world.told(Admitted)]


def test_who_finds_no_slot_waits_with_credits_held_and_goes_when_one_frees() -> None:
    world = World(limit=1)
    account = busy(world)
    hold, hand = queue(world, account)
    assert isinstance(hand.step, Wait)
    assert world.free == (89, 0)
    (queued,) = world.told(Queued)
    assert (queued.reservation, queued.reason, queued.place) == (hold.id, "slots", 1)
    end(world, account, 0)
    hand.finish()
    assert world.free == (89, 0)
    assert served(world) == [hold.id]
    assert hold.ticket is None
    assert len(account.line("")) == 0


def test_first_come_is_first_served_and_a_newcomer_does_not_overtake() -> None:
    world = World(limit=3)
    account = busy(world)
    waiting = [queue(world, account) for _ in range(3)]
    end(world, account, 0)
    newcomer = queue(world, account)
    assert [event.reason for event in world.told(Queued)] == ["slots", "line", "line", "line"]
    assert [event.place for event in world.told(Queued)] == [1, 2, 3, 4]
    for number in (1, 2):
        end(world, account, number)
    for _, hand in reversed(waiting):
        hand.waits()
    for _, hand in [*waiting, newcomer]:
        hand.waits()
    assert served(world) == [hold.id for hold, _ in waiting]
    assert isinstance(newcomer[1].step, Wait)


def test_a_higher_priority_goes_first_and_equals_keep_their_order() -> None:
    world = World(limit=4)
    account = busy(world)
    queued = [queue(world, account, priority=priority) for priority in (0, 0, 5, 5)]
    for number in range(4):
        end(world, account, number)
    for _ in range(4):
        for _, hand in queued:
            hand.waits()
    assert served(world) == [queued[index][0].id for index in (2, 3, 0, 1)]


def test_a_call_without_slots_does_not_stand_in_line() -> None:
    world = World(limit=1)
    account = busy(world)
    queue(world, account)
    hand = world.hand(admit(account, world.hold(slots=0))).waits()
    assert hand.done
    assert hand.error is None


def test_who_cannot_pay_is_refused_at_once_and_not_after_the_wait() -> None:
    world = World(limit=1, credits_=50)
    account = busy(world)
    queue(world, account, credits_=45)
    with pytest.raises(InsufficientCredits):
        world.run(admit(account, world.hold(10)))
    assert world.clock() < 1060


def test_credits_that_a_stranger_spent_meanwhile_are_found_missing_at_the_head() -> None:
    world = World(limit=1)
    account = busy(world)
    hold, hand = queue(world, account, credits_=90)
    world.clock.advance(20)
    world.credits, world.running = 30, 0
    with pytest.raises(InsufficientCredits) as refused:
        hand.finish()
    assert (refused.value.needed, refused.value.available) == (90, 30)
    world.run(abandon(account, hold))
    assert world.view[c.WAITING] == 0


def test_a_limit_that_was_lowered_below_the_call_is_found_at_the_head() -> None:
    world = World(limit=2)
    account = busy(world)
    _, hand = queue(world, account, slots=2)
    world.limit, world.running = 1, 0
    with pytest.raises(InsufficientSlots):
        hand.finish()


def test_a_full_line_refuses_and_says_how_long_it_is() -> None:
    world = World(limit=1)
    account = busy(world, Policy(max_waiting=2))
    for _ in range(2):
        queue(world, account)
    with pytest.raises(QueueFull) as refused:
        world.run(admit(account, world.hold()))
    assert (refused.value.waiting, refused.value.max_waiting) == (2, 2)
    with pytest.raises(QueueFull):
        world.run(admit(busy(World(limit=1), Policy(max_waiting=0)), world.hold()))


@pytest.mark.parametrize("how", ["policy", "deadline"])
def test_who_waited_too_long_is_refused_with_how_long_and_where(how: str) -> None:
    world = World(limit=1)
    account = busy(world, Policy(exclusive=True, max_wait=25.0 if how == "policy" else None))
    queue(world, account)
    hold = world.hold(deadline=25.0 if how == "deadline" else None)
    hand = world.hand(admit(account, hold))
    with pytest.raises(QueueTimeout) as refused:
        hand.finish()
    assert refused.value.waited == pytest.approx(25.0, abs=0.1)
    assert refused.value.place == 2
    hand.cancel(account, hold)
    assert len(account.line("")) == 1
    assert hold.key not in world.records


def test_a_long_wait_keeps_its_hold_alive() -> None:
    world = World(limit=1)
    account = busy(world, Policy(lease=30.0, exclusive=True, max_wait=400.0))
    hold, hand = queue(world, account)
    late = world.clock() + 395
    while world.clock() < late and not hand.done:
        hand.perform()
        assert world.view[c.WAITING] == 10
    assert hold.key in world.records


def test_a_hold_that_was_lost_in_a_long_sleep_is_taken_again() -> None:
    world = World(limit=1)
    account, other = busy(world, Policy(exclusive=True)), world.process(Policy(exclusive=True))
    hold, hand = queue(world, account)
    world.clock.advance(1000)
    world.run(admit(other, world.hold(0, 0)))
    assert world.view[c.WAITING] == 0
    end(world, account, 0)
    hand.finish()
    assert (world.view[c.WAITING], hand.error, hold.key in world.records) == (0, None, True)


def test_doubt_is_settled_by_a_reading_as_soon_as_one_may_be_asked_for() -> None:
    world = World(limit=2)
    account = busy(world)
    world.clock.advance(11)
    world.run(admit(account, world.hold(0, 0)))
    _, hand = queue(world, account)
    world.run(finish(account, TaskSeen("t0", TaskState.SUCCEEDED)))
    world.running = 1
    before, asked = world.clock(), world.fetches
    hand.finish()
    assert world.clock() - before <= 1.1
    assert world.fetches == asked + 1


def test_without_doubt_the_head_of_the_line_does_not_ask_before_the_reading_is_old() -> None:
    world = World(limit=1)
    account = busy(world, Policy(exclusive=True))
    _, hand = queue(world, account)
    asked, late = world.fetches, world.clock() + 9
    while world.clock() < late - 0.01 and not hand.done:
        assert hand.seconds is None or hand.seconds > 0.5 if isinstance(hand.step, Wait) else True
        hand.perform()
    assert world.fetches <= asked + 1


@pytest.mark.parametrize(
    "policy",
    [
        Policy(max_age=0.0),
        Policy(max_age=0.0, exclusive=True),
        Policy(max_age=0.2),
        Policy(max_age=0.0, min_interval=0.5),
    ],
    ids=repr,
)
def test_the_head_of_the_line_never_spins(policy: Policy) -> None:
    world = World(limit=1)
    account = busy(world, policy)
    _, hand = queue(world, account)
    before = len(hand.steps)
    late = world.clock() + 60
    while world.clock() < late:
        hand.perform()
    assert len(hand.steps) - before < 60 / policy.min_interval * 16


def test_a_call_refused_for_concurrency_goes_back_to_its_old_place() -> None:
    world = World(limit=1)
    account = world.process()
    first = world.hold()
    hand = world.hand(call(account, first), CROWDED)
    hand.until(Send)
    number = first.number
    behind = [queue(world, account) for _ in range(2)]
    world.running = 1
    hand.waits()
    assert first.number == number
    assert first.ticket is account.line("").head
    world.running = 0
    hand.until(Send)
    assert len(world.told(RefusedByProvider)) == 1
    assert world.told(RefusedByProvider)[0].resent
    assert all(isinstance(other.step, Wait) for _, other in behind)


def test_a_call_goes_back_into_the_line_a_bounded_number_of_times() -> None:
    world = World()
    account = world.process(Policy(resend_max=2))
    verdict = world.run(call(account, world.hold()), CROWDED, CROWDED, CROWDED)
    assert verdict is not None
    assert verdict.outcome is Outcome.CONCURRENCY
    assert [event.resent for event in world.told(RefusedByProvider)] == [True, True, False]
    assert world.records == []
    assert world.run(call(account, world.hold(resendable=False)), CROWDED).outcome is Outcome.CONCURRENCY


def test_a_rate_refusal_pauses_the_account_in_every_process() -> None:
    world = World()
    account, other = world.process(), world.process()
    world.run(admit(other, world.hold()))
    hand = world.hand(call(account, world.hold()), TOO_FAST)
    hand.until(Wait)
    (paused,) = world.told(Paused)
    assert (paused.seconds, paused.reason) == (30.0, "TooManyRequests")
    second = world.hand(admit(other, world.hold())).waits()
    assert isinstance(second.step, Wait)
    start = world.clock()
    second.finish()
    assert world.clock() - start == pytest.approx(30.0, abs=0.5)
    hand.finish()


def test_a_longer_pause_is_not_cut_short_by_a_shorter_one() -> None:
    world = World()
    account, other = world.process(), world.process()
    first, second = (
        world.hand(call(process, world.hold(resendable=False)), verdict)
        for process, verdict in ((account, TOO_FAST), (other, Verdict(Outcome.RATE, retry_after=5.0)))
    )
    for hand in (first, second):
        hand.until(Send)
    first.finish()
    second.finish()
    assert world.view[c.PAUSE] - world.view.now == pytest.approx(30e6, rel=0.01)


def test_a_rate_refusal_without_a_word_how_long_pauses_longer_each_time() -> None:
    world = World()
    account = world.process(Policy(resend_max=4))
    verdict = Verdict(Outcome.RATE)
    world.run(call(account, world.hold()), *[verdict] * 5)
    seconds = [event.seconds for event in world.told(Paused)]
    assert len(seconds) == 5
    assert all(2.0**n / 2 <= pause <= 2.0**n for n, pause in enumerate(seconds)), seconds


def test_a_pause_keeps_the_hold_and_ends_at_a_deadline() -> None:
    world = World()
    account = world.process(Policy(lease=20.0))
    world.run(call(account, world.hold(resendable=False)), Verdict(Outcome.RATE, retry_after=300.0))
    hold = world.hold(deadline=200.0)
    hand = world.hand(admit(account, hold))
    with pytest.raises(QueueTimeout):
        hand.finish()
    assert world.clock() == pytest.approx(1200.0, abs=1)
    assert hold.key in world.records
    hand.cancel(account, hold)
    assert world.free == (100, 4)


@pytest.mark.parametrize("task_id", [None, "t"])
@pytest.mark.parametrize("terms", [{}, {"reports_slots": False}, {"at_completion": True}], ids=str)
def test_a_call_that_lost_its_hold_in_a_long_pause_takes_another_and_is_counted_once(
    task_id: str | None, terms: dict[str, Any]
) -> None:
    world = World(running=0 if terms.get("reports_slots", True) else None)
    account, other = world.process(**terms), world.process(**terms)
    world.run(call(account, world.hold(0, resendable=False)), Verdict(Outcome.RATE, retry_after=300.0))
    hold = world.hold(30)
    hand = world.hand(call(account, hold), Verdict(Outcome.ACCEPTED, task_id=task_id)).waits()
    world.clock.advance(200)
    world.hand(admit(other, world.hold(0, 0))).waits()
    texts = [world.store._accounts[NAME].records[key][0] for key in world.records]
    assert Stage.LOST in {Record.loads(text).stage for text in texts}
    hand.finish()
    assert world.free[0] in (70, 40)
    assert world.run(finish(account, TaskSeen(task_id or hold.id, TaskState.SUCCEEDED)))
    world.credits = 70
    for _ in range(4):
        world.clock.advance(2000)
        world.run(admit(other, world.hold(0, 0)))
    assert world.free == (70, 4)


# -- two processes --------------------------------------------------------------------------------------------------


def test_a_slot_freed_in_one_process_wakes_the_line_of_another() -> None:
    world = World(limit=1)
    account, other = busy(world), world.process()
    _, hand = queue(world, other)
    assert isinstance(hand.step, Wait)
    end(world, account, 0)
    assert hand.step.ticket.woken
    before = world.clock()
    hand.finish()
    assert world.clock() - before < 0.1


def test_a_process_with_work_under_way_lets_the_head_of_anothers_line_go_first() -> None:
    world = World(limit=2)
    account, other = busy(world), world.process()
    hold, hand = queue(world, other)
    end(world, account, 0)
    newcomer = world.hand(admit(account, world.hold())).until(Wait)
    assert newcomer.seconds is not None
    assert 0 < newcomer.seconds < 1
    hand.finish()
    newcomer.waits()
    assert served(world) == [hold.id]
    assert not newcomer.done


def test_one_request_for_the_balance_is_under_way_however_many_wait() -> None:
    world = World(limit=1)
    processes = [busy(world), *(world.process() for _ in range(3))]
    hands = [queue(world, process)[1] for process in processes for _ in range(3)]
    for _ in range(50):
        world.clock.advance(1.0)
        asking = 0
        for hand in hands:
            hand.until(Fetch, Wait)
            asking += isinstance(hand.step, Fetch)
        assert asking <= 1
        for hand in hands:
            if isinstance(hand.step, (Fetch, Transact)):
                hand.perform()
            elif isinstance(hand.step, Wait):
                hand.answer(False)
