"""The command: ``python -m benchmarks``, or ``make bench``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.console import Console

from benchmarks.contest import Pace, reason
from benchmarks.machine import facts, headline
from benchmarks.results import LATEST, save
from benchmarks.show import show, summary
from benchmarks.subjects import SUBJECTS, load
from benchmarks.table import Table

__all__ = ["main", "measure"]

Subject = Callable[[Pace], Iterator[Table]]


def measure(
    subjects: Mapping[str, Callable[[], Subject]], pace: Pace, console: Console, tables: list[Table]
) -> list[str]:
    """Measure and print subject by subject, and add to *tables*; give what went wrong with whole subjects."""
    broken: list[str] = []
    for name, find in subjects.items():
        console.rule(name, align="left", style="dim")
        try:
            for table in find()(pace):
                table.subject = name
                tables.append(table)
                show(console, table)
        except Exception as error:  # noqa: BLE001 - the other subjects are still worth measuring
            broken.append(f"{name} ({reason(error)})")
            console.print(f"{name} could not be measured:", style="red")
            console.print_exception()
    return broken


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What the guard costs.")
    parser.add_argument("--fast", action="store_true", help="fewer and shorter rounds: under two minutes in all")
    parser.add_argument("--only", default="", metavar="SUBJECT,...", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--json", type=Path, default=LATEST, metavar="FILE", help=f"where results go ({LATEST.name})")
    arguments = parser.parse_args(argv)
    arguments.only = [name for name in arguments.only.split(",") if name] or list(SUBJECTS)
    unknown = [name for name in arguments.only if name not in SUBJECTS]
    if unknown:
        parser.error(f"no such subject: {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and keep the results. Missed goals are told; they are no error."""
    arguments = _arguments(argv)
    logging.getLogger().setLevel(logging.ERROR)  # peers log to whoever listens
    wide = None if sys.stdout.isatty() else 160
    console = Console(width=wide, highlight=False)
    begin = time.perf_counter()
    machine = facts()
    console.print(headline(machine), style="dim")
    subjects = {name: (lambda name=name: load(name)) for name in arguments.only}
    tables: list[Table] = []
    try:
        broken = measure(subjects, Pace(fast=arguments.fast), console, tables)
    except KeyboardInterrupt:
        broken = ["the rest (interrupted)"]
    save(arguments.json, machine, tables, fast=arguments.fast)
    console.print()
    if broken:
        console.print(f"not measured: {', '.join(broken)}", style="red", markup=False, soft_wrap=True)
    console.print(f"{time.perf_counter() - begin:.0f} s; results in {arguments.json}", style="dim", soft_wrap=True)
    console.print(summary(tables), style="bold", markup=False, soft_wrap=True)
    sys.stdout.flush()
    os._exit(0)  # some peers leave threads behind that never end


if __name__ == "__main__":
    main()
