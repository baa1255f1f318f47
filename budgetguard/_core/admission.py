"""Admitting a call: take, or wait in line, or refuse.

A call that can be admitted at once costs one transaction. One that cannot is told why by the counters that came back:
the reading is too old (look again), the credits do not suffice (look again, then refuse), or the slots do not (look
whether they ever will, then wait in line). Credits are taken on joining the line, slots at its head.
"""

from __future__ import annotations

import enum
from typing import NoReturn

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import MICROS, View, micros
from budgetguard._core.line import Line, Ticket
from budgetguard._core.records import Stage
from budgetguard._core.refreshing import Look, look_again, pause_for, remaining
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

_LOOKS_MAX = 3
"""How often a call that cannot pay looks again while what is counted on top may hide credits it could have."""


def admit(account: Account, hold: Hold) -> Flow[None]:
    """Get a call its credits and slots; it may be sent when this returns.

    Raises:
        Refused: If it must not be sent. What is still held then is given back by the cleanup, which always follows.
    """
    try:
        if hold.number is None:
            hold.number = account.number()
        line = account.line(hold.quote.pool)
        if hold.quote.slots and len(line):
            yield from _queue(account, hold, line, "line")
        elif not (yield from _take(account, hold, Stage.RESERVED)):
            yield from _queue(account, hold, line, "slots")
        yield from _sit_out(account, hold)
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
    ticket, hold.ticket = hold.ticket, None
    if ticket is None:
        return
    line = account.line(hold.quote.pool)
    was_head = line.head is ticket
    line.leave(ticket)
    head = line.head
    if was_head and head is not None:
        yield from Wake(head)


# -- taking ---------------------------------------------------------------------------------------------------------


def _take(account: Account, hold: Hold, stage: Stage) -> Flow[bool]:
    """Take credits, and for a call that need not wait its slots. ``False`` if only slots are wanting."""
    policy = account.policy
    record = account.record(hold, stage)
    within: int | None = micros(policy.max_age)
    forced = False
    looks = 0
    while True:
        done = yield from account.transact(account.books.take(record, within=within, forced=forced))
        if hold.started is None:
            hold.started = done.now
        if done.applied:
            hold.record = record
            return True
        view = View(done.counters, done.now)
        if within is not None and (view.age is None or view.age > within):
            within, forced = yield from _freshen(account, hold, view)
            continue
        if _lacks_credits(account, view, hold.quote.credits):
            answer = yield from _recheck_credits(account, hold, view, looks)
            if answer is _Recheck.WAIT:
                return False
            looks += 1
            within = micros(policy.max_stale)
            forced = answer is _Recheck.UNSEEN
            continue
        if stage is Stage.WAITING:
            continue  # the counters moved between the refusal and the look
        if (yield from _can_ever_fit(account, hold, view)):
            return False


def _freshen(account: Account, hold: Hold, view: View) -> Flow[tuple[int | None, bool]]:
    """The reading is too old: get a newer one, or say how old a one will do, and whether to admit unseen."""
    policy = account.policy
    usable = view.age is not None and view.age <= micros(policy.max_stale)
    look = yield from look_again(account, hold, view.now - micros(policy.max_age), wait=not usable)
    if look is Look.LATE:
        _too_late(account, hold)
    if look is not Look.FAILING:
        return micros(policy.max_stale), False
    age = account.view.age
    if age is not None and age <= micros(policy.stale_if_error):
        return micros(policy.stale_if_error), False
    _unreadable(account)
    return None, True


def _lacks_credits(account: Account, view: View, needed: int) -> bool:
    return needed > 0 and view[c.CREDITS] - needed < account.books.credits_headroom


class _Recheck(enum.Enum):
    """What a call that cannot pay does next."""

    AGAIN = enum.auto()
    """Try on the newer reading."""
    WAIT = enum.auto()
    """Wait in line: open calls may give back what is missing."""
    UNSEEN = enum.auto()
    """Go on without a reading, as the policy says."""


def _recheck_credits(account: Account, hold: Hold, view: View, looks: int) -> Flow[_Recheck]:
    """Refuse, unless a newer reading, or slack of open calls, may still help."""
    policy, needed = account.policy, hold.quote.credits
    missing = needed + account.books.credits_headroom - view[c.CREDITS]
    old = view.age is None or view.age > micros(policy.recheck_after)
    doubtful = not account.books.lag and looks < _LOOKS_MAX and missing <= view[c.CREDITS_DOUBT]
    if old or doubtful:
        since = view[c.READ_AT] + 1 if doubtful and not old else view.now - micros(policy.recheck_after)
        look = yield from look_again(account, hold, since)
        if look is Look.LATE:
            _too_late(account, hold)
        if look is Look.FAILING:
            _unreadable(account)
            return _Recheck.UNSEEN
        return _Recheck.AGAIN
    if missing <= view[c.SLACK] and needed + account.books.credits_headroom <= view[c.BALANCE]:
        return _Recheck.WAIT
    _refuse_credits(account, needed, view, view[c.CREDITS])


def _can_ever_fit(account: Account, hold: Hold, view: View) -> Flow[bool]:
    """Tell whether waiting can give the call its slots; ``False`` if a newer reading should be tried first.

    Raises:
        InsufficientSlots: If it never will.
    """
    pool = account.books.pool(hold.quote.pool)
    limit = view[pool.limit] - account.books.slots_headroom
    if hold.quote.slots <= limit:
        return True
    if view.age is not None and view.age <= micros(account.policy.recheck_after):
        raise InsufficientSlots(
            account=account.name, needed=hold.quote.slots, limit=max(0, limit), pool=hold.quote.pool
        )
    look = yield from look_again(account, hold, view.now - micros(account.policy.recheck_after))
    if look is Look.LATE:
        _too_late(account, hold)
    if look is Look.FAILING:
        _unreadable(account)
        return True
    return False


# -- the line -------------------------------------------------------------------------------------------------------


def _queue(account: Account, hold: Hold, line: Line, reason: str) -> Flow[None]:
    """Wait in line until the call has its slots."""
    policy = account.policy
    if len(line) >= policy.max_waiting:
        raise QueueFull(account=account.name, waiting=len(line), max_waiting=policy.max_waiting)
    hold.ticket = ticket = Ticket(hold.priority, hold.number or 0)
    line.join(ticket)
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


def _take_slots(account: Account, hold: Hold) -> Flow[bool]:
    """At the head of the line: take the slots, if the credits are still good. ``False`` if there are none yet."""
    within: int | None = micros(account.policy.max_age)
    forced = False
    while True:
        record = hold.record
        if record is None:
            return False
        done = yield from account.transact(account.books.take_slots(record, within=within, forced=forced))
        view = View(done.counters, done.now)
        if done.applied:
            hold.record = record.moved(Stage.RESERVED)
            return True
        if within is not None and (view.age is None or view.age > within):
            within, forced = yield from _freshen(account, hold, view)
        elif hold.quote.credits and view[c.CREDITS] < account.books.credits_headroom:
            forced = yield from _recheck_hold(account, hold, view)
        elif view[account.books.pool(hold.quote.pool).slots] - hold.quote.slots >= account.books.slots_headroom:
            yield from _restore(account, hold)
        elif (yield from _can_ever_fit(account, hold, view)):
            return False


def _restore(account: Account, hold: Hold) -> Flow[None]:
    """There is room, so the record is gone: its lease ended while the process slept. Take the credits again."""
    hold.record = None
    if not (yield from _take(account, hold, Stage.WAITING)):
        _refuse_credits(account, hold.quote.credits, account.view, account.view[c.CREDITS])


def _recheck_hold(account: Account, hold: Hold, view: View) -> Flow[bool]:
    """The credits held in line are not covered any more: somebody else spent them. Look again, then refuse.

    Returns:
        Whether to go on without a reading, as the policy says.
    """
    needed = hold.quote.credits
    if view.age is not None and view.age <= micros(account.policy.recheck_after):
        _refuse_credits(account, needed, view, view[c.CREDITS] + needed)
    look = yield from look_again(account, hold, view.now - micros(account.policy.recheck_after))
    if look is Look.LATE:
        _too_late(account, hold)
    if look is Look.FAILING:
        _unreadable(account)
        return True
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
    old_at = max(view[c.READ_AT] + micros(policy.max_age), view[c.BACKOFF], view[c.CLAIM])
    return max(0.001, (old_at - view.now) / MICROS)


def _sit_out(account: Account, hold: Hold) -> Flow[None]:
    """Wait until the account's pause is over, keeping the hold alive."""
    renewed = account.view.now
    while account.view[c.PAUSE] > account.view.now:
        view = account.view
        left = remaining(account, hold, view.now)
        if left is not None and left <= 0:
            _too_late(account, hold)
        yield from pause_for(account, hold, (view[c.PAUSE] - view.now) / MICROS)
        yield from account.load()
        if hold.record is not None and account.view.now - renewed > micros(account.policy.lease / 4):
            yield from account.transact(account.books.renew(hold.record))
            renewed = account.view.now


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
