"""The first way in: a transport in front of an existing httpx client.

One request, in order: the adapter looks at it. Not about the account: it passes untouched. A poll or a question for the
balance: it passes, and its answer is looked at. A paid call: it is priced, admitted, sent and settled. The caller gets
the inner transport's own response, byte for byte.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self

import httpx

from budgetguard import _bodies, _http
from budgetguard._asking import Asking, AsyncAsking
from budgetguard._checks import checked
from budgetguard._core import counters as c
from budgetguard._core.account import Account
from budgetguard._core.refreshing import adopt, claim_for_user
from budgetguard._core.settlement import catch_up, finish
from budgetguard._desk import AsyncGuarding, Desk, Guarding, OnRefusal
from budgetguard._half_made import even_half_made
from budgetguard._paid import AsyncPaidCalls, PaidCalls
from budgetguard.engine import Engine
from budgetguard.errors import StoreError
from budgetguard.model import Quote, RouteKind

__all__ = ["AsyncGuardTransport", "GuardTransport", "OnRefusal"]


class GuardTransport(httpx.BaseTransport):
    """Guards every paid call of an ``httpx.Client``. Since 0.1.

    What the guard has nothing to do with passes untouched, and responses reach the caller as *inner* gave them. May be
    shared between threads, and between clients.

    Args:
        guard: Decides; several transports may share one.
        inner: Sends. Closed with this transport. By default a new ``httpx.HTTPTransport``. Proxies, certificates,
            HTTP/2 and limits are its own; a client that has a transport ignores those it was given.
        on_refusal: ``"raise"`` raises a `Refused`; ``"respond"`` answers 402, 429 or 503 in the provider's stead, for
            vendor SDKs that would retry an exception they do not know.

    Raises:
        Refused: From a request, if the call must not be sent.
        StoreError: From a request, if the store fails.
    """

    def __init__(
        self, guard: Guarding, inner: httpx.BaseTransport | None = None, *, on_refusal: OnRefusal = "raise"
    ) -> None:
        self._desk = Desk(guard.engine, on_refusal)
        self._driver = guard.driver
        self._heartbeat = guard.heartbeat
        self._inner = httpx.HTTPTransport() if inner is None else checked(inner, "handle_request")
        self._asking = Asking(guard.engine, self._inner)
        self._paid = PaidCalls(guard, self._desk, self._inner, self._asking)

    @property
    def engine(self) -> Engine:
        """The engine of the guard it belongs to."""
        return self._desk.engine

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass one request on, guarded where it needs to be."""
        plain = self._paid.begin(request)
        if plain is not None:
            return self._paid.send_plain(request, plain)
        options = _http.options_of(request)
        routed = None if options.skip else self._desk.route(request)
        if routed is None:
            return self._inner.handle_request(request)
        route, account = routed
        if route.kind is RouteKind.SUBMIT:
            return self._paid.submit(request, route, account, options)
        if route.kind is RouteKind.CREDITS:
            return self._credits(request, account)
        with contextlib.suppress(StoreError):  # an older mark shows less, and nothing wrong
            self._driver.run(account, catch_up(account))
        mark = account.view[c.MARK]
        response = self._inner.handle_request(request)
        with _bodies.closing_on_error(response):
            raw = _bodies.read(response)
            for task in self._desk.seen(account, route, _http.answer_of(response, raw), mark):
                if account.is_quick and account.finish(task):
                    continue
                with contextlib.suppress(StoreError):  # what is not noted now is noted at the next poll
                    self._driver.run(account, finish(account, task))
        return response

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)

    def _credits(self, request: httpx.Request, account: Account) -> httpx.Response:
        hold = self._desk.engine.hold(Quote(0, 0))
        try:
            dated = self._driver.run(
                account, claim_for_user(account, hold), ask=lambda task_ids: self._asking.tasks(request, task_ids)
            )
            response = self._inner.handle_request(request)
            with _bodies.closing_on_error(response):
                raw = _bodies.read(response)
                if dated:
                    reading = self._desk.reading(request, response, raw)
                    with contextlib.suppress(StoreError):
                        self._driver.run(account, adopt(account, hold, reading))
        except BaseException:
            self._paid.abandon(account, hold, None)
            raise
        return response

    @even_half_made
    def __repr__(self) -> str:
        return f"GuardTransport({self._desk.engine.provider!r}, {self._inner!r})"


class AsyncGuardTransport(httpx.AsyncBaseTransport):
    """Guards every paid call of an ``httpx.AsyncClient``, on asyncio and on trio. Since 0.1.

    What the guard has nothing to do with passes untouched, and responses reach the caller as *inner* gave them. May be
    shared between tasks, and between clients.

    Args:
        guard: Decides; several transports may share one.
        inner: Sends. Closed with this transport. By default a new ``httpx.AsyncHTTPTransport``. Proxies,
            certificates, HTTP/2 and limits are its own; a client that has a transport ignores those it was given.
        on_refusal: As for `GuardTransport`.

    Raises:
        Refused: From a request, if the call must not be sent.
        StoreError: From a request, if the store fails.
    """

    def __init__(
        self, guard: AsyncGuarding, inner: httpx.AsyncBaseTransport | None = None, *, on_refusal: OnRefusal = "raise"
    ) -> None:
        self._desk = Desk(guard.engine, on_refusal)
        self._driver = guard.driver
        self._heartbeat = guard.heartbeat
        self._inner = httpx.AsyncHTTPTransport() if inner is None else checked(inner, "handle_async_request")
        self._asking = AsyncAsking(guard.engine, self._inner)
        self._paid = AsyncPaidCalls(guard, self._desk, self._inner, self._asking)

    @property
    def engine(self) -> Engine:
        """The engine of the guard it belongs to."""
        return self._desk.engine

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass one request on, guarded where it needs to be."""
        plain = self._paid.begin(request)
        if plain is not None:
            return await self._paid.send_plain(request, plain)
        options = _http.options_of(request)
        routed = None if options.skip else self._desk.route(request)
        if routed is None:
            return await self._inner.handle_async_request(request)
        route, account = routed
        if route.kind is RouteKind.SUBMIT:
            return await self._paid.submit(request, route, account, options)
        if route.kind is RouteKind.CREDITS:
            return await self._credits(request, account)
        with contextlib.suppress(StoreError):  # an older mark shows less, and nothing wrong
            await self._driver.run(account, catch_up(account))
        mark = account.view[c.MARK]
        response = await self._inner.handle_async_request(request)
        async with _bodies.aclosing_on_error(response):
            raw = await _bodies.aread(response)
            for task in self._desk.seen(account, route, _http.answer_of(response, raw), mark):
                if account.is_quick and account.finish(task):
                    continue
                with contextlib.suppress(StoreError):  # what is not noted now is noted at the next poll
                    await self._driver.run(account, finish(account, task))
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    async def _credits(self, request: httpx.Request, account: Account) -> httpx.Response:
        hold = self._desk.engine.hold(Quote(0, 0))
        try:
            dated = await self._driver.run(
                account, claim_for_user(account, hold), ask=lambda task_ids: self._asking.tasks(request, task_ids)
            )
            response = await self._inner.handle_async_request(request)
            async with _bodies.aclosing_on_error(response):
                raw = await _bodies.aread(response)
                if dated:
                    reading = self._desk.reading(request, response, raw)
                    with contextlib.suppress(StoreError):
                        await self._driver.run(account, adopt(account, hold, reading))
        except BaseException:
            await self._paid.abandon(account, hold, None)
            raise
        return response

    @even_half_made
    def __repr__(self) -> str:
        return f"AsyncGuardTransport({self._desk.engine.provider!r}, {self._inner!r})"
