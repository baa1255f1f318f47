"""One job on an event loop, and what its user holds of it."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, InvalidStateError
from typing import Any, Generic, TypeVar

import anyio

from budgetguard._half_made import even_half_made
from budgetguard.pool.batch import Job

__all__ = ["PoolJob", "Task"]

R = TypeVar("R")


class Task(Job):
    """A job of this pool."""

    __slots__ = ("context", "over", "scope")

    def __init__(
        self,
        context: contextvars.Context,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        index: int = 0,
    ) -> None:
        super().__init__(function, args, kwargs, index)
        self.context = context
        self.over = anyio.Event()
        self.scope = anyio.CancelScope()

    def outcome(self) -> Any:
        """Give what came of it."""
        if self.result is None:
            raise InvalidStateError("the job is not over yet: await it")
        if self.left_out and self.result.error is None:
            raise CancelledError
        return self.result.get()


class PoolJob(Generic[R]):
    """One job of an `AsyncPool`. Made by `AsyncPool.submit`; ``await`` it for what its function returns. Since 0.1.

    Any number of tasks may wait for it, on the event loop of its pool.
    """

    def __init__(self, task: Task, cancel: Callable[[Task], bool]) -> None:
        self._task = task
        self._cancel = cancel

    def __await__(self) -> Generator[Any, Any, R]:
        return self._wait().__await__()

    async def _wait(self) -> R:
        await self._task.over.wait()
        return self.result()

    def done(self) -> bool:
        """Tell whether it is over, in whatever way."""
        return self._task.over.is_set()

    def result(self) -> R:
        """Give what its function returned, or raise what it raised.

        Raises:
            concurrent.futures.CancelledError: If it was cancelled.
            concurrent.futures.InvalidStateError: If it is not over yet.
        """
        return self._task.outcome()  # type: ignore[no-any-return]

    def cancel(self) -> bool:
        """Cancel it, also while it runs. Its hold is ended; that is shielded. ``False`` if it is over already."""
        return self._cancel(self._task)

    @even_half_made
    def __repr__(self) -> str:
        return f"PoolJob({getattr(self._task.function, '__name__', '?')}, {'done' if self.done() else 'pending'})"
