"""The quick path does to the books what the ledger's own transactions do, or nothing.

Two stores live through the same events. In one, every call goes the long way: each event is the transaction that
`Books` makes of it. In the other it goes the quick path wherever that takes it. After every event both must hold the
same counters and the same records.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from budgetguard._core import counters as c
from budgetguard._core.counters import Pool, View, micros
from budgetguard._core.ledger import Books
from budgetguard._core.quick import QuickAccount
from budgetguard._core.readings import Claim
from budgetguard._core.records import PORTABLE, Record, Stage, call_key, clean, task_key
from budgetguard._core.serving import Place
from budgetguard._core.till import Draft
from budgetguard.errors import InsufficientCredits
from budgetguard.model import Capacity, Reading, TaskSeen, TaskState
from budgetguard.policy import Policy
from budgetguard.ports import Transacted, Transaction
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import ManualClock

NAME = "p:a"
POLICY = Policy(max_age=30.0, lease=20.0, task_lease=40.0, credits_headroom=5, recheck_after=2.0)
SEEDS = 400
EVENTS = 60


class Owner:
    """Whoever holds a call."""

    def __init__(self) -> None:
        self.alive = True

    def __call__(self) -> object:
        return self if self.alive else None


class Call:
    """One call in both stores."""

    def __init__(
        self, id: str, draft: Draft | None, record: Record, mark: int, owner: Owner, place: Place | None = None
    ) -> None:
        self.id = id
        self.place = place
        self.draft = draft
        self.record = record
        self.mark = mark
        self.owner = owner


class Twins:
    """Both stores, and what is done to them."""

    def __init__(self, seed: int = 0, policy: Policy = POLICY) -> None:
        self.rng = random.Random(seed)
        self.clock = ManualClock(1000.0)
        self.long, self.short = MemoryStore(self.clock), MemoryStore(self.clock)
        self.woken = 0
        self.account = QuickAccount(NAME, policy, task_lease=policy.task_lease or 0.0, listening=False)
        self.books: Books = self.account.books
        kept = self.short.books(NAME)
        self.account.attend(kept.till, self._wake)
        self.calls: list[Call] = []
        self.claim: Claim | None = None
        self.numbers = 0
        self.joined = self.served = 0
        self.quick = self.slow = 0
        """How many events went which way."""

    def _wake(self) -> None:
        self.woken += 1

    @property
    def view(self) -> View:
        loaded = self.long.load(NAME)
        return View(loaded.counters, loaded.now)

    def both(self, make: Callable[[], Transaction]) -> Transacted:
        """Apply a transaction in both stores; it must come out the same."""
        one, other = self.long.transact(NAME, make()), self.short.transact(NAME, make())
        assert one.applied == other.applied
        return one

    def only_long(self, transaction: Transaction) -> None:
        """Apply in the long store what the quick path did in the other."""
        assert self.long.transact(NAME, transaction).applied

    def reading(self, credits: int, limit: int, running: int) -> None:
        self.mark()
        self.install(credits, limit, running)

    def mark(self) -> None:
        view = self.view
        self.both(lambda: self.books.claim(view, 10.0)[0])
        self.claim = self.books.claim(view, 10.0)[1]
        self.learn()

    def install(self, credits: int, limit: int, running: int) -> None:
        view, claim = self.view, self.claim
        if claim is not None and self.books.supersedes(view, claim):
            whole = Reading(credits, {"": Capacity(limit, running)})
            self.both(lambda: self.books.install(view, claim, whole))
        self.claim = None

    def learn(self) -> None:
        """Let the process know which life the account is in, as its flows do."""
        self.account.view = self.view

    def take(self, credits: int, slots: int) -> Call | None:
        self.numbers += 1
        id, owner = f"{self.rng.choice(('', PORTABLE))}{self.numbers}", Owner()
        record = Record(id, Stage.RESERVED, credits, slots, task_lease=self.account.task_lease)
        draft = self.account.take(owner, id, credits, slots)
        within = micros(self.account.policy.max_age)
        mark = self.view[c.MARK]
        if draft is not None:
            self.quick += 1
            self.only_long(self.books.take(record, within=within))
        else:
            self.slow += 1
            if not self.both(lambda: self.books.take(record, within=within)).applied:
                return None
        call = Call(id, draft, record, mark, owner)
        self.calls.append(call)
        return call

    def join(self, credits: int, slots: int) -> Call | None:
        """Wait in line on the quick path, if it takes that."""
        self.numbers += 1
        id, owner = f"{self.rng.choice(('', PORTABLE))}{self.numbers}", Owner()
        record = Record(id, Stage.WAITING, credits, slots, task_lease=self.account.task_lease)
        place = self.account.join_line(owner, id, credits, slots)
        if place is None:
            return None
        self.quick += 1
        self.joined += 1
        self.only_long(self.books.take(record, within=micros(self.account.policy.max_age)))
        call = Call(id, place.draft, record, -1, owner, place)
        self.calls.append(call)
        self.follow()
        return call

    def follow(self) -> None:
        """Give those their slots in the long store who were served in the other, in the order of the line."""
        for call in [call for call in self.calls if call.place is not None and not call.place.draft.waits]:
            assert call.place is not None
            assert call.place.gone
            call.place, record = None, call.record
            self.served += 1
            self.only_long(self.books.take_slots(record, within=micros(self.account.policy.max_age)))
            call.record, call.mark = record.moved(Stage.RESERVED), self.view[c.MARK]

    def look(self, call: Call) -> None:
        """Let one that waits see how long it has to: it may be served, or has to go on the long way."""
        place = call.place
        assert place is not None
        if self.account.patience(place) is None and place.draft.waits:
            hold = self.account.go_on(place)
            assert hold is not None
            assert hold.record is not None
            assert hold.record.dumps() == call.record.dumps()
            self.long.transact(NAME, self.books.renew(call.record))
            self.account.line("").leave(place)  # as its flow does, sooner or later
            call.place = call.draft = None
        self.follow()

    def leave(self, call: Call) -> None:
        """Leave the line."""
        self.calls.remove(call)
        if self.account.leave_line(call.id):
            self.only_long(self.books.release(call.record))
        else:
            self.both(lambda: self.books.release(call.record))
        self.follow()

    def accept(self, call: Call, charge: int, task_id: str, *, at_once: bool = False) -> None:
        view = self.view
        read_since = view[c.MARK] != call.mark or view[c.MARK] < view[c.GENERATION]
        transaction, after = self.books.accept(view, call.record, charge, task_id, read_since=read_since)
        draft, account = call.draft, self.account
        if draft is not None and (account.settle(draft, charge) if at_once else account.accept(draft, charge, task_id)):
            assert not read_since
            self.quick += 1
            self.only_long(transaction)
            if at_once:
                self.calls.remove(call)
                self.only_long(self.books.finish(self.view, after, seen_under=None))
                return
        else:
            self.slow += 1
            self.hand_over(call)
            if not self.both(
                lambda: self.books.accept(view, call.record, charge, task_id, read_since=read_since)[0]
            ).applied:
                self.calls.remove(call)
                return
        call.record = after

    def hand_over(self, call: Call) -> None:
        if call.draft is not None:
            record = self.account.hand_over(call.draft)
            call.draft = None
            assert record is None or record.dumps() == call.record.dumps()
            self.long.transact(NAME, self.books.renew(call.record))

    def release(self, call: Call) -> None:
        self.calls.remove(call)
        if call.draft is not None and self.account.release(call.draft):
            self.quick += 1
            self.only_long(self.books.release(call.record))
        else:
            self.slow += 1
            self.hand_over(call)
            self.both(lambda: self.books.release(call.record))

    def finish(self, call: Call, state: TaskState, charge: int | None) -> None:
        self.calls.remove(call)
        if not call.record.task_id:
            state, charge = TaskState.SUCCEEDED, None  # nobody asks how it went
        view, record, failed = self.view, call.record, state is not TaskState.SUCCEEDED
        task, draft = TaskSeen(record.task_id, state, charge), call.draft
        if draft is not None and (self.account.finish(task) if record.task_id else self.account.end(draft)):
            self.quick += 1
            self.only_long(self.books.finish(view, record, seen_under=None, failed=failed, charge=charge))
        else:
            self.slow += 1
            self.both(lambda: self.books.finish(view, record, seen_under=None, failed=failed, charge=charge))

    def expire(self) -> None:
        """End leases as a look at the account does; who still holds a call keeps its lease, on either way."""
        for call in self.calls:
            if call.owner.alive and not call.record.task_id:
                self.long.transact(NAME, self.books.renew(call.record))
                if call.draft is None or call.draft.shelf is None:
                    self.short.transact(NAME, self.books.renew(call.record))
        due = self.short.load(NAME, due=True).records
        assert due == self.long.load(NAME, due=True).records
        for call in [call for call in self.calls if call.record.key in due]:
            self.calls.remove(call)
            view, record = self.view, call.record
            self.both(lambda view=view, record=record: self.books.expire(view, record))  # type: ignore[misc]

    def check(self) -> None:
        keys = [call.record.key for call in self.calls]
        one, other = self.long.load(NAME, keys), self.short.load(NAME, keys)
        one.counters.pop(c.SERIAL, 0)
        other.counters.pop(c.SERIAL, 0)
        assert {k: v for k, v in one.counters.items() if v} == {k: v for k, v in other.counters.items() if v}
        assert one.records == other.records
        assert set(one.records) == set(keys)

    def anything(self) -> None:
        """Let something happen."""
        rng = self.rng
        opened = [call for call in self.calls if call.record.stage is Stage.RESERVED]
        waiting = [call for call in self.calls if call.place is not None]
        tasks = [call for call in self.calls if call.record.stage is Stage.ACCEPTED]
        match rng.choice("tttttttttaaaaassrrfffeecccmiiixkpjjjjlq"):
            case "j":
                self.join(rng.randrange(30), rng.choice((1, 1, 2)))
            case "l" if waiting:
                self.look(rng.choice(waiting))
            case "q" if waiting:
                self.leave(rng.choice(waiting))
            case "t":
                self.take(rng.randrange(30), rng.choice((0, 1, 1, 2)))
            case "a" if opened:
                call = rng.choice(opened)
                self.accept(call, rng.randrange(35), rng.choice(("", clean(f"T{call.id}"), clean(f"T\ud800{call.id}"))))
            case "s" if opened:
                call = rng.choice(opened)
                self.accept(call, call.record.credits, "", at_once=True)
            case "r" if opened:
                self.release(rng.choice(opened))
            case "f" | "e" if tasks:
                state = rng.choice((TaskState.SUCCEEDED, TaskState.FAILED))
                self.finish(rng.choice(tasks), state, rng.choice((None, None, rng.randrange(35))))
            case "m":
                self.mark()
            case "i" if self.claim is not None:
                self.install(rng.randrange(50, 200), rng.randrange(1, 6), rng.randrange(3))
            case "c":
                self.reading(rng.randrange(50, 200), rng.randrange(1, 6), rng.randrange(3))
            case "x":
                self.clock.advance(rng.choice((0.5, 5.0, 15.0)))
                self.expire()
            case "k" if self.calls:
                rng.choice(self.calls).owner.alive = False
            case "p":
                until = self.view.now + rng.choice((1, 10_000_000))
                view = self.view
                self.both(lambda: self.books.pause(view, until))
            case _:
                self.learn()


@pytest.mark.parametrize("terms", [{}, {"exclusive": True}, {"slots_headroom": 1}, {"refund_failed": True}])
def test_the_quick_path_does_what_the_ledger_does(terms: dict[str, bool]) -> None:
    quick = slow = joined = served = 0
    for seed in range(SEEDS // 4):
        settings = {**{name: getattr(POLICY, name) for name in ("max_age", "lease", "task_lease", "credits_headroom")}}
        twins = Twins(seed, Policy(**settings, **terms))  # type: ignore[arg-type]
        twins.reading(100, 4, 0)
        for _ in range(EVENTS):
            twins.anything()
            twins.follow()
            twins.check()
        quick, slow = quick + twins.quick, slow + twins.slow
        joined, served = joined + twins.joined, served + twins.served
    assert quick > SEEDS  # it was taken at all,
    assert slow > SEEDS  # and so was the long way,
    assert joined > served > SEEDS // 8  # and the line


def ready(credits: int = 100, limit: int = 4, running: int = 0) -> Twins:
    twins = Twins()
    twins.reading(credits, limit, running)
    twins.learn()
    twins.account.take(Owner(), "first", 0, 0)  # learns the life
    return twins


def test_a_plain_call_is_taken_at_once() -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "~1", 10, 1)
    assert draft is not None
    assert repr(draft) == "Draft(~1, 10 credits, 1 slots)"
    loaded = twins.short.load(NAME, [call_key("~1")])
    assert (loaded.counters[c.CREDITS], loaded.counters[Pool("").slots]) == (90, 3)
    assert Record.loads(loaded.records[call_key("~1")]).credits == 10


@pytest.mark.parametrize(
    "happens",
    [
        lambda twins: twins.clock.advance(31.0),
        lambda twins: twins.mark(),
        lambda twins: twins.short.transact(NAME, twins.books.distrust(twins.view)),
        lambda twins: twins.short.transact(NAME, twins.books.pause(twins.view, twins.view.now + 10_000_000)),
        lambda twins: twins.short.transact(NAME, Transaction(add={Pool("").quiet: -1})),
        lambda twins: twins.short.transact(NAME, Transaction(stamp=(c.LIFE,))),
    ],
    ids=["old reading", "reading under way", "reading not trusted", "pause", "others wait", "another life"],
)
def test_only_a_quiet_account_has_a_quick_path(happens: Callable[[Twins], object]) -> None:
    twins = ready()
    twins.clock.advance(1.0)
    happens(twins)
    assert twins.account.take(Owner(), "~1", 10, 1) is None


def test_nobody_overtakes_who_waits_in_line() -> None:
    twins = ready()
    twins.account.line("").waiting = 1
    assert twins.account.take(Owner(), "~1", 10, 1) is None
    assert twins.account.refusal(1000) is None


@pytest.mark.parametrize(("credits", "slots"), [(96, 1), (10, 5)])
def test_neither_amount_falls_below_its_floor(credits: int, slots: int) -> None:
    twins = ready()
    assert twins.account.take(Owner(), "~1", credits, slots) is None
    assert twins.short.load(NAME).counters[c.CREDITS] == 100


def test_who_cannot_pay_is_told_at_once_while_the_reading_is_young() -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "~1", 30, 1)
    assert draft is not None
    refused = twins.account.refusal(70)
    assert isinstance(refused, InsufficientCredits)
    assert (refused.needed, refused.available, refused.held, refused.balance, refused.headroom) == (70, 65, 30, 100, 5)
    assert twins.account.refusal(65) is None
    twins.clock.advance(2.5)
    assert twins.account.refusal(70) is None


def test_nobody_is_told_so_while_a_reading_may_count_calls_twice() -> None:
    twins = ready()
    assert twins.take(50, 1) is not None
    twins.reading(100, 4, 1)  # it may contain the open call, or not
    twins.account.take(Owner(), "~x", 1, 0)
    assert twins.account.refusal(70) is None


def test_an_ending_counts_once() -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "~1", 10, 1)
    assert draft is not None
    assert twins.account.settle(draft, 7)
    assert not twins.account.settle(draft, 7)
    assert not twins.account.release(draft)
    assert not twins.account.accept(draft, 7, "t")
    assert twins.account.hand_over(draft) is None
    assert twins.short.load(NAME).counters[c.CREDITS] == 93


def test_what_the_long_way_has_ended_is_not_ended_again() -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "~1", 10, 1)
    assert draft is not None
    record = Record("~1", Stage.RESERVED, 10, 1, task_lease=40.0)
    assert twins.short.transact(NAME, twins.books.release(record)).applied
    assert not twins.account.settle(draft, 7)
    assert not twins.account.release(draft)
    assert twins.short.load(NAME, [call_key("~1")]).records == {}


def test_a_task_known_already_goes_the_long_way() -> None:
    twins = ready()
    first, second = (twins.account.take(Owner(), id, 10, 1) for id in ("1", "2"))
    assert first is not None
    assert second is not None
    assert twins.account.accept(first, 10, "t")
    assert not twins.account.accept(second, 10, "t")
    assert twins.account.finish(TaskSeen("t", TaskState.SUCCEEDED))
    assert not twins.account.finish(TaskSeen("t", TaskState.SUCCEEDED))
    assert twins.account.accept(second, 10, "t")


def test_a_permit_that_starts_a_task_goes_the_long_way() -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "~1", 10, 1)
    assert draft is not None
    assert not twins.account.accept(draft, 10, "t")  # its token must lead to the task
    assert twins.account.accept(draft, 10)
    assert twins.account.end(draft)


def test_a_lease_begins_anew_as_long_as_somebody_holds_the_call() -> None:
    twins = ready()
    owner = Owner()
    assert twins.account.take(owner, "~1", 10, 1) is not None
    for _ in range(5):
        twins.clock.advance(20.0)
        assert call_key("~1") not in twins.short.load(NAME, due=True).records
    owner.alive = False
    twins.clock.advance(20.0)
    assert call_key("~1") in twins.short.load(NAME, due=True).records


def test_what_was_handed_over_is_renewed_no_more_by_who_holds_it() -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "~1", 10, 1)
    assert draft is not None
    twins.clock.advance(19.0)
    assert twins.account.hand_over(draft) is not None
    twins.clock.advance(19.0)
    assert call_key("~1") not in twins.short.load(NAME, due=True).records
    twins.clock.advance(1.0)
    assert call_key("~1") in twins.short.load(NAME, due=True).records


def test_a_task_lives_by_its_lease_alone() -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "1", 10, 1)
    assert draft is not None
    assert twins.account.accept(draft, 10, "t")
    twins.clock.advance(39.0)
    assert task_key("t") not in twins.short.load(NAME, due=True).records
    twins.clock.advance(1.0)
    assert task_key("t") in twins.short.load(NAME, due=True).records


def test_a_call_its_holder_never_heard_of_is_withdrawn() -> None:
    twins = ready()
    assert twins.account.take(Owner(), "~1", 10, 1) is not None
    twins.account.withdraw("~1")
    twins.account.withdraw("~1")
    assert twins.short.load(NAME).counters[c.CREDITS] == 100


@pytest.mark.parametrize("waits", ["in line", "for a reading", "elsewhere"])
def test_who_waits_is_woken_by_what_comes_free(waits: str) -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "~1", 10, 1)
    assert draft is not None
    if waits == "in line":
        twins.account.line("").waiting = 1
    elif waits == "for a reading":
        twins.account.watchers.add(object())  # type: ignore[arg-type]
    else:
        twins.short.watch(NAME, lambda: None)
        twins.short.watch(NAME, lambda: None)
    assert twins.account.release(draft)
    assert twins.woken == 1


def test_nobody_is_woken_where_nobody_waits() -> None:
    twins = ready()
    draft = twins.account.take(Owner(), "~1", 10, 1)
    assert draft is not None
    assert twins.account.settle(draft, 10)
    assert twins.woken == 0


def test_what_is_held_is_listed_page_by_page() -> None:
    twins = ready()
    names = {f"~{number}" for number in range(150)}
    for name in names:
        assert twins.account.take(Owner(), name, 0, 0) is not None
    first = twins.short.scan(NAME)
    second = twins.short.scan(NAME, first.cursor)
    assert second.cursor == ""
    assert {*first.records, *second.records} == {call_key(name) for name in (*names, "first") if name != "first"}
    assert repr(twins.short) == "MemoryStore(1 accounts, 150 records)"


def test_in_a_forked_child_what_waits_in_the_parent_ends_with_its_lease() -> None:
    twins = ready(limit=1)
    assert twins.account.take(Owner(), "~1", 10, 1) is not None
    place = twins.account.join_line(Owner(), "~2", 10, 1)
    assert place is not None
    twins.clock.advance(20.0)
    assert twins.short.load(NAME, due=True).records == {}
    twins.account.forked()
    assert twins.account.line("").head is None
    twins.clock.advance(20.0)
    assert list(twins.short.load(NAME, due=True).records) == [call_key("~2")]


def test_a_head_that_must_look_at_the_balance_goes_on_as_a_flow() -> None:
    twins = ready(limit=1)
    assert twins.account.take(Owner(), "~1", 10, 1) is not None
    first = twins.account.join_line(Owner(), "~2", 10, 1)
    second = twins.account.join_line(Owner(), "~3", 10, 1)
    assert first is not None
    assert second is not None
    assert twins.account.patience(first) is not None
    twins.clock.advance(31.0)  # the reading is too old
    assert twins.account.patience(first) is None
    assert twins.account.patience(second) == pytest.approx(POLICY.lease / 3, abs=1e-5)
    hold = twins.account.go_on(first)
    assert hold is not None
    assert (hold.ticket, hold.record and hold.record.stage) == (first, Stage.WAITING)
    line = twins.account.line("")
    assert (line.head, line.waiting, line.places) == (first, 2, 1)
    assert twins.account.leave_line("~3")
    assert not twins.account.leave_line("~2")  # what it holds is the long way's now
    assert line.head is None


def test_what_the_long_way_has_ended_stands_in_nobodys_way() -> None:
    twins = ready(limit=1)
    draft = twins.account.take(Owner(), "~1", 10, 1)
    first, second = (twins.account.join_line(Owner(), name, 10, 1) for name in ("~2", "~3"))
    assert draft is not None
    assert first is not None
    assert second is not None
    record = Record("~2", Stage.WAITING, 10, 1, task_lease=40.0)
    assert twins.short.transact(NAME, twins.books.release(record)).applied
    assert twins.account.release(draft)
    assert twins.account.patience(first) is None
    assert twins.account.go_on(first) is not None
    assert twins.account.line("").leave(first)
    assert twins.account.patience(second) is None
    assert not second.draft.waits
