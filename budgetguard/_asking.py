"""The guard's own questions to the provider: what is the balance, how does a task stand? Both colours, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
import httpx

from budgetguard import _bodies, _http
from budgetguard._core.steps import Asked, Fetched
from budgetguard.engine import Engine
from budgetguard.errors import ReadingError
from budgetguard.model import Route, RouteKind
from budgetguard.ports import Answer, ProviderRequest

__all__ = ["Asking", "AsyncAsking", "question_about"]


def question_about(engine: Engine, task_id: str, path: str = "") -> tuple[ProviderRequest, Route] | None:
    """Build the request that asks about a task, and say how its answer is read; ``None`` where there is none.

    A task's id comes from outside. Whatever the adapter made of it, the address must be on a configured origin and
    lead to this very task.
    """
    try:
        asked = engine.provider.task_request(task_id, path=path)
        if asked is None:
            return None
        url = httpx.URL(asked.url)
    except Exception as error:  # noqa: BLE001 - an adapter that fails cannot ask
        engine.complain("adapter_failed", provider=engine.provider.name, error=type(error).__name__)
        return None
    route = _http.route_of(engine, "GET", url)
    if route is None or route.kind is not RouteKind.POLL or route.task_id != task_id:
        return None
    return asked, route


class _Questions:
    """What to ask, and how to read the answer.

    A *bearer* is a request that carries the account's key in its headers. The key travels in nothing else: a traceback
    may show the local names of every frame it passes, and a request does not show its headers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seconds = engine.policy.credits_timeout

    def _balance(self, bearer: httpx.Request) -> httpx.Request:
        return self._request(self._engine.provider.credits_request(), bearer)

    def _request(self, asked: ProviderRequest, bearer: httpx.Request) -> httpx.Request:
        provider = self._engine.provider
        if _http.origin_of(httpx.URL(asked.url)) not in self._engine.origins:
            # Whatever an adapter says: no key goes to an address that is not among those it was made for.
            raise ReadingError(f"the adapter asks elsewhere than at {' or '.join(sorted(self._engine.origins))}")
        return _http.question(asked, provider.authorize(provider.key_of(bearer.headers) or ""), self._seconds)

    def _about(self, bearer: httpx.Request, task_id: str) -> tuple[httpx.Request, Route] | None:
        found = question_about(self._engine, task_id)
        return None if found is None else (self._request(found[0], bearer), found[1])

    def _seen(self, route: Route, answer: Answer) -> Asked:
        for task in self._engine.observe(route, answer):
            if task.task_id == route.task_id:
                return Asked(task)
        if self._engine.missing(route, answer):
            return Asked(None, "the provider has no such task")
        return Asked(None, f"the answer does not tell (HTTP {answer.status})", again=True)


class Asking(_Questions):
    """Asks for callers in threads. Safe to share between threads if *inner* is."""

    def __init__(self, engine: Engine, inner: httpx.BaseTransport) -> None:
        super().__init__(engine)
        self._inner = inner

    def fetch(self, bearer: httpx.Request) -> Fetched:
        """Ask for the balance of the account whose key *bearer* carries."""
        try:
            exchange = partial(self._exchange, self._balance(bearer), _http.CREDITS_MAX)
            return Fetched(self._engine.reading(exchange(), bearer.headers))
        except ReadingError as error:
            return Fetched(None, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no reading
            return Fetched(None, type(error).__name__)

    def tasks(self, bearer: httpx.Request, task_ids: Sequence[str]) -> Sequence[Asked]:
        """Ask about tasks of the account whose key *bearer* carries, all at once: it takes as long as the slowest."""
        if len(task_ids) == 1:
            return [self._task(bearer, task_ids[0])]
        pool = ThreadPoolExecutor(max(1, len(task_ids)), thread_name_prefix="budgetguard-ask")
        try:
            return list(pool.map(lambda task_id: self._task(bearer, task_id), task_ids))
        except RuntimeError as error:  # no more threads: the process is about to end, perhaps
            return [Asked(None, type(error).__name__, again=True) for _ in task_ids]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _task(self, bearer: httpx.Request, task_id: str) -> Asked:
        try:
            about = self._about(bearer, task_id)
            if about is None:
                return Asked(None, "it cannot be asked about")
            request, route = about
            return self._seen(route, self._exchange(request, _http.TASK_MAX))
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing was learnt
            return Asked(None, type(error).__name__, again=True)

    def close(self) -> None:
        """Close what it asks with."""
        self._inner.close()

    def _exchange(self, request: httpx.Request, most: int) -> Answer:
        response = self._inner.handle_request(request)
        try:
            _http.see_not_redirected(response)
            raw = _bodies.read_some(response, most, self._seconds)
        finally:
            response.close()
        return _http.answer_of(response, raw, most=most)


class AsyncAsking(_Questions):
    """Asks for callers on an event loop."""

    def __init__(self, engine: Engine, inner: httpx.AsyncBaseTransport) -> None:
        super().__init__(engine)
        self._inner = inner

    async def fetch(self, bearer: httpx.Request) -> Fetched:
        """Ask for the balance of the account whose key *bearer* carries."""
        try:
            exchange = partial(self._exchange, self._balance(bearer), _http.CREDITS_MAX)
            return Fetched(self._engine.reading(await exchange(), bearer.headers))
        except ReadingError as error:
            return Fetched(None, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no reading
            return Fetched(None, type(error).__name__)

    async def tasks(self, bearer: httpx.Request, task_ids: Sequence[str]) -> Sequence[Asked]:
        """Ask about tasks of the account whose key *bearer* carries, all at once: it takes as long as the slowest."""
        answers: dict[str, Asked] = {}

        async def learn(task_id: str) -> None:
            answers[task_id] = await self._task(bearer, task_id)

        async with anyio.create_task_group() as group:
            for task_id in task_ids:
                group.start_soon(learn, task_id)
        return [answers[task_id] for task_id in task_ids]

    async def _task(self, bearer: httpx.Request, task_id: str) -> Asked:
        try:
            about = self._about(bearer, task_id)
            if about is None:
                return Asked(None, "it cannot be asked about")
            request, route = about
            return self._seen(route, await self._exchange(request, _http.TASK_MAX))
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing was learnt
            return Asked(None, type(error).__name__, again=True)

    async def close(self) -> None:
        """Close what it asks with."""
        await self._inner.aclose()

    async def _exchange(self, request: httpx.Request, most: int) -> Answer:
        with anyio.fail_after(self._seconds):
            response = await self._inner.handle_async_request(request)
            try:
                _http.see_not_redirected(response)
                raw = await _bodies.aread_some(response, most, self._seconds)
            finally:
                await response.aclose()
        return _http.answer_of(response, raw, most=most)
