"""The schedule's own books: every record in the store and every attempt, put beside what the provider knows.

The inequality of promise 1
---------------------------
At every moment the guards may give out what the store says is free, and owe what they gave out before. So, after every
transaction,

    free + flying + reserved + waiting + running uncharged  <=  balance + foreign            (credits)
    free + flying + reserved + running                      <=  limit + foreign              (slots, of each pool)

*flying* are attempts that were sent and that the provider has not decided on yet, whether or not anybody still listens
for the answer; *reserved* and *waiting* are holds not sent yet. *balance* and *running* are the provider's, now. What a
guard could not know is on the right: what others took since the installed reading was taken (not asked for: the
schedule knows the moment), and that reading's *limit*, as the limit may have changed since. Where the reported balance
lags, others' spending counts from the moment the report reaches back to. Charges above the price count as others'
spending.

Where slots are the limit less our own calls, no reading says how many strangers run, so all of them are foreign; unless
the account was said to be exclusive and its reading showed more than our own calls could explain.
Attempts whose lease ended before they reached the provider (their process slept, or the network did) are strays: the
guards no longer believe in them, and the provider's taking one counts as others' spending. So does a task that still
runs after its lease. What a task will be charged at its end counts as owed from its start.

A call that the provider refuses for want of credits or of a slot must be explained by the same right side: since the
last time anybody took something, others must have taken more than the headroom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from budgetguard._core import counters as c
from budgetguard._core.counters import Pool, View, tagged
from budgetguard._core.records import Record, Stage
from budgetguard.model import Outcome
from budgetguard.policy import Policy
from budgetguard.ports import Transacted, Transaction
from tests.search.provider import Attempt, Provider, Snapshot

__all__ = ["Broken", "Entry", "Mirror"]


class Broken(AssertionError):
    """A promise was broken."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise


@dataclass(slots=True)
class Entry:
    """A record in the store, and when its lease ends."""

    record: Record
    due: int | None


@dataclass(slots=True)
class _Grounds:
    """The reading in force when something was last taken."""

    snapshot: Snapshot | None
    own: bool
    forced: bool


class Mirror:
    """Follows the store, transaction by transaction."""

    def __init__(self, provider: Provider, policy: Policy) -> None:
        self.provider = provider
        self.policy = policy
        self.entries: dict[str, Entry] = {}
        self.attempts: dict[str, Attempt] = {}
        self.flying: set[Attempt] = set()
        self.snapshot: Snapshot | None = None
        """The reading in force."""
        self.counters: Mapping[str, int] = {}
        self.pools = {name: Pool(name) for name in provider.limits}
        self.charges = [call.charge for call in provider.scenario.calls]
        self.trusting = dict.fromkeys(provider.limits, True)
        """Whether all that the reading in force shows to run may be ours."""
        self._ours_most: dict[str, dict[int, int]] = {name: {} for name in provider.limits}
        """The most that ran of ours at any moment since a reading was asked for, by its mark."""
        self.forced = False
        self._credits_grounds = _Grounds(None, own=False, forced=False)
        self._slots_grounds = {name: _Grounds(None, own=False, forced=False) for name in provider.limits}

    # -- following --------------------------------------------------------------------------------------------------

    def follow(self, transaction: Transaction, done: Transacted, snapshot: Snapshot | None) -> None:
        """Apply to the mirror what was applied to the store. *snapshot* is the reading the transaction may install."""
        now, before = done.now, self.counters
        dropped = [self.entries.pop(key) for key in transaction.drop]
        put: list[Record] = []
        for key, text in transaction.put.items():
            record = Record.loads(text.value)
            put.append(record)
            self.entries[key] = Entry(record, None if text.lease is None else now + int(text.lease * c.MICROS))
            if record.id not in self.attempts:
                attempt = Attempt(record.id, record.credits, record.credits, record.slots, record.pool)
                if record.id.startswith("c"):
                    attempt.charge = self.charges[attempt.call]
                self.attempts[record.id] = attempt
            attempt = self.attempts[record.id]
            if attempt.state == "idle":
                # A call in a job may first be admitted with what it needs beyond that.
                attempt.credits, attempt.slots = record.credits, record.slots
        kept = {record.id for record in put}
        for entry in dropped:
            if entry.due is not None and entry.due <= now:
                self._lapsed(entry.record, kept)
        if done.counters.get(c.MARK, 0) != before.get(c.MARK, 0):
            assert snapshot is not None
            self.snapshot = snapshot
            for name in self.pools:
                running = snapshot.reading.pools[name].running
                most = self._ours_most[name]
                self.trusting[name] = running is None or running <= most.get(done.counters[c.MARK], 0)
                for mark in [mark for mark in most if mark <= done.counters[c.MARK]]:
                    del most[mark]
        self.counters = done.counters
        claimed = transaction.add.get(c.CLAIM, 0) > 0
        for name, pool in self.pools.items():
            after = View(done.counters, now)
            most = self._ours_most[name]
            if claimed:
                most.setdefault(after[c.GENERATION], 0)
            for mark in most:
                ended = sum(after[pool.doubts(since)] for since in range(mark, after[c.GENERATION] + 1))
                most[mark] = max(most[mark], after[pool.open] + after[pool.running] + ended)
        self._note_grounds(transaction, put, dropped)

    def _lapsed(self, record: Record, kept: set[str]) -> None:
        attempt = self.attempts[record.id]
        if record.in_line or record.stage is Stage.RESERVED:
            if attempt.state == "flying":
                attempt.stray = True
        elif record.id not in kept:
            for task in self.provider.tasks.values():
                if task.attempt is attempt:
                    self.provider.neglect(task)

    def _note_grounds(self, transaction: Transaction, put: list[Record], dropped: list[Entry]) -> None:
        """Remember what a call was given something on: refusals by the provider are judged by it."""
        before = dropped[0].record.stage if dropped else None
        for record in put:
            given = record.stage is Stage.RESERVED and before not in (Stage.RESERVED, Stage.IDLE)
            if not given and not (record.in_line and before is None):
                continue
            forced = not transaction.floor and not transaction.within and bool(record.credits or record.slots)
            self.forced = self.forced or forced
            if record.credits:
                self._credits_grounds = _Grounds(self.snapshot, own=False, forced=forced)
            if given and record.slots and record.pool in self.pools:
                self._slots_grounds[record.pool] = _Grounds(self.snapshot, own=self._own(record.pool), forced=forced)
            if given and before is None and record.slots and not forced:
                self._check_newcomer(record)

    def _check_newcomer(self, record: Record) -> None:
        for entry in self.entries.values():
            head = entry.record
            if head.stage is Stage.HEAD and head.pool == record.pool:
                raise Broken("first come, first served", f"{record.id} came later than {head.id}, who heads a line")

    def sent(self, id_: str) -> Attempt:
        """Note that an attempt is on its way to the provider."""
        attempt = self.attempts[id_]
        attempt.state = "flying"
        attempt.stray = f"r:{id_}" not in self.entries
        self.flying.add(attempt)
        return attempt

    def decided(self, attempt: Attempt) -> None:
        """Note that an attempt is no longer on its way."""
        self.flying.discard(attempt)

    # -- promise 1 --------------------------------------------------------------------------------------------------

    def owed_credits(self) -> int:
        """Count what was given out and is not inside the provider's balance yet."""
        owed = sum(attempt.credits for attempt in self.flying if not attempt.stray)
        for entry in self.entries.values():
            record = entry.record
            if record.in_line or (record.is_open and self._idle(record)):
                owed += record.credits
        return owed + self.provider.uncharged - self.provider.unforeseen

    def owed_slots(self, pool: str) -> int:
        """Count the slots that were given out and do not run at the provider yet."""
        owed = sum(attempt.slots for attempt in self.flying if attempt.pool == pool and not attempt.stray)
        for entry in self.entries.values():
            record = entry.record
            if record.pool == pool and record.stage is Stage.RESERVED and self._idle(record):
                owed += record.slots
        return owed

    def _idle(self, record: Record) -> bool:
        return self.attempts[record.id].state == "idle"

    def check_never_over(self) -> None:
        """See the inequality at the head of this module."""
        snapshot = self.snapshot
        if snapshot is None:
            return
        counters, provider = self.counters, self.provider
        foreign = provider.foreign_credits - snapshot.foreign_credits
        free, owed = counters.get(c.CREDITS, 0), self.owed_credits()
        if free + owed > provider.balance + foreign:
            raise Broken(
                "1 never over",
                f"{free} credits free and {owed} owed, but the balance is {provider.balance} (others took {foreign})",
            )
        for name, pool in self.pools.items():
            limit = snapshot.reading.pools[name].limit
            if limit is None:
                continue
            free, owed, running = counters.get(pool.slots, 0), self.owed_slots(name), provider.running(name)
            foreign = self._foreign_slots(name, snapshot, own=self._own(name))
            if free + owed + running > limit + foreign:
                raise Broken(
                    "1 never over",
                    f"{free} slots free in pool {name!r}, {owed} owed, {running} run of {limit} (foreign {foreign})",
                )

    def _own(self, pool: str) -> bool:
        return bool(self.counters.get(self.pools[pool].own, 0)) and self.trusting[pool]

    def _foreign_slots(self, pool: str, snapshot: Snapshot, *, own: bool) -> int:
        provider = self.provider
        if own:
            return provider.strangers(pool) + provider.overdue(pool)
        return provider.strangers(pool, after=snapshot.serial)

    def check_refusal(self, attempt: Attempt, outcome: Outcome) -> None:
        """A refusal by the provider must have its reason in what others did."""
        if attempt.stray or attempt.charge > attempt.credits:
            return
        provider, policy = self.provider, self.policy
        if outcome is Outcome.INSUFFICIENT:
            grounds, headroom = self._credits_grounds, policy.credits_headroom
            if grounds.forced or self.forced or grounds.snapshot is None:
                return
            excuse = provider.foreign_credits - grounds.snapshot.foreign_credits + provider.unforeseen
        else:
            grounds, headroom = self._slots_grounds[attempt.pool], policy.slots_headroom
            if grounds.forced or self.forced or grounds.snapshot is None:
                return
            before, now = grounds.snapshot.reading.pools[attempt.pool].limit, provider.limits[attempt.pool]
            excuse = self._foreign_slots(attempt.pool, grounds.snapshot, own=grounds.own)
            excuse += 0 if before is None or now is None else before - now
        if excuse <= headroom:
            raise Broken(
                "1 never over", f"the provider refused {attempt.id} for {outcome}, though others took {excuse}"
            )

    # -- the books balance ------------------------------------------------------------------------------------------

    def check_books(self, *, at_completion: bool) -> None:
        """The counters say the same as the records."""
        counters = self.counters
        waiting = slack = held = 0
        opened = dict.fromkeys(self.pools, 0)
        running = dict.fromkeys(self.pools, 0)
        heads = dict.fromkeys(self.pools, 0)
        for entry in self.entries.values():
            record = entry.record
            if record.in_line:
                waiting += record.credits
                heads[record.pool] += record.stage is Stage.HEAD
            elif record.stage is Stage.IDLE:
                waiting += record.credits
            elif record.stage is Stage.RESERVED:
                held += record.credits
                slack += record.slack
                opened[record.pool] += record.slots
            else:
                running[record.pool] += record.slots
                if at_completion:
                    held += record.credits
                    slack += record.slack
        tags = sum(
            counters.get(tagged(g), 0)
            for g in range(counters.get(c.CREDITS_BASE, 0), counters.get(c.CREDITS_GENERATION, 0) + 1)
        )
        found = {"waiting": waiting, "held": waiting + held + tags, "slack": slack}
        said = {
            "waiting": counters.get(c.WAITING, 0),
            "held": counters.get(c.BALANCE, 0) - counters.get(c.CREDITS, 0),
            "slack": counters.get(c.SLACK, 0),
        }
        for name, pool in self.pools.items():
            found[f"open {name}"], said[f"open {name}"] = opened[name], counters.get(pool.open, 0)
            found[f"heads {name}"], said[f"heads {name}"] = heads[name], -counters.get(pool.quiet, 0)
            found[f"running {name}"], said[f"running {name}"] = running[name], counters.get(pool.running, 0)
            if self.snapshot is not None:
                own = bool(counters.get(pool.own, 0))
                taken = running[name] if own else sum(counters.get(pool.tags(tag), 0) for tag in range(c.TAGS))
                found[f"slots {name}"] = counters.get(pool.limit if own else pool.base, 0) - opened[name] - taken
                said[f"slots {name}"] = counters.get(pool.slots, 0)
        if found != said:
            wrong = {name: f"{said[name]} instead of {found[name]}" for name in found if found[name] != said[name]}
            raise Broken("the books balance", str(wrong))
