"""An ASGI application that takes a provider's callbacks and tells the guard which tasks have ended.

It may stand alone (``uvicorn module:app``) or be mounted into Starlette, FastAPI, Django and other frameworks, on
asyncio and on trio.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote

import anyio.to_thread
import cachetools

from budgetguard._documents import DOCUMENT_MAX
from budgetguard._half_made import even_half_made
from budgetguard._hidden import Hidden, hide_all
from budgetguard._settings import function, whole
from budgetguard._tokens import is_token
from budgetguard.errors import CallbackError, SettingError, StoreError
from budgetguard.guard import AsyncGuard, Guard
from budgetguard.model import TaskSeen

__all__ = ["CallbackProvider", "WebhookApp", "webhook_app"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BODY_MAX = 2 * 1024 * 1024
"""A body repeats the task's payload, which may have a million characters."""
_REMEMBERED = 10_000
_STATUS = {"forged": 401, "stale": 401, "malformed": 400, "too_large": 413}
_RETRY_AFTER = (b"retry-after", b"5")


@runtime_checkable
class CallbackProvider(Protocol):
    """What an adapter adds to `Provider` if its callbacks can be believed. Pure. Since 0.1."""

    def verify_callback(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        secret: str,
        now: float,
        max_age: float = 300.0,
    ) -> Sequence[TaskSeen]:
        """Check a callback and read it, or raise `CallbackError`. See `Vidu.verify_callback`."""
        ...


def webhook_app(
    guard: Guard | AsyncGuard,
    *,
    secret: str | Iterable[str] | None = None,
    path: str | None = None,
    signed_path: str | None = None,
    max_age: float = 300.0,
    body_max: int = _BODY_MAX,
    clock: Callable[[], float] = time.time,
) -> WebhookApp:
    """Make an ASGI application that takes callbacks. Since 0.1.

    It answers 200 to what is genuine, whether it is news or not; 401 to what is forged or stale; 400 to what cannot be
    read; 413 to what is too large; 405 to anything but ``POST``; 404 to other paths; and 503 while the store fails, so
    that the provider sends again. A callback tells of the account its key belongs to, and of no other.

    Args:
        guard: Is told which tasks have ended. A `Guard` is told in a worker thread.
        secret: The API key, or keys, that create the tasks; by default the guard's own.
        path: The only path that is served, whole; by default any, for an application that is mounted somewhere.
        signed_path: The path of the ``callback_url`` as the provider knows it, where a proxy changes it on the way.
        max_age: How old a callback may be, in seconds.
        body_max: How many bytes of a body are read; the callback of a task with a longer ``payload`` is refused.
        clock: The time, in seconds since 1970.

    Raises:
        SettingError: If the guard's provider signs no callbacks, there is no secret, or a setting cannot work.
    """
    secret = hide_all(secret)
    return WebhookApp(
        guard, secret=secret, path=path, signed_path=signed_path, max_age=max_age, body_max=body_max, clock=clock
    )


class WebhookApp:
    """The application `webhook_app` makes. Safe to share between event loops and threads. Since 0.1."""

    def __init__(
        self,
        guard: Guard | AsyncGuard,
        *,
        secret: str | Iterable[str] | None = None,
        path: str | None = None,
        signed_path: str | None = None,
        max_age: float = 300.0,
        body_max: int = _BODY_MAX,
        clock: Callable[[], float] = time.time,
    ) -> None:
        secret = hide_all(secret)
        function("clock", clock, "give a function that tells the seconds since 1970")
        if not isinstance(guard, Guard | AsyncGuard):
            raise SettingError("guard", type(guard).__name__, "give a Guard or an AsyncGuard")
        provider: object = guard.engine.provider
        if not isinstance(provider, CallbackProvider):
            right = "its callbacks are not signed, so nothing they say can be believed; poll through the guard instead"
            raise SettingError("guard", type(provider).__name__, right)
        for name, value in (("path", path), ("signed_path", signed_path)):
            if value is not None and (not isinstance(value, str) or not value.startswith("/") or "?" in value):
                raise SettingError(name, value, "give a path that begins with / and has no query")
        right = f"give a whole number of bytes, from 1 to {DOCUMENT_MAX}"
        whole("body_max", body_max, 1, DOCUMENT_MAX, right=right)
        if isinstance(max_age, bool) or not isinstance(max_age, int | float) or not 0 < max_age <= 86_400:
            raise SettingError("max_age", max_age, "give seconds, more than 0, at most a day")
        self._guard = guard
        self._provider: CallbackProvider = provider
        self._keys = _Keys(guard, secret)
        self._path = path
        self._signed_path = signed_path
        self._max_age = float(max_age)
        self._body_max = body_max
        self._clock = clock
        # What each signature came with: it covers no body, so whoever saw one pass could send it with another.
        self._said: cachetools.TTLCache[str, bytes, float] = cachetools.TTLCache(_REMEMBERED, 2 * max_age + 60, clock)
        self._lock = threading.Lock()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI says."""
        kind = scope["type"]
        if kind == "lifespan":
            await _live(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif kind == "http":
            status, why, more = await self._serve(scope, receive)
            if status:
                await _answer(send, status, why, more)

    async def _serve(
        self, scope: Mapping[str, Any], receive: Receive
    ) -> tuple[int, str, Sequence[tuple[bytes, bytes]]]:
        """Give the status, what to say, and headers; status 0 if nobody is there any more."""
        if self._path is not None and scope["path"] != self._path:
            return 404, "There is nothing here.", ()
        if scope["method"] != "POST":
            return 405, "Callbacks are posted.", [(b"allow", b"POST")]
        headers = _headers(scope)
        try:
            body = await self._body(headers, receive)
            if body is None:
                return 0, "", ()
            key, tasks = self._verify(scope, headers, body)
        except CallbackError as error:
            # One line for each kind: how stale it was is different every time.
            self._guard.engine.complain("callback_refused", kind=error.kind)
            return _STATUS[error.kind], str(error), ()
        try:
            for task in tasks:
                # A permit's token is no id of the provider's, and no callback ends a permit.
                if task.state.ended and not is_token(task.task_id):
                    await self._tell(task, key)
        except StoreError:
            return 503, "The store fails; send it again.", [_RETRY_AFTER]
        return 200, "", ()

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes | None:
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > self._body_max):
            raise CallbackError("too_large", f"its body is longer than {self._body_max} bytes")
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._body_max:
                raise CallbackError("too_large", f"its body is longer than {self._body_max} bytes")
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)

    def _verify(
        self, scope: Mapping[str, Any], headers: Mapping[str, str], body: bytes
    ) -> tuple[str, Sequence[TaskSeen]]:
        """Find the key a callback is signed with, and read what it tells."""
        url, now = self._url(scope), self._clock()
        refused: CallbackError | None = None
        for key in self._keys.all():
            try:
                tasks = self._provider.verify_callback(
                    "POST", url, headers, body, secret=key, now=now, max_age=self._max_age
                )
            except CallbackError as error:
                if error.kind != "forged":
                    raise
                refused = error
                continue
            self._once(headers, tasks)
            return key, tasks
        raise refused or CallbackError("forged", "there is no key to check it with")

    def _once(self, headers: Mapping[str, str], tasks: Sequence[TaskSeen]) -> None:
        """Let a signature be repeated with what it came with first, and with nothing else."""
        # Stripped as it is when it is compared: with a blank more it would be another one that is as good.
        signature = headers.get("x-hmac-signature", "").strip()
        if "x-request-nonce" not in headers.get("x-hmac-signed-headers", "").lower():
            return  # without one, two callbacks of the same second may well have the same signature
        said = hashlib.sha256(repr(sorted(map(repr, tasks))).encode()).digest()
        with self._lock:
            if self._said.setdefault(signature, said) != said:
                raise CallbackError("forged", "its signature came with another body before")

    def _url(self, scope: Mapping[str, Any]) -> str:
        raw: bytes = scope.get("raw_path") or b""
        path = self._signed_path or raw.decode("latin-1").partition("?")[0] or quote(scope["path"], errors="replace")
        query: str = scope.get("query_string", b"").decode("latin-1")
        return f"{path}?{query}" if query else path

    async def _tell(self, task: TaskSeen, key: str) -> None:
        told: dict[str, Any] = {"state": task.state, "charge": task.charge, "key": key}
        if isinstance(self._guard, AsyncGuard):
            await self._guard.finished(task.task_id, **told)
        else:
            await anyio.to_thread.run_sync(partial(self._guard.finished, task.task_id, **told))

    @even_half_made
    def __repr__(self) -> str:
        return f"WebhookApp({self._guard!r}, path={self._path!r})"


class _Keys:
    """The keys callbacks may be signed with. Shows none of them."""

    __slots__ = ("_all",)

    def __init__(self, guard: Guard | AsyncGuard, secret: str | Iterable[str] | None) -> None:
        if secret is None:
            secret = hide_all(guard.engine.provider.key_of(guard.bearer.headers) or ())
        keys = [secret] if isinstance(secret, str) else list(secret) if isinstance(secret, Iterable) else []
        if not keys or any(not isinstance(key, str) or not key or not key.isascii() for key in keys):
            raise SettingError("secret", "(hidden)", "give the API key that creates the tasks, or a list of keys")
        self._all = tuple(map(Hidden, keys))

    def all(self) -> tuple[str, ...]:
        return self._all

    @even_half_made
    def __repr__(self) -> str:
        return f"_Keys({len(self._all)})"


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        # One that comes twice is neither of the two, and so fits no signature.
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _answer(send: Send, status: int, why: str, more: Sequence[tuple[bytes, bytes]]) -> None:
    body = json.dumps({"status": status, "detail": why}).encode() if why else b""
    headers = [(b"content-length", str(len(body)).encode()), *more]
    if why:
        headers.append((b"content-type", b"application/problem+json"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
