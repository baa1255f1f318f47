"""One connection to the server, and what is said over it: blocking, and on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis.exceptions
from redis.exceptions import RedisError, ResponseError

from budgetguard.stores._redis_server import NotConnected, Server
from budgetguard.stores._redis_wire import Args, Call, Page

__all__ = ["AsyncLink", "Link"]


try:
    _pack: Callable[[Any], bytes] | None = importlib.import_module("hiredis").pack_command
except ImportError:
    _pack = None


def _packed(connection: Any, commands: Sequence[Args]) -> list[bytes]:
    # As redis-py does it, without what it does around it for whatever else a command may be.
    if _pack is None:
        return list(connection.pack_commands(commands))
    return [b"".join([_pack(tuple(command)) for command in commands])]


class Link:
    """A connection for one thread at a time. Opened when needed, and again when lost."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Any = None  # redis-py types its connections only in part
        self._clean = True
        """Whether no answer is outstanding on it. A thread may be interrupted anywhere, also where it tidies up."""

    def exchange(self, calls: Sequence[Call | Page]) -> None:
        """Get every call answered, or failed. What interrupts it leaves them as they are, to be exchanged again."""
        until = time.monotonic() + self._server.timeout
        first: list[Any] | Exception
        calls = [call for call in calls if not call.done]
        try:
            first = self.ask([call.command for call in calls])
        except Exception as error:  # noqa: BLE001 - the conversation knows what can be mended
            first = error
        begin = self._server.settle(calls, first)
        if begin is None:
            return
        conversation = self._server.converse(calls, until, time.monotonic, begin)
        try:
            step = next(conversation)
            while True:
                if not isinstance(step, list):
                    self.close()
                    time.sleep(step)
                    step = conversation.send([])
                    continue
                try:
                    replies = self.ask(step)
                except Exception as error:  # noqa: BLE001 - the conversation knows what can be mended
                    step = conversation.throw(error)
                else:
                    step = conversation.send(replies)
        except StopIteration:
            return

    def ask(self, commands: Sequence[Args]) -> list[Any]:
        """Send commands and read their replies; of those the server refused, the errors."""
        if not self._clean:
            self.close()
        self._clean = False
        try:
            connection = self._connection
            if connection is None:
                connection = self._connect()
            connection.send_packed_command(_packed(connection, commands), check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            self.close()
            raise
        self._clean = True
        return replies

    def _connect(self) -> Any:
        connection = self._connection = self._server.connection()
        try:
            connection.connect()
        except Exception as error:
            raise NotConnected from error
        return connection

    def close(self) -> None:
        """Close the connection. The next exchange opens another."""
        connection = self._connection
        if connection is not None:
            connection.disconnect()
            self._connection = None
        self._clean = True


class AsyncLink:
    """The same for one task at a time, on the event loop it is first used on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Any = None
        self._asking: asyncio.Task[Any] | None = None
        self._until = 0.0
        self._late = False
        self._watching: asyncio.TimerHandle | None = None

    async def exchange(self, calls: Sequence[Call | Page]) -> None:
        """Get every call answered, or failed. What interrupts it leaves them as they are, to be exchanged again."""
        until = time.monotonic() + self._server.timeout
        first: list[Any] | Exception
        calls = [call for call in calls if not call.done]
        try:
            first = await self.ask([call.command for call in calls])
        except Exception as error:  # noqa: BLE001 - the conversation knows what can be mended
            first = error
        begin = self._server.settle(calls, first)
        if begin is None:
            return
        conversation = self._server.converse(calls, until, time.monotonic, begin)
        try:
            step = next(conversation)
            while True:
                if not isinstance(step, list):
                    await self._drop()
                    await asyncio.sleep(step)
                    step = conversation.send([])
                    continue
                try:
                    replies = await self.ask(step)
                except Exception as error:  # noqa: BLE001 - the conversation knows what can be mended
                    step = conversation.throw(error)
                else:
                    step = conversation.send(replies)
        except StopIteration:
            return

    async def ask(self, commands: Sequence[Args]) -> list[Any]:
        """Send commands and read their replies; of those the server refused, the errors."""
        connection = self._connection
        if connection is None:
            connection = await self._connect()
        task = self._watch()
        cancelling = task.cancelling()
        try:
            await connection.send_packed_command(_packed(connection, commands), check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException as error:
            self._asking = None
            await self._drop()
            if self._late and task.uncancel() <= cancelling and isinstance(error, asyncio.CancelledError):
                raise redis.exceptions.TimeoutError("no answer in time") from None
            raise
        self._asking = None
        return replies

    def _watch(self) -> asyncio.Task[Any]:
        """See that the task that asks now is not kept waiting. One timer serves many questions: each costs more."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("ask in a task")
        self._asking, self._late = task, False
        self._until = loop.time() + self._server.timeout / 2
        if self._watching is None:
            self._watching = loop.call_at(self._until, self._look, loop)
        return task

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watching = None
        if self._asking is None:
            return
        if loop.time() < self._until:
            self._watching = loop.call_at(self._until, self._look, loop)
        else:
            self._late = True
            self._asking.cancel()

    async def _connect(self) -> Any:
        connection = self._connection = self._server.async_connection()
        try:
            async with asyncio.timeout(self._server.timeout / 2):
                await connection.connect()
        except Exception as error:
            await self._drop()
            raise NotConnected from error
        except BaseException:
            await self._drop()
            raise
        return connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close the connection. The next exchange opens another."""
        connection, self._connection = self._connection, None
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if connection is not None:
            with contextlib.suppress(OSError, RedisError):
                await connection.disconnect()
