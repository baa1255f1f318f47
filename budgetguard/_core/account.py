"""What one process remembers of one account between two looks at the store.

Nothing here is the truth: the counters are the store's, and every transaction is checked there. It is the last look,
the local line, and who waits for news. The driver holds the account's lock whenever a flow runs, so flows need no
other.
"""

from __future__ import annotations

import itertools
import zlib
from collections import OrderedDict
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from budgetguard._core import counters as c
from budgetguard._core.counters import View, micros
from budgetguard._core.ledger import Books
from budgetguard._core.line import Line, Ticket
from budgetguard._core.readings import Claim
from budgetguard._core.records import Record, Stage, call_key
from budgetguard._core.steps import Flow, Load, Transact
from budgetguard.model import Quote, TaskSeen
from budgetguard.policy import Policy
from budgetguard.ports import Transacted, Transaction

__all__ = ["Account", "Hold", "Mould", "overtaken"]


_LIVE_MAX = 20_000
"""Most calls that are remembered as under way."""


class Hold:
    """One call on its way through the guard, from before its first step to its end.

    Whoever starts a flow makes the hold first, so that whatever happens, cleaning up can name what was reserved.
    """

    patient = False
    """Whether it waits while the provider runs nothing at all, instead of being refused."""
    number: int | None = None
    """Its place among those who came; kept when it goes back into the line."""
    record: Record | None = None
    mark = 0
    """The mark that was installed when it got what it holds."""
    ticket: Ticket | None = None
    claim: Claim | None = None
    """The right to ask for a reading, while it has it."""
    joined: int | None = None
    """When it joined the line, while it stands there."""
    refused_on: View | None = None
    """What was known when the provider refused it for want of credits."""
    sent = False
    outer: Hold | None = None
    """The hold around it, on which it draws."""
    share: tuple[int, int] = (0, 0)
    """Credits and slots it drew from there."""
    closed = False
    """Whether its end was said: nothing draws on it any more."""
    joins = 0
    """Calls that drew on it."""
    spent = 0
    """Credits those were charged, or may have been."""
    tasks: frozenset[str] = frozenset()
    """The tasks those became."""
    elsewhere = False
    """Whether it was found to be ended by its token, perhaps in another process."""
    started: int | None = None
    """When the flow first looked at the store's clock."""

    def __init__(
        self,
        id: str,
        quote: Quote,
        *,
        priority: int = 0,
        deadline: float | None = None,
        resendable: bool = True,
        tags: tuple[str, ...] = (),
    ) -> None:
        self.id = id
        self.quote = quote
        self.priority = priority
        self.deadline = deadline
        """Seconds from the start within which it must be sent."""
        self.resendable = resendable
        """Whether it can be sent again after a refusal."""
        self.tags = tags
        """The caller's own words for it."""

    @property
    def key(self) -> str:
        return call_key(self.id)

    def __repr__(self) -> str:
        return f"Hold({self.id}, {self.quote.credits} credits, {self.quote.slots} slots)"


class Mould:
    """What the first transactions of all calls have in common that ask for the same quote.

    Attributes:
        quote: What they ask for.
        transaction: That of one of them, which is not to be changed.
        rest: What stands in each of their records behind its name.
    """

    __slots__ = ("quote", "rest", "transaction")

    def __init__(self, quote: Quote, transaction: Transaction, rest: str) -> None:
        self.quote = quote
        self.transaction = transaction
        self.rest = rest

    def fits(self, quote: Quote) -> bool:
        """Whether a call asks for the same."""
        mine = self.quote
        return quote is mine or (
            quote.credits == mine.credits
            and quote.slots == mine.slots
            and quote.pool == mine.pool
            and quote.credits_min == mine.credits_min
            and quote.task_lease == mine.task_lease
        )


def overtaken(transaction: Transaction, done: Transacted) -> bool:
    """Tell whether a transaction that was not applied was worked out on counters that have moved since."""
    return any(done.counters.get(name, 0) != value for name, value in transaction.expect.items())


class Account:
    """One account as this process sees it."""

    __slots__ = (
        "__weakref__",
        "_heard",
        "_life",
        "_looks",
        "_numbers",
        "asking",
        "books",
        "ended",
        "forgotten",
        "herds",
        "lines",
        "listening",
        "live",
        "lock",
        "low",
        "many_lines",
        "max_age",
        "mould",
        "name",
        "policy",
        "seen",
        "stale",
        "task_lease",
        "view",
        "watchers",
        "why",
    )

    def __init__(
        self,
        name: str,
        policy: Policy,
        *,
        reports_slots: bool = True,
        at_completion: bool = False,
        settlement_lag: float = 0.0,
        task_lease: float = 3600.0,
        seen: MutableMapping[str, int] | None = None,
        ended: MutableMapping[str, TaskSeen] | None = None,
        listening: bool = True,
    ) -> None:
        lag = settlement_lag if policy.settlement_lag is None else policy.settlement_lag
        self.name = name
        self.policy = policy
        self.books = Books(
            credits_headroom=policy.credits_headroom,
            slots_headroom=policy.slots_headroom,
            exclusive=policy.exclusive,
            reports_slots=reports_slots,
            lag=micros(lag),
            at_completion=at_completion,
            lease=policy.lease,
            refund_failed=policy.refund_failed,
        )
        # As a record writes it: one that is read back must be written like this again.
        self.task_lease = float(task_lease if policy.task_lease is None else policy.task_lease)
        self.seen: MutableMapping[str, int] = {} if seen is None else seen
        """Tasks seen running: the mark that was installed when the poll was sent."""
        self.ended: MutableMapping[str, TaskSeen] = {} if ended is None else ended
        """Tasks that were seen to end and are not known: a webhook may come before the answer that names the task."""
        self.live: OrderedDict[str, int] = OrderedDict()
        """Calls this process was let through with and has not seen to end, and when that was."""
        self.max_age = micros(policy.max_age)
        """How old a reading may be to let a call through by, in microseconds."""
        self.listening = listening
        """Whether anybody wants events; without, none are made."""
        self.view = View({}, 0)
        """The latest look."""
        self._looks = self._heard = self._life = 0
        self.forgotten = False
        """Whether the store was found to have forgotten what this process remembers, and nobody has begun anew yet.

        It was emptied, or set back to older data.
        """
        self.why = ""
        """What went wrong with the last reading that failed here."""
        self.stale = False
        """Whether something changed in the store since the last look."""
        self.lines: dict[str, Line] = {}
        self.many_lines = False
        self.watchers: set[Ticket] = set()
        """Who waits for a reading or for time to pass."""
        self.asking: dict[int, int] = {}
        """How many questions for the balance are under way here, by process: a fork takes the flows along too."""
        self.herds: dict[int, Ticket] = {}
        """Those who wait for their end, one ticket for all threads (under 0) and one for each loop (under its id)."""
        self.low = 0
        """How many of the low-balance thresholds the free credits are below."""
        self.mould: Mould | None = None
        """What the last call that was let through by its first step asked for."""
        self.lock: AbstractContextManager[Any] = nullcontext()
        """Held by the driver while a flow runs; real where threads may meet."""
        self._numbers = itertools.count(1)

    def line(self, pool: str) -> Line:
        """Find the line of a pool."""
        line = self.lines.get(pool)
        if line is None:
            line = self.lines[pool] = Line()
            self.many_lines = len(self.lines) > 1
        return line

    def number(self) -> int:
        """Draw the next number of arrival."""
        return next(self._numbers)

    def let_through(self, hold: Hold) -> None:
        """Remember a call, for at most as long as its task may run."""
        live = self.live
        live[hold.id] = self.view.now
        if len(live) > _LIVE_MAX:
            live.popitem(last=False)

    def count_live(self) -> int:
        """Count the calls of this process that may be under way."""
        live, since = self.live, self.view.now - micros(self.task_lease)
        while live and live[next(iter(live))] <= since:
            live.popitem(last=False)
        return len(live)

    def begin_question(self, process: int) -> int:
        """Note that somebody of this process asks for the balance; gives what `end_question` is to be told."""
        self.asking[process] = self.asking.get(process, 0) + 1
        return process

    def end_question(self, process: int) -> int:
        """Note that he has his answer, and has installed it."""
        self.asking[process] -= 1
        if not self.asking[process]:
            del self.asking[process]
            for ticket in self.herds.values():
                ticket.wake()
            self.herds.clear()
        return 0

    def changed(self) -> list[Ticket]:
        """List who should look again now that the store says something changed."""
        self.stale = True
        heads = [line.head for line in self.lines.values()]
        return [*(head for head in heads if head is not None), *self.watchers]

    def record(self, hold: Hold, stage: Stage) -> Record:
        """Write down what a hold is to keep."""
        quote = hold.quote
        lease = self.task_lease if quote.task_lease is None else float(quote.task_lease)
        return Record(hold.id, stage, quote.credits, quote.slots, quote.pool, quote.slack, task_lease=lease)

    def transact(self, transaction: Transaction) -> Flow[Transacted]:
        """Apply a transaction and remember what the counters were then."""
        transaction.add[c.SERIAL] = 1
        number = self.number_look()
        done = yield from Transact(self.name, transaction)
        self.look(number, View(done.counters, done.now), changed=done.applied)
        return done

    def load(self) -> Flow[View]:
        """Look at the counters."""
        _, view = yield from self.find()
        return view

    def find(self, *keys: str, due: bool = False) -> Flow[tuple[dict[str, bytes], View]]:
        """Look at the counters, at some records, and with *due* at those whose lease has ended."""
        number = self.number_look()
        loaded = yield from Load(self.name, keys, due=due)
        view = View(loaded.counters, loaded.now)
        self.look(number, view)
        return loaded.records, view

    def number_look(self) -> int:
        """Number a look that is about to be sent."""
        self._looks += 1
        return self._looks

    def look(self, number: int, new: View, *, changed: bool = False) -> None:
        """Remember a look, if it is the latest; *number* says when it was sent.

        Answers may overtake each other, so what was sent before the latest look was heard is put in order by the
        serial. What was sent after it must show a later state (later by one, if it *changed* something), or the store
        has forgotten.
        """
        old = self.view
        if number > self._heard:
            if new[c.SERIAL] < old[c.SERIAL] + changed or (old[c.LIFE] and new[c.LIFE] != old[c.LIFE]):
                # Another process may have noticed first, and begun a new life.
                self.forgotten = not new[c.LIFE] > old[c.LIFE] or new[c.HELD_BACK] != new[c.LIFE]
                self.seen.clear()
            elif self.forgotten and new[c.LIFE] > self._life and new[c.HELD_BACK] == new[c.LIFE]:
                self.forgotten = False  # noticed by another process too, which has held everybody back
            self._life = max(self._life, new[c.LIFE])
        elif (old[c.LIFE] and new[c.LIFE] != old[c.LIFE]) or (new[c.SERIAL], new.now) < (old[c.SERIAL], old.now):
            return
        self.view = new
        self._heard = self._looks
        self.stale = False

    def forked(self) -> None:
        """Begin as a process that was forked: those who wait, and the calls under way, are the parent's."""
        self.lines.clear()
        self.many_lines = False
        self.watchers.clear()
        self.live.clear()
        self.asking.clear()
        self.herds.clear()
        self.stale = True

    def jitter(self, seed: str) -> float:
        """Spread retries of many processes: a number from 0 to 1, the same for the same seed."""
        return zlib.crc32(f"{self.name} {seed}".encode()) / 0xFFFFFFFF

    def backoff(self, attempt: int, seed: str) -> float:
        """Say how long to pause after the *attempt*-th failure in a row, in seconds."""
        policy = self.policy
        longest = min(policy.backoff_max, policy.backoff * 2.0 ** min(attempt - 1, 32))
        return longest * (0.5 + 0.5 * self.jitter(seed))

    def crossed(self, view: View) -> int | None:
        """Tell which low-balance threshold the free credits have just fallen below, if any."""
        free = view[c.CREDITS]
        below = [limit for limit in self.policy.low_balance if free < limit]
        before, self.low = self.low, len(below)
        return min(below) if len(below) > before else None

    def __repr__(self) -> str:
        view = self.view
        waiting = sum(len(line) for line in self.lines.values())
        return f"Account({self.name}, {view[c.CREDITS]} credits free, {view.held} held, {waiting} waiting)"
