"""The accounting rule for readings: claim, mark, install. The theory stands at the head of the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from budgetguard._core import counters as c
from budgetguard._core.counters import MICROS, RING, TAGS, UNLIMITED, Pool, View, closed_at, pool_names, tagged
from budgetguard.model import Reading
from budgetguard.ports import Transaction

__all__ = ["Claim", "Readings"]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ask for one reading. Times in microseconds of the store's clock."""

    until: int
    mark: int
    asked_at: int
    life: int = 0
    """The life of the account in which it was made; 0 if it is the first mark, which begins one."""


class Readings:
    """The terms of an account, the names of its pools, and the part of the rule that has to do with readings."""

    __slots__ = (
        "_pools",
        "at_completion",
        "credits_headroom",
        "exclusive",
        "lag",
        "lease",
        "refund_failed",
        "reports_slots",
        "slots_headroom",
    )

    def __init__(
        self,
        *,
        credits_headroom: int = 0,
        slots_headroom: int = 0,
        exclusive: bool = False,
        reports_slots: bool = True,
        lag: int = 0,
        at_completion: bool = False,
        lease: float = 120.0,
        refund_failed: bool = False,
    ) -> None:
        self.credits_headroom = credits_headroom
        self.slots_headroom = slots_headroom
        self.exclusive = exclusive
        self.reports_slots = reports_slots
        self.lag = lag
        self.at_completion = at_completion
        self.lease = lease
        self.refund_failed = refund_failed
        self._pools: dict[str, Pool] = {}

    def pool(self, name: str) -> Pool:
        """Name the counters of a pool."""
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Pool(name)
        return pool

    def claim(self, view: View, seconds: float, salt: int = 0) -> tuple[Transaction, Claim]:
        """Claim the right to ask for a reading, for some seconds, and mark it.

        The store stamps the moment; whoever gets the claim sets its ``asked_at`` to that. *salt*, in microseconds,
        tells claims apart that are made from the same look.
        """
        generation, bucket = view[c.GENERATION], view[c.CREDITS_GENERATION]
        add: dict[str, int] = {}
        if generation - view[c.MARK] < TAGS - 1 and not self._is_blank(view):
            add[c.GENERATION] = 1
        stamp: tuple[str, ...] = (c.ASKED_AT,)
        opened = view[closed_at(bucket)]
        crowded = bucket - view[c.CREDITS_BASE] >= RING - 2
        if (add if not self.lag else view.now - opened >= self.lag // 8) and not crowded:
            add[c.CREDITS_GENERATION] = 1
            stamp = (c.ASKED_AT, closed_at(bucket + 1))
        until = view.now + int(seconds * MICROS) + salt
        claim = Claim(until, generation + add.get(c.GENERATION, 0), view.now, view[c.LIFE])
        add[c.CLAIM] = claim.until - view[c.CLAIM]
        expect = {
            c.CLAIM: view[c.CLAIM],
            c.ASKED_AT: view[c.ASKED_AT],
            c.GENERATION: generation,
            c.MARK: view[c.MARK],
            c.CREDITS_GENERATION: bucket,
            c.CREDITS_BASE: view[c.CREDITS_BASE],
            c.LIFE: view[c.LIFE],
        }
        if not view[c.LIFE]:
            stamp = (*stamp, c.LIFE)
        return Transaction(add=add, expect=expect, stamp=stamp), claim

    def _is_blank(self, view: View) -> bool:
        """Tell whether nothing happened since the last mark, which led to no reading: then it may be used again.

        A reading asked for now is one of that mark as well. Else a few that fail in a row would use up all marks there
        are, and the next good one would not settle what happened since the last of them.
        """
        generation, bucket = view[c.GENERATION], view[c.CREDITS_GENERATION]
        if generation == view[c.MARK] or view[tagged(bucket)] or view[c.CREDITS_DOUBT]:
            return False
        pools = map(self.pool, pool_names(view))
        return not any(view[pool.tags(generation)] or view[pool.doubts(generation)] for pool in pools)

    def unclaim(self, claim: Claim) -> Transaction:
        """Give the claim up: whoever asked will not install anything."""
        return Transaction(add={c.CLAIM: -claim.until}, expect={c.CLAIM: claim.until}, wake=True)

    def fail(self, view: View, claim: Claim, retry_in: int) -> Transaction:
        """Note that the reading failed; the next one is due *retry_in* microseconds from now."""
        return Transaction(
            add={
                c.CLAIM: -claim.until,
                c.FAILURES: 1,
                c.BACKOFF: view.now + retry_in - view[c.BACKOFF],
            },
            expect={c.CLAIM: claim.until, c.BACKOFF: view[c.BACKOFF], c.FAILURES: view[c.FAILURES]},
            wake=True,
        )

    def supersedes(self, view: View, claim: Claim) -> bool:
        """Tell whether a reading of this claim may be installed: none of its mark or a later one is.

        A mark of another life, or above the generation, was made before the store forgot the account.
        """
        same_life = not claim.life or claim.life == view[c.LIFE]
        return same_life and view[c.MARK] < claim.mark <= view[c.GENERATION]

    def install(self, view: View, claim: Claim, reading: Reading) -> Transaction:
        """Put a reading into force."""
        generation, mark = view[c.GENERATION], view[c.MARK]
        add: dict[str, int] = {c.MARK: claim.mark - mark}
        expect = {c.GENERATION: generation, c.MARK: mark, c.LIFE: view[c.LIFE]}
        self._install_credits(add, expect, view, claim, reading)
        for name in reading.pools:
            self._install_pool(add, expect, view, claim, reading, name)
        for name, value in ((c.FAILURES, 0), (c.BACKOFF, 0), (c.READ_AT, claim.asked_at)):
            add[name] = value - view[name]
            expect[name] = view[name]
        expect[c.CLAIM] = view[c.CLAIM]
        if view[c.CLAIM] == claim.until:
            add[c.CLAIM] = -claim.until
        return Transaction(add=add, expect=expect, wake=True)

    def _install_credits(
        self, add: dict[str, int], expect: dict[str, int], view: View, claim: Claim, reading: Reading
    ) -> None:
        base, newest = view[c.CREDITS_BASE], view[c.CREDITS_GENERATION]
        dissolved = 0
        oldest = base
        while oldest < newest and claim.asked_at - view[closed_at(oldest + 1)] >= self.lag:
            name = tagged(oldest)
            dissolved += view[name]
            add[name] = -view[name]
            expect[name] = view[name]
            oldest += 1
        expect[c.CREDITS_BASE] = base
        expect[c.CREDITS_GENERATION] = newest
        add[c.CREDITS_BASE] = oldest - base
        add[c.BALANCE] = reading.credits - view[c.BALANCE]
        add[c.CREDITS] = reading.credits - view[c.BALANCE] + dissolved
        on_top = sum(view[tagged(bucket)] for bucket in range(oldest, newest + 1))
        still_open = reading.credits - view[c.CREDITS] - add[c.CREDITS] - on_top - view[c.WAITING]
        for name, value in ((c.CREDITS_DOUBT, on_top), (c.CREDITS_OPEN, still_open)):
            add[name] = value - view[name]
            expect[name] = view[name]

    def _install_pool(
        self, add: dict[str, int], expect: dict[str, int], view: View, claim: Claim, reading: Reading, name: str
    ) -> None:
        pool, capacity = self.pool(name), reading.pools[name]
        limit = UNLIMITED if capacity.limit is None else capacity.limit
        inside, on_top = range(view[c.MARK], claim.mark), range(claim.mark, view[c.GENERATION] + 1)
        own = self.owns(view, claim, reading, name)
        base = limit if capacity.running is None else limit - capacity.running
        taken = view[pool.running] if own else sum(view[pool.tags(generation)] for generation in on_top)
        slots = (limit if own else base) - view[pool.open] - taken
        if own != bool(view[pool.own]):
            # Under another rule free slots depend on other counters, so none of them may move meanwhile.
            for counter in (pool.running, pool.open, pool.slots, *map(pool.tags, on_top)):
                expect[counter] = view[counter]
        values = {pool.limit: limit, pool.base: base, pool.own: int(own)}
        for generation in inside:
            values[pool.tags(generation)] = values[pool.doubts(generation)] = 0
        for counter, value in values.items():
            add[counter] = value - view[counter]
            expect[counter] = view[counter]
        add[pool.slots] = slots - view[pool.slots]
        if not own:
            for generation in on_top:
                add[pool.doubts(generation)] = view[pool.tags(generation)]
        if self.exclusive and not own and capacity.running is not None and not view[c.CAREFUL]:
            add[c.CAREFUL] = 1
            expect[c.CAREFUL] = 0

    def owns(self, view: View, claim: Claim, reading: Reading, name: str) -> bool:
        """Tell whether a pool's free slots are its limit less our own calls."""
        capacity, pool = reading.pools[name], self.pool(name)
        if capacity.running is None or not self.reports_slots:
            return True
        if not self.exclusive or view[c.CAREFUL]:
            return False
        # More runs than we own: a stranger. Open calls may be inside the reading, and tasks seen to end since the mark
        # too.
        since_mark = sum(view[pool.doubts(generation)] for generation in range(claim.mark, view[c.GENERATION] + 1))
        return capacity.running <= view[pool.open] + view[pool.running] + since_mark
