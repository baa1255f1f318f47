"""What the guard adds to a whole request of an httpx client, whose answer comes in process and at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contest import Contest, Pace
from benchmarks.table import Goal, Table
from benchmarks.wire import BARE, Way, atidy, tidy, ways

_GOALS = {"table": (Goal(1.08, 1.05),), "json": (Goal(1.12, 1.08),), "": ()}


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    yield client(pace, asynchronous=False)
    yield client(pace, asynchronous=True)


def client(pace: Pace, *, asynchronous: bool) -> Table:
    """Measure one kind of client."""
    call = "(await it.post(path, json=body)).json()" if asynchronous else "it.post(path, json=body).json()"
    title = f"one request of an httpx.{'AsyncClient' if asynchronous else 'Client'}"
    note = "The second bare row shows how far two equal rows are apart. Tasks end between samples, as in transport."
    contest = Contest(
        title, BARE, pace, note=note, brief="async" if asynchronous else "blocking", clock=time.process_time
    )
    with tempfile.TemporaryDirectory() as folder:
        bare = (Way(name, "floor", lambda studio: (studio, None)) for name in (BARE, "bare again"))
        for way in (*bare, *ways(Path(folder), asynchronous=asynchronous)):
            contest.statement(
                way.name,
                call,
                lambda way=way: way.names(client=True, asynchronous=asynchronous),  # type: ignore[misc]
                asynchronous=asynchronous,
                kind=way.kind,
                goals=_GOALS[way.goal],
                between=atidy if asynchronous else tidy,
            )
        return contest.table()
