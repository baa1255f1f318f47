"""Callbacks as Vidu signs them, for tests that spoil them."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

from budgetguard.testing.callbacks import sign
from tests.support.vidu import KEY

__all__ = ["NOW", "URL", "Post"]

NOW = 1_700_000_000.0
URL = "https://shop.example/hooks/vidu?batch=7"


class Post:
    """One callback. Whatever is not given is right."""

    def __init__(
        self,
        task: str = "900",
        state: str = "success",
        *,
        key: str = KEY,
        url: str = URL,
        at: float = NOW,
        nonce: str = "0001",
        method: str = "POST",
        **fields: Any,
    ) -> None:
        self.method = method
        self.url = url
        document = {"id": task, "state": state, "err_code": "", "credits": 35, "payload": "", "creations": []}
        self.body = json.dumps({**document, **fields}).encode()
        date = formatdate(at, usegmt=True)
        self.headers = {
            "Content-Type": "application/json",
            "Date": date,
            "x-request-nonce": nonce,
            "X-HMAC-SIGNED-HEADERS": "Date;x-request-nonce",
            "X-HMAC-SIGNATURE": sign(key, url, date=date, nonce=nonce, method=method),
            "X-HMAC-ALGORITHM": "hmac-sha256",
            "X-HMAC-ACCESS-KEY": "vidu",
        }

    @property
    def target(self) -> str:
        """The path and the query, as they stand in a request."""
        return "/" + self.url.split("/", 3)[3]
