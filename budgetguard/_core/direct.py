"""The first step of an admission, without a flow around it: almost every call gets by it all it needs.

Where it does not, `admit` goes on from what the hold has.
"""

from __future__ import annotations

from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold, Mould
from budgetguard._core.counters import View
from budgetguard._core.records import Record, Stage, call_key, written
from budgetguard.ports import Put, Transacted, Transaction

__all__ = ["FirstStep", "begin", "heard"]


class FirstStep:
    """A transaction that was made and not heard of yet."""

    __slots__ = ("number", "record", "transaction")

    def __init__(self, number: int, record: Record, transaction: Transaction) -> None:
        self.number = number
        self.record = record
        self.transaction = transaction


def begin(account: Account, hold: Hold) -> FirstStep | None:
    """Make the transaction that takes what a call needs; ``None`` where it must wait in line or joins a job."""
    if hold.outer is not None or (hold.quote.slots and account.line(hold.quote.pool).waiting):
        return None
    if hold.number is None:
        hold.number = account.number()
    record = account.record(hold, Stage.RESERVED)
    mould = account.mould
    if mould is None or not mould.fits(hold.quote):
        transaction = account.books.take(record, within=account.max_age)
        transaction.add[c.SERIAL] = 1
        account.mould = mould = Mould(hold.quote, transaction, record.rest)
    return FirstStep(account.number_look(), record, _cast(mould, record, account.books.lease))


def _cast(mould: Mould, record: Record, lease: float) -> Transaction:
    """Make the transaction of one more call that asks for the same: all but its record is what the others have."""
    like = mould.transaction
    put = {call_key(record.id): Put(written(Stage.RESERVED, record.id, mould.rest), lease)}
    return Transaction(like.add.copy(), like.floor, like.expect, like.within, (), put, like.drop)


def heard(account: Account, hold: Hold, step: FirstStep, done: Transacted) -> bool:
    """Hear what came of it: whether the call may be sent, and nobody wants to be told."""
    view = View(done.counters, done.now)
    account.look(step.number, view, changed=done.applied)
    if hold.started is None:
        hold.started = done.now
    if not done.applied:
        return False
    hold.record, hold.mark = step.record, view[c.MARK]
    if account.listening or account.forgotten or view[c.PAUSE] > done.now:
        return False
    account.let_through(hold)
    return True
