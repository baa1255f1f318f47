"""The quick path in a schedule: what it does at once is put before the mirror as the ledger's own transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budgetguard._core import counters as c
from budgetguard._core.account import Hold
from budgetguard._core.counters import View, micros
from budgetguard._core.records import Record, Stage, clean
from budgetguard._core.settlement import call, finish
from budgetguard._core.steps import Flow, Send
from budgetguard._core.till import Draft
from budgetguard.model import Outcome, TaskSeen, TaskState, Verdict
from budgetguard.ports import Transacted, Transaction
from tests.search.actors import ACCOUNT, Actor, Process

if TYPE_CHECKING:
    from tests.search.world import World

__all__ = ["call_quickly", "end_quickly", "sync"]


def call_quickly(world: World, process: Process, hold: Hold, actor: Actor) -> Flow[Verdict]:
    """Admit, send and settle a call: on the quick path as far as that goes."""
    account, quote = process.account, hold.quote
    draft = None
    if account.is_quick and hold.outer is None and not quote.pool and not quote.slack:
        draft = account.take(lambda: None if actor.done else actor, hold.id, quote.credits, quote.slots)
        if draft is None:
            refused = account.refusal(quote.credits)
            if refused is not None:
                world.counted["refused at once"] += 1
                raise refused
    if draft is None:
        return (yield from call(account, hold))
    record = account.record(hold, Stage.RESERVED)
    _follow(world, actor, account.books.take(record, within=micros(account.policy.max_age)))
    world.drafts[record.key] = draft
    world.counted["taken at once"] += 1
    hold.sent = True
    verdict = yield from Send(hold.id)
    if verdict.outcome is not Outcome.ACCEPTED or not _settle(world, process, actor, draft, record, verdict):
        hold.record, hold.mark = account.hand_over(draft), draft.mark
        return (yield from call(account, hold, verdict))
    return verdict


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


def _follow(world: World, actor: Actor, transaction: Transaction) -> None:
    view = _look(world)
    reply = Transacted(applied=True, counters=dict(view.counters), now=view.now)
    sync(world)
    world.mirror.follow(transaction, reply, None)
    world.watch.transacted(actor, transaction, reply)
