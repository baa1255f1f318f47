"""Any ASGI application on a real socket of this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, Self

import uvicorn

__all__ = ["Served"]


class Served:
    """Serves an application from a thread of its own, as ``uvicorn module:app`` would."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(app, ws="none", lifespan="on", log_config=None, log_level="warning")
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.up = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        async def serve() -> None:
            task = asyncio.create_task(self.server.serve(sockets=[self.socket]))
            while not self.server.started and not task.done():  # noqa: ASYNC110 - it offers nothing to wait for
                await asyncio.sleep(0.001)
            self.up.set()
            await task

        with asyncio.Runner() as runner:
            runner.run(serve())

    def __enter__(self) -> Self:
        self.thread.start()
        assert self.up.wait(10)
        assert self.server.started
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()
