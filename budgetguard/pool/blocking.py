"""The pool in threads: one of them leads, the others work.

The leader of a call's jobs takes up the next one and waits for its credits and its slot in the ordinary line. Once let
through it hands the lead to another thread and does the job itself. So there are as many working threads as the account
admits jobs, and one more: nothing decides how many there should be.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from budgetguard._core.stopping import Stop, Stopped
from budgetguard._desk import Holding
from budgetguard.errors import StoreError
from budgetguard.job import JobPermit
from budgetguard.permit import obtain
from budgetguard.pool.batch import Batch, Job, rows
from budgetguard.pool.desk import CANCELLED, LEFT, Ledger
from budgetguard.pool.report import JobResult
from budgetguard.pool.threads import Crew

__all__ = ["Feed", "Foreman", "Results"]

R = TypeVar("R")


class _Task(Job):
    """A job of this pool."""

    __slots__ = ("context", "future", "stop")

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
        self.future: Future[Any] = Future()
        self.future.add_done_callback(self._cancelled)
        self.stop: Stop | None = None

    def _cancelled(self, future: Future[Any]) -> None:
        if self.stop is not None and future.cancelled():
            self.stop.ask()


class Feed:
    """Where jobs come from: the iterables of one call, or what was submitted one by one."""

    def __init__(self, function: Callable[..., Any] | None, iterables: tuple[Iterable[Any], ...], batch: Batch) -> None:
        self._function = function
        self._rows: Iterator[tuple[Any, ...]] = rows(iterables)
        self._context = contextvars.copy_context()
        self.batch = batch
        self.queue: deque[_Task] = deque()
        self.led = False
        """Whether a thread leads."""
        self.ahead: _Task | None = None
        """The job that is waiting for its slot."""

    @property
    def ready(self) -> bool:
        """Whether there may be a job to take up."""
        return bool(self.queue) if self._function is None else self.batch.wants

    def next(self) -> _Task:
        """Take up the next job: runs the user's code.

        Raises:
            StopIteration: If there is none.
        """
        if self._function is None:
            return self.queue.popleft()
        row = next(self._rows)
        return _Task(self._context.copy(), self._function, row, {}, self.batch.taken)

    def forget(self) -> None:
        """Let go of what nobody will ask for."""
        self._rows = iter(())


class Foreman:
    """Sees to it that the jobs of one pool are done. Safe to share between threads."""

    def __init__(self, guard: Holding, ledger: Ledger) -> None:
        self._guard = guard
        self.ledger = ledger
        self._max = ledger.terms.max_workers
        self._crew = Crew()
        self.changed = threading.Condition()
        """Its lock guards all that follows, and all feeds."""
        self._busy = 0
        self._feeds: deque[Feed] = deque()
        self._single = Feed(None, (), Batch((), ordered=False, shows=False, bound=1))
        self._single.batch.unwanted = True
        self.closed = False

    # -- what users ask for -----------------------------------------------------------------------------------------

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Have one job done."""
        with self.changed:
            self._must_be_open()
            task = _Task(contextvars.copy_context(), function, args, kwargs, self._single.batch.taken)
            self._single.batch.taken += 1
            self._single.queue.append(task)
        self.ledger.size(1)
        self.start(self._single)
        return task.future

    def feed(self, function: Callable[..., Any], iterables: tuple[Iterable[Any], ...], batch: Batch) -> Feed:
        """Have the jobs of an iterable done."""
        feed = Feed(function, iterables, batch)
        with self.changed:
            self._must_be_open()
            self._feeds.append(feed)
        self.ledger.size(batch.size)
        self.start(feed)
        return feed

    def _must_be_open(self) -> None:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def start(self, feed: Feed) -> None:
        """Have a thread lead a feed, if it needs one and another thread may work."""
        with self.changed:
            if feed.led or not feed.ready or (self._max is not None and self._busy >= self._max):
                return
            feed.led = True
            self._busy += 1
        try:
            self._crew.do(functools.partial(self._work, feed))
        except BaseException:
            with self.changed:
                feed.led = False
                self._busy -= 1
            raise

    # -- what threads do --------------------------------------------------------------------------------------------

    def _work(self, feed: Feed | None) -> None:
        while feed is not None:
            admitted = self._lead(feed)
            if admitted is not None:
                with contextlib.suppress(
                    RuntimeError
                ):  # no thread can be started now: this one goes on when it is done
                    self.start(feed)
                self._perform(feed, *admitted)
                del admitted
            feed = self._next_feed()

    def _next_feed(self) -> Feed | None:
        """Find a feed that needs a leader; without one, this thread is done."""
        with self.changed:
            self._feeds = deque(
                feed for feed in self._feeds if feed.led or not feed.batch.finished or feed.batch.unheard
            )
            self._feeds.rotate(-1)
            for feed in (self._single, *self._feeds):
                if feed.ready and not feed.led:
                    feed.led = True
                    return feed
            self._busy -= 1
            self.changed.notify_all()
            return None

    def _lead(self, feed: Feed) -> tuple[_Task, JobPermit, bool] | None:
        """Take up jobs until one is let through. Nobody leads when this returns."""
        while True:
            task = self._take(feed)
            if task is None:
                return None
            admitted = self._admit(feed, task)
            with self.changed:
                feed.ahead = None
                if admitted is not None:
                    feed.led = False
                    return (task, *admitted)

    def _take(self, feed: Feed) -> _Task | None:
        while True:
            with self.changed:
                if not feed.ready:
                    feed.led = False
                    self.changed.notify_all()
                    return None
            try:
                task = feed.next()
            except (StopIteration, IndexError):
                with self.changed:
                    feed.batch.over = True
                    feed.forget()
                continue
            except BaseException as error:  # noqa: BLE001 - the user's iterable failed: who asks for results is told
                with self.changed:
                    self.ledger.halt(feed.batch, error)
                    feed.forget()
                continue
            with self.changed:
                if feed is not self._single:
                    feed.batch.take(task)
                feed.ahead = task
                if feed.batch.over:
                    task.future.cancel()
            return task

    def _admit(self, feed: Feed, task: _Task) -> tuple[JobPermit, bool] | None:
        try:
            account, hold, itself = self.ledger.terms.ask(self._guard, task.function, task.args, task.kwargs)
            permit = task.context.run(JobPermit, self._guard, account, hold, None)
            task.stop = Stop(account.lock)
            if task.future.cancelled():
                raise Stopped  # noqa: TRY301 - before there was anything to be asked
            obtain(permit, stop=task.stop)
        except Stopped:
            task.future.set_running_or_notify_cancel()
            self._not_run(feed, task)
        except BaseException as error:  # noqa: BLE001 - it is the job's
            self._came(feed, task, None, error)
        else:
            if task.future.set_running_or_notify_cancel():
                return permit, itself
            with contextlib.suppress(StoreError):  # what cannot be given back now comes back when its lease ends
                permit.release()
            self._not_run(feed, task)
        return None

    def _perform(self, feed: Feed, task: _Task, permit: JobPermit, itself: bool) -> None:  # noqa: FBT001 - not for users
        self.ledger.begun()
        value, error = None, None
        try:
            value = task.context.run(_call, task, permit, itself)
        except BaseException as caught:  # noqa: BLE001 - it is the job's
            error = caught
        self.ledger.over(permit.cost)
        self._came(feed, task, value, error)
        del error  # its traceback refers to this frame

    def _came(self, feed: Feed, task: _Task, value: Any, error: BaseException | None) -> None:
        if not self.ledger.came(task, value, error) and error is not None and feed is not self._single:
            with self.changed:
                self.ledger.halt(feed.batch, error, refused=True)
        future = task.future
        if future.running() or future.set_running_or_notify_cancel():
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        self._end(feed, task)

    def _not_run(self, feed: Feed, task: _Task) -> None:
        self.ledger.not_run(task, CANCELLED)
        self._end(feed, task)

    def _end(self, feed: Feed, task: _Task) -> None:
        with self.changed:
            if feed is not self._single:
                feed.batch.end(task)
            self.changed.notify_all()

    # -- the end ----------------------------------------------------------------------------------------------------

    def shutdown(self, *, cancel: bool) -> None:
        """Take no more calls. What was asked for is still done, unless it is to be cancelled."""
        with self.changed:
            self.closed = True
            feeds = [self._single, *self._feeds]
            tasks = list(self._single.queue) if cancel else []
            for feed in feeds:
                batch = feed.batch
                left = feed is not self._single and (cancel or (batch.begun and not batch.over))
                if left:
                    batch.stop(RuntimeError(LEFT))
                batch.unbound = True
                if feed.ahead is not None and (cancel or left):
                    tasks.append(feed.ahead)
        for task in tasks:
            task.future.cancel()
        for feed in feeds:
            with contextlib.suppress(RuntimeError):  # no thread can be started any more: those that work go on
                self.start(feed)

    def wait(self) -> None:
        """Wait until all threads have ended."""
        with self.changed:
            self.changed.wait_for(lambda: not self._busy)
        self._crew.close()
        self.ledger.close()

    def drop(self, feed: Feed) -> None:
        """Take up nothing more of a call, and give no more of its results."""
        with self.changed:
            feed.batch.begun = True
            feed.batch.drop()
            feed.batch.raised()
            task = feed.ahead
        if task is not None:
            task.future.cancel()

    def failed(self) -> BaseException | None:
        """Find what stopped a call whose results nobody asked for."""
        with self.changed:
            for feed in self._feeds:
                if feed.batch.unheard:
                    return self.ledger.farewell(feed.batch)
        return None


def _call(task: _Task, permit: JobPermit, itself: bool) -> Any:  # noqa: FBT001 - not for users
    with permit:
        if itself:
            permit.begin()
        return task.function(*task.args, **task.kwargs)


class Results(Iterator[R]):
    """The results of one call of a `Pool`, as they can be given out. For one thread at a time. Since 0.1."""

    def __init__(
        self, foreman: Foreman, feed: Feed, show: Callable[[JobResult[Any]], R], timeout: float | None
    ) -> None:
        self._foreman = foreman
        self._feed = feed
        self._show = show
        self._until = None if timeout is None else time.monotonic() + timeout
        self._closed = False
        # It takes no lock, as a finalizer may run in the middle of anything.
        weakref.finalize(self, feed.batch.drop).atexit = False

    def __next__(self) -> R:
        if self._closed:
            raise StopIteration
        try:
            result = self._next()
        except BaseException:  # too late, or Ctrl-C
            self.close()
            raise
        if result is None:
            raise self._foreman.ledger.farewell(self._feed.batch) or StopIteration
        self._foreman.start(self._feed)
        return self._show(result)

    def _next(self) -> JobResult[Any] | None:
        batch, changed = self._feed.batch, self._foreman.changed
        with changed:
            while (result := batch.next()) is None and not batch.finished:
                left = None if self._until is None else self._until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                changed.wait(left)
        return result

    def close(self) -> None:
        """Take up no more jobs. Those that run go on; their results are dropped."""
        self._closed = True
        self._foreman.drop(self._feed)
