"""Plain calls of a transport: priced, admitted and settled on the quick path. See `budgetguard._core.quick`.

What a request is about, and whose account it is on, is remembered for those that come again: both follow from a few of
its bytes. Whatever is not plain (settings of its own, a body that cannot be read twice, a price that is a range, a call
inside a job, nothing free just now) is left to the flows, which look at it from the beginning.
"""

from __future__ import annotations

import operator
import weakref

import httpx

from budgetguard._core.account import Hold
from budgetguard._core.quick import QuickAccount
from budgetguard._core.records import clean
from budgetguard._core.serving import Place
from budgetguard._core.till import Draft
from budgetguard._desk import Exchange
from budgetguard._documents import decode
from budgetguard._http import route_of
from budgetguard._names import new_name
from budgetguard._scope import inside
from budgetguard.engine import Engine
from budgetguard.model import Outcome, Quote, Route, RouteKind, Verdict

__all__ = ["PlainCall", "PlainCalls"]

_ROUTES_MAX = 256
_ACCOUNTS_MAX = 1024


class PlainCall(Exchange):
    """One call that was admitted at once, or waits in line, until its answer is settled."""

    __slots__ = ("__weakref__", "account", "draft", "place", "quote", "route")

    def __init__(self, account: QuickAccount, route: Route, quote: Quote) -> None:
        self.account = account
        self.route = route
        self.quote = quote
        self.draft: Draft | None = None
        self.place: Place | None = None
        """Where it waits, until it was told to go on."""
        self.response = self.raw = self.verdict = self.error = None

    @property
    def name(self) -> str:
        """The name of its reservation."""
        return "" if self.draft is None else self.draft.id

    def called(self) -> Hold | None:
        """After the wait in line: ``None`` if it may be sent; else it goes on the long way from where it stands."""
        place, self.place = self.place, None
        hold = None if place is None else self.account.go_on(place)
        if hold is not None:
            hold.quote = self.quote
        return hold

    def withdraw(self) -> Hold | None:
        """Give it back, wherever it is; what only the long way can give back is named by what it gives."""
        return None if self.account.withdraw(self.name) else Hold(self.name, self.quote)

    def settle(self, verdict: Verdict, *, over: bool) -> bool:
        """Book that the provider took it; ``False`` if only the long way will do.

        *over* says that nothing of it goes on where no task was started: its answer was read already.
        """
        account, draft, task_id = self.account, self.draft, verdict.task_id
        if draft is None or verdict.outcome is not Outcome.ACCEPTED:
            return False
        charge = draft.credits if verdict.charge is None else verdict.charge
        if task_id is None and over:
            return account.settle(draft, charge)
        if account.ended and task_id is not None and clean(task_id) in account.ended:
            return False  # a webhook was quicker than the answer
        return account.accept(draft, charge, task_id or "")

    def end(self) -> bool:
        """End a call without a task, whose answer was closed; ``False`` if only the long way will do."""
        return self.draft is not None and self.account.end(self.draft)

    def hold(self, *, resendable: bool = True) -> Hold:
        """Leave it to the long way, as a call that was sent."""
        draft = self.draft
        hold = Hold(self.name, self.quote, resendable=resendable)
        if draft is not None:
            hold.record, hold.mark = self.account.hand_over(draft), draft.mark
        hold.sent = True
        return hold


class PlainCalls:
    """Finds the plain ones among a transport's requests. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._provider = engine.provider
        header = getattr(engine.provider, "key_header", "")
        self._header = header.encode() if isinstance(header, str) else b""
        self._routes: dict[tuple[str, bytes, bytes, int | None, bytes], Route] = {}
        self._columns: dict[tuple[bytes, ...], int] = {}
        """Where the key's header stands among headers of these names; -1 where it is not there just once."""
        self._accounts: dict[int, QuickAccount] = {}

    def begin(self, request: httpx.Request) -> PlainCall | None:
        """Admit a plain call at once; ``None`` if only the long way can tell."""
        method, url = request.method, request.url
        if method == "GET" or "budgetguard" in request.extensions or type(request.stream) is not httpx.ByteStream:
            return None
        key = (method, url.raw_scheme, url.raw_host, url.port, url.raw_path)
        route = self._routes.get(key) or self._route(key, request)
        if route is None or inside() is not None:
            return None
        account = self._account(request)
        if account is None or not account.is_quick:
            return None
        quote = route.quote
        if quote is None:
            try:
                quote = self._provider.quote(route, decode(request.content))
            except Exception:  # noqa: BLE001 - the long way tells what is wrong
                return None
            if type(quote) is not Quote or not _is_plain(quote):
                return None
        call = PlainCall(account, route, quote)
        name = new_name()
        try:
            call.draft = account.take(weakref.ref(call), name, quote.credits, quote.slots)
            if call.draft is None:
                call.place = account.join_line(weakref.ref(call), name, quote.credits, quote.slots)
                if call.place is None:
                    return None
                call.draft = call.place.draft
        except BaseException:
            account.withdraw(name)
            raise
        return call

    def _route(self, key: tuple[str, bytes, bytes, int | None, bytes], request: httpx.Request) -> Route | None:
        """Say what a request is about, and remember it if others to the same address may be plain."""
        url = request.url
        if url.query or url.userinfo:
            return None
        route = route_of(self._engine, request.method, url)
        if route is None or route.kind is not RouteKind.SUBMIT:
            return None
        quote = route.quote
        if quote is not None and not _is_plain(quote):
            return None
        if len(self._routes) >= _ROUTES_MAX:
            self._routes.clear()
        self._routes[key] = route
        return route

    def _account(self, request: httpx.Request) -> QuickAccount | None:
        """Find the account of the request's key, which is not kept: a hash of it tells keys apart.

        It has 64 bits, like a fingerprint. No name here ever stands for the header's value: whoever prints the local
        names of a frame would see it.
        """
        header = self._header
        if not header:
            return self._engine.account_in(request.headers)  # only the adapter knows where the key stands
        at = request.headers.raw.__getitem__
        names = tuple(map(_first, at(_ALL)))
        column = self._columns.get(names)
        if column is None:
            column = self._column(names)
        if column < 0:
            return None
        account = self._accounts.get(hash(at(column)[1]))
        if account is None:
            account = self._engine.account_in(request.headers)
            if account is not None:
                if len(self._accounts) >= _ACCOUNTS_MAX:
                    self._accounts.clear()
                self._accounts[hash(at(column)[1])] = account
        return account

    def _column(self, names: tuple[bytes, ...]) -> int:
        lower = [name.lower() for name in names]
        column = lower.index(self._header) if lower.count(self._header) == 1 else -1
        if len(self._columns) >= _ROUTES_MAX:
            self._columns.clear()
        self._columns[names] = column
        return column


def _is_plain(quote: Quote) -> bool:
    return not quote.pool and quote.credits_min is None and quote.task_lease is None


_first = operator.itemgetter(0)
_ALL = slice(None)
