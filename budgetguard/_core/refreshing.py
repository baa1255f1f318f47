"""Looking at the balance: when, by whom, and what to do when it cannot be read.

One caller claims the right to ask; the claim is kept in the store, so there is one request in flight for an account
among all processes. The others wait for it or go on, as their reading allows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import replace

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import MICROS, View, micros
from budgetguard._core.line import Ticket
from budgetguard._core.overdue import end_due
from budgetguard._core.readings import Claim
from budgetguard._core.steps import Fetch, Flow, Tell, Wait
from budgetguard.events import LowBalance, Refreshed, RefreshFailed, StrangerSeen
from budgetguard.model import Reading

__all__ = ["Look", "adopt", "claim_for_user", "expire_due", "look_again", "pause_while", "remaining"]

_CLAIM_MARGIN = 2.0
"""Seconds a claim outlives the time the credits endpoint has to answer."""


class Look(enum.Enum):
    """What came of wanting a newer reading."""

    FRESH = enum.auto()
    """There is one."""
    BUSY = enum.auto()
    """Somebody else is asking, or it is too early to, and the caller said it need not wait."""
    FAILING = enum.auto()
    """The credits endpoint does not answer, and it is too early to ask again."""
    LATE = enum.auto()
    """The caller's time is over."""


def remaining(account: Account, hold: Hold, now: int) -> float | None:
    """Count the seconds a call may still wait; ``None`` for without bound.

    Its deadline counts from its start; the policy's longest wait only while it stands in line.
    """
    bounds = []
    if hold.deadline is not None and hold.started is not None:
        bounds.append(hold.deadline - (now - hold.started) / MICROS)
    if account.policy.max_wait is not None and hold.joined is not None:
        bounds.append(account.policy.max_wait - (now - hold.joined) / MICROS)
    return min(bounds) if bounds else None


def pause_while(account: Account, hold: Hold, until: Callable[[View], int]) -> Flow[None]:
    """Wait for news of the account, while there is a reason to: *until* tells from a look until when there is, or 0.

    The look comes after the ticket is out, so that news cannot fall between the two.
    """
    ticket = Ticket()
    account.watchers.add(ticket)
    try:
        view = yield from account.load()
        reason = (until(view) - view.now) / MICROS
        if reason > 0:
            left = remaining(account, hold, view.now)
            bounds = [bound for bound in (reason, left, account.policy.lease / 3) if bound is not None]
            yield from Wait(ticket, max(0.0, min(bounds)))
            yield from account.load()
    finally:
        account.watchers.discard(ticket)


def look_again(account: Account, hold: Hold, since: int, *, wait: bool = True) -> Flow[Look]:
    """Get a reading that was asked for at *since* (microseconds of the store's clock) or later.

    Without *wait*, neither somebody else's asking nor the floor between two readings is waited for.
    """
    interval = micros(account.policy.min_interval)
    asked = swept = False
    while True:
        view = account.view
        if view.has_reading and view[c.READ_AT] >= since:
            return Look.FRESH
        left = remaining(account, hold, view.now)
        late = left is not None and left <= 0
        if late and asked:
            return Look.LATE
        if view[c.CLAIM] > view.now:
            if not wait:
                return Look.BUSY
            if late:
                return Look.LATE
            yield from pause_while(account, hold, lambda view: view[c.CLAIM])
        elif view[c.BACKOFF] > view.now:
            return Look.FAILING
        elif view[c.ASKED_AT] and view.now < view[c.ASKED_AT] + interval:
            if not wait:
                return Look.BUSY
            if late:
                return Look.LATE
            yield from pause_while(account, hold, lambda view: view[c.ASKED_AT] + interval)
        elif not swept:
            # What is due is ended first, so that this reading settles it; then all is looked at again.
            swept = True
            yield from expire_due(account)
        else:
            asked, swept = True, False
            yield from _ask(account, hold)


def _ask(account: Account, hold: Hold) -> Flow[None]:
    """Claim, ask, install. Whatever comes of it shows in the account's view."""
    claimed = yield from _claim(account, hold)
    if claimed is None:
        return
    fetched = yield from Fetch(account.name)
    if fetched.reading is None:
        yield from _fail(account, claimed, fetched.why)
    else:
        yield from _install(account, claimed, fetched.reading, asked_by="guard")
    hold.claim = None


def claim_for_user(account: Account, hold: Hold) -> Flow[bool]:
    """Before the user's own client asks for the balance: date its answer by a mark, if nobody else is asking."""
    yield from expire_due(account)
    if account.view[c.CLAIM] > account.view.now:
        return False
    return (yield from _claim(account, hold)) is not None


def adopt(account: Account, hold: Hold, reading: Reading | None) -> Flow[None]:
    """After it: take the answer as a reading, or give the claim up."""
    claim = hold.claim
    if claim is None:
        return
    if reading is None:
        yield from account.transact(account.books.unclaim(claim))
    else:
        yield from _install(account, claim, reading, asked_by="user")
    hold.claim = None


def expire_due(account: Account) -> Flow[None]:
    """End the leases whose time has come, but for those of tasks that still run."""
    records, view = yield from account.find(due=True)
    if records:
        yield from end_due(account, records.values(), view)


def _claim(account: Account, hold: Hold) -> Flow[Claim | None]:
    seconds = account.policy.credits_timeout
    salt = int(account.jitter(hold.id) * 1000)
    transaction, claim = account.books.claim(account.view, seconds + _CLAIM_MARGIN, salt)
    hold.claim = claim
    done = yield from account.transact(transaction)
    if done.applied and done.now + micros(seconds) <= claim.until:
        hold.claim = claim = replace(claim, asked_at=done.now, life=done.counters.get(c.LIFE, 0))
        return claim
    if done.applied:
        # The process slept between the look and this, and the claim would not last for an answer.
        yield from account.transact(account.books.unclaim(claim))
    hold.claim = None
    return None


def _install(account: Account, claim: Claim, reading: Reading, *, asked_by: str) -> Flow[None]:
    view = yield from account.load()
    while account.books.supersedes(view, claim):
        before = view
        done = yield from account.transact(account.books.install(view, claim, reading))
        view = View(done.counters, done.now)
        if done.applied:
            yield from _tell_refreshed(account, before, view, claim, reading, asked_by)
            return
    yield from account.transact(account.books.unclaim(claim))


def _fail(account: Account, claim: Claim, why: str) -> Flow[None]:
    account.why = why
    view = yield from account.load()  # asking took its time: the pause counts from now
    while True:
        failures = view[c.FAILURES] + 1
        retry_in = account.backoff(failures, f"credits {failures} {claim.until}")
        done = yield from account.transact(account.books.fail(view, claim, micros(retry_in)))
        if done.applied:
            if account.listening:
                yield from Tell(RefreshFailed(account.name, done.now / MICROS, why, failures, retry_in))
            return
        view = View(done.counters, done.now)
        if view[c.CLAIM] != claim.until:
            return


def _tell_refreshed(
    account: Account, before: View, after: View, claim: Claim, reading: Reading, asked_by: str
) -> Flow[None]:
    crossed = account.crossed(after) if account.policy.low_balance else None
    if not account.listening:
        return
    now = after.now / MICROS
    slots = after[account.books.pool(next(iter(reading.pools), "")).slots]
    seconds = (after.now - claim.asked_at) / MICROS
    yield from Tell(Refreshed(account.name, now, reading, after[c.CREDITS], slots, asked_by, seconds))
    if after[c.CAREFUL] and not before[c.CAREFUL]:
        for name, capacity in reading.pools.items():
            pool = account.books.pool(name)
            ours = before[pool.open] + before[pool.running]
            if capacity.running is not None and capacity.running > ours:
                yield from Tell(StrangerSeen(account.name, now, name, capacity.running, ours))
    if crossed is not None:
        yield from Tell(LowBalance(account.name, now, crossed, after[c.CREDITS]))
