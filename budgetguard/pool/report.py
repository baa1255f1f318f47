"""What became of the jobs of a pool: one by one, and in all."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from budgetguard.pool.progress import PoolProgress

__all__ = ["JobResult", "NotRun", "PoolReport", "Tally"]

R = TypeVar("R")

ERRORS_MAX = 100
"""How many failures a report keeps; each has been given to whoever wanted the result."""
REST_MAX = 10_000
"""How many jobs that were not even begun a report lists one by one."""
_SHOWN = 10
_WIDTH = 60


@dataclass(frozen=True, slots=True)
class JobResult(Generic[R]):
    """How one job of a pool ended. Since 0.1.

    Attributes:
        index: Its place among the jobs of the same call, from 0.
        args: What the function was called with.
        value: What it returned; ``None`` if it failed.
        error: What it raised, or why it was not run; ``None`` if it returned.
    """

    index: int
    args: tuple[Any, ...]
    value: R | None
    error: BaseException | None = None

    def get(self) -> R:
        """Give the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class NotRun:
    """A job that a pool did not run. Since 0.1.

    Attributes:
        index: Its place among the jobs of the same call, from 0.
        args: What the function would have been called with.
        kwargs: The same by name.
        why: What it was refused with, or a word where it was not even tried: ``stopped`` or ``cancelled``.
    """

    index: int
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    why: BaseException | str

    def __str__(self) -> str:
        given = [repr(value) for value in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        text = ", ".join(given)
        text = text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
        why = self.why if isinstance(self.why, str) else f"{type(self.why).__name__}: {self.why}"
        return f"#{self.index} ({text}): {why}"


@dataclass(frozen=True, slots=True)
class PoolReport:
    """How the jobs of a pool stand, or what became of them. Immutable. Since 0.1.

    Attributes:
        done: Jobs whose function returned.
        failed: Jobs whose function raised, or which could not be priced.
        running: Jobs whose function runs.
        not_run: Jobs that were taken up and not run, each with why; and those behind one that stopped its call, where
            the call was given lists, up to 10,000.
        left: Jobs nobody took up that `not_run` does not list; ``None`` where an iterable does not tell its length.
        spent: Credits the ended jobs cost, or may have cost.
        errors: The first hundred failures.
    """

    done: int = 0
    failed: int = 0
    running: int = 0
    not_run: tuple[NotRun, ...] = ()
    left: int | None = 0
    spent: int = 0
    errors: tuple[JobResult[Any], ...] = field(default=(), repr=False)

    @property
    def ended(self) -> int:
        """Jobs that are over, in whatever way."""
        return self.done + self.failed + len(self.not_run)

    def __repr__(self) -> str:
        parts = [f"{self.done} done", f"{self.failed} failed"]
        parts += [f"{self.running} running"] if self.running else []
        parts += [f"{len(self.not_run)} not run"]
        parts += ["an unknown number left"] if self.left is None else [f"{self.left} left"] if self.left else []
        return f"PoolReport({', '.join(parts)}, {self.spent} credits)"

    def __str__(self) -> str:
        lines = [repr(self)]
        lines += _some("not run", [str(job) for job in self.not_run])
        lines += _some("failed", [f"#{job.index}: {type(job.error).__name__}: {job.error}" for job in self.errors])
        return "\n".join(lines)


def _some(title: str, lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [f"  {title} {line}" for line in lines[:_SHOWN]] + ([f"  {title}: and {more} more"] if more > 0 else [])


class Tally:
    """Counts the jobs of a pool as they end. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = self._failed = self._running = self._spent = 0
        self._not_run: list[NotRun] = []
        self._left: int | None = 0
        self._errors: list[JobResult[Any]] = []
        self._total: int | None = 0

    def expect(self, count: int | None) -> None:
        """Count jobs that are to be done."""
        with self._lock:
            self._total = None if count is None or self._total is None else self._total + count

    def begun(self) -> None:
        """Count a job that runs from here on."""
        with self._lock:
            self._running += 1

    def over(self, spent: int) -> None:
        """Count that it runs no more."""
        with self._lock:
            self._running -= 1
            self._spent += spent

    def result(self, result: JobResult[Any]) -> None:
        """Count what a job came to."""
        with self._lock:
            if result.error is None:
                self._done += 1
                return
            self._failed += 1
            if len(self._errors) < ERRORS_MAX:
                self._errors.append(result)

    def not_run(self, job: NotRun) -> None:
        """Count a job that was not run."""
        with self._lock:
            self._not_run.append(job)

    def left(self, count: int | None, listed: Sequence[NotRun]) -> None:
        """Count the jobs behind one that stopped its call."""
        with self._lock:
            self._not_run += listed
            self._left = None if count is None or self._left is None else self._left + count - len(listed)

    def progress(self, limit: int | None, free: int) -> PoolProgress:
        """Put together what a bar shows."""
        with self._lock:
            return PoolProgress(
                self._done,
                self._failed,
                len(self._not_run),
                self._running,
                self._total,
                limit,
                self._spent,
                free,
            )

    def report(self) -> PoolReport:
        """Put it all together."""
        with self._lock:
            return PoolReport(
                self._done,
                self._failed,
                self._running,
                tuple(self._not_run),
                self._left,
                self._spent,
                tuple(self._errors),
            )
