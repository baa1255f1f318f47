"""The jobs of one call: what was taken up, what has ended, and in which order it is given out.

Nothing here waits, and nothing is locked: whoever works with it in threads holds a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Any

from budgetguard.pool.report import REST_MAX, JobResult, NotRun

__all__ = ["BOUND", "Batch", "Job"]

BOUND = 1000
"""How many jobs of one call may be under way or wait to be asked for, unless said otherwise."""


class Job:
    """One call of a function."""

    __slots__ = ("args", "function", "index", "kwargs", "left_out", "result")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], index: int = 0
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.index = index
        self.result: JobResult[Any] | None = None
        self.left_out = False
        """Whether it gives no result."""

    def ended(self, value: Any, error: BaseException | None = None) -> JobResult[Any]:
        """Note what came of it."""
        self.result = JobResult(self.index, self.args, value, error)
        return self.result

    def not_run(self, why: BaseException | str) -> NotRun:
        """Note that nothing came of it."""
        self.left_out = True
        self.result = JobResult(self.index, self.args, None, why if isinstance(why, BaseException) else None)
        return NotRun(self.index, self.args, self.kwargs, why)


class Batch:
    """The jobs of one call of ``map`` and the like.

    Args:
        iterables: What the jobs are made of.
        ordered: Whether results are given out in the order of the jobs, or as they come.
        shows: Whether a job left out gives a result too: its error.
        bound: How many jobs may be under way or wait to be asked for.
    """

    def __init__(self, iterables: Sequence[Any], *, ordered: bool, shows: bool, bound: int) -> None:
        self._iterables = iterables
        self._ordered = ordered
        self._shows = shows
        self._bound = bound
        self._kept: deque[Job] = deque()
        """With an order all that were taken up, else those that have ended; until they are given out."""
        self.taken = 0
        self._given = 0
        self._open = 0
        self.over = False
        """Whether nothing more is taken up."""
        self.error: BaseException | None = None
        """What is raised when everything has been given out."""
        self.refused = False
        """Whether that is because the account said no."""
        self.begun = False
        """Whether somebody has asked for a result."""
        self.unwanted = False
        """Whether nobody will."""
        self.unbound = False
        """Whether results may pile up, as the pool is being left and somebody still holds on to them."""

    @property
    def size(self) -> int | None:
        """How many jobs there are; ``None`` if an iterable does not tell."""
        if not all(isinstance(iterable, Sized) for iterable in self._iterables):
            return None
        return min((len(iterable) for iterable in self._iterables), default=0)

    @property
    def wants(self) -> bool:
        """Whether another job may be taken up."""
        return not self.over and (self.unwanted or self.unbound or self.taken - self._given < self._bound)

    @property
    def finished(self) -> bool:
        """Whether all that was taken up has ended."""
        return self.over and not self._open

    @property
    def unheard(self) -> bool:
        """Whether the account said no, and nobody has asked for results, so nobody was told."""
        return self.refused and not self.begun

    def take(self, job: Job) -> None:
        """Note that a job was taken up."""
        self.taken += 1
        self._open += 1
        if self._ordered and not self.unwanted:
            self._kept.append(job)

    def end(self, job: Job) -> None:
        """Note that it has ended: its result is there."""
        self._open -= 1
        if not self._ordered and not self.unwanted:
            self._kept.append(job)
        if self.unwanted:
            self._given += 1
            self._kept.clear()

    def next(self) -> JobResult[Any] | None:
        """Give out the next result that is there."""
        self.begun = True
        while self._kept and self._kept[0].result is not None:
            job = self._kept.popleft()
            self._given += 1
            if not job.left_out or (self._shows and job.result is not None and job.result.error is not None):
                return job.result
        return None

    def stop(self, error: BaseException, *, refused: bool = False) -> None:
        """Take no more, and raise this when everything has been given out. The first word counts."""
        if self.error is None and not self.finished:
            self.error, self.refused = error, refused
        self.over = True

    def raised(self) -> BaseException | None:
        """Give what is to be raised at the end, once."""
        error, self.error = self.error, None
        return error

    def drop(self) -> None:
        """Note that nobody wants results any more. Safe in a finalizer, which may run in the middle of anything."""
        self.unwanted = True
        if self.begun:
            self.over = True

    def rest(self) -> tuple[int | None, list[NotRun]]:
        """Tell how many jobs were never taken up, and which, as far as the iterables tell."""
        size = self.size
        if size is None:
            return None, []
        left = max(0, size - self.taken)
        if not all(isinstance(iterable, Sequence) for iterable in self._iterables):
            return left, []
        places = range(self.taken, self.taken + min(left, REST_MAX))
        return left, [NotRun(n, tuple(values[n] for values in self._iterables), {}, "stopped") for n in places]


def rows(iterables: Sequence[Iterable[Any]]) -> Any:
    """Go through several iterables at once, to the end of the shortest."""
    return zip(*iterables, strict=False)
