"""The promises that are about time, order and events; the inequality of promise 1 is the mirror's.

Promise 2, never under for long
-------------------------------
*Refusals.* `InsufficientCredits` is never raised on a reading that was not asked for after the call came, or within
``recheck_after`` of its coming. And it is true: at some moment since then, the balance less what calls under way had
been promised was less than the call needed, leaving aside what came in since the reading was taken. Where calls were
counted twice all the while, the call must have seen some newer readings first. Not looked at where the guards cannot
know: outcomes unknown, a lagging balance, processes that died or slept.

*Waiting.* See `tests.search.patience`.

Promise 4, one look for all: never two questions for the balance by guards at once, unless one outlives its claim.

Order: a call is never admitted while another of the same process, pool and priority or a higher one has stood in line
since before it came.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from budgetguard import events
from budgetguard._core import counters as c
from budgetguard._core.line import Ticket
from budgetguard.errors import InsufficientCredits, Refused
from budgetguard.events import Event
from budgetguard.ports import Transacted, Transaction
from tests.search.mirror import Broken
from tests.search.patience import Patience
from tests.search.provider import Attempt
from tests.search.scenario import SECOND

if TYPE_CHECKING:
    from tests.search.actors import Actor
    from tests.search.world import World

__all__ = ["Watch"]

_LOOKS = 8
"""How many readings a call in a job must have seen before it may be refused although each counted something twice."""


class Watch:
    """Looks on while a schedule runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counted: Counter[str] = Counter()
        self.ended: dict[str, list[str]] = {}
        self.truth: list[tuple[int, int]] = []
        """What the guards could have given out in credits if nothing had come in, whenever it changed."""
        self.installed: list[tuple[int, int]] = []
        """When readings were installed, and what had come in by the time they were taken."""
        self.in_line: dict[Actor, tuple[Ticket, int]] = {}
        """Calls in line: their place, and since when they have it."""
        self.doubtful = False
        """Whether something happened that lets the guards hold credits for longer than truth would ask."""
        self.asked_at: int | None = None
        self._cut: set[str] = set()
        self._claims: dict[Actor, int] = {}
        self._inside = {number for job in world.scenario.jobs for number in job.calls}
        self.patience = Patience(world)

    # -- following --------------------------------------------------------------------------------------------------

    def transacted(self, actor: Actor, transaction: Transaction, done: Transacted) -> None:
        world = self.world
        mirror = world.mirror
        if transaction.add.get(c.MARK):
            assert mirror.snapshot is not None
            self.installed.append((done.now, mirror.snapshot.gains))
        if transaction.add.get(c.CLAIM, 0) > 0:
            self._claimed(actor, done)
        mirror.check_never_over()
        if world.books:
            mirror.check_books(at_completion=world.scenario.at_completion)
        self.changed()

    def changed(self) -> None:
        """The store or the provider changed."""
        world = self.world
        mirror = world.mirror
        promised = sum(
            entry.record.credits
            for entry in mirror.entries.values()
            if (entry.record.in_line or entry.record.is_open) and mirror.attempts[entry.record.id].state != "accepted"
        )
        free = world.provider.balance - world.provider.uncharged - promised - world.provider.gains
        if not self.truth or self.truth[-1][1] != free:
            self.truth.append((world.now, free))
        self.patience.look()

    def told(self, actor: Actor, event: Event) -> None:
        name = type(event).__name__
        self.counted[name] += 1
        if self.world.trace is not None:
            self.world.say(actor, f"tells {event}")
        if isinstance(event, events.Settled | events.Released | events.OutcomeUnknown):
            self.ended.setdefault(event.reservation, []).append(name)
        elif isinstance(event, events.Admitted):
            self._let_through(event.reservation)
            self._admitted(actor)
        elif isinstance(event, events.Joined):
            self._let_through(event.reservation)
        elif isinstance(event, events.Queued) and actor.hold is not None and actor.hold.ticket is not None:
            self.in_line[actor] = actor.hold.ticket, self.world.now
        elif isinstance(event, events.Paused) and event.reason == "store_forgot":
            raise Broken("2 never under for long", "the account is paused as if the store had forgotten it")
        elif isinstance(event, events.Expired):
            self._cut.add(event.reservation)
        if isinstance(event, events.OutcomeUnknown):
            self.doubtful = True

    def _let_through(self, name: str) -> None:
        """A call in a job may be told of several times: what it needs beyond the job, and that it drew on it."""
        told = self.ended.setdefault(name, [])
        if not (self._is_inside(name) and told and told[-1] == "Admitted"):
            told.append("Admitted")

    def _is_inside(self, name: str) -> bool:
        number = re.match(r"c(\d+)", name)
        return number is not None and int(number[1]) in self._inside

    def _last_try(self, name: str, told: list[str]) -> list[str]:
        """Leave out what a call in a job was admitted with in vain: others drew on the job meanwhile."""
        while self._is_inside(name) and told[:2] == ["Admitted", "Released"] and len(told) > 2:
            told = told[2:]
        return told

    def sent(self, attempt: Attempt) -> None:
        attempt.admissions += 1
        if attempt.admissions > 1:
            raise Broken("a hold ends once", f"{attempt.id} was sent twice")

    def cut(self, actor: Actor) -> None:
        """Somebody was cancelled, or killed, in the middle of something."""
        self.in_line.pop(actor, None)
        if actor.hold is not None:
            self._cut.add(actor.hold.id)

    def cancelled(self, actor: Actor) -> None:
        self.cut(actor)
        if actor.hold is not None and actor.hold.sent:
            self.doubtful = True

    def check_events(self) -> None:
        """Every call that was let through came to one end, and was told of."""
        if not self.world.scenario.listening:
            return
        for id_, every in self.ended.items():
            told = self._last_try(id_, every)
            admissions, endings = told.count("Admitted"), len(told) - told.count("Admitted")
            whole = (admissions, endings) == (1, 1) or told in (["Released"], [])
            if not whole and not (id_ in self._cut and admissions <= 1 and endings <= 1):
                raise Broken("a hold ends once", f"of {id_} was told: {told}")

    # -- order ------------------------------------------------------------------------------------------------------

    def _admitted(self, actor: Actor) -> None:
        self.in_line.pop(actor, None)
        hold = actor.hold
        if hold is None or not hold.quote.slots:
            return
        for other, (place, since) in self.in_line.items():
            before = other.hold
            if (
                before is not None
                and before.ticket is place
                and not other.done
                and other.process is actor.process
                and before.quote.pool == hold.quote.pool
                and before.priority >= hold.priority
                and since < actor.started
            ):
                raise Broken("first come, first served", f"{actor} was admitted before {other}")

    # -- promise 4 --------------------------------------------------------------------------------------------------

    def _claimed(self, actor: Actor, done: Transacted) -> None:
        policy, asked = self.world.scenario.policy, done.now
        # It is counted from the look before, which may be some ways to the store old; older if the process slept.
        until = asked + int((policy.credits_timeout + 2.0) * SECOND) - 10 * self.world.scenario.hop
        self._claims[actor] = done.counters[c.CLAIM] if self.world.scenario.sleeps else until
        apart = policy.min_interval * SECOND
        if actor.name.startswith("question"):
            self.counted["asked by user"] += 1
        elif self.asked_at is not None and asked - self.asked_at < apart:
            raise Broken("4 one look for all", f"two readings {(asked - self.asked_at) / SECOND} s apart")
        self.asked_at = asked

    def fetching(self, actor: Actor) -> None:
        self.counted["fetches"] += 1
        for other in self.world.fetches:
            if self._claims.get(other, 0) > self.world.now + 1:
                raise Broken("4 one look for all", f"{actor} asks for the balance while {other} does")
            self.counted["fetches that outlived their claim"] += 1

    # -- promise 2: refusals ----------------------------------------------------------------------------------------

    def refused(self, actor: Actor, refused: Refused) -> None:
        self.counted[type(refused).__name__] += 1
        self.in_line.pop(actor, None)
        if not isinstance(refused, InsufficientCredits):
            return
        scenario, hold = self.world.scenario, actor.hold
        assert hold is not None
        # The store's clock is one ahead of the world's, and seconds are not exact.
        read_at = None if refused.read_at is None else round(refused.read_at * SECOND) - 2
        if read_at is None or refused.age is None:
            raise Broken("2 never under for long", "InsufficientCredits without a reading")
        if (
            refused.age > scenario.policy.recheck_after + 1e-9
            and read_at < actor.started - scenario.policy.recheck_after * SECOND
        ):
            raise Broken("2 never under for long", f"InsufficientCredits on a reading {refused.age} s old")
        if scenario.lag or self.doubtful or scenario.not_sent or scenario.kills or scenario.sleeps:
            return
        if not scenario.tells_charge and any(call.charge != call.quote.credits for call in scenario.calls):
            return
        needed = refused.needed + scenario.policy.credits_headroom
        held = refused.needed if f"r:{hold.id}" in self.world.mirror.entries else 0
        shown = min(gains for _, gains in self.installed[-2:])
        free = self._least_free(max(read_at, actor.started)) + shown + held
        if free < needed:
            return
        looks = sum(1 for moment, _ in self.installed if moment > actor.started)
        if hold.outer is None or looks < _LOOKS:
            raise Broken(
                "2 never under for long",
                f"{refused} But {free} could have been had all the while, and it looked only {looks} times.",
            )
        self.counted["refused in doubt, in a job"] += 1

    def _least_free(self, since: int) -> int:
        least = self.truth[-1][1]
        for moment, free in reversed(self.truth):
            least = min(least, free)
            if moment < since:
                break
        return least
