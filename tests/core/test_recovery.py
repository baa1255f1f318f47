"""What an earlier process left is picked up."""

from __future__ import annotations

import pytest

from budgetguard._core.account import Account
from budgetguard._core.admission import admit
from budgetguard._core.overdue import TOGETHER
from budgetguard._core.recovery import recover
from budgetguard._core.settlement import call
from budgetguard._core.steps import Ask, Asked, Send
from budgetguard.events import Expired, TaskEnded
from budgetguard.model import Outcome, Recovered, TaskSeen, TaskState, Verdict
from budgetguard.policy import Policy
from budgetguard.ports import Put, Transaction
from tests.core.hand import NAME, World

LEASE = 600.0
POLICY = Policy(task_lease=LEASE)


def answer(task_id: str, state: TaskState = TaskState.RUNNING, charge: int | None = None) -> Asked:
    return Asked(TaskSeen(task_id, state, charge))


def accepted(world: World, account: Account, *task_ids: str) -> None:
    for task_id in task_ids:
        world.run(call(account, world.hold(10)), Verdict(Outcome.ACCEPTED, task_id=task_id))


def scene() -> tuple[World, Account]:
    """Give a world with a process in it that ends without a word."""
    world = World(10_000, limit=500, running=None)
    world.tasks = {}
    return world, world.process(POLICY, reports_slots=False)


def heir(world: World) -> Account:
    return world.process(POLICY, reports_slots=False)


def test_tasks_that_ended_are_finished_and_those_that_run_are_kept() -> None:
    world, before = scene()
    accepted(world, before, "a", "b", "c", "d")
    world.events.clear()
    world.tasks = {
        "a": answer("a", TaskState.SUCCEEDED, 10),
        "b": answer("b"),
        "c": answer("c", TaskState.FAILED),
        "d": Asked(None, "HTTP 502", again=True),
    }
    found = world.run(recover(heir(world)))
    assert found == Recovered(NAME, finished=("a", "c"), running=("b",), unknown=("d",))
    assert [event.task_id for event in world.told(TaskEnded)] == ["a", "c"]
    assert world.records == ["t:b", "t:d"]
    assert world.view["slots"] == 498


def test_a_task_that_runs_begins_its_lease_anew() -> None:
    world, before = scene()
    accepted(world, before, "t")
    world.clock.advance(LEASE - 10)
    world.tasks = {"t": answer("t")}
    account = heir(world)
    world.run(recover(account))
    world.clock.advance(LEASE - 10)
    assert world.store.load(NAME, due=True).records == {}


def test_a_task_the_provider_does_not_know_is_left_to_its_lease() -> None:
    world, before = scene()
    accepted(world, before, "t")
    assert world.run(recover(heir(world))) == Recovered(NAME, unknown=("t",))
    assert world.records == ["t:t"]
    world.clock.advance(LEASE + 1)
    world.events.clear()
    assert world.run(recover(heir(world))) == Recovered(NAME, expired=1)
    assert (world.records, len(world.told(Expired))) == ([], 1)


def test_calls_under_way_are_counted_and_left_alone() -> None:
    world, before = scene()
    world.hand(call(before, world.hold(10))).until(Send)
    world.run(admit(before, world.hold(10)))
    world.run(call(before, world.hold(10)), Verdict(Outcome.ACCEPTED))
    records = world.records
    assert world.run(recover(heir(world))) == Recovered(NAME, held=3)
    assert (world.asked, world.records) == ([], records)


def test_leases_that_are_over_are_ended_first() -> None:
    world, before = scene()
    world.hand(call(before, world.hold(10))).until(Send)
    accepted(world, before, *(f"t{number}" for number in range(2 * TOGETHER + 1)))
    world.clock.advance(LEASE + 1)
    world.tasks = {f"t{number}": answer(f"t{number}") for number in range(2 * TOGETHER)}
    found = world.run(recover(heir(world)))
    assert (len(found.running), found.finished, found.expired, found.held) == (2 * TOGETHER, (), 2, 1)
    assert len(world.asked) == len(set(world.asked)), "none is asked about twice"


def test_many_tasks_are_asked_about_a_few_at_a_time() -> None:
    world, before = scene()
    names = sorted(f"t{number}" for number in range(150))
    accepted(world, before, *names)
    world.tasks = {name: answer(name) for name in names}
    hand = world.hand(recover(heir(world)))
    found = hand.finish()
    assert list(found.running) == names
    assert sorted(world.asked) == names
    asks = [step for step in hand.steps if isinstance(step, Ask)]
    assert max(len(step.task_ids) for step in asks) <= TOGETHER


def test_what_ends_while_it_is_asked_about_is_not_counted_twice() -> None:
    world, before = scene()
    accepted(world, before, "t")
    world.tasks = {"t": answer("t", TaskState.SUCCEEDED)}
    hands = [world.hand(recover(heir(world))).until(Ask) for _ in range(2)]
    found = [hand.finish() for hand in hands]
    assert [len(one.finished) for one in found] == [1, 0]
    assert world.view["slots"] == 500


def test_records_of_a_newer_version_are_left_where_they_are() -> None:
    world, _ = scene()
    puts = {"r:new": Put(b"from a newer version", 0.0), "t:new": Put(b"the same", None)}
    world.store.transact(NAME, Transaction(put=puts))
    assert world.run(recover(heir(world))) == Recovered(NAME, unreadable=2)
    assert world.records == ["r:new", "t:new"]


def test_where_nobody_can_ask_nothing_is_ended_before_its_time() -> None:
    world, before = scene()
    accepted(world, before, "t")
    world.tasks = None
    assert world.run(recover(heir(world))) == Recovered(NAME, unknown=("t",))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Recovered("p:a"), "Recovered(p:a: 0 tasks finished, 0 running, 0 unknown, 0 leases over, 0 calls held)"),
        (
            Recovered("p:a", ("x",), tuple("abcdefg"), ("y",), 1, 2, 3),
            (
                "Recovered(p:a: 1 tasks finished, 7 running (a, b, c, d, e, ...), 1 unknown, 1 leases over, "
                "2 calls held, 3 records unreadable)"
            ),
        ),
    ],
)
def test_what_was_found_reads_as_a_sentence(found: Recovered, text: str) -> None:
    assert repr(found) == text
