from __future__ import annotations

import gc
import threading
import weakref

from budgetguard._core.account import Account, Hold
from budgetguard._core.admission import admit
from budgetguard._core.records import Stage
from budgetguard._core.settlement import renew, settle
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard._drivers.heartbeat import Heartbeat
from budgetguard.errors import StoreError
from budgetguard.model import Outcome, Quote, Verdict
from budgetguard.policy import Policy
from budgetguard.ports import Transacted, Transaction
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import ManualClock
from tests.core.hand import ACCEPTED, World

PATIENCE = 10.0


def under_way(world: World) -> tuple[Account, Hold]:
    account, hold = world.process(), world.hold()
    world.run(admit(account, hold))
    hold.sent = True
    return account, hold


def by_hand(world: World) -> Heartbeat:
    """A heart that beats when it is told to only."""
    heart = Heartbeat(BlockingDriver(world.store, world.events.append), 3000.0)
    heart._running = True
    return heart


def hearts() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "budgetguard-heartbeat"}


def test_a_beat_renews_the_lease_of_every_call_under_way() -> None:
    world = World()
    account, hold = under_way(world)
    heart = by_hand(world)
    heart.watch(account, hold)
    for _ in range(5):
        world.clock.advance(100)
        heart.beat()
    assert world.store.load(account.name, due=True).records == {}
    heart.forget(hold)
    heart.forget(hold)
    world.clock.advance(121)
    heart.beat()
    assert set(world.store.load(account.name, due=True).records) == {hold.key}


def test_a_call_that_holds_what_it_needs_is_kept_before_it_is_sent() -> None:
    world = World()
    account, hold = under_way(world)
    hold.sent = False
    heart = by_hand(world)
    heart.watch(account, hold)
    for _ in range(5):
        world.clock.advance(100)
        heart.beat()
    assert world.store.load(account.name, due=True).records == {}


def test_a_call_that_nobody_holds_any_more_ends_with_its_lease() -> None:
    world = World()
    account, hold = under_way(world)
    heart, key = by_hand(world), hold.key
    heart.watch(account, hold)
    del hold
    gc.collect()
    world.clock.advance(121)
    heart.beat()
    assert set(world.store.load(account.name, due=True).records) == {key}


def test_a_record_that_was_drawn_on_meanwhile_is_kept_as_it_is_now() -> None:
    world = World()
    account, hold = under_way(world)
    assert hold.record is not None
    now = hold.record.moved(Stage.RESERVED, credits=3)
    world.store.transact(account.name, Transaction(drop=hold.record.drops(), put=now.puts(120.0)))
    world.clock.advance(100)
    assert world.run(renew(account, hold))
    world.clock.advance(100)
    assert world.store.load(account.name, due=True).records == {}
    assert world.store.load(account.name, [hold.key]).records == {hold.key: now.dumps()}


def test_synchronous_work_is_kept_as_long_as_its_permit_and_a_task_lives_by_its_own_lease() -> None:
    world = World()
    account, hold = under_way(world)
    world.run(settle(account, hold, Verdict(Outcome.ACCEPTED)))
    world.clock.advance(3500)
    assert world.run(renew(account, hold))
    world.clock.advance(3500)
    assert world.store.load(account.name, due=True).records == {}
    account, hold = under_way(world)
    world.run(settle(account, hold, ACCEPTED))
    assert not world.run(renew(account, hold))


def test_a_call_in_line_is_left_to_its_flow() -> None:
    world = World(limit=1)
    under_way(world)
    account, hold = world.process(), world.hold()
    world.hand(admit(account, hold)).waits()
    heart = by_hand(world)
    heart.watch(account, hold)
    world.clock.advance(121)
    heart.beat()
    assert set(world.store.load(account.name, due=True).records) >= {hold.key}


def test_a_store_that_fails_does_not_stop_the_heart() -> None:
    class Failing(MemoryStore):
        down = False

        def transact(self, account: str, transaction: Transaction) -> Transacted:
            if self.down:
                raise StoreError("down")
            return super().transact(account, transaction)

    store = Failing(ManualClock(1000.0))
    world = World()
    world.store = store
    account, hold = under_way(world)
    heart = by_hand(world)
    heart.watch(account, hold)
    store.down = True
    heart.beat()
    store.down = False
    world.clock.advance(100)
    heart.beat()


def test_its_thread_beats_while_there_are_calls_and_ends_with_the_last() -> None:
    beats = threading.Semaphore(0)

    class Beating(Heartbeat):
        def beat(self) -> None:
            beats.release()

    world = World()
    account, hold = under_way(world)
    before = hearts()
    heart = Beating(BlockingDriver(world.store, world.events.append), 0.003)
    for _ in range(2):
        heart.watch(account, hold)
        heart.watch(account, hold)
        threads = hearts() - before
        assert [thread.daemon for thread in threads] == [True]
        for _ in range(3):
            assert beats.acquire(timeout=PATIENCE)
        heart.forget(hold)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert "0 calls" in repr(heart)


def test_a_call_that_comes_while_the_thread_is_about_to_end_is_renewed_all_the_same() -> None:
    world = World()
    account = world.process()
    heart = Heartbeat(BlockingDriver(world.store, world.events.append), 0.003)
    late = Hold("late", Quote(1))
    watching: list[threading.Thread] = []

    class Calls(weakref.WeakKeyDictionary[Hold, Account]):
        """At the moment the thread finds nothing to do, somebody comes."""

        def __bool__(self) -> bool:
            empty = not len(self)
            if empty and not watching:
                watching.append(threading.Thread(target=heart.watch, args=(account, late)))
                watching[0].start()
                watching[0].join(0.1)
            return not empty

    before = hearts()
    heart._calls = Calls()
    first = Hold("first", Quote(1))
    heart.watch(account, first)
    threads = hearts() - before
    heart.forget(first)
    for thread in threads:
        thread.join(PATIENCE)
    watching[0].join(PATIENCE)
    alive = hearts() - before
    heart.forget(late)
    for thread in alive:
        thread.join(PATIENCE)
    assert alive


def test_it_says_how_many_calls_it_keeps() -> None:
    world = World()
    heart = Heartbeat(BlockingDriver(world.store, world.events.append), Policy().lease)
    assert repr(heart) == "Heartbeat(0 calls, every 40.0 s)"
