"""What a run came to: a table with a row for each fault, what strangers cost, and each promise that was broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.faults import FAULTS
from tests.chaos.plan import CREDITS_TIMEOUT, MAX_AGE
from tests.chaos.scene import Outcome

__all__ = ["Row", "rows", "table"]

_EVERYTHING = "everything at once"


@dataclass(slots=True)
class Row:
    """One fault, over all scenes that had it.

    A scene with several faults counts for each of them, as nobody can tell which of them it was.
    """

    name: str
    scenes: int = 0
    injected: int = 0
    calls: int = 0
    refused: int = 0
    credits: int = 0
    slots: int = 0
    lost: int = 0
    twice: int = 0
    stall: float = 0.0
    over: bool = False

    def add(self, outcome: Outcome, injected: int) -> None:
        self.scenes += 1
        self.injected += injected
        self.calls += outcome.calls
        self.refused += len(outcome.refused)
        self.credits += abs(outcome.credits)
        self.slots += abs(outcome.slots)
        self.lost += len(outcome.lost)
        self.twice += len(outcome.twice)
        self.stall = max(self.stall, outcome.stall)

    @property
    def cells(self) -> list[str]:
        numbers = (self.scenes, self.injected, self.refused, self.credits, self.slots, self.lost, self.twice)
        return [self.name, *(str(number) for number in numbers), f"{self.stall:.1f} s" if self.scenes else "-"]


def rows(outcomes: Sequence[Outcome], last: Sequence[Outcome]) -> list[Row]:
    """Count the scenes for each fault; the *last* ones, in which everything happened, have a row of their own."""
    found = {name: Row(fault.says) for name, fault in FAULTS.items()}
    for outcome in outcomes:
        for name in outcome.scene.faults:
            found[name].add(outcome, outcome.injected[name])
    together = Row(_EVERYTHING)
    for outcome in last:
        together.add(outcome, sum(outcome.injected.values()))
    return [*found.values(), together]


_HEADS = ("fault", "scenes", "injected", "refused", "credits", "slots", "lost", "twice", "stall")
_UNDER = ("", "", "", "by provider", "missing", "missing", "", "sent", "longest")


_NOTES = (
    "A scene with several faults counts for each of them. Missing is what is so after one lease and one reading; where",
    "the balance lags, after two that are a lag apart; and where the provider does not say what runs, after one more",
    "lease, of a task. A stall is time in which somebody wants to call, there are a slot and credits, nothing is the",
    "matter with either side, and no call comes.",
)


def table(outcomes: Sequence[Outcome], last: Sequence[Outcome]) -> str:
    """Show it all."""
    both = [*outcomes, *last]
    lines = [list(_HEADS), list(_UNDER), *(row.cells for row in rows(outcomes, last))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    shown = [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    shown.insert(2, "-" * len(max(shown, key=len)))
    return "\n".join([*shown, "", *_NOTES, "", *_foreign(both), "", *_totals(both)])


def _foreign(outcomes: Sequence[Outcome]) -> list[str]:
    taken: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for outcome in outcomes:
        for foreign in outcome.foreign:
            taken[foreign.fault] += foreign.calls
            most[foreign.fault] += 1
            cost[foreign.fault] += foreign.cost
    lines = [
        "What others took between two readings, in calls it would have paid for or run, and refusals that it cost:"
    ]
    lines += [
        f"  {FAULTS[name].says:<28}{most[name]:>5} times {taken[name]:>6} calls {cost[name]:>6} refused"
        for name in taken
    ]
    return lines if taken else ["Nobody took anything from the account."]


def _never(outcomes: Sequence[Outcome]) -> list[str]:
    """Name what was planned and never happened: of these faults the run says nothing."""
    happened: Counter[str] = Counter()
    for outcome in outcomes:
        happened.update(outcome.injected)
    never = [FAULTS[name].says for name, times in happened.items() if not times]
    return [f"Planned, but never injected: {'; '.join(never)}."] if never else []


def _totals(outcomes: Sequence[Outcome]) -> list[str]:
    stores = Counter(outcome.scene.store for outcome in outcomes)
    providers = Counter(outcome.scene.provider for outcome in outcomes)
    errors: Counter[str] = Counter()
    for outcome in outcomes:
        errors += outcome.errors
    of = ", ".join(f"{count} {name}" for name, count in (*stores.items(), *providers.items()))
    calls = sum(outcome.calls for outcome in outcomes)
    accepted = sum(outcome.accepted for outcome in outcomes)
    injected = sum(sum(outcome.injected.values()) for outcome in outcomes)
    over = max((outcome.stall - outcome.lease for outcome in outcomes), default=0.0)
    longest = (
        f"The longest stall was {abs(over):.2f} s {'longer' if over > 0 else 'shorter'} than the lease. That a lease "
        f"is over shows at the next look at the balance, at most {MAX_AGE + CREDITS_TIMEOUT:g} s later."
    )
    return [
        f"{len(outcomes)} scenes ({of}), {calls} calls, {accepted} accepted, {injected} faults injected.",
        *_never(outcomes),
        f"Callers met: {', '.join(f'{name} {count}' for name, count in errors.most_common())}." if errors else "",
        longest,
    ]
