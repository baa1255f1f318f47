"""Pools: as many jobs at once as the provider runs for us now."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from concurrent.futures import Executor, Future
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import anyio
import anyio.abc

from budgetguard._desk import AsyncHolding, Holding
from budgetguard._half_made import even_half_made
from budgetguard.pool.batch import Batch
from budgetguard.pool.blocking import Foreman, Results
from budgetguard.pool.concurrent import Arrivals, Manager
from budgetguard.pool.desk import Ledger, bounded
from budgetguard.pool.handle import PoolJob
from budgetguard.pool.progress import Progress, meter_for
from budgetguard.pool.report import JobResult, PoolReport
from budgetguard.pool.terms import Terms

__all__ = ["AsyncPool", "Pool"]

R = TypeVar("R")


def _value(result: JobResult[Any]) -> Any:
    if isinstance(result.error, StopIteration | StopAsyncIteration):
        # As it is, it would end the loop around the results.
        raise RuntimeError(f"a job raised {type(result.error).__name__}") from result.error  # noqa: TRY004 - no type is wrong
    return result.get()


def _itself(result: JobResult[Any]) -> Any:
    return result


class Pool(Executor):
    """Does jobs in threads, as many at once as the account admits now. Made by `Guard.pool`. Since 0.1.

    A ``concurrent.futures.Executor``. Every job waits for its credits and its slots in the ordinary line before it
    begins, so the number of threads follows the provider's limit, strangers and headroom by itself. Of an iterable the
    next job is taken up when the one before it was admitted, no sooner: a generator of a million jobs stays lazy.

    Leaving the block waits for everything; leaving it with an exception, Ctrl-C too, begins nothing more and waits for
    what runs, and a second Ctrl-C gives that up. Every hold is ended then. Safe to share between threads.
    """

    def __init__(self, guard: Holding, terms: Terms, progress: Progress) -> None:
        account = terms.check(guard)
        self._foreman = Foreman(guard, Ledger(guard, terms, account, meter_for(guard.engine, progress)))
        _open.add(self)

    @property
    def report(self) -> PoolReport:
        """What became of the jobs so far."""
        return self._foreman.ledger.report

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Have one job done, when those submitted before it have been admitted.

        Returns:
            Its future. A refusal is its exception. Cancelled before it runs, it leaves the line.

        Raises:
            RuntimeError: If the pool is shut down.
        """
        return self._foreman.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002 - executors have it
        buffersize: int | None = None,
    ) -> Results[R]:
        """Have a job done for each item; give results in the order of the items.

        What a job raises is raised at its place; the next ``next()`` goes on behind it. A job left out for want of
        credits gives no result. If that, or an account that cannot be used, ends the taking up of items, what was begun
        is finished and given out first, and the refusal raised then, with a report. It begins at once.

        Args:
            fn: Called with one item of each iterable.
            *iterables: Taken from in threads of the pool, by one at a time. The shortest one ends it.
            timeout: Seconds from now within which each result must be there.
            chunksize: Of no effect; executors have it.
            buffersize: How many jobs may be under way or wait to be asked for; ``None`` for 1,000. Jobs whose results
                nobody can ask for any more do not count.

        Raises:
            InsufficientCredits: When all results were given out, if the balance did not cover a job.
            TimeoutError: If a result is not there in time. It takes up nothing more then.
            RuntimeError: If the pool is shut down, or was left before all items were taken up.
        """
        return self._results(fn, iterables, timeout, buffersize, _value, ordered=True)

    def imap_unordered(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
    ) -> Results[R]:
        """Have a job done for each item; give results as they come. Otherwise as `map`."""
        return self._results(fn, iterables, timeout, buffersize, _value, ordered=False)

    def as_completed(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
    ) -> Results[JobResult[R]]:
        """Have a job done for each item; give what becomes of each as it is over, failures and refusals too.

        Each `JobResult` names its item. Nothing a job raises is raised here; otherwise as `map`. For futures of
        `submit` there is ``concurrent.futures.as_completed``.
        """
        return self._results(fn, iterables, timeout, buffersize, _itself, ordered=False)

    def _results(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        buffersize: int | None,
        show: Callable[[JobResult[Any]], Any],
        *,
        ordered: bool,
    ) -> Results[Any]:
        batch = Batch(iterables, ordered=ordered, shows=show is _itself, bound=bounded(buffersize))
        return Results(self._foreman, self._foreman.feed(fn, iterables, batch), show, timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as executors
        """Take no more calls.

        What was submitted is still done; so are iterables whose results nobody has asked for yet. Of those whose
        results somebody has begun to take, nothing more is taken up.

        Args:
            wait: Whether to wait until all is done.
            cancel_futures: Whether to begin nothing more of anything.
        """
        self._foreman.shutdown(cancel=cancel_futures)
        if not wait:
            return
        try:
            self._foreman.wait()
        except BaseException:  # Ctrl-C: nothing more is begun, and a second one ends the waiting
            self._foreman.shutdown(cancel=True)
            self._wait_or_give_up()
            raise
        _open.discard(self)

    def _wait_or_give_up(self) -> None:
        try:
            self._foreman.wait()
        finally:
            _open.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._foreman.shutdown(cancel=True)
            self._wait_or_give_up()
            return
        self.shutdown()
        refused = self._foreman.failed()
        if refused is not None:
            raise refused

    @even_half_made
    def __repr__(self) -> str:
        return f"<Pool on {self._foreman.ledger.account.name}: {self.report!r}>"


_open: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    """At the end of the process nothing more is begun, and what runs is waited for: it was paid for."""
    for pool in list(_open):
        pool.shutdown(cancel_futures=True)


class AsyncPool:
    """Does jobs in tasks, as many at once as the account admits now. Made by `AsyncGuard.pool`. Since 0.1.

    As `Pool`, with the same methods, on asyncio and trio; used as ``async with guard.pool() as pool``, by the tasks of
    that event loop. A function that is not ``async`` is run in a thread, as by ``to_thread``; what it returns is
    awaited if it can be. Items may come from async iterables.

    Leaving the block waits for everything; leaving it with an exception, or being cancelled, cancels the jobs. Endings
    are shielded, so that every hold is ended.
    """

    def __init__(self, guard: AsyncHolding, terms: Terms, progress: Progress) -> None:
        account = terms.check(guard)
        self._guard = guard
        self._ledger = Ledger(guard, terms, account, meter_for(guard.engine, progress))
        self._group: AbstractAsyncContextManager[anyio.abc.TaskGroup] | None = None
        self._manager: Manager | None = None
        self._scope: anyio.CancelScope | None = None

    @property
    def report(self) -> PoolReport:
        """What became of the jobs so far."""
        return self._ledger.report

    @overload
    def submit(self, fn: Callable[..., Awaitable[R]], /, *args: Any, **kwargs: Any) -> PoolJob[R]: ...
    @overload
    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> PoolJob[R]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PoolJob[Any]:
        """Have one job done. See `Pool.submit`; ``await`` what it gives for the result."""
        return self._work.submit(fn, args, kwargs)

    @overload
    def map(
        self,
        fn: Callable[..., Awaitable[R]],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = ...,
        chunksize: int = ...,
        buffersize: int | None = ...,
    ) -> Arrivals[R]: ...
    @overload
    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = ...,
        chunksize: int = ...,
        buffersize: int | None = ...,
    ) -> Arrivals[R]: ...
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002 - executors have it
        buffersize: int | None = None,
    ) -> Arrivals[Any]:
        """Have a job done for each item; give results in the order of the items. See `Pool.map`."""
        return self._results(fn, iterables, timeout, buffersize, _value, ordered=True)

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., Awaitable[R]],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = ...,
        buffersize: int | None = ...,
    ) -> Arrivals[R]: ...
    @overload
    def imap_unordered(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = ...,
        buffersize: int | None = ...,
    ) -> Arrivals[R]: ...
    def imap_unordered(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
    ) -> Arrivals[Any]:
        """Have a job done for each item; give results as they come. See `Pool.imap_unordered`."""
        return self._results(fn, iterables, timeout, buffersize, _value, ordered=False)

    @overload
    def as_completed(
        self,
        fn: Callable[..., Awaitable[R]],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = ...,
        buffersize: int | None = ...,
    ) -> Arrivals[JobResult[R]]: ...
    @overload
    def as_completed(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = ...,
        buffersize: int | None = ...,
    ) -> Arrivals[JobResult[R]]: ...
    def as_completed(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
    ) -> Arrivals[JobResult[Any]]:
        """Have a job done for each item; give what becomes of each as it is over. See `Pool.as_completed`."""
        return self._results(fn, iterables, timeout, buffersize, _itself, ordered=False)

    def _results(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        timeout: float | None,
        buffersize: int | None,
        show: Callable[[JobResult[Any]], Any],
        *,
        ordered: bool,
    ) -> Arrivals[Any]:
        batch = Batch(iterables, ordered=ordered, shows=show is _itself, bound=bounded(buffersize))
        return Arrivals(self._work, self._work.supply(fn, iterables, batch), show, timeout)

    async def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as above
        """Take no more calls. See `Pool.shutdown`."""
        self._work.shutdown(cancel=cancel_futures)
        if wait:
            await self._work.wait()

    @property
    def _work(self) -> Manager:
        if self._manager is None:
            raise RuntimeError("enter the pool's block first: async with guard.pool() as pool")
        return self._manager

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("a pool's block is entered once: make another pool")
        self._group = anyio.create_task_group()
        group = await self._group.__aenter__()
        self._scope = group.cancel_scope
        self._manager = Manager(self._guard, self._ledger, group)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        group, manager, scope = self._group, self._work, self._scope
        if group is None or scope is None:
            return
        manager.shutdown(cancel=error is not None)
        try:
            if error is not None:
                scope.cancel()
            await group.__aexit__(None, None, None)
        finally:
            self._ledger.close()
        if error is None:
            refused = manager.failed()
            if refused is not None:
                raise refused

    @even_half_made
    def __repr__(self) -> str:
        return f"<AsyncPool on {self._ledger.account.name}: {self.report!r}>"
