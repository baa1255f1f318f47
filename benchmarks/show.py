"""Prints tables: ratios first, then how much they spread, then absolute figures and goals."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from benchmarks.table import ADDED, VALUE, Row, Table, Verdict

__all__ = ["number", "show", "summary"]

_STYLES = {"ours": "bold cyan", "floor": "dim", "yardstick": "", "peer": ""}


def number(figure: float) -> str:
    """Write a figure with three digits that mean something."""
    size = abs(figure)
    if size >= 1000:
        return f"{figure:,.0f}"
    if size >= 100 or (figure == int(figure) and size >= 10):
        return f"{figure:.0f}"
    if size >= 10:
        return f"{figure:.1f}"
    return f"{figure:.2f}" if size >= 0.1 or figure == 0 else f"{figure:.3f}"


def _counted(figure: float) -> str:
    return f"{figure:,.0f}" if figure == int(figure) else number(figure)


def show(console: Console, table: Table) -> None:
    """Print one table."""
    columns = [column for column in table.columns if any(column.name in row.columns for row in table.rows)]
    adds = any(verdict.goal.of == ADDED for row in table.rows for verdict in row.verdicts)
    judged = any(row.verdicts for row in table.rows)
    grid = Grid(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    grid.add_column("", overflow="fold")
    for heading in ("ratio", "quartiles", *(["added"] if adds else []), table.unit):
        grid.add_column(heading, justify="right", no_wrap=True)
    for column in columns:
        grid.add_column(f"{column.name} {column.unit}".strip(), justify="right")
    if judged:
        grid.add_column("goal", overflow="fold")
    for row in table.rows:
        grid.add_row(*_cells(table, row, [column.name for column in columns], adds=adds), style=_STYLES[row.kind])
    console.print(f"\n[bold]{escape(table.title)}[/bold]")
    rounds = "1 round" if table.rounds == 1 else f"{table.rounds} rounds"
    beside = f"ratio to: {table.reference}; {rounds}, {table.seconds:.1f} s"
    console.print(escape(beside), style="dim")
    console.print(grid)
    for row in table.rows:
        if row.reason:
            console.print(f"{row.name}: {row.reason}", style="yellow", markup=False)
    if table.note:
        console.print(escape(table.note), style="dim")


def _cells(table: Table, row: Row, columns: Sequence[str], *, adds: bool) -> list[str]:
    name = escape(row.name)
    if row.reason:
        return [name, "-"]
    ratio = f"{number(row.ratio.middle)} x" if row.ratio else "-"
    if row.beside not in {table.reference, row.name}:
        name += f" [dim](to: {escape(row.beside)})[/dim]"
    spread = f"{number(row.ratio.low)} to {number(row.ratio.high)}" if row.ratio else ""
    cells = [name, ratio, spread]
    if adds:
        cells.append(f"{row.added.middle:+.2f}" if row.added else "")
    cells.append(number(row.value.middle) if row.value else "")
    cells += [_counted(row.columns[name]) if name in row.columns else "" for name in columns]
    cells.append("\n".join(_verdict(verdict) for verdict in row.verdicts))
    return cells


def _verdict(verdict: Verdict) -> str:
    goal = escape(str(verdict.goal))
    if verdict.figure is None:
        return f"[yellow]{goal}: ?[/yellow]"
    # What stands in no column of its own is told here.
    figure = f" ({number(verdict.figure)})" if verdict.goal.beside or verdict.goal.of == VALUE else ""
    if not verdict.holds:
        return f"[red]{goal} missed{figure}[/red]"
    if verdict.stretches:
        return f"[green]{goal} met{figure}, and {verdict.goal.stretch:g}[/green]"
    harder = "" if verdict.goal.stretch is None else f", not {verdict.goal.stretch:g}"
    return f"[green]{goal} met{figure}{harder}[/green]"


def summary(tables: Sequence[Table]) -> str:
    """Say in a line how many goals are met, and which are not."""
    found = [(table, row, verdict) for table in tables for row in table.rows for verdict in row.verdicts]
    missed = [_named(*each) for each in found if not each[2].holds and each[2].figure is not None]
    unknown = [f"{_named(*each)}: {each[2].reason}" for each in found if each[2].figure is None]
    met = sum(verdict.holds for _, _, verdict in found)
    parts = [f"goals met: {met} of {len(found)}"]
    if missed:
        parts.append(f"missed: {' | '.join(missed)}")
    if unknown:
        parts.append(f"not measured: {' | '.join(unknown)}")
    return "; ".join(parts)


def _named(table: Table, row: Row, verdict: Verdict) -> str:
    where = f"{table.subject} {table.brief}".strip()
    figure = "" if verdict.figure is None else f"{number(verdict.figure)}, "
    return f"{where}, {row.name.removeprefix('budgetguard ')} ({figure}goal {verdict.goal})"
