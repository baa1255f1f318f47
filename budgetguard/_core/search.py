"""A call's search for room: what it looks at before it is refused or waits, and the refusals themselves."""

from __future__ import annotations

from typing import NoReturn

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import MICROS, View, micros
from budgetguard._core.refreshing import Look, look_again, remaining
from budgetguard._core.steps import Flow
from budgetguard.errors import CreditsUnavailable, InsufficientCredits, InsufficientSlots, QueueTimeout

__all__ = ["Search", "can_ever_fit", "freshen", "insufficient", "recheck_credits", "refuse_credits", "too_late"]


class Search:
    """One call's search for room: what it has looked at so far, and how old a reading it goes by."""

    __slots__ = ("forced", "since", "within")

    def __init__(self, account: Account) -> None:
        self.within: int | None = micros(account.policy.max_age)
        self.forced = False
        """Whether it goes on without a reading, as the policy says."""
        self.since: int | None = None
        """From when on a reading is young enough to be refused by; set when the first one did not suffice."""

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


def freshen(account: Account, hold: Hold, view: View, search: Search) -> Flow[None]:
    """The reading is too old: get a newer one, or settle how old a one will do, and whether to admit unseen."""
    policy = account.policy
    usable = view.age is not None and view.age <= micros(policy.max_stale)
    look = yield from look_again(account, hold, view.now - micros(policy.max_age), wait=not usable)
    search.within = micros(policy.max_stale)
    if look is Look.LATE or _is_late(account, hold):
        too_late(account, hold)
    elif look is Look.FRESH:
        # The answer itself may have taken longer than readings keep.
        search.within += account.view.age or 0
    elif look is Look.FAILING:
        age = account.view.age
        search.within = micros(policy.stale_if_error)
        if age is None or age > search.within:
            _unreadable(account)
            search.within, search.forced = None, True


def recheck_credits(account: Account, hold: Hold, view: View, search: Search, free: int) -> Flow[bool]:
    """Refuse a call that cannot pay from *free* credits, unless a newer reading or slack may still help.

    Returns:
        ``False`` to try again; ``True`` to wait in line for what open calls may give back.
    """
    needed, headroom = hold.quote.credits, account.books.credits_headroom
    missing = needed + headroom - free
    doubt = 0 if account.books.lag else view[c.CREDITS_DOUBT]
    since = search.young(account, view)
    if since is not None or missing <= doubt:
        yield from _look(account, hold, search, view[c.READ_AT] + 1 if since is None else since)
        return False
    if not account.books.lag and missing <= doubt + view.credits_open:
        return True  # what is open may be inside the reading too; another will tell once it is accepted, not before
    if missing <= view[c.SLACK] and needed + headroom <= view[c.BALANCE]:
        return True
    refuse_credits(account, needed, view, free)


def can_ever_fit(account: Account, hold: Hold, view: View, search: Search) -> Flow[bool]:
    """Tell whether waiting can give the call its slots; ``False`` to try again first.

    Raises:
        InsufficientSlots: If it never will.
    """
    pool = account.books.pool(hold.quote.pool)
    limit = view[pool.limit] - account.books.slots_headroom
    if not hold.quote.slots or hold.quote.slots <= limit or (hold.patient and not view[pool.limit]):
        return True
    since = search.young(account, view)
    if since is None:
        raise InsufficientSlots(
            account=account.name, needed=hold.quote.slots, limit=max(0, limit), pool=hold.quote.pool
        )
    yield from _look(account, hold, search, since)
    return False


def _look(account: Account, hold: Hold, search: Search, since: int) -> Flow[None]:
    """Before a refusal, get a reading asked for at *since* or later."""
    look = yield from look_again(account, hold, since)
    if look is Look.LATE or _is_late(account, hold):
        too_late(account, hold)
    elif look is Look.FRESH:
        search.within = micros(account.policy.max_stale) + (account.view.age or 0)
    elif look is Look.FAILING:
        _unreadable(account)
        search.within, search.forced = None, True


def refuse_credits(account: Account, needed: int, view: View, free: int) -> NoReturn:
    raise insufficient(account, needed, view, free)


def insufficient(
    account: Account, needed: int, view: View, free: int, *, taken: int | None = None, by_provider: bool = False
) -> InsufficientCredits:
    """Put the numbers of a look into a refusal; *taken* are the free credits that are out of the counters just now."""
    find, headroom = view.counters.get, account.books.credits_headroom
    read_at, balance = find(c.READ_AT, 0), find(c.BALANCE, 0)
    available, held = free - headroom, balance - (find(c.CREDITS, 0) if taken is None else taken)
    known = read_at > 0
    return InsufficientCredits(
        account=account.name,
        needed=needed,
        available=available if available > 0 else 0,  # noqa: FURB136 - calling max() takes three times as long
        held=held if held > 0 else 0,  # noqa: FURB136 - as above
        balance=balance,
        headroom=headroom,
        read_at=read_at / MICROS if known else None,
        age=(view.now - read_at) / MICROS if known else None,
        by_provider=by_provider,
    )


def _is_late(account: Account, hold: Hold) -> bool:
    left = remaining(account, hold, account.view.now)
    return left is not None and left < 0


def too_late(account: Account, hold: Hold, place: int | None = None) -> NoReturn:
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
        why=account.why.rstrip(".") or "the credits endpoint fails",
        retry_after=max(0.0, (view[c.BACKOFF] - view.now) / MICROS),
    )


def _unreadable(account: Account) -> None:
    """Decide what follows from a balance that cannot be read: the policy's word."""
    if account.policy.on_credits_error == "closed":
        raise _unavailable(account)
