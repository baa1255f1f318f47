"""``budgetguard plan``: say what would become of a batch if it were run now, before anything is spent."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from budgetguard.cli.complaint import BELOW, UNUSABLE, USAGE, complain, print_json, shown
from budgetguard.errors import CreditsUnavailable, SettingError, StoreError
from budgetguard.guard import Guard
from budgetguard.plan import Plan, duration, slots_text
from budgetguard.ports import Provider
from budgetguard.providers.udio import UdioPro
from budgetguard.providers.vidu import Vidu

__all__ = ["EPILOG", "plan"]

_PLACE = re.compile(r"jobs\[(\d+)\]\.?")
_SHOWN = 20

EPILOG = """\
[bold]Examples[/bold]

VIDU_API_KEY=... budgetguard plan jobs.jsonl --seconds 90

budgetguard plan jobs.jsonl --order most --json

echo '{"path": "text2video", "body": {"model": "viduq2", "prompt": "a harbour"}, "seconds": 60}' | budgetguard plan -

[bold]Jobs[/bold], one a line: a number of credits, or an object with [cyan]path[/cyan] and [cyan]body[/cyan] to be \
priced, or with [cyan]credits[/cyan] and [cyan]slots[/cyan]; and with [cyan]seconds[/cyan] and a [cyan]label[/cyan] \
where it has them.

[bold]JSON[/bold]: one object, whose fields stay. [cyan]account[/cyan], [cyan]unit[/cyan]; [cyan]available[/cyan], \
[cyan]total[/cyan], [cyan]spent[/cyan] (by the jobs that fit), [cyan]shortfall[/cyan]: credits; [cyan]seconds[/cyan]: \
how long it takes, null where nobody knows; [cyan]slots[/cyan]: ours now, by pool; [cyan]jobs[/cyan]: each with line, \
label, credits, slots, pool, seconds, fits, why, problem, start.

[bold]Exit codes[/bold]: 0 all jobs fit · 1 some do not · 2 no key, or a line that is no job · 3 the balance cannot be \
read."""


class _Name(StrEnum):
    vidu = "vidu"
    udio = "udio"


class _Order(StrEnum):
    given = "given"
    most = "most"


def plan(
    *,
    jobs: Annotated[str, typer.Argument(metavar="JOBS", help='A file with one job a line; "-" is the standard input.')],
    provider: Annotated[_Name, typer.Option(help="Whose account it is.")] = _Name.vidu,
    order: Annotated[
        _Order, typer.Option(help="Which jobs fit: each in turn as given, or as many as possible.")
    ] = _Order.given,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, metavar="S", help="The mean duration of jobs that tell none.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds the API key.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="The provider's address.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most tasks at once, where the provider does not tell.")
    ] = None,
    prices: Annotated[
        str | None, typer.Option(metavar="FILE", help="A TOML file with changes to the price list.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A store whose processes' holds count, e.g. sqlite:///a.db.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which jobs fit the balance, what they cost, what is missing, and how long they take. Spends nothing."""
    variable = key_env or f"{provider.value.upper()}_API_KEY"
    key = os.environ.get(variable, "").strip()
    if not key:
        named = variable if variable.isidentifier() and variable.isupper() else "the variable"
        complain(f"No key: set {named} to the API key, or name the variable that holds it with --key-env NAME.", USAGE)
    lines, batch = _read(jobs)
    try:
        with Guard(_adapter(provider, base_url, concurrency, prices), store=store, api_key=key) as guard:
            unit = guard.engine.provider.unit
            made = guard.plan(batch, order=order.value, seconds=seconds)
    except SettingError as error:
        place = _PLACE.match(error.name)
        if place is None:
            complain(str(error), USAGE)
        rest = f"{error.name[place.end() :]}={error.value!r}".lstrip("=")
        complain(
            f"Line {lines[int(place[1])]} of {_named(jobs)} is no job: {rest} is not usable: {error.right}.", USAGE
        )
    except CreditsUnavailable as error:
        complain(str(error).partition(" Check the key")[0], UNUSABLE)
    except StoreError as error:
        complain(str(error), UNUSABLE)
    if as_json:
        print_json(_document(made, lines))
    else:
        _show(made, lines, unit)
    if made.left_out:
        raise typer.Exit(BELOW)


def _adapter(name: _Name, base_url: str | None, concurrency: int | None, prices: str | None) -> Provider:
    settings: dict[str, Any] = {"prices": prices}
    if base_url is not None:
        settings["base_url"] = base_url
    if concurrency is not None:
        settings["concurrency"] = concurrency
    return Vidu(**settings) if name is _Name.vidu else UdioPro(**settings)


def _named(jobs: str) -> str:
    return "the standard input" if jobs == "-" else jobs


def _read(jobs: str) -> tuple[list[int], list[Any]]:
    """Read the jobs and the numbers of their lines; empty lines are none."""
    try:
        text = sys.stdin.read() if jobs == "-" else Path(jobs).read_text("utf-8")
    except (OSError, ValueError) as error:  # a name that no file can have is a value error
        why = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else "it is not UTF-8 text, or no name of a file"
        )
        complain(f"{_named(jobs)} cannot be read: {why}.", USAGE)
    lines: list[int] = []
    batch: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                batch.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                complain(f"Line {number} of {_named(jobs)} is not JSON: {error}.", USAGE)
            lines.append(number)
    return lines, batch


def _document(made: Plan, lines: list[int]) -> dict[str, Any]:
    document = asdict(made)
    for job in document["jobs"]:
        job.update(line=lines[job.pop("index")])
    return document


# -- for people -----------------------------------------------------------------------------------------------------


def _show(made: Plan, lines: list[int], unit: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    fitting, out = len(made.fits), made.left_out
    colour = "green" if not out else "yellow"
    console.print(f"[bold {colour}]{fitting:,} of {len(made.jobs):,}[/] jobs fit")
    console.print(f"  price      [bold]{made.spent:,}[/bold] {unit}" + (f", {made.total:,} for all" if out else ""))
    console.print(f"  available  {made.available:,}")
    if made.shortfall:
        console.print(f"  short      [yellow]{made.shortfall:,}[/yellow] for all")
    took = "[dim]not known; give --seconds[/dim]" if made.seconds is None else f"about {duration(made.seconds)}"
    console.print(f"  duration   {took}, on {slots_text(made.slots)}")
    if out:
        table = Table(title="Left out", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("line", justify="right")
        table.add_column("job", overflow="fold")
        table.add_column(unit, justify="right")
        table.add_column("why", overflow="fold")
        for job in out[:_SHOWN]:
            credits = "-" if job.credits is None else f"{job.credits:,}"
            why = {"credits": "too little left", "slots": f"needs {job.slots} slots"}.get(job.why, job.problem)
            table.add_row(str(lines[job.index]), shown(job.label), credits, shown(why))
        console.print(table)
        if len(out) > _SHOWN:
            console.print(f"[dim]and {len(out) - _SHOWN:,} more; --json shows all[/dim]")
