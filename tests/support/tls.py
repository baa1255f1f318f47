"""TLS in front of a server that speaks none, as people put it there, with certificates of its own making."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import trustme
from anyio.from_thread import start_blocking_portal

__all__ = ["TlsFront"]


class TlsFront:
    """Listens on localhost with a certificate for that name only, and hands everything to a socket file.

    Attributes:
        port: Where it listens.
        authority: The file with the certificate of who signed for it.
        connections: How many were accepted, with a handshake that succeeded.
    """

    def __init__(self, behind: Path, folder: Path) -> None:
        self._behind = behind
        authority = trustme.CA()
        self.authority = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.authority)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)
        self.port = 0
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def serve(self) -> Generator[TlsFront]:
        """Listen, in a thread of its own."""
        with start_blocking_portal("asyncio") as portal:
            server = portal.call(self._start)
            try:
                yield self
            finally:
                portal.call(self._stop, server)

    async def _start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accepted, "localhost", 0, ssl=self._context)
        # Both addresses of the name, if it has two, would have ports of their own.
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            inner_reader, inner_writer = await asyncio.open_unix_connection(self._behind)
            try:
                pumps = [self._pump(reader, inner_writer), self._pump(inner_reader, writer)]
                await asyncio.wait([asyncio.ensure_future(p) for p in pumps], return_when=asyncio.FIRST_COMPLETED)
            finally:
                inner_writer.close()
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
