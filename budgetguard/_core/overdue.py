"""Leases that are over: what is given up, and what the provider is asked about first.

A task that was accepted keeps its slot until it is seen to end. Where nobody looks at it for the length of its lease,
it may have ended long ago, or run for longer than anybody thought; the provider knows. It is asked before the slot is
given up. Who asks first begins the lease anew, for a short time, so that nobody else asks about the same task; if
nothing could be learnt by the end of that, the task is asked about again, for at most as long as its lease was.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from budgetguard._core import counters as c
from budgetguard._core.account import Account, overtaken
from budgetguard._core.counters import MICROS, View
from budgetguard._core.endings import finish
from budgetguard._core.records import Record, Stage
from budgetguard._core.steps import Ask, Flow, Tell
from budgetguard.errors import StoreError
from budgetguard.events import Expired
from budgetguard.ports import Put, Transaction

__all__ = ["TOGETHER", "Fate", "end_due", "is_asked_about", "learn", "read"]

TOGETHER = 8
"""How many tasks are asked about at once; of those that are due no more in one look, as somebody waits for it."""
_MARGIN = 2.0
"""Seconds for which a task is kept beyond the time the provider has to answer."""


class Fate(enum.Enum):
    """What became of a record that was looked at."""

    EXPIRED = enum.auto()
    """Its lease was over, and it was given up."""
    ENDED = enum.auto()
    """Its task had ended, and so has it."""
    RUNNING = enum.auto()
    """Its task runs; its lease begins anew."""
    MISSING = enum.auto()
    """The provider has no such task, or cannot be asked about it."""
    UNHEARD = enum.auto()
    """The provider could not be asked, or its answer does not tell."""
    GONE = enum.auto()
    """Somebody else has changed or ended it meanwhile."""


def read(texts: Iterable[bytes]) -> list[Record]:
    """Read records. One that cannot be read, a newer version's perhaps, must not stop the others."""
    records = []
    for text in texts:
        try:
            records.append(Record.loads(text))
        except StoreError:
            continue
    return records


def is_asked_about(record: Record) -> bool:
    """Tell whether this is a task that the provider knows by an id."""
    return record.stage is Stage.ACCEPTED and bool(record.task_id)


def end_due(account: Account, texts: Iterable[bytes], view: View) -> Flow[list[tuple[Record, Fate]]]:
    """End records whose lease is over, as seen in *view*; tasks only once the provider was asked about them.

    Returns:
        What became of those that were dealt with: not more than `TOGETHER` tasks. The others are still due.
    """
    fates: list[tuple[Record, Fate]] = []
    lease = max(account.policy.lease, account.policy.credits_timeout + _MARGIN)
    tasks: list[Record] = []
    for record in read(texts):
        if is_asked_about(record) and (not record.asked or record.asked * lease < record.task_lease):
            tasks.append(record)
        else:
            fates.append((record, (yield from _expire(account, record, view))))
    mine: list[Record] = []
    for record in tasks[:TOGETHER]:
        asked = record.moved(record.stage, asked=record.asked + 1)
        if (yield from _keep(account, record, asked, lease)):
            mine.append(asked)
        else:
            fates.append((record, Fate.GONE))
    learnt = yield from learn(account, mine)
    if learnt is None:
        # Nobody here can ask, so there is nothing to wait for.
        learnt = [Fate.MISSING] * len(mine)
        mine += tasks[TOGETHER:]
        learnt += [Fate.MISSING] * (len(mine) - len(learnt))
    for record, fate in zip(mine, learnt, strict=True):
        over = fate is Fate.MISSING
        fates.append((record, (yield from _expire(account, record, account.view)) if over else fate))
    return fates


def learn(account: Account, records: Sequence[Record]) -> Flow[list[Fate] | None]:
    """Ask about tasks, all at once; end those that have ended, and begin the leases of those that run anew.

    Returns:
        What became of each: not `Fate.EXPIRED`. ``None`` where nobody can ask.
    """
    if not records:
        return []
    mark = account.view[c.MARK]
    answers = yield from Ask(account.name, [record.task_id for record in records])
    if answers is None:
        return None
    fates: list[Fate] = []
    for record, asked in zip(records, answers, strict=True):
        task = asked.task
        if task is None:
            fates.append(Fate.UNHEARD if asked.again else Fate.MISSING)
        elif task.state.ended:
            fates.append(Fate.ENDED if (yield from finish(account, task)) else Fate.GONE)
        else:
            account.seen[task.task_id] = mark
            kept = yield from _keep(account, record, record.moved(record.stage, asked=0), record.task_lease)
            fates.append(Fate.RUNNING if kept else Fate.GONE)
    return fates


def _keep(account: Account, before: Record, after: Record, lease: float) -> Flow[bool]:
    """Begin a task's lease anew; ``False`` if somebody else has changed or ended it."""
    done = yield from account.transact(
        Transaction(drop={before.key: before.dumps()}, put={after.key: Put(after.dumps(), lease)})
    )
    return done.applied


def _expire(account: Account, record: Record, view: View) -> Flow[Fate]:
    while True:
        transaction = account.books.expire(view, record)
        done = yield from account.transact(transaction)
        if done.applied:
            account.live.pop(record.id, None)
            yield from _tell_expired(account, record, done.now)
            return Fate.EXPIRED
        if not overtaken(transaction, done):
            return Fate.GONE
        view = View(done.counters, done.now)


def _tell_expired(account: Account, record: Record, now: int) -> Flow[None]:
    if account.listening and record.stage is not Stage.MOVED:
        what = "call" if record.in_line or record.is_open else "task"
        yield from Tell(
            Expired(account.name, now / MICROS, record.id, what, record.task_id or None, record.credits, record.slots)
        )
