"""The store for many machines: one Redis or Valkey server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from budgetguard._half_made import even_half_made
from budgetguard._hidden import hide_address
from budgetguard.errors import SettingError, StoreError
from budgetguard.ports import Loaded, Scanned, Transacted, Transaction

if TYPE_CHECKING:
    from budgetguard.stores._redis_lanes import AsyncLanes, Lanes, Rules
    from budgetguard.stores._redis_listener import Listener

__all__ = ["RedisStore"]

_DAY = 86_400.0


class RedisStore:
    """Keeps accounts on a Redis (7.0 or later) or Valkey (7.2 or later) server, for any number of machines. Since 0.1.

    Each transaction is one round trip, and those that wait at the same moment in one process travel together. All keys
    of an account are in one hash slot. Time is the server's. Needs the extra: ``pip install 'budgetguard-py[redis]'``.

    When the server cannot be reached, a call tries again, reconnecting, for at most *timeout* seconds and then raises
    `StoreError`; it does not need to be made anew when the server is back. A transaction whose answer was lost is sent
    again, and done once. What was stored is as durable as the server is configured to be: give it persistence, and the
    policy ``noeviction``.

    Safe to share between threads and event loops, and usable in a child after a fork. On asyncio, methods with an ``a``
    before their name use connections of the event loop they are called on, which are closed with the loop; on trio they
    run the blocking ones in a worker thread.

    Args:
        url: ``redis://``, ``rediss://`` (TLS), ``unix://``, ``valkey://`` or ``valkeys://`` (TLS), as redis-py reads
            them, e.g. ``"rediss://user:password@host:6380/0?ssl_ca_certs=/etc/ssl/ca.pem"``.
        prefix: Begins the names of all keys and channels.
        timeout: Seconds a call may take, all its tries included. A caller behind others may wait three times as long.
        forget_after: Seconds after which an account that nobody uses is forgotten, counted from the end of its last
            lease.
        poll: Seconds between looks for wake-ups that were not heard.
        options: Further settings of redis-py's connections, such as ``ssl_ca_certs`` or ``credential_provider``.

    Raises:
        SettingError: If a setting cannot work.
        StoreError: If the extra is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "budgetguard",
        timeout: float = 5.0,
        forget_after: float = 7 * _DAY,
        poll: float = 1.0,
        **options: Any,
    ) -> None:
        url = hide_address(url)
        if not isinstance(prefix, str) or not prefix or "{" in prefix or "}" in prefix:
            raise SettingError("prefix", prefix, "give a name without braces")
        for name, value, least in (
            ("timeout", timeout, 0.05),
            ("forget_after", forget_after, 60.0),
            ("poll", poll, 0.05),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1e8:
                raise SettingError(name, value, f"give seconds, from {least:g} to 1e8")
        try:
            from budgetguard.stores import _redis_lanes, _redis_listener, _redis_server, _redis_wire  # noqa: PLC0415
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "redis":
                raise
            raise StoreError("RedisStore needs redis-py: pip install 'budgetguard-py[redis]'.") from error
        self._wire = _redis_wire
        self._new_lanes: Callable[[Rules], Lanes] = _redis_lanes.Lanes
        self._new_async_lanes: Callable[[Rules], AsyncLanes] = _redis_lanes.AsyncLanes
        self._new_listener: Callable[[Rules, float], Listener] = _redis_listener.Listener
        server = _redis_server.Server(url, timeout, options)
        self._rules = _redis_lanes.Rules(server, _redis_wire.Names(prefix), forget_after)
        self._poll = poll
        self._lock = threading.Lock()
        self._lanes = self._new_lanes(self._rules)
        self._listener: Listener | None = None
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncLanes] = weakref.WeakKeyDictionary()
        _stores.add(self)

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.Store.transact`."""
        step = self._wire.Transact(self._rules.names.of(account), transaction)
        self._lanes.run(step)
        done = step.result()
        if self._listener is not None:
            self._tell(account, step.woke)
        return done

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.Store.load`."""
        step = self._wire.Look(self._rules.names.of(account), records, due=due)
        self._lanes.run(step)
        return step.result()

    def scan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.Store.scan`. A page of few records may hold all of them, up to some hundreds."""
        step = self._wire.Scan(self._rules.names.of(account), cursor)
        self._lanes.run(step)
        return step.result()

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        """See `budgetguard.ports.Store.watch`. It may call *changed* when nothing happened, too."""
        with self._lock:
            listener = self._listener
            if listener is None:
                listener = self._listener = self._new_listener(self._rules, self._poll)
                weakref.finalize(self, listener.end).atexit = False
        return listener.watch(account, changed)

    def close(self) -> None:
        """Close the connections and end the watches. A later call opens new ones."""
        for loop, lanes in self._let_go():
            _close_there(loop, lanes)

    async def atransact(self, account: str, transaction: Transaction) -> Transacted:
        """See `budgetguard.ports.AsyncStore.atransact`."""
        loop = _running()
        if loop is None:
            return await anyio.to_thread.run_sync(self.transact, account, transaction)
        lanes = self._loops.get(loop) or await self._open(loop)
        step = self._wire.Transact(self._rules.names.of(account), transaction)
        await lanes.run(step)
        done = step.result()
        if self._listener is not None:
            self._tell(account, step.woke)
        return done

    async def aload(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `budgetguard.ports.AsyncStore.aload`."""
        loop = _running()
        if loop is None:
            return await anyio.to_thread.run_sync(functools.partial(self.load, account, records, due=due))
        lanes = self._loops.get(loop) or await self._open(loop)
        step = self._wire.Look(self._rules.names.of(account), records, due=due)
        await lanes.run(step)
        return step.result()

    async def ascan(self, account: str, cursor: str = "") -> Scanned:
        """See `budgetguard.ports.AsyncStore.ascan`."""
        loop = _running()
        if loop is None:
            return await anyio.to_thread.run_sync(self.scan, account, cursor)
        lanes = self._loops.get(loop) or await self._open(loop)
        step = self._wire.Scan(self._rules.names.of(account), cursor)
        await lanes.run(step)
        return step.result()

    async def aclose(self) -> None:
        """Close the connections, those of this event loop for certain, and end the watches."""
        here = _running()
        for loop, lanes in await anyio.to_thread.run_sync(self._let_go):
            if loop is here:
                await lanes.close()
            else:
                _close_there(loop, lanes)

    def _let_go(self) -> list[tuple[asyncio.AbstractEventLoop, AsyncLanes]]:
        with self._lock:
            lanes, self._lanes = self._lanes, self._new_lanes(self._rules)
            listener, self._listener = self._listener, None
            loops = list(self._loops.items())
            self._loops.clear()
        lanes.close()
        if listener is not None:
            listener.stop()
        return loops

    def _tell(self, account: str, woke: int) -> None:
        listener = self._listener
        if listener is not None:
            if woke:
                listener.woke(account, woke)
            listener.resume()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> AsyncLanes:
        lanes = self._loops[loop] = self._new_async_lanes(self._rules)
        lanes.end = _end(weakref.ref(self), loop, lanes)
        await anext(lanes.end)
        return lanes

    def _forget(self, loop: asyncio.AbstractEventLoop, lanes: AsyncLanes) -> None:
        with self._lock:
            if self._loops.get(loop) is lanes:  # after a close, the loop may have others
                del self._loops[loop]

    def _after_fork(self) -> None:
        # The parent's threads are not here, and its connections are not ours.
        _stranded.append((self._lanes, list(self._loops.values())))
        self._lock = threading.Lock()
        self._lanes = self._new_lanes(self._rules)
        self._loops = weakref.WeakKeyDictionary()
        if self._listener is not None:
            self._listener.after_fork()

    @even_half_made
    def __repr__(self) -> str:
        return f"RedisStore({self._rules.server.where!r}, prefix={self._rules.names.prefix!r})"


async def _end(
    store: weakref.ref[RedisStore], loop: asyncio.AbstractEventLoop, lanes: AsyncLanes
) -> AsyncGenerator[None]:
    """Close what a loop has open when the loop ends: that is when it closes its generators."""
    try:
        yield
    finally:
        alive = store()
        if alive is not None:
            alive._forget(loop, lanes)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - our own
        await lanes.close()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _close_there(loop: asyncio.AbstractEventLoop, lanes: AsyncLanes) -> None:
    with contextlib.suppress(RuntimeError):  # a loop that has ended closed them itself
        loop.call_soon_threadsafe(lambda: setattr(lanes, "closing", loop.create_task(lanes.close())))


_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()
_stranded: list[object] = []
"""Connections of the process this one was forked from; kept, as they would complain of not having been closed."""


def _after_fork() -> None:
    for store in list(_stores):
        store._after_fork()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - our own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
