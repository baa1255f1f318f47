"""Waiting on the quick path: who frees slots gives them to whoever comes next in line.

A plain call that lacks nothing but slots waits as a draft. It holds its credits and a *place*, a ticket among all the
others in the same line, so the order is that of the flows: first come, first served. Whoever ends a call on the till
hands the slots on there and then, which costs the next in line one wake-up and no transaction.

Only a quiet account serves like that. Where its head would have to look at something, an old reading, doubt, credits
that somebody else spent, the head goes on as a flow, from the place where it stands; those behind it stay. A waiter
therefore sleeps no longer than the reading keeps, or is woken when he becomes the head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import MICROS, Pool, View, micros
from budgetguard._core.line import Ticket
from budgetguard._core.till import Draft, Shelf, Till
from budgetguard.model import Quote
from budgetguard.policy import Policy

__all__ = ["Place", "ServingAccount"]

_POOL = Pool("")


class Place(Ticket):
    """A place in line that was had on the quick path."""

    __slots__ = ("draft", "joined", "until")

    def __init__(self, number: int, draft: Draft, joined: int) -> None:
        super().__init__(0, number)
        self.is_place = True
        self.draft = draft
        """What is held for whoever stands here; it waits no more once it has its slots."""
        self.joined = self.until = joined
        """When it joined the line, and until when it sleeps at most, in microseconds of the store's clock."""

    def is_deserted(self) -> bool:
        """Tell whether whoever stood here is gone without a word."""
        owner, is_over = self.draft.owner, self.is_over
        return (owner is not None and owner() is None) or (is_over is not None and is_over())


class ServingAccount(Account):
    """An account whose line is served from the till where it has one. Safe to share between threads.

    The till's lock comes before the account's own.
    """

    __slots__ = (
        "_calls",
        "_credits_headroom",
        "_life",
        "_line",
        "_slots_headroom",
        "_standing",
        "_tasks",
        "_till",
        "_wake",
        "is_quick",
    )

    _till: Till
    _calls: Shelf
    _standing: Shelf
    _tasks: Shelf
    _wake: Callable[[], None]

    def __init__(self, name: str, policy: Policy, **terms: Any) -> None:
        super().__init__(name, policy, **terms)
        self.is_quick = False
        """Whether there is a till, so that what is said below may be asked at all."""
        self._line = self.line("")
        self._credits_headroom, self._slots_headroom = policy.credits_headroom, policy.slots_headroom
        self._life = 0
        """The life of the account that this process knows."""

    def forked(self) -> None:
        """Begin as a process that was forked: the line is a new one too, and who waited is in the parent."""
        super().forked()
        self._line = self.line("")
        if self.is_quick:
            for draft in self._standing.values():
                draft.owner = None

    def attend(self, till: Till, wake: Callable[[], None]) -> None:
        """Decide plain calls on a till from here on, unless somebody listens or calls are charged at their end.

        Args:
            till: The account's, which every guard of the same store shares.
            wake: Lets everybody who waits for the account look again.
        """
        self._till, self._wake = till, wake
        lease = micros(self.policy.lease)
        self._calls = till.shelf("calls", lease, self.task_lease)
        self._standing = till.shelf("line", lease, self.task_lease)
        self._tasks = till.shelf("tasks", micros(self.task_lease), self.task_lease)
        self.is_quick = not self.listening and not self.books.at_completion

    def join_line(self, owner: Callable[[], object], id: str, credits: int, slots: int) -> Place | None:
        """Take a plain call's credits and a place in line, with which it may be served at once.

        Its lease begins anew as long as *owner* gives somebody who waits. ``None`` if only the long way can tell.
        """
        till, line = self._till, self._line
        with till.lock:
            now = till.now()
            if (
                not (till.is_open or till.open(now))
                or till.shared
                or till.life != self._life
                or now - till.read_at > self.max_age
                or slots > till.counters[_POOL.limit] - self._slots_headroom
            ):
                return None
            standing = self._standing
            with self.lock:
                if line.waiting >= self.policy.max_waiting:
                    return None
                draft = till.queue(standing, self._credits_headroom, id, credits, slots, now + standing.lease, owner)
                if draft is None:
                    return None
                place = Place(self.number(), draft, now)
                line.join(place)
                if line.head is place:
                    self._serve(now)
        return place

    def patience(self, place: Place) -> float | None:
        """Say for how many seconds to wait; ``None`` once it has its slots, or must go on as a flow: see `go_on`."""
        if not place.draft.waits:
            return None
        till, line = self._till, self._line
        with till.lock:
            now = till.now()
            is_open = till.is_open or till.open(now)
            with self.lock:
                head = line.head
                if is_open and head is place:
                    self._serve(now)
                draft = place.draft
                if not draft.waits or draft.shelf is not self._standing:
                    return None
                old_at = till.read_at + self.max_age
                if head is place and (not is_open or now > old_at or self._must_look(draft, now)):
                    return None
                until = now + micros(self.policy.lease / 3)
                if is_open and now <= old_at:
                    until = min(until, old_at + 1)
                longest = self.policy.max_wait
                if longest is not None:
                    until = min(until, place.joined + micros(longest))
                    if until <= now:
                        return None
                place.until = until
                return (until - now) / MICROS

    def _must_look(self, draft: Draft, now: int) -> bool:
        """Tell whether a head that is not served has to look at something."""
        till = self._till
        return (
            till.shared
            or till.life != self._life
            or draft.slots > till.counters[_POOL.limit] - self._slots_headroom
            or (draft.credits > 0 and till.credits < self._credits_headroom)
            or View(till.counters, now).doubt(_POOL) > 0
        )

    def go_on(self, place: Place) -> Hold | None:
        """Let it go on as a flow from the place where it stands; ``None`` if it has its slots."""
        if not place.draft.waits:
            return None
        till = self._till
        with till.lock, self.lock:
            draft = place.draft
            if not draft.waits:
                return None
            till.part_with(draft, till.now())
            self._line.entrust(place)
            hold = Hold(draft.id, Quote(draft.credits, draft.slots))
            hold.record = draft.record(self.task_lease)
            hold.number, hold.ticket, hold.joined, hold.started = place.order[1], place, place.joined, place.joined
            return hold

    def leave_line(self, id: str) -> bool:
        """Give a place up that was had, perhaps; ``False`` if the long way must give back what it holds.

        Harmless if there is none, or no more.
        """
        till, line = self._till, self._line
        with till.lock, self.lock:
            place = line.find(lambda ticket: isinstance(ticket, Place) and ticket.draft.id == id)
            if place is not None:
                line.leave(place)
            draft = self._standing.get(id)
            now = till.now()
            is_open = till.is_open or till.open(now)
            if draft is not None and draft.shelf is not None and is_open:
                till.leave(draft, self._standing)
                draft = None
            if is_open:
                self._serve(now, moved=place is not None)
            elif line.head is not None:
                line.head.wake()
            return draft is None

    def _hand_on(self) -> None:
        """Give what is free to whoever comes next. The till is open, and its lock is held."""
        with self.lock:
            self._serve(self._till.now())

    def _serve(self, now: int, *, moved: bool = False) -> None:
        """The same, with the account's lock held too; *moved* says that another is the head than before."""
        till, line, standing, calls = self._till, self._line, self._standing, self._calls
        old_at = till.read_at + self.max_age
        while (head := line.head) is not None and isinstance(head, Place) and head.is_place:
            draft = head.draft
            if draft.waits:
                if now > old_at or draft.shelf is not standing:
                    moved = True  # it has to look for itself
                    break
                due = now + calls.lease
                if not till.serve(draft, standing, calls, self._credits_headroom, self._slots_headroom, due):
                    moved = head.until > old_at + 1
                    break
            moved = True
            line.leave(head)
            head.wake()
        if moved and head is not None:
            head.wake()
