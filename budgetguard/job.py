"""The third way in: a decorator for job functions.

The hold spans the function. What the function does through guarded clients, other jobs and permits joins the hold and
ends by itself; anything else it may have sent is taken as sent from its first line on.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, ParamSpec, Self, TypeVar

from budgetguard._desk import AsyncHolding, Holding
from budgetguard._reserving import Tags, ask_for, quote_of, words
from budgetguard._scope import Scope, innermost
from budgetguard._settings import function, seconds
from budgetguard.errors import PermitError, SettingError, StoreError
from budgetguard.model import Quote
from budgetguard.permit import AsyncPermit, Permit, obtain

__all__ = ["AsyncJobPermit", "AsyncJobs", "JobPermit", "Jobs", "terms_of"]

_TERMS = "__budgetguard_job__"

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Terms:
    """What was given to the decorator."""

    credits: int | Quote | Callable[..., int | Quote]
    slots: int
    pool: str
    charge: Callable[[Any], int | None] | None
    task_id: Callable[[Any], str | None] | None
    tags: Tags | None
    timeout: float | None
    priority: int

    def asked(self, guard: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, None]:
        """Prepare the hold of one run."""
        price = self.credits(*args, **kwargs) if callable(self.credits) else self.credits
        return (
            *ask_for(guard.engine, guard.own, price, self.slots, self.pool, self.tags, self.timeout, self.priority),
            None,
        )

    def check(self) -> None:
        """Complain about what cannot work before the first run."""
        price = 0 if callable(self.credits) else self.credits
        if self.timeout is not None:
            seconds("timeout", self.timeout, zero=True)
        quote_of(price, self.slots, self.pool, self.timeout, self.priority)
        words(self.tags)
        for name, read in (("charge", self.charge), ("task_id", self.task_id)):
            if read is not None:
                function(name, read, "give a function of what the job returns, or None")

    def outcome(self, result: Any) -> tuple[int | None, str | None]:
        """Read the charge and the task from a result."""
        charge = None if self.charge is None else self.charge(result)
        task_id = None if self.task_id is None else self.task_id(result)
        return charge, None if task_id is None else str(task_id)


class _Run(Scope):
    """What the permits of both kinds of runs have besides."""

    _alone: bool
    _bare: bool
    _charge: int | None
    _word: str

    def bare(self) -> Self:
        """Let its block be open only where `inside` says so."""
        self._bare = True
        return self

    @contextlib.contextmanager
    def inside(self) -> Generator[None]:
        """Open the block of a bare one for a while."""
        self._open()
        try:
            yield
        finally:
            self._close()

    @property
    def cost(self) -> int:
        """Credits the run cost, or may have cost, once it has ended: what was said of it, or what its calls cost."""
        hold, said = self._hold, self._charge
        if said is not None:
            return max(said, hold.spent)
        itself = self._word in {"settled", "unknown"} and (self._alone or not hold.joins)
        return max(hold.quote.credits, hold.spent) if itself else hold.spent

    def begin(self) -> None:
        """Take the call as sent from here on, unless all that is done joins it."""
        self._hold.sent = True


class JobPermit(_Run, Permit):
    """The permit of one run of a function."""

    def book(self, terms: _Terms, result: Any) -> None:
        """Book what the result tells, unless the function has said how it ended."""
        if self._word or (terms.charge is None and terms.task_id is None):
            return
        with contextlib.suppress(StoreError):  # the result must reach the caller; what is held ends with its lease
            try:
                self.settle(*terms.outcome(result))
            except StoreError:
                raise
            except BaseException:
                if not self._word:
                    self.settle()
                raise


class AsyncJobPermit(_Run, AsyncPermit):
    """The permit of one run of an ``async`` function."""

    async def book(self, terms: _Terms, result: Any) -> None:
        """Book what the result tells, unless the function has said how it ended."""
        if self._word or (terms.charge is None and terms.task_id is None):
            return
        with contextlib.suppress(StoreError):  # the result must reach the caller; what is held ends with its lease
            try:
                await self.settle(*terms.outcome(result))
            except StoreError:
                raise
            except BaseException:
                if not self._word:
                    await self.settle()
                raise


class Jobs:
    """What a `Guard` offers to put around job functions."""

    def job(
        self: Holding,
        credits: int | Quote | Callable[..., int | Quote],
        *,
        slots: int = 1,
        pool: str = "",
        charge: Callable[[Any], int | None] | None = None,
        task_id: Callable[[Any], str | None] | None = None,
        tags: Tags | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Hold credits and slots around every call of a function, method or generator. Since 0.1.

        Guarded calls, permits and other jobs inside draw on the hold instead of counting twice; what they need beyond
        it is admitted like any call. If that is all the function did, the rest comes back when it ends. Otherwise, what
        is left is booked when it returns, and unknown when it raises. ``guard.current_permit()`` lets it say better.
        A generator holds from its first item to its end, or until it is closed.

        Args:
            credits: What one run costs at most: a number, a `Quote`, or a callable of the run's arguments that gives
                one.
            slots: Slots it takes.
            pool: The limit they count against; ``""`` where the account has only one.
            charge: Tells from the result what the run cost in all, or ``None`` where that is not known. A generator's
                result is what it returns.
            task_id: Tells from the result the provider's id of the task that was started. Its slot stays taken until
                the task is seen to end.
            tags: Words that go with it into events: a list, or a mapping of names to words.
            timeout: Seconds within which it must be admitted; ``None`` leaves it to ``Policy.max_wait``.
            priority: A higher one goes before a lower one in the line.

        Raises:
            SettingError: When it is put around something it cannot hold, such as an ``async`` function.
            Refused: From a run, before the function begins.
            StoreError: From a run, before the function begins.
        """
        terms = _Terms(credits, slots, pool, charge, task_id, tags, timeout, priority)
        terms.check()
        guard = self

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            _must_be(function, blocking=True)
            if inspect.isgeneratorfunction(function):
                generator: Any = _generator(guard, terms, function)
                return generator  # type: ignore[no-any-return]

            @functools.wraps(function)
            def run(*args: P.args, **kwargs: P.kwargs) -> R:
                permit = JobPermit(guard, *terms.asked(guard, args, kwargs))
                obtain(permit)
                with permit:
                    permit.begin()
                    try:
                        result = function(*args, **kwargs)
                    except TypeError as error:
                        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                            permit.release()  # wrong arguments: not a line of it was run
                        raise
                    permit.book(terms, result)
                return result

            return _priced(run, guard, terms)

        return decorate

    def current_permit(self: Holding) -> Permit:
        """Find the permit of the innermost job or block around whoever asks. Since 0.1.

        Raises:
            PermitError: If there is none of this guard.
        """
        permit: Permit = _innermost(self)
        return permit


class AsyncJobs:
    """What an `AsyncGuard` offers to put around job functions."""

    def job(
        self: AsyncHolding,
        credits: int | Quote | Callable[..., int | Quote],
        *,
        slots: int = 1,
        pool: str = "",
        charge: Callable[[Any], int | None] | None = None,
        task_id: Callable[[Any], str | None] | None = None,
        tags: Tags | None = None,
        timeout: float | None = None,
        priority: int = 0,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Hold credits and slots around every call of an ``async`` function. See `Guard.job`. Since 0.1."""
        terms = _Terms(credits, slots, pool, charge, task_id, tags, timeout, priority)
        terms.check()
        guard = self

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            _must_be(function, blocking=False)
            if inspect.isasyncgenfunction(function):
                generator: Any = _async_generator(guard, terms, function)
                return generator  # type: ignore[no-any-return]

            @functools.wraps(function)
            async def run(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with AsyncJobPermit(guard, *terms.asked(guard, args, kwargs)) as permit:
                    running: Awaitable[Any] = function(*args, **kwargs)  # type: ignore[assignment]
                    permit.begin()
                    result = await running
                    await permit.book(terms, result)
                return result

            return _priced(run, guard, terms)  # type: ignore[return-value]

        return decorate

    def current_permit(self: AsyncHolding) -> AsyncPermit:
        """Find the permit of the innermost job or block around whoever asks. See `Guard.current_permit`. Since 0.1."""
        permit: AsyncPermit = _innermost(self)
        return permit


def _innermost(guard: object) -> Any:
    permit = innermost(guard)
    if permit is not None:
        return permit
    raise PermitError("No permit of this guard is open here: ask inside a job of it, or inside the block of a permit.")


def _priced(run: T, guard: object, terms: _Terms) -> T:
    """Let a pool know what a run costs before it begins one."""
    run.__dict__[_TERMS] = (guard, terms)
    return run


def terms_of(function: object, guard: object) -> _Terms | None:
    """Tell on which terms a function runs that is a job of a guard; ``None`` if it is none."""
    made_by, terms = getattr(function, "__dict__", {}).get(_TERMS, (None, None))
    return terms if made_by is guard else None


def _must_be(function: Any, *, blocking: bool) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if isinstance(function, type | classmethod | staticmethod) or not callable(function):
        raise SettingError("job", name, "put it around a function or a method, below @classmethod or @staticmethod")
    plain = inspect.isroutine(function) or isinstance(function, functools.partial)
    looks = [function if plain else type(function).__call__]
    if not blocking:
        looks.append(inspect.unwrap(function))  # a decorator in between may be a plain function that gives a coroutine
    concurrent = any(inspect.iscoroutinefunction(look) or inspect.isasyncgenfunction(look) for look in looks)
    if blocking and concurrent:
        raise SettingError("job", name, "it is async, so use the job of an AsyncGuard")
    if not blocking and not concurrent:
        raise SettingError("job", name, "it is not async, so use the job of a Guard")


# -- generators: the block is open only while they run, so that whoever takes their items is not inside ---------------


def _generator(guard: Holding, terms: _Terms, function: Callable[P, Any]) -> Callable[P, Any]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, Any]:
        permit = JobPermit(guard, *terms.asked(guard, args, kwargs))
        obtain(permit)
        with permit.bare():
            items: Generator[Any, Any, Any] = function(*args, **kwargs)
            permit.begin()
            act: Callable[[], Any] = functools.partial(next, items)
            while True:
                try:
                    with permit.inside():
                        item = act()
                except StopIteration as stop:
                    permit.book(terms, stop.value)
                    return stop.value
                try:
                    sent = yield item
                    act = functools.partial(items.send, sent)
                except GeneratorExit:
                    with permit.inside():
                        items.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's, which may go on
                    act = functools.partial(items.throw, error)

    return run


def _async_generator(guard: AsyncHolding, terms: _Terms, function: Callable[P, Any]) -> Callable[P, Any]:
    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[Any, Any]:
        async with AsyncJobPermit(guard, *terms.asked(guard, args, kwargs)).bare() as permit:
            items: AsyncGenerator[Any, Any] = function(*args, **kwargs)
            permit.begin()
            act: Callable[[], Awaitable[Any]] = functools.partial(anext, items)
            while True:
                try:
                    with permit.inside():
                        item = await act()
                except StopAsyncIteration:
                    await permit.book(terms, None)
                    return
                try:
                    sent = yield item
                    act = functools.partial(items.asend, sent)
                except GeneratorExit:
                    with permit.inside():
                        await items.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - it is the generator's, which may go on
                    act = functools.partial(items.athrow, error)

    return run
