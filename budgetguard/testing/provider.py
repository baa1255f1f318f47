"""A prepaid account with slots, as a provider keeps it: credits, a limit, a queue, and tasks that take time.

No HTTP here. The account never runs by itself: whoever looks at it first brings it to the clock's present, through a
heap of what falls due (ends of tasks, strangers leaving, deadlines), each handled at its own moment. So a manual clock
moved by an hour gives the same story as an hour of real time, and nothing needs a thread.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from budgetguard._settings import whole
from budgetguard.errors import SettingError
from budgetguard.testing.clock import Clock
from budgetguard.testing.journal import Fact, Journal
from budgetguard.testing.task import AccountState, Duration, FakeTask, Mode, Phase, Refusal, seconds_of

__all__ = ["PrepaidAccount"]


class PrepaidAccount:
    """Credits, slots and tasks of one organisation. Since 0.1.

    Every method may be called from any thread; each is atomic, under the account's one lock. Functions given as
    *duration* and *listener* run under it: they must be quick and must not call the account.

    Args:
        credits: The balance to begin with.
        limit: Most tasks running at once; ``None`` for no limit.
        mode: What becomes of a submit that finds no free slot: ``"queue"`` accepts it and lets it wait, first in
            first out; ``"reject"`` refuses it.
        clock: What time it is.
        journal: Where things are written down.
        rng: The only source of chance.
        duration: Seconds a task takes; see `Duration`.
        listener: Told of every change of a task: the task, what it came to, and when.
        stages: Names and moments, as fractions of a task's running time, that *listener* is told of besides.
        tasks_max: Ended tasks beyond this many are forgotten, oldest first.
    """

    def __init__(
        self,
        credits: int,
        limit: int | None,
        *,
        mode: Mode,
        clock: Clock,
        journal: Journal,
        rng: random.Random,
        duration: Duration = 2.0,
        listener: Callable[[FakeTask, str, float], None] | None = None,
        stages: Mapping[str, float] | None = None,
        tasks_max: int = 100_000,
    ) -> None:
        whole("credits", credits)
        if not isinstance(mode, str) or mode not in ("queue", "reject"):
            raise SettingError("mode", mode, "give 'queue' or 'reject'")
        self.mode: Mode = mode
        self.duration = duration
        self.queue_max: int | None = None
        self.fail_rate = 0.0
        self.refund_failed = False
        self.refund_cancelled = True
        self.lag_seconds = 0.0
        self.lag_calls = 0
        self.off_peak_delay: float | None = 0.0
        self.off_peak_seconds = 48 * 3600.0
        self.clock = clock
        self.journal = journal
        self.rng = rng
        self._lock = threading.RLock()
        self._listener = listener
        self._stages = dict(stages or {})
        self._tasks_max = tasks_max
        self._credits = self._granted = credits
        self._spent = 0
        self._limit = self._checked(limit)
        self._running = self._foreign = self._queued = 0
        self._line: deque[FakeTask] = deque()
        self._tasks: OrderedDict[str, FakeTask] = OrderedDict()
        self._strangers: dict[str, FakeTask] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._fates: deque[tuple[str | None, bool | None]] = deque()
        self._unseen: deque[tuple[float, int, int]] = deque()  # when, at which reading, how much: not yet reported
        self._readings = 0
        self._now = clock.monotonic()
        self._written()

    @staticmethod
    def _checked(limit: int | None) -> int | None:
        return None if limit is None else whole("limit", limit, right="give a number of tasks, or None for no limit")

    # What callers do -----------------------------------------------------------------------------------------------

    def submit(
        self,
        task_id: str,
        path: str,
        body: Mapping[str, Any],
        charge: int,
        *,
        off_peak: bool = False,
        slotless: bool = False,
        extra: dict[str, Any] | None = None,
    ) -> FakeTask | Refusal:
        """Accept a task and charge it, or say why not. *slotless* work is done at once and takes no slot. Since 0.1."""
        with self._lock:
            self._advance()
            # Credits are looked at first: a call that could never be paid is told so even while all slots are taken.
            if charge > self._credits:
                self.journal.note(self._now, Fact.REFUSED_CREDITS, path, credits=charge)
                return Refusal.CREDITS
            free = slotless or self._free()
            if not slotless and self._full(free=free):
                self.journal.note(self._now, Fact.REFUSED_SLOTS, path)
                return Refusal.SLOTS
            fails, refund = self._fate()
            seconds = 0.0 if slotless else seconds_of(self.duration, self.rng, path, body)
            task = FakeTask(
                task_id, path, body, charge, seconds, off_peak=off_peak, fails=fails, refund=refund, extra=extra or {}
            )
            self._spend(charge)
            self.journal.note(self._now, Fact.ACCEPTED, path, task_id=task_id, credits=charge)
            if slotless:
                task.submitted_at = task.started_at = task.ended_at = self._now
                task.phase = Phase.SUCCEEDED
                self._keep(task)
            else:
                self._enter(task)
                if not free and not off_peak:
                    self.journal.note(self._now, Fact.WITHOUT_SLOT, path, task_id=task_id)
            return task

    def task(self, task_id: str) -> FakeTask | None:
        """Find a task as it is now. Since 0.1."""
        with self._lock:
            self._advance()
            return self._tasks.get(task_id)

    def tasks(self) -> list[FakeTask]:
        """All tasks of our own that are still known, oldest first. Since 0.1."""
        with self._lock:
            self._advance()
            return list(self._tasks.values())

    def cancel(self, task_id: str) -> Phase | None:
        """Cancel a task that still waits; says where it was before, ``None`` for an unknown one. Since 0.1."""
        with self._lock:
            self._advance()
            task = self._tasks.get(task_id)
            if task is None:
                return None
            before = task.phase
            if before is Phase.WAITING:
                self._end(task, Phase.CANCELLED, refund=self.refund_cancelled)
            return before

    def read(self) -> AccountState:
        """Look at the account as the credits endpoint does: this is one of the calls that ``lag_calls`` counts."""
        with self._lock:
            self._readings += 1
            return self.look()

    def look(self) -> AccountState:
        """Bring the account to the present and say how it stands. Since 0.1."""
        with self._lock:
            self._advance()
            while self._unseen:
                at, reading, _ = self._unseen[0]
                if at + self.lag_seconds > self._now or 0 < self.lag_calls >= self._readings - reading:
                    break
                self._unseen.popleft()
            reported = self._credits - sum(change for _, _, change in self._unseen)
            return AccountState(
                self._credits,
                reported,
                self._spent,
                self._granted,
                self._limit,
                self._running,
                self._foreign,
                self._queued,
            )

    def next_due(self) -> float | None:
        """Seconds of the clock until something happens by itself; ``None`` for never. Since 0.1."""
        with self._lock:
            self._advance()
            return self._due[0][0] - self._now if self._due else None

    # What testers do -----------------------------------------------------------------------------------------------

    def set_limit(self, limit: int | None) -> None:
        """Change the limit. Running tasks stay; waiting ones start if there is room. Since 0.1."""
        with self._lock:
            self._advance()
            self._limit = self._checked(limit)
            self._start_waiting()
            self._written()

    def top_up(self, credits: int) -> None:
        """Add credits; they show at once, whatever the lag. Since 0.1."""
        if credits < 0:
            raise SettingError("credits", credits, "0 or more credits; a stranger may take some away")
        with self._lock:
            self._advance()
            self._credits += credits
            self._granted += credits
            self.journal.note(self._now, Fact.TOPPED_UP, credits=credits)

    def stranger_takes(self, *, slots: int = 0, credits: int = 0, seconds: float | None = None) -> tuple[int, int]:
        """Let another user of the account start *slots* tasks and spend *credits*.

        Takes no more credits than there are. Without room, tasks wait in ``"queue"`` mode and are refused in
        ``"reject"`` mode. They run for *seconds* of the clock; ``None`` is until `strangers_leave`.

        Returns:
            Tasks accepted and credits taken.

        Since 0.1.
        """
        with self._lock:
            self._advance()
            taken = min(credits, self._credits)
            self._spend(taken)
            accepted = 0
            for _ in range(slots):
                if self._full(free=self._free()):
                    break
                name = f"stranger-{next(self._order)}"
                stay = float("inf") if seconds is None else seconds
                self._enter(FakeTask(name, "stranger", {}, 0, stay, foreign=True))
                accepted += 1
            self.journal.note(self._now, Fact.STRANGER, f"{accepted} slots", credits=taken)
            return accepted, taken

    def strangers_leave(self) -> None:
        """End every task of a stranger now. Since 0.1."""
        with self._lock:
            self._advance()
            for task in list(self._strangers.values()):
                self._end(task, Phase.SUCCEEDED)

    def fail_next_task(self, reason: str, *, times: int = 1, refund: bool | None = None) -> None:
        """Let the next tasks submitted run and then fail; *refund* ``None`` is what the account does usually."""
        with self._lock:
            self._fates.extend([(reason, refund)] * times)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do *action* when the clock has moved by *seconds*, at the first look after that. Since 0.1."""
        with self._lock:
            self._advance()
            self._plan(self._now + seconds, action)

    # How it works; the lock is held ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        now = self.clock.monotonic()
        while self._due and self._due[0][0] <= now:
            at, _, action = heapq.heappop(self._due)
            self._now = max(self._now, at)
            action()
        self._now = max(self._now, now)
        self._written()

    def _plan(self, at: float, action: Callable[[], None]) -> None:
        if at != float("inf"):
            heapq.heappush(self._due, (at, next(self._order), action))

    def _written(self) -> None:
        own = self._running - self._foreign
        self.journal.occupy(self._now, own=own, foreign=self._foreign, queued=self._queued, limit=self._limit)

    def _free(self) -> bool:
        return (self._limit is None or self._running < self._limit) and not self._line

    def _full(self, *, free: bool) -> bool:
        if self._limit is None:
            return False
        if self.mode == "reject":
            return self._running + self._queued >= self._limit
        return not free and self.queue_max is not None and self._queued >= self.queue_max

    def _fate(self) -> tuple[str | None, bool]:
        reason, refund = self._fates.popleft() if self._fates else (None, None)
        if reason is None and self.fail_rate and self.rng.random() < self.fail_rate:
            reason = ""
        return reason, self.refund_failed if refund is None else refund

    def _spend(self, credits: int) -> None:
        self._credits -= credits
        self._spent += credits
        if credits and (self.lag_seconds or self.lag_calls):
            self._unseen.append((self._now, self._readings, -credits))

    def _keep(self, task: FakeTask) -> None:
        if task.foreign:
            self._strangers[task.id] = task
            return
        self._tasks[task.id] = task
        while len(self._tasks) > self._tasks_max:
            oldest = next(iter(self._tasks.values()))
            if not oldest.phase.ended:
                break
            del self._tasks[oldest.id]

    def _enter(self, task: FakeTask) -> None:
        task.submitted_at = self._now
        self._keep(task)
        self._queued += 1
        if task.off_peak:
            self._plan(self._now + self.off_peak_seconds, lambda: self._expire(task))
        if task.off_peak and self.off_peak_delay != 0:
            if self.off_peak_delay is not None:
                self._plan(self._now + self.off_peak_delay, lambda: self._join(task))
        else:
            self._join(task)

    def _join(self, task: FakeTask) -> None:
        if task.phase is Phase.WAITING:
            self._line.append(task)
            self._start_waiting()
        self._written()

    def _start_waiting(self) -> None:
        while self._line and (self._limit is None or self._running < self._limit):
            task = self._line.popleft()
            if task.phase is Phase.WAITING:
                self._start(task)

    def _start(self, task: FakeTask) -> None:
        task.phase, task.started_at = Phase.RUNNING, self._now
        self._queued -= 1
        self._running += 1
        self._foreign += task.foreign
        for name, fraction in self._stages.items():
            self._plan(self._now + fraction * task.seconds, partial(self._reach, task, name))
        outcome = Phase.SUCCEEDED if task.fails is None else Phase.FAILED
        self._plan(self._now + task.seconds, lambda: self._end(task, outcome, refund=task.refund))
        self._tell(task, Phase.RUNNING)

    def _reach(self, task: FakeTask, stage: str) -> None:
        if task.phase is Phase.RUNNING:
            self._tell(task, stage)

    def _expire(self, task: FakeTask) -> None:
        self._end(task, Phase.EXPIRED, refund=True)

    def _end(self, task: FakeTask, phase: Phase, *, refund: bool = False) -> None:
        if task.phase.ended:
            return
        if task.phase is Phase.RUNNING:
            self._running -= 1
            self._foreign -= task.foreign
        else:
            self._queued -= 1
        task.phase, task.ended_at = phase, self._now
        if task.foreign:
            del self._strangers[task.id]
        else:
            self.journal.note(self._now, Fact(phase.value), task.path, task_id=task.id)
        if refund and phase is not Phase.SUCCEEDED and task.charge:
            self._spend(-task.charge)
            task.refunded = True
            self.journal.note(self._now, Fact.REFUNDED, task.path, task_id=task.id, credits=task.charge)
        self._tell(task, phase)
        self._start_waiting()
        self._written()

    def _tell(self, task: FakeTask, what: str) -> None:
        if self._listener is not None and not task.foreign:
            self._listener(task, what, self._now)
