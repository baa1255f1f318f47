"""A uvicorn server whose start is told of, whose stop is at once, and whose connections can be dropped."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["build"]

_DROP = "budgetguard.drop"  # The ASGI extension under which a connection offers the function that closes it,
_RESET = "budgetguard.reset"  # ... and the one that tears it down.
_NO_LINGER = struct.pack("ii", 1, 0)
_GRACE = 0.2  # Seconds a request under way gets when the server stops.


class _Protocol(H11Protocol):
    """One connection, which its application may close without an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        inner: Callable[[Any, Any, Any], Awaitable[None]] = self.app

        def reset() -> None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.abort()

        async def droppable(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {}).update({_DROP: transport.close, _RESET: reset})
            try:
                await inner(scope, receive, send)
            except asyncio.CancelledError:
                if not transport.is_closing():  # Otherwise the server stops, and nobody is left to answer.
                    raise

        self.app = droppable


class _Server(uvicorn.Server):
    """A server that says when it listens, and that does not linger over open connections."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def main_loop(self) -> None:
        self._listening()
        counter = 0
        while not await self.on_tick(counter):
            counter += 10
            for _ in range(50):  # One tick a second, and a stop within a fiftieth of it.
                if self.should_exit:
                    break
                await asyncio.sleep(0.02)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        slow: set[asyncio.Task[None]] = set()
        if state.tasks:
            _, slow = await asyncio.wait(set(state.tasks), timeout=_GRACE)
        for connection in list(state.connections):
            connection.transport.abort()
        for _ in range(100):
            if not state.connections:
                break
            await asyncio.sleep(0)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


def build(app: Starlette, listening: Callable[[], None]) -> uvicorn.Server:
    """Build a server for *app* that calls *listening* once it answers. Since 0.1."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    return _Server(config, listening)
