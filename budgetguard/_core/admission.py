"""Admitting a call: take, or wait in line, or refuse.

A call that can be admitted at once costs one transaction. One that cannot is told why by the counters that came back:
the reading is too old (look again), the credits do not suffice (look again, then refuse), or the slots do not (look
whether they ever will, then wait in line). Credits are taken on joining the line, slots at its head.
"""

from __future__ import annotations

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import MICROS, View, micros
from budgetguard._core.line import Line, Ticket
from budgetguard._core.records import Record, Stage
from budgetguard._core.refreshing import look_again, pause_while, remaining
from budgetguard._core.search import Search, can_ever_fit, freshen, recheck_credits, refuse_credits, too_late
from budgetguard._core.steps import Flow, Tell, Wait, Wake
from budgetguard.errors import QueueFull, QueueTimeout, Refused
from budgetguard.events import Admitted, LowBalance, Paused, Queued, RefusedCall, Released

__all__ = ["admit", "admit_now", "admit_unqueued", "leave", "sit_out"]

_TURN, _TURN_MAX = 0.01, 0.05
"""Seconds a process holds back for each slot beyond its share, and at most, while others wait for the same slots."""
_LOOKS_NOW = 3
"""How often a call that does not wait looks at a newer balance."""
_LOOKS_UNQUEUED = 8
"""How often one does that cannot pay, waits in no line, and may be kept from credits by what is counted twice."""


def admit(account: Account, hold: Hold) -> Flow[None]:
    """Get a call its credits and slots; it may be sent when this returns.

    Raises:
        Refused: If it must not be sent. What is still held then is given back by the cleanup, which always follows.
    """
    try:
        if hold.number is None:
            hold.number = account.number()
        line = account.line(hold.quote.pool)
        while True:
            if hold.ticket is not None:
                yield from account.load()
                yield from _stand(account, hold, line, hold.ticket)  # it waited already, on the quick path
            elif hold.record is not None:
                pass  # its first step was taken already
            elif hold.quote.slots and len(line):
                yield from _queue(account, hold, line, "line")
            elif not (yield from _take(account, hold, Stage.RESERVED)):
                yield from _queue(account, hold, line, "slots")
            account.let_through(hold)
            if (yield from sit_out(account, hold)):
                break
            hold.id += "+"  # what its lease left stands under the old one
    except Refused as refused:
        yield from _tell_refused(account, hold, refused)
        raise
    yield from _tell_admitted(account, hold)


def admit_unqueued(account: Account, hold: Hold) -> Flow[None]:
    """Get a call in a job the credits it needs beyond the job's, but not by waiting in line: the job keeps slots idle.

    Raises:
        Refused: If it cannot have them now.
    """
    try:
        looks = 0
        while True:
            if not (yield from _take(account, hold, Stage.RESERVED)):
                looks += 1
                if looks > _LOOKS_UNQUEUED:
                    refuse_credits(account, hold.quote.credits, account.view, account.view[c.CREDITS])
                yield from look_again(account, hold, account.view[c.READ_AT] + 1)
                continue
            account.let_through(hold)
            if (yield from sit_out(account, hold)):
                break
            hold.id += "+"
    except Refused as refused:
        yield from _tell_refused(account, hold, refused)
        raise
    yield from _tell_admitted(account, hold)


def admit_now(account: Account, hold: Hold) -> Flow[bool]:
    """Get a call its credits and slots without waiting; ``False`` if only time could help.

    A reading that is too old is refreshed first. That is one question to the provider, or two where the first answer
    took so long that nobody can be refused by it. What somebody else is asking for is not waited for.

    Raises:
        Refused: If waiting would not help either.
    """
    hold.deadline = 0.0
    try:
        for _ in range(_LOOKS_NOW):
            known, hold.started = account.view[c.READ_AT], None
            try:
                return (yield from _admit_now(account, hold))
            except QueueTimeout:
                if account.view[c.READ_AT] == known:
                    return False
        return False
    except Refused as refused:
        yield from _tell_refused(account, hold, refused)
        raise


def _admit_now(account: Account, hold: Hold) -> Flow[bool]:
    line = account.line(hold.quote.pool)
    if hold.quote.slots and line.head is not None:
        return False
    if not (yield from _take(account, hold, Stage.RESERVED)):
        return False
    yield from _begin_anew(account)
    if account.view[c.PAUSE] > account.view.now and hold.record is not None:
        yield from account.transact(account.books.release(hold.record))
        hold.record = None
        return False
    account.let_through(hold)
    yield from _tell_admitted(account, hold)
    return True


def leave(account: Account, hold: Hold) -> Flow[None]:
    """Give the place in line up and pass the turn on. Twice is harmless."""
    if hold.ticket is None:
        return
    line = account.line(hold.quote.pool)
    line.leave(hold.ticket)
    head = line.head
    if head is not None:
        yield from Wake(head)
    hold.ticket = None  # not before: a flow that is closed at the step above leaves again


# -- taking ---------------------------------------------------------------------------------------------------------


def _take(account: Account, hold: Hold, stage: Stage) -> Flow[bool]:
    """Take credits, and for a call that need not wait its slots. ``False`` if only slots are wanting."""
    record = account.record(hold, stage)
    search = Search(account)
    while True:
        done = yield from account.transact(account.books.take(record, within=search.within, forced=search.forced))
        if hold.started is None:
            hold.started = done.now
        if done.applied:
            hold.record, hold.mark = record, done.counters.get(c.MARK, 0)
            return True
        view = View(done.counters, done.now)
        if search.too_old(view):
            yield from freshen(account, hold, view, search)
        elif account.books.has_room(view, record) or search.forced:
            yield from _take_back(account, hold)
        elif hold.quote.credits and view[c.CREDITS] - hold.quote.credits < account.books.credits_headroom:
            if (yield from recheck_credits(account, hold, view, search, view[c.CREDITS])):
                return False
        elif stage is Stage.RESERVED and (yield from can_ever_fit(account, hold, view, search)):
            return False


def _take_back(account: Account, hold: Hold) -> Flow[None]:
    """There is room, so what stands in the way is the call's own record, from before the store was set back."""
    records, _ = yield from account.find(hold.key)
    if hold.key in records:
        yield from account.transact(account.books.release(Record.loads(records[hold.key])))


# -- the line -------------------------------------------------------------------------------------------------------


def _queue(account: Account, hold: Hold, line: Line, reason: str) -> Flow[None]:
    """Wait in line until the call has its slots."""
    policy = account.policy
    if len(line) >= policy.max_waiting:
        line.pass_over()
    if len(line) >= policy.max_waiting:
        raise QueueFull(account=account.name, waiting=len(line), max_waiting=policy.max_waiting)
    hold.ticket = ticket = Ticket(hold.priority, hold.number or 0)
    line.join(ticket)
    hold.joined = account.view.now
    paid = yield from _take(account, hold, Stage.WAITING)
    if account.listening:
        place, now = line.place(ticket), account.view.now / MICROS
        quote = hold.quote
        why = reason if paid else "credits"
        yield from Tell(
            Queued(account.name, now, hold.id, quote.credits, quote.slots, quote.pool, why, place, tags=hold.tags)
        )
    yield from _stand(account, hold, line, ticket)


def _stand(account: Account, hold: Hold, line: Line, ticket: Ticket) -> Flow[None]:
    """Stand in line until the call has its slots, and leave it."""
    policy = account.policy
    renewed = account.view.now
    while True:
        if line.head is ticket:
            if hold.record is None:
                yield from _take(account, hold, Stage.WAITING)
            yield from _give_way(account, hold, line)
            if (yield from _take_slots(account, hold)):
                break
            yield from _announce(account, hold, line, ticket)
            nap = yield from _next_look(account, hold)
        else:
            nap = None
            yield from account.load()
        left = remaining(account, hold, account.view.now)
        if left is not None and left <= 0:
            too_late(account, hold, line.place(ticket))
        if hold.record is not None and account.view.now - renewed > micros(policy.lease / 3):
            yield from account.transact(account.books.renew(hold.record))
            renewed = account.view.now
        bounds = [bound for bound in (nap, left, policy.lease / 3) if bound is not None]
        yield from Wait(ticket, min(bounds))
    yield from leave(account, hold)
    hold.joined = None


def _announce(account: Account, hold: Hold, line: Line, ticket: Ticket) -> Flow[None]:
    """Let other processes know that this line's head waits for a slot."""
    record = hold.record
    if record is not None and record.stage is Stage.WAITING and hold.quote.slots:
        done = yield from account.transact(account.books.announce(record))
        if done.applied:
            hold.record = record.moved(Stage.HEAD)
            if not ticket.announced:
                ticket.announced = True
                line.announced += 1


def _give_way(account: Account, hold: Hold, line: Line) -> Flow[None]:
    """Where heads of other processes' lines wait too, let those go first that have less than their share.

    A slot that comes free here is known here first, so without this the process that has slots would keep them.
    """
    view, pool = account.view, account.books.pool(hold.quote.pool)
    others = -view[pool.quiet] - line.announced
    live = account.count_live() if others > 0 else 0
    if live:
        ours = view[pool.open] + view[pool.running] + max(0, view[pool.slots])
        ahead = live + 1 - ours / (others + 1)
        if ahead > 0:
            yield from Wait(Ticket(), min(_TURN * ahead, _TURN_MAX))


def _take_slots(account: Account, hold: Hold) -> Flow[bool]:
    """At the head of the line: take the slots, if the credits are still good. ``False`` if there are none yet."""
    search = Search(account)
    pool = account.books.pool(hold.quote.pool)
    while True:
        record = hold.record
        if record is None:
            return False
        transaction = account.books.take_slots(record, within=search.within, forced=search.forced)
        done = yield from account.transact(transaction)
        view = View(done.counters, done.now)
        if done.applied:
            hold.record, hold.mark = record.moved(Stage.RESERVED), view[c.MARK]
            return True
        if search.too_old(view):
            yield from freshen(account, hold, view, search)
        elif hold.quote.credits and view[c.CREDITS] < account.books.credits_headroom and not search.forced:
            # Somebody else spent what was held.
            if (yield from recheck_credits(account, hold, view, search, view[c.CREDITS] + hold.quote.credits)):
                return False
        elif search.forced or view[pool.slots] - hold.quote.slots >= account.books.slots_headroom:
            # There is room, so the record is not what it was: its lease ended while the process slept.
            hold.record = None
            yield from _take(account, hold, Stage.WAITING)
        elif (yield from can_ever_fit(account, hold, view, search)):
            return False


def _next_look(account: Account, hold: Hold) -> Flow[float]:
    """Decide when the head of the line looks at the balance: soon where there is doubt, else when it is old."""
    policy, pool = account.policy, account.books.pool(hold.quote.pool)
    view = account.view
    if view.doubt(pool) or (hold.record is None and view[c.CREDITS_DOUBT]):
        if view[c.CLAIM] <= view.now and view[c.BACKOFF] <= view.now:
            due = view[c.ASKED_AT] + micros(policy.min_interval)
            if due <= view.now:
                yield from look_again(account, hold, view[c.READ_AT] + 1, wait=False)
                return 0.0
            return (due - view.now) / MICROS
        return (max(view[c.CLAIM], view[c.BACKOFF]) - view.now) / MICROS
    floor = view[c.ASKED_AT] + micros(policy.min_interval)
    old_at = max(view[c.READ_AT] + micros(policy.max_age), floor, view[c.BACKOFF], view[c.CLAIM])
    return max(0.001, (old_at - view.now) / MICROS)


def sit_out(account: Account, hold: Hold, *, admitted: Record | None = None) -> Flow[bool]:
    """Wait until the account's pause is over, keeping the hold alive; ``False`` if it must be taken anew.

    *admitted* is what was told to be admitted already, so that giving it back is told too.
    """
    yield from _begin_anew(account)
    renewed, waited = account.view.now, False
    while account.view[c.PAUSE] > account.view.now:
        view, waited = account.view, True
        left = remaining(account, hold, view.now)
        if left is not None and left <= 0:
            too_late(account, hold)
        yield from pause_while(account, hold, lambda view: view[c.PAUSE])
        if hold.record is not None and account.view.now - renewed > micros(account.policy.lease / 4):
            done = yield from account.transact(account.books.renew(hold.record))
            if not done.applied:
                hold.record = None
                return False
            renewed = done.now
    if waited and hold.record is not None and not _covered(account, hold):
        done = yield from account.transact(account.books.release(hold.record))
        hold.record = None
        if admitted is not None and done.applied and account.listening:
            at, given = done.now / MICROS, (admitted.credits, admitted.slots)
            yield from Tell(Released(account.name, at, hold.id, *given, tags=hold.tags))
        return False
    return True


def _covered(account: Account, hold: Hold) -> bool:
    """Look at a hold again after a pause: others may have spent meanwhile, or calls nobody knew of may have shown."""
    view, quote, books = account.view, hold.quote, account.books
    credits_good = not quote.credits or view[c.CREDITS] >= books.credits_headroom
    slots_good = not quote.slots or view[books.pool(quote.pool).slots] >= books.slots_headroom
    return view.has_reading and credits_good and slots_good


def _begin_anew(account: Account) -> Flow[None]:
    """Where the store has forgotten the account, hold everybody back for one lease, once.

    Calls it knew of may be under way, and nothing counts them. In the length of a lease each is answered and counted
    again, or given up; a reading shows the rest.
    """
    while account.forgotten:
        view = account.view
        until = view.now + micros(account.policy.lease)
        done = yield from account.transact(account.books.begin_anew(view, until))
        if done.applied:
            account.forgotten = False
            if account.listening:
                yield from Tell(Paused(account.name, done.now / MICROS, account.policy.lease, "store_forgot"))


def _tell_refused(account: Account, hold: Hold, refused: Refused) -> Flow[None]:
    if account.listening:
        now, name, text = account.view.now / MICROS, type(refused).__name__, str(refused)
        yield from Tell(RefusedCall(account.name, now, hold.id, hold.quote.credits, name, text, tags=hold.tags))


def _tell_admitted(account: Account, hold: Hold) -> Flow[None]:
    view, quote = account.view, hold.quote
    crossed = account.crossed(view) if account.policy.low_balance else None
    if not account.listening:
        return
    now = view.now / MICROS
    waited = (view.now - (view.now if hold.started is None else hold.started)) / MICROS
    slots = view[account.books.pool(quote.pool).slots]
    yield from Tell(
        Admitted(
            account.name,
            now,
            hold.id,
            quote.credits,
            quote.slots,
            quote.pool,
            waited,
            view[c.CREDITS],
            slots,
            tags=hold.tags,
        )
    )
    if crossed is not None:
        yield from Tell(LowBalance(account.name, now, crossed, view[c.CREDITS]))
