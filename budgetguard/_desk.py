"""What both transports do to a request and its answer before and after anything is sent."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import httpx

from budgetguard import _http
from budgetguard._asking import Asking, AsyncAsking
from budgetguard._believed import see_quote
from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.quick import QuickAccount
from budgetguard._core.search import insufficient
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard._drivers.concurrent import ConcurrentDriver
from budgetguard._drivers.heartbeat import Heartbeat
from budgetguard._http import CallOptions
from budgetguard._scope import around
from budgetguard.engine import Engine
from budgetguard.errors import InsufficientCredits, ReadingError, Refused, SettingError, UnknownPrice
from budgetguard.model import Quote, Reading, Route, TaskSeen, Verdict
from budgetguard.ports import Answer

__all__ = [
    "AsyncGuarding",
    "AsyncHolding",
    "AsyncInquiring",
    "Desk",
    "Exchange",
    "Guarding",
    "Holding",
    "Inquiring",
    "OnRefusal",
]

OnRefusal = Literal["raise", "respond"]
"""What a refused call ends in: an exception, or an answer of status 402, 429 or 503 in the provider's stead."""


class Guarding(Protocol):
    """What a transport needs of a guard."""

    @property
    def engine(self) -> Engine: ...
    @property
    def driver(self) -> BlockingDriver: ...
    @property
    def heartbeat(self) -> Heartbeat: ...


class AsyncGuarding(Protocol):
    """What an ``async`` transport needs of a guard."""

    @property
    def engine(self) -> Engine: ...
    @property
    def driver(self) -> ConcurrentDriver: ...
    @property
    def heartbeat(self) -> Heartbeat: ...


class Holding(Guarding, Protocol):
    """What a permit needs of a guard."""

    @property
    def asking(self) -> Asking: ...
    @property
    def bearer(self) -> httpx.Request: ...
    @property
    def own(self) -> QuickAccount: ...


class AsyncHolding(AsyncGuarding, Protocol):
    """What an ``async`` permit needs of a guard."""

    @property
    def asking(self) -> AsyncAsking: ...
    @property
    def bearer(self) -> httpx.Request: ...
    @property
    def own(self) -> QuickAccount: ...


class Inquiring(Protocol):
    """What asking on behalf of a key needs of a guard."""

    @property
    def engine(self) -> Engine: ...
    @property
    def driver(self) -> BlockingDriver: ...
    @property
    def asking(self) -> Asking: ...

    def asked(self, key: str | None) -> tuple[QuickAccount, httpx.Request]: ...


class AsyncInquiring(Protocol):
    """What asking on behalf of a key needs of an ``async`` guard."""

    @property
    def engine(self) -> Engine: ...
    @property
    def driver(self) -> ConcurrentDriver: ...
    @property
    def asking(self) -> AsyncAsking: ...

    def asked(self, key: str | None) -> tuple[QuickAccount, httpx.Request]: ...


class Desk:
    """What both transports do to a request and its answer before and after anything is sent."""

    def __init__(self, engine: Engine, on_refusal: OnRefusal) -> None:
        if on_refusal not in ("raise", "respond"):
            raise SettingError("on_refusal", on_refusal, "give 'raise' or 'respond'")
        self.engine = engine
        self.on_refusal = on_refusal

    def route(self, request: httpx.Request) -> tuple[Route, QuickAccount] | None:
        """Say what the request is about and whose account it is on; ``None`` to leave it alone.

        The key stays in the request: a traceback may show the local names of every frame it passes.
        """
        route = _http.route_of(self.engine, request.method, request.url)
        if route is None:
            return None
        account = self.account(request)
        return None if account is None else (route, account)

    def account(self, request: httpx.Request) -> QuickAccount | None:
        """Find the account of the request's own key; ``None`` where it has none."""
        return self.engine.account_in(request.headers)

    def price(self, account: Account, route: Route, options: CallOptions, body: Any) -> Quote | None:
        """Price a call; ``None`` if the policy lets unpriced calls pass."""
        try:
            if options.credits is not None:
                quote = Quote(options.credits, source="the call's own setting")
            elif route.quote is not None:
                quote = route.quote
            else:
                quote = self._quoted(route, body)
        except UnknownPrice as unknown:
            rule = self.engine.policy.unknown_price
            if rule == "pass":
                return None
            if rule == "refuse":
                raise UnknownPrice(what=unknown.what, why=unknown.why, account=account.name) from None
            quote = Quote(int(rule), source="Policy.unknown_price")
        if options.slots is None:
            return quote
        return Quote(quote.credits, options.slots, quote.pool, quote.credits_min, quote.task_lease, quote.source)

    def _quoted(self, route: Route, body: Any) -> Quote:
        """Ask the adapter for a price. One that fails knows none."""
        engine = self.engine
        try:
            return see_quote(engine.provider.quote(route, body))
        except UnknownPrice:
            raise
        except Exception as error:
            engine.complain("adapter_failed", provider=engine.provider.name, error=type(error).__name__)
            what = f"{engine.provider.name} {route.path[:80]}"
            raise UnknownPrice(what=what, why=f"the adapter failed ({type(error).__name__})") from error

    def hold(self, account: Account, quote: Quote, options: CallOptions, *, resendable: bool) -> Hold:
        """Prepare a call's hold; inside a job or a permit's block it draws on that."""
        hold = self.engine.hold(quote, priority=options.priority, deadline=options.deadline, resendable=resendable)
        hold.outer = around(account)
        return hold

    def refused(self, request: httpx.Request, refused: Refused) -> httpx.Response:
        """Answer a refusal, or raise it."""
        if self.on_refusal == "raise":
            raise refused
        return _http.problem(request, refused)

    def by_provider(
        self, account: Account, hold: Hold, response: httpx.Response, raw: bytes | None
    ) -> InsufficientCredits:
        """Make the provider's own refusal ours."""
        view = account.view if hold.refused_on is None else hold.refused_on
        refused = insufficient(account, hold.quote.credits, view, view[c.CREDITS], by_provider=True)
        refused.response = _http.kept(response, raw)
        return refused

    def seen(self, account: Account, route: Route, answer: Answer, mark: int) -> list[TaskSeen]:
        """Note the tasks an answer shows running; give those that have ended."""
        ended = []
        for task in self.engine.observe(route, answer):
            if task.state.ended:
                ended.append(task)
            else:
                with account.lock:
                    account.seen[task.task_id] = mark
        return ended

    def reading(self, request: httpx.Request, response: httpx.Response, raw: bytes | None) -> Reading | None:
        """Read an answer to the user's own question for the balance; ``None`` where it tells none."""
        try:
            return self.engine.reading(_http.answer_of(response, raw), request.headers)
        except ReadingError:
            return None


class Exchange:
    """One call's answer, between sending and settling."""

    __slots__ = ("error", "raw", "response", "verdict")

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self.response: httpx.Response | None = None
        self.raw: bytes | None = None
        self.error: BaseException | None = None
