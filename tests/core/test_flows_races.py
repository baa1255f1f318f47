"""What happens between a look and what is done upon it."""

from __future__ import annotations

from typing import Any

import pytest

from budgetguard._core import counters as c
from budgetguard._core.admission import admit
from budgetguard._core.refreshing import adopt, claim_for_user
from budgetguard._core.settlement import call, catch_up, finish
from budgetguard._core.steps import Fetch, Fetched, Send, Transact
from budgetguard.errors import CreditsUnavailable, InsufficientCredits, QueueTimeout
from budgetguard.events import Expired, OutcomeUnknown, RefreshFailed, Settled, TaskEnded
from budgetguard.model import Capacity, Outcome, Quote, Reading, TaskSeen, TaskState, Verdict
from budgetguard.policy import Policy
from budgetguard.ports import Put, Transaction
from tests.core.hand import ACCEPTED, Hand, World


def read(world: World) -> None:
    """Somebody else marks, asks and installs."""
    other, hold = world.process(listening=False), world.hold(0, 0)
    assert world.run(claim_for_user(other, hold))
    reading = world.reading().reading
    assert reading is not None
    world.run(adopt(other, hold, reading))


@pytest.mark.parametrize("readings", [1, 2])
def test_an_acceptance_that_meets_a_new_generation_is_worked_out_again(readings: int) -> None:
    world = World()
    account = world.process()
    hand = world.hand(call(account, world.hold(30)), ACCEPTED).until(Send)
    hand.perform()
    assert isinstance(hand.step, Transact)
    world.credits, world.running = 70, 1
    for _ in range(readings):
        world.clock.advance(2)
        read(world)
    hand.finish()
    assert len(world.told(Settled)) == 1
    assert world.free == (40, 2)
    world.clock.advance(2)
    read(world)
    assert world.free == (70, 3)


def test_an_end_that_meets_a_new_generation_is_worked_out_again() -> None:
    world = World()
    account = world.process()
    world.run(call(account, world.hold(30)))
    hand = world.hand(finish(account, TaskSeen("t", TaskState.SUCCEEDED))).until(Transact)
    world.credits = 70
    world.clock.advance(2)
    read(world)
    assert hand.finish() is True
    assert world.told(TaskEnded)[0].freed is False
    world.clock.advance(2)
    read(world)
    assert world.free == (70, 4)


def test_a_lease_that_ends_while_a_reading_is_marked_is_worked_out_again() -> None:
    world = World()
    account = world.process()
    world.run(admit(account, world.hold(30)))
    world.clock.advance(130)
    hand = world.hand(admit(account, world.hold(0, 0)))
    hand.perform()
    hand.until(Transact)
    other, hold = world.process(), world.hold(0, 0)
    step = other.books.claim(world.view, 12.0)[0]
    assert world.store.transact("p:a", step).applied
    world.clock.advance(13)
    hand.finish()
    assert len(world.told(Expired)) == 1
    assert hold.record is None


def test_a_process_that_slept_before_it_claimed_does_not_ask_on_a_claim_that_is_over() -> None:
    world = World()
    account = world.process()
    hand = world.hand(admit(account, world.hold()))
    hand.perform()
    hand.until(Transact)
    world.clock.advance(20)
    hand.finish()
    assert (world.free, world.fetches) == ((90, 3), 1)
    assert world.view[c.CLAIM] == 0


def test_who_fails_after_its_claim_was_over_leaves_the_next_ones_alone() -> None:
    world = World()
    account, other = world.process(Policy(on_credits_error="open")), world.process()
    slow = world.hand(admit(account, world.hold())).until(Fetch)
    world.clock.advance(20)
    quick = world.hand(admit(other, world.hold())).until(Fetch)
    slow.answer(Fetched(None, "timeout"))
    slow.waits()
    assert not slow.done
    assert world.view[c.CLAIM] > world.view.now
    quick.finish()
    slow.finish()
    assert world.told(RefreshFailed) == []
    assert world.view[c.FAILURES] == 0


def test_a_deadline_ends_the_wait_for_somebody_elses_answer() -> None:
    world = World()
    account, other = world.process(), world.process()
    world.hand(admit(other, world.hold())).until(Fetch)
    with pytest.raises(QueueTimeout) as refused:
        world.run(admit(account, world.hold(deadline=5.0)))
    assert refused.value.waited == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize(("deadline", "admitted"), [(0.5, False), (5.0, True)])
def test_after_a_question_given_up_the_interval_is_kept(deadline: float, admitted: bool) -> None:
    world = World()
    account, asked = world.process(), world.hold(0, 0)
    assert world.run(claim_for_user(account, asked))
    world.run(adopt(account, asked, None))
    hold = world.hold(deadline=deadline)
    hand = world.hand(admit(account, hold)).until()
    assert (hand.error is None) is admitted
    assert world.clock() == pytest.approx(1001.0 if admitted else 1000.5, abs=0.01)


def test_a_call_whose_outcome_nobody_knows_stays_held_to_the_end_of_its_lease_and_is_then_settled() -> None:
    world = World()
    account = world.process()
    verdict = world.run(call(account, world.hold(30)), Verdict(Outcome.UNKNOWN))
    assert verdict.outcome is Outcome.UNKNOWN
    assert [event.credits for event in world.told(OutcomeUnknown)] == [30]
    for later in (60, 59):
        world.clock.advance(later)
        world.run(admit(account, world.hold(0, 0)))
        assert world.free[0] == 70
    world.clock.advance(20)
    for _ in range(2):
        world.run(admit(account, world.hold(0, 0)))
        world.clock.advance(20)
    assert world.free == (100, 4)


def test_a_newcomer_waits_for_a_call_that_a_reading_may_count_twice_and_is_not_refused() -> None:
    world = World(100)
    account = world.process()
    long = world.hand(call(account, world.hold(60))).until(Send)
    world.credits, world.running = 40, 1  # the provider has it, and nobody here knows
    world.clock.advance(20)
    newcomer = world.hand(admit(account, world.hold(40))).waits()
    while world.clock() < 1000 + 20 + 60:
        newcomer.perform()
        newcomer.waits()
    assert not newcomer.done
    long.finish()
    newcomer.finish()
    assert world.free == (0, 2)


def test_who_holds_credits_waits_for_calls_that_a_reading_may_count_twice() -> None:
    world = World(limit=2)
    account = world.process()
    first = world.hand(call(account, world.hold(40)), ACCEPTED).until(Send)
    second = world.hand(call(account, world.hold(10)), Verdict(Outcome.ACCEPTED, task_id="u")).until(Send)
    waiting = world.hand(admit(account, world.hold(45))).waits()
    world.credits, world.running = 50, 2
    world.clock.advance(11)
    waiting.waits()
    assert not waiting.done
    first.finish()
    second.finish()
    for task in ("t", "u"):
        world.run(finish(account, TaskSeen(task, TaskState.SUCCEEDED)))
    world.running = 0
    waiting.finish()
    assert waiting.error is None
    assert world.free == (5, 1)


def test_a_poll_is_dated_by_the_reading_in_the_store_once_the_last_look_is_old() -> None:
    world = World()
    account = world.process()
    world.run(admit(account, world.hold(0, 0)))
    world.run(catch_up(account))
    world.clock.advance(2)
    read(world)
    account.stale = True
    hand: Hand = world.hand(catch_up(account))
    hand.finish()
    assert hand.names == ["Load"]
    assert account.view[c.MARK] == world.view[c.MARK]


@pytest.mark.parametrize("quote", [Quote(0, 0), Quote(0, 1), Quote(10, 0)], ids=repr)
def test_a_call_may_want_nothing_at_all(quote: Quote) -> None:
    world = World(limit=1)
    account, hold = world.process(), world.hold(quote.credits, quote.slots)
    world.run(call(account, hold), Verdict(Outcome.ACCEPTED, task_id="t"))
    assert world.free == (100 - quote.credits, 1 - quote.slots)
    assert world.run(finish(account, TaskSeen("t", TaskState.SUCCEEDED)))


def test_one_record_that_cannot_be_read_stops_nobody() -> None:
    world = World()
    account = world.process()
    world.store.transact("p:a", Transaction(put={"r:x": Put(b"written by a later version", 0.0)}))
    world.run(admit(account, world.hold(30)))
    assert world.free == (70, 3)


def test_holds_and_accounts_say_what_they_are() -> None:
    world = World()
    account, hold = world.process(), world.hold(30)
    world.run(admit(account, hold))
    assert repr(hold) == "Hold(h1, 30 credits, 1 slots)"
    assert repr(account) == "Account(p:a, 70 credits free, 30 held, 0 waiting)"


def test_several_pools_have_each_their_line() -> None:
    world = World()
    account = world.process()

    def pools(fast: int, slow: int) -> Any:
        return Fetched(Reading(100, {"fast": Capacity(fast, 0), "slow": Capacity(slow, 0)}))

    first = world.hand(admit(account, world.hold(pool="fast"))).until(Fetch)
    first.answer(pools(1, 2))
    first.finish()
    waiting = world.hand(admit(account, world.hold(pool="fast"))).waits()
    assert not waiting.done
    assert world.run(admit(account, world.hold(pool="slow"))) is None
    assert (len(account.line("fast")), len(account.line("slow"))) == (1, 0)
    with pytest.raises(InsufficientCredits):
        world.run(admit(account, world.hold(1000, pool="slow")))


def test_the_pause_after_a_reading_that_failed_counts_from_its_failure() -> None:
    world = World()
    account = world.process(Policy(backoff=2.0))
    world.readable, world.seconds = False, 9.0
    with pytest.raises(CreditsUnavailable):
        world.run(admit(account, world.hold()))
    assert world.view[c.BACKOFF] - world.view.now == pytest.approx(1_500_000, abs=500_000)
