"""The provider is asked about a task before its slot is given up."""

from __future__ import annotations

import pytest

from budgetguard._core import counters as c
from budgetguard._core.account import Account
from budgetguard._core.overdue import TOGETHER
from budgetguard._core.records import Record
from budgetguard._core.refreshing import expire_due
from budgetguard._core.settlement import call, finish
from budgetguard._core.steps import Ask, Asked, Transact
from budgetguard.events import Expired, TaskEnded
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict
from budgetguard.policy import Policy
from budgetguard.ports import Put, Transaction
from tests.core.hand import NAME, World

LEASE = 600.0
POLICY = Policy(task_lease=LEASE)
"""Tasks are believed to run for ten minutes, calls for two."""


def running(task_id: str = "t", charge: int | None = None) -> Asked:
    return Asked(TaskSeen(task_id, TaskState.RUNNING, charge))


def ended(task_id: str = "t", state: TaskState = TaskState.SUCCEEDED, charge: int | None = None) -> Asked:
    return Asked(TaskSeen(task_id, state, charge))


FAILED = Asked(None, "HTTP 502", again=True)
MISSING = Asked(None, "no such task")


def scene(*task_ids: str, limit: int = 20) -> tuple[World, Account]:
    """Have tasks accepted; let their leases end."""
    world = World(1000, limit=limit, running=None)
    account = world.process(POLICY, reports_slots=False)
    for task_id in task_ids or ("t",):
        world.run(call(account, world.hold(10)), Verdict(Outcome.ACCEPTED, task_id=task_id))
    world.clock.advance(LEASE + 1)
    world.events.clear()
    world.tasks = {}
    return world, account


def slots(world: World) -> int:
    return world.view["slots"]


def test_a_task_that_runs_keeps_its_slot_for_another_lease() -> None:
    world, account = scene()
    world.tasks = {"t": running()}
    world.run(expire_due(account))
    assert (world.asked, slots(world), world.events) == (["t"], 19, [])
    world.clock.advance(LEASE - 1)
    world.run(expire_due(account))
    assert world.asked == ["t"], "its lease is not over yet"
    world.clock.advance(2)
    world.run(expire_due(account))
    assert world.asked == ["t", "t"]


def test_a_task_that_has_ended_is_finished_with_its_state_and_charge() -> None:
    world, account = scene()
    world.tasks = {"t": ended(state=TaskState.FAILED, charge=10)}
    world.run(expire_due(account))
    (told,) = world.events
    assert isinstance(told, TaskEnded)
    assert (told.task_id, told.state, slots(world), world.records) == ("t", TaskState.FAILED, 20, [])


@pytest.mark.parametrize("tasks", [{}, None], ids=["the provider has no such task", "nobody can ask"])
def test_where_nothing_is_to_be_learnt_the_slot_is_given_up(tasks: dict[str, Asked] | None) -> None:
    world, account = scene(*(f"t{number}" for number in range(2 * TOGETHER)))
    world.tasks = tasks
    for _ in range(1 if tasks is None else 2):
        world.run(expire_due(account))
    assert (slots(world), world.records, len(world.told(Expired))) == (20, [], 2 * TOGETHER)


def test_a_task_that_cannot_be_asked_about_is_kept_for_a_while_and_asked_about_again() -> None:
    world, account = scene()
    world.tasks = {"t": FAILED}
    world.run(expire_due(account))
    assert (slots(world), world.told(Expired)) == (19, [])
    world.clock.advance(POLICY.lease - 1)
    world.run(expire_due(account))
    assert world.asked == ["t"]
    world.clock.advance(2)
    world.tasks = {"t": ended()}
    world.run(expire_due(account))
    assert (world.asked, slots(world)) == (["t", "t"], 20)


def test_a_task_nothing_is_learnt_of_is_given_up_when_its_lease_has_passed_once_more() -> None:
    world, account = scene()
    world.tasks = {"t": FAILED}
    looks = 0
    while slots(world) < 20:
        world.run(expire_due(account))
        world.clock.advance(POLICY.lease + 1)
        looks += 1
        assert looks < 20, "it would be kept for ever"
    assert len(world.asked) == LEASE / POLICY.lease
    assert len(world.told(Expired)) == 1


def test_a_task_that_answers_again_begins_anew() -> None:
    world, account = scene()
    for answer in (FAILED, FAILED, FAILED, running(), FAILED, FAILED, FAILED):
        world.tasks = {"t": answer}
        world.run(expire_due(account))
        world.clock.advance(LEASE + 1)
    assert (slots(world), len(world.asked)) == (19, 7)


def test_even_a_short_lease_asks_once() -> None:
    world = World(limit=4, running=None)
    account = world.process(Policy(task_lease=1.0), reports_slots=False)
    world.run(call(account, world.hold(10)), Verdict(Outcome.ACCEPTED, task_id="t"))
    world.clock.advance(2)
    world.tasks = {"t": FAILED}
    world.run(expire_due(account))
    assert (world.asked, slots(world)) == (["t"], 3)
    world.clock.advance(account.policy.lease + 1)
    world.run(expire_due(account))
    assert (world.asked, slots(world)) == (["t"], 4)


def test_no_look_asks_about_more_than_a_few_and_in_the_end_all_are_asked_about() -> None:
    names = [f"t{number}" for number in range(20)]
    world, account = scene(*names)
    world.tasks = {name: running(name) for name in names}
    for _ in range(3):
        before = len(world.asked)
        world.run(expire_due(account))
        assert len(world.asked) - before <= TOGETHER
    assert sorted(world.asked) == sorted(names)
    assert slots(world) == 0


def test_two_processes_do_not_ask_about_the_same_task() -> None:
    world, account = scene()
    other = world.process(POLICY, reports_slots=False)
    world.tasks = {"t": running()}
    first = world.hand(expire_due(account)).until(Ask)
    world.run(expire_due(other))
    assert world.asked == []
    first.finish()
    assert world.asked == ["t"]


def test_of_two_who_are_about_to_ask_one_does() -> None:
    world, account = scene()
    other = world.process(POLICY, reports_slots=False)
    world.tasks = {"t": running()}
    hands = [world.hand(expire_due(one)).until(Transact) for one in (account, other)]
    for hand in hands:
        hand.until(Ask)
    for hand in hands:
        hand.finish()
    assert world.asked == ["t"]
    assert slots(world) == 19


def test_who_is_killed_while_asking_leaves_the_question_to_others() -> None:
    world, account = scene()
    other = world.process(POLICY, reports_slots=False)
    world.tasks = {"t": ended()}
    world.hand(expire_due(account)).until(Ask).flow.close()
    world.clock.advance(POLICY.lease + 1)
    world.run(expire_due(other))
    assert slots(world) == 20


def test_a_flow_that_is_closed_at_any_step_loses_nothing() -> None:
    world, account = scene("t", "u")
    world.tasks = {"t": running(), "u": ended("u")}
    steps = len(world.hand(expire_due(account)).until().steps)
    for cut in range(steps):
        world, account = scene("t", "u")
        world.tasks = {"t": running(), "u": ended("u")}
        hand = world.hand(expire_due(account))
        for _ in range(cut):
            hand.perform()
        hand.flow.close()
        world.clock.advance(LEASE + POLICY.lease)
        other = world.process(POLICY, reports_slots=False)
        world.run(expire_due(other))
        assert (slots(world), world.records) == (19, ["t:t"]), cut


def test_an_end_that_is_told_while_somebody_asks_is_not_lost() -> None:
    world, account = scene()
    other = world.process(POLICY, reports_slots=False)
    world.tasks = {"t": running()}
    told = world.hand(finish(other, TaskSeen("t", TaskState.SUCCEEDED))).until(Transact)
    asking = world.hand(expire_due(account)).until(Ask)
    assert told.finish() is True
    asking.finish()
    assert (slots(world), world.records) == (20, [])


def test_what_is_asked_counts_as_a_poll_when_the_task_ends() -> None:
    world = World(limit=4)
    account = world.process(POLICY)
    world.tasks = {"t": running()}
    world.run(call(account, world.hold(10)), Verdict(Outcome.ACCEPTED, task_id="t"))
    world.clock.advance(LEASE - 20)
    world.running = 1
    world.run(call(account, world.hold(10)), Verdict(Outcome.ACCEPTED, task_id="u"))
    world.clock.advance(21)
    world.run(expire_due(account))
    assert (world.asked, account.seen, slots(world)) == (["t"], {"t": world.view[c.MARK]}, 2)
    world.run(finish(account, TaskSeen("t", TaskState.SUCCEEDED)))
    assert slots(world) == 3, "the reading contains it, and it was seen running since"


def test_work_without_an_id_and_records_of_a_newer_version_are_not_asked_about() -> None:
    world, account = scene("")
    world.store.transact(NAME, Transaction(put={"r:new": Put(b"from a newer version", 0.0)}))
    world.run(expire_due(account))
    assert (world.asked, slots(world), world.records) == ([], 20, ["r:new"])


def test_what_is_asked_is_written_down_with_the_record() -> None:
    world, account = scene()
    world.tasks = {"t": FAILED}
    world.run(expire_due(account))
    (text,) = world.store.scan(NAME).records.values()
    assert Record.loads(text).asked == 1
