"""The quick path in a schedule: what it does at once is put before the mirror as the ledger's own transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from budgetguard._core import counters as c
from budgetguard._core.account import Hold
from budgetguard._core.counters import View, micros
from budgetguard._core.quick import QuickAccount
from budgetguard._core.records import Record, Stage, clean
from budgetguard._core.serving import Place
from budgetguard._core.settlement import call, finish
from budgetguard._core.steps import Flow, Send, Wait
from budgetguard._core.till import Draft
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict
from budgetguard.ports import Transacted, Transaction
from tests.search.actors import ACCOUNT, Actor, Process
from tests.search.mirror import Broken

if TYPE_CHECKING:
    from tests.search.world import World

__all__ = ["call_quickly", "end_quickly", "sync"]


def call_quickly(world: World, process: Process, hold: Hold, actor: Actor) -> Flow[Verdict]:
    """Admit, send and settle a call: on the quick path as far as that goes."""
    account, quote = process.account, hold.quote
    draft = None
    if account.is_quick and hold.outer is None and not quote.pool and not quote.slack:

        def owner() -> Actor | None:
            return None if actor.done else actor

        draft = account.take(owner, hold.id, quote.credits, quote.slots)
        if draft is not None:
            if quote.slots and len(account.line("")):
                raise Broken("first come, first served", f"{actor} was let through though others wait")
            _follow(world, actor, _taking(account, hold, Stage.RESERVED))
            world.drafts[hold.key] = draft
            world.counted["taken at once"] += 1
        else:
            refused = account.refusal(quote.credits)
            if refused is not None:
                world.counted["refused at once"] += 1
                raise refused
            if not hold.priority and hold.deadline is None:
                draft = yield from _wait_in_line(world, process, hold, actor, owner)
    if draft is None:
        return (yield from call(account, hold))
    record = account.record(hold, Stage.RESERVED)
    hold.sent = True
    verdict = yield from Send(hold.id)
    if verdict.outcome is not Outcome.ACCEPTED or not _settle(world, process, actor, draft, record, verdict):
        hold.record, hold.mark = account.hand_over(draft), draft.mark
        return (yield from call(account, hold, verdict))
    return verdict


def _wait_in_line(
    world: World, process: Process, hold: Hold, actor: Actor, owner: Callable[[], object]
) -> Flow[Draft | None]:
    """Wait on the quick path; ``None`` if that is not the way, or the call goes on the long way from where it stood."""
    account = process.account
    place = account.join_line(owner, hold.id, hold.quote.credits, hold.quote.slots)
    if place is None:
        return None
    _follow(world, actor, _taking(account, hold, Stage.WAITING), place=place)
    world.drafts[hold.key] = place.draft
    world.counted["waited in line"] += 1
    try:
        while (seconds := account.patience(place)) is not None:
            _follow(world, actor)
            yield from Wait(place, seconds)
        _follow(world, actor)
    except BaseException:
        record = place.draft.record(account.task_lease)
        if actor.done and account.withdraw(hold.id):
            world.drafts.pop(hold.key, None)
            world.places.pop(place, None)
            world.counted["left the line"] += 1
            _follow(world, actor, account.books.release(record))
        raise
    standing = account.go_on(place)
    if standing is None:
        world.counted["served in line"] += 1
        return place.draft
    world.places.pop(place)
    world.counted["went on as a flow"] += 1
    hold.record, hold.number, hold.ticket = standing.record, standing.number, standing.ticket
    hold.joined, hold.started = standing.joined, standing.started
    return None


def _taking(account: QuickAccount, hold: Hold, stage: Stage) -> Transaction:
    return account.books.take(account.record(hold, stage), within=micros(account.policy.max_age))


def _settle(world: World, process: Process, actor: Actor, draft: Draft, record: Record, verdict: Verdict) -> bool:
    account, task_id = process.account, clean(verdict.task_id or "")
    if task_id and task_id in account.ended:
        return False
    charge = record.credits if verdict.charge is None else verdict.charge
    view = _look(world)
    transaction, after = account.books.accept(view, record, charge, task_id)
    if not account.accept(draft, charge, task_id):
        return False
    assert view[c.MARK] == view[c.GENERATION] == draft.mark
    world.drafts.pop(record.key, None)
    _follow(world, actor, transaction)
    world.drafts[after.key] = draft
    world.counted["settled at once"] += 1
    return True


def end_quickly(world: World, process: Process, actor: Actor, task: TaskSeen) -> Flow[bool]:
    """End a task that was seen to end: on the quick path, if that is to be had."""
    account, key = process.account, f"t:{clean(task.task_id)}"
    draft = world.drafts.get(key)
    if account.is_quick and draft is not None and draft.shelf is not None:
        view, record = _look(world), draft.record(account.task_lease)
        failed = task.state in (TaskState.FAILED, TaskState.CANCELLED)
        done = account.finish(task) if draft.task_id else account.end(draft)
        if done:
            charge, failed = (task.charge, failed) if draft.task_id else (None, False)
            world.drafts.pop(key, None)
            _follow(world, actor, account.books.finish(view, record, seen_under=None, failed=failed, charge=charge))
            world.counted["ended at once"] += 1
            return True
    return (yield from finish(account, task))


def sync(world: World) -> None:
    """Let the mirror know of leases that began anew without a transaction."""
    for key, draft in list(world.drafts.items()):
        entry = world.mirror.entries.get(key)
        if entry is None:
            del world.drafts[key]
        else:
            entry.due = draft.due


def _look(world: World) -> View:
    loaded = world.store.load(ACCOUNT)
    return View(loaded.counters, loaded.now)


def _follow(world: World, actor: Actor, *transactions: Transaction, place: Place | None = None) -> None:
    """Put what was done at once before the mirror, and after it that others were served with what it freed."""
    view = _look(world)
    reply = Transacted(applied=True, counters=dict(view.counters), now=view.now)
    if place is not None:
        world.places[place] = actor
    done = [(actor, transaction) for transaction in transactions]
    for other, waiter in sorted(world.places.items(), key=lambda item: item[0].order):
        if not other.draft.waits:
            del world.places[other]
            done.append((waiter, _serving(world, waiter, other)))
    sync(world)
    for _, transaction in done:
        world.mirror.follow(transaction, reply, None)
    for who, transaction in done:
        world.watch.transacted(who, transaction, reply)


def _serving(world: World, actor: Actor, place: Place) -> Transaction:
    account, draft = actor.process.account, place.draft
    if account.line("").place(place) != 1:
        raise Broken("first come, first served", f"{actor} was served before somebody who came earlier")
    world.counted["served"] += 1
    record = Record(draft.id, Stage.WAITING, draft.credits, draft.slots, task_lease=account.task_lease)
    return account.books.take_slots(record, within=micros(account.policy.max_age))
