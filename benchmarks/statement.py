"""Times a statement: compiled into the loop that is timed, so that nothing but the statement is called."""

from __future__ import annotations

import asyncio
import gc
import inspect
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Clock", "Names", "Setup", "Statement", "empty_loop"]

Clock = Callable[[], float]
Names = Mapping[str, Any]
Setup = Callable[[], Any]
"""Makes the names a statement uses, or a coroutine that does."""

_MOST = 2_000_000


def _compiled(code: str, names: Names, *, asynchronous: bool) -> Callable[..., Any]:
    """Put *code* into a timed loop, as a function of its names: they are found as fast as local ones are."""
    source = (
        f"{'async ' if asynchronous else ''}def timed(_times, _clock, {', '.join(names)}):\n"
        "    _begin = _clock()\n"
        "    for _ in _times:\n"
        f"{textwrap.indent(textwrap.dedent(code).strip(), ' ' * 8)}\n"
        "    return _clock() - _begin\n"
    )
    found: dict[str, Any] = {}
    exec(compile(source, "<statement>", "exec"), found)  # noqa: S102 - our own statements
    function: Callable[..., Any] = found["timed"]
    return function


@dataclass(slots=True)
class Statement:
    """A statement that is timed in a loop, with the garbage collector on, as in production.

    Attributes:
        code: What is timed. With *asynchronous* it may ``await``.
        setup: Makes the names it uses.
        asynchronous: Whether it runs on the event loop.
        per: How many operations one run of it does.
        times: How often it runs in a sample; by default as often as takes the time of a sample.
        fresh: Whether every sample begins with new names: for what fills up or slows down with use.
        between: Tidies up outside the timed part, before every sample; given the names.
        clock: What it is timed by, in seconds: ``time.process_time`` for what never waits, so that whatever else the
            machine does is left out; on a machine that does nothing else both clocks say the same.
    """

    code: str
    setup: Setup
    asynchronous: bool = False
    per: int = 1
    times: int | None = None
    fresh: bool = False
    between: Callable[..., Any] | None = None
    clock: Clock = time.perf_counter
    _names: dict[str, Any] | None = field(default=None, init=False)
    _timed: Callable[..., Any] | None = field(default=None, init=False)

    def calibrate(self, runner: asyncio.Runner, sample: float) -> None:
        """Warm up, and find how often the statement runs in *sample* seconds."""
        self._seconds(runner, self.times or 1)  # what happens only once would be taken for the usual
        if self.times is not None:
            return
        times = 1
        while times < _MOST:
            # The quicker of two: one that was held up says nothing.
            taken = min(self._seconds(runner, times) for _ in range(2))
            if taken >= sample:
                break
            times = min(_MOST, max(times * 2, int(times * sample / max(taken, 1e-7) * 1.1)))
        self.times = times

    def sample(self, runner: asyncio.Runner, empty: float) -> float:
        """Give the microseconds an operation takes, less those of an *empty* loop."""
        times = self.times or 1
        gc.collect()  # no sample pays for what the one before left behind
        return max(self._seconds(runner, times) / times - empty, 1e-10) / self.per * 1e6

    def _seconds(self, runner: asyncio.Runner, times: int) -> float:
        names = self._names
        if names is None or self.fresh:
            names = self._names = dict(_result(runner, self.setup()))
        if self._timed is None:
            self._timed = _compiled(self.code, names, asynchronous=self.asynchronous)
        if self.between is not None:
            _result(runner, self.between(**names))
        seconds: float = _result(runner, self._timed(range(times), self.clock, **names))
        return seconds


def empty_loop() -> float:
    """Give the seconds one turn of a loop takes that does nothing."""
    timed = _compiled("pass", {"nothing": None}, asynchronous=False)
    times = 50_000
    return float(min(timed(range(times), time.perf_counter, None) for _ in range(3))) / times


def _result(runner: asyncio.Runner, given: Any) -> Any:
    """Wait for what is awaitable, on the loop every sample runs on."""
    if not inspect.iscoroutine(given):
        return given
    return runner.run(given)
