"""The first way in: a transport in front of an existing httpx client.

One request, in order: the adapter looks at it. Not about the account: it passes untouched. A poll or a question for the
balance: it passes, and its answer is looked at. A paid call: it is priced, admitted, sent and settled. The caller gets
the inner transport's own response, byte for byte.
"""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Self

import anyio
import httpx

from budgetguard import _bodies, _http
from budgetguard._asking import Asking, AsyncAsking
from budgetguard._checks import checked
from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.refreshing import adopt, claim_for_user
from budgetguard._core.settlement import abandon, call, catch_up, finish
from budgetguard._desk import AsyncGuarding, Desk, Exchange, Guarding, OnRefusal
from budgetguard._http import CallOptions
from budgetguard.engine import Engine
from budgetguard.errors import Refused, StoreError, UnknownPrice
from budgetguard.model import Outcome, Quote, Route, RouteKind, TaskSeen, TaskState, Verdict

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

    @property
    def engine(self) -> Engine:
        """The engine of the guard it belongs to."""
        return self._desk.engine

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass one request on, guarded where it needs to be."""
        options = _http.options_of(request)
        routed = None if options.skip else self._desk.route(request)
        if routed is None:
            return self._inner.handle_request(request)
        route, account = routed
        if route.kind is RouteKind.SUBMIT:
            return self._submit(request, route, account, options)
        if route.kind is RouteKind.CREDITS:
            return self._credits(request, account)
        with contextlib.suppress(StoreError):  # an older mark shows less, and nothing wrong
            self._driver.run(account, catch_up(account))
        mark = account.view[c.MARK]
        response = self._inner.handle_request(request)
        with _bodies.closing_on_error(response):
            raw = _bodies.read(response)
            for task in self._desk.seen(account, route, _http.answer_of(response, raw), mark):
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

    def _submit(self, request: httpx.Request, route: Route, account: Account, options: CallOptions) -> httpx.Response:
        desk, exchange = self._desk, Exchange()
        body, resendable = _bodies.read_body(request, wanted=options.credits is None)
        try:
            quote = desk.price(account, route, options, body)
        except UnknownPrice as unknown:
            return desk.refused(request, unknown)
        if quote is None:
            return self._inner.handle_request(request)
        hold = desk.hold(account, quote, options, resendable=resendable)
        self._heartbeat.watch(account, hold)
        try:
            verdict = self._driver.run(
                account,
                call(account, hold),
                fetch=lambda: self._asking.fetch(request),
                ask=lambda task_ids: self._asking.tasks(request, task_ids),
                send=lambda: self._send(request, route, exchange),
            )
        except BaseException as error:
            self._abandon(account, hold)
            if isinstance(error, StoreError) and exchange.response is not None and exchange.verdict is not None:
                return exchange.response  # paid for, perhaps: the caller must see it whatever the store says
            if exchange.response is not None:
                exchange.response.close()
            if isinstance(error, Refused):
                return desk.refused(request, error)
            raise
        finally:
            self._heartbeat.forget(hold)
        return self._answer(account, hold, exchange, verdict)

    def _send(self, request: httpx.Request, route: Route, exchange: Exchange) -> Verdict:
        """Send the call, and read from its answer what became of it."""
        if exchange.response is not None:
            exchange.response.close()
        exchange.response = exchange.raw = exchange.verdict = None
        try:
            exchange.response = self._inner.handle_request(request)
            exchange.raw = _bodies.read(exchange.response)
        except Exception as error:  # noqa: BLE001 - it is raised again once the call is settled
            exchange.error = error
            return _http.undelivered(error)
        if _bodies.broken(exchange.response):
            return Verdict(Outcome.UNKNOWN)
        answer = _http.answer_of(exchange.response, exchange.raw)
        exchange.verdict = self._desk.engine.verdict(route, answer)
        return exchange.verdict

    def _answer(self, account: Account, hold: Hold, exchange: Exchange, verdict: Verdict) -> httpx.Response:
        """Give the caller the answer to a call that was settled."""
        if exchange.response is None:
            raise exchange.error or RuntimeError("a call ended without an answer")
        response = exchange.response
        if verdict.outcome is Outcome.INSUFFICIENT and self._desk.on_refusal == "raise":
            if exchange.raw is None:
                with contextlib.suppress(httpx.HTTPError):
                    exchange.raw = _bodies.read_some(
                        response, _http.REFUSAL_MAX, self._desk.engine.policy.credits_timeout
                    )
            response.close()
            raise self._desk.by_provider(account, hold, response, exchange.raw)
        if verdict.outcome is Outcome.ACCEPTED and verdict.task_id is None:
            self._finish_with(response, account, hold)
        return response

    def _finish_with(self, response: httpx.Response, account: Account, hold: Hold) -> None:
        """Synchronous work holds its slot until its answer is closed. One that came read already is."""
        done = TaskSeen(hold.id, TaskState.SUCCEEDED)

        def closed() -> None:
            with contextlib.suppress(StoreError):  # its lease ends it then
                self._driver.run(account, finish(account, done))

        if response.is_closed:
            closed()
        else:
            _bodies.slot(response, closed)

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
                    reading = self._desk.reading(_http.answer_of(response, raw))
                    with contextlib.suppress(StoreError):
                        self._driver.run(account, adopt(account, hold, reading))
        except BaseException:
            self._abandon(account, hold)
            raise
        return response

    def _abandon(self, account: Account, hold: Hold) -> None:
        with contextlib.suppress(StoreError):  # what cannot be given back now comes back when its lease ends
            self._driver.run(account, abandon(account, hold))

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

    @property
    def engine(self) -> Engine:
        """The engine of the guard it belongs to."""
        return self._desk.engine

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass one request on, guarded where it needs to be."""
        options = _http.options_of(request)
        routed = None if options.skip else self._desk.route(request)
        if routed is None:
            return await self._inner.handle_async_request(request)
        route, account = routed
        if route.kind is RouteKind.SUBMIT:
            return await self._submit(request, route, account, options)
        if route.kind is RouteKind.CREDITS:
            return await self._credits(request, account)
        with contextlib.suppress(StoreError):  # an older mark shows less, and nothing wrong
            await self._driver.run(account, catch_up(account))
        mark = account.view[c.MARK]
        response = await self._inner.handle_async_request(request)
        async with _bodies.aclosing_on_error(response):
            raw = await _bodies.aread(response)
            for task in self._desk.seen(account, route, _http.answer_of(response, raw), mark):
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

    async def _submit(
        self, request: httpx.Request, route: Route, account: Account, options: CallOptions
    ) -> httpx.Response:
        desk, exchange = self._desk, Exchange()
        body, resendable = await _bodies.aread_body(request, wanted=options.credits is None)
        try:
            quote = desk.price(account, route, options, body)
        except UnknownPrice as unknown:
            return desk.refused(request, unknown)
        if quote is None:
            return await self._inner.handle_async_request(request)
        hold = desk.hold(account, quote, options, resendable=resendable)
        self._heartbeat.watch(account, hold)
        try:
            verdict = await self._driver.run(
                account,
                call(account, hold),
                fetch=lambda: self._asking.fetch(request),
                ask=lambda task_ids: self._asking.tasks(request, task_ids),
                send=lambda: self._send(request, route, exchange),
            )
        except BaseException as error:
            if isinstance(error, StoreError) and exchange.response is not None and exchange.verdict is not None:
                await self._abandon(account, hold, None)
                return exchange.response  # paid for, perhaps: the caller must see it whatever the store says
            await self._abandon(account, hold, exchange.response)
            if isinstance(error, Refused):
                return desk.refused(request, error)
            raise
        finally:
            self._heartbeat.forget(hold)
        return await self._answer(account, hold, exchange, verdict)

    async def _send(self, request: httpx.Request, route: Route, exchange: Exchange) -> Verdict:
        """Send the call, and read from its answer what became of it."""
        if exchange.response is not None:
            await exchange.response.aclose()
        exchange.response = exchange.raw = exchange.verdict = None
        try:
            exchange.response = await self._inner.handle_async_request(request)
            exchange.raw = await _bodies.aread(exchange.response)
        except Exception as error:  # noqa: BLE001 - it is raised again once the call is settled
            exchange.error = error
            return _http.undelivered(error)
        if _bodies.broken(exchange.response):
            return Verdict(Outcome.UNKNOWN)
        answer = _http.answer_of(exchange.response, exchange.raw)
        exchange.verdict = self._desk.engine.verdict(route, answer)
        return exchange.verdict

    async def _answer(self, account: Account, hold: Hold, exchange: Exchange, verdict: Verdict) -> httpx.Response:
        """Give the caller the answer to a call that was settled."""
        if exchange.response is None:
            raise exchange.error or RuntimeError("a call ended without an answer")
        response = exchange.response
        if verdict.outcome is Outcome.INSUFFICIENT and self._desk.on_refusal == "raise":
            if exchange.raw is None:
                with contextlib.suppress(httpx.HTTPError):
                    exchange.raw = await _bodies.aread_some(
                        response, _http.REFUSAL_MAX, self._desk.engine.policy.credits_timeout
                    )
            await response.aclose()
            raise self._desk.by_provider(account, hold, response, exchange.raw)
        if verdict.outcome is Outcome.ACCEPTED and verdict.task_id is None:
            await self._finish_with(response, account, hold)
        return response

    async def _finish_with(self, response: httpx.Response, account: Account, hold: Hold) -> None:
        """Synchronous work holds its slot until its answer is closed. One that came read already is."""
        done = TaskSeen(hold.id, TaskState.SUCCEEDED)

        async def closed() -> None:
            with anyio.CancelScope(shield=True), contextlib.suppress(StoreError):  # its lease ends it then
                await self._driver.run(account, finish(account, done))

        if response.is_closed:
            await closed()
        else:
            _bodies.aslot(response, closed)

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
                    reading = self._desk.reading(_http.answer_of(response, raw))
                    with contextlib.suppress(StoreError):
                        await self._driver.run(account, adopt(account, hold, reading))
        except BaseException:
            await self._abandon(account, hold, None)
            raise
        return response

    async def _abandon(self, account: Account, hold: Hold, response: httpx.Response | None) -> None:
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(StoreError):  # what cannot be given back now comes back when its lease ends
                await self._driver.run(account, abandon(account, hold))
            if response is not None:
                await response.aclose()

    def __repr__(self) -> str:
        return f"AsyncGuardTransport({self._desk.engine.provider!r}, {self._inner!r})"
