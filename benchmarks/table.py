"""What a measurement leaves behind: tables of rows, with goals and verdicts as data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

__all__ = ["ADDED", "RATIO", "VALUE", "Column", "Goal", "Kind", "Row", "Spread", "Table", "Verdict"]

Kind = Literal["ours", "floor", "yardstick", "peer"]
"""Whose row it is: budgetguard's, the machine's, the hand-written ledger's or pattern's, or somebody else's library."""

RATIO, VALUE, ADDED = "ratio", "value", "added"


@dataclass(frozen=True, slots=True)
class Goal:
    """What one figure of a row should be.

    Attributes:
        limit: The bound that counts.
        stretch: A harder bound, which is only told; ``None`` for none.
        of: Which figure: ``RATIO``, ``VALUE``, ``ADDED`` (what a row costs more than the one beside it), or the name of
            a column.
        sign: From which side the bound holds.
        beside: For a ratio or what is added: the row compared with; by default the one the row itself stands beside.
    """

    limit: float
    stretch: float | None = None
    of: str = RATIO
    sign: Literal["<=", ">=", "=="] = "<="
    beside: str = ""

    def holds(self, figure: float) -> bool:
        """Whether *figure* meets the goal."""
        return self._meets(figure, self.limit)

    def stretches(self, figure: float) -> bool | None:
        """Whether *figure* meets the harder bound too; ``None`` where there is none."""
        return None if self.stretch is None else self._meets(figure, self.stretch)

    def _meets(self, figure: float, bound: float) -> bool:
        match self.sign:
            case "<=":
                return figure <= bound
            case ">=":
                return figure >= bound
            case "==":
                return figure == bound

    def __str__(self) -> str:
        what = "" if self.of == RATIO else f"{self.of} "
        return f"{what}{self.sign} {self.limit:g}" + (f" of {self.beside}" if self.beside else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what became of it. Without a *figure* it could not be measured, and *reason* says why."""

    goal: Goal
    figure: float | None
    holds: bool
    stretches: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds: the median, and the quartiles around it."""

    low: float
    middle: float
    high: float

    @classmethod
    def over(cls, figures: Sequence[float]) -> Self:
        """Sum up the rounds."""
        if len(figures) < 4:
            return cls(min(figures), statistics.median(figures), max(figures))
        low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
        return cls(low, middle, high)


@dataclass(frozen=True, slots=True)
class Column:
    """A further figure of each row, e.g. how many requests were sent.

    Attributes:
        name: Its heading.
        unit: What it is counted in; ``""`` for plain numbers.
        over: What is shown of all rounds.
    """

    name: str
    unit: str = ""
    over: Literal["median", "max", "min"] = "median"

    def of(self, figures: Sequence[float]) -> float:
        """Sum up the rounds."""
        match self.over:
            case "median":
                return statistics.median(figures)
            case "max":
                return max(figures)
            case "min":
                return min(figures)


@dataclass(slots=True)
class Row:
    """One way of doing it.

    Attributes:
        name: What it is.
        kind: Whose it is.
        beside: The row its ratio is to.
        ratio: The median of the paired rounds' ratios; ``None`` for a row that failed or stands beside one that did.
        value: The absolute figure, in the table's unit.
        added: The absolute figure less that of the row beside it, round by round.
        columns: Further figures, by the columns' names.
        verdicts: What became of its goals.
        reason: Why there are no figures, where there are none.
    """

    name: str
    kind: Kind
    beside: str
    ratio: Spread | None = None
    value: Spread | None = None
    added: Spread | None = None
    columns: dict[str, float] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    reason: str = ""


@dataclass(slots=True)
class Table:
    """One comparison, measured interleaved.

    Attributes:
        title: What was done.
        unit: What the absolute figures are in, e.g. ``us``.
        reference: The row that ratios are to, unless a row says otherwise.
        rounds: How many paired rounds.
        columns: Further figures each row may have.
        rows: In the order they were named in.
        note: What a reader should know.
        brief: A word that tells it from the subject's other tables.
        subject: The subject it belongs to.
        seconds: How long it took to measure.
    """

    title: str
    unit: str
    reference: str
    rounds: int
    columns: tuple[Column, ...] = ()
    rows: list[Row] = field(default_factory=list)
    note: str = ""
    brief: str = ""
    subject: str = ""
    seconds: float = 0.0

    def row(self, name: str) -> Row:
        """Find a row by its name."""
        return next(row for row in self.rows if row.name == name)
