"""What every fake provider can do, whatever it speaks: prices, mishaps, delays, strangers, and ways to run it."""

from __future__ import annotations

import itertools
import random
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, cast

from budgetguard.errors import SettingError, UnknownPrice
from budgetguard.model import Quote, Route, RouteKind
from budgetguard.testing.callbacks import Callbacks
from budgetguard.testing.clock import Clock, SystemClock
from budgetguard.testing.exchange import Flow, Reply, Request
from budgetguard.testing.journal import Fact, Journal
from budgetguard.testing.mishaps import TRANSPORT_KINDS, Mishap, Mishaps, spoil
from budgetguard.testing.provider import PrepaidAccount
from budgetguard.testing.server import InProcessTransport, Serving, application, run
from budgetguard.testing.settings import Charge, Latency, OfAccount, check_chances, check_counts, check_times, keys_of
from budgetguard.testing.task import AccountState, Duration, FakeTask, Mode

if TYPE_CHECKING:
    from starlette.applications import Starlette


__all__ = ["FakeProvider", "Handler", "PriceList"]

Handler = Callable[[Request], Reply]
On = Literal["submit", "credits", "poll", "list", "cancel", "any"]


class PriceList(Protocol):
    """What a fake needs of the library's own adapter. Since 0.1."""

    def quote(self, route: Route, body: Any) -> Quote:
        """Price a call, or raise `UnknownPrice`. Since 0.1."""
        ...


class FakeProvider(ABC):
    """A provider with one prepaid account, for tests and demonstrations. Since 0.1.

    Everything here may be called, and every setting changed, from any thread while the fake works.

    Args:
        credits: The balance to begin with.
        limit: Most tasks running at once; ``None`` for no limit.
        mode: ``"queue"`` accepts work above the limit and lets it wait; ``"reject"`` refuses it.
        keys: The keys of the organisation, which share the account; ``None`` accepts any key.
        charge: What a call costs; ``None`` asks the price list of the library's own adapter.
        default_price: Credits for a call without a price in that list.
        duration: Seconds of the clock a task takes: a number, a range drawn from by *seed*, or a function of the
            path and the body.
        clock: What time it is; the machine's clock unless given.
        seed: Where all chance comes from.
        latency: Real seconds between a request's arrival and its handling.
        answer_latency: Real seconds between its handling and its answer, which is that much older when it arrives.
        rate_limit: Most requests in so many seconds of the clock, e.g. ``(10, 1.0)``; more are refused.
        fail_rate: The share of tasks that fail, from 0 to 1.
        refund_failed: Whether a failed task's charge comes back.
        lag_seconds: Seconds of the clock by which the reported balance trails behind charges and refunds.
        lag_calls: Credits requests that must pass before a charge or a refund shows.
        queue_max: Most tasks waiting in ``"queue"`` mode; more are refused.

    Raises:
        SettingError: If one of these cannot work.

    Attributes:
        account: The account itself.
        url: Where the fake listens; ``""`` while it does not.
    """

    mode = OfAccount[Mode]()
    duration = OfAccount[Duration]()
    fail_rate = OfAccount[float]()
    refund_failed = OfAccount[bool]()
    refund_cancelled = OfAccount[bool]()
    lag_seconds = OfAccount[float]()
    lag_calls = OfAccount[int]()
    queue_max = OfAccount[int | None]()
    off_peak_delay = OfAccount[float | None]()
    off_peak_seconds = OfAccount[float]()

    refusals: Mapping[str, tuple[int, str]] = {}
    """The provider's own refusals by name: status and message."""
    stages: Mapping[str, float] = {}

    def __init__(
        self,
        credits: int,
        limit: int | None,
        *,
        mode: Mode,
        keys: str | Iterable[str] | None = None,
        charge: Charge | None = None,
        default_price: int = 50,
        duration: Duration = 2.0,
        clock: Clock | None = None,
        seed: int = 0,
        latency: Latency = 0.0,
        answer_latency: Latency = 0.0,
        rate_limit: tuple[int, float] | None = None,
        fail_rate: float = 0.0,
        refund_failed: bool = False,
        lag_seconds: float = 0.0,
        lag_calls: int = 0,
        queue_max: int | None = None,
    ) -> None:
        check_counts(charge, default_price, lag_calls, queue_max)
        check_times(duration, latency, answer_latency, lag_seconds, clock)
        check_chances(seed, fail_rate, rate_limit, refund_failed=refund_failed)
        self.clock = SystemClock() if clock is None else clock
        self._epoch = self.clock.time() - self.clock.monotonic()
        self.rng = random.Random(seed)  # noqa: S311 - chance that must be repeatable
        self._journal = Journal()
        self.account = PrepaidAccount(
            credits,
            limit,
            mode=mode,
            clock=self.clock,
            journal=self._journal,
            rng=self.rng,
            duration=duration,
            listener=self._changed,
            stages=self.stages,
        )
        self._keys = keys_of(keys)
        self._prices: PriceList | None = None
        self.charge = charge
        self.default_price = default_price
        self.latency = latency
        self.answer_latency = answer_latency
        self.rate_limit = rate_limit
        self.fail_rate = fail_rate
        self.refund_failed = refund_failed
        self.lag_seconds = lag_seconds
        self.lag_calls = lag_calls
        self.queue_max = queue_max
        self.callbacks = Callbacks(self.account)
        self.url = ""
        self._mishaps = Mishaps()
        self._ids = itertools.count(1)
        self._recent: deque[float] = deque()
        self._recent_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self.account.look()
        at = f" at {self.url}" if self.url else ""
        return (
            f"<{type(self).__name__}{at}: {state.credits} credits, {state.running} of {state.limit} running, "
            f"{state.queued} queued>"
        )

    # What testers look at ------------------------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:
        """What has happened, up to the clock's present."""
        self.account.look()
        return self._journal

    @property
    def state(self) -> AccountState:
        """How the account stands at the clock's present; does not count as a credits request."""
        return self.account.look()

    @property
    def credits(self) -> int:
        """The true balance."""
        return self.account.look().credits

    @property
    def limit(self) -> int | None:
        """Most tasks running at once."""
        return self.account.look().limit

    @property
    def key_count(self) -> int | None:
        """How many keys are accepted; ``None`` for any."""
        return None if self._keys is None else len(self._keys)

    # What testers change -------------------------------------------------------------------------------------------

    def set_limit(self, limit: int | None) -> None:
        """Change the limit; running tasks stay, waiting ones start if there is room. Since 0.1."""
        self.account.set_limit(limit)

    def top_up(self, credits: int) -> None:
        """Add credits, shown at once. Since 0.1."""
        self.account.top_up(credits)

    def stranger_takes(self, *, slots: int = 0, credits: int = 0, seconds: float | None = None) -> tuple[int, int]:
        """Let somebody else use the account; see `PrepaidAccount.stranger_takes`. Since 0.1."""
        return self.account.stranger_takes(slots=slots, credits=credits, seconds=seconds)

    def strangers_leave(self) -> None:
        """End every task of a stranger now. Since 0.1."""
        self.account.strangers_leave()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do *action* when the clock has moved by *seconds*, at the first request after that.

        *action* may call the methods of this section, e.g. ``fake.later(5, lambda: fake.top_up(100))``. Since 0.1.
        """
        self.account.later(seconds, action)

    def fail_next_task(self, reason: str = "", *, times: int = 1, refund: bool | None = None) -> None:
        """Let the next tasks be accepted, run, and then fail.

        Args:
            reason: The provider's word for it; ``""`` for its usual one.
            times: How many tasks.
            refund: Whether the charge comes back; ``None`` for what `refund_failed` says.

        Since 0.1.
        """
        self.account.fail_next_task(reason, times=times, refund=refund)

    def inject(
        self,
        kind: str,
        *,
        times: int | None = 1,
        on: On = "submit",
        handled: bool | None = None,
        seconds: float = 1.0,
        retry_after: float | None = None,
        location: str = "http://127.0.0.1:9/elsewhere",
    ) -> None:
        """Let requests go wrong.

        Args:
            kind: One of the provider's own refusals (`refusals`), or ``drop_before_accept``, ``drop_after_accept``
                (the connection closes without an answer), ``reset_before_accept``, ``reset_after_accept`` (it is torn
                down), ``cut_body``, ``html_502``, ``http_499``, ``http_500``, ``http_502``, ``http_503`` (a proxy's
                plain text), ``slow`` (the answer is late), ``slow_before`` (the handling is), ``empty``, ``not_json``,
                ``wrong_shape``, ``redirect``.
            times: How many requests; ``None`` for all until `clear_injections`.
            on: Which requests.
            handled: Whether the request takes effect all the same: with ``True`` a submit that is answered
                ``html_502`` or a 500 has started its task. ``None`` for what the kind usually means.
            seconds: Real seconds the slow kinds take.
            retry_after: Seconds for a ``Retry-After`` header.
            location: Where ``redirect`` points.

        Raises:
            SettingError: If nobody knows *kind*.

        Since 0.1.
        """
        if kind not in TRANSPORT_KINDS and kind not in self.refusals:
            raise SettingError("kind", kind, f"one of {', '.join([*TRANSPORT_KINDS, *self.refusals])}")
        if handled is None:
            handled = TRANSPORT_KINDS.get(kind, False)
        mishap = Mishap(kind, handled, seconds, retry_after, location)
        self._mishaps.add(mishap, times=times, on=None if on == "any" else RouteKind(on))

    def fail_next(self, kind: str, *, on: On = "submit") -> None:
        """Let the next request go wrong: `inject` once. Since 0.1."""
        self.inject(kind, on=on)

    def clear_injections(self) -> None:
        """Take back what was injected and has not been met yet. Since 0.1."""
        self._mishaps.clear()

    # How to run it -------------------------------------------------------------------------------------------------

    def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> Serving:
        """Serve on a real socket from a background thread: ``with fake.serve() as url: ...``.

        Args:
            host: The address to listen on.
            port: The port; 0 takes a free one.

        Raises:
            SettingError: If the extra ``testing`` is not installed.
            OSError: On entering, if the port is taken.

        Since 0.1.
        """
        return Serving(self, host=host, port=port)

    def run(self, *, host: str = "127.0.0.1", port: int = 8900, started: Callable[[str], None] | None = None) -> None:
        """Serve in the foreground until Ctrl-C; *started* is called with the address once it listens. Since 0.1."""
        run(self, host=host, port=port, started=started)

    def asgi(self) -> Starlette:
        """Build the ASGI application, for ``httpx.ASGITransport`` or a server of your own. Since 0.1."""
        return application(self)

    def transport(self) -> InProcessTransport:
        """Build an httpx transport, for ``Client`` and ``AsyncClient`` alike, without sockets or servers. Since 0.1."""
        return InProcessTransport(self)

    def close(self) -> None:
        """Stop sending callbacks. The fake may be used again. Since 0.1."""
        self.callbacks.close()

    # How it works --------------------------------------------------------------------------------------------------

    def flow(self, request: Request) -> Flow:
        """Go through one exchange; the driver waits and sends what it yields. Since 0.1."""
        kind, handler = self._route(request)
        self._journal.arrived(kind)
        try:
            mishap = self._mishaps.take(kind)
            wait = _seconds(self.latency, kind)
            if mishap is not None and mishap.kind == "slow_before":
                wait += mishap.seconds
            if wait > 0:
                yield wait
            reply = None
            if mishap is None or mishap.handled:
                reply = self._too_fast(request) or handler(request)
            if mishap is not None:
                self._journal.note(self.clock.monotonic(), Fact.INJECTED, mishap.kind)
                if mishap.kind in self.refusals:
                    reply = self._refuse(request, mishap.kind, retry_after=mishap.retry_after)
                else:
                    reply = spoil(mishap, reply)
            wait = _seconds(self.answer_latency, kind)
            if mishap is not None and mishap.kind == "slow":
                wait += mishap.seconds
            if wait > 0:
                yield wait
            yield cast("Reply", reply)
        finally:
            self._journal.left(kind)

    def _too_fast(self, request: Request) -> Reply | None:
        if self.rate_limit is None:
            return None
        most, seconds = self.rate_limit
        with self._recent_lock:
            now = self.clock.monotonic()
            while self._recent and self._recent[0] <= now - seconds:
                self._recent.popleft()
            if len(self._recent) < most:
                self._recent.append(now)
                return None
        self._journal.note(now, Fact.REFUSED_RATE, request.path)
        return self._refuse_rate(request)

    def _price(self, path: str, body: Mapping[str, Any]) -> int:
        if callable(self.charge):
            return self.charge(path, body)
        if self.charge is not None:
            return self.charge
        try:
            if self._prices is None:
                self._prices = self._make_price_list()
            return self._prices.quote(Route(RouteKind.SUBMIT, path), body).credits
        except UnknownPrice:
            return self.default_price

    def _date(self, at: float) -> float:
        """Seconds since 1970 of a moment of the clock."""
        return self._epoch + at

    @abstractmethod
    def _make_price_list(self) -> PriceList:
        """Build the adapter whose prices are used where no charge is given."""

    @abstractmethod
    def _route(self, request: Request) -> tuple[RouteKind | None, Handler]:
        """Say what a request is about and who handles it."""

    @abstractmethod
    def _refuse(self, request: Request, kind: str, *, retry_after: float | None = None) -> Reply:
        """Build one of the provider's own refusals."""

    @abstractmethod
    def _refuse_rate(self, request: Request) -> Reply:
        """Build the refusal of a request that came too fast."""

    @abstractmethod
    def _changed(self, task: FakeTask, what: str, at: float) -> None:
        """Hear of a change of a task; the account's lock is held."""


def _seconds(latency: Latency, kind: RouteKind | None) -> float:
    return latency(kind) if callable(latency) else latency
