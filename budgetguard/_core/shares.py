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

Two jobs that each kept a slot and waited for another would wait for ever. So a job keeps no slots once a call of its
own had to wait for some: from then on it is *idle*, holds credits only, and its calls get their slots from the line.
What is idle is counted with the credits in line: it is not being sent, so nobody waits for an answer to it, and it has
no slack. A call that wants only credits does not wait: it has them or is refused.

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
        add: dict[str, int] = {}
        rest = self._moved(add, outer, -credits, -slots)
        add[c.SLACK] = add.get(c.SLACK, 0) + inner.slack - (0 if has is None else has.slack)
        return (
            Transaction(
                add={name: value for name, value in add.items() if value},
                drop={**outer.drops(), **({} if has is None else has.drops())},
                put={**rest.puts(self.lease), **inner.puts(self.lease)},
            ),
            rest,
        )

    def let_go(self, outer: Record) -> tuple[Transaction, Record]:
        """Make a job idle: a call of its own is to wait for slots, and others may wait for what it has left of them."""
        pool = self.pool(outer.pool)
        after = outer.moved(Stage.IDLE, slots=0, slack=0)
        add = {
            c.WAITING: outer.credits,
            c.SLACK: -outer.slack,
            pool.slots: outer.slots,
            pool.open: -outer.slots,
        }
        return (
            Transaction(
                add={name: value for name, value in add.items() if value},
                drop=outer.drops(),
                put=after.puts(self.lease),
                wake=True,
            ),
            after,
        )

    def restore(self, outer: Record, inner: Record, credits: int, slots: int) -> tuple[Transaction, Record]:
        """Give a call's record up: that many *credits* and *slots* back to the job's, the others to the account.

        An idle job takes no slots.
        """
        pool = self.pool(inner.pool)
        slots = 0 if outer.stage is Stage.IDLE else slots
        freed = inner.slots - slots
        add = {c.CREDITS: inner.credits - credits, pool.slots: freed, pool.open: -freed}
        after = self._moved(add, outer, credits, slots)
        add[c.SLACK] = add.get(c.SLACK, 0) - inner.slack
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
    def _moved(add: dict[str, int], outer: Record, credits: int, slots: int) -> Record:
        left = outer.credits + credits
        after = outer.moved(outer.stage, credits=left, slots=outer.slots + slots, slack=min(outer.slack, left))
        add[c.SLACK] = after.slack - outer.slack
        if outer.stage is Stage.IDLE:
            add[c.WAITING] = credits
        return after
