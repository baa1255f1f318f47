"""Following a task from its submit to its end: what to send, how long to pause, and what its answers come to.

Decided once, as generators that ask for what they need; the two colours of `budgetguard.tasks` only do it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import httpx

from budgetguard._asking import question_about
from budgetguard._checks import check_task_id
from budgetguard._http import REFUSALS, options_of, route_of
from budgetguard._settings import given_address
from budgetguard.engine import Engine, decode
from budgetguard.errors import SettingError
from budgetguard.model import Outcome, Route, RouteKind, TaskState, Verdict
from budgetguard.ports import Answer
from budgetguard.providers._fields import retry_after
from budgetguard.providers._settings import lease as seconds_of
from budgetguard.task_errors import TaskFailed, TaskNotStarted, TaskUnfinished

__all__ = ["Client", "Following", "Pace", "Work", "asked_for", "begun", "see_guarded", "submit_of"]

_GROWTH = 1.5
_FAILURES_MAX = 10
"""Polls that may fail in a row: with the usual pauses a minute and a half of them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a task is asked about, and for how long."""

    every: float
    most: float
    timeout: float | None
    clock: Callable[[], float]
    chance: Callable[[], float]

    def __post_init__(self) -> None:
        seconds_of("poll_every", self.every)
        seconds_of("poll_max", self.most)
        if self.timeout is not None:
            seconds_of("timeout", self.timeout)

    def jittered(self, pause: float) -> float:
        """Spread the polls of many who began together."""
        return pause * (0.8 + 0.4 * self.chance())


Client = httpx.Client | httpx.AsyncClient
Work = Generator[httpx.Request | float, httpx.Response | httpx.HTTPError | None, Any]
"""What to send, or how many seconds to pause; takes the answer, or why there is none. Returns the final document."""


class Following:
    """Follows one task until it has ended. Sends nothing itself."""

    def __init__(self, engine: Engine, client: Client, task_id: str, path: str, pace: Pace) -> None:
        check_task_id(task_id, needed=True)
        if not isinstance(path, str):
            raise SettingError("path", path, "give the endpoint that started the task, as text")
        found = question_about(engine, task_id, path)
        if found is None:
            raise SettingError(
                "task_id", task_id, f"give the id of a task that {engine.provider.name} can be asked about"
            )
        see_client(client)
        self._asked, self._route = found
        self._engine = engine
        self._client = client
        self._task_id = task_id
        self._pace = pace
        self._account = engine.provider.name
        self._document: Any = None

    @property
    def url(self) -> httpx.URL:
        """Where it asks."""
        return httpx.URL(self._asked.url)

    def follow(self, bearer: httpx.Request | None = None) -> Work:
        """Ask until the task has ended. *bearer* carries the key, where the client itself may not."""
        pace, since, failures = self._pace, self._pace.clock(), 0
        base = pace.every
        pause = 0.0 if bearer is None else pace.jittered(base)
        if bearer is not None:
            self._account = _account(self._engine, bearer)
        while True:
            left = None if pace.timeout is None else pace.timeout - (pace.clock() - since)
            if left is not None and left <= 0:
                raise self._unfinished(since, "its time was over")
            if pause:
                yield pause if left is None else min(pause, left)
            reply = yield self._question(bearer)
            state, why, wish = self._read(reply)
            if state is not None and state.ended:
                return self._result(state)
            failures = failures + 1 if state is None else 0
            if failures > _FAILURES_MAX:
                cause = reply if isinstance(reply, httpx.HTTPError) else None
                raise self._unfinished(since, f"{failures} polls in a row failed, the last with {why}") from cause
            pause = max(pace.jittered(base), wish or 0.0)
            base = min(max(pace.every, pace.most), base * _GROWTH)

    def _question(self, bearer: httpx.Request | None) -> httpx.Request:
        request = self._client.build_request("GET", self._asked.url)
        for name, value in self._asked.headers.items():
            request.headers.setdefault(name, value)
        if bearer is not None:
            # The key stays in requests: a traceback may show the local names of every frame it passes.
            provider = self._engine.provider
            request.headers.update(provider.authorize(provider.key_of(bearer.headers) or ""))
        return request

    def _read(self, reply: httpx.Response | httpx.HTTPError | None) -> tuple[TaskState | None, str, float | None]:
        """Say how the task stands, or why nobody knows, and how long the provider asked us to wait."""
        if not isinstance(reply, httpx.Response):
            return None, type(reply).__name__, None
        self._account = _account(self._engine, reply.request)
        answer = _answer(reply)
        wish = retry_after(answer.headers)
        for task in self._engine.observe(self._route, answer):
            if task.task_id == self._task_id:
                self._document = answer.body
                return task.state, "", wish
        return None, f"HTTP {answer.status}", wish

    def _result(self, state: TaskState) -> Any:
        if state is TaskState.SUCCEEDED:
            return self._document
        raise TaskFailed(account=self._account, task_id=self._task_id, state=state.value, document=self._document)

    def _unfinished(self, since: float, why: str) -> TaskUnfinished:
        waited = self._pace.clock() - since
        return TaskUnfinished(
            account=self._account, task_id=self._task_id, waited=waited, why=why, document=self._document
        )


def begun(engine: Engine, client: Client, route: Route, response: httpx.Response, pace: Pace) -> Work:
    """Go on from the answer to a submitted call."""
    verdict = engine.verdict(route, _answer(response), response.request.headers)
    if verdict.outcome is not Outcome.ACCEPTED:
        # Answers stay out of the names of this frame, which a traceback may show: they may repeat what was sent.
        raise _not_started(engine, response, verdict)
    if verdict.task_id is None:
        # It was done when it was answered.
        document = decode(response.content)
        return response.content if document is None else document
    try:
        following = Following(engine, client, verdict.task_id, route.path, pace)
    except SettingError:
        # It was paid for, so this is no mistake of the caller's.
        name, why = _account(engine, response.request), "the provider cannot be asked about it"
        raise TaskUnfinished(account=name, task_id=verdict.task_id, waited=0.0, why=why) from None
    return (yield from following.follow(response.request))


def _not_started(engine: Engine, response: httpx.Response, verdict: Verdict) -> TaskNotStarted:
    document = decode(response.content)
    outcome, reason = verdict.outcome.value, verdict.reason
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        title = document.get("title") if isinstance(document, dict) else None
        outcome, reason = "not_sent", title if isinstance(title, str) and title in REFUSALS else ""
    return TaskNotStarted(
        account=_account(engine, response.request),
        outcome=outcome,
        reason=reason,
        status=response.status_code,
        document=document,
    )


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, decode(response.content))


def _account(engine: Engine, request: httpx.Request) -> str:
    """Name the account of a request's key; the provider, where it has none."""
    if engine.provider.key_of(request.headers) is None:
        return engine.provider.name
    return engine.account(engine.provider.key_of(request.headers) or "").name


def see_client(client: Any) -> None:
    """See that there is a client to send with."""
    if not isinstance(client, httpx.Client | httpx.AsyncClient):
        raise SettingError("client", type(client).__name__, "give the httpx client the task is asked about with")


def asked_for(client: Client, request: httpx.Request | str, json: Any) -> httpx.Request:
    see_client(client)
    if isinstance(request, str):
        try:
            return client.build_request("POST", request, json=json)
        except (httpx.InvalidURL, UnicodeError) as error:
            right = f"give the address of a call that starts a task ({type(error).__name__})"
            raise SettingError("request", given_address(request), right) from None
    if not isinstance(request, httpx.Request) or json is not None:
        raise SettingError("request", type(request).__name__, "give an httpx.Request, or an address and json=...")
    return request


def submit_of(engine: Engine, request: httpx.Request) -> Route:
    """Say what a request starts, and see to it that the guard will take it in hand."""
    route, url = route_of(engine, request.method, request.url), request.url
    if route is None or route.kind is not RouteKind.SUBMIT or options_of(request).skip:
        right = f"give a call that starts a task at {min(engine.origins)}, and do not let the guard skip it"
        raise SettingError("request", f"{request.method} {url.scheme}://{url.netloc.decode('ascii')}{url.path}", right)
    return route


def see_guarded(engine: Engine, client: Client, url: httpx.URL, kind: type[Any]) -> None:
    """See to it that a client sends there through this very guard, before anything is paid for.

    httpx offers no public way to ask a client for its transport; where a later one is built otherwise, nobody is
    stopped by it.
    """
    chosen = getattr(client, "_transport_for_url", None)
    transport = None if chosen is None else chosen(url)
    if chosen is not None and (not isinstance(transport, kind) or getattr(transport, "engine", None) is not engine):
        right = "give a client with transport=guard.transport() of this guard, and no proxy or mount for this address"
        raise SettingError("client", type(transport).__name__, right)
