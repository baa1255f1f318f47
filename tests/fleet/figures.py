"""What a run came to, and whether the promises held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["FAIR", "SHARE", "Figures", "Promise", "fairness", "promises"]

SHARE = 0.95
"""Of the use a semaphore that is told at once makes of the slots."""
FAIR = 0.95


@dataclass(slots=True, kw_only=True)
class Figures:
    """One run; from `submits` on counted by the provider.

    Attributes:
        title: What the run is called.
        jobs: Jobs of all processes.
        done: ... of which were done.
        seconds: From the word to the last job done.
        shares: Jobs each process had done when the first had done all of its own.
        kills: How often a process was killed.
        errors: Errors the callers met, by kind.
        said: The last message of each kind.
        pauses: Pauses of the whole account, by reason.
        complaints: What processes wrote to their standard error.
        submits: Submits the provider saw.
        refused: ... of which it refused, for credits or for slots.
        asked: Requests for the balance.
        asked_at_once: Most of them in flight at once.
        used: Of the slot-seconds from the first accepted submit to the last, the share that was used.
        missing: What is wrong with the guard's numbers, once all is over.
        left: Credits left on the account.
    """

    title: str
    jobs: int = 0
    done: int = 0
    seconds: float = 0.0
    shares: Sequence[int] = ()
    kills: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    said: dict[str, str] = field(default_factory=dict)
    pauses: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    submits: int = 0
    refused: int = 0
    asked: int = 0
    asked_at_once: int = 0
    used: float = 0.0
    missing: list[str] = field(default_factory=list)
    left: int = 0

    @property
    def fair(self) -> float:
        return fairness(self.shares)


def fairness(shares: Sequence[int]) -> float:
    """Jain's index: 1 where all have the same, 1 / n where one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


@dataclass(frozen=True, slots=True)
class Promise:
    """Something a run must show.

    Attributes:
        kept: Whether it did.
        says: The promise with its figures, as a sentence.
        exact: Whether it holds whatever else the machine does; the others are about time.
    """

    kept: bool
    says: str
    exact: bool = True


def promises(guarded: Figures, told: Figures | None, *, calm: bool) -> list[Promise]:
    """Hold a run against what is promised; *calm* is one without kills and trouble."""
    found = [
        Promise(not guarded.refused, f"The provider refused {guarded.refused or 'none'} of {guarded.submits} submits."),
        Promise(guarded.done == guarded.jobs, f"{guarded.done} of {guarded.jobs} jobs were done."),
        Promise(not guarded.missing, _missing(guarded, calm=calm)),
        Promise(not guarded.complaints, _complaints(guarded.complaints)),
    ]
    if not guarded.pauses["store_forgot"]:  # whoever asks is forgotten with the rest
        once = guarded.asked_at_once
        found.append(
            Promise(once <= 1, f"Of {guarded.asked} requests for the balance at most {once} was in flight at once.")
        )
    others = {kind: count for kind, count in guarded.errors.items() if kind != "StoreError"}
    if calm:
        errors = dict(guarded.errors)
        found.append(Promise(not errors, f"Callers met {errors or 'no errors'}."))
        pauses = dict(guarded.pauses)
        found.append(Promise(not pauses, f"The account was paused for {pauses or 'no reason'}."))
        found.append(
            Promise(guarded.fair >= FAIR, f"Fairness between processes is {guarded.fair:.3f} (at least {FAIR}).", False)
        )
    else:
        met = guarded.errors["StoreError"]
        found.append(Promise(not others, f"Callers met {met} StoreErrors and {others or 'no other errors'}."))
    if calm and told is not None:
        share = guarded.used / told.used if told.used else 1.0
        found.append(
            Promise(
                share >= SHARE,
                f"The slots were used {share:.1%} as well as by a semaphore told at once ({guarded.used:.1%} and "
                f"{told.used:.1%}; at least {SHARE:.0%}).",
                False,
            )
        )
    return found


def _missing(figures: Figures, *, calm: bool) -> str:
    after = "one reading" if calm else "one lease and one reading"
    if figures.missing:
        return f"After {after} the guard's numbers are not the provider's: {'; '.join(figures.missing)}."
    return f"After {after} not a credit and not a slot is missing."


def _complaints(complaints: list[str]) -> str:
    if not complaints:
        return "No processes complained."
    last = complaints[0].strip().splitlines()[-3:]
    return f"{len(complaints)} processes complained: {' | '.join(last)}"
