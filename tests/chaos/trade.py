"""The two providers as their users see them: how a call is made, and how its answer and its task are read."""

from __future__ import annotations

import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import httpx

from budgetguard.model import Outcome, Route, RouteKind, TaskState
from budgetguard.ports import Answer, Provider
from budgetguard.providers import UdioPro, Vidu
from budgetguard.testing import FakeUdio, FakeVidu
from budgetguard.testing.clock import SystemClock

__all__ = ["Fake", "MachineClock", "Trade", "trade"]

Fake = FakeVidu | FakeUdio
_TASK_SECONDS = (0.1, 0.5)
_LATENCY = 0.01
"""Seconds a request is on its way, on average."""


class MachineClock(SystemClock):
    """The clock all processes of a machine share, as it is: what they say can be put in order."""

    def monotonic(self) -> float:
        return time.monotonic()


class Trade(ABC):
    """One provider.

    Args:
        limit: Most tasks at once, for a provider that does not say.
    """

    name: str
    credits_path: str

    def __init__(self, limit: int) -> None:
        self.limit = limit

    @abstractmethod
    def adapter(self, url: str) -> Provider:
        """Make the adapter."""

    @abstractmethod
    def headers(self, key: str) -> dict[str, str]:
        """Make the headers with the key."""

    @abstractmethod
    def job(self, name: str) -> tuple[str, dict[str, Any]]:
        """Make the path and the body of a call that can be told by its name."""

    @abstractmethod
    def poll(self, task_id: str) -> str:
        """Make the address a task is asked about at."""

    @abstractmethod
    def name_of(self, body: Mapping[str, Any]) -> str:
        """Read the name of a call from its body."""

    @abstractmethod
    def fake(self, credits: int, **settings: Any) -> Fake:
        """Make the provider itself."""

    @property
    def price(self) -> int:
        """What one call costs."""
        _, body = self.job("")
        path = "text2video" if self.name == "vidu" else "generate"
        return self.adapter("http://127.0.0.1:1").quote(Route(RouteKind.SUBMIT, path), body).credits

    def verdict(self, adapter: Provider, path: str, answer: httpx.Response) -> tuple[Outcome, str | None, int | None]:
        """Read an answer to a submit: what became of it, its task and its charge."""
        route = adapter.match("POST", path, {})
        assert route is not None
        verdict = adapter.verdict(route, _plain(answer))
        return verdict.outcome, verdict.task_id, verdict.charge

    def state(self, adapter: Provider, task_id: str, answer: httpx.Response) -> TaskState:
        """Read an answer to a question about a task."""
        url = httpx.URL(f"http://127.0.0.1{self.poll(task_id)}")
        route = adapter.match("GET", url.path, dict(url.params))
        assert route is not None
        seen = adapter.observe(route, _plain(answer))
        return seen[0].state if seen else TaskState.RUNNING


class ViduTrade(Trade):
    name = "vidu"
    credits_path = "/ent/v2/credits"

    def adapter(self, url: str) -> Provider:
        return Vidu(base_url=url)

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Token {key}"}

    def job(self, name: str) -> tuple[str, dict[str, Any]]:
        body = {"model": "viduq2", "prompt": "a fox", "duration": 4, "resolution": "540p", "payload": name}
        return "/ent/v2/text2video", body

    def poll(self, task_id: str) -> str:
        return f"/ent/v2/tasks/{task_id}/creations"

    def name_of(self, body: Mapping[str, Any]) -> str:
        return str(body.get("payload", ""))

    def fake(self, credits: int, **settings: Any) -> Fake:
        return FakeVidu(credits, self.limit, clock=MachineClock(), duration=_TASK_SECONDS, latency=_LATENCY, **settings)


class UdioTrade(Trade):
    name = "udio"
    credits_path = "/api/v2/credits"

    def adapter(self, url: str) -> Provider:
        return UdioPro(base_url=url, concurrency=self.limit)

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def job(self, name: str) -> tuple[str, dict[str, Any]]:
        return "/api/v2/generate", {"gpt_description_prompt": name, "model": "chirp-v3-5"}

    def poll(self, task_id: str) -> str:
        return f"/api/v2/feed?workId={task_id}"

    def name_of(self, body: Mapping[str, Any]) -> str:
        return str(body.get("gpt_description_prompt", ""))

    def fake(self, credits: int, **settings: Any) -> Fake:
        return FakeUdio(credits, self.limit, clock=MachineClock(), duration=_TASK_SECONDS, latency=_LATENCY, **settings)


def trade(name: str, limit: int) -> Trade:
    """Find a provider by its name."""
    return {"vidu": ViduTrade, "udio": UdioTrade}[name](limit)


def _plain(answer: httpx.Response) -> Answer:
    body: Any = None
    with contextlib.suppress(ValueError):
        body = json.loads(answer.content)
    return Answer(answer.status_code, dict(answer.headers), body, answer.text[:200])
