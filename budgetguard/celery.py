"""Many machines: Celery tasks that are admitted before they run.

A task whose credits and slots are free runs; one that has to wait for a slot is sent again with a delay, so that it
holds no worker meanwhile; one that the balance does not cover fails for good, and its result tells the numbers. The
guards of all workers share a store.
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from celery import Task
from celery.exceptions import Reject, Retry

from budgetguard._reserving import Tags, quote_of, words
from budgetguard._settings import seconds
from budgetguard.errors import CreditsUnavailable, InsufficientCredits, SettingError, StoreError
from budgetguard.guard import Guard
from budgetguard.job import JobPermit
from budgetguard.permit import obtain
from budgetguard.pool.terms import Price, Terms

__all__ = ["GuardedTask", "TaskRefused"]

if TYPE_CHECKING:
    _Task: TypeAlias = Task[..., Any]
else:
    _Task = Task

_WAITS_MAX = 10**9
_WAITS = "budgetguard_waits"
"""The header that counts how often a task was sent again."""


class TaskRefused(InsufficientCredits):
    """A task the balance did not cover, as it comes out of a result backend with all its numbers. Since 0.1.

    An `InsufficientCredits`. Survives the ``json`` serializer as well as ``pickle``.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        given = {name: value for name, value in facts.items() if name != "shortfall"}
        super().__init__(**given)
        self._given = given

    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        """What it is made of anew: all its numbers, as a result backend keeps them."""
        return (self._given,)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class GuardedTask(_Task):
    """The base of tasks that are admitted before they run. Since 0.1.

    Used as ``@app.task(base=GuardedTask, guard=guard, credits=35)``. The hold spans the task, as that of `Guard.job`
    spans a function; what the task does through guarded clients, jobs and permits joins it. Over a function that is a
    job of the same guard (``@guard.job`` below ``@app.task``) nothing else needs to be said.

    A task that only time can help is sent again as it is, under the same id, and shows as ``RETRY``; its own retries
    are not touched. One the balance does not cover fails with `TaskRefused`. Should the worker be lost, its hold ends
    with its lease (``Policy.lease``); with ``acks_late`` and ``reject_on_worker_lost`` the task is delivered again and
    admitted anew. Called directly or eagerly, it waits in line like a job.

    Attributes:
        guard: The guard, or a callable that makes it; called once in each process. Its store must be shared by all
            workers: a file or a server, not memory.
        credits: What one run costs at most: a number, a `Quote`, or a callable of the task's arguments that gives one;
            ``None`` leaves it to the function.
        slots: Slots it takes.
        limit: The name of the limit they count against; ``""`` where the account has only one.
        tags: Words that go with it into events.
        wait: Seconds until a task that could not be admitted is tried again; doubles each time, with jitter.
        wait_max: The longest such delay, in seconds. Keep it well below the broker's visibility timeout.
    """

    def __init_subclass__(cls, **given: Any) -> None:
        """Check what a task is made with, as soon as it is made.

        Raises:
            SettingError: If it cannot work.
        """
        super().__init_subclass__(**given)
        seconds("wait", cls.wait, zero=True)
        seconds("wait_max", cls.wait_max, zero=True)
        credits: Any = inspect.getattr_static(cls, "credits")
        priced = credits is not None and not callable(credits) and not isinstance(credits, staticmethod)
        price: Any = credits if priced else 0
        quote_of(price, cls.slots, cls.limit, None, 0)
        words(cls.tags)

    abstract = True
    guard: Guard | Callable[[], Guard] | None = None
    credits: Price = None
    slots: int = 1
    limit: str = ""
    tags: Tags | None = None
    wait: float = 1.0
    wait_max: float = 30.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it, if it is admitted now; see the class.

        Raises:
            TaskRefused: If the balance does not cover it.
            Retry: If only time can help. It was sent again.
            SettingError: If there is no guard, or what it was given cannot work.
        """
        guard = self._own_guard()
        now = not (self.request.called_directly or self.request.is_eager)
        try:
            permit = self._permit(guard, args, kwargs, now=now)
            if permit is None:
                raise self._later("no slot is free")
            with permit:
                return self._run(args, kwargs)
        except InsufficientCredits as refused:
            if isinstance(refused, TaskRefused):
                raise
            raise TaskRefused(refused.facts) from refused

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Celery's own __call__ would hide the request of the worker.
        return super().__call__(*args, **kwargs) if self.request.called_directly else self.run(*args, **kwargs)

    def _permit(self, guard: Guard, args: tuple[Any, ...], kwargs: dict[str, Any], *, now: bool) -> JobPermit | None:
        terms = Terms(self._said("credits"), self.slots, self.limit, None, "stop", self.tags, None, 0)
        account, hold, itself = terms.ask(guard, self.run, args, kwargs)
        permit = JobPermit(guard, account, hold, None)
        try:
            if not obtain(permit, now=now):
                return None
        except (CreditsUnavailable, StoreError) as error:
            if not now:
                raise
            raise self._later(type(error).__name__) from error
        if itself:
            permit.begin()
        return permit

    def _later(self, why: str) -> Retry:
        """Send it again, as it is, and say so."""
        request = self.request
        headers = dict(request.headers or {})
        said = headers.get(_WAITS, 0)  # it comes from the broker
        waits = said if isinstance(said, int) and 0 <= said < _WAITS_MAX else 0
        delay = min(self.wait_max, self.wait * 2.0 ** min(waits, 32)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        headers[_WAITS] = waits + 1
        again = self.signature_from_request(request, countdown=delay, retries=request.retries, headers=headers)
        try:
            again.apply_async()
        except Exception as error:
            raise Reject(error, requeue=True) from error
        return Retry(f"budgetguard: {why}", when=cast("Any", delay), sig=again)

    def _own_guard(self) -> Guard:
        given = self._said("guard")
        if isinstance(given, Guard):
            return given
        right = "give @app.task(base=GuardedTask, guard=...) a Guard, or a function that makes one"
        if not callable(given):
            raise SettingError("guard", type(given).__name__, right)
        process, guard = _made.get(given, (0, None))
        if guard is None or process != os.getpid():
            guard = cast("Callable[[], Guard]", given)()
            if not isinstance(guard, Guard):
                raise SettingError("guard", type(guard).__name__, right)
            _made[given] = (os.getpid(), guard)
        return guard

    def _said(self, name: str) -> Any:
        """Read a setting that may be a function, which Python would take for a method."""
        value = inspect.getattr_static(self, name)
        return value.__func__ if isinstance(value, staticmethod) else value


_made: dict[Any, tuple[int, Guard]] = {}
