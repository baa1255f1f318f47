"""Interrupts a call at its n-th step: a store and an inner transport that count every step of the call under test."""

from __future__ import annotations

import contextvars
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import httpx

from budgetguard.ports import Loaded, Transacted, Transaction
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import SystemClock

__all__ = ["MINE", "Interruption", "JumpingClock", "SteppingStore", "SteppingTransport", "Turnstile"]


class Interruption(BaseException):
    """Like KeyboardInterrupt, but nobody's."""


class Turnstile:
    """Counts the steps of one call and interrupts the n-th: with *scope* by cancelling it, else by raising.

    Given a *failure*, only the store's steps count, and the n-th fails with it.
    """

    def __init__(self, stop_at: int, failure: Exception | None = None) -> None:
        self.stop_at = stop_at
        self.failure = failure
        self.scope: anyio.CancelScope | None = None
        self.count = 0

    def turn(self) -> bool:
        self.count += 1
        return self.count == self.stop_at

    @property
    def struck(self) -> bool:
        return self.count >= self.stop_at


MINE: contextvars.ContextVar[Turnstile | None] = contextvars.ContextVar("MINE", default=None)
"""Set where the call under test is made; other callers are left alone."""


def step(*, of_store: bool = False) -> None:
    mine = MINE.get()
    if mine is not None and (of_store or mine.failure is None) and mine.turn():
        raise mine.failure or Interruption


async def astep(*, of_store: bool = False) -> None:
    mine = MINE.get()
    if mine is None or mine.scope is None:
        step(of_store=of_store)
        return
    if not mine.turn():
        return
    mine.scope.cancel()
    await anyio.lowlevel.checkpoint()


class JumpingClock(SystemClock):
    """The machine's clock, which jumps ahead when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 1000.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class SteppingStore(MemoryStore):
    """Has a step before each of its operations, and one between the deed and the answer."""

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        step(of_store=True)
        done = super().transact(account, transaction)
        step(of_store=True)
        return done

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        step(of_store=True)
        loaded = super().load(account, records, due=due)
        step(of_store=True)
        return loaded

    async def atransact(self, account: str, transaction: Transaction) -> Transacted:
        await astep(of_store=True)
        done = MemoryStore.transact(self, account, transaction)
        await astep(of_store=True)
        return done

    async def aload(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        await astep(of_store=True)
        loaded = MemoryStore.load(self, account, records, due=due)
        await astep(of_store=True)
        return loaded


class SteppingTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Has a step before sending, one after, and one before each part of a body; counts what is left open."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.open = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        step()
        response: httpx.Response = self.inner.handle_request(request)
        step()
        return self._stepping(response)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await astep()
        response: httpx.Response = self.inner.handle_request(request)
        await astep()
        return self._stepping(response)

    def _stepping(self, response: httpx.Response) -> httpx.Response:
        self.open += 1
        stream = _SteppingStream(self, response.content)
        return httpx.Response(response.status_code, headers=response.headers, stream=stream)


class _SteppingStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, owner: SteppingTransport, body: bytes) -> None:
        self._owner = owner
        self._parts = (body[:20], body[20:])
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            step()
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            await astep()
            yield part

    def close(self) -> None:
        self._owner.open -= self._open
        self._open = False

    async def aclose(self) -> None:
        self.close()
