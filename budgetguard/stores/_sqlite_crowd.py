"""Tasks that come one right after the other, and had better travel together."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Crowd"]

_CLOSE = 250_000
"""Nanoseconds between two tasks that come one right after the other."""


class Crowd:
    """Whether tasks come so close to each other that it pays to let the others have a go before one goes.

    A task that is let through at once never meets another: they take turns on one loop. So of tasks that come one right
    after the other the second lets all come that are about to, and they travel in one commit; as long as they do, so do
    those who come next. Whoever comes alone is never held up.
    """

    __slots__ = ("_at", "_task", "is_dense")

    def __init__(self) -> None:
        self.is_dense = False
        self._task = 0
        self._at = 0

    def look(self) -> bool:
        """Whether a task that comes now should join the line, and not go at once."""
        if self.is_dense:
            return True
        task = _task()
        now = time.monotonic_ns()
        if task != self._task:
            self.is_dense = now - self._at < _CLOSE
            self._task = task
        self._at = now
        return self.is_dense

    def went(self, together: int) -> None:
        """Note how many travelled in the last commit of the line."""
        self.is_dense = together > 1


def _task() -> int:
    """Tell this task from the one before it. A number, so that no task is kept alive."""
    try:
        return id(asyncio.current_task())
    except RuntimeError:
        return 0  # trio: a crowd is not looked for there
