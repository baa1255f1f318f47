"""How long the head of a line may wait while there is room for it: promise 2, for those who wait.

Three kinds of room, each with its bound. They are looked at whenever the store or the provider changes; between changes
they stay as they are.

- *Said*: the store itself says that slots and credits are free, on a fresh reading. The head takes them within a few
  ways to the store, and one question for the balance it may be in the middle of.
- *Known*: nothing is under way, every end of a task was seen, nobody else uses the account; yet the store does not say
  so, because a reading counted something twice. The next reading or two find it, ``min_interval`` apart.
- *True*: the provider would take the call, whatever the guards know. The reading grows old after ``max_age``, and the
  next two find it.

Calls whose outcome nobody knows are held until their lease ends, by design: they take room like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from budgetguard._core import counters as c
from budgetguard._core.line import Ticket
from budgetguard._core.records import Record
from tests.search.mirror import Broken
from tests.search.scenario import SECOND

if TYPE_CHECKING:
    from tests.search.actors import Actor
    from tests.search.world import World

__all__ = ["Patience"]


class Patience:
    """Measures how long heads of lines wait beside free room."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._actors: dict[Ticket, Actor] = {}
        self._since: dict[tuple[Ticket, str], tuple[int, int]] = {}
        """Since when there is room of a kind, and when that ends by itself."""
        self.longest: dict[str, int] = {}
        self._bounds = _bounds(world)

    def waits(self, actor: Actor, ticket: Ticket) -> None:
        """Note whose ticket it is."""
        if actor.hold is not None and (ticket is actor.hold.ticket or ticket.is_place):
            self._actors[ticket] = actor
            self.look()

    def look(self) -> None:
        """Measure."""
        world = self._world
        found: dict[tuple[Ticket, str], int] = {}
        for process in world.processes:
            if not process.alive:
                continue
            for line in process.account.lines.values():
                head = line.head if len(line) else None
                actor = None if head is None else self._actors.get(head)
                if head is not None and actor is not None and not actor.done:
                    for kind, until in self._room(actor).items():
                        if until > world.now:
                            found[head, kind] = until
        for key in list(self._since):
            self._measure(key)
            if key not in found:
                del self._since[key]
        for key, until in found.items():
            since, ended = self._since.get(key, (world.now, until))
            self._since[key] = (since if ended > world.now else world.now, until)

    def _measure(self, key: tuple[Ticket, str]) -> None:
        world = self._world
        ticket, kind = key
        since, until = self._since[key]
        actor = self._actors[ticket]
        waited = min(world.now, until) - max(since, actor.process.asleep_until)
        if kind not in self._bounds or actor.done:
            return
        self.longest[kind] = max(self.longest.get(kind, 0), waited)
        if waited > self._bounds[kind]:
            raise Broken(
                "2 never under for long",
                f"{actor} waited {waited / SECOND:.3f} s at the head of the line though there was room ({kind}); "
                f"{self._bounds[kind] / SECOND:.3f} s are enough",
            )

    def _room(self, actor: Actor) -> dict[str, int]:
        """Tell which kinds of room there are for a head, and until when each of them lasts by itself."""
        world, hold = self._world, actor.hold
        assert hold is not None
        mirror, policy, provider = world.mirror, world.scenario.policy, world.provider
        entry = mirror.entries.get(f"r:{hold.id}")
        if entry is None or not entry.record.in_line or hold.quote.pool not in mirror.pools:
            return {}
        counters, pool = mirror.counters, mirror.pools[hold.quote.pool]
        slots, forever = hold.quote.slots, world.now + 10**15
        kinds: dict[str, int] = {}
        said = counters.get(pool.slots, 0) - slots >= policy.slots_headroom or not slots
        if said and (counters.get(c.CREDITS, 0) >= policy.credits_headroom or not hold.quote.credits):
            kinds["said"] = counters.get(c.READ_AT, 0) + int(policy.max_age * SECOND)
        if counters.get(pool.own, 0) and not said:
            return kinds  # others' ends are seen, or their leases end
        held_slots = held_credits = 0
        quiet = True
        for other in mirror.entries.values():
            record = other.record
            runs = self._runs(record)
            if record.is_open:
                quiet = False
                held_credits += record.credits
                held_slots += record.slots if record.pool == hold.quote.pool else 0
            elif record.in_line:
                held_credits += record.credits
            elif not runs:
                quiet = False
                held_credits += record.credits if world.scenario.at_completion else 0
        room = provider.room(hold.quote.pool)
        balance = provider.balance - provider.uncharged - held_credits
        if (room is None or room - held_slots - slots >= policy.slots_headroom) and (
            balance >= policy.credits_headroom or not hold.quote.credits
        ):
            kinds["true"] = forever
            if quiet:
                kinds["known"] = forever
        return kinds

    def _runs(self, record: Record) -> bool:
        attempt = self._world.mirror.attempts[record.id]
        return f"T{attempt.id}" in self._world.provider.tasks


def _bounds(world: World) -> dict[str, int]:
    scenario = world.scenario
    policy = scenario.policy
    slower = 3 if scenario.pace == "starved" else 1
    hop = scenario.hop * slower
    # What a process holds back for others, several times over.
    turn = 100_000
    asking = (
        turn + 2 * scenario.fetch * slower + hop * (6 + 2 * len(scenario.calls)) + int(policy.min_interval * SECOND)
    )
    broken_off = bool(scenario.kills or scenario.sleeps or scenario.questions) or any(
        call.cancel_at is not None for call in scenario.calls
    )
    claim = int((policy.credits_timeout + 2.0) * SECOND) if broken_off or scenario.fetch_fails else 0
    bounds = {"said": asking + 8 * hop + claim}
    too_slow = 2 * scenario.fetch * slower >= policy.credits_timeout * SECOND
    if scenario.kills or scenario.sleeps or scenario.fetch_fails or too_slow:
        return bounds
    bounds["true"] = bounds["said"] + 4 * (int(policy.max_age * SECOND) + asking) + claim + 4 * scenario.lag
    alone = not (scenario.foreign or scenario.strangers or scenario.top_ups or scenario.new_limits or scenario.lag)
    if alone and not any(call.fails for call in scenario.calls) and scenario.exact:
        bounds["known"] = bounds["said"] + 3 * asking + claim
    return bounds
