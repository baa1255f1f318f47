"""What most tests with Vidu begin with: paths, bodies, prices, and settings that do not dawdle."""

from __future__ import annotations

from typing import Any

from budgetguard.policy import Policy
from budgetguard.providers.vidu import Vidu
from budgetguard.testing import FakeVidu

__all__ = [
    "BODY",
    "CREDITS",
    "HEADERS",
    "HOME",
    "KEY",
    "PRICE",
    "SUBMIT",
    "headers",
    "made_up",
    "poll",
    "quick",
    "vidu",
]

KEY = "vda_31415926535897932384"
HOME = "https://api.vidu.com"
SUBMIT = "/ent/v2/text2video"
CREDITS = "/ent/v2/credits"
PRICE = 10
BODY = {"model": "viduq2", "prompt": "a cat", "duration": 4}


def headers(key: str = KEY) -> dict[str, str]:
    return {"Authorization": f"Token {key}"}


HEADERS = headers()


def poll(task_id: str) -> str:
    return f"/ent/v2/tasks/{task_id}/creations"


def vidu(url: str = HOME, **settings: Any) -> Vidu:
    """Make an adapter in whose list a call costs `PRICE`."""
    return Vidu(base_url=url, prices={"text2video": PRICE}, **settings)


def made_up(credits: int = 500, limit: int | None = 5, **settings: Any) -> FakeVidu:
    """Make a provider that refuses what it has no room for, and whose calls cost `PRICE`."""
    usual: dict[str, Any] = {"mode": "reject", "charge": PRICE, "duration": 60.0}
    return FakeVidu(credits, limit, **{**usual, **settings})


def quick(**settings: Any) -> Policy:
    """Make settings under which nothing takes longer than a few milliseconds."""
    usual: dict[str, Any] = {
        "min_interval": 0.005,
        "recheck_after": 0.01,
        "backoff": 0.005,
        "backoff_max": 0.01,
        "credits_timeout": 2.0,
    }
    return Policy(**{**usual, **settings})
