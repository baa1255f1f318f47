from __future__ import annotations

import itertools

import pytest

from budgetguard._core import counters as c
from budgetguard._core.admission import admit
from budgetguard._core.settlement import call, finish
from budgetguard._core.steps import Fetch, Send, Wait
from budgetguard.errors import CreditsUnavailable, InsufficientCredits, InsufficientSlots, QueueTimeout
from budgetguard.events import Admitted, LowBalance, Refreshed, RefusedCall
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict
from budgetguard.policy import Policy
from tests.core.hand import World


def test_on_a_fresh_reading_admission_is_one_transaction_and_nothing_else() -> None:
    world = World()
    account = world.process(listening=False)
    world.run(admit(account, world.hold()))
    for number in range(2, 5):
        hand = world.hand(admit(account, world.hold()))
        hand.finish()
        assert hand.names == ["Transact"]
        assert world.free == (100 - 10 * number, 4 - number)


def test_the_first_call_asks_for_the_balance_and_goes_on() -> None:
    world = World()
    hand = world.hand(admit(world.process(listening=False), world.hold()))
    hand.finish()
    assert hand.names == ["Transact", "Load", "Transact", "Fetch", "Load", "Transact", "Transact"]
    assert (world.fetches, world.free) == (1, (90, 3))


def test_while_one_asks_others_go_on_with_a_reading_that_is_not_too_stale() -> None:
    world = World()
    account, other = world.process(), world.process()
    world.run(admit(account, world.hold()))
    world.clock.advance(11)
    asking = world.hand(admit(account, world.hold())).until(Fetch)
    for process in (account, other):
        hand = world.hand(admit(process, world.hold()))
        hand.finish()
        assert "Fetch" not in hand.names
        assert "Wait" not in hand.names
    assert world.fetches == 1
    asking.finish()
    assert world.fetches == 2


def test_beyond_the_longest_staleness_others_wait_for_the_one_who_asks() -> None:
    world = World()
    account, other = world.process(), world.process()
    world.run(admit(account, world.hold()))
    world.clock.advance(61)
    asking = world.hand(admit(account, world.hold())).until(Fetch)
    waiting = [world.hand(admit(process, world.hold())).waits() for process in (account, other)]
    assert all(isinstance(hand.step, Wait) for hand in waiting)
    asking.finish()
    for hand in waiting:
        assert isinstance(hand.step, Wait)
        assert hand.step.ticket.woken
        hand.finish()
    assert world.fetches == 2
    assert not account.watchers


def test_one_who_asks_and_dies_is_followed_by_another_when_the_claim_ends() -> None:
    world = World()
    account, other = world.process(), world.process()
    world.hand(admit(account, world.hold())).until(Fetch)
    hand = world.hand(admit(other, world.hold())).waits()
    assert hand.seconds == pytest.approx(12.0, rel=1e-3)
    hand.finish()
    assert world.fetches == 1
    assert world.clock() == pytest.approx(1012.0, rel=1e-3)


def test_a_refusal_is_never_raised_on_an_old_reading() -> None:
    world = World(credits_=5)
    account = world.process()
    world.run(admit(account, world.hold(0)))
    world.clock.advance(1.5)
    world.credits = 100
    world.run(admit(account, world.hold(50)))
    assert world.fetches == 2


def test_a_young_reading_is_enough_to_refuse_by() -> None:
    world = World(credits_=5)
    account = world.process()
    world.run(admit(account, world.hold(0)))
    world.clock.advance(0.5)
    hand = world.hand(admit(account, world.hold(50)))
    with pytest.raises(InsufficientCredits) as refused:
        hand.finish()
    assert world.fetches == 1
    assert (refused.value.needed, refused.value.available, refused.value.shortfall) == (50, 5, 45)
    assert refused.value.age == pytest.approx(0.5)
    assert world.records == ["r:h1"]


@pytest.mark.parametrize("seconds", [0.0, 0.9, 1.5, 30.0, 90.0])
def test_a_credits_endpoint_however_slow_ends_in_an_answer(seconds: float) -> None:
    world = World(credits_=20, limit=2)
    world.seconds = seconds
    account = world.process()
    world.run(admit(account, world.hold()))
    world.clock.advance(100)
    with pytest.raises(InsufficientCredits):
        world.run(admit(account, world.hold(500)))
    world.clock.advance(100)
    with pytest.raises(InsufficientSlots):
        world.run(admit(account, world.hold(1, slots=9)))
    assert world.fetches <= 6


def test_nothing_of_a_refused_call_is_held() -> None:
    world = World(credits_=5)
    account, hold = world.process(), world.hold(50)
    hand = world.hand(admit(account, hold)).until()
    hand.cancel(account, hold)
    assert (world.records, world.free) == ([], (5, 4))


@pytest.mark.parametrize("limit", [0, 2])
def test_a_call_that_would_never_get_its_slots_is_refused_at_once(limit: int) -> None:
    world = World(limit=limit)
    with pytest.raises(InsufficientSlots) as refused:
        world.run(admit(world.process(), world.hold(slots=3)))
    assert (refused.value.needed, refused.value.limit) == (3, limit)
    assert world.clock() == 1000.0


def test_the_headroom_of_slots_counts_against_the_limit() -> None:
    world = World(limit=2)
    with pytest.raises(InsufficientSlots) as refused:
        world.run(admit(world.process(Policy(slots_headroom=2)), world.hold()))
    assert refused.value.limit == 0


def test_a_limit_that_was_raised_is_found_before_a_call_is_refused() -> None:
    world = World(limit=0)
    account = world.process()
    world.run(admit(account, world.hold(1, 0)))
    world.clock.advance(2)
    world.limit = 5
    world.run(admit(account, world.hold(slots=3)))
    assert world.free == (89, 2)


def test_a_call_dearer_than_the_balance_is_refused_whatever_slack_there_is() -> None:
    world = World(credits_=100)
    account = world.process()
    world.run(admit(account, world.hold(90, credits_min=10)))
    with pytest.raises(InsufficientCredits):
        world.run(admit(account, world.hold(101)))


def test_a_call_that_lacks_no_more_than_the_slack_of_calls_under_way_waits_for_it() -> None:
    world = World(credits_=100)
    account = world.process()
    first = world.hand(call(account, world.hold(90, credits_min=10)), Verdict(Outcome.ACCEPTED, charge=20, task_id="a"))
    first.until(Send)
    second = world.hand(admit(account, world.hold(60))).waits()
    assert isinstance(second.step, Wait)
    assert world.view[c.CREDITS] == 10
    first.finish()
    second.finish()
    assert second.error is None
    assert world.view[c.CREDITS] == 20


def test_a_call_that_waited_for_slack_in_vain_is_refused() -> None:
    world = World(credits_=100)
    account = world.process()
    first = world.hand(call(account, world.hold(90, credits_min=10)), Verdict(Outcome.ACCEPTED, charge=90, task_id="a"))
    first.until(Send)
    second = world.hand(admit(account, world.hold(60))).waits()
    first.finish()
    world.credits = 10
    with pytest.raises(InsufficientCredits):
        second.finish()


# -- when the balance cannot be read --------------------------------------------------------------------------------


def test_while_the_endpoint_fails_a_reading_is_used_a_while_longer_and_then_no_more() -> None:
    world = World()
    account = world.process()
    world.run(admit(account, world.hold()))
    world.readable = False
    for later in (70, 200):
        world.clock.advance(later)
        world.run(admit(account, world.hold()))
    world.clock.advance(40)
    with pytest.raises(CreditsUnavailable) as refused:
        world.run(admit(account, world.hold()))
    assert refused.value.age is not None
    assert refused.value.age > 300
    assert refused.value.failures >= 1
    assert refused.value.retry_after > 0


def test_without_any_reading_a_closed_policy_refuses_and_an_open_one_admits_unseen() -> None:
    world = World()
    world.readable = False
    with pytest.raises(CreditsUnavailable) as refused:
        world.run(admit(world.process(), world.hold()))
    assert refused.value.age is None
    account = world.process(Policy(on_credits_error="open"))
    for _ in range(10):
        world.run(admit(account, world.hold(1000)))
    assert len(world.records) == 10


def test_an_open_policy_admits_who_cannot_pay_while_nobody_can_tell() -> None:
    world = World(credits_=5)
    account = world.process(Policy(on_credits_error="open"))
    world.run(admit(account, world.hold(0)))
    world.readable = False
    world.clock.advance(2)
    world.run(admit(account, world.hold(50)))
    world.readable = True
    world.clock.advance(60)
    with pytest.raises(InsufficientCredits):
        world.run(admit(account, world.hold(50)))


def test_a_failing_endpoint_is_asked_less_and_less_often_but_never_seldom() -> None:
    world = World()
    world.readable = False
    policy = Policy(backoff=1.0, backoff_max=20.0, on_credits_error="open")
    account = world.process(policy)
    times: list[float] = []
    while len(times) < 12:
        asked = world.fetches
        world.run(admit(account, world.hold()))
        if world.fetches > asked:
            times.append(world.clock())
        world.clock.advance(0.25)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    longest = [min(20.0, 2.0**attempt) for attempt in range(len(gaps))]
    assert all(least / 2 <= gap <= least + 0.5 for gap, least in zip(gaps, longest, strict=True)), gaps
    assert len(set(gaps)) > 3


def test_two_processes_spread_their_retries() -> None:
    world = World()
    account = world.process()
    assert len({account.backoff(3, f"seed {number}") for number in range(20)}) == 20
    assert all(2.0 <= account.backoff(3, f"seed {number}") <= 4.0 for number in range(100))
    assert account.backoff(10_000, "x") <= 60.0


def test_two_readings_are_never_closer_than_their_interval() -> None:
    world = World(credits_=5)
    account = world.process(Policy(min_interval=5.0, recheck_after=5.0))
    world.run(admit(account, world.hold(0)))
    world.clock.advance(1)
    world.run(finish(account, TaskSeen("x", TaskState.SUCCEEDED)))
    times = []
    for _ in range(3):
        world.clock.advance(1)
        asked = world.fetches
        with pytest.raises(InsufficientCredits):
            world.run(admit(account, world.hold(50)))
        if world.fetches > asked:
            times.append(world.clock())
    assert all(after - before >= 5 for before, after in itertools.pairwise([1000.0, *times]))


# -- time -----------------------------------------------------------------------------------------------------------


def test_a_bound_of_zero_on_waiting_still_lets_the_balance_be_read() -> None:
    world = World(limit=1)
    account = world.process(Policy(max_wait=0))
    world.run(admit(account, world.hold()))
    with pytest.raises(QueueTimeout):
        world.run(admit(account, world.hold()))
    assert world.clock() == 1000.0


def test_a_deadline_counts_the_time_the_balance_takes() -> None:
    world = World()
    world.seconds = 7.0
    with pytest.raises(QueueTimeout) as refused:
        world.run(admit(world.process(), world.hold(deadline=5.0)))
    assert refused.value.waited == pytest.approx(7.0)


# -- what is told ---------------------------------------------------------------------------------------------------


def test_when_nobody_listens_nothing_is_told() -> None:
    world = World(limit=1, credits_=20)
    account = world.process(Policy(low_balance=(1000,)), listening=False)
    for verdict in (Outcome.ACCEPTED, Outcome.REJECTED, Outcome.RATE, Outcome.CONCURRENCY, Outcome.UNKNOWN):
        hold = world.hold(0, 0)
        hand = world.hand(call(account, hold), Verdict(verdict, charge=3, task_id=verdict.value))
        hand.finish()
        assert "Tell" not in hand.names
    with pytest.raises(InsufficientCredits):
        world.run(admit(account, world.hold(500)))
    world.run(finish(account, TaskSeen("accepted", TaskState.SUCCEEDED, charge=1)))
    world.readable = False
    world.clock.advance(5000)
    with pytest.raises(CreditsUnavailable):
        world.run(admit(account, world.hold(1)))
    assert world.events == []


def test_a_call_tells_its_story_in_order() -> None:
    world = World()
    account = world.process()
    world.run(call(account, world.hold()), Verdict(Outcome.ACCEPTED, charge=10, task_id="t"))
    world.run(finish(account, TaskSeen("t", TaskState.SUCCEEDED)))
    assert world.names == ["Refreshed", "Admitted", "Settled", "TaskEnded"]
    refreshed, admitted = world.told(Refreshed, Admitted)
    assert (refreshed.credits_free, refreshed.slots_free, refreshed.asked_by) == (100, 4, "guard")
    assert (admitted.reservation, admitted.credits_free, admitted.slots_free, admitted.waited) == ("h1", 90, 3, 0.0)
    assert [event.at for event in world.events] == sorted(event.at for event in world.events)
    assert {event.account for event in world.events} == {"p:a"}


def test_a_refusal_is_told_with_the_words_it_is_raised_with() -> None:
    world = World(credits_=5)
    with pytest.raises(InsufficientCredits) as refused:
        world.run(admit(world.process(), world.hold(50)))
    (told,) = world.told(RefusedCall)
    assert (told.error, told.message, told.credits) == ("InsufficientCredits", str(refused.value), 50)


def test_a_low_balance_is_told_once_until_it_has_risen_again() -> None:
    world = World(credits_=100)
    account = world.process(Policy(low_balance=(85, 50)))
    story = []

    def spend(amount: int) -> None:
        world.events.clear()
        world.run(call(account, world.hold(amount, 0)), Verdict(Outcome.ACCEPTED, task_id=f"t{world.numbers}"))
        story.append([event.threshold for event in world.told(LowBalance)])

    for amount in (10, 10, 5, 30, 5):
        spend(amount)
    assert story == [[], [85], [], [50], []]
    world.credits = 90
    world.clock.advance(20)
    story.clear()
    spend(1)
    spend(10)
    spend(50)
    assert story == [[], [85], [50]]


def test_a_reading_may_cross_a_threshold_too() -> None:
    world = World(credits_=100)
    account = world.process(Policy(low_balance=(50,)))
    world.run(admit(account, world.hold(1)))
    world.credits = 40
    world.clock.advance(20)
    world.run(admit(account, world.hold(1)))
    assert [event.threshold for event in world.told(LowBalance)] == [50]
