"""Answers that go wrong on order, waiting in line for the requests they shall meet."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace

from budgetguard.model import RouteKind
from budgetguard.testing.exchange import Delivery, Reply

__all__ = ["TRANSPORT_KINDS", "Mishap", "Mishaps", "spoil"]

_PAGE_502 = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"
)
_PLAIN = {"content-type": "text/plain"}

TRANSPORT_KINDS: dict[str, bool] = {
    "drop_before_accept": False,
    "drop_after_accept": True,
    "reset_before_accept": False,
    "reset_after_accept": True,
    "html_502": False,
    "http_499": False,
    "http_500": False,
    "http_502": False,
    "http_503": False,
    "cut_body": True,
    "slow": True,
    "slow_before": True,
    "empty": True,
    "not_json": True,
    "wrong_shape": True,
    "redirect": False,
}
"""What can go wrong whatever the provider; the value says whether the request is handled all the same."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """One answer that shall go wrong. Since 0.1.

    Attributes:
        kind: One of `TRANSPORT_KINDS`, or one of the provider's own refusals.
        handled: Whether the request is handled first, so that a submit starts a task that nobody hears of.
        seconds: Real seconds the slow kinds take.
        retry_after: Seconds to name in a ``Retry-After`` header.
        location: Where ``redirect`` points.
    """

    kind: str
    handled: bool = False
    seconds: float = 1.0
    retry_after: float | None = None
    location: str = ""


class Mishaps:
    """The lines of mishaps, one for each kind of request. May be shared between threads. Since 0.1."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[RouteKind | None, deque[tuple[Mishap, int | None]]] = {}

    def add(self, mishap: Mishap, *, times: int | None, on: RouteKind | None) -> None:
        """Let *mishap* meet the next *times* requests of kind *on*; ``None`` is every one, and any kind. Since 0.1."""
        with self._lock:
            self._lines.setdefault(on, deque()).append((mishap, times))

    def clear(self) -> None:
        """Let everything go well again. Since 0.1."""
        with self._lock:
            self._lines.clear()

    def take(self, kind: RouteKind | None) -> Mishap | None:
        """Take what a request of that kind shall meet: its own line goes before the one for any kind. Since 0.1."""
        if not self._lines:
            return None
        with self._lock:
            for on in (kind, None):
                line = self._lines.get(on)
                if not line:
                    continue
                mishap, left = line[0]
                if left is not None:
                    if left > 1:
                        line[0] = (mishap, left - 1)
                    else:
                        line.popleft()
                return mishap
        return None


def spoil(mishap: Mishap, reply: Reply | None) -> Reply:
    """Turn a good reply (``None`` where the request was not handled) into what the mishap makes of it. Since 0.1."""
    good = reply or Reply(200, b"{}", {"content-type": "application/json"})
    match mishap.kind:
        case "drop_before_accept" | "drop_after_accept":
            return replace(good, delivery=Delivery.DROPPED)
        case "reset_before_accept" | "reset_after_accept":
            return replace(good, delivery=Delivery.RESET)
        case "cut_body":
            return replace(good, delivery=Delivery.CUT)
        case "html_502":
            return Reply(502, _PAGE_502, {"content-type": "text/html"})
        case "http_499" | "http_500" | "http_502" | "http_503":
            return Reply(int(mishap.kind.removeprefix("http_")), b"no answer from upstream\n", _PLAIN)
        case "empty":
            return replace(good, body=b"")
        case "not_json":
            return replace(good, body=b"<!doctype html><title>not what you asked for</title>")
        case "wrong_shape":
            return replace(good, body=b'{"surprise":[null,{"credit_remain":"plenty"}]}')
        case "redirect":
            return Reply(302, b"", {"location": mishap.location})
        case _:
            return good
