"""The end of a task, and what both it and the settling of a call need."""

from __future__ import annotations

from budgetguard._core.account import Account, overtaken
from budgetguard._core.counters import MICROS, View
from budgetguard._core.records import Record, clean, task_key
from budgetguard._core.steps import Flow, Tell
from budgetguard.events import Overspent, PriceMismatch, TaskEnded
from budgetguard.model import TaskSeen, TaskState

__all__ = ["compare", "finish", "found_again", "standing"]


def finish(account: Account, task: TaskSeen, *, by_token: bool = False) -> Flow[bool]:
    """End a task that was seen to have ended; ``False`` if it is none of ours, or had ended before.

    *by_token* leaves word for whoever holds the permit.
    """
    key = task_key(task.task_id)
    records, view = yield from account.find(key)
    text = records.get(key)
    if text is None:
        if not by_token:
            account.ended[clean(task.task_id)] = task
        return False
    record = Record.loads(text)
    seen_under = account.seen.pop(task.task_id, None)
    account.live.pop(record.id, None)
    failed = task.state in (TaskState.FAILED, TaskState.CANCELLED)
    while True:
        transaction = account.books.finish(
            view, record, seen_under=seen_under, failed=failed, charge=task.charge, by_token=by_token
        )
        done = yield from account.transact(transaction)
        if done.applied:
            break
        moved = View(done.counters, done.now)
        if not overtaken(transaction, done):
            changed = yield from found_again(account, record)
            if changed is None:
                return False
            record, moved = changed, account.view
        view = moved
    if account.listening:
        freed = transaction.add.get(account.books.pool(record.pool).slots, 0) > 0
        yield from Tell(TaskEnded(account.name, done.now / MICROS, task.task_id, task.state, record.slots, freed))
    if task.charge is not None and not failed:
        yield from compare(account, record, task.charge, record.credits, "the task's own answer", done.now)
    return True


def standing(account: Account, record: Record) -> Flow[Record | None]:
    """Find what an open record is now; ``None`` if it is gone. Others may have drawn on it, and given it all back."""
    records, _ = yield from account.find(record.key)
    text = records.get(record.key)
    return None if text is None else Record.loads(text)


def found_again(account: Account, record: Record) -> Flow[Record | None]:
    """Find what a record has become, if it still stands: others may have drawn on it, or given something back."""
    records, _ = yield from account.find(record.key)
    text = records.get(record.key)
    return None if text is None or text == record.dumps() else Record.loads(text)


def compare(account: Account, record: Record, charge: int, price: int, source: str, now: int) -> Flow[None]:
    """Tell where a charge differs from what was held for it; *source* is the row of a price list, if it was one."""
    if not account.listening or price - record.slack <= charge <= price:
        return
    if charge > price:
        yield from Tell(Overspent(account.name, now / MICROS, record.id, price, charge))
    if source:
        yield from Tell(PriceMismatch(account.name, now / MICROS, source, price, charge))
