"""What a permit asks of the books, besides admission and the endings every call has."""

from __future__ import annotations

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold, overtaken
from budgetguard._core.counters import MICROS
from budgetguard._core.endings import finish
from budgetguard._core.records import Record, Stage, call_key, place_key, task_key
from budgetguard._core.search import Search, can_ever_fit, freshen, recheck_credits
from budgetguard._core.settlement import release
from budgetguard._core.steps import Flow, Tell
from budgetguard.errors import InsufficientCredits, InsufficientSlots
from budgetguard.events import Settled
from budgetguard.model import TaskSeen

__all__ = ["can_afford", "end_by_token", "give_back"]


def can_afford(account: Account, hold: Hold) -> Flow[bool]:
    """Look whether a call would be let through, at once or after a wait in line. Holds nothing."""
    search = Search(account)
    try:
        while not search.forced:
            view = yield from account.load()
            if hold.started is None:
                hold.started = view.now
            if search.too_old(view):
                yield from freshen(account, hold, view, search)
            elif hold.quote.credits and view[c.CREDITS] - hold.quote.credits < account.books.credits_headroom:
                if (yield from recheck_credits(account, hold, view, search, view[c.CREDITS])):
                    return True
            elif (yield from can_ever_fit(account, hold, view, search)):
                return True
    except (InsufficientCredits, InsufficientSlots):
        return False
    return True


def give_back(account: Account, hold: Hold) -> Flow[None]:
    """Give a permit back whole; notes it if that was ended by its token meanwhile."""
    record = hold.record
    if record is None or (yield from release(account, hold, record)):
        return
    records, _ = yield from account.find(place_key(record.id), task_key(record.id))
    hold.elsewhere = any(Record.loads(text).stage is not Stage.LOST for text in records.values())


def end_by_token(account: Account, name: str, task: TaskSeen) -> Flow[bool]:
    """End a permit by its reservation's *name*, wherever it stands; ``False`` if it has ended already.

    The record is dropped by what it says, so of this and the holder's own ending one wins, and the other finds out.
    *task* names the task the permit became, where the token knows; ``""`` where it does not.
    """
    while True:
        records, _ = yield from account.find(call_key(name), task_key(name), place_key(name))
        if call_key(name) in records:
            record = Record.loads(records[call_key(name)])
            if record.in_line:
                return False
            yield from _book(account, record, task)
            continue
        if task_key(name) in records:
            here = TaskSeen(name, task.state, task.charge)
            return (yield from finish(account, here, by_token=True))
        moved = records.get(place_key(name))
        known = task.task_id if moved is None else Record.loads(moved).task_id
        if not known:
            return False
        return (yield from finish(account, TaskSeen(known, task.state, task.charge)))


def _book(account: Account, record: Record, task: TaskSeen) -> Flow[None]:
    """Accept an open permit in its holder's stead; nothing happens if that one was quicker."""
    while True:
        # Which reading was installed when it was admitted is the holder's knowledge; it may count the call too.
        charge = record.credits if task.charge is None else task.charge
        transaction, after = account.books.accept(account.view, record, charge, "", read_since=True)
        done = yield from account.transact(transaction)
        if done.applied:
            break
        if not overtaken(transaction, done):
            return
    if account.listening:
        now, reported = done.now / MICROS, task.charge is not None
        yield from Tell(Settled(account.name, now, record.id, None, record.credits, after.credits, reported))
