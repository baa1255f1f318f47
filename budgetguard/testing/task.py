"""The task of a fake provider, and the words that go with it."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["AccountState", "Duration", "FakeTask", "Mode", "Phase", "Refusal", "seconds_of"]

Mode = Literal["queue", "reject"]
Duration = float | tuple[float, float] | Callable[[str, Mapping[str, Any]], float]
"""Seconds a task takes: a number, a range to draw from, or a function of the path and the body."""


def seconds_of(duration: Duration, rng: random.Random, path: str, body: Mapping[str, Any]) -> float:
    """Say how many seconds one task takes; only a range draws from *rng*. Since 0.1."""
    if callable(duration):
        return duration(path, body)
    if isinstance(duration, tuple):
        return rng.uniform(*duration)
    return duration


class Phase(enum.StrEnum):
    """Where a task is. Since 0.1."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the task."""
        return self not in (Phase.WAITING, Phase.RUNNING)


class Refusal(enum.StrEnum):
    """Why a submit was not accepted. Since 0.1."""

    CREDITS = "credits"
    SLOTS = "slots"


@dataclass(slots=True, eq=False)
class FakeTask:
    """One task of the account. Since 0.1.

    Read it freely; only the account changes it.

    Attributes:
        id: The id its submitter got.
        path: The endpoint it came by.
        body: What it was submitted with.
        charge: Credits it took from the balance.
        seconds: How long it runs once started.
        foreign: Whether it is a stranger's.
        off_peak: Whether it may be put off, and expires.
        fails: The reason it will end with, if it will fail.
        refund: Whether its failure gives the charge back.
        extra: What the HTTP side wants to remember about it.
        phase: Where it is now.
        submitted_at, started_at, ended_at: When, in seconds of the clock; ``None`` for not yet.
        refunded: Whether the charge has come back.
    """

    id: str
    path: str
    body: Mapping[str, Any]
    charge: int
    seconds: float
    foreign: bool = False
    off_peak: bool = False
    fails: str | None = None
    refund: bool = False
    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    phase: Phase = Phase.WAITING
    submitted_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    refunded: bool = False


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account at one moment. Since 0.1.

    Attributes:
        credits: The true balance.
        reported: The balance as the provider shows it, which may lag.
        spent: Credits ever charged less refunds, strangers' included.
        granted: Credits ever put in.
        limit: Most tasks running at once; ``None`` for no limit.
        running: Tasks running, strangers' included.
        foreign: ... of which are strangers'.
        queued: Tasks waiting on the provider's side.
    """

    credits: int
    reported: int
    spent: int
    granted: int
    limit: int | None
    running: int
    foreign: int
    queued: int
