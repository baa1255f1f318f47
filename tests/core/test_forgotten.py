"""A store that has lost what it held, and answers that only look as if it had."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from budgetguard._core import counters as c
from budgetguard._core.admission import admit
from budgetguard._core.counters import Pool
from budgetguard._core.records import Stage
from budgetguard._core.refreshing import adopt, claim_for_user
from budgetguard._core.settlement import call
from budgetguard._core.steps import Fetch, Send, Transact, Wait
from budgetguard.events import Paused
from budgetguard.model import Capacity, Reading
from budgetguard.ports import Put, Transacted, Transaction
from tests.core.hand import NAME, World

POOL = Pool("")


def forget(world: World) -> None:
    """What a server does that is restarted without its data."""
    books = world.store._accounts[NAME]
    books.counters.clear()
    books.records.clear()
    books.ends.clear()


def snapshot(world: World) -> Callable[[], None]:
    """What a server keeps on its disk; calling it is a restart with that."""
    books = world.store._accounts[NAME]
    kept = copy.deepcopy((books.counters, books.records, books.ends))

    def restore() -> None:
        books.counters, books.records, books.ends = copy.deepcopy(kept)

    return restore


def busy(world: World) -> None:
    account = world.process()
    for number in range(3):
        world.clock.advance(20)
        world.run(call(account, world.hold(number)))


def test_after_the_store_forgot_everybody_is_held_back_for_a_lease() -> None:
    world = World()
    account, other = world.process(), world.process()
    for _ in range(3):
        world.clock.advance(20)
        world.run(admit(account, world.hold(1)))
    forget(world)
    world.clock.advance(20)
    before = world.clock()
    hands = [world.hand(admit(process, world.hold())) for process in (account, other)]
    hands[0].finish()
    assert world.clock() - before == pytest.approx(120, abs=1)
    hands[1].finish()
    assert [event.reason for event in world.told(Paused)] == ["store_forgot"]


def test_who_saw_that_the_store_forgot_and_then_that_another_held_all_back_does_not_do_so_again() -> None:
    world = World()
    account, other = world.process(), world.process()
    busy(world)
    for process in (account, other):
        world.clock.advance(20)
        world.run(call(process, world.hold(1)))
    forget(world)
    world.clock.advance(20)
    world.run(other.load())
    world.run(admit(account, world.hold()))
    before = world.clock()
    world.run(admit(other, world.hold()))
    assert world.clock() - before < 1
    assert [event.reason for event in world.told(Paused)] == ["store_forgot"]


def test_a_call_under_way_while_the_store_forgot_is_counted_again_when_it_is_answered() -> None:
    world = World()
    account, hold = world.process(), world.hold(30)
    hand = world.hand(call(account, hold)).until(Send)
    forget(world)
    world.clock.advance(5)
    hand.finish()
    assert sum(world.view[POOL.tags(generation)] for generation in range(c.TAGS)) == 1
    world.credits, world.running = 70, 1
    world.clock.advance(20)
    world.run(admit(account, world.hold(0, 0)))
    assert world.free == (70, 3)


def test_a_reading_asked_for_in_a_former_life_is_thrown_away() -> None:
    world = World()
    account, hold = world.process(), world.hold(0, 0)
    for _ in range(3):
        world.clock.advance(20)
        world.run(admit(account, world.hold(0, 0)))
    world.clock.advance(20)
    assert world.run(claim_for_user(account, hold))
    forget(world)
    world.run(adopt(account, hold, Reading(99, {"": Capacity(4, 0)})))
    world.clock.advance(20)
    world.run(admit(world.process(), world.hold(10)))
    assert world.free == (90, 3)


def test_after_the_store_was_set_back_everybody_is_held_back_for_a_lease() -> None:
    world = World()
    account, other = world.process(), world.process()
    busy(world)
    restore = snapshot(world)
    for process in (account, other):
        world.clock.advance(20)
        world.run(call(process, world.hold(1)))
    restore()
    world.clock.advance(20)
    before = world.clock()
    hands = [world.hand(admit(process, world.hold())) for process in (account, other)]
    hands[0].finish()
    assert world.clock() - before == pytest.approx(120, abs=1)
    hands[1].finish()
    assert world.clock() - before == pytest.approx(120, abs=1)
    assert [event.reason for event in world.told(Paused)] == ["store_forgot"]


def test_a_store_set_back_within_one_generation_is_noticed_too() -> None:
    world = World()
    account = world.process()
    busy(world)
    restore = snapshot(world)
    world.run(admit(account, world.hold(1)))
    generation = world.view[c.GENERATION]
    restore()
    assert world.view[c.GENERATION] == generation
    before = world.clock()
    world.hand(admit(account, world.hold())).finish()
    assert world.clock() - before == pytest.approx(120, abs=1)


def test_each_time_a_store_is_set_back_everybody_is_held_back_once() -> None:
    world = World()
    account, other = world.process(), world.process()
    busy(world)
    restore = snapshot(world)
    for times in range(1, 4):
        world.clock.advance(20)
        world.run(call(account, world.hold(1)))
        restore()
        world.clock.advance(20)
        for process in (account, other, account):
            world.hand(admit(process, world.hold(0))).finish()
        assert len(world.told(Paused)) == times


def test_a_reading_asked_for_before_the_store_was_set_back_is_thrown_away() -> None:
    world = World()
    account, hold = world.process(), world.hold(0, 0)
    busy(world)
    restore = snapshot(world)
    world.clock.advance(20)
    assert world.run(claim_for_user(account, hold))
    restore()
    world.run(adopt(account, hold, Reading(99, {"": Capacity(4, 0)})))
    world.clock.advance(20)
    world.hand(admit(world.process(), world.hold(10))).finish()
    assert world.view[c.BALANCE] == 100


def test_a_call_in_line_whose_store_was_set_back_to_before_it_was_announced_goes_on() -> None:
    world = World(limit=1, running=1)
    account = world.process()
    world.run(admit(world.process(), world.hold(1, 0)))
    hold = world.hold(10)
    hand = world.hand(admit(account, hold)).until(Wait)
    waiting = hold.record
    assert waiting is not None
    assert waiting.stage is Stage.HEAD
    before = waiting.moved(Stage.WAITING).dumps()
    undone = Transaction(add={"quiet": 1}, drop={hold.key: waiting.dumps()}, put={hold.key: Put(before, 120)})
    assert world.store.transact(NAME, undone).applied
    world.running = 0
    world.clock.advance(20)
    hand.finish()
    assert world.view["open"] == 1
    assert world.view["quiet"] == 0
    assert world.view["waiting"] == 0
    assert world.free == (90 - 1, 0)


def test_a_call_answered_after_its_store_was_set_back_to_when_it_waited_is_counted_once() -> None:
    world = World(limit=1, running=1)
    account, hold = world.process(), world.hold(30)
    hand = world.hand(call(account, hold)).until(Wait)
    restore = snapshot(world)
    world.running = 0
    world.clock.advance(20)
    hand.until(Send)
    restore()
    hand.finish()
    assert world.view["open"] == 0
    assert world.view["waiting"] == 0
    assert world.view["quiet"] == 0
    world.credits, world.running = 70, 1
    world.clock.advance(200)
    world.hand(admit(world.process(), world.hold(0, 0))).finish()
    assert world.free == (70, 0)


def test_a_store_that_remembers_holds_nobody_back() -> None:
    world = World()
    busy(world)
    assert world.told(Paused) == []


@pytest.mark.parametrize("later", [0, 1], ids=["of the same moment", "that says a later time"])
def test_an_answer_that_was_overtaken_is_no_sign_that_the_store_forgot(later: int) -> None:
    world = World()
    account = world.process()
    world.run(admit(account, world.hold()))
    world.clock.advance(11)
    slow = world.hand(admit(account, world.hold()))
    quick = world.hand(admit(account, world.hold()))
    assert isinstance(slow.step, Transact)
    answer = world.store.transact(slow.step.account, slow.step.transaction)
    quick.until(Fetch)
    slow.answer(Transacted(answer.applied, answer.counters, answer.now + later))
    before = world.clock()
    quick.finish()
    slow.finish()
    assert world.told(Paused) == []
    assert world.clock() - before < 1
