"""Deliberate mistakes in the rule, each of which the search must find.

A search that finds nothing may be blind. So the rule is broken in one place at a time, the way a tired author would,
and some schedule must break a promise then.

Some mistakes that suggest themselves are not here. The first three do no harm that a promise forbids:

- Not counting a call whose answer comes after its lease ended. If the provider took it before the end of the lease,
  the end of the lease counted it, and the next reading shows it. If it took it afterwards, the call was a stray, which
  costs what a stranger costs until the next reading.
- Noting no doubt where a task ends that was accepted while a reading was under way. Its acceptance noted the same.
- Not waking the next in line when a head that waits is cancelled. Its credits go back in a transaction that wakes the
  heads of all lines, the new one too.
- On the quick path: going on while a reading is under way, waking nobody. They would do harm, but too rarely for
  schedules of a dozen calls; tests/core/test_till.py sees each of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from budgetguard._core import admission, joining, search, settlement
from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import View, closed_at, tagged
from budgetguard._core.ledger import Books
from budgetguard._core.line import Line, Ticket
from budgetguard._core.quick import QuickAccount
from budgetguard._core.readings import Claim, Readings
from budgetguard._core.records import Record, Stage
from budgetguard._core.serving import Place, ServingAccount
from budgetguard._core.steps import Flow
from budgetguard._core.till import Draft, Shelf, Till
from budgetguard.model import Outcome
from budgetguard.ports import Transaction
from tests.search.provider import Provider

__all__ = ["MUTATIONS", "Mutation"]

Around = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mistake: what is replaced where, and the classes of schedules in which it can show (none for all)."""

    name: str
    patches: tuple[tuple[Any, str, Around], ...]
    kinds: tuple[str, ...] = ()

    @contextmanager
    def applied(self) -> Generator[None]:
        """Make the mistake for a while."""
        with ExitStack() as stack:
            for owner, name, around in self.patches:
                stack.enter_context(mock.patch.object(owner, name, _wrapped(getattr(owner, name), around)))
            yield


def _wrapped(original: Any, around: Around) -> Any:
    if isinstance(original, property):
        return property(lambda self: around(original.fget, self))

    def mutated(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    return mutated


# -- readings -------------------------------------------------------------------------------------------------------


def _forget_open_credits(
    original: Around, self: Readings, add: dict[str, int], expect: Any, view: View, *rest: Any
) -> None:
    original(self, add, expect, view, *rest)
    add[c.CREDITS] += add[c.CREDITS_OPEN] + view[c.CREDITS_OPEN]


def _forget_open_slots(
    original: Around, self: Readings, add: dict[str, int], expect: Any, view: View, claim: Any, reading: Any, name: str
) -> None:
    original(self, add, expect, view, claim, reading, name)
    add[self.pool(name).slots] += view[self.pool(name).open]


def _dissolve_newest_credits(
    original: Around, self: Readings, add: dict[str, int], expect: dict[str, int], view: View, claim: Any, reading: Any
) -> None:
    original(self, add, expect, view, claim, reading)
    newest = tagged(view[c.CREDITS_GENERATION])
    add[c.CREDITS] += view[newest]
    add[newest] = -view[newest]
    expect[newest] = view[newest]


def _dissolve_newest_slots(
    original: Around,
    self: Readings,
    add: dict[str, int],
    expect: dict[str, int],
    view: View,
    claim: Any,
    reading: Any,
    name: str,
) -> None:
    original(self, add, expect, view, claim, reading, name)
    pool = self.pool(name)
    if not add[pool.own] + view[pool.own]:
        newest = pool.tags(view[c.GENERATION])
        add[pool.slots] += view[newest]
        add[newest] = -view[newest]
        expect[newest] = view[newest]


def _claim_without_mark(
    original: Around, self: Readings, view: View, seconds: float, *rest: Any
) -> tuple[Transaction, Claim]:
    transaction, claim = original(self, view, seconds, *rest)
    for name in (c.GENERATION, c.CREDITS_GENERATION):
        transaction.add.pop(name, None)
    return transaction, replace(claim, mark=view[c.MARK] + 1)


def _mark_at_install(original: Around, self: Readings, view: View, claim: Claim, reading: Any) -> Transaction:
    names = (c.GENERATION, c.CREDITS_GENERATION)
    moved = View({**view.counters, **{name: view[name] + 1 for name in names}}, view.now)
    transaction: Transaction = original(self, moved, claim, reading)
    for name in names:
        transaction.expect[name] = view[name]
        transaction.add[name] = 1
    return transaction


def _claim_from_view(
    original: Around, self: Readings, view: View, seconds: float, *rest: Any
) -> tuple[Transaction, Claim]:
    transaction, claim = original(self, view, seconds, *rest)
    opened = closed_at(view[c.CREDITS_GENERATION] + 1)
    if opened in transaction.stamp:
        transaction.stamp = tuple(name for name in transaction.stamp if name != opened)
        transaction.add[opened] = view.now - view[opened]
    return transaction, claim


def _claim_unasked(
    original: Around, self: Readings, view: View, seconds: float, *rest: Any
) -> tuple[Transaction, Claim]:
    transaction, claim = original(self, view, seconds, *rest)
    transaction.stamp = tuple(name for name in transaction.stamp if name != c.ASKED_AT)
    return transaction, claim


def _claim_too_short(original: Around, self: Readings, view: View, seconds: float, *rest: Any) -> Any:
    return original(self, view, seconds / 5, *rest)


def _unclaim_any(original: Around, self: Readings, claim: Claim) -> Transaction:
    return Transaction(add={c.CLAIM: -claim.until}, wake=True)


def _no_lag(original: Around, self: Readings, **terms: Any) -> None:
    original(self, **{**terms, "lag": 0})


def _charged_at_once(original: Around, self: Readings, **terms: Any) -> None:
    original(self, **{**terms, "at_completion": False})


# -- endings --------------------------------------------------------------------------------------------------------


def _seen_always(original: Around, self: Books, *args: Any, seen: bool, expired: bool) -> None:
    original(self, *args, seen=True, expired=expired)


def _seen_under_any(
    original: Around, self: Books, view: View, record: Record, *, seen_under: int | None, **rest: Any
) -> Any:
    return original(self, view, record, seen_under=None if seen_under is None else view[c.MARK], **rest)


def _without_doubt(original: Around, self: Books, *args: Any) -> None:
    return None


def _accept_unexpecting(original: Around, self: Books, *args: Any, **rest: Any) -> tuple[Transaction, Record]:
    transaction, after = original(self, *args, **rest)
    transaction.expect = {}
    return transaction, after


def _not_dropping(original: Around, self: Books, *args: Any, **rest: Any) -> Transaction:
    transaction: Transaction = original(self, *args, **rest)
    transaction.drop = {}
    return transaction


def _not_waking(original: Around, self: Books, *args: Any, **rest: Any) -> Transaction:
    transaction: Transaction = original(self, *args, **rest)
    transaction.wake = False
    return transaction


def _expire_gives_back(original: Around, self: Books, view: View, record: Record) -> Any:
    return self.release(record) if record.stage is Stage.RESERVED else original(self, view, record)


def _expire_tags_at_completion(original: Around, self: Books, view: View, record: Record) -> Any:
    self.at_completion, kept = False, self.at_completion
    try:
        return original(self, view, record)
    finally:
        self.at_completion = kept


def _refund_twice(
    original: Around, self: Books, add: dict[str, int], view: View, record: Record, *, failed: bool, charge: Any
) -> None:
    original(self, add, view, record, failed=failed, charge=charge)
    if failed and self.refund_failed and not self.at_completion and record.credits_tag < view[c.CREDITS_BASE]:
        add[c.CREDITS] = record.credits


def _not_giving_back(original: Around, account: Account, hold: Hold, record: Record) -> Flow[bool]:
    hold.record = None
    yield from ()
    return False


def _unknown_given_back(original: Around, account: Account, hold: Hold, verdict: Any, **rest: Any) -> Flow[None]:
    given = replace(verdict, outcome=Outcome.NOT_SENT) if verdict.outcome is Outcome.UNKNOWN else verdict
    yield from original(account, hold, given, **rest)


# -- admission ------------------------------------------------------------------------------------------------------


def _overtake(original: Around, account: Account, hold: Hold) -> Flow[None]:
    if len(account.line(hold.quote.pool)) and (yield from admission._take(account, hold, Stage.RESERVED)):
        hold.number = account.number()
        yield from admission._tell_admitted(account, hold)
        return
    yield from original(account, hold)


def _take_quietless(original: Around, self: Books, record: Record, **rest: Any) -> Transaction:
    transaction: Transaction = original(self, record, **rest)
    transaction.floor.pop(self.pool(record.pool).quiet, None)
    return transaction


def _stay_announced(original: Around, self: Books, record: Record) -> Transaction:
    transaction: Transaction = original(self, record)
    transaction.add.pop(self.pool(record.pool).quiet, None)
    return transaction


def _take_floorless(original: Around, self: Books, record: Record, **rest: Any) -> Transaction:
    transaction: Transaction = original(self, record, **rest)
    transaction.floor.pop(self.pool(record.pool).slots, None)
    return transaction


def _take_spent(original: Around, self: Books, record: Record, **rest: Any) -> Transaction:
    transaction: Transaction = original(self, record, **rest)
    transaction.floor.pop(c.CREDITS, None)
    return transaction


def _always_young(original: Around, self: Any, account: Account, view: View) -> None:
    return None


def _leave_silently(original: Around, account: Account, hold: Hold) -> Flow[None]:
    if hold.ticket is not None:
        account.line(hold.quote.pool).leave(hold.ticket)
    hold.ticket = None
    yield from ()


def _last_first(original: Around, self: Ticket, priority: int = 0, number: int = 0) -> None:
    original(self, priority, -number)


def _owns_always(original: Around, self: Readings, view: View, claim: Any, reading: Any, name: str) -> bool:
    return True if self.exclusive else bool(original(self, view, claim, reading, name))


def _no_doubt(original: Around, *args: Any) -> int:
    return 0


def _no_credits_doubt(
    original: Around, self: Readings, add: dict[str, int], expect: Any, view: View, claim: Any, reading: Any
) -> None:
    original(self, add, expect, view, claim, reading)
    add[c.CREDITS_DOUBT] = 0


def _without_queued(original: Around, self: Provider, pool: str) -> int:
    return sum(task.slots for task in self.tasks.values() if task.pool == pool and not task.queued)


def _draw_twice(original: Around, self: Books, outer: Record, inner: Record, has: Any) -> Any:
    transaction, _ = original(self, outer, inner, has)
    transaction.put.update(outer.puts(self.lease))
    return transaction, outer


def _stay_busy(original: Around, account: Account, outer: Any) -> Flow[bool]:
    yield from ()
    return False


def _restore_to_both(original: Around, self: Books, outer: Record, inner: Record, *shares: int) -> Any:
    transaction, after = original(self, outer, inner, *shares)
    transaction.add[c.CREDITS] = inner.credits
    return transaction, after


# -- the quick path -------------------------------------------------------------------------------------------------


def _take_beyond_floors(original: Around, self: Till, shelf: Shelf, *terms: Any) -> Draft | None:
    draft: Draft | None = original(self, shelf, -(10**9), -(10**9), *terms[2:])
    return draft


def _accept_untagged(original: Around, self: Till, draft: Draft, shelf: Shelf, charge: int, *rest: Any) -> None:
    original(self, draft, shelf, charge, *rest)
    self.charged -= charge


def _serve_beyond_floors(original: Around, self: Till, draft: Draft, line: Shelf, calls: Shelf, *rest: int) -> bool:
    """Ask no floor."""
    return bool(original(self, draft, line, calls, -(10**9), -(10**9), rest[-1]))


def _leave_empty_handed(original: Around, self: Till, draft: Draft, line: Shelf) -> None:
    """Give nothing back."""
    original(self, draft, line)
    self.credits -= draft.credits


def _take_past_the_line(original: Around, self: QuickAccount, *terms: Any) -> Draft | None:
    """Look at no line."""
    with mock.patch.object(self, "_line", Line()):
        draft: Draft | None = original(self, *terms)
    return draft


def _hand_to_nobody(original: Around, self: ServingAccount) -> None:
    """Do nothing."""


def _wait_for_ever(original: Around, self: ServingAccount, place: Place) -> float | None:
    """Wait for the reading there is, however old it gets."""
    with mock.patch.object(self, "max_age", 10**12):
        seconds: float | None = original(self, place)
    return seconds


def _refuse_on_any_reading(original: Around, self: QuickAccount, credits: int) -> Any:
    self._recheck_after = 10**15
    return original(self, credits)


_ALL = (
    Mutation("a reading forgets the credits of open calls", ((Readings, "_install_credits", _forget_open_credits),)),
    Mutation("a reading forgets the slots of open calls", ((Readings, "_install_pool", _forget_open_slots),)),
    Mutation(
        "a reading dissolves the credits accepted since its mark",
        ((Readings, "_install_credits", _dissolve_newest_credits),),
    ),
    Mutation(
        "a reading dissolves the slots accepted since its mark", ((Readings, "_install_pool", _dissolve_newest_slots),)
    ),
    Mutation(
        "the mark is made when the answer comes, not before asking",
        (
            (Readings, "claim", _claim_without_mark),
            (Readings, "install", _mark_at_install),
            (Readings, "supersedes", lambda original, self, view, claim: view[c.MARK] < claim.mark),
        ),
    ),
    Mutation(
        "an older reading replaces a newer one",
        ((Readings, "supersedes", lambda original, self, view, claim: True),),
        ("slow credits",),
    ),
    Mutation("the lag of the balance is ignored", ((Readings, "__init__", _no_lag),), ("lag",)),
    Mutation(
        "a mark is dated by the last look instead of by the store", ((Readings, "claim", _claim_from_view),), ("lag",)
    ),
    Mutation(
        "credits charged at completion are taken as charged at once",
        ((Readings, "__init__", _charged_at_once),),
        ("completion",),
    ),
    Mutation("the queued tasks of a reading are not counted", ((Provider, "shown", _without_queued),)),
    Mutation("a claim ends before an answer can come", ((Readings, "claim", _claim_too_short),), ("slow credits",)),
    Mutation(
        "whoever gives up a claim ends anybody's", ((Readings, "unclaim", _unclaim_any),), ("slow credits", "killed")
    ),
    Mutation("nobody notes when a reading was asked for", ((Readings, "claim", _claim_unasked),)),
    Mutation(
        "a stranger on an exclusive account is ignored", ((Readings, "owns", _owns_always),), ("exclusive stranger",)
    ),
    Mutation(
        "the end of a task inside a reading gives its slot back unseen", ((Books, "_finish_slots", _seen_always),)
    ),
    Mutation("a poll sent before the reading counts as seen", ((Books, "finish", _seen_under_any),)),
    Mutation("a call accepted during a reading leaves no doubt", ((Books, "_doubt", _without_doubt),)),
    Mutation("a call is tagged with the generation last seen", ((Books, "accept", _accept_unexpecting),)),
    Mutation("a release does not end the record", ((Books, "release", _not_dropping),)),
    Mutation("a finish does not end the record", ((Books, "finish", _not_dropping),)),
    Mutation("a refused call is not given back", ((settlement, "release", _not_giving_back),)),
    Mutation("an unknown outcome is given back at once", ((settlement, "settle", _unknown_given_back),), ("unknown",)),
    Mutation(
        "the end of a lease gives back what was sent", ((Books, "expire", _expire_gives_back),), ("unknown", "killed")
    ),
    Mutation(
        "the end of a lease counts as charged though that is at completion",
        ((Books, "expire", _expire_tags_at_completion),),
        ("completion", "anything"),
    ),
    Mutation("a refund inside the reading is given back again", ((Books, "_finish_credits", _refund_twice),)),
    Mutation("a finish wakes nobody", ((Books, "finish", _not_waking),)),
    Mutation("a release wakes nobody", ((Books, "release", _not_waking),)),
    Mutation("a newcomer overtakes the line", ((joining, "admit", _overtake),)),
    Mutation("a newcomer overtakes the heads of other lines", ((Books, "take", _take_quietless),)),
    Mutation("a head that leaves stays announced", ((Books, "release", _stay_announced),)),
    Mutation("the last come is served first", ((Ticket, "__init__", _last_first),)),
    Mutation("the head of the line takes slots that are not there", ((Books, "take_slots", _take_floorless),)),
    Mutation(
        "the head of the line does not look whether its credits are still there",
        ((Books, "take_slots", _take_spent),),
        ("foreign",),
    ),
    Mutation("a call is refused on an old reading", ((search.Search, "young", _always_young),)),
    Mutation(
        "an admitted head does not pass its turn on",
        ((admission, "leave", _leave_silently), (settlement, "leave", _leave_silently)),
    ),
    Mutation("doubt about slots is ignored", ((View, "doubt", _no_doubt),)),
    Mutation(
        "doubt about credits is ignored",
        (
            (Readings, "_install_credits", _no_credits_doubt),
            (View, "credits_open", _no_doubt),
            (Books, "_doubt", _without_doubt),
        ),
    ),
    Mutation("what a call draws stays with its job too", ((Books, "draw", _draw_twice),)),
    Mutation("a job keeps its slots while a call of its own waits for some", ((joining, "let_go", _stay_busy),)),
    Mutation("what a call gives back goes to its job and to the account", ((Books, "restore", _restore_to_both),)),
    Mutation("the quick path gives out what is not there", ((Till, "take", _take_beyond_floors),)),
    Mutation("a call accepted on the quick path is not tagged", ((Till, "accept", _accept_untagged),)),
    Mutation("a call is refused at once on an old reading", ((QuickAccount, "refusal", _refuse_on_any_reading),)),
    Mutation("who waits on the quick path is given slots that are not there", ((Till, "serve", _serve_beyond_floors),)),
    Mutation("who leaves the line there keeps his credits", ((Till, "leave", _leave_empty_handed),)),
    Mutation("a newcomer overtakes the line on the quick path", ((QuickAccount, "take", _take_past_the_line),)),
    Mutation("what comes free there is handed to nobody", ((ServingAccount, "_hand_on", _hand_to_nobody),)),
    Mutation("the head waits there whatever it would have to look at", ((ServingAccount, "_must_look", _no_doubt),)),
    Mutation("the head waits there on any reading", ((ServingAccount, "patience", _wait_for_ever),)),
)

MUTATIONS = {mutation.name: mutation for mutation in _ALL}
