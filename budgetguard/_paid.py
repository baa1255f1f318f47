"""A transport's paid calls, one at a time: priced, admitted, sent and settled. Both colours, side by side."""

from __future__ import annotations

import contextlib

import anyio
import httpx

from budgetguard import _bodies, _http
from budgetguard._asking import Asking, AsyncAsking
from budgetguard._core.account import Account, Hold
from budgetguard._core.serving import Place
from budgetguard._core.settlement import abandon, call, finish
from budgetguard._desk import AsyncGuarding, Desk, Exchange, Guarding
from budgetguard._http import CallOptions
from budgetguard._plain import PlainCall, PlainCalls
from budgetguard.errors import Refused, StoreError, UnknownPrice
from budgetguard.model import Outcome, Route, TaskSeen, TaskState, Verdict

__all__ = ["AsyncPaidCalls", "PaidCalls"]


class PaidCalls:
    """Makes the paid calls of a `GuardTransport`. Safe to share between threads."""

    def __init__(self, guard: Guarding, desk: Desk, inner: httpx.BaseTransport, asking: Asking) -> None:
        self._desk = desk
        self._driver = guard.driver
        self._heartbeat = guard.heartbeat
        self._inner = inner
        self._asking = asking
        self._plain = PlainCalls(guard.engine)
        self.begin = self._plain.begin
        """Admits a request on the quick path; ``None`` if it is no plain paid call, or cannot be admitted there."""

    def submit(self, request: httpx.Request, route: Route, account: Account, options: CallOptions) -> httpx.Response:
        """Make a paid call, all the long way."""
        desk, exchange = self._desk, Exchange()
        body, resendable = _bodies.read_body(request, wanted=options.credits is None)
        try:
            quote = desk.price(account, route, options, body)
        except UnknownPrice as unknown:
            return desk.refused(request, unknown)
        if quote is None:
            return self._inner.handle_request(request)
        hold = desk.hold(account, quote, options, resendable=resendable)
        return self._drive(request, route, account, hold, exchange)

    def send_plain(self, request: httpx.Request, plain: PlainCall) -> httpx.Response:
        """Send a call that was admitted on the quick path, or waits there."""
        if plain.place is not None:
            hold = self._wait_in_line(plain, plain.place)
            if hold is not None:
                return self._drive(request, plain.route, plain.account, hold, plain)
        try:
            verdict = self._send(request, plain.route, plain)
        except BaseException:
            self.abandon(plain.account, plain.hold(), plain.response)
            raise
        response = plain.response
        if response is None or not plain.settle(verdict, over=response.is_closed):
            return self._drive(request, plain.route, plain.account, plain.hold(), plain, verdict)
        if verdict.task_id is None and not response.is_closed:
            self._end_with(response, plain)
        return response

    def _wait_in_line(self, plain: PlainCall, place: Place) -> Hold | None:
        """Wait until a call may be sent; what it gives is to go on the long way."""
        try:
            self._driver.stand(plain.account, place)
            return plain.called()
        except BaseException:
            hold = plain.withdraw()
            if hold is not None:
                self.abandon(plain.account, hold, None)
            raise

    def _end_with(self, response: httpx.Response, plain: PlainCall) -> None:
        """The same as `_finish_with`, for a call that was admitted on the quick path."""

        def closed() -> None:
            if not plain.end():
                self._finish(plain.account, plain.name)

        _bodies.slot(response, closed)

    def _drive(
        self,
        request: httpx.Request,
        route: Route,
        account: Account,
        hold: Hold,
        exchange: Exchange,
        verdict: Verdict | None = None,
    ) -> httpx.Response:
        """Do all that is left to do with a call: with a *verdict* it was sent already."""
        desk = self._desk
        self._heartbeat.watch(account, hold)
        try:
            verdict = self._driver.run(
                account,
                call(account, hold, verdict),
                fetch=lambda: self._asking.fetch(request),
                ask=lambda task_ids: self._asking.tasks(request, task_ids),
                send=lambda: self._send(request, route, exchange),
            )
        except BaseException as error:
            if isinstance(error, StoreError) and exchange.response is not None and exchange.verdict is not None:
                self.abandon(account, hold, None)
                return exchange.response  # paid for, perhaps: the caller must see it whatever the store says
            self.abandon(account, hold, exchange.response)
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
            answer = _http.at_hand(exchange.response)
            if answer is None:
                exchange.raw = _bodies.read(exchange.response)
        except Exception as error:  # noqa: BLE001 - it is raised again once the call is settled
            exchange.error = error
            return _http.undelivered(error)
        if answer is None:
            if _bodies.broken(exchange.response):
                return Verdict(Outcome.UNKNOWN)
            answer = _http.answer_of(exchange.response, exchange.raw)
        exchange.verdict = self._desk.engine.verdict(route, answer, request.headers)
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

        def closed() -> None:
            self._finish(account, hold.id)

        if response.is_closed:
            closed()
        else:
            _bodies.slot(response, closed)

    def _finish(self, account: Account, name: str) -> None:
        with contextlib.suppress(StoreError):  # its lease ends it then
            self._driver.run(account, finish(account, TaskSeen(name, TaskState.SUCCEEDED)))

    def abandon(self, account: Account, hold: Hold, response: httpx.Response | None) -> None:
        """Clean up after a call that ended in any way but a verdict."""
        with contextlib.suppress(StoreError):  # what cannot be given back now comes back when its lease ends
            self._driver.run(account, abandon(account, hold))
        if response is not None:
            response.close()


class AsyncPaidCalls:
    """Makes the paid calls of an `AsyncGuardTransport`. Safe to share between tasks."""

    def __init__(self, guard: AsyncGuarding, desk: Desk, inner: httpx.AsyncBaseTransport, asking: AsyncAsking) -> None:
        self._desk = desk
        self._driver = guard.driver
        self._heartbeat = guard.heartbeat
        self._inner = inner
        self._asking = asking
        self._plain = PlainCalls(guard.engine)
        self.begin = self._plain.begin
        """Admits a request on the quick path; ``None`` if it is no plain paid call, or cannot be admitted there."""

    async def submit(
        self, request: httpx.Request, route: Route, account: Account, options: CallOptions
    ) -> httpx.Response:
        """Make a paid call, all the long way."""
        desk, exchange = self._desk, Exchange()
        body, resendable = await _bodies.aread_body(request, wanted=options.credits is None)
        try:
            quote = desk.price(account, route, options, body)
        except UnknownPrice as unknown:
            return desk.refused(request, unknown)
        if quote is None:
            return await self._inner.handle_async_request(request)
        hold = desk.hold(account, quote, options, resendable=resendable)
        return await self._drive(request, route, account, hold, exchange)

    async def send_plain(self, request: httpx.Request, plain: PlainCall) -> httpx.Response:
        """Send a call that was admitted on the quick path, or waits there."""
        if plain.place is not None:
            hold = await self._wait_in_line(plain, plain.place)
            if hold is not None:
                return await self._drive(request, plain.route, plain.account, hold, plain)
        try:
            verdict = await self._send(request, plain.route, plain)
        except BaseException:
            await self.abandon(plain.account, plain.hold(), plain.response)
            raise
        response = plain.response
        if response is None or not plain.settle(verdict, over=response.is_closed):
            return await self._drive(request, plain.route, plain.account, plain.hold(), plain, verdict)
        if verdict.task_id is None and not response.is_closed:
            self._end_with(response, plain)
        return response

    async def _wait_in_line(self, plain: PlainCall, place: Place) -> Hold | None:
        """Wait until a call may be sent; what it gives is to go on the long way."""
        try:
            await self._driver.stand(plain.account, place)
            return plain.called()
        except GeneratorExit:
            raise  # dropped, perhaps by the collector in the middle of anything: it is passed over, and its lease ends
        except BaseException:
            hold = plain.withdraw()
            if hold is not None:
                await self.abandon(plain.account, hold, None)
            raise

    def _end_with(self, response: httpx.Response, plain: PlainCall) -> None:
        """The same as `_finish_with`, for a call that was admitted on the quick path."""

        async def closed() -> None:
            if not plain.end():
                await self._finish(plain.account, plain.name)

        _bodies.aslot(response, closed)

    async def _drive(
        self,
        request: httpx.Request,
        route: Route,
        account: Account,
        hold: Hold,
        exchange: Exchange,
        verdict: Verdict | None = None,
    ) -> httpx.Response:
        """Do all that is left to do with a call: with a *verdict* it was sent already."""
        desk = self._desk
        self._heartbeat.watch(account, hold)
        try:
            verdict = await self._driver.run(
                account,
                call(account, hold, verdict),
                fetch=lambda: self._asking.fetch(request),
                ask=lambda task_ids: self._asking.tasks(request, task_ids),
                send=lambda: self._send(request, route, exchange),
            )
        except BaseException as error:
            if isinstance(error, StoreError) and exchange.response is not None and exchange.verdict is not None:
                await self.abandon(account, hold, None)
                return exchange.response  # paid for, perhaps: the caller must see it whatever the store says
            await self.abandon(account, hold, exchange.response)
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
            answer = _http.at_hand(exchange.response)
            if answer is None:
                exchange.raw = await _bodies.aread(exchange.response)
        except Exception as error:  # noqa: BLE001 - it is raised again once the call is settled
            exchange.error = error
            return _http.undelivered(error)
        if answer is None:
            if _bodies.broken(exchange.response):
                return Verdict(Outcome.UNKNOWN)
            answer = _http.answer_of(exchange.response, exchange.raw)
        exchange.verdict = self._desk.engine.verdict(route, answer, request.headers)
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

        async def closed() -> None:
            await self._finish(account, hold.id)

        if response.is_closed:
            await closed()
        else:
            _bodies.aslot(response, closed)

    async def _finish(self, account: Account, name: str) -> None:
        with anyio.CancelScope(shield=True), contextlib.suppress(StoreError):  # its lease ends it then
            await self._driver.run(account, finish(account, TaskSeen(name, TaskState.SUCCEEDED)))

    async def abandon(self, account: Account, hold: Hold, response: httpx.Response | None) -> None:
        """Clean up after a call that ended in any way but a verdict."""
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(StoreError):  # what cannot be given back now comes back when its lease ends
                await self._driver.run(account, abandon(account, hold))
            if response is not None:
                await response.aclose()
