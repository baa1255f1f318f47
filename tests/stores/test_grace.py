from __future__ import annotations

import contextlib
import pickle
import random
import threading
from collections.abc import Callable, Generator, Iterator
from typing import ClassVar

import pytest
from anyio.from_thread import start_blocking_portal

from budgetguard._core.account import Account
from budgetguard._core.counters import SERIAL
from budgetguard._core.steps import Flow, Transact
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard.errors import StoreError
from budgetguard.events import Event, StoreFound, StoreLost
from budgetguard.policy import Policy
from budgetguard.ports import AsyncStore, Put, Store, Transacted, Transaction
from budgetguard.stores.grace import GraceStore
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import ManualClock
from budgetguard.testing.stores import AsyncStoreContract, StoreContract, _Blocking
from tests.support.failing import FailingStore

SECONDS = 10.0


class TestBlocking(StoreContract):
    clock: ClassVar[ManualClock] = ManualClock(1000.0)

    def make_store(self) -> Store:
        return GraceStore(MemoryStore(self.clock), SECONDS, serial="serial")

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestOnAsyncio(AsyncStoreContract):
    clock: ClassVar[ManualClock] = ManualClock(1000.0)

    async def make_store(self) -> AsyncStore:
        return GraceStore(MemoryStore(self.clock), SECONDS, serial="serial")

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestOnTrio(TestOnAsyncio):
    backend = "trio"


class Stage:
    """A store of 100 credits that may fail, and what bridges that."""

    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.truth = MemoryStore(self.clock)
        self.inner = FailingStore(self.truth)
        self.events: list[Event] = []
        self.grace = GraceStore(self.inner, SECONDS, serial=SERIAL, tell=self.events.append, clock=self.clock)
        self.store: Store = self.grace
        self.truth.transact("a", Transaction(add={"credits": 100, "read_at": self.truth.load("a").now, SERIAL: 1}))

    def take(self, name: str, credits: int = 10, within: dict[str, int] | None = None) -> Transacted:
        return self.store.transact("a", taking(name, credits, within))

    def give_back(self, name: str, credits: int = 10) -> Transacted:
        return self.store.transact("a", giving_back(name, credits))

    def back(self) -> None:
        """Let the store answer again, some time after it was last asked."""
        self.inner.be("fine")
        self.clock.advance(1.0)

    def counters(self) -> tuple[int, int]:
        counters = self.truth.load("a").counters
        return counters["credits"], counters[SERIAL]

    def records(self) -> set[str]:
        return set(self.truth.scan("a").records)


def taking(name: str, credits: int = 10, within: dict[str, int] | None = None) -> Transaction:
    put = {name: Put(b"%d" % credits, 60.0)}
    return Transaction(add={"credits": -credits, SERIAL: 1}, floor={"credits": 0}, within=within or {}, put=put)


def giving_back(name: str, credits: int = 10) -> Transaction:
    return Transaction(add={"credits": credits, SERIAL: 1}, drop={name: b"%d" % credits}, wake=True)


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage()
    if request.param == "blocking":
        yield stage
    else:
        with start_blocking_portal(request.param) as portal:
            stage.store = _Blocking(stage.grace, portal)
            yield stage


# -- while it is gone -----------------------------------------------------------------------------------------------


def test_what_was_last_seen_as_free_is_given_out_and_no_more(stage: Stage) -> None:
    stage.take("r0", 30)
    stage.inner.be("gone")
    assert [stage.take(f"r{number}", 30).applied for number in range(1, 4)] == [True, True, False]
    assert stage.counters() == (70, 2)
    assert stage.store.load("a").counters["credits"] == 10


def test_it_lasts_as_long_as_was_said_since_the_last_answer(stage: Stage) -> None:
    stage.take("r0")
    stage.clock.advance(4.0)
    stage.store.load("a")
    stage.inner.be("gone")
    stage.clock.advance(SECONDS)
    assert stage.take("r1").applied
    stage.clock.advance(0.001)
    with pytest.raises(StoreError, match="gave no answer"):
        stage.take("r2")
    with pytest.raises(StoreError):
        stage.store.load("a")


def test_an_account_that_was_never_seen_has_none(stage: Stage) -> None:
    stage.inner.be("gone")
    with pytest.raises(StoreError):
        stage.take("r0")


def test_a_failure_that_waiting_does_not_mend_is_not_bridged(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("broken")
    with pytest.raises(StoreError, match="damaged"):
        stage.take("r1")
    assert stage.events == []


@pytest.mark.parametrize(
    "transaction",
    [
        Transaction(add={"credits": -1}, expect={"credits": 90}, put={"x": Put(b"1")}),
        Transaction(add={"credits": 10}, drop={"r0": b"10"}),
        Transaction(stamp=("at",), put={"x": Put(b"1")}),
        Transaction(add={"credits": -1}, floor={"credits": 0}),
        Transaction(),
        Transaction(add={"credits": 9}, drop={"r1": b"10"}),
    ],
    ids=["expects", "ends what the store holds", "stamps", "only adds", "asks nothing", "gives back another sum"],
)
def test_what_others_may_have_a_say_in_needs_the_store(stage: Stage, transaction: Transaction) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1")
    with pytest.raises(StoreError):
        stage.store.transact("a", transaction)


def test_what_was_admitted_meanwhile_can_be_moved_on_renewed_and_given_back(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1")
    assert not stage.take("r1").applied
    assert not stage.store.transact("a", Transaction(drop={"r1": b"other"})).applied
    moved = Transaction(add={"open": 1, SERIAL: 1}, drop={"r1": b"10"}, put={"r1": Put(b"10", 60.0)})
    assert stage.store.transact("a", moved).counters["open"] == 1
    assert stage.store.load("a", ["r1"]).records == {"r1": b"10"}
    back = Transaction(add={"open": -1, "credits": 10}, drop={"r1": b"10"})
    assert stage.store.transact("a", back).counters["credits"] == 90
    stage.back()
    stage.store.load("a")
    assert stage.records() == {"r0"}
    assert stage.counters()[0] == 90


def test_giving_back_needs_no_grace(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1")
    stage.clock.advance(2 * SECONDS)
    assert stage.give_back("r1").counters["credits"] == 90


def test_the_reading_grows_older_meanwhile(stage: Stage) -> None:
    within = {"read_at": 5_000_000}
    stage.take("r0")
    stage.inner.be("gone")
    stage.clock.advance(4.0)
    assert stage.take("r1", within=within).applied
    stage.clock.advance(2.0)
    assert not stage.take("r2", within=within).applied
    assert not stage.take("r2", within={"never": 5_000_000}).applied


def test_records_that_only_the_store_knows_are_not_made_up(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1")
    assert stage.store.load("a").counters["credits"] == 80
    with pytest.raises(StoreError):
        stage.store.load("a", ["r0"])
    with pytest.raises(StoreError):
        stage.store.load("a", due=True)
    with pytest.raises(StoreError):
        stage.store.scan("a")


def test_whoever_can_do_without_does_not_wait_for_a_store_that_just_failed(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    asked = stage.inner.asked
    for number in range(1, 5):
        stage.take(f"r{number}")
    assert stage.inner.asked == asked + 1
    stage.clock.advance(1.0)
    stage.take("r5")
    assert stage.inner.asked == asked + 2
    with pytest.raises(StoreError):
        stage.store.load("a", due=True)
    assert stage.inner.asked == asked + 3


def test_no_more_than_a_thousand_calls_are_admitted_so(stage: Stage) -> None:
    stage.truth.transact("a", Transaction(add={"credits": 10**6}))
    stage.take("r")
    stage.inner.be("gone")
    for number in range(1000):
        assert stage.grace.transact("a", taking(f"r{number}")).applied
    with pytest.raises(StoreError):
        stage.take("one more")
    stage.give_back("r7")
    assert stage.take("one more").applied


def test_whoever_waits_is_woken_by_what_is_given_back_and_when_the_store_is_found(stage: Stage) -> None:
    woken = threading.Event()
    end = stage.store.watch("a", woken.set)
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1")
    assert not woken.is_set()
    stage.give_back("r1")
    assert woken.is_set()
    woken.clear()
    stage.back()
    stage.store.load("a")
    assert woken.is_set()
    end()
    end()
    woken.clear()
    stage.give_back("r0")
    assert not woken.is_set()


# -- when it is back ------------------------------------------------------------------------------------------------


def test_before_anything_else_is_said_the_store_hears_what_was_done(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1", 20)
    stage.take("r2", 30)
    stage.give_back("r2", 30)
    stage.inner.be("fine")
    settled = Transaction(add={"credits": 5, SERIAL: 1}, expect={"credits": 70}, drop={"r1": b"20"})
    done = stage.store.transact("a", settled)
    assert (done.applied, done.counters["credits"]) == (True, 75)
    assert stage.records() == {"r0"}
    assert stage.counters() == (
        75,
        7,
    )  # the first of them may have come through, so its step of the serial counts twice
    stage.truth.load("a", due=True)


def test_what_nobody_settles_falls_due_like_any_other_hold(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1")
    stage.back()
    stage.store.load("a")
    stage.clock.advance(61.0)
    assert stage.store.load("a", due=True).records.keys() == {"r0", "r1"}


@pytest.mark.parametrize("then", ["kept", "moved", "given back"])
def test_what_the_store_had_done_before_its_answer_was_lost_is_done_once(stage: Stage, then: str) -> None:
    stage.take("r0")
    stage.inner.be("lost")
    assert stage.take("r1").applied
    stage.inner.be("gone")
    expected, records = 80, {"r0": b"10", "r1": b"10"}
    if then == "moved":
        step = Transaction(add={"credits": -5, SERIAL: 1}, drop={"r1": b"10"}, put={"r1": Put(b"15", 60.0)})
        assert stage.store.transact("a", step).applied
        expected, records = 75, {"r0": b"10", "r1": b"15"}
    elif then == "given back":
        stage.give_back("r1")
        expected, records = 90, {"r0": b"10"}
    stage.back()
    assert stage.store.load("a").counters["credits"] == expected
    assert stage.truth.scan("a").records == records


def test_a_store_that_is_lost_again_while_it_is_told_is_told_again(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    for number in range(1, 4):
        stage.take(f"r{number}")
    moods = iter(["fine", "lost", "fine", "gone"])
    stage.inner.mood = lambda: next(moods, "fine")
    with pytest.raises(StoreError):
        stage.store.load("a", due=True)
    with pytest.raises(StoreError):
        stage.store.load("a", due=True)
    assert stage.store.load("a", due=True).counters["credits"] == 60
    assert stage.records() == {"r0", "r1", "r2", "r3"}


def test_an_answer_that_comes_while_something_is_held_back_does_not_hide_it(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1", 20)
    copy = stage.grace._copies["a"]
    copy.hear(copy.number(), {"credits": 50, SERIAL: 9}, stage.truth.load("a").now, stage.clock())
    assert stage.store.load("a").counters == {"credits": 30, SERIAL: 10}


def test_what_is_on_its_way_to_the_store_is_not_changed_here(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1")
    copy, seen = stage.grace._copies["a"], list[Transacted | None]()

    def meanwhile() -> str:
        seen.append(copy.decide(giving_back("r1"), stage.clock(), new=True, full=False, sent=False))
        return "fine"

    stage.clock.advance(1.0)
    stage.inner.mood = meanwhile
    stage.store.load("a")
    assert set(seen) == {None}
    assert stage.records() == {"r0", "r1"}


def test_a_late_answer_from_before_does_not_undo_what_was_brought(stage: Stage) -> None:
    stage.take("r0")
    copy = stage.grace._copies["a"]
    late, before = copy.number(), stage.truth.load("a")
    stage.store.load("a")
    stage.inner.be("gone")
    for number in range(1, 3):
        stage.take(f"r{number}")
    moods = iter(["fine", "gone"])
    stage.inner.mood = lambda: next(moods, "gone")
    with pytest.raises(StoreError):
        stage.store.load("a", due=True)
    copy.hear(late, before.counters, before.now, stage.clock())
    assert stage.store.load("a").counters["credits"] == 70


def test_closing_brings_what_is_left_if_it_can(stage: Stage) -> None:
    stage.take("r0")
    stage.inner.be("gone")
    stage.take("r1")
    stage.grace._owned = False
    stage.store.close()
    assert stage.inner.closed == 0
    stage.inner.be("fine")
    stage.store.close()
    assert stage.records() == {"r0", "r1"}
    stage.grace._owned = True
    stage.store.close()
    assert stage.inner.closed == 1


def test_its_beginning_and_its_end_are_told_once(stage: Stage) -> None:
    stage.take("r0")
    stage.clock.advance(2.0)
    stage.inner.be("gone")
    for name in ("r1", "r2", "r3"):
        stage.take(name)
    stage.give_back("r3")
    stage.clock.advance(3.0)
    stage.back()
    stage.store.load("a")
    stage.store.load("a")
    assert stage.events == [StoreLost("a", 1002.000001, SECONDS - 2.0), StoreFound("a", 1006.000001, 4.0, 2)]


def test_many_threads_lose_nothing_while_the_store_comes_and_goes() -> None:
    stage = Stage()
    stage.truth.transact("a", Transaction(add={"credits": 10**6}))
    rng = random.Random(7)
    stage.inner.mood = lambda: rng.choice(["fine", "fine", "gone", "lost"])
    kept: set[str] = set()

    def run(number: int) -> None:
        for turn in range(60):
            name = f"r{number} {turn}"
            try:
                if stage.take(name).applied:
                    kept.add(name)
                if turn % 3 == 0:
                    kept.discard(name)
                    stage.give_back(name)
            except StoreError:
                kept.discard(name)
            stage.clock.advance(0.05)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stage.back()
    stage.store.load("a")
    held, cursor = dict[str, bytes](), ""
    while True:
        page = stage.truth.scan("a", cursor)
        held |= page.records
        cursor = page.cursor
        if not cursor:
            break
    assert kept <= held.keys()
    assert stage.counters()[0] == 10**6 + 100 - sum(int(value) for value in held.values())


# -- with the accounts of a guard -----------------------------------------------------------------------------------


def _step(account: Account, transaction: Transaction) -> Flow[Transacted]:
    done = yield from account.transact(transaction)
    return done


@pytest.mark.parametrize("seed", range(150))
def test_whatever_fails_when_the_store_ends_up_right_and_nobody_takes_it_for_one_that_forgot(seed: int) -> None:
    """Random transactions under random failures; at the end, the counters are what the records say."""
    rng, stage = random.Random(seed), Stage()
    stage.truth.transact("a", Transaction(add={"life": 1}))
    account = Account("a", Policy())
    driver = BlockingDriver(stage.store, lambda _: None)
    holds: dict[str, tuple[int, int]] = {}
    gone: set[str] = set()
    mood = "fine"

    def one() -> str:
        return mood if rng.random() < 0.9 else rng.choice(["fine", "gone", "lost"])

    stage.inner.mood = one
    for turn in range(60):
        if rng.random() < 0.2:
            mood = rng.choice(["fine", "gone", "lost"])
        stage.clock.advance(rng.choice([0.0, 0.1, 0.6, 3.0]))
        name = rng.choice(list(holds)) if holds and rng.random() < 0.6 else f"r{turn}"
        credits, moves = holds.pop(name, (rng.randint(1, 20), -1))
        step = taking(name, credits)
        if moves < 0:
            step.put[name].value = f"{credits} 0".encode()
            after = (credits, 0)
        elif rng.random() < 0.5:
            before, now = f"{credits} {moves}".encode(), f"{credits} {moves + 1}".encode()
            step = Transaction(add={"open": 1}, drop={name: before}, put={name: Put(now, 60.0)})
            after = (credits, moves + 1)
        else:
            drop = {name: f"{credits} {moves}".encode()}
            step = Transaction(add={"credits": credits, "open": -moves}, drop=drop)
            after = None
        try:
            done = driver.run(account, _step(account, step))
        except StoreError:
            continue  # nobody knows what became of it
        finally:
            assert not account.forgotten
        if done.applied and after is not None:
            holds[name] = after
        elif done.applied:
            gone.add(name)
        else:
            assert moves < 0, "a hold was lost"
    stage.back()
    driver.run(account, account.load())
    assert not account.forgotten
    records = {key: value.split() for key, value in stage.truth.scan("a").records.items()}
    assert {name: records.get(name) for name in holds} == {
        name: [b"%d" % credits, b"%d" % moves] for name, (credits, moves) in holds.items()
    }
    assert not gone & records.keys()
    counters = stage.truth.load("a").counters
    assert counters["credits"] == 100 - sum(int(credits) for credits, _ in records.values())
    assert counters.get("open", 0) == sum(int(moves) for _, moves in records.values())


class Crossing:
    """Many transactions of one account under way at once; what is asked and what is answered may overtake each other.

    Each is a flow of the account, whose question becomes a talk with the store, of which each step is first performed
    (or not) and its answer delivered later.
    """

    def __init__(self, stage: Stage, account: Account, rng: random.Random) -> None:
        self.stage = stage
        self.account = account
        self.rng = rng
        self.under_way: list[Iterator[None]] = []
        self.moods = ["fine"]

    def begin(self, transaction: Transaction, told: Callable[[Transacted | None], None]) -> None:
        self.under_way.append(self._run(transaction, told))

    def go_on(self) -> None:
        """Let one of them make a step."""
        one = self.rng.choice(self.under_way)
        if next(one, self) is self:
            self.under_way.remove(one)

    def _run(self, transaction: Transaction, told: Callable[[Transacted | None], None]) -> Iterator[None]:
        flow = self.account.transact(transaction)
        step = next(flow)
        assert isinstance(step, Transact)
        yield
        try:
            done = yield from self._talk(step.transaction)
        except StoreError:
            flow.close()
            told(None)
            return
        yield
        with contextlib.suppress(StopIteration):
            flow.send(done)
        assert not self.account.forgotten
        told(done)

    def _talk(self, transaction: Transaction) -> Generator[None, None, Transacted]:
        talk = self.stage.grace._transact("a", transaction)
        reply: Transacted | None = None
        error: StoreError | None = None
        try:
            while True:
                ask = talk.throw(error) if error is not None else talk.send(reply)
                reply = error = None
                yield
                if isinstance(ask, Transaction):
                    mood = self.rng.choice(self.moods)
                    if mood != "gone":
                        reply = self.stage.truth.transact("a", ask)
                    if mood != "fine":
                        reply, error = None, StoreError("gone", unreachable=True)
                    yield
        except StopIteration as stop:
            done: Transacted = stop.value
            return done
        finally:
            talk.close()


@pytest.mark.parametrize("seed", range(200))
def test_whatever_overtakes_what_the_store_ends_up_right_and_nobody_takes_it_for_one_that_forgot(seed: int) -> None:
    """The same with up to six transactions under way at a time."""
    rng, stage = random.Random(f"crossing {seed}"), Stage()
    stage.truth.transact("a", Transaction(add={"life": 1}))
    account = Account("a", Policy())
    crossing = Crossing(stage, account, rng)
    held: dict[str, int] = {}
    back: set[str] = set()

    for turn in range(400):
        if rng.random() < 0.05:
            crossing.moods = rng.choice([["fine"], ["gone"], ["fine", "lost"], ["fine", "gone", "lost"]])
        stage.clock.advance(rng.choice([0.0, 0.0, 0.1, 0.3]))
        if len(crossing.under_way) < 6 and turn < 300:
            if held and rng.random() < 0.5:
                name = rng.choice(list(held))
                credits = held.pop(name)

                def returned(done: Transacted | None, name: str = name) -> None:
                    if done is not None:
                        assert done.applied, "a hold was lost"
                        back.add(name)

                crossing.begin(giving_back(name, credits), returned)
            else:
                name, credits = f"r{turn}", rng.randint(1, 9)

                def taken(done: Transacted | None, name: str = name, credits: int = credits) -> None:
                    if done is not None and done.applied:
                        held[name] = credits

                crossing.begin(taking(name, credits), taken)
        elif crossing.under_way:
            crossing.go_on()
    crossing.moods = ["fine"]
    while crossing.under_way:
        crossing.go_on()
    stage.back()
    BlockingDriver(stage.store, lambda _: None).run(account, account.load())
    assert not account.forgotten
    records = stage.truth.scan("a").records
    assert {name: records.get(name) for name in held} == {name: b"%d" % credits for name, credits in held.items()}
    assert not back & records.keys()
    assert stage.truth.load("a").counters["credits"] == 100 - sum(int(credits) for credits in records.values())


@pytest.mark.parametrize("how", ["emptied", "set back"])
def test_a_store_that_comes_back_with_less_is_still_found_out(how: str) -> None:
    stage = Stage()
    stage.truth.transact("a", Transaction(add={"life": 7}))
    account = Account("a", Policy())
    driver = BlockingDriver(stage.store, lambda _: None)
    driver.run(account, _step(account, taking("r0")))
    old = MemoryStore(stage.clock)
    if how == "set back":
        old.transact("a", Transaction(add=dict(stage.truth.load("a").counters)))
    for number in range(1, 4):
        driver.run(account, _step(account, taking(f"r{number}")))
    stage.inner.be("gone")
    driver.run(account, _step(account, taking("r4")))
    driver.run(account, _step(account, giving_back("r4")))
    driver.run(account, _step(account, taking("r5")))
    assert not account.forgotten
    stage.inner.store = old
    stage.back()
    driver.run(account, account.load())
    assert account.forgotten


def test_an_error_that_was_pickled_still_says_whether_the_store_can_be_reached() -> None:
    for unreachable in (True, False):
        error = pickle.loads(pickle.dumps(StoreError("why", unreachable=unreachable)))  # noqa: S301
        assert (str(error), error.unreachable) == ("why", unreachable)
