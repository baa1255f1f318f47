"""Calls inside a job: drawing on what it holds, and giving back what was not used. The rule stands in `shares`."""

from __future__ import annotations

from dataclasses import replace

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.admission import admit, admit_now, admit_unqueued, sit_out
from budgetguard._core.counters import MICROS, View
from budgetguard._core.endings import standing
from budgetguard._core.records import Record, Stage
from budgetguard._core.steps import Flow, Tell
from budgetguard.events import Joined, Released

__all__ = ["enter", "let_go", "note_spent", "restore"]


def enter(account: Account, hold: Hold, *, now: bool = False) -> Flow[bool]:
    """Get a call what it needs: from the job around it as far as that goes, and admitted like any call's beyond.

    With *now* it does not wait; ``False`` then if only time could help.

    Raises:
        Refused: If it must not be sent. What is still held then is given back by the cleanup, which always follows.
    """
    if hold.outer is not None:
        hold.outer.joins += 1
        joined = yield from _join(account, hold, hold.outer, now=now)
        if joined is not None:
            return joined
        hold.outer, hold.share = None, (0, 0)
    if now:
        return (yield from admit_now(account, hold))
    yield from admit(account, hold)
    return True


def _join(account: Account, hold: Hold, outer: Hold, *, now: bool) -> Flow[bool | None]:
    """Draw on the job; ``None`` if that has ended: then the call stands for itself."""
    while True:
        has, source = hold.record, outer.record
        if outer.closed or source is None or not source.is_open:
            if has is not None:
                yield from _give_up(account, hold, has)
            return None
        credits, slots = _wanting(hold, source)
        if credits <= (0 if has is None else has.credits) and slots <= (0 if has is None else has.slots):
            if (yield from _draw(account, hold, outer, source, has)):
                break
        elif has is not None:
            yield from _give_up(account, hold, has)
        elif slots and (yield from let_go(account, outer)):
            continue
        elif not (yield from _admit_beyond(account, hold, credits, slots, now=now)):
            return False
    account.let_through(hold)
    if not now:
        if not (yield from sit_out(account, hold, admitted=has)):
            return None
    elif account.view[c.PAUSE] > account.view.now and hold.record is not None:
        yield from restore(account, hold, hold.record)
        return False
    if account.listening:
        at = account.view.now / MICROS
        yield from Tell(Joined(account.name, at, hold.id, outer.id, *hold.share, tags=hold.tags))
    return True


def _admit_beyond(account: Account, hold: Hold, credits: int, slots: int, *, now: bool) -> Flow[bool]:
    """Admit a call with what it needs beyond the job's."""
    quote = hold.quote
    hold.quote = replace(quote, credits=credits, slots=slots, credits_min=None)
    try:
        if now:
            return (yield from admit_now(account, hold))
        yield from admit(account, hold) if slots else admit_unqueued(account, hold)
    finally:
        hold.quote = quote
    return True


def let_go(account: Account, outer: Hold | None) -> Flow[bool]:
    """Before a call waits for slots, make the jobs around it idle; tells whether one was not."""
    gone = False
    while outer is not None:
        record = outer.record
        while record is not None and record.stage is Stage.RESERVED:
            transaction, after = account.books.let_go(record)
            done = yield from account.transact(transaction)
            if done.applied:
                gone, outer.record = True, after
                break
            outer.record = record = yield from standing(account, record)
        outer = outer.outer
    return gone


def _wanting(hold: Hold, source: Record) -> tuple[int, int]:
    """Tell what a call needs beyond what the job has left."""
    quote = hold.quote
    slots = source.slots if source.pool == quote.pool else 0
    return max(0, quote.credits - source.credits), max(0, quote.slots - slots)


def _draw(account: Account, hold: Hold, outer: Hold, source: Record, has: Record | None) -> Flow[bool]:
    """Move what a call needs into its record; ``False`` if one of the records is not what it was."""
    inner = account.record(hold, Stage.RESERVED)
    hold.share = (
        inner.credits - (0 if has is None else has.credits),
        inner.slots - (0 if has is None else has.slots),
    )
    transaction, rest = account.books.draw(source, inner, has)
    done = yield from account.transact(transaction)
    if done.applied:
        if hold.started is None:
            hold.started = done.now
        outer.record, hold.record, hold.mark = rest, inner, View(done.counters, done.now)[c.MARK]
        return True
    records, _ = yield from account.find(outer.key, inner.key)
    outer.record = Record.loads(records[outer.key]) if outer.key in records else None
    hold.record = Record.loads(records[inner.key]) if inner.key in records else None
    return False


def _give_up(account: Account, hold: Hold, has: Record) -> Flow[None]:
    """Give back what a call was admitted with: what it needs has changed meanwhile."""
    done = yield from account.transact(account.books.release(has))
    hold.record = None
    if done.applied and account.listening:
        yield from Tell(Released(account.name, done.now / MICROS, hold.id, has.credits, has.slots, tags=hold.tags))


def restore(account: Account, hold: Hold, record: Record) -> Flow[bool | None]:
    """Give a call that drew on a job back to it; ``False`` if the call had ended already, ``None`` if the job had."""
    outer, quote = hold.outer, hold.quote
    source = None if outer is None or record.in_line else outer.record
    while outer is not None and source is not None and source.is_open:
        # One that was stopped on its way holds only what it was admitted with.
        whole = (record.credits, record.slots) == (quote.credits, quote.slots) or hold.joins
        credits, slots = hold.share if whole else (0, 0)
        transaction, after = account.books.restore(
            source, record, min(credits, record.credits), min(slots, record.slots)
        )
        done = yield from account.transact(transaction)
        if done.applied:
            outer.record = after
            return True
        records, _ = yield from account.find(outer.key, record.key)
        if record.key not in records:
            return False
        record = Record.loads(records[record.key])
        source = Record.loads(records[outer.key]) if outer.key in records else None
        outer.record = source
    return None


def note_spent(hold: Hold, credits: int, task_id: str = "") -> None:
    """Let the jobs around a call know what it cost, and which task it became."""
    outer = hold.outer
    while outer is not None:
        outer.spent += credits
        if task_id:
            outer.tasks |= {task_id}
        outer = outer.outer
