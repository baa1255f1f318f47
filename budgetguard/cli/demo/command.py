"""``budgetguard demo``: the three runs side by side, watched."""

from __future__ import annotations

import enum
import os
import random
import sys
import threading
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console

from budgetguard.cli.complaint import USAGE, complain
from budgetguard.cli.demo.measure import promises
from budgetguard.cli.demo.report import introduce, report
from budgetguard.cli.demo.runs import ByJob, ByPool, Guarded, Run, Told, Unguarded
from budgetguard.cli.demo.stage import scene
from budgetguard.cli.demo.view import watch
from budgetguard.errors import SettingError

__all__ = ["EPILOG", "WAYS", "Way", "demo", "play"]


class Way(enum.StrEnum):
    """The ways into the guard that the demonstration knows."""

    TRANSPORT = "transport"
    JOB = "job"
    POOL = "pool"


WAYS: Mapping[Way, type[Guarded]] = {Way.TRANSPORT: Guarded, Way.JOB: ByJob, Way.POOL: ByPool}
"""How the batch is run by each of them."""

EPILOG = """\
[bold]Examples[/bold]

budgetguard demo

budgetguard demo --way pool

budgetguard demo --seed 7 --plain > demo.txt"""


def demo(
    *,
    jobs: Annotated[int, typer.Option(min=12, max=500, metavar="N", help="Generations in the batch.")] = 60,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Repeat a scene; a new one without this.")] = None,
    way: Annotated[Way, typer.Option(help="How the batch goes through the guard.")] = Way.TRANSPORT,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a live view.")] = False,
) -> None:
    """Watch a batch run against a made-up provider: with the guard, with an all-knowing semaphore, and without.

    Nothing leaves this machine. Takes half a minute, and exits with 1 if a promise was not kept.
    """
    console = Console()
    chosen = random.SystemRandom().randrange(1, 10_000) if seed is None else seed
    played = scene(jobs, chosen)
    guarded = WAYS[way](played)
    introduce(console, played, guarded.says)
    runs: list[Run] = [guarded, Told(played), Unguarded(played)]
    try:
        with watch(console, runs, plain=plain or not console.is_terminal):
            play(runs)
    except SettingError as error:
        complain(str(error), USAGE)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.stdout.flush()
        os._exit(130)  # The batch's threads would see their jobs through first.
    figures = [run.figures for run in runs if run.figures is not None]
    held = promises(figures[0], figures[1])
    report(console, figures, held)
    if not all(promise.kept for promise in held):
        raise typer.Exit(1)


def play(runs: list[Run]) -> None:
    """Play all runs at once, so that what else the machine does slows all of them alike.

    They play in threads that a Ctrl-C need not wait for.
    """
    failures: list[BaseException] = []
    ready = threading.Barrier(len(runs))

    def one(run: Run) -> None:
        try:
            run.play(ready.wait)
        except BaseException as error:  # noqa: BLE001 - raised again in the first thread
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=one, args=(run,), name=f"demo {run.title}", daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One that failed before the start stops the others there.
    for error in sorted(failures, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
