"""Picking up what an earlier process left.

Whatever was held when a process was killed stands in the store. What it had not sent, or sent without hearing of it,
ends with its lease; nobody can tell it from what another process is doing at this moment. What was accepted has an id
that the provider knows, so it is asked. A task it does not know is left to its lease: another process may have started
it a moment ago.
"""

from __future__ import annotations

from budgetguard._core.account import Account
from budgetguard._core.overdue import TOGETHER, Fate, end_due, is_asked_about, learn
from budgetguard._core.records import Record, Stage
from budgetguard._core.steps import Flow, Scan
from budgetguard.errors import StoreError
from budgetguard.model import Recovered

__all__ = ["recover"]


class _Tally:
    """What was found so far."""

    def __init__(self) -> None:
        self.met: set[str] = set()
        self.finished: list[str] = []
        self.running: list[str] = []
        self.unknown: list[str] = []
        self.expired = 0
        self.held = 0
        self.unreadable = 0

    def note(self, record: Record, fate: Fate) -> None:
        self.met.add(record.key)
        match fate:
            case Fate.EXPIRED:
                self.expired += record.stage is not Stage.MOVED
            case Fate.ENDED:
                self.finished.append(record.task_id)
            case Fate.RUNNING:
                self.running.append(record.task_id)
            case Fate.MISSING | Fate.UNHEARD:
                self.unknown.append(record.task_id)
            case Fate.GONE:
                pass  # somebody else has seen to it


def recover(account: Account) -> Flow[Recovered]:
    """Ask about every task of the account that was accepted and not seen to end; end what is over."""
    tally = _Tally()
    while True:
        texts, view = yield from account.find(due=True)
        fates = yield from end_due(account, [text for key, text in texts.items() if key not in tally.met], view)
        if not fates:
            break
        for record, fate in fates:
            tally.note(record, fate)
    cursor, tasks = "", list[Record]()
    while True:
        page = yield from Scan(account.name, cursor)
        for key, text in page.records.items():
            if key not in tally.met:
                tally.met.add(key)
                tasks += _sorted_out(tally, text)
        while len(tasks) >= TOGETHER or (tasks and not page.cursor):
            some, tasks = tasks[:TOGETHER], tasks[TOGETHER:]
            learnt = yield from learn(account, some)
            for record, fate in zip(some, [Fate.UNHEARD] * len(some) if learnt is None else learnt, strict=True):
                tally.note(record, fate)
        cursor = page.cursor
        if not cursor:
            break
    return Recovered(
        account.name,
        finished=tuple(sorted(tally.finished)),
        running=tuple(sorted(tally.running)),
        unknown=tuple(sorted(tally.unknown)),
        expired=tally.expired,
        held=tally.held,
        unreadable=tally.unreadable,
    )


def _sorted_out(tally: _Tally, text: bytes) -> list[Record]:
    """Give a record back if its task is to be asked about; count it otherwise."""
    try:
        record = Record.loads(text)
    except StoreError:
        tally.unreadable += 1
        return []
    if is_asked_about(record):
        return [record]
    tally.held += record.stage is not Stage.MOVED
    return []
