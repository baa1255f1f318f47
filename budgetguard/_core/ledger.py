"""The accounting rule: what each event does to an account's counters.

Theory
------
A reading of the balance takes a while, and calls are accepted before, during and after it. Which of them are already
inside the number? Comparing the clocks of several machines cannot tell. Counting generations can.

A refresh has three parts. *Mark*: the generation grows by one; call it *m*. *Ask* the provider. *Install* the reading
under *m*, unless a reading with that mark or a later one is installed already. A call that was accepted is *tagged*
with the generation of that moment. A call tagged *g < m* was answered before mark *m* was made, so before the reading
was asked for: the reading contains it. A call that is still open, or tagged *g >= m*, may or may not be inside: it is
counted on top. So

    free credits = balance         - open - sum of tagged[g >= m]
    free slots   = limit - running - open - sum of tagged[g >= m]

A call counted twice for the length of one reading does no harm; one not counted at all would. Every error falls on the
safe side, every reading wipes it out, and no two clocks are compared.

The free amounts are counters that only ever move by additions with a floor, so admissions never conflict. What depends
on a generation (accept, finish, install) expects it, and is worked out again when it moved.

A few buckets are enough. A reading that is installed under *m* dissolves the tags below *m*, so the tags in use lie
between the installed mark and the generation: one more for each reading that was asked for since and never came. Where
nothing was tagged or doubted since such a mark, and after ``TAGS - 1`` of them in a row in any case, the last one is
used again, which is safe, as every reading asked for after mark *m* is a reading of *m*. So tags take one of ``TAGS``
values, and the remainder names the bucket. Where the balance lags behind by up to ``lag``, a bucket of credits is
dissolved only when the mark that closed it lies at least that long before the ask; there may then be up to ``RING`` of
them, opened no more often than ``lag / 8``.

Doubt
-----
Whenever a slot may be free although it is counted as taken, that is *doubt*, and a new reading settles it: calls on top
of a reading when it is installed (perhaps they are inside it too), and tasks seen to end that a reading under way, or
one they may be inside, may count as running. A task tagged before the installed mark is inside ``running`` only if it
still ran at the reading, which is known if it was seen running in a poll sent after the install. Then, and only then,
its end gives a slot back. Doubt carries the generation in which it arose; installing mark *m* ends the doubt of older
ones.

Own pools
---------
Where the provider does not say what runs, or the user says that nobody else uses the account, free slots are the limit
less our own calls that were not seen to end: no doubt, no refresh. Both sets of counters are kept, so that the rule can
change when a stranger shows.

Every function here takes a view of the counters and gives one transaction. Nothing else changes the books.
"""

from __future__ import annotations

from budgetguard._core import counters as c
from budgetguard._core.counters import Pool, View, tagged
from budgetguard._core.records import Record, Stage
from budgetguard._core.shares import Shares
from budgetguard.ports import Put, Transaction

__all__ = ["Books"]

_GENERATIONS = (c.GENERATION, c.MARK, c.CREDITS_GENERATION, c.CREDITS_BASE)
"""What must not have moved while an ending was worked out."""


class Books(Shares):
    """The rule, for one account. Holds no amounts; those are in the store."""

    __slots__ = ()

    # -- taking and giving back -------------------------------------------------------------------------------------

    def take(self, record: Record, *, within: int | None, forced: bool = False) -> Transaction:
        """Reserve a call's credits and, unless it only waits in line, its slots; *forced* asks no floor.

        *within* is how old the reading may be, in microseconds.
        """
        add: dict[str, int] = {}
        floor: dict[str, int] = {}
        if record.credits:
            add[c.CREDITS] = -record.credits
            floor[c.CREDITS] = self.credits_headroom
        if record.stage is Stage.WAITING:
            # Its slack does not count: whoever waited for it could wait for somebody behind him.
            add[c.WAITING] = record.credits
        else:
            if record.slack:
                add[c.SLACK] = record.slack
            if record.slots:
                pool = self.pool(record.pool)
                add[pool.slots] = -record.slots
                add[pool.open] = record.slots
                floor[pool.slots] = self.slots_headroom
                floor[pool.quiet] = 0  # a newcomer does not overtake the heads of other processes' lines
        return Transaction(
            add=add,
            floor={} if forced else floor,
            within={} if within is None or forced else {c.READ_AT: within},
            put={record.key: Put(record.dumps(), self.lease)},
        )

    def has_room(self, view: View, record: Record) -> bool:
        """Tell whether a call's credits and, unless it only waits in line, its slots are free."""
        if record.credits and view[c.CREDITS] - record.credits < self.credits_headroom:
            return False
        pool = self.pool(record.pool)
        return (
            record.in_line
            or not record.slots
            or (view[pool.slots] - record.slots >= self.slots_headroom and view[pool.quiet] >= 0)
        )

    def take_slots(self, record: Record, *, within: int | None, forced: bool = False) -> Transaction:
        """Give the head of the line its slots, if its credits still are there."""
        pool = self.pool(record.pool)
        after = record.moved(Stage.RESERVED)
        floor = {pool.slots: self.slots_headroom} if record.slots else {}
        if record.credits:
            floor[c.CREDITS] = self.credits_headroom
        add = {
            pool.slots: -record.slots,
            pool.open: record.slots,
            c.WAITING: -record.credits,
            c.SLACK: record.slack,
        }
        if record.stage is Stage.HEAD:
            add[pool.quiet] = 1
        return Transaction(
            add=add,
            floor={} if forced else floor,
            within={} if within is None or forced else {c.READ_AT: within},
            drop={record.key: record.dumps()},
            put={after.key: Put(after.dumps(), self.lease)},
        )

    def announce(self, record: Record) -> Transaction:
        """Let other processes know that the head of this line waits for a slot."""
        after = record.moved(Stage.HEAD)
        return Transaction(
            add={self.pool(record.pool).quiet: -1},
            drop={record.key: record.dumps()},
            put={after.key: Put(after.dumps(), self.lease)},
        )

    def renew(self, record: Record) -> Transaction:
        """Begin the lease of a call anew."""
        text = record.dumps()
        lease = record.task_lease if record.stage is Stage.ACCEPTED else self.lease
        return Transaction(drop={record.key: text}, put={record.key: Put(text, lease)})

    def release(self, record: Record) -> Transaction:
        """Give an open call back whole: it was not sent, or the provider did not take it."""
        add = {c.CREDITS: record.credits}
        if record.in_line or record.stage is Stage.IDLE:
            add[c.WAITING] = -record.credits
            if record.stage is Stage.HEAD:
                add[self.pool(record.pool).quiet] = 1
        else:
            if record.slack:
                add[c.SLACK] = -record.slack
            if record.slots:
                pool = self.pool(record.pool)
                add[pool.slots] = record.slots
                add[pool.open] = -record.slots
        return Transaction(add=add, drop={record.key: record.dumps()}, wake=True)

    # -- endings ----------------------------------------------------------------------------------------------------

    def accept(
        self,
        view: View,
        record: Record,
        charge: int,
        task_id: str,
        *,
        read_since: bool = False,
        late: bool = False,
        lost: Record | None = None,
    ) -> tuple[Transaction, Record]:
        """Tag a call that the provider took, at its *charge* (its price, where none was told).

        *read_since*: a reading was installed while it was open, and may count it too; from now on a new one can tell.
        *late*: its lease had ended meanwhile and its record is gone. What the end of the lease left of it, *lost*, is
        moved to this generation; what was left of it no more is counted anew, until the next reading.
        """
        generation, bucket = view[c.GENERATION], view[c.CREDITS_GENERATION]
        charge = record.credits if self.at_completion else charge
        add: dict[str, int] = {}
        if record.slots:
            self._accept_slots(add, view, record, late=late, lost=lost)
        self._accept_credits(add, view, record, charge, late=late, lost=lost)
        after = record.moved(Stage.ACCEPTED, credits=charge, task_id=task_id, tag=generation, credits_tag=bucket)
        if record.stage is Stage.IDLE and not late:
            add[c.WAITING] = -record.credits
        before = lost if late else record
        if read_since:
            self._doubt(add, view, record, charge)
        return (
            Transaction(
                add=add,
                expect={name: view[name] for name in _GENERATIONS},
                drop={} if before is None else {before.key: before.dumps()},
                put=after.puts(record.task_lease),
                wake=read_since or add.get(c.CREDITS, 0) > 0,
            ),
            after,
        )

    def _doubt(self, add: dict[str, int], view: View, record: Record, charge: int) -> None:
        """Note that the installed reading may count an accepted call a second time."""
        pool = self.pool(record.pool)
        if not self.at_completion:
            add[c.CREDITS_DOUBT] = charge
        if record.slots and not view[pool.own]:
            add[pool.doubts(view[c.GENERATION])] = record.slots

    def _accept_slots(
        self, add: dict[str, int], view: View, record: Record, *, late: bool, lost: Record | None
    ) -> None:
        pool, slots = self.pool(record.pool), record.slots
        tags = pool.tags(view[c.GENERATION])
        add[tags] = slots
        if not late:
            add[pool.open] = -slots
            add[pool.running] = slots
        elif lost is None:
            add[pool.slots] = -slots
            add[pool.running] = slots
        elif lost.tag >= view[c.MARK]:
            old = pool.tags(lost.tag)
            add[old] = add.get(old, 0) - slots
        elif not view[pool.own]:
            add[pool.slots] = -slots

    def _accept_credits(
        self, add: dict[str, int], view: View, record: Record, charge: int, *, late: bool, lost: Record | None
    ) -> None:
        if self.at_completion:
            if late and lost is None:
                add[c.CREDITS] = -charge
                add[c.SLACK] = record.slack
            return
        bucket = tagged(view[c.CREDITS_GENERATION])
        add[bucket] = charge
        add[c.CREDITS] = -charge
        if not late:
            add[c.CREDITS] = record.credits - charge
            add[c.SLACK] = -record.slack
        elif lost is not None and lost.credits_tag >= view[c.CREDITS_BASE]:
            old = tagged(lost.credits_tag)
            add[old] = add.get(old, 0) - record.credits
            add[c.CREDITS] = record.credits - charge

    def expire(self, view: View, record: Record) -> Transaction:
        """End a lease.

        An open call is tagged at its full price: the next reading shows what became of it. A call in line was never
        sent. What a reading does not show, a slot where the provider does not report them, or credits that are charged
        at completion, is kept as long as a task could run.
        """
        if record.in_line:
            return self.release(record)
        if record.stage is Stage.MOVED:
            return Transaction(drop=record.drops())
        if not record.is_open:
            return self.finish(view, record, seen_under=None, expired=True)
        generation, bucket = view[c.GENERATION], view[c.CREDITS_GENERATION]
        pool = self.pool(record.pool)
        add: dict[str, int] = {}
        put: dict[str, Put] = {}
        if not self.at_completion:
            add[tagged(bucket)] = record.credits
            if record.slack:
                add[c.SLACK] = -record.slack
        if record.slots:
            add[pool.open] = -record.slots
            add[pool.running] = record.slots
            add[pool.tags(generation)] = record.slots
        if record.stage is Stage.IDLE:
            add[c.WAITING] = -record.credits
        self._doubt(add, view, record, record.credits)
        if record.slots or self.at_completion:
            lost = record.moved(Stage.LOST, tag=generation, credits_tag=bucket)
            put = {lost.key: Put(lost.dumps(), record.task_lease)}
        return Transaction(
            add=add,
            expect={c.GENERATION: generation, c.CREDITS_GENERATION: bucket},
            drop={record.key: record.dumps()},
            put=put,
            wake=True,
        )

    def finish(
        self,
        view: View,
        record: Record,
        *,
        seen_under: int | None,
        failed: bool = False,
        charge: int | None = None,
        expired: bool = False,
        by_token: bool = False,
    ) -> Transaction:
        """End an accepted call: its task was seen to end, or its lease did (*expired*).

        *seen_under* is the mark that was installed when a poll was sent that showed the task running, the latest such.
        *charge* is what the answer says the task cost. *by_token*: whoever holds the permit is to find that out.
        """
        pool = self.pool(record.pool)
        add: dict[str, int] = {}
        if record.slots:
            seen = seen_under is not None and seen_under == view[c.MARK]
            self._finish_slots(add, view, record, pool, seen=seen, expired=expired)
        self._finish_credits(add, view, record, failed=failed, charge=charge)
        return Transaction(
            add=add,
            expect={name: view[name] for name in _GENERATIONS},
            put=Record(record.id, Stage.MOVED, 0, 0).puts(record.task_lease) if by_token else {},
            drop=record.drops(),
            wake=True,
        )

    def _finish_slots(
        self, add: dict[str, int], view: View, record: Record, pool: Pool, *, seen: bool, expired: bool
    ) -> None:
        generation, mark, slots = view[c.GENERATION], view[c.MARK], record.slots
        doubt = pool.doubts(generation)
        add[pool.running] = -slots
        tag = pool.tags(record.tag)
        if view[pool.own]:
            add[pool.slots] = slots
            if record.tag >= mark:
                add[tag] = -slots
            if mark < generation:
                # The reading under way may show it running; it is not a stranger.
                add[doubt] = slots
        elif expired:
            # Nobody knows whether it still runs. A reading under way or the next one will tell.
            add[doubt] = slots
        elif record.tag >= mark:
            add[tag] = -slots
            add[pool.slots] = slots
            if mark < generation:
                add[doubt] = slots
        elif seen:
            add[pool.base] = slots
            add[pool.slots] = slots
            if mark < generation:
                add[doubt] = slots
        else:
            add[doubt] = slots

    def _finish_credits(
        self, add: dict[str, int], view: View, record: Record, *, failed: bool, charge: int | None
    ) -> None:
        bucket = view[c.CREDITS_GENERATION]
        if self.at_completion:
            charged = 0 if failed and self.refund_failed else record.credits if charge is None else charge
            add[c.CREDITS] = record.credits - charged
            add[tagged(bucket)] = charged
            add[c.CREDITS_DOUBT] = charged
            if record.slack:
                add[c.SLACK] = -record.slack
            return
        if record.stage is Stage.LOST:
            return
        charged = 0 if failed and self.refund_failed else record.credits if charge is None else charge
        if charged != record.credits and record.credits_tag >= view[c.CREDITS_BASE]:
            add[tagged(record.credits_tag)] = charged - record.credits
            add[c.CREDITS] = record.credits - charged

    # -- pauses -----------------------------------------------------------------------------------------------------

    def pause(self, view: View, until: int) -> Transaction:
        """Send no call of this account before *until*; a longer pause stays."""
        return Transaction(add={c.PAUSE: until - view[c.PAUSE]}, expect={c.PAUSE: view[c.PAUSE]})

    def begin_anew(self, view: View, until: int) -> Transaction:
        """After the store forgot the account, send nothing before *until*, and nothing on what it remembers.

        A new life begins, so that whoever has not noticed yet does, and no reading of the old one is installed.
        """
        return Transaction(
            add={c.PAUSE: max(0, until - view[c.PAUSE]), c.READ_AT: -view[c.READ_AT]},
            expect={name: view[name] for name in (c.PAUSE, c.READ_AT, c.LIFE, c.HELD_BACK)},
            stamp=(c.LIFE, c.HELD_BACK),
        )

    def distrust(self, view: View) -> Transaction:
        """Say that the installed reading is wrong: nobody is admitted on it any more."""
        read_at = view[c.READ_AT]
        return Transaction(add={c.READ_AT: -read_at}, expect={c.READ_AT: read_at}, wake=True)
