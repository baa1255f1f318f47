"""The pool on an event loop: one task leads each call, and every job is a task."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import math
import time
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.abc
import anyio.to_thread

from budgetguard._desk import AsyncHolding
from budgetguard.errors import StoreError
from budgetguard.job import AsyncJobPermit
from budgetguard.permit import aobtain
from budgetguard.pool.batch import Batch
from budgetguard.pool.desk import CANCELLED, LEFT, Ledger
from budgetguard.pool.handle import PoolJob, Task
from budgetguard.pool.report import JobResult

__all__ = ["Arrivals", "Manager", "Supply"]

R = TypeVar("R")

Items: TypeAlias = "Iterable[Any] | AsyncIterable[Any]"


class Supply:
    """Where jobs come from: the iterables of one call, or what was submitted one by one."""

    def __init__(self, function: Callable[..., Any] | None, iterables: tuple[Items, ...], batch: Batch) -> None:
        self._function = function
        self._context = contextvars.copy_context()
        self.queue: deque[Task] = deque()
        self._sources: tuple[Iterator[Any] | AsyncIterator[Any], ...] = tuple(
            aiter(source) if isinstance(source, AsyncIterable) else iter(source) for source in iterables
        )
        self.batch = batch
        self.news = anyio.Event()
        """Set when there may be room, or a result."""
        self.ahead: Task | None = None
        """The job that is waiting for its slot."""

    async def next(self) -> Task:
        """Take up the next job: runs the user's code.

        Raises:
            StopAsyncIteration: If there is none.
        """
        if self._function is None:
            return self.queue.popleft()
        row: list[Any] = []
        if not self._sources:
            raise StopAsyncIteration
        for source in self._sources:
            if isinstance(source, AsyncIterator):
                row.append(await anext(source))
            else:
                try:
                    row.append(next(source))
                except StopIteration:
                    raise StopAsyncIteration from None
        return Task(self._context, self._function, tuple(row), {}, self.batch.taken)

    @property
    def done(self) -> bool:
        """Whether there is nothing more to take up."""
        return not self.queue if self._function is None else self.batch.over

    def tell(self) -> None:
        """Wake whoever waits for room or for a result."""
        self.news.set()
        self.news = anyio.Event()

    def forget(self) -> None:
        """Let go of what nobody will ask for."""
        self._sources = ()


class Manager:
    """Sees to it that the jobs of one pool are done, in a task group."""

    def __init__(self, guard: AsyncHolding, ledger: Ledger, group: anyio.abc.TaskGroup) -> None:
        self._guard = guard
        self.ledger = ledger
        self._group = group
        bound = ledger.terms.max_workers
        self._places = anyio.Semaphore(bound) if bound is not None else None
        self._threads = anyio.CapacityLimiter(math.inf)
        self._supplies: list[Supply] = []
        self._single = Supply(None, (), Batch((), ordered=False, shows=False, bound=1))
        self._single.batch.unwanted = True
        self._led = False
        self._busy = 0
        self._idle = anyio.Event()
        self.closed = False

    # -- what users ask for -----------------------------------------------------------------------------------------

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> PoolJob[Any]:
        """Have one job done."""
        self._must_be_open()
        task = Task(contextvars.copy_context(), function, args, kwargs, self._single.batch.taken)
        self.ledger.size(1)
        self._single.queue.append(task)
        self._single.batch.taken += 1
        if not self._led:
            self._led = True
            self._begin(self._lead, self._single)
        return PoolJob(task, self.cancel)

    def cancel(self, task: Task) -> bool:
        """Cancel a job that was submitted; ``False`` if it is over already."""
        if task.over.is_set():
            return False
        if task in self._single.queue:
            self._single.queue.remove(task)
            self._not_run(self._single, task)
        else:
            task.scope.cancel()
        return True

    def supply(self, function: Callable[..., Any], iterables: tuple[Items, ...], batch: Batch) -> Supply:
        """Have the jobs of an iterable done."""
        self._must_be_open()
        supply = Supply(function, iterables, batch)
        self._supplies = [one for one in self._supplies if not one.batch.finished or one.batch.unheard]
        self._supplies.append(supply)
        self.ledger.size(batch.size)
        self._begin(self._lead, supply)
        return supply

    def _must_be_open(self) -> None:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    # -- what tasks do ----------------------------------------------------------------------------------------------

    def _begin(self, work: Callable[..., Any], *args: Any) -> None:
        self._busy += 1
        self._group.start_soon(self._counted, work, args)

    async def _counted(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            await work(*args)
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()
                self._idle = anyio.Event()

    async def _lead(self, supply: Supply) -> None:
        """Take up jobs, each when the one before it has been let through."""
        batch = supply.batch
        while True:
            while supply is not self._single and not batch.over and not batch.wants:
                await supply.news.wait()
            await self._enter()
            task = admitted = None
            try:
                task = await self._take(supply)
                if task is not None:
                    with task.scope:
                        admitted = await self._admit(supply, task)
            finally:
                supply.ahead = None
                if task is not None and admitted is None and task.result is None:
                    self._not_run(supply, task)
                if admitted is None:
                    self._leave()
            if task is None:
                return
            if admitted is not None:
                task.context.run(self._begin, self._perform, supply, task, *admitted)

    async def _take(self, supply: Supply) -> Task | None:
        batch = supply.batch
        try:
            task = None if supply.done else await supply.next()
        except StopAsyncIteration:
            task, batch.over = None, True
        except Exception as error:  # noqa: BLE001 - the user's iterable failed: who asks for results is told
            self.ledger.halt(batch, error)
            task = None
        if supply is self._single:
            self._led = task is not None
        elif task is None:
            supply.forget()
            supply.tell()
        else:
            batch.take(task)
            if batch.over:  # it was closed while an async iterable was waited for
                task.scope.cancel()
        supply.ahead = task
        return task

    async def _enter(self) -> None:
        if self._places is not None:
            await self._places.acquire()

    def _leave(self) -> None:
        if self._places is not None:
            self._places.release()

    async def _admit(self, supply: Supply, task: Task) -> tuple[AsyncJobPermit, bool] | None:
        try:
            account, hold, itself = self.ledger.terms.ask(self._guard, task.function, task.args, task.kwargs)
            permit = task.context.run(AsyncJobPermit, self._guard, account, hold, None)
            await aobtain(permit)
        except Exception as error:  # noqa: BLE001 - it is the job's
            self._came(supply, task, None, error)
            return None
        if not task.scope.cancel_called:
            return permit, itself
        with contextlib.suppress(StoreError):  # what cannot be given back now comes back when its lease ends
            await permit.release()
        return None

    async def _perform(
        self,
        supply: Supply,
        task: Task,
        permit: AsyncJobPermit,
        itself: bool,  # noqa: FBT001 - not for users
    ) -> None:
        ledger = self.ledger
        ledger.begun()
        value: Any = None
        error: BaseException | None = CancelledError()
        task.scope = anyio.CancelScope()
        try:
            with task.scope:
                async with permit:
                    if itself:
                        permit.begin()
                    value = await self._call(task)
                error = None
        except Exception as caught:  # noqa: BLE001 - it is the job's
            error = caught
        finally:
            self._leave()
            ledger.over(permit.cost)
            self._came(supply, task, value, error)
            del error  # its traceback refers to this frame

    async def _call(self, task: Task) -> Any:
        work = functools.partial(task.function, *task.args, **task.kwargs)
        if _concurrent(task.function):
            return await work()
        # In a list, as trio complains about threads that return what must be awaited.
        (value,) = await anyio.to_thread.run_sync(lambda: [work()], limiter=self._threads)
        return await value if inspect.isawaitable(value) else value

    def _came(self, supply: Supply, task: Task, value: Any, error: BaseException | None) -> None:
        follow = self.ledger.came(task, value, error)
        if not follow and error is not None and supply is not self._single:
            self.ledger.halt(supply.batch, error, refused=True)
        self._end(supply, task)

    def _not_run(self, supply: Supply, task: Task) -> None:
        self.ledger.not_run(task, CANCELLED)
        self._end(supply, task)

    def _end(self, supply: Supply, task: Task) -> None:
        task.over.set()
        if supply is not self._single:
            supply.batch.end(task)
            supply.tell()

    # -- the end ----------------------------------------------------------------------------------------------------

    def shutdown(self, *, cancel: bool) -> None:
        """Take no more calls. What was asked for is still done, unless it is to be cancelled."""
        self.closed = True
        for supply in self._supplies:
            batch = supply.batch
            left = cancel or (batch.begun and not batch.over)
            if left:
                batch.stop(RuntimeError(LEFT))
            batch.unbound = True
            if supply.ahead is not None and left:
                supply.ahead.scope.cancel()
            supply.tell()
        if cancel:
            for task in list(self._single.queue):
                self.cancel(task)
            if self._single.ahead is not None:
                self._single.ahead.scope.cancel()

    async def wait(self) -> None:
        """Wait until all tasks have ended."""
        while self._busy:
            await self._idle.wait()
        self.ledger.close()

    def drop(self, supply: Supply) -> None:
        """Take up nothing more of a call, and give no more of its results."""
        supply.batch.begun = True
        supply.batch.drop()
        supply.batch.raised()
        if supply.ahead is not None:
            supply.ahead.scope.cancel()
        supply.tell()

    def failed(self) -> BaseException | None:
        """Find what stopped a call whose results nobody asked for."""
        for supply in self._supplies:
            if supply.batch.unheard:
                return self.ledger.farewell(supply.batch)
        return None


def _concurrent(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class Arrivals(AsyncIterator[R]):
    """The results of one call of an `AsyncPool`, as they can be given out. For one task at a time. Since 0.1."""

    def __init__(
        self, manager: Manager, supply: Supply, show: Callable[[JobResult[Any]], R], timeout: float | None
    ) -> None:
        self._manager = manager
        self._supply = supply
        self._show = show
        self._until = None if timeout is None else time.monotonic() + timeout
        self._closed = False
        weakref.finalize(self, supply.batch.drop).atexit = False

    async def __anext__(self) -> R:
        supply, batch = self._supply, self._supply.batch
        if self._closed:
            raise StopAsyncIteration
        while (result := batch.next()) is None:
            if batch.finished:
                raise self._manager.ledger.farewell(batch) or StopAsyncIteration
            left = None if self._until is None else self._until - time.monotonic()
            try:
                with anyio.fail_after(left):
                    await supply.news.wait()
            except TimeoutError:
                await self.aclose()
                raise
        supply.tell()
        return self._show(result)

    async def aclose(self) -> None:
        """Take up no more jobs. Those that run go on; their results are dropped."""
        self._closed = True
        self._manager.drop(self._supply)
