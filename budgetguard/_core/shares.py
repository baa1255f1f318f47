"""The accounting rule for calls inside a job: they draw on what the job holds.

A job holds credits and slots in one record. A call it makes has a record of its own, as every call has, because it ends
by itself: booked at its own charge, tagged at its own moment, its slot kept as long as its task runs. What it needs
moves from the job's record to its own in one transaction, and what it did not use after all moves back the same way.

Why the promises hold: free credits and free slots depend on the open records only through their sums, of credits and
of slots in each pool. Moving an amount between two open records changes no sum, so no counter moves and no floor is
asked: whatever may be sent afterwards could have been sent before, by the job itself. What a call needs beyond that is
admitted like any call's, with all floors, before anything moves. Both records are dropped by the text they had, so two
calls that draw at once cannot draw the same amount: one of them finds the job's record changed, and looks again. A job
whose lease has ended, or who has ended it, has no open record, and nothing can be drawn from it.

A call is inside a reading only if it was sent before the reading was asked for, and it is sent after it drew. So which
readings may count it too is told by the mark that was installed when it drew, whatever the job's record saw before.
"""

from __future__ import annotations

from budgetguard._core import counters as c
from budgetguard._core.readings import Readings
from budgetguard._core.records import Record, Stage
from budgetguard.ports import Transaction

__all__ = ["Shares"]


class Shares(Readings):
    """The part of the rule that has to do with calls that draw on the hold around them."""

    __slots__ = ()

    def draw(self, outer: Record, inner: Record, has: Record | None) -> tuple[Transaction, Record]:
        """Fill a call's record, *inner*, from the job's; *has* is what the call was admitted with, if anything.

        Gives what is left of the job's record too. Whoever asks has seen to it that there is enough, and slots only
        move within a pool.
        """
        credits = inner.credits - (0 if has is None else has.credits)
        slots = inner.slots - (0 if has is None else has.slots)
        rest = self._moved(outer, -credits, -slots)
        before = outer.slack + (0 if has is None else has.slack)
        slack = rest.slack + inner.slack - before
        return (
            Transaction(
                add={c.SLACK: slack} if slack else {},
                drop={**outer.drops(), **({} if has is None else has.drops())},
                put={**rest.puts(self.lease), **inner.puts(self.lease)},
            ),
            rest,
        )

    def restore(self, outer: Record, inner: Record, credits: int, slots: int) -> tuple[Transaction, Record]:
        """Give a call's record up: that many *credits* and *slots* back to the job's, the others to the account."""
        pool = self.pool(inner.pool)
        after = self._moved(outer, credits, slots)
        freed = inner.slots - slots
        add = {c.CREDITS: inner.credits - credits, pool.slots: freed, pool.open: -freed}
        slack = after.slack - outer.slack - inner.slack
        if slack:
            add[c.SLACK] = slack
        return (
            Transaction(
                add={name: value for name, value in add.items() if value},
                drop={**outer.drops(), **inner.drops()},
                put=after.puts(self.lease),
                wake=inner.credits > credits or freed > 0,
            ),
            after,
        )

    @staticmethod
    def _moved(outer: Record, credits: int, slots: int) -> Record:
        left = outer.credits + credits
        return outer.moved(Stage.RESERVED, credits=left, slots=outer.slots + slots, slack=min(outer.slack, left))
