"""Performs a flow's steps on an event loop: asyncio or trio, through anyio."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import anyio
import anyio.lowlevel

from budgetguard._core.account import Account, Hold
from budgetguard._core.direct import begin, heard
from budgetguard._core.line import Ticket
from budgetguard._core.quick import QuickAccount
from budgetguard._core.serving import Place, ServingAccount
from budgetguard._core.steps import (
    Ask,
    Asked,
    Fetch,
    Fetched,
    Flow,
    Load,
    Scan,
    Send,
    Step,
    Tell,
    Transact,
    Wait,
    Wake,
)
from budgetguard.events import Event
from budgetguard.model import Verdict
from budgetguard.ports import AsyncStore

if TYPE_CHECKING:
    import asyncio

__all__ = ["ConcurrentDriver"]

T = TypeVar("T")

_LONG = (Wait, Send)
"""Steps that may take long, and have nothing to do with a question for the balance before them."""


class ConcurrentDriver:
    """Performs steps for callers in tasks. Safe to share between tasks, and between event loops in several threads."""

    def __init__(self, store: AsyncStore, tell: Callable[[Event], None]) -> None:
        self._store = store
        self._tell = tell

    async def run(
        self,
        account: Account,
        flow: Flow[T],
        *,
        fetch: Callable[[], Awaitable[Fetched]] | None = None,
        send: Callable[[], Awaitable[Verdict]] | None = None,
        ask: Callable[[Sequence[str]], Awaitable[Sequence[Asked]]] | None = None,
    ) -> T:
        """Drive a flow to its end and give what it returns. Whatever interrupts it, a cancellation too, closes it."""
        reply: Any = None
        lock = account.lock
        process = 0
        try:
            while True:
                with lock:
                    step = flow.send(reply)
                    if type(step) is Fetch:
                        process = process or account.begin_question(os.getpid())
                    elif process and type(step) in _LONG:
                        process = account.end_question(process)
                reply = await self._perform(account, step, fetch, send, ask)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            with lock:
                flow.close()
                if process:
                    account.end_question(process)

    async def join_question(self, account: QuickAccount) -> bool:
        """Where nobody can go on without a newer reading, wait for those who ask for one here; ``False`` else."""
        if not account.asking:
            return False
        loop = id(_running_loop())  # a thread may run several, one after another
        ticket = account.herds.get(loop)
        if ticket is None:
            if not account.must_wait():
                return False
            with account.lock:
                if os.getpid() not in account.asking:
                    return False
                ticket = account.herds[loop] = account.herds.get(loop) or Ticket()
                ticket.signal = ticket.signal or _Signal()
        if isinstance(ticket.signal, _Signal):
            await ticket.signal.event.wait()
        return True

    async def stand(self, account: ServingAccount, place: Place) -> None:
        """Wait in line on the quick path, until the place has its slots or must go on as a flow."""
        while (seconds := account.patience(place)) is not None:
            await _wait(account, place, seconds)

    async def take(self, account: Account, hold: Hold) -> bool:
        """Let a call through by its first step; ``False`` if `admit` must go on from there."""
        with account.lock:
            step = begin(account, hold)
        if step is None:
            return False
        done = await self._store.atransact(account.name, step.transaction)
        with account.lock:
            return heard(account, hold, step, done)

    async def _perform(
        self,
        account: Account,
        step: Step[Any],
        fetch: Callable[[], Awaitable[Fetched]] | None,
        send: Callable[[], Awaitable[Verdict]] | None,
        ask: Callable[[Sequence[str]], Awaitable[Sequence[Asked]]] | None,
    ) -> Any:
        match step:
            case Transact():
                return await self._store.atransact(step.account, step.transaction)
            case Load():
                return await self._store.aload(step.account, step.records, due=step.due)
            case Scan():
                return await self._store.ascan(step.account, step.cursor)
            case Wait():
                return await _wait(account, step.ticket, step.seconds)
            case Wake():
                with account.lock:
                    step.ticket.wake()
                return None
            case Tell():
                return self._tell(step.event)
            case Fetch():
                return await fetch() if fetch is not None else Fetched(None, "nobody here can ask for the balance")
            case Send():
                return await send() if send is not None else None
            case Ask():
                return await ask(step.task_ids) if ask is not None else None
            case _:
                raise NotImplementedError(step)


class _Signal:
    """An event that any thread may set, whichever loop waits for it, and however many of its tasks do."""

    __slots__ = ("_loop", "_thread", "event")

    def __init__(self) -> None:
        self._loop = anyio.lowlevel.current_token().native_token
        self.event = sys.modules["asyncio"].Event() if _is_asyncio(self._loop) else anyio.Event()
        self._thread = threading.get_ident()

    def set(self) -> None:
        if threading.get_ident() == self._thread:
            try:
                self.event.set()
            except RuntimeError:
                return  # the loop is gone, and whoever waited with it
        else:
            _post(self._loop, self.event.set)

    async def wait(self, seconds: float | None = None) -> bool:
        if seconds is None:
            await self.event.wait()
            return True
        with anyio.move_on_after(seconds) as scope:
            await self.event.wait()
        return not scope.cancelled_caught


class _Future:
    """The same for one task of an asyncio loop, which waits in a third of the time on a future of its own."""

    __slots__ = ("_future", "_loop", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[bool] = loop.create_future()
        self._thread = threading.get_ident()

    def set(self) -> None:
        if threading.get_ident() == self._thread:
            self._wake()
        else:
            _post(self._loop, self._wake)

    async def wait(self, seconds: float | None = None) -> bool:
        if seconds is None:
            return await self._future
        timer = self._loop.call_later(seconds, self._over)
        try:
            return await self._future
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if not self._future.done():
            try:
                self._future.set_result(True)
            except RuntimeError:
                return  # the loop is gone, and whoever waited with it

    def _over(self) -> None:
        if not self._future.done():
            self._future.set_result(False)


def _running_loop() -> object:
    try:
        return sys.modules["asyncio"].get_running_loop()  # in a tenth of the time
    except (KeyError, RuntimeError):
        return anyio.lowlevel.current_token().native_token


def _is_asyncio(loop: object) -> TypeGuard[asyncio.AbstractEventLoop]:
    # Whoever runs such a loop has loaded asyncio. Whoever does not need not: it takes a quarter as long as httpx.
    loaded = sys.modules.get("asyncio")
    return loaded is not None and isinstance(loop, loaded.AbstractEventLoop)


def _post(loop: Any, function: Callable[..., object], *args: object) -> None:
    """Have a loop call something soon, from any thread."""
    post = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    try:
        post(function, *args)
    except RuntimeError:
        # The loop is gone, and whoever waited with it.
        return


async def _wait(account: Account, ticket: Ticket, seconds: float | None) -> bool:
    with account.lock:
        news = ticket.woken
        signal: _Signal | _Future | None = None
        ticket.woken = False
        if not (news or (seconds is not None and seconds <= 0)):
            loop = anyio.lowlevel.current_token().native_token
            if _is_asyncio(loop):
                signal, ticket.is_over = _Future(loop), loop.is_closed
            else:
                signal = _Signal()  # trio ends whoever waits before it ends itself
        ticket.signal = signal
    if signal is None:
        await anyio.lowlevel.checkpoint()
        return news
    try:
        return await signal.wait(seconds)
    finally:
        # Without the lock: the collector may close a dropped coroutine here in a thread that holds it.
        ticket.signal = None
        ticket.woken = False
