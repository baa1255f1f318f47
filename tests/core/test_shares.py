"""Calls that draw on the hold around them: what moves, what does not, and what happens when others are quicker."""

from __future__ import annotations

from typing import Any

import pytest

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import Pool
from budgetguard._core.joining import enter
from budgetguard._core.ledger import Books
from budgetguard._core.records import Record, Stage
from budgetguard._core.refreshing import expire_due
from budgetguard._core.settlement import abandon, call, finish, settle
from budgetguard._core.steps import Send, Transact
from budgetguard.errors import InsufficientCredits, InsufficientSlots
from budgetguard.events import Admitted, Joined, Released, Settled
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict
from budgetguard.policy import Policy
from tests.core.hand import ACCEPTED, NAME, World

BOOKS = Books()
POOL = Pool("")
NOT_SENT = Verdict(Outcome.NOT_SENT)


def record(name: str, stage: Stage, credits_: int, slots: int, pool: str = "", slack: int = 0) -> Record:
    return Record(name, stage, credits_, slots, pool, slack)


# -- the rule ---------------------------------------------------------------------------------------------------------


def test_drawing_moves_no_counter() -> None:
    outer, inner = record("j", Stage.RESERVED, 100, 2), record("c", Stage.RESERVED, 30, 1)
    transaction, rest = BOOKS.draw(outer, inner, None)
    assert (transaction.add, transaction.floor, transaction.expect, transaction.wake) == ({}, {}, {}, False)
    assert transaction.drop == outer.drops()
    assert transaction.put.keys() == {"r:j", "r:c"}
    assert (rest.credits, rest.slots) == (70, 1)


def test_drawing_beside_what_was_admitted_takes_only_the_rest_from_the_job() -> None:
    outer, has = record("j", Stage.RESERVED, 20, 0), record("c", Stage.RESERVED, 10, 1)
    transaction, rest = BOOKS.draw(outer, record("c", Stage.RESERVED, 30, 1), has)
    assert transaction.add == {}
    assert transaction.drop == {**outer.drops(), **has.drops()}
    assert (rest.credits, rest.slots) == (0, 0)


def test_slack_follows_what_may_come_back() -> None:
    outer = record("j", Stage.RESERVED, 100, 1, slack=60)
    transaction, rest = BOOKS.draw(outer, record("c", Stage.RESERVED, 70, 1, slack=5), None)
    assert rest.slack == 30
    assert transaction.add == {c.SLACK: 30 + 5 - 60}


def test_an_idle_job_is_counted_with_those_in_line() -> None:
    outer = record("j", Stage.RESERVED, 100, 2, slack=10)
    transaction, idle = BOOKS.let_go(outer)
    assert transaction.add == {c.WAITING: 100, c.SLACK: -10, POOL.slots: 2, POOL.open: -2}
    assert transaction.wake
    assert (idle.stage, idle.credits, idle.slots, idle.slack) == (Stage.IDLE, 100, 0, 0)
    transaction, rest = BOOKS.draw(idle, record("c", Stage.RESERVED, 30, 1), record("c", Stage.RESERVED, 0, 1))
    assert transaction.add == {c.WAITING: -30}
    transaction, after = BOOKS.restore(rest, record("c", Stage.RESERVED, 30, 1), 30, 1)
    assert transaction.add == {c.WAITING: 30, POOL.slots: 1, POOL.open: -1}, "it takes no slots"
    assert after.dumps() == idle.dumps()
    assert BOOKS.release(idle).add == {c.CREDITS: 100, c.WAITING: -100}


def test_restoring_gives_the_job_its_share_and_the_account_the_rest() -> None:
    outer, inner = record("j", Stage.RESERVED, 5, 0), record("c", Stage.RESERVED, 30, 2)
    transaction, after = BOOKS.restore(outer, inner, 20, 1)
    assert transaction.add == {c.CREDITS: 10, POOL.slots: 1, POOL.open: -1}
    assert (after.credits, after.slots) == (25, 1)
    assert transaction.wake
    transaction, after = BOOKS.restore(outer, inner, 30, 2)
    assert transaction.add == {}
    assert not transaction.wake


# -- the flows --------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, credits_: int = 100, slots: int = 1, job: tuple[int, int] = (60, 1), **world: Any) -> None:
        self.world = World(credits_=credits_, limit=slots, **world)
        self.account: Account = self.world.process()
        self.job = self.world.hold(*job)
        self.world.run(enter(self.account, self.job))

    def inside(self, credits_: int = 10, slots: int = 1, **given: Any) -> Hold:
        hold = self.world.hold(credits_, slots, **given)
        hold.outer = self.job
        return hold

    def end(self) -> None:
        self.world.run(settle(self.account, self.job, NOT_SENT))

    def left(self) -> tuple[int, int, str]:
        assert self.job.record is not None
        return self.job.record.credits, self.job.record.slots, self.job.record.stage.value

    @property
    def sums(self) -> tuple[int, int, int]:
        """Free credits, free slots, open slots."""
        view = self.world.view
        return view[c.CREDITS], view[POOL.slots], view[POOL.open]

    def assert_nothing_is_held(self) -> None:
        assert not self.world.records
        view = self.world.view
        assert [view[name] for name in (c.WAITING, c.SLACK, POOL.open, POOL.running, POOL.quiet)] == [0] * 5
        assert self.sums[0] == self.world.credits - sum(view[c.tagged(bucket)] for bucket in range(c.RING))


def test_a_call_inside_costs_one_transaction_more_than_its_ending() -> None:
    bench = Bench()
    before = bench.sums
    hand = bench.world.hand(call(bench.account, bench.inside()))
    hand.until(Send)
    assert bench.sums == before
    assert bench.left() == (50, 0, "r")
    assert sum(isinstance(step, Transact) for step in hand.steps) == 1
    hand.finish()
    bench.end()
    assert bench.sums == (90, 0, 0)
    assert (bench.job.spent, set(bench.job.tasks), bench.job.joins) == (10, {"t"}, 1)
    assert bench.world.run(finish(bench.account, TaskSeen("t", TaskState.SUCCEEDED)))
    bench.assert_nothing_is_held()


def test_a_call_that_was_not_taken_gives_back_what_it_drew() -> None:
    bench = Bench()
    before = bench.sums
    bench.world.run(call(bench.account, bench.inside()), Verdict(Outcome.REJECTED))
    assert bench.left() == (60, 1, "r")
    assert bench.sums == before
    assert bench.job.spent == 0


def test_what_is_wanting_is_admitted_first_and_goes_back_to_the_account() -> None:
    bench = Bench(job=(60, 1))
    bench.world.run(call(bench.account, bench.inside(75)), Verdict(Outcome.REJECTED))
    assert bench.left() == (60, 1, "r")
    assert bench.sums == (40, 0, 1)
    assert [event.credits for event in bench.world.told(Admitted)] == [60, 15]
    assert [(event.credits, event.slots) for event in bench.world.told(Joined)] == [(60, 1)]


def test_a_difference_that_is_not_there_is_refused_with_its_numbers_and_nothing_moves() -> None:
    bench = Bench(job=(60, 1))
    hold = bench.inside(101)
    with pytest.raises(InsufficientCredits) as refused:
        bench.world.run(call(bench.account, hold))
    assert (refused.value.needed, refused.value.shortfall) == (41, 1)
    bench.world.run(abandon(bench.account, hold))
    assert bench.left() == (60, 1, "r")
    assert hold.quote.credits == 101


def test_a_call_that_wants_more_slots_than_there_will_ever_be_is_refused() -> None:
    bench = Bench(slots=2, job=(60, 1))
    with pytest.raises(InsufficientSlots):
        bench.world.run(call(bench.account, bench.inside(10, 3)))


def test_before_a_call_waits_for_slots_its_job_lets_go_of_what_it_has_left() -> None:
    bench = Bench(slots=2, job=(60, 1))
    other = bench.world.hold(10, 1)
    bench.world.run(enter(bench.account, other))
    hand = bench.world.hand(call(bench.account, bench.inside(10, 2))).waits()
    assert bench.left() == (60, 0, "i")
    bench.world.run(settle(bench.account, other, NOT_SENT))
    hand.finish()
    assert bench.left() == (50, 0, "i")
    bench.end()
    bench.world.run(finish(bench.account, TaskSeen("t", TaskState.SUCCEEDED)))
    bench.assert_nothing_is_held()


def test_a_slot_given_back_while_another_call_of_the_job_waits_goes_to_that_one() -> None:
    bench = Bench(slots=1, job=(60, 1))
    first = bench.inside()
    hand = bench.world.hand(call(bench.account, first), Verdict(Outcome.REJECTED)).until(Send)
    waiting = bench.world.hand(call(bench.account, bench.inside())).waits()
    hand.finish()
    waiting.finish()
    assert bench.left() == (50, 0, "i")


def test_of_two_that_draw_at_once_one_looks_again() -> None:
    bench = Bench(slots=2, job=(15, 2))
    calls = [bench.world.hand(call(bench.account, bench.inside())) for _ in range(2)]
    assert all(isinstance(hand.step, Transact) for hand in calls), "both stand before the same draw"
    for hand in calls:
        hand.until(Send)
    assert bench.sums == (80, 0, 2)
    assert bench.left() == (0, 0, "r")
    for number, hand in enumerate(calls):
        hand.verdicts = [Verdict(Outcome.ACCEPTED, task_id=f"t{number}")]
        hand.finish()
    bench.end()
    for number in range(2):
        bench.world.run(finish(bench.account, TaskSeen(f"t{number}", TaskState.SUCCEEDED)))
    bench.assert_nothing_is_held()


def test_a_job_that_has_ended_is_not_drawn_on() -> None:
    bench = Bench(slots=2)
    bench.end()
    hold = bench.inside()
    bench.world.run(call(bench.account, hold))
    assert not bench.world.told(Joined)
    assert hold.outer is None


def test_a_job_whose_lease_has_ended_is_not_drawn_on_and_gets_nothing_back() -> None:
    bench = Bench(slots=3, job=(60, 1))
    early = bench.world.hand(call(bench.account, bench.inside()), Verdict(Outcome.REJECTED)).until(Send)
    bench.world.clock.advance(100)
    assert early.step is not None
    bench.world.store.transact(NAME, BOOKS.renew(_open(bench, "h2")))
    bench.world.clock.advance(50)
    bench.world.run(expire_due(bench.account))
    assert [key for key in bench.world.records if key.startswith("r:")] == ["r:h2"]
    early.finish()
    assert not [key for key in bench.world.records if key.startswith("r:")]
    bench.world.run(call(bench.account, bench.inside(20)))
    assert len(bench.world.told(Joined)) == 1


def _open(bench: Bench, name: str) -> Record:
    return Record.loads(bench.world.store.load(NAME, [f"r:{name}"]).records[f"r:{name}"])


def test_a_record_that_came_back_to_what_it_was_is_still_ended() -> None:
    bench = Bench(slots=2)
    hand = bench.world.hand(settle(bench.account, bench.job, NOT_SENT))
    drawn = bench.inside()
    bench.world.run(enter(bench.account, drawn))
    hand.perform()
    bench.world.run(settle(bench.account, drawn, NOT_SENT))
    hand.finish()
    bench.assert_nothing_is_held()


def test_a_crowded_call_leaves_its_job_idle_and_stands_in_line_with_a_new_reading() -> None:
    bench = Bench(slots=2, job=(60, 2))
    crowded = Verdict(Outcome.CONCURRENCY)
    hand = bench.world.hand(call(bench.account, bench.inside()), crowded, ACCEPTED)
    hand.until(Send).perform()
    hand.until(Send)
    assert bench.left()[1:] == (0, "i")
    assert bench.world.fetches == 2
    hand.finish()
    assert bench.job.spent == 10


@pytest.mark.parametrize("wanting", ["nothing", "credits", "slots"])
def test_closed_at_any_step_a_call_inside_leaves_the_books_whole(wanting: str) -> None:
    needs = {"nothing": (10, 1), "credits": (75, 1), "slots": (10, 2)}[wanting]
    for stop in range(100):
        for heard in (False, True):
            bench = Bench(slots=3)
            hold = bench.inside(*needs)
            hand = bench.world.hand(call(bench.account, hold))
            for _ in range(stop):
                if not hand.done:
                    hand.perform()
            if hand.done:
                assert stop > 2
                return
            step = hand.step
            if heard and isinstance(step, Transact):
                bench.world.store.transact(step.account, step.transaction)  # applied, and nobody heard
            hand.cancel(bench.account, hold)
            bench.end()
            bench.world.clock.advance(10_000)
            for _ in range(3):
                bench.world.run(expire_due(bench.account))
                bench.world.clock.advance(10_000)
            bench.assert_nothing_is_held()
            told = [event.reservation for event in bench.world.told(Settled, Released)]
            assert len(told) == len(set(told)), "a hold ended twice"


def test_a_policy_without_a_reading_admits_calls_inside_as_unseen_as_others() -> None:
    world = World()
    world.readable = False
    account = world.process(Policy(on_credits_error="open"))
    job = world.hold(10, 1)
    world.run(enter(account, job))
    inner = world.hold(20, 1)
    inner.outer = job
    world.run(call(account, inner))
    assert len(world.told(Settled)) == 1
