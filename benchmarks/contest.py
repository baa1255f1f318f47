"""Measures the rows of one table against each other: in rounds, interleaved, in an order shuffled anew each round.

What disturbs the machine for a moment then hits all alike, and a ratio is taken within a round before the median is
taken over all rounds.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.statement import Clock, Setup, Statement, empty_loop
from benchmarks.table import ADDED, RATIO, VALUE, Column, Goal, Kind, Row, Spread, Table, Verdict

__all__ = ["Contest", "Measured", "Pace", "reason"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How thorough to be. A subject may scale its own work by these."""

    fast: bool = False
    seed: int = 7

    @property
    def rounds(self) -> int:
        """Rounds of a table whose rows take milliseconds."""
        return 5 if self.fast else 21

    @property
    def runs(self) -> int:
        """Rounds of a table whose rows take seconds."""
        return 1 if self.fast else 5

    @property
    def sample(self) -> float:
        """Seconds a statement is timed for in each round."""
        return 0.006 if self.fast else 0.03


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of a whole measurement gave: the figure, in the table's unit, and the table's further columns."""

    value: float
    columns: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Contestant:
    row: Row
    sample: Callable[[], Measured]
    prepare: Callable[[], object]
    goals: tuple[Goal, ...]
    rounds: list[Measured] = field(default_factory=list)


class Contest:
    """One table in the making. Name the rows, then call `table`.

    Args:
        title: What is done.
        reference: The row that ratios are to.
        pace: How thorough to be.
        unit: What absolute figures are in. Statements give microseconds.
        columns: Further figures of whole runs.
        rounds: How many rounds; by default what *pace* says for rows that take milliseconds.
        note: What a reader should know.
        brief: A word that tells the table from the subject's other tables.
        clock: What statements are timed by. See `Statement`.
    """

    def __init__(
        self,
        title: str,
        reference: str,
        pace: Pace,
        *,
        unit: str = "us",
        columns: Sequence[Column] = (),
        rounds: int | None = None,
        note: str = "",
        brief: str = "",
        clock: Clock = time.perf_counter,
    ) -> None:
        count = pace.rounds if rounds is None else rounds
        self._table = Table(title, unit, reference, count, tuple(columns), note=note, brief=brief)
        self._pace = pace
        self._clock = clock
        self._contestants: list[_Contestant] = []
        self._runner = asyncio.Runner()
        self._empty = 0.0

    def statement(
        self,
        name: str,
        code: str,
        setup: Setup,
        *,
        kind: Kind = "peer",
        goals: Sequence[Goal] = (),
        beside: str = "",
        asynchronous: bool = False,
        per: int = 1,
        times: int | None = None,
        fresh: bool = False,
        between: Callable[..., Any] | None = None,
    ) -> None:
        """Add a row that is a statement in a timed loop. See `Statement`."""
        timed = Statement(code, setup, asynchronous, per, times, fresh, between, self._clock)
        self._add(
            name,
            lambda: Measured(timed.sample(self._runner, self._empty)),
            lambda: timed.calibrate(self._runner, self._pace.sample),
            kind,
            goals,
            beside,
        )

    def run(
        self,
        name: str,
        work: Callable[[], Any],
        *,
        kind: Kind = "peer",
        goals: Sequence[Goal] = (),
        beside: str = "",
        prepare: Callable[[], object] | None = None,
    ) -> None:
        """Add a row that measures itself: *work* does it once and gives a number or a `Measured`, once a round.

        *work* may be a coroutine function; it then runs on the contest's event loop. *prepare* runs once, before the
        first round: what fails in it, fails the row.
        """

        def sample() -> Measured:
            gc.collect()
            given = work()
            if inspect.iscoroutine(given):
                given = self._runner.run(given)
            return given if isinstance(given, Measured) else Measured(float(given))

        self._add(name, sample, prepare or (lambda: None), kind, goals, beside)

    def _add(
        self,
        name: str,
        sample: Callable[[], Measured],
        prepare: Callable[[], object],
        kind: Kind,
        goals: Sequence[Goal],
        beside: str,
    ) -> None:
        row = Row(name, kind, beside or self._table.reference)
        self._contestants.append(_Contestant(row, sample, prepare, tuple(goals)))

    def table(self) -> Table:
        """Measure, and give the table. Whatever fails becomes a row with its reason."""
        begin = time.perf_counter()
        order = random.Random(self._pace.seed)
        with self._runner:
            for one in self._contestants:
                self._attempt(one, one.prepare)
            for _ in range(self._table.rounds):
                self._empty = empty_loop()
                turn = [one for one in self._contestants if not one.row.reason]
                order.shuffle(turn)
                for one in turn:
                    self._attempt(one, lambda one=one: one.rounds.append(one.sample()))  # type: ignore[misc]
        self._sum_up()
        self._table.seconds = time.perf_counter() - begin
        return self._table

    def _attempt(self, one: _Contestant, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a row that fails says so, and the others go on
            one.row.reason = reason(error)

    def _sum_up(self) -> None:
        self._table.rows = [one.row for one in self._contestants]
        for one in self._contestants:
            row = one.row
            if row.reason:
                one.rounds.clear()
                continue
            row.value = Spread.over([measured.value for measured in one.rounds])
            for column in self._table.columns:
                found = [measured.columns[column.name] for measured in one.rounds if column.name in measured.columns]
                if found:
                    row.columns[column.name] = column.of(found)
        for one in self._contestants:
            ratios, added = self._paired(one, one.row.beside)
            if ratios:
                one.row.ratio, one.row.added = Spread.over(ratios), Spread.over(added)
            one.row.verdicts = [self._verdict(one, goal) for goal in one.goals]

    def _paired(self, one: _Contestant, beside: str) -> tuple[list[float], list[float]]:
        """Compare round by round."""
        other = next((other for other in self._contestants if other.row.name == beside), None)
        if other is None:
            raise ValueError(f"{one.row.name!r} stands beside {beside!r}, which is no row of {self._table.title!r}")
        # One that failed has no rounds at all; the others have as many as the table.
        pairs = [(mine.value, its.value) for mine, its in zip(one.rounds, other.rounds, strict=False)]
        return [mine / its for mine, its in pairs if its], [mine - its for mine, its in pairs]

    def _verdict(self, one: _Contestant, goal: Goal) -> Verdict:
        row, beside = one.row, goal.beside or one.row.beside
        figure: float | None
        if goal.of in {RATIO, ADDED}:
            ratios, added = self._paired(one, beside)
            figures = ratios if goal.of == RATIO else added
            figure = statistics.median(figures) if figures else None
        elif goal.of == VALUE:
            figure = row.value.middle if row.value else None
        else:
            figure = row.columns.get(goal.of)
        if figure is None:
            return Verdict(goal, None, holds=False, stretches=None, reason=row.reason or f"no figure of {beside}")
        return Verdict(goal, figure, goal.holds(figure), goal.stretches(figure))


def reason(error: BaseException) -> str:
    """Say in a line why there is no figure."""
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {error.name}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
