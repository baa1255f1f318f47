"""The table at the end, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from budgetguard.cli.demo.measure import Figures, Promise
from budgetguard.cli.demo.stage import Scene

__all__ = ["introduce", "report"]

_NOTE = """
"Slots used" is the share of the slot-seconds that were ours (the limit less the stranger's slots) in which our tasks \
ran, from the first task accepted to the last; after that fewer jobs are left than slots.
In this scene what is ours grows or stays. A stranger who takes a slot just as it comes free is unknown to anybody \
until the next reading: the provider refuses one call, and the guard sends it again. Policy(slots_headroom=1) prevents \
even that, and costs a slot."""

_Row = tuple[str, Callable[[Figures], int | float | None], Callable[[Figures], str]]


def introduce(console: Console, scene: Scene, way: str) -> None:
    """Say what is going to happen; *way* is how the batch goes through the guard."""
    jobs, prices = scene.work.jobs, scene.work.credits.values()
    console.print(
        f"[bold]{len(jobs)} generations[/bold] for {sum(prices)} credits, on a fake Vidu that has "
        f"[bold]{scene.credits} credits[/bold] and refuses what it has no slot for (seed {scene.seed}).",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )
    for act in scene.acts:
        console.print(f"  [dim]{act.at:4.1f} s[/dim]  {act.says}", highlight=False)
    console.print(
        f"The same httpx code runs three times, each against a provider of its own: {way}; with a "
        "semaphore that is told of every change at once, as no real client is; and as it was before.\n",
        highlight=False,
        soft_wrap=not console.is_terminal,
    )


def report(console: Console, figures: Sequence[Figures], promises: Sequence[Promise]) -> None:
    """Show the runs beside each other, and which promises held."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column()
    for run in figures:
        table.add_column(run.title, justify="right")
    for title, rows in _TABLE:
        table.add_section()
        table.add_row(f"[bold]{title}[/bold]")
        for name, red, show in rows:
            table.add_row(f"  {name}", *(_cell(red(run), show(run)) for run in figures))
    console.print(table)
    for promise in promises:
        mark = Text("✓ ", "bold green") if promise.kept else Text("✗ ", "bold red")
        console.print(mark + Text(promise.says), soft_wrap=not console.is_terminal)
    console.print(_NOTE, style="dim", soft_wrap=not console.is_terminal)


def _cell(red: float | None, text: str) -> Text:
    return Text(text, style="bold red" if red else "")


def _plain(value: Callable[[Figures], object]) -> Callable[[Figures], str]:
    return lambda run: str(value(run))


def _never(run: Figures) -> None:
    del run


def _counted(name: str, value: Callable[[Figures], int], *, bad: bool = False) -> _Row:
    return name, value if bad else _never, _plain(value)


_TABLE: tuple[tuple[str, tuple[_Row, ...]], ...] = (
    (
        "what the batch saw",
        (
            _counted("admitted", lambda run: run.admitted),
            _counted("queued for a slot", lambda run: run.queued),
            _counted("refused before sending", lambda run: run.refused),
            _counted("refused by the provider", lambda run: run.failed, bad=True),
            _counted("done", lambda run: run.done),
            ("cheapest job left out", _never, lambda run: "-" if run.cheapest is None else f"{run.cheapest} credits"),
            ("time", _never, lambda run: f"{run.seconds:.1f} s"),
        ),
    ),
    (
        "what the provider saw",
        (
            _counted("submits", lambda run: run.submits),
            _counted("accepted", lambda run: run.accepted),
            _counted("refused for want of a slot", lambda run: run.refused_slots, bad=True),
            _counted("refused for want of credits", lambda run: run.refused_credits, bad=True),
            _counted("asked for the balance", lambda run: run.asked),
            ("charged", _never, lambda run: f"{run.charged} credits"),
            ("left", _never, lambda run: f"{run.left} credits"),
            ("slots used", _never, lambda run: f"{run.used:.1%}"),
        ),
    ),
)
