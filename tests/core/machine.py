"""A provider that knows the truth, the books that must keep to it, and everything that can happen to both."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from budgetguard._core import counters as c
from budgetguard._core.counters import View
from budgetguard._core.ledger import Books
from budgetguard._core.readings import Claim
from budgetguard._core.records import Record, Stage
from budgetguard.model import Capacity, Reading
from budgetguard.ports import Transacted, Transaction
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import ManualClock
from tests.core.calls import (
    Call,
    is_answered,
    is_late,
    is_mortal,
    is_open,
    is_over,
    is_running,
    is_task,
    is_waiting,
)
from tests.core.story import ACCOUNT

__all__ = ["LAG", "Machine"]

F = TypeVar("F", bound=Callable[..., Any])

LAG = 40


def having(wanted: Callable[[Call], bool]) -> Callable[[F], F]:
    """A rule that needs such a call, of which it draws one."""
    needed: Any = precondition(lambda self: any(wanted(call) for call in self.calls))
    return cast("Callable[[F], F]", needed)


class Machine(RuleBasedStateMachine):
    terms: dict[str, Any]

    @initialize(credits_=st.integers(40, 200), limit=st.integers(1, 4))
    def open(self, credits_: int, limit: int) -> None:
        self.clock = ManualClock(1000.0)
        self.store = MemoryStore(self.clock)
        self.books = Books(**self.terms)
        self.at_completion: bool = self.books.at_completion
        self.pool = self.books.pool("")
        self.own = self.books.exclusive or not self.books.reports_slots
        self.bought, self.limit, self.strangers = credits_, limit, 0
        self.charges: list[tuple[float, int]] = []
        self.calls: list[Call] = []
        self.number = 0
        self.claim: Claim | None = None
        self.answer: tuple[Reading, int] | None = None
        self.views = collections.deque([self.view], 4)
        # What strangers took since the reading that is in force, or one under way, was answered.
        self.surprises: list[tuple[int, int]] = []
        self.surprised = False
        self.all_is_quiet()

    # -- the truth --------------------------------------------------------------------------------------------------

    @property
    def credits(self) -> int:
        return self.bought - sum(amount for _, amount in self.charges)

    @property
    def running(self) -> int:
        return self.strangers + sum(call.taken and not call.ended for call in self.calls)

    def promised_credits(self) -> int:
        """What calls on their way, or charged later, may yet take."""
        return sum(
            call.price
            for call in self.calls
            if not call.refused and (not call.taken or (self.at_completion and not call.ended))
        )

    def promised_slots(self) -> int:
        return sum(
            not call.taken and not call.refused and call.record.stage is not Stage.WAITING for call in self.calls
        )

    def reported(self, delay: float) -> Reading:
        then = self.clock() - delay
        credits_ = self.bought - sum(amount for at, amount in self.charges if at <= then)
        running = self.running if self.books.reports_slots else None
        return Reading(credits_, {"": Capacity(self.limit, running)})

    # -- the books --------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        loaded = self.store.load(ACCOUNT)
        return View(loaded.counters, loaded.now)

    def transact(self, make: Callable[[View], Transaction], *, stale: bool) -> Transacted:
        """Apply what *make* works out, from counters of some steps ago if *stale*; work it out again if they moved."""
        done = self.store.transact(ACCOUNT, make(self.views[0] if stale else self.view))
        return done if done.applied else self.store.transact(ACCOUNT, make(self.view))

    def one(self, data: st.DataObject, wanted: Callable[[Call], bool]) -> Call:
        return data.draw(st.sampled_from([call for call in self.calls if wanted(call)]))

    # -- calls ------------------------------------------------------------------------------------------------------

    @rule(price=st.integers(0, 60), slack=st.integers(0, 30), waits=st.booleans())
    def reserve(self, price: int, slack: int, waits: bool) -> None:
        self.number += 1
        stage, slack = Stage.WAITING if waits else Stage.RESERVED, min(slack, price)
        record = Record(f"h{self.number}", stage, price, 1, "", slack, task_lease=3600.0)
        before = self.view
        if self.store.transact(ACCOUNT, self.books.take(record, within=c.micros(60))).applied:
            assert before[c.CREDITS] >= price or not price
            self.calls.append(Call(record, price, price - slack, mark=before[c.MARK]))

    @having(is_waiting)
    @rule(data=st.data())
    def take_the_slot(self, data: st.DataObject) -> None:
        call = self.one(data, is_waiting)
        if self.store.transact(ACCOUNT, self.books.take_slots(call.record, within=c.micros(60))).applied:
            call.record, call.mark = call.record.moved(Stage.RESERVED), self.view[c.MARK]

    @having(is_open)
    @rule(data=st.data(), refused=st.sampled_from((False, False, True)))
    def arrive_at_the_provider(self, data: st.DataObject, refused: bool) -> None:
        call = self.one(data, is_open)
        if refused:
            call.refused = True
            return
        if not self.surprised:
            assert self.running < self.limit
            assert self.credits >= call.charge
        call.taken = True
        if not self.at_completion:
            self.charges.append((self.clock(), call.charge))

    @having(is_answered)
    @rule(data=st.data(), told=st.booleans(), stale=st.booleans())
    def hear_the_answer(self, data: st.DataObject, told: bool, stale: bool) -> None:
        call = self.one(data, is_answered)
        call.settled = True
        if call.refused:
            assert self.store.transact(ACCOUNT, self.books.release(call.record)).applied
            self.calls.remove(call)
            return
        self.accept(call, call.charge if told else call.price, stale=stale, late=False)

    @having(is_late)
    @rule(data=st.data(), stale=st.booleans())
    def hear_the_answer_after_the_lease(self, data: st.DataObject, stale: bool) -> None:
        call = self.one(data, is_late)
        call.settled = True
        self.accept(call, call.charge, stale=stale, late=True)

    def accept(self, call: Call, charge: int, *, stale: bool, late: bool) -> None:
        record, lost = call.record, None
        if late and record.stage is Stage.LOST:
            lost, record = record, record.moved(Stage.RESERVED)
        after: list[Record] = []

        def make(view: View) -> Transaction:
            step, moved = self.books.accept(
                view,
                record,
                charge,
                f"task {record.id}",
                read_since=late or view[c.MARK] != call.mark,
                late=late,
                lost=lost,
            )
            after.append(moved)
            return step

        assert self.transact(make, stale=stale).applied
        call.record = after[-1]

    @having(is_mortal)
    @rule(data=st.data(), stale=st.booleans())
    def a_lease_ends(self, data: st.DataObject, stale: bool) -> None:
        """Of a call whose fate is decided: leases are longer than requests take."""
        call = self.one(data, is_mortal)
        waited = call.record.stage is Stage.WAITING
        lost: list[bytes] = []

        def make(view: View) -> Transaction:
            step = self.books.expire(view, call.record)
            lost[:] = [put.value for put in step.put.values()]
            return step

        assert self.transact(make, stale=stale).applied
        call.expired = True
        if lost:
            call.record = Record.loads(lost[0])
        elif waited:
            self.calls.remove(call)

    @having(is_task)
    @rule(data=st.data(), stale=st.booleans())
    def the_lease_of_a_task_ends(self, data: st.DataObject, stale: bool) -> None:
        """Before its end only where readings show what runs; to the books it is a stranger's from then on."""
        call = self.one(data, is_task)
        over = call.ended or call.refused
        if over or not (self.own or self.at_completion):
            assert self.transact(lambda view: self.books.expire(view, call.record), stale=stale).applied
            self.calls.remove(call)
            self.strangers += not over

    @having(is_running)
    @rule(data=st.data(), failed=st.booleans())
    def a_task_ends(self, data: st.DataObject, failed: bool) -> None:
        self.end(self.one(data, is_running), failed=failed)

    def end(self, call: Call, *, failed: bool) -> None:
        call.ended, call.failed = True, failed
        if self.at_completion and not (failed and self.books.refund_failed):
            self.charges.append((self.clock(), call.charge))
        elif failed and self.books.refund_failed and not self.at_completion:
            self.charges.append((self.clock(), -call.charge))

    @having(is_running)
    @rule(data=st.data())
    def a_poll_shows_a_task_running(self, data: st.DataObject) -> None:
        self.one(data, is_running).seen_under = self.view[c.MARK]

    @having(is_over)
    @rule(data=st.data(), told=st.booleans(), stale=st.booleans())
    def an_end_is_seen(self, data: st.DataObject, told: bool, stale: bool) -> None:
        call = self.one(data, is_over)
        charge = call.charge if told and not call.failed else None

        def make(view: View) -> Transaction:
            return self.books.finish(view, call.record, seen_under=call.seen_under, failed=call.failed, charge=charge)

        assert self.transact(make, stale=stale).applied
        self.calls.remove(call)

    # -- readings ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.view[c.CLAIM] <= self.view.now)
    @rule(stale=st.booleans())
    def mark(self, stale: bool) -> None:
        view = self.views[0] if stale else self.view
        step, claim = self.books.claim(view, 12.0)
        done = self.store.transact(ACCOUNT, step)
        if done.applied:
            self.claim, self.answer = dataclasses.replace(claim, asked_at=done.now), None

    @precondition(lambda self: self.claim is not None and self.answer is None)
    @rule(delay=st.integers(0, LAG))
    def the_provider_answers(self, delay: int) -> None:
        self.answer = self.reported(delay if self.books.lag else 0), len(self.surprises)

    @precondition(lambda self: self.answer is not None)
    @rule(stale=st.booleans())
    def install(self, stale: bool) -> None:
        assert self.claim is not None
        assert self.answer is not None
        claim, (reading, surprises) = self.claim, self.answer
        if self.books.supersedes(self.view, claim):
            assert self.transact(lambda view: self.books.install(view, claim, reading), stale=stale).applied
            del self.surprises[:surprises]
        self.claim = self.answer = None

    @precondition(lambda self: self.claim is not None)
    @rule()
    def give_up(self) -> None:
        """The answer is lost and the claim runs out; perhaps somebody else claims before it does arrive."""
        self.clock.advance(13)

    @precondition(lambda self: self.claim is None and all(call.settled or call.expired for call in self.calls))
    @rule()
    def all_is_quiet(self) -> None:
        """Once every call is settled, a reading finds exactly what is free; two, if several before it were lost."""
        lost = self.view[c.GENERATION] - self.view[c.MARK]
        for _ in range(3 if self.books.lag else 1 + (lost == c.TAGS - 1)):
            self.read()
        view = self.view
        held = sum(call.record.credits for call in self.calls) if self.at_completion else 0
        assert view[c.CREDITS] == self.credits - held
        ours = sum(is_task(call) for call in self.calls)
        assert view[self.pool.slots] == self.limit - (ours if view[self.pool.own] else self.running)

    def read(self) -> None:
        self.clock.advance(13 + (LAG + 1 if self.books.lag else 0))
        self.mark(stale=False)
        self.the_provider_answers(LAG)
        self.install(stale=False)

    def teardown(self) -> None:
        """However the story went: when all its calls have come to an end, everything is found again."""
        self.claim = self.answer = None
        for call in list(self.calls):
            if is_waiting(call) or is_open(call) or (call.refused and not call.expired):
                assert self.store.transact(ACCOUNT, self.books.release(call.record)).applied
                self.calls.remove(call)
                continue
            if is_answered(call) or is_late(call):
                call.settled = True
                self.accept(call, call.charge, stale=False, late=call.expired)
            if is_running(call):
                self.end(call, failed=False)
        self.read()
        for call in list(self.calls):
            if call.refused:
                step = self.books.expire(self.view, call.record)
            else:
                step = self.books.finish(self.view, call.record, seen_under=None)
            assert self.store.transact(ACCOUNT, step).applied
            self.calls.remove(call)
            self.nothing_is_free_that_is_not()
        self.all_is_quiet()
        self.the_counters_are_in_order()
        view, pool = self.view, self.pool
        assert not any(view[name] for name in (c.SLACK, c.WAITING, pool.open, pool.running)), view.counters

    # -- the world ------------------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(("time", "top-up", "limit", "stranger")), amount=st.integers(-3, 30))
    def the_world_goes_on(self, what: str, amount: int) -> None:
        """One rule for all of it, so that calls have most of the turns."""
        if what == "time":
            self.clock.advance(abs(amount))
        elif what == "top-up":
            self.bought += abs(amount)
        elif what == "limit":
            delta = max(min(amount, 3), -self.limit)
            self.limit += delta
            if delta < 0:
                self.surprise(0, -delta)
        elif amount <= 0:
            self.strangers -= self.strangers > 0
        elif not self.own and not self.books.lag:
            self.bought -= amount
            self.strangers += 1
            self.surprise(amount, 1)

    def surprise(self, credits_: int, slots: int) -> None:
        self.surprised = True
        self.surprises.append((credits_, slots))

    # -- the promise ------------------------------------------------------------------------------------------------

    def tolerance(self) -> tuple[int, int]:
        """Strangers and lowered limits cost what happened since the reading in force, and not more."""
        return sum(credits_ for credits_, _ in self.surprises), sum(slots for _, slots in self.surprises)

    @invariant()
    def nothing_is_free_that_is_not(self) -> None:
        view, (credits_, slots) = self.view, self.tolerance()
        self.views.append(view)
        if not view.has_reading:
            return
        assert view[c.CREDITS] <= self.credits - self.promised_credits() + credits_
        assert view[self.pool.slots] <= self.limit - self.running - self.promised_slots() + slots

    @invariant()
    def the_counters_are_in_order(self) -> None:
        view, pool = self.view, self.pool
        names = (
            c.SLACK,
            c.WAITING,
            pool.open,
            pool.running,
            *map(pool.tags, range(c.TAGS)),
            *map(pool.doubts, range(c.TAGS)),
        )
        assert all(view[name] >= 0 for name in names), view.counters
        assert view[c.GENERATION] - view[c.MARK] in range(c.TAGS)
        assert view[pool.open] == sum(call.record.stage is Stage.RESERVED and not call.expired for call in self.calls)
        assert view[c.WAITING] == sum(call.price for call in self.calls if call.record.stage is Stage.WAITING)
