"""The till: an account's free amounts at hand, so that a plain call is decided without a transaction.

Theory
------
Almost every call is plain: it has an exact price, stands in no job and no line, and the books are quiet: the reading is
young, no new one is under way, nobody waits and nothing pauses. What the ledger does to such a call is little: it moves
credits and slots from the free amounts to the open ones, then back or to the tags of the one generation there is.
While the till is *open*, these few amounts are kept here as plain numbers, and the counters they were taken from wait.
Before anybody looks at the counters the till is *closed*: what happened meanwhile is added to them, at once. So nobody
ever sees counters that lack something, and whatever moves a generation finds the till closed.

A call decided here has no record but a *draft*. Whoever asks for the record finds what the ledger would have put, and
may end it as any other; its holder then finds out. Its lease is not renewed while it is a draft: when it falls due,
whoever holds it either still does, and it begins anew, or is gone.

A call that lacks only slots may wait as a draft too: it holds its credits, and is given its slots here by whoever frees
some.

Every draft carries the mark that was installed when it was taken. It is ended here only under the same mark and no
later generation; then its ending is what `Books.accept` and `Books.finish` add for it (no doubt, no reading since),
which tests/core/test_till.py compares, transaction by transaction. Anything else goes the long way.

Nothing here is safe to share by itself: whoever uses it holds the till's lock. Each change is a few statements without
a call, so that not even an interrupt comes in between.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

from budgetguard._core import counters as c
from budgetguard._core.counters import Pool, tagged
from budgetguard._core.records import Record, Stage, call_key, task_key

__all__ = ["Draft", "Shelf", "Till"]

_POOL = Pool("")


class Draft:
    """What is held for one plain call, without a record. Changed only under the till's lock."""

    __slots__ = (
        "bucket",
        "charge",
        "credits",
        "due",
        "id",
        "mark",
        "owner",
        "shelf",
        "slots",
        "task_id",
        "waits",
        "word",
    )

    def __init__(
        self, id: str, credits: int, slots: int, mark: int, due: int, owner: Callable[[], object] | None, shelf: Shelf
    ) -> None:
        self.id = id
        self.credits = credits
        self.slots = slots
        self.waits = False
        """Whether it stands in line: it holds its credits, and not its slots yet."""
        self.mark = mark
        """The mark that was installed when it was taken, and the generation under which it is accepted."""
        self.due = due
        """When its lease ends, in microseconds of the store's clock."""
        self.owner = owner
        """Gives whoever holds it, or ``None`` once he is gone; a task, which lives by its lease alone, has none."""
        self.shelf: Shelf | None = shelf
        """Where it lies, as long as it may be ended on the quick path."""
        self.word = ""
        """How its holder ended it, once he did."""
        self.charge = 0
        """Credits it was charged, once it was accepted."""
        self.bucket = -1
        """The credits generation under which it was charged; -1 before."""
        self.task_id = ""

    def record(self, task_lease: float) -> Record:
        """Write it as a record; *task_lease* is how long its task is believed to run, in seconds."""
        if self.bucket < 0:
            stage = Stage.WAITING if self.waits else Stage.RESERVED
            return Record(self.id, stage, self.credits, self.slots, task_lease=task_lease)
        return Record(
            self.id,
            Stage.ACCEPTED,
            self.charge,
            self.slots,
            tag=self.mark,
            credits_tag=self.bucket,
            task_id=self.task_id,
            task_lease=task_lease,
        )

    def __repr__(self) -> str:
        return f"Draft({self.id}, {self.credits} credits, {self.slots} slots)"


class Shelf(dict[str, Draft]):
    """Drafts of one kind and one length of lease, by their names; so the first is the first to fall due.

    Args:
        lease: How long a draft here is believed, in microseconds.
        task_lease: The same for the task it becomes or is, in seconds.
        key: Names the record a draft here would be.
    """

    __slots__ = ("key", "lease", "task_lease")

    def __init__(self, lease: int, task_lease: float, key: Callable[[str], str]) -> None:
        super().__init__()
        self.lease = lease
        self.task_lease = task_lease
        self.key = key


class Till:
    """The free amounts of one account's only pool, while they are at hand.

    Args:
        counters: The account's, which it takes them from and puts them back into.
        lock: Held by whoever uses either.
        now: Tells the store's time, in microseconds.
        written: The keys of the records there are.
    """

    __slots__ = (
        "_credits",
        "_slots",
        "bucket",
        "charged",
        "counters",
        "credits",
        "firm",
        "is_open",
        "life",
        "lock",
        "mark",
        "moves",
        "now",
        "read_at",
        "running",
        "shared",
        "shelves",
        "slots",
        "waiting",
        "written",
    )

    def __init__(
        self,
        counters: dict[str, int],
        lock: AbstractContextManager[Any],
        now: Callable[[], int],
        written: Collection[str],
    ) -> None:
        self.counters = counters
        self.lock = lock
        self.now = now
        self.written = written
        self.shelves: dict[tuple[str, int, float], Shelf] = {}
        self.is_open = False
        self.moves = 0
        """Grows with everything that changes what is free, held or known of the account."""
        self.shared = False
        """Whether several guards watch the account."""
        self.credits = self._credits = 0
        """Free credits, and what they were when the till was opened."""
        self.slots = self._slots = 0
        """Free slots, and what they were."""
        self.charged = 0
        """Credits that were accepted since."""
        self.running = 0
        """Slots of calls that were accepted since, less those of tasks that ended."""
        self.waiting = 0
        """Credits of calls in line, less those of calls that left it since."""
        self.mark = self.life = self.read_at = self.bucket = -1
        """What the counters of these names were; -1 while the till is closed."""
        self.firm = False
        """Whether nothing but a new reading can give back credits that are not free."""

    def open(self, now: int) -> bool:
        """Take the amounts out of the counters; ``False`` where only the long way will do."""
        find = self.counters.get
        mark = find(c.MARK, 0)
        if (
            mark != find(c.GENERATION, 0)
            or find(c.READ_AT, 0) <= 0
            or find(c.PAUSE, 0) > now
            or find(_POOL.quiet, 0) < 0
            or _POOL.limit not in self.counters
        ):
            return False
        self.credits = self._credits = find(c.CREDITS, 0)
        self.slots = self._slots = find(_POOL.slots, 0)
        self.charged = self.running = self.waiting = 0
        self.read_at, self.life, self.bucket = find(c.READ_AT, 0), find(c.LIFE, 0), find(c.CREDITS_GENERATION, 0)
        self.firm = not (find(c.CREDITS_DOUBT, 0) or find(c.CREDITS_OPEN, 0) or find(c.SLACK, 0))
        self.mark, self.is_open = mark, True
        return True

    def close(self) -> None:
        """Put back what was taken out, with all that happened since. Does nothing while it is closed."""
        if not self.is_open:
            return
        counters, find = self.counters, self.counters.get
        opened = self._slots - self.slots - self.running
        tags, charged = _POOL.tags(self.mark), tagged(self.bucket)
        changed = {
            c.SERIAL: find(c.SERIAL, 0) + 1,
            c.CREDITS: self.credits,
            c.WAITING: find(c.WAITING, 0) + self.waiting,
            _POOL.slots: self.slots,
            _POOL.open: find(_POOL.open, 0) + opened,
            _POOL.running: find(_POOL.running, 0) + self.running,
            tags: find(tags, 0) + self.running,
            charged: find(charged, 0) + self.charged,
        }
        counters |= changed  # no call, after which an interrupt could come before it is closed
        self.mark, self.is_open = -1, False

    # -- moving amounts -----------------------------------------------------------------------------------------------

    def take(
        self,
        shelf: Shelf,
        credits_floor: int,
        slots_floor: int,
        id: str,
        credits: int,
        slots: int,
        due: int,
        owner: Callable[[], object],
    ) -> Draft | None:
        """Hold what a call needs, if neither amount falls below its floor."""
        credits_left, slots_left = self.credits - credits, self.slots - slots
        if credits_left < credits_floor or slots_left < slots_floor:
            return None
        draft = Draft(id, credits, slots, self.mark, due, owner, shelf)
        shelf[id], self.credits, self.slots = draft, credits_left, slots_left
        self.moves += 1
        return draft

    def queue(
        self, line: Shelf, credits_floor: int, id: str, credits: int, slots: int, due: int, owner: Callable[[], object]
    ) -> Draft | None:
        """Hold the credits of a call that is to wait for its slots, if they do not fall below their floor."""
        credits_left = self.credits - credits
        if credits_left < credits_floor:
            return None
        draft = Draft(id, credits, slots, self.mark, due, owner, line)
        waiting = self.waiting + credits
        draft.waits = True
        line[id], self.credits, self.waiting = draft, credits_left, waiting
        self.moves += 1
        return draft

    def serve(self, draft: Draft, line: Shelf, calls: Shelf, credits_floor: int, slots_floor: int, due: int) -> bool:
        """Give one that waits its slots, if its credits still are there."""
        slots_left, waiting, id = self.slots - draft.slots, self.waiting - draft.credits, draft.id
        if slots_left < slots_floor or (draft.credits and self.credits < credits_floor):
            return False
        del line[id]
        calls[id], draft.shelf, draft.due, draft.mark = draft, calls, due, self.mark
        self.slots, self.waiting, draft.waits = slots_left, waiting, False
        self.moves += 1
        return True

    def leave(self, draft: Draft, line: Shelf) -> None:
        """Give one that waits back whole."""
        credits, waiting = self.credits + draft.credits, self.waiting - draft.credits
        del line[draft.id]
        self.credits, self.waiting = credits, waiting
        draft.shelf, draft.waits, draft.word = None, False, "released"
        self.moves += 1

    def give_back(self, draft: Draft, shelf: Shelf) -> None:
        """Give an open draft back whole."""
        credits, slots = self.credits + draft.credits, self.slots + draft.slots
        del shelf[draft.id]
        self.credits, self.slots = credits, slots
        draft.shelf, draft.word = None, "released"
        self.moves += 1

    def book(self, draft: Draft, shelf: Shelf, charge: int) -> None:
        """Accept an open draft at its charge, and end it: no task goes on."""
        credits, charged = self.credits + draft.credits - charge, self.charged + charge
        slots = self.slots + draft.slots
        del shelf[draft.id]
        self.credits, self.charged, self.slots = credits, charged, slots
        draft.shelf, draft.charge, draft.word = None, charge, "settled"
        self.moves += 1

    def accept(self, draft: Draft, shelf: Shelf, charge: int, tasks: Shelf, name: str, due: int) -> None:
        """Accept an open draft at its charge; its slots stay with the task of this name."""
        credits, charged = self.credits + draft.credits - charge, self.charged + charge
        running = self.running + draft.slots
        del shelf[draft.id]
        tasks[name], draft.shelf, draft.due, draft.bucket = draft, tasks, due, self.bucket
        self.credits, self.charged, self.running = credits, charged, running
        draft.charge, draft.word = charge, "settled"
        self.moves += 1

    def finish(self, draft: Draft, tasks: Shelf, name: str, charge: int) -> None:
        """End the task of an accepted draft, which cost *charge* after all."""
        credits, charged = self.credits + draft.charge - charge, self.charged + charge - draft.charge
        slots, running = self.slots + draft.slots, self.running - draft.slots
        del tasks[name]
        self.credits, self.charged, self.slots, self.running = credits, charged, slots, running
        draft.shelf, draft.bucket = None, -1
        self.moves += 1

    # -- drafts -------------------------------------------------------------------------------------------------------

    def shelf(self, kind: Literal["calls", "line", "tasks"], lease: int, task_lease: float) -> Shelf:
        """Find the shelf of drafts of a kind with such leases."""
        key = task_key if kind == "tasks" else call_key
        return self.shelves.setdefault((kind, lease, task_lease), Shelf(lease, task_lease, key))

    def look(self, key: str) -> bytes | None:
        """Read the record a draft stands for, by the record's key."""
        name = key[2:]
        for shelf in self.shelves.values():
            draft = shelf.get(name)
            if draft is not None and shelf.key(name) == key:
                return draft.record(shelf.task_lease).dumps()
        return None

    def drop(self, key: str) -> None:
        """Forget a draft, by the record's key: the ledger has ended it."""
        name = key[2:]
        for shelf in self.shelves.values():
            if name in shelf and shelf.key(name) == key:
                shelf.pop(name).shelf = None

    def part_with(self, draft: Draft, now: int) -> None:
        """Leave a draft to the long way. It stays on its shelf until that ends it or makes a record of it."""
        shelf, name = draft.shelf, draft.task_id or draft.id
        draft.shelf = draft.owner = None
        if shelf is not None and name in shelf:
            del shelf[name]
            draft.due = now + shelf.lease
            shelf[name] = draft

    def due(self, now: int) -> list[str]:
        """List the records of drafts whose lease is over and whom nobody holds; of the others it begins anew."""
        found = []
        for shelf in self.shelves.values():
            for name, draft in list(itertools.takewhile(lambda item: item[1].due <= now, shelf.items())):
                if draft.owner is not None and draft.owner() is not None:
                    del shelf[name]
                    draft.due = now + shelf.lease
                    shelf[name] = draft
                else:
                    found.append(shelf.key(name))
        return found

    def keys(self) -> Iterator[str]:
        """List the records all drafts stand for."""
        return (shelf.key(name) for shelf in self.shelves.values() for name in shelf)

    @property
    def held(self) -> int:
        """How many drafts there are."""
        return sum(map(len, self.shelves.values()))
