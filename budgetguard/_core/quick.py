"""The quick path of one account in this process: plain calls, decided on the till. See `budgetguard._core.till`.

Each function does the whole of it or nothing, and says which; where it did nothing, the flows do it. None of them tells
observers anything, so an account somebody listens to has no quick path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from budgetguard._core import counters as c
from budgetguard._core.counters import View, micros
from budgetguard._core.records import PORTABLE, Record, clean, task_key
from budgetguard._core.search import insufficient
from budgetguard._core.serving import ServingAccount
from budgetguard._core.till import Draft, Till
from budgetguard.errors import InsufficientCredits
from budgetguard.model import TaskSeen, TaskState
from budgetguard.policy import Policy

__all__ = ["QuickAccount"]


_STILL = 1000
"""Microseconds for which what was said of an account may be said again."""


class QuickAccount(ServingAccount):
    """An account that decides plain calls by itself where it has a till. Safe to share between threads."""

    __slots__ = ("_max_stale", "_recheck_after")

    def __init__(self, name: str, policy: Policy, **terms: Any) -> None:
        super().__init__(name, policy, **terms)
        self._max_stale, self._recheck_after = micros(policy.max_stale), micros(policy.recheck_after)

    def moment(self) -> tuple[Till, int, int]:
        """Give the till, its last move, and until when what is said now may be said again if it makes no other."""
        return self._till, self._till.moves, self._till.now() + _STILL

    def take(self, owner: Callable[[], object], id: str, credits: int, slots: int) -> Draft | None:
        """Admit a plain call at once. Its lease begins anew as long as *owner* gives somebody who holds it."""
        till = self._till
        with till.lock:
            now = till.now()
            if not (till.is_open or till.open(now)):
                return None
            if till.life != self._life:
                self._learn()
                return None
            if now - till.read_at > self.max_age or (slots and self._line.waiting):
                return None
            calls = self._calls
            due = now + calls.lease
            return till.take(calls, self._credits_headroom, self._slots_headroom, id, credits, slots, due, owner)

    def _learn(self) -> None:
        """Learn the account's life from the long way, which looks at it with care; this call goes that way too."""
        if not self.forgotten:
            self._life = self.view[c.LIFE]

    def refusal(self, credits: int) -> InsufficientCredits | None:
        """Tell why a call cannot be paid, where the reading is young and nothing is on its way back."""
        till = self._till
        with till.lock:
            now, free = till.now(), till.credits
            if (
                not till.is_open
                or free - credits >= self._credits_headroom
                or now - till.read_at > self._recheck_after
                or not till.firm
                or till.life != self._life
                or self._line.waiting
            ):
                return None
            return insufficient(self, credits, View(till.counters, now), free, taken=free)

    def must_wait(self) -> bool:
        """Tell whether nobody can be let through before there is a new reading."""
        till = self._till
        with till.lock:
            read_at = till.counters.get(c.READ_AT, 0)
            return read_at <= 0 or till.now() - read_at > self._max_stale

    def settle(self, draft: Draft, charge: int) -> bool:
        """Accept a call that starts no task, and end it."""
        till, calls, line = self._till, self._calls, self._line
        with till.lock:
            if draft.shelf is not calls or not (till.is_open or till.open(till.now())) or till.mark != draft.mark:
                return False
            till.book(draft, calls, charge)
            if line.places:
                self._hand_on()
        if line.waiting > line.places or till.shared or self.watchers or self.many_lines:
            self._wake()
        return True

    def release(self, draft: Draft) -> bool:
        """Give a call back whole."""
        till, calls = self._till, self._calls
        with till.lock:
            if draft.shelf is not calls or not (till.is_open or till.open(till.now())):
                return False
            till.give_back(draft, calls)
            if self._line.places:
                self._hand_on()
        self._news()
        return True

    def hand_over(self, draft: Draft) -> Record | None:
        """Leave a call to the long way from here on; ``None`` if it has ended.

        Its lease begins anew, and is renewed by whoever holds it, or not at all.
        """
        till = self._till
        with till.lock:
            till.part_with(draft, till.now())
            if draft.word and draft.bucket < 0:
                return None
            return draft.record(self.task_lease)

    def withdraw(self, id: str) -> bool:
        """Give a call back that was taken, or waits, perhaps, before its holder could know of it. Harmless if not.

        ``False`` if only the long way can do it.
        """
        left = self.leave_line(id)
        draft = self._calls.get(id)
        return left if draft is None else self.release(draft)

    def accept(self, draft: Draft, charge: int, task_id: str = "") -> bool:
        """Accept a call; its slots stay with its task, or without one with its holder."""
        till, calls, tasks = self._till, self._calls, self._tasks
        name = clean(task_id) if task_id else draft.id
        with till.lock:
            now = till.now()
            if draft.shelf is not calls or not (till.is_open or till.open(now)) or till.mark != draft.mark:
                return False
            if task_id:
                # A permit's second record tells where it went, and a task that is known already needs another name.
                known = name in tasks or (till.written and task_key(name) in till.written)
                if known or draft.id.startswith(PORTABLE):
                    return False
                draft.task_id, draft.owner = name, None
            given = draft.credits > charge
            till.accept(draft, calls, charge, tasks, name, now + tasks.lease)
        if given:
            self._news()
        return True

    def end(self, draft: Draft) -> bool:
        """End an accepted call that started no task."""
        till, tasks = self._till, self._tasks
        with till.lock:
            if draft.shelf is not tasks or not (till.is_open or till.open(till.now())) or till.mark != draft.mark:
                return False
            till.finish(draft, tasks, draft.id, draft.charge)
            if self._line.places:
                self._hand_on()
        self._news()
        return True

    def finish(self, task: TaskSeen) -> bool:
        """End the task of an accepted call, which was seen to have ended; ``False`` if that is not known here."""
        draft = self._tasks.get(task.task_id)
        if draft is None:
            return False
        charge = task.charge
        if task.state is not TaskState.SUCCEEDED and self.books.refund_failed:
            charge = 0
        if not self._end(draft, task.task_id, charge):
            return False
        if self.seen:
            self.seen.pop(task.task_id, None)
        return True

    def _end(self, draft: Draft, name: str, charge: int | None) -> bool:
        till, tasks = self._till, self._tasks
        with till.lock:
            if draft.shelf is not tasks or not (till.is_open or till.open(till.now())) or till.mark != draft.mark:
                return False
            if charge is None:
                charge = draft.charge
            elif charge != draft.charge and draft.bucket != till.bucket:
                return False
            till.finish(draft, tasks, name, charge)
            if self._line.places:
                self._hand_on()
        self._news()
        return True

    def _news(self) -> None:
        """Something is free: let those look again who wait for it and are not served here, if anybody does."""
        line = self._line
        if line.waiting > line.places or self._till.shared or self.watchers or self.many_lines:
            self._wake()
