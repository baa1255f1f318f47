"""Admitting a call: take, or wait in line, or refuse.

A call that can be admitted at once costs one transaction. One that cannot is told why by the counters that came back:
the reading is too old (look again), the credits do not suffice (look again, then refuse), or the slots do not (look
whether they ever will, then wait in line). Credits are taken on joining the line, slots at its head.
"""

from __future__ import annotations

from typing import NoReturn

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import MICROS, View, micros
from budgetguard._core.line import Line, Ticket
from budgetguard._core.records import Stage
from budgetguard._core.refreshing import Look, look_again, pause_while, remaining
from budgetguard._core.steps import Flow, Tell, Wait, Wake
from budgetguard.errors import (
    CreditsUnavailable,
    InsufficientCredits,
    InsufficientSlots,
    QueueFull,
    QueueTimeout,
    Refused,
)
from budgetguard.events import Admitted, LowBalance, Queued, RefusedCall

__all__ = ["admit", "leave"]

_LOOKS_MAX = 8
"""How often a call that cannot pay looks again while what may be counted twice hides credits it could have. One that
held its credits before looks until it knows: nobody is let through before it, so what is counted twice runs out."""


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
            if hold.quote.slots and len(line):
                yield from _queue(account, hold, line, "line")
            elif not (yield from _take(account, hold, Stage.RESERVED)):
                yield from _queue(account, hold, line, "slots")
            if (yield from _sit_out(account, hold)):
                break
    except Refused as refused:
        if account.listening:
            now = account.view.now / MICROS
            yield from Tell(
                RefusedCall(account.name, now, hold.id, hold.quote.credits, type(refused).__name__, str(refused))
            )
        raise
    yield from _tell_admitted(account, hold)


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


class _Search:
    """One call's search for room: what it has looked at so far, and how old a reading it goes by."""

    __slots__ = ("forced", "looks", "since", "within")

    def __init__(self, account: Account) -> None:
        self.within: int | None = micros(account.policy.max_age)
        self.forced = False
        """Whether it goes on without a reading, as the policy says."""
        self.since: int | None = None
        """From when on a reading is young enough to be refused by; set when the first one did not suffice."""
        self.looks = 0

    def too_old(self, view: View) -> bool:
        """Tell whether the reading is what the call was turned back for."""
        return self.within is not None and (view.age is None or view.age > self.within)

    def young(self, account: Account, view: View) -> int | None:
        """Tell since when a reading must have been asked for to refuse the call by it; ``None`` if this one was.

        It must be young, or asked for on the call's behalf. How old it is by the time its answer has come does not
        matter: a slow answer would never be young.
        """
        if self.since is None:
            self.since = view.now - micros(account.policy.recheck_after)
        return None if view.has_reading and view[c.READ_AT] >= self.since else self.since


def _take(account: Account, hold: Hold, stage: Stage) -> Flow[bool]:
    """Take credits, and for a call that need not wait its slots. ``False`` if only slots are wanting."""
    record = account.record(hold, stage)
    search = _Search(account)
    while True:
        done = yield from account.transact(account.books.take(record, within=search.within, forced=search.forced))
        if hold.started is None:
            hold.started = done.now
        if done.applied:
            hold.record, hold.mark = record, done.counters.get(c.MARK, 0)
            return True
        view = View(done.counters, done.now)
        if search.too_old(view):
            yield from _freshen(account, hold, view, search)
        elif hold.quote.credits and view[c.CREDITS] - hold.quote.credits < account.books.credits_headroom:
            if (yield from _recheck_credits(account, hold, view, search, view[c.CREDITS])):
                return False
        elif stage is Stage.RESERVED and (yield from _can_ever_fit(account, hold, view, search)):
            return False


def _freshen(account: Account, hold: Hold, view: View, search: _Search) -> Flow[None]:
    """The reading is too old: get a newer one, or settle how old a one will do, and whether to admit unseen."""
    policy = account.policy
    usable = view.age is not None and view.age <= micros(policy.max_stale)
    look = yield from look_again(account, hold, view.now - micros(policy.max_age), wait=not usable)
    search.within = micros(policy.max_stale)
    if look is Look.LATE or _is_late(account, hold):
        _too_late(account, hold)
    elif look is Look.FRESH:
        # The answer itself may have taken longer than readings keep.
        search.within += account.view.age or 0
    elif look is Look.FAILING:
        age = account.view.age
        search.within = micros(policy.stale_if_error)
        if age is None or age > search.within:
            _unreadable(account)
            search.within, search.forced = None, True


def _recheck_credits(account: Account, hold: Hold, view: View, search: _Search, free: int) -> Flow[bool]:
    """Refuse a call that cannot pay from *free* credits, unless a newer reading or slack may still help.

    Returns:
        ``False`` to try again; ``True`` to wait in line for what open calls may give back.
    """
    needed, headroom = hold.quote.credits, account.books.credits_headroom
    missing = needed + headroom - free
    # What is open may be inside the reading too. Another reading will tell once it is accepted, not before.
    doubt = view[c.CREDITS_DOUBT] + (0 if hold.record is not None else view.credits_open)
    patient = search.looks < _LOOKS_MAX or hold.record is not None
    doubtful = not account.books.lag and patient and missing <= doubt
    since = search.young(account, view)
    if since is not None or doubtful:
        search.looks += 1
        yield from _look(account, hold, search, view[c.READ_AT] + 1 if since is None else since)
        return False
    if hold.record is not None and not account.books.lag and missing <= doubt + view.credits_open:
        return True
    if missing <= view[c.SLACK] and needed + headroom <= view[c.BALANCE]:
        return True
    _refuse_credits(account, needed, view, free)


def _can_ever_fit(account: Account, hold: Hold, view: View, search: _Search) -> Flow[bool]:
    """Tell whether waiting can give the call its slots; ``False`` to try again first.

    Raises:
        InsufficientSlots: If it never will.
    """
    pool = account.books.pool(hold.quote.pool)
    limit = view[pool.limit] - account.books.slots_headroom
    if not hold.quote.slots or hold.quote.slots <= limit:
        return True
    since = search.young(account, view)
    if since is None:
        raise InsufficientSlots(
            account=account.name, needed=hold.quote.slots, limit=max(0, limit), pool=hold.quote.pool
        )
    yield from _look(account, hold, search, since)
    return False


def _look(account: Account, hold: Hold, search: _Search, since: int) -> Flow[None]:
    """Before a refusal, get a reading asked for at *since* or later."""
    look = yield from look_again(account, hold, since)
    if look is Look.LATE or _is_late(account, hold):
        _too_late(account, hold)
    elif look is Look.FRESH:
        search.within = micros(account.policy.max_stale) + (account.view.age or 0)
    elif look is Look.FAILING:
        _unreadable(account)
        search.within, search.forced = None, True


# -- the line -------------------------------------------------------------------------------------------------------


def _queue(account: Account, hold: Hold, line: Line, reason: str) -> Flow[None]:
    """Wait in line until the call has its slots."""
    policy = account.policy
    if len(line) >= policy.max_waiting:
        raise QueueFull(account=account.name, waiting=len(line), max_waiting=policy.max_waiting)
    hold.ticket = ticket = Ticket(hold.priority, hold.number or 0)
    line.join(ticket)
    hold.joined = account.view.now
    paid = (yield from _take(account, hold, Stage.WAITING)) if hold.quote.credits or hold.quote.slots else True
    if account.listening:
        place, now = line.place(ticket), account.view.now / MICROS
        quote = hold.quote
        why = reason if paid else "credits"
        yield from Tell(Queued(account.name, now, hold.id, quote.credits, quote.slots, quote.pool, why, place))
    renewed = account.view.now
    while True:
        if line.head is ticket:
            if not paid:
                paid = yield from _take(account, hold, Stage.WAITING)
            if paid and (yield from _take_slots(account, hold)):
                break
            nap = yield from _next_look(account, hold)
        else:
            nap = None
            yield from account.load()
        left = remaining(account, hold, account.view.now)
        if left is not None and left <= 0:
            _too_late(account, hold, line.place(ticket))
        if paid and hold.record is not None and account.view.now - renewed > micros(policy.lease / 3):
            yield from account.transact(account.books.renew(hold.record))
            renewed = account.view.now
        bounds = [bound for bound in (nap, left, policy.lease / 3) if bound is not None]
        yield from Wait(ticket, min(bounds))
    yield from leave(account, hold)
    hold.joined = None


def _take_slots(account: Account, hold: Hold) -> Flow[bool]:
    """At the head of the line: take the slots, if the credits are still good. ``False`` if there are none yet."""
    search = _Search(account)
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
            yield from _freshen(account, hold, view, search)
        elif hold.quote.credits and view[c.CREDITS] < account.books.credits_headroom and not search.forced:
            # Somebody else spent what was held.
            if (yield from _recheck_credits(account, hold, view, search, view[c.CREDITS] + hold.quote.credits)):
                return False
        elif search.forced or view[pool.slots] - hold.quote.slots >= account.books.slots_headroom:
            yield from _restore(account, hold)
        elif (yield from _can_ever_fit(account, hold, view, search)):
            return False


def _restore(account: Account, hold: Hold) -> Flow[None]:
    """There is room, so the record is gone: its lease ended while the process slept. Take the credits again."""
    hold.record = None
    if not (yield from _take(account, hold, Stage.WAITING)):
        _refuse_credits(account, hold.quote.credits, account.view, account.view[c.CREDITS])


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


def _sit_out(account: Account, hold: Hold) -> Flow[bool]:
    """Wait until the account's pause is over, keeping the hold alive; ``False`` if it was lost meanwhile."""
    renewed = account.view.now
    while account.view[c.PAUSE] > account.view.now:
        view = account.view
        left = remaining(account, hold, view.now)
        if left is not None and left <= 0:
            _too_late(account, hold)
        yield from pause_while(account, hold, lambda view: view[c.PAUSE])
        if hold.record is not None and account.view.now - renewed > micros(account.policy.lease / 4):
            done = yield from account.transact(account.books.renew(hold.record))
            if not done.applied:
                hold.record = None
                return False
            renewed = done.now
    return True


# -- refusals -------------------------------------------------------------------------------------------------------


def _refuse_credits(account: Account, needed: int, view: View, free: int) -> NoReturn:
    age = view.age
    raise InsufficientCredits(
        account=account.name,
        needed=needed,
        available=max(0, free - account.books.credits_headroom),
        held=max(0, view.held),
        balance=view[c.BALANCE],
        headroom=account.books.credits_headroom,
        read_at=None if age is None else view[c.READ_AT] / MICROS,
        age=None if age is None else age / MICROS,
    )


def _is_late(account: Account, hold: Hold) -> bool:
    left = remaining(account, hold, account.view.now)
    return left is not None and left < 0


def _too_late(account: Account, hold: Hold, place: int | None = None) -> NoReturn:
    now = account.view.now
    started = now if hold.started is None else hold.started
    if place is None:
        place = 1 if hold.ticket is None else account.line(hold.quote.pool).place(hold.ticket)
    raise QueueTimeout(account=account.name, waited=(now - started) / MICROS, place=place)


def _unavailable(account: Account) -> CreditsUnavailable:
    view = account.view
    age = view.age
    return CreditsUnavailable(
        account=account.name,
        age=None if age is None else age / MICROS,
        failures=view[c.FAILURES],
        why="the credits endpoint fails",
        retry_after=max(0.0, (view[c.BACKOFF] - view.now) / MICROS),
    )


def _unreadable(account: Account) -> None:
    """Decide what follows from a balance that cannot be read: the policy's word."""
    if account.policy.on_credits_error == "closed":
        raise _unavailable(account)


def _tell_admitted(account: Account, hold: Hold) -> Flow[None]:
    view, quote = account.view, hold.quote
    crossed = account.crossed(view) if account.policy.low_balance else None
    if not account.listening:
        return
    now = view.now / MICROS
    waited = (view.now - (view.now if hold.started is None else hold.started)) / MICROS
    slots = view[account.books.pool(quote.pool).slots]
    yield from Tell(
        Admitted(account.name, now, hold.id, quote.credits, quote.slots, quote.pool, waited, view[c.CREDITS], slots)
    )
    if crossed is not None:
        yield from Tell(LowBalance(account.name, now, crossed, view[c.CREDITS]))
