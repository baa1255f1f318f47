"""Looking at httpx requests and answers without spoiling them. No decisions about credits are made here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import httpx

from budgetguard._documents import DOCUMENT_MAX, decode, unpacked
from budgetguard._settings import SLOTS_MAX, flag, seconds, whole
from budgetguard.engine import Engine
from budgetguard.errors import (
    CreditsUnavailable,
    InsufficientCredits,
    InsufficientSlots,
    QueueFull,
    QueueTimeout,
    Refused,
    SettingError,
    UnknownPrice,
)
from budgetguard.model import Outcome, Route, Verdict
from budgetguard.ports import Answer, ProviderRequest

__all__ = [
    "BODY_MAX",
    "CREDITS_MAX",
    "REFUSALS",
    "REFUSAL_MAX",
    "TASK_MAX",
    "CallOptions",
    "answer_of",
    "at_hand",
    "is_json",
    "kept",
    "looks_small",
    "options_of",
    "origin_of",
    "problem",
    "question",
    "route_of",
    "see_not_redirected",
    "undelivered",
]

BODY_MAX = DOCUMENT_MAX
"""Bytes of a body that are looked at; a longer one passes unseen."""
CREDITS_MAX = 1024 * 1024
"""Bytes of a credits answer that are read, packed or not."""
TASK_MAX = 16 * 1024 * 1024
"""The same of an answer about a task, which repeats its payload."""
REFUSAL_MAX = 64 * 1024
"""Bytes of a refusal that is not JSON that are kept with the exception."""

_DIGITS_MAX = 19
_PRIORITY_MAX = 10**9
# No local protocol error: over HTTP/2 one may come after the request has left.
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.ProxyError,
)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Settings of one call, given as ``extensions={"budgetguard": {...}}``. Since 0.1.

    Attributes:
        credits: What the call costs at most, in credits; replaces the price list.
        slots: Slots it takes; replaces the adapter's word.
        priority: A higher one goes before a lower one in the line.
        deadline: Seconds within which it must be sent.
        skip: Whether the guard leaves this call alone altogether.
    """

    credits: int | None = None
    slots: int | None = None
    priority: int = 0
    deadline: float | None = None
    skip: bool = False

    def __post_init__(self) -> None:
        if self.credits is not None:
            whole("credits", self.credits)
        if self.slots is not None:
            whole("slots", self.slots, 0, SLOTS_MAX)
        whole("priority", self.priority, -_PRIORITY_MAX, _PRIORITY_MAX, right="give a whole number from -1e9 to 1e9")
        if self.deadline is not None:
            seconds("deadline", self.deadline, zero=True)
        flag("skip", self.skip)


_NO_OPTIONS = CallOptions()
_OPTION_NAMES = frozenset(field.name for field in fields(CallOptions))


def options_of(request: httpx.Request) -> CallOptions:
    """Read a call's own settings.

    Raises:
        SettingError: If one is unknown or unusable.
    """
    given = request.extensions.get("budgetguard")
    if given is None:
        return _NO_OPTIONS
    if not isinstance(given, Mapping):
        raise SettingError("extensions['budgetguard']", given, "give a mapping of settings")
    unknown = set(given) - _OPTION_NAMES
    if unknown:
        raise SettingError(
            "extensions['budgetguard']",
            sorted(map(str, unknown)),
            f"known settings are {', '.join(sorted(_OPTION_NAMES))}",
        )
    return CallOptions(**given)


# -- requests -------------------------------------------------------------------------------------------------------


def origin_of(url: httpx.URL) -> str:
    """Give what is asked at an address: its scheme, host and port, without user."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def route_of(engine: Engine, method: str, url: httpx.URL) -> Route | None:
    """Say what a request to an address is about; ``None`` where the guard has nothing to do with it."""
    return engine.route(method, origin_of(url), url.path, url.query.decode("ascii"))


def is_json(headers: httpx.Headers) -> bool:
    """Tell whether a body says it is one JSON document, or does not say what it is."""
    given = headers.get("content-type", "")
    if given == "application/json":
        return True
    kind = given.partition(";")[0].strip().lower()
    return kind in {"", "application/json", "text/json"} or (kind.endswith("+json") and "stream" not in kind)


def question(asked: ProviderRequest, key: Mapping[str, str], seconds: float) -> httpx.Request:
    """Build a request of the guard's own: for the balance, or about a task."""
    timeout = {"connect": seconds, "read": seconds, "write": seconds, "pool": seconds}
    headers = {"accept": "application/json", "accept-encoding": "gzip, deflate", **asked.headers, **key}
    return httpx.Request("GET", asked.url, headers=headers, extensions={"timeout": timeout})


def undelivered(error: BaseException) -> Verdict:
    """Say what a failed exchange proves: nothing was sent, or nobody knows."""
    if isinstance(error, _NOT_SENT):
        return Verdict(Outcome.NOT_SENT, reason=type(error).__name__)
    return Verdict(Outcome.UNKNOWN, reason=type(error).__name__)


# -- answers --------------------------------------------------------------------------------------------------------


def looks_small(response: httpx.Response) -> bool:
    """Tell whether an answer may be read whole before it is passed on."""
    if not is_json(response.headers):
        return False
    length = response.headers.get("content-length", "")
    return not length.isascii() or not length.isdigit() or (len(length) < _DIGITS_MAX and int(length) <= BODY_MAX)


def see_not_redirected(response: httpx.Response) -> None:
    """See that an answer to a question of the guard's own comes from where it was asked.

    Raises:
        httpx.TooManyRedirects: If the inner transport followed a redirect.
    """
    if response.history:
        raise httpx.TooManyRedirects("A question of the guard was redirected.", request=response.history[0].request)


def answer_of(response: httpx.Response, raw: bytes | None, *, most: int = BODY_MAX) -> Answer:
    """Show an answer to an adapter.

    *raw* is the body as it came, still encoded; ``None`` if it was not looked at. A body that unpacks to more than
    *most* bytes was not looked at either.
    """
    if raw is None:
        return Answer(response.status_code, response.headers)
    return _Unread(response, raw, most, packed=True)


def at_hand(response: httpx.Response) -> Answer | None:
    """Show an answer that came read already; ``None`` for one that is still to be read."""
    if not response.is_closed:
        return None
    try:
        content = response.content
    except httpx.ResponseNotRead:
        return None
    return _Unread(response, content, BODY_MAX, packed=False) if len(content) <= BODY_MAX else None


_NOT_YET = object()
_JSON = frozenset((name, b"application/json") for name in (b"content-type", b"Content-Type"))
"""How nearly all answers say that they are JSON: looking one header up costs more than looking at all."""


class _Unread(Answer):
    """An answer whose body is decoded when an adapter looks at it, and not before."""

    __slots__ = ("_content", "_document", "_most", "_packed")
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__  # only both together are as quick as they would be without a frozen base

    headers: httpx.Headers

    def __init__(self, response: httpx.Response, content: bytes, most: int, *, packed: bool) -> None:
        self.status = response.status_code  # type: ignore[misc]
        self.headers = response.headers
        self._content: bytes | None = content
        self._document: Any = _NOT_YET
        self._most = most
        self._packed = packed

    @property
    def body(self) -> Any:
        """The decoded JSON document; ``None`` where there is none that can be read."""
        document = self._document
        if document is _NOT_YET:
            content = self._unpacked() if self._packed else self._content
            told = not _JSON.isdisjoint(self.headers.raw) or is_json(self.headers)
            self._document = document = decode(content) if told and content is not None else None
        return document

    @property
    def text(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The first part of an answer that was not JSON."""
        content = None if self.body is not None else self._unpacked()
        return "" if content is None else content[:200].decode("utf-8", "replace")

    def _unpacked(self) -> bytes | None:
        if self._packed:
            self._packed = False
            if self._content is not None and "content-encoding" in self.headers:
                self._content = unpacked(self._content, self.headers["content-encoding"], self._most)
        return self._content


def kept(response: httpx.Response, raw: bytes | None) -> httpx.Response:
    """Copy an answer for an exception, without its stream; the body is empty where it was not, or cannot be, read."""
    content = None if raw is None else unpacked(raw, response.headers.get("content-encoding", ""), BODY_MAX)
    copy = httpx.Response(response.status_code, content=content or b"")
    copy.headers = response.headers
    return copy


# -- refusals as answers --------------------------------------------------------------------------------------------

_STATUS: dict[type[Refused], int] = {
    InsufficientCredits: 402,
    UnknownPrice: 402,
    InsufficientSlots: 402,
    QueueFull: 429,
    QueueTimeout: 429,
    CreditsUnavailable: 503,
}
REFUSALS = frozenset(kind.__name__ for kind in _STATUS)
"""What the title of a problem document is, where the guard wrote it."""


def problem(request: httpx.Request, refused: Refused) -> httpx.Response:
    """Answer in the provider's stead: a problem document that tells vendor SDKs not to try again by themselves."""
    status = next((code for kind, code in _STATUS.items() if isinstance(refused, kind)), 402)
    headers = {"content-type": "application/problem+json", "x-should-retry": "false"}
    retry_after: float | None = refused.facts.get("retry_after")
    if retry_after is not None:
        headers["retry-after"] = str(max(1, round(retry_after)))
    document = {
        "type": "about:blank",
        "title": type(refused).__name__,
        "status": status,
        "detail": str(refused),
        **refused.facts,
    }
    data = json.dumps(document).encode()
    headers["content-length"] = str(len(data))
    # As a stream, like an answer from afar: one given as content counts as read already.
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(data), request=request)
