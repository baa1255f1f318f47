"""The guard's own questions to the provider: what is the balance? Both colours, side by side."""

from __future__ import annotations

import anyio
import httpx

from budgetguard import _bodies, _http
from budgetguard._core.steps import Fetched
from budgetguard.engine import Engine
from budgetguard.errors import ReadingError
from budgetguard.ports import Answer

__all__ = ["Asking", "AsyncAsking"]


class _Questions:
    """What to ask, and how to read the answer.

    A *bearer* is a request that carries the account's key in its headers. The key travels in nothing else: a traceback
    may show the local names of every frame it passes, and a request does not show its headers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seconds = engine.policy.credits_timeout

    def _balance(self, bearer: httpx.Request) -> httpx.Request:
        provider = self._engine.provider
        return _http.question(
            provider.credits_request(), provider.authorize(provider.key_of(bearer.headers) or ""), self._seconds
        )

    def _read(self, answer: Answer) -> Fetched:
        try:
            return Fetched(self._engine.reading(answer))
        except ReadingError as error:
            return Fetched(None, str(error))


class Asking(_Questions):
    """Asks for callers in threads. Safe to share between threads if *inner* is."""

    def __init__(self, engine: Engine, inner: httpx.BaseTransport) -> None:
        super().__init__(engine)
        self._inner = inner

    def fetch(self, bearer: httpx.Request) -> Fetched:
        """Ask for the balance of the account whose key *bearer* carries."""
        try:
            response = self._inner.handle_request(self._balance(bearer))
            try:
                raw = _bodies.read_some(response, _http.CREDITS_MAX, self._seconds)
            finally:
                response.close()
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no reading
            return Fetched(None, type(error).__name__)
        return self._read(_http.answer_of(response, raw))


class AsyncAsking(_Questions):
    """Asks for callers on an event loop."""

    def __init__(self, engine: Engine, inner: httpx.AsyncBaseTransport) -> None:
        super().__init__(engine)
        self._inner = inner

    async def fetch(self, bearer: httpx.Request) -> Fetched:
        """Ask for the balance of the account whose key *bearer* carries."""
        try:
            with anyio.fail_after(self._seconds):
                response = await self._inner.handle_async_request(self._balance(bearer))
                try:
                    raw = await _bodies.aread_some(response, _http.CREDITS_MAX, self._seconds)
                finally:
                    await response.aclose()
        except Exception as error:  # noqa: BLE001 - whatever it was, there is no reading
            return Fetched(None, type(error).__name__)
        return self._read(_http.answer_of(response, raw))
