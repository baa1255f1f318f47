"""What wakes those who wait in line: threads, and tasks of whatever loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import anyio.lowlevel

__all__ = ["AsyncBell", "Bell", "LoopBell", "hang", "pass_by"]

_SHORTEST_WAIT = 2e-3


class Bell:
    """Wakes a thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake it, or let its next wait end at once."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # rung already

    def wait(self, seconds: float) -> None:
        """Wait for the bell, within a time."""
        self._lock.acquire(timeout=max(_SHORTEST_WAIT, seconds))


class AsyncBell:
    """Wakes a task, from whatever thread. On trio, and whatever else anyio may know."""

    __slots__ = ("_event", "_thread", "_token")

    loop: None = None

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._thread = threading.get_ident()
        self._token = anyio.lowlevel.current_token()

    def ring(self) -> None:
        """Wake it, or let its next wait end at once."""
        event = self._event
        if threading.get_ident() == self._thread:
            event.set()
            return
        loop: Any = self._token.native_token
        try:
            loop.run_sync_soon(event.set)
        except RuntimeError:
            return  # the loop is gone, and whoever waited with it

    async def wait(self, seconds: float | None) -> None:
        """Wait for the bell, within a time."""
        with anyio.move_on_after(None if seconds is None else max(_SHORTEST_WAIT, seconds)):
            await self._event.wait()
        self._event = anyio.Event()


class LoopBell:
    """The same on asyncio: a bare future costs a fifth of an event within a cancel scope."""

    __slots__ = ("_future", "_is_rung", "_thread", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._future: asyncio.Future[None] | None = None
        self._is_rung = False
        self._thread = threading.get_ident()

    def ring(self) -> None:
        """Wake it, or let its next wait end at once."""
        if threading.get_ident() == self._thread:
            self._set()
            return
        try:
            self.loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            return  # the loop is gone, and whoever waited with it

    async def wait(self, seconds: float | None) -> None:
        """Wait for the bell, within a time; without one where somebody else on this loop looks at it."""
        if self._is_rung:
            self._is_rung = False
            return
        self._future = self.loop.create_future()
        timer = None if seconds is None else self.loop.call_later(max(_SHORTEST_WAIT, seconds), self._set)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()
            self._future = None

    def _set(self) -> None:
        future = self._future
        if future is None:
            self._is_rung = True
        elif not future.done():
            future.set_result(None)


def hang() -> AsyncBell | LoopBell:
    """Make a bell for this task."""
    try:
        return LoopBell(asyncio.get_running_loop())
    except RuntimeError:
        return AsyncBell()


async def pass_by() -> None:
    """Let the other tasks have a go."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await anyio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)
