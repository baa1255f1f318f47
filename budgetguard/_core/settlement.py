"""Sending a call and settling it, and ending what it started.

A hold ends once: settled, released, or unknown. Each ending is one transaction that drops the record it ends, so of two
that try only one succeeds, and the other finds nothing to do.
"""

from __future__ import annotations

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold, overtaken
from budgetguard._core.admission import leave
from budgetguard._core.counters import MICROS, micros
from budgetguard._core.endings import compare, finish, standing
from budgetguard._core.joining import enter, let_go, note_spent, restore
from budgetguard._core.records import Record, Stage, clean, place_key, task_key
from budgetguard._core.refreshing import adopt
from budgetguard._core.steps import Flow, Send, Tell
from budgetguard.events import (
    OutcomeUnknown,
    Paused,
    RefusedByProvider,
    Released,
    Settled,
)
from budgetguard.model import Outcome, Verdict

__all__ = ["abandon", "call", "catch_up", "finish", "release", "renew", "settle"]


def call(account: Account, hold: Hold, verdict: Verdict | None = None) -> Flow[Verdict]:
    """Admit a call, send it and settle it; one the provider did not take for want of a slot goes back into the line.

    With a *verdict* it was admitted and sent once already, on the quick path, and that is what came of it.

    Raises:
        Refused: If it was not sent.
    """
    name, attempt = hold.id, 0
    while True:
        if verdict is None:
            yield from enter(account, hold)
            hold.sent = True
            verdict = yield from Send(hold.id)
        attempt += 1
        crowded = verdict.outcome in (Outcome.CONCURRENCY, Outcome.RATE)
        again = crowded and hold.resendable and attempt <= account.policy.resend_max
        yield from settle(account, hold, verdict, attempt=attempt, resent=again)
        if not again:
            return verdict
        hold.id = f"{name}.{attempt}"
        hold.sent = False
        hold.record = verdict = None


def settle(account: Account, hold: Hold, verdict: Verdict, *, attempt: int = 1, resent: bool = False) -> Flow[None]:
    """Book what the provider did with a call."""
    record = hold.record
    if record is None or record.stage is Stage.ACCEPTED:
        return
    outcome = verdict.outcome
    if outcome is Outcome.UNKNOWN:
        note_spent(hold, record.credits)
        if account.listening:
            yield from Tell(
                OutcomeUnknown(
                    account.name, account.view.now / MICROS, hold.id, record.credits, record.slots, tags=hold.tags
                )
            )
        return
    if outcome is Outcome.ACCEPTED:
        yield from _accept(account, hold, record, verdict)
        early = account.ended.pop(clean(verdict.task_id or ""), None)
        if early is not None:
            yield from finish(account, early)
        return
    if outcome is Outcome.INSUFFICIENT:
        hold.refused_on = account.view
    if outcome is Outcome.CONCURRENCY:
        # The slots its job seemed to have are not there: both stand in line for new ones like anybody else.
        hold.share = (hold.share[0], 0)
        yield from let_go(account, hold.outer)
    if outcome is Outcome.INSUFFICIENT or (outcome is Outcome.CONCURRENCY and account.books.reports_slots):
        # First of all, so that nobody is let through on that reading with what is given back.
        yield from _distrust(account)
    yield from release(account, hold, record)
    if outcome in (Outcome.INSUFFICIENT, Outcome.CONCURRENCY, Outcome.RATE):
        if account.listening:
            now = account.view.now / MICROS
            yield from Tell(RefusedByProvider(account.name, now, hold.id, outcome.value, verdict.reason, resent))
        yield from _heed(account, hold, verdict, attempt)


def abandon(account: Account, hold: Hold) -> Flow[None]:
    """Clean up after a call that ended in any way but a verdict. Harmless if nothing is left.

    What was not sent is given back; what was stays held until its lease ends.
    """
    yield from leave(account, hold)
    if hold.claim is not None:
        yield from adopt(account, hold, None)
    records, view = yield from account.find(hold.key)
    text = records.get(hold.key)
    if text is None:
        return
    record = Record.loads(text)
    if not hold.sent:
        yield from release(account, hold, record)
        return
    note_spent(hold, record.credits)
    if account.listening:
        now = view.now / MICROS
        yield from Tell(OutcomeUnknown(account.name, now, hold.id, record.credits, record.slots, tags=hold.tags))


def renew(account: Account, hold: Hold) -> Flow[bool]:
    """Begin the lease of a call under way anew; ``False`` if it had ended already.

    In line its flow does that itself; a task that has an id lives by its own lease.
    """
    record = hold.record
    while record is not None and not record.in_line and not (record.stage is Stage.ACCEPTED and record.task_id):
        done = yield from account.transact(account.books.renew(record))
        if done.applied:
            return True
        record = yield from standing(account, record)
    return False


def catch_up(account: Account) -> Flow[None]:
    """Before a poll is sent, learn which reading is installed: the answer may show a task that this one contains."""
    if account.stale:
        yield from account.load()


def _accept(account: Account, hold: Hold, record: Record, verdict: Verdict) -> Flow[None]:
    task_id, late, lost = clean(verdict.task_id or ""), False, None
    while True:
        view = account.view
        charge = record.credits if verdict.charge is None else verdict.charge
        # A reading under way may be installed on a look from before this, and would not count the call as doubtful.
        read_since = late or view[c.MARK] != hold.mark or view[c.MARK] < view[c.GENERATION]
        transaction, after = account.books.accept(
            view, record, charge, task_id, read_since=read_since, late=late, lost=lost
        )
        done = yield from account.transact(transaction)
        if done.applied:
            break
        if overtaken(transaction, done):
            continue
        # No generation moved: the record was drawn on, or booked before, or its lease ended and it is gone, or the task
        # is known already.
        remains, place = task_key(record.id), place_key(record.id)
        records, _ = yield from account.find(record.key, remains, place, after.key)
        found = {key: Record.loads(text) for key, text in records.items()}
        known, left = found.get(after.key), found.get(remains)
        if known is not None and known.id == record.id and known.stage is Stage.ACCEPTED:
            hold.record = known  # booked before, by a flow that did not hear the answer
            return
        late = record.key not in found
        if late and (place in found or (left is not None and left.stage is Stage.ACCEPTED)):
            hold.record, hold.elsewhere = None, True  # by its token
            return
        record, lost = found.get(record.key, record), left if late else None
        if record.in_line:
            # The store was set back to when it waited. It is counted anew, as one whose lease was over.
            yield from account.transact(account.books.release(record))
            record, late = record.moved(Stage.RESERVED), True
        if known is not None and not (late and after.key == remains):
            task_id = f"{task_id} {hold.id}"
    hold.record = after
    note_spent(hold, charge, task_id)
    if account.listening:
        now, reported = done.now / MICROS, verdict.charge is not None
        yield from Tell(
            Settled(account.name, now, hold.id, verdict.task_id, record.credits, charge, reported, tags=hold.tags)
        )
    if verdict.charge is not None:
        yield from compare(account, record, charge, record.credits, hold.quote.source, done.now)


def release(account: Account, hold: Hold, record: Record) -> Flow[bool]:
    """Give a call back whole, to the job it drew on or to the account; ``False`` if it had ended already."""
    account.live.pop(hold.id, None)
    given = yield from restore(account, hold, record)
    if given is None:
        given = yield from _release(account, record)
    hold.record = None
    if given and account.listening:
        now = account.view.now / MICROS
        yield from Tell(Released(account.name, now, hold.id, record.credits, record.slots, tags=hold.tags))
    return given


def _release(account: Account, record: Record) -> Flow[bool]:
    now: Record | None = record
    while now is not None:
        done = yield from account.transact(account.books.release(now))
        if done.applied:
            return True
        now = yield from standing(account, now)
    return False


def _distrust(account: Account) -> Flow[None]:
    applied = False
    while not applied:  # else another reading was installed since the last look here
        done = yield from account.transact(account.books.distrust(account.view))
        applied = done.applied


def _heed(account: Account, hold: Hold, verdict: Verdict, attempt: int) -> Flow[None]:
    """Learn from the provider's own refusal that we are too fast."""
    counts_slots = account.books.reports_slots
    if verdict.outcome is Outcome.INSUFFICIENT or (
        verdict.outcome is Outcome.CONCURRENCY and counts_slots and attempt < 2
    ):
        return
    seconds = verdict.retry_after
    if seconds is None:
        seconds = account.backoff(attempt, f"{hold.id} {attempt}")
    while True:
        view = account.view
        until = view.now + micros(seconds)
        if view[c.PAUSE] >= until:
            return
        done = yield from account.transact(account.books.pause(view, until))
        if done.applied:
            break
    if account.listening:
        yield from Tell(Paused(account.name, done.now / MICROS, seconds, verdict.reason or verdict.outcome.value))
