"""One request and its answer as plain values: what the fakes' handlers take and give, without any server."""

from __future__ import annotations

import enum
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

__all__ = ["Delivery", "Flow", "Reply", "Request", "Served", "json_reply"]


class Delivery(enum.StrEnum):
    """How an answer travels. Since 0.1."""

    WHOLE = "whole"
    CUT = "cut"
    """The body breaks off halfway and the connection closes."""
    DROPPED = "dropped"
    """The connection closes without a single byte of an answer."""
    RESET = "reset"
    """The same, but the connection is torn down (TCP RST) instead of closed."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a handler sees it. Since 0.1.

    Attributes:
        method: In capitals.
        path: The decoded path.
        query: Fields of the query in order, repeated ones too.
        headers: Headers with lower-case names.
        body: The bytes of the body.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The decoded body; ``None`` where it is not JSON. Since 0.1."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def field(self, *names: str) -> str | None:
        """The last value of the query's field of one of these names. Since 0.1."""
        values = self.fields(*names)
        return values[-1] if values else None

    def fields(self, *names: str) -> list[str]:
        """All values of the query's fields of these names. Since 0.1."""
        return [value for name, value in self.query if name in names]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as a handler gives it. Since 0.1.

    Attributes:
        status: The HTTP status.
        body: The bytes of the body.
        headers: Headers with lower-case names, without ``content-length``.
        delivery: How it travels.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: Delivery = Delivery.WHOLE


Flow: TypeAlias = Generator[float | Reply, None, None]
"""One exchange: yields real seconds to wait and, once, the reply to send; ends when resumed after that."""


class Served(Protocol):
    """What can be served: any fake. Since 0.1.

    Attributes:
        url: Where it listens; ``""`` while it does not.
    """

    url: str

    def flow(self, request: Request) -> Flow:
        """Go through one exchange. Since 0.1."""
        ...

    def close(self) -> None:
        """Let go of what runs in the background. Since 0.1."""
        ...


def json_reply(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Build a reply with a JSON body. Since 0.1."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, body, {"content-type": "application/json", **(headers or {})})
