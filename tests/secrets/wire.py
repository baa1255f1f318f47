"""Two providers that fail in every way, and that repeat the key wherever they can."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from budgetguard.providers import UdioPro, Vidu
from budgetguard.testing import FakeUdio
from tests.support.vidu import BODY, PRICE, made_up

__all__ = ["PROVIDERS", "Interruption", "Moody", "Provider", "failures", "new_key", "new_plain_key"]


class Interruption(BaseException):
    """Like KeyboardInterrupt, but nobody's."""


def new_key(prefix: str = "vda_") -> str:
    """Make a key, with characters that some write in another way than others."""
    return f'{prefix}{secrets.token_hex(10)}"+/%{secrets.token_urlsafe(12)}\\=&<{secrets.token_hex(6)}'


def new_plain_key(prefix: str = "vda_") -> str:
    """Make a key as providers give them out: one word, which passes where a sentence does not."""
    return f"{prefix}{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class Provider:
    """What there is to know of one of the two."""

    name: str
    home: str
    adapter: Callable[..., Any]
    fake: Callable[..., Any]
    header: Callable[[str], str]
    body: dict[str, Any]
    submit: str
    credits: str
    poll: str
    price: int

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": self.header(key)}


def _udio(**given: Any) -> FakeUdio:
    usual: dict[str, Any] = {"credits": 500, "limit": 2, "duration": 60.0}
    return FakeUdio(**{**usual, **given})


PROVIDERS = {
    "vidu": Provider(
        name="vidu",
        home="https://api.vidu.com",
        adapter=lambda **given: Vidu(prices={"text2video": PRICE}, **given),
        fake=lambda **given: made_up(**{"credits": 500, "limit": 2, **given}),
        header=lambda key: f"Token {key}",
        body=BODY,
        submit="/ent/v2/text2video",
        credits="/ent/v2/credits",
        poll="/ent/v2/tasks/{}/creations",
        price=PRICE,
    ),
    "udio": Provider(
        name="udio",
        home="https://udioapi.pro",
        adapter=lambda **given: UdioPro(concurrency=2, **given),
        fake=_udio,
        header=lambda key: f"Bearer {key}",
        body={"gpt_description_prompt": "rain", "model": "chirp-v3-5"},
        submit="/api/v2/generate",
        credits="/api/v2/credits",
        poll="/api/v2/feed?workId={}",
        price=10,
    ),
}


class Moody(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Passes on to a fake, unless told to answer, or to fail, in another way. Lets somebody look while it does."""

    def __init__(self, inner: Any, look: Callable[[], None]) -> None:
        self.inner = inner
        self.look = look
        self.instead: dict[str, httpx.Response | BaseException] = {}

    def _instead(self, request: httpx.Request) -> httpx.Response | None:
        self.look()
        instead = self.instead.pop(request.url.path, None)
        if isinstance(instead, BaseException):
            raise instead
        return instead

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        instead = self._instead(request)
        response: httpx.Response = self.inner.handle_request(request) if instead is None else instead
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        instead = self._instead(request)
        if instead is not None:
            return instead
        response: httpx.Response = await self.inner.handle_async_request(request)
        return response


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data
        raise httpx.ReadError("cut off")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data
        raise httpx.ReadError("cut off")


def answered(key: str, header: str, status: int, **changes: Any) -> httpx.Response:
    """Answer with the key in every place there is."""
    document = {
        "code": status,
        "reason": f"key {key} is odd",
        "message": f"you sent {header}",
        "err_code": key,
        "metadata": {"trace_id": key},
        "data": {"workId": key, "credits": key},
        key: key,
        **changes,
    }
    headers = {"content-type": "application/json", "x-your-key": key, "retry-after": "0.001", "location": f"/{key}"}
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(json.dumps(document).encode()))


def repeated(key: str) -> dict[str, Any]:
    """Tell a balance that is one, with the key for a word wherever there may be one."""
    row = {"credit_remain": 500, "concurrency_limit": 2, "current_concurrency": 0, "queue_count": 0}
    package = {"id": key, "name": f"for {key}", "type": key, "credit_remain": 500, "valid_from": key, "valid_to": key}
    return {"remains": [{"type": key, **row}], "packages": [package], "data": {"credits": 500, "name": key}}


def failures(key: str, header: str, *, own: bool = True) -> list[httpx.Response | BaseException]:
    """Make one of each: refusals, faults, pages, what is cut, what is no answer at all.

    Args:
        key: The key that is repeated.
        header: The header's value that is.
        own: Whether it goes wrong for a question of the guard's own. What is wrong with a user's call reaches him as
            the inner transport said it, so there only exceptions without a key are raised.
    """
    foreign = [
        httpx.LocalProtocolError(f"Illegal header value {header.encode()!r}"),
        RuntimeError(f"an inner transport that shows {header}"),
    ]
    said = [answered(key, header, status) for status in (400, 401, 402, 403, 404, 429, 499, 500, 502, 503, 302, 200)]
    reasons = ("CreditInsufficient", "QuotaExceeded", "TooManyRequests", "Unauthorized", key[:40], "x" * 4000)
    said += [answered(key, header, 400, reason=reason, msg=reason) for reason in (*reasons, f"No_{key[8:-8]}")]
    said += [answered(key, header, 429, reason=key)]
    said += [answered(key, header, 200, code=code, msg=header) for code in (401, 402, 429, 500)]
    return [
        *said,
        httpx.Response(200, text=f"<html><p>{key}</p>"),
        httpx.Response(502, html=f"<html><p>{header}</p>"),
        httpx.Response(200, headers={"content-type": "application/json"}, stream=Cut(f'{{"a": "{key}'.encode())),
        httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(key.encode())),
        httpx.Response(200, json={"remains": [{"type": key, "credit_remain": key}], "data": {"credits": header}}),
        httpx.Response(200, json=[key, {"data": [key]}]),
        httpx.Response(200, json=repeated(key)),
        httpx.ReadError("no"),
        httpx.WriteTimeout("late"),
        httpx.ConnectError("gone"),
        *(foreign if own else []),
        RuntimeError("odd"),
        Interruption(),
    ]
