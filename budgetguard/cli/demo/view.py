"""What a spectator sees while the runs go on: panels that move on a terminal, a line here and there elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from budgetguard.cli.demo.runs import Look, Run

__all__ = ["watch"]

_PER_SECOND = 8
_PLAIN_SECONDS = 5.0
_WIDTH = 37
_BAR = 22
_NEWS = 3


@contextmanager
def watch(console: Console, runs: Sequence[Run], *, plain: bool) -> Generator[None]:
    """Show the runs while the body goes through them."""
    if plain:
        with _tell(console, runs):
            yield
        return
    with Live(console=console, get_renderable=lambda: _board(console, runs), refresh_per_second=_PER_SECOND):
        yield


# -- on a terminal --------------------------------------------------------------------------------------------------


def _board(console: Console, runs: Sequence[Run]) -> RenderableType:
    if console.width >= len(runs) * (_WIDTH + 1):
        return Columns([_panel(run) for run in runs], padding=(0, 1))
    return _figures(runs)


def _panel(run: Run) -> Panel:
    look = run.look()
    colour = "dim" if run.began is None else "green" if run.figures is not None else "cyan"
    said = "waits" if run.began is None else f"{look.seconds:.1f} s"
    return Panel(
        Group(
            Text(run.note, style="dim", no_wrap=True, overflow="ellipsis"), Text(), _grid(run, look), Text(), _news(run)
        ),
        title=f"[bold]{run.title}[/bold]",
        subtitle=said,
        border_style=colour,
        width=_WIDTH,
    )


def _figures(runs: Sequence[Run]) -> Table:
    """The same without pictures, for a narrow terminal."""
    looks = [run.look() for run in runs]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column()
    for run in runs:
        table.add_column(run.title, justify="right", min_width=14)
    for name, show in _ROWS:
        table.add_row(name, *(show(look) for look in looks))
    return table


_ROWS: tuple[tuple[str, Callable[[Look], str]], ...] = (
    ("time", lambda look: f"{look.seconds:.1f} s"),
    ("balance", lambda look: str(look.balance)),
    ("held", lambda look: "-" if look.held is None else str(look.held)),
    ("slots", lambda look: f"{look.ours} of {look.limit - look.foreign}"),
    ("line", lambda look: str(look.line)),
    ("done", lambda look: str(look.done)),
    ("refused", lambda look: str(look.refused)),
    ("errors", lambda look: str(look.said_no)),
)


def _grid(run: Run, look: Look) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(justify="right", style="dim", width=7)
    grid.add_column(width=_BAR + 2, no_wrap=True)
    jobs = len(run.scene.work.jobs)
    held = look.held or 0
    grid.add_row("balance", _credits(look, run.scene.credits))
    grid.add_row("", f"[bold]{look.balance}[/bold]" + ("" if look.held is None else f", [yellow]{held} held[/yellow]"))
    grid.add_row("slots", _slots(look))
    grid.add_row(
        "", f"{look.ours} of {look.limit - look.foreign}" + (", [red]◆[/red] a stranger's" if look.foreign else "")
    )
    grid.add_row("line", _bar(look.line, jobs, "magenta") + Text(f" {look.line}"))
    grid.add_row("done", _bar(look.done, jobs, "green") + Text(f" {look.done}"))
    grid.add_row("refused", _bar(look.refused, jobs, "yellow") + Text(f" {look.refused}"))
    grid.add_row("errors", Text(f"{look.said_no} by the provider", style="bold red" if look.said_no else "dim"))
    return grid


def _credits(look: Look, first: int) -> Text:
    """The balance as a bar: what is free, what is promised, what is spent."""
    held = min(look.held or 0, look.balance)
    whole = round(_BAR * look.balance / first) if first else 0
    promised = min(whole, round(_BAR * held / first)) if first else 0
    return Text.assemble(
        ("█" * (whole - promised), "green"), ("█" * promised, "yellow"), ("░" * (_BAR - whole), "bright_black")
    )


def _slots(look: Look) -> Text:
    """The slots one by one: ours, the stranger's, the free ones."""
    free = max(0, look.limit - look.ours - look.foreign)
    return Text.assemble(("● " * look.ours, "cyan"), ("◆ " * look.foreign, "red"), ("○ " * free, "bright_black"))


def _bar(amount: int, whole: int, colour: str) -> Text:
    room = _BAR - 4
    full = min(room, -(-room * amount // whole)) if whole else 0
    return Text.assemble(("━" * full, colour), ("╌" * (room - full), "bright_black"))


def _news(run: Run) -> Text:
    lines = [f"{act.at:4.1f} s {act.says}" for act in run.acts[-_NEWS:]]
    text = Text("\n".join([*lines, *[""] * (_NEWS - len(lines))]), style="dim", no_wrap=True, overflow="ellipsis")
    if lines:
        text.highlight_regex(r"\d+\.\d s", style="bright_black")
    return text


# -- elsewhere ------------------------------------------------------------------------------------------------------


@contextmanager
def _tell(console: Console, runs: Sequence[Run]) -> Generator[None]:
    """Print a line every few seconds, and one at each end, from a thread of its own."""
    over = threading.Event()
    told: set[str] = set()

    def ends() -> None:
        for run in runs:
            if run.figures is not None and run.title not in told:
                told.add(run.title)
                _print(console, run)

    def work() -> None:
        while not over.wait(_PLAIN_SECONDS):
            ends()
            for run in runs:
                if run.began is not None and run.figures is None:
                    _print(console, run)

    thread = threading.Thread(target=work, name="budgetguard-demo-view", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        ends()


def _print(console: Console, run: Run) -> None:
    console.print(f"{run.title}: {_line(run.look())}", highlight=False, soft_wrap=True)


def _line(look: Look) -> str:
    held = "" if look.held is None else f" ({look.held} held)"
    return (
        f"{look.seconds:.1f} s, balance {look.balance}{held}, {look.ours} of {look.limit - look.foreign} slots, "
        f"{look.line} in line, {look.done} done, {look.refused} refused, {look.said_no} refused by the provider"
    )
