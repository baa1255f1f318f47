"""Vidu's callbacks: whether one is genuine and young, and what it tells.

https://platform.vidu.com/docs/callback-signature: base64 of the HMAC-SHA256, under the key that created the task, over
lines that each end in a newline: the method, the path, the raw query, ``vidu``, the date, and each header named in
``X-HMAC-SIGNED-HEADERS`` with its value. The body is **not** among them.

The body is "the same as the answer to the query", https://platform.vidu.com/docs/text-to-video. The page of that
answer shows no id of the task in it, answers in the field have one, as ``id`` or as ``task_id``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from budgetguard._documents import decode
from budgetguard.errors import CallbackError, SettingError
from budgetguard.model import Route, RouteKind, TaskSeen
from budgetguard.ports import Answer
from budgetguard.providers._fields import identifier
from budgetguard.providers._vidu_answers import observe

__all__ = ["BODY_MAX", "verify"]

BODY_MAX = 16 * 1024 * 1024
"""Bytes of a body that are looked at. It repeats the task's payload, up to 1,048,576 characters, each of which JSON may
write with 12."""
_AHEAD = 60.0
"""Seconds a date may lie ahead of our clock."""
_ALGORITHM = "hmac-sha256"
_ACCESS_KEY = "vidu"
_SIGNED_MAX = 16


def verify(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secret: str,
    now: float,
    max_age: float,
) -> Sequence[TaskSeen]:
    """Check a callback, and read what it tells. See `Vidu.verify_callback`."""
    if not isinstance(secret, str) or not secret or not secret.isascii():
        raise SettingError("secret", "(hidden)", "give the API key that created the task")
    if isinstance(max_age, bool) or not isinstance(max_age, int | float) or not 0 < max_age <= 86_400:
        raise SettingError("max_age", max_age, "give seconds, more than 0, at most a day")
    if len(body) > BODY_MAX:
        raise CallbackError("too_large", f"its body is longer than {BODY_MAX} bytes")
    named = {name.lower(): value for name, value in headers.items()}
    date = _signed(method, url, named, secret)
    _young(date, now, max_age)
    return _told(body)


def _signed(method: str, url: str, headers: Mapping[str, str], secret: str) -> str:
    """Check the signature, and give the date it was made."""
    given, date = headers.get("x-hmac-signature", ""), headers.get("date", "")
    names = [name.strip() for name in headers.get("x-hmac-signed-headers", "").split(";") if name.strip()]
    if not given:
        raise CallbackError("forged", "it carries no X-HMAC-SIGNATURE")
    if headers.get("x-hmac-algorithm", _ALGORITHM).strip().lower() != _ALGORITHM:
        raise CallbackError("forged", f"it is signed with something else than {_ALGORITHM}")
    if not date or len(names) > _SIGNED_MAX or any(name.lower() not in headers for name in names):
        raise CallbackError("forged", "a header that its signature is about is missing")
    path, query = _target(url)
    lines = [method.upper(), path, query, _ACCESS_KEY, date, *(f"{name}:{headers[name.lower()]}" for name in names)]
    if any("\n" in line or "\r" in line for line in lines):
        raise CallbackError("malformed", "there is a line break in its address or headers")
    text = "".join(f"{line}\n" for line in lines)
    right = base64.b64encode(hmac.new(secret.encode(), text.encode("utf-8", "replace"), hashlib.sha256).digest())
    if not hmac.compare_digest(right, given.strip().encode("utf-8", "replace")):
        raise CallbackError("forged", "its signature is not that of the key")
    return date


def _target(url: str) -> tuple[str, str]:
    """Split an address, or a path with its query, as they came: nothing is decoded."""
    if not url.startswith("/"):
        try:
            parts = urlsplit(url)
        except ValueError:
            raise CallbackError("malformed", "its address cannot be read") from None
        return parts.path or "/", parts.query
    path, _, query = url.partition("#")[0].partition("?")
    return path, query


def _young(date: str, now: float, max_age: float) -> None:
    try:
        made = parsedate_to_datetime(date)
        age = now - made.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        raise CallbackError("malformed", "its Date cannot be read") from None
    if made.tzinfo is None:
        raise CallbackError("malformed", "its Date has no time zone")
    if age > max_age:
        raise CallbackError("stale", f"it was signed {age:.0f} s ago, and {max_age:.0f} s are allowed")
    if age < -min(_AHEAD, max_age):
        raise CallbackError("stale", f"its Date lies {-age:.0f} s ahead of this machine's clock")


def _told(body: bytes) -> Sequence[TaskSeen]:
    document = decode(body)
    if not isinstance(document, dict):
        raise CallbackError("malformed", "its body is not a JSON object, or one that names a field twice")
    task_id = next((found for name in ("id", "task_id") if (found := identifier(document.get(name)))), None)
    if task_id is None:
        raise CallbackError("malformed", "its body names no task")
    if not isinstance(document.get("state"), str):
        raise CallbackError("malformed", "its body tells no state")
    return observe(Route(RouteKind.POLL, "callback", task_id), Answer(200, {}, document))
