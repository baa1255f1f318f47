"""What a guarded transport adds to one request: a prebuilt request, an answer in process, no client around."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contest import Contest, Pace
from benchmarks.table import ADDED, Goal, Table
from benchmarks.wire import BARE, Way, atidy, tidy, ways

_GOALS = {"table": (Goal(5, 3, of=ADDED),), "json": (Goal(10, 8, of=ADDED),), "": ()}
_NOTE = (
    "Every request starts a task. Vidu's tasks are told to be done between samples, outside the timed part, so that "
    "none gather; priced by table, a call is done with its answer, and that is inside."
)


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    yield transport(pace, asynchronous=False)
    yield transport(pace, asynchronous=True)


def transport(pace: Pace, *, asynchronous: bool) -> Table:
    """Measure one kind of transport."""
    call = "await it.handle_async_request(request)" if asynchronous else "it.handle_request(request)"
    brief = "async" if asynchronous else "blocking"
    contest = Contest(
        f"one request through a transport, {brief}", BARE, pace, note=_NOTE, brief=brief, clock=time.process_time
    )
    with tempfile.TemporaryDirectory() as folder:
        bare = Way(BARE, "floor", lambda studio: (studio, None))
        for way in (bare, *ways(Path(folder), asynchronous=asynchronous)):
            contest.statement(
                way.name,
                call,
                lambda way=way: way.names(client=False, asynchronous=asynchronous),  # type: ignore[misc]
                asynchronous=asynchronous,
                kind=way.kind,
                goals=_GOALS[way.goal],
                between=atidy if asynchronous else tidy,
            )
        return contest.table()
