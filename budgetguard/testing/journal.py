"""What happened at a fake provider, counted where it cannot be argued with: on the provider's side."""

from __future__ import annotations

import enum
import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from budgetguard.model import RouteKind

__all__ = ["Entry", "Fact", "Journal"]


class Fact(enum.StrEnum):
    """One kind of thing that happens at a provider. Since 0.1."""

    ACCEPTED = "accepted"
    """A submit was accepted and charged."""
    WITHOUT_SLOT = "without_slot"
    """... and had to wait on the provider's side, because it came without a free slot."""
    REFUSED_CREDITS = "refused_credits"
    """A submit was refused for want of credits."""
    REFUSED_SLOTS = "refused_slots"
    """A submit was refused because too many tasks run."""
    REFUSED_RATE = "refused_rate"
    """A request was refused because requests came too fast."""
    REFUSED_OTHER = "refused_other"
    """A submit was refused for its key or its fields."""
    INJECTED = "injected"
    """An answer was spoiled or replaced on the tester's order."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """An off-peak task was not done in time."""
    REFUNDED = "refunded"
    TOPPED_UP = "topped_up"
    STRANGER = "stranger"
    """Somebody else took slots or credits."""
    CALLBACK = "callback"
    """A callback was sent; a repeated one counts again."""
    CALLBACK_FAILED = "callback_failed"
    """A callback met no listener, or one that did not answer 2xx."""
    CALLBACK_REFUSED = "callback_refused"
    """A callback was not sent because its address is not on this machine."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal. Since 0.1.

    Attributes:
        at: When, in seconds of the fake's clock.
        fact: What happened.
        path: The endpoint, or the kind of what was injected.
        task_id: The task, where there is one.
        credits: Credits that moved, where any did.
    """

    at: float
    fact: Fact
    path: str = ""
    task_id: str = ""
    credits: int = 0


class Journal:
    """Counts what a fake provider saw and did. Since 0.1.

    The counts are the provider's own decisions. What a test orders with ``inject`` is counted under `injected` only, so
    `refused_credits` and `refused_slots` stay 0 exactly when every submit was one the provider had room for.
    All of it may be read from any thread while the fake works.

    Args:
        entries_max: Most `entries` kept; the oldest are forgotten, the counts are not.
    """

    def __init__(self, *, entries_max: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=entries_max)
        self._since = 0.0
        self._own = self._foreign = self._queued = 0
        self._limit: int | None = None
        self._flying: Counter[RouteKind | None] = Counter()
        self._clear()

    def _clear(self) -> None:
        """Start all counts anew; what is under way now stays under way."""
        self._entries.clear()
        self._facts: Counter[Fact] = Counter()
        self._requests: Counter[RouteKind | None] = Counter()
        self._flying_max: Counter[RouteKind | None] = Counter(self._flying)
        self._injected: Counter[str] = Counter()
        self._charged = self._refunded = 0
        self._own_max, self._running_max, self._queued_max = self._own, self._own + self._foreign, self._queued
        self._open = self._own > 0
        self._busy = self._available = self._available_used = 0.0

    # What the fake writes ------------------------------------------------------------------------------------------

    def note(self, at: float, fact: Fact, path: str = "", *, task_id: str = "", credits: int = 0) -> None:
        """Write one line down. Since 0.1."""
        with self._lock:
            self._facts[fact] += 1
            if fact is Fact.ACCEPTED:
                self._charged += credits
                if not self._open:
                    self._open, self._since = True, max(self._since, at)
            elif fact is Fact.REFUNDED:
                self._refunded += credits
            elif fact is Fact.INJECTED:
                self._injected[path] += 1
            self._entries.append(Entry(at, fact, path, task_id, credits))

    def arrived(self, kind: RouteKind | None) -> None:
        """Count a request that begins; `left` must follow. Since 0.1."""
        with self._lock:
            self._requests[kind] += 1
            self._flying[kind] += 1
            self._flying_max[kind] = max(self._flying_max[kind], self._flying[kind])

    def left(self, kind: RouteKind | None) -> None:
        """Count the end of a request's answer. Since 0.1."""
        with self._lock:
            self._flying[kind] -= 1

    def occupy(self, at: float, *, own: int, foreign: int, queued: int, limit: int | None) -> None:
        """Say how the slots are used from *at* (seconds of the fake's clock) on. Since 0.1."""
        with self._lock:
            if self._open and at > self._since:
                passed = at - self._since
                self._busy += self._own * passed
                if self._limit is not None:
                    # A limit lowered below what runs leaves running tasks alone: they are available slots still.
                    self._available += max(self._limit - self._foreign, self._own) * passed
                if self._own:
                    self._available_used = self._available
            self._since = max(self._since, at)
            self._own, self._foreign, self._queued, self._limit = own, foreign, queued, limit
            self._own_max = max(self._own_max, own)
            self._running_max = max(self._running_max, own + foreign)
            self._queued_max = max(self._queued_max, queued)

    def reset(self) -> None:
        """Forget everything counted so far, as between the warm-up and the run of a benchmark. Since 0.1."""
        with self._lock:
            self._clear()

    # What the tester reads -----------------------------------------------------------------------------------------

    def count(self, fact: Fact | str) -> int:
        """How often *fact* happened. Since 0.1."""
        with self._lock:
            return self._facts[Fact(fact)]

    def requests(self, kind: RouteKind | str) -> int:
        """How many requests of that kind arrived, whatever became of them. Since 0.1."""
        with self._lock:
            return self._requests[RouteKind(kind)]

    def in_flight_max(self, kind: RouteKind | str) -> int:
        """Most requests of that kind under way at once, from the first byte in to the last byte out. Since 0.1."""
        with self._lock:
            return self._flying_max[RouteKind(kind)]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The last things that happened, oldest first; plain polls and lists are counted but not written down."""
        with self._lock:
            return tuple(self._entries)

    @property
    def submits(self) -> int:
        """Submits that arrived, whatever became of them."""
        return self.requests(RouteKind.SUBMIT)

    @property
    def accepted(self) -> int:
        """Submits accepted and charged."""
        return self.count(Fact.ACCEPTED)

    @property
    def without_slot(self) -> int:
        """Accepted submits that came when no slot was free, and had to wait on the provider's side."""
        return self.count(Fact.WITHOUT_SLOT)

    @property
    def refused_credits(self) -> int:
        """Submits refused for want of credits."""
        return self.count(Fact.REFUSED_CREDITS)

    @property
    def refused_slots(self) -> int:
        """Submits refused for want of a slot."""
        return self.count(Fact.REFUSED_SLOTS)

    @property
    def refused_rate(self) -> int:
        """Requests refused because they came too fast."""
        return self.count(Fact.REFUSED_RATE)

    @property
    def breaches(self) -> int:
        """Submits that a guard should not have let through: refused for credits or slots, or sent without a slot."""
        return self.refused_credits + self.refused_slots + self.without_slot

    @property
    def injected(self) -> dict[str, int]:
        """How often each injected kind was served."""
        with self._lock:
            return dict(self._injected)

    @property
    def credits_requests(self) -> int:
        """Requests for the balance."""
        return self.requests(RouteKind.CREDITS)

    @property
    def credits_in_flight_max(self) -> int:
        """Most requests for the balance under way at once."""
        return self.in_flight_max(RouteKind.CREDITS)

    @property
    def charged(self) -> int:
        """Credits charged to our own submits, refunds not taken off."""
        with self._lock:
            return self._charged

    @property
    def refunded(self) -> int:
        """Credits given back."""
        with self._lock:
            return self._refunded

    @property
    def running_max(self) -> int:
        """Most of our own tasks running at once."""
        with self._lock:
            return self._own_max

    @property
    def slot_seconds_busy(self) -> float:
        """Slot-seconds our own tasks used, up to the fake's last look at its clock."""
        with self._lock:
            return self._busy

    @property
    def slot_seconds_available(self) -> float:
        """Slot-seconds that were ours to use from the first accepted submit to the last end of a task.

        The limit less what strangers held, over time. Time after the last of our tasks ended does not count, idle
        time between two of them does. 0 where there is no limit.
        """
        with self._lock:
            return self._available_used

    @property
    def utilisation(self) -> float | None:
        """`slot_seconds_busy` by `slot_seconds_available`, from 0 to 1; ``None`` before there is anything to divide."""
        with self._lock:
            return self._busy / self._available_used if self._available_used else None

    def summary(self) -> dict[str, Any]:
        """Everything counted, as one flat dict ready for ``json.dumps`` or a table. Since 0.1."""
        utilisation = self.utilisation
        with self._lock:
            facts, requests, flying = self._facts, self._requests, self._flying_max
            return {
                "submits": requests[RouteKind.SUBMIT],
                "accepted": facts[Fact.ACCEPTED],
                "without_slot": facts[Fact.WITHOUT_SLOT],
                "refused_credits": facts[Fact.REFUSED_CREDITS],
                "refused_slots": facts[Fact.REFUSED_SLOTS],
                "refused_rate": facts[Fact.REFUSED_RATE],
                "refused_other": facts[Fact.REFUSED_OTHER],
                "injected": sum(self._injected.values()),
                "credits_requests": requests[RouteKind.CREDITS],
                "credits_in_flight_max": flying[RouteKind.CREDITS],
                "polls": requests[RouteKind.POLL],
                "lists": requests[RouteKind.LIST],
                "cancels": requests[RouteKind.CANCEL],
                "succeeded": facts[Fact.SUCCEEDED],
                "failed": facts[Fact.FAILED],
                "cancelled": facts[Fact.CANCELLED],
                "expired": facts[Fact.EXPIRED],
                "charged": self._charged,
                "refunded": self._refunded,
                "running_max": self._own_max,
                "running_max_with_strangers": self._running_max,
                "queued_max": self._queued_max,
                "slot_seconds_busy": round(self._busy, 6),
                "slot_seconds_available": round(self._available_used, 6),
                "utilisation": None if utilisation is None else round(utilisation, 4),
                "callbacks": facts[Fact.CALLBACK],
            }

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self.summary().items() if value)
        return f"<Journal {said or 'empty'}>"
