"""What a run came to, and whether the promises held."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from budgetguard.testing import Entry, Fact

__all__ = ["SLOTS_SHARE_MIN", "Figures", "Promise", "promises", "slots_used"]

SLOTS_SHARE_MIN = 0.95
_ENDS = frozenset({Fact.SUCCEEDED, Fact.FAILED, Fact.CANCELLED, Fact.EXPIRED})


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, counted by its client and, from `submits` on, by the provider.

    Attributes:
        title: What the run is called.
        jobs: Generations in the batch.
        done: Generations that ended well.
        admitted: Calls that were sent and taken.
        queued: Calls that had to wait for a slot before they were sent.
        refused: Calls that were refused before they were sent.
        failed: Jobs that ended in the provider's own refusal.
        cheapest: The price of the cheapest job that was not done; ``None`` if all were.
        seconds: From the first call to the last answer.
        submits: Submits the provider saw.
        accepted: ... of which it took.
        charged: Credits it charged for them.
        refused_slots: Submits it refused for want of a slot.
        refused_credits: Submits it refused for want of credits.
        asked: Requests for the balance.
        left: Credits left at the end.
        used: Of the slot-seconds that were ours while jobs waited, the share that was used.
    """

    title: str
    jobs: int
    done: int
    admitted: int
    queued: int
    refused: int
    failed: int
    cheapest: int | None
    seconds: float
    submits: int
    accepted: int
    charged: int
    refused_slots: int
    refused_credits: int
    asked: int
    left: int
    used: float


@dataclass(frozen=True, slots=True)
class Promise:
    """Something the guarded run must show.

    Attributes:
        kept: Whether it did.
        says: The promise with its figures, as a sentence.
    """

    kept: bool
    says: str


def promises(guarded: Figures, told: Figures) -> list[Promise]:
    """Hold the guarded run against what it promises."""
    share = guarded.used / told.used if told.used else 1.0
    refusals = guarded.refused_slots + guarded.refused_credits
    unspent = guarded.cheapest is None or guarded.left < guarded.cheapest
    cheapest = "" if guarded.cheapest is None else f", and the cheapest job left out costs {guarded.cheapest}"
    return [
        Promise(not refusals, f"The provider refused {refusals or 'none'} of the calls the guard let through."),
        Promise(
            share >= SLOTS_SHARE_MIN,
            f"The guard used the slots {share:.1%} as well as the semaphore that is told at once "
            f"({guarded.used:.1%} and {told.used:.1%}; at least {SLOTS_SHARE_MIN:.0%} is promised).",
        ),
        Promise(unspent, f"{guarded.left} credits are left{cheapest}."),
        Promise(
            guarded.done == guarded.admitted == guarded.accepted and guarded.done + guarded.refused == guarded.jobs,
            f"Every one of the {guarded.jobs} jobs was either done ({guarded.done}) or refused before it was sent "
            f"({guarded.refused}).",
        ),
    ]


def slots_used(entries: Iterable[Entry], room: Sequence[tuple[float, int]]) -> float:
    """Say how much of the room was used while jobs waited: from the first task accepted to the last.

    What comes after is the end of the batch, when fewer jobs are left than slots, and no scheduler could fill them.

    Args:
        entries: The provider's journal.
        room: From when on how many slots were ours, in seconds of the same clock.
    """
    moves = [(entry.at, 1 if entry.fact is Fact.ACCEPTED else -1) for entry in entries if _moves(entry)]
    starts = [at for at, change in moves if change > 0]
    if len(starts) < 2:
        return 1.0
    begin, end = starts[0], starts[-1]
    busy = sum(change * (end - at) for at, change in moves if at < end)
    steps = [*room, (end, 0)]
    available = sum(
        slots * max(0.0, min(until, end) - max(since, begin))
        for (since, slots), (until, _) in itertools.pairwise(steps)
    )
    return busy / available if available else 1.0


def _moves(entry: Entry) -> bool:
    return entry.fact is Fact.ACCEPTED or entry.fact in _ENDS
