"""Adapters as a user would write them for providers the package does not know: each is a table and a few readings.

What they say of Runway's and Luma's answers follows the types of the vendors' own SDKs; the prices are made up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from budgetguard.errors import ReadingError, UnknownPrice
from budgetguard.model import Capacity, Outcome, Quote, Reading, Route, RouteKind, TaskSeen, TaskState, Verdict
from budgetguard.ports import Answer, ProviderRequest

__all__ = ["Luma", "Pictures", "Runway"]

_BEARER = re.compile(r"bearer\s+(\S+)", re.IGNORECASE)


class _Table:
    """What the three have in common: a key in ``Authorization``, a price by endpoint and model, plain statuses."""

    name = ""
    unit = "credits"
    charged_at = "submit"
    settlement_lag = 0.0
    reports_slots = False
    task_lease = 600.0
    root = "/"
    credits_path = ""
    tasks_path = ""
    prices: Mapping[tuple[str, str], int] = {}
    states: Mapping[str, TaskState] = {}
    state_field = ""

    def __init__(self, base_url: str, concurrency: int) -> None:
        self.origins = (base_url,)
        self.concurrency = concurrency

    def match(self, method: str, path: str, query: Mapping[str, str]) -> Route | None:
        if not path.startswith(self.root):
            return None
        rest = path[len(self.root) :].strip("/")
        if method == "GET" and rest == self.credits_path:
            return Route(RouteKind.CREDITS, rest)
        if method == "POST":
            return Route(RouteKind.SUBMIT, rest)
        task = self.task_of(rest)
        return Route(RouteKind.POLL, "task", task) if method == "GET" and task else None

    def task_of(self, path: str) -> str | None:
        kind, _, task = path.partition("/")
        return task if self.tasks_path and kind == self.tasks_path else None

    def quote(self, route: Route, body: Any) -> Quote:
        model = body.get("model", "") if isinstance(body, dict) else ""
        if (route.path, model) not in self.prices:
            raise UnknownPrice(what=f"{self.name} {route.path} {model}", why="the table has no row for it")
        many = body.get("n", 1)
        return Quote(self.prices[route.path, model] * many, source=f"{route.path} {model}")

    def verdict(self, route: Route, answer: Answer) -> Verdict:
        if 200 <= answer.status < 300:
            return Verdict(Outcome.ACCEPTED, task_id=answer.body.get("id"))
        outcomes = {402: Outcome.INSUFFICIENT, 429: Outcome.CONCURRENCY}
        refused = 400 <= answer.status < 500 and answer.status != 408
        return Verdict(outcomes.get(answer.status, Outcome.REJECTED if refused else Outcome.UNKNOWN))

    def observe(self, route: Route, answer: Answer) -> Sequence[TaskSeen]:
        state = self.states.get(str(answer.body.get(self.state_field))) if isinstance(answer.body, dict) else None
        return () if state is None or route.task_id is None else [TaskSeen(route.task_id, state)]

    def missing(self, route: Route, answer: Answer) -> bool:
        return answer.status == 404

    def task_request(self, task_id: str, *, path: str = "") -> ProviderRequest | None:
        if not self.tasks_path:
            return None
        return ProviderRequest(f"{self.origins[0]}{self.root}{self.tasks_path}/{quote(task_id, safe='')}")

    def credits_request(self, *, detail: bool = False) -> ProviderRequest:
        return ProviderRequest(f"{self.origins[0]}{self.root}{self.credits_path}")

    def reading(self, answer: Answer) -> Reading:
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise ReadingError(f"the provider answered with HTTP {answer.status}")
        return Reading(self.balance(answer.body), {"": Capacity(self.concurrency)})

    def balance(self, document: Mapping[str, Any]) -> int:
        raise NotImplementedError

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        match = _BEARER.fullmatch(headers.get("authorization", ""))
        return match[1] if match else None

    def authorize(self, key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {key}"}


def _number(document: Mapping[str, Any], field: str) -> int:
    value = document.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ReadingError("is no amount", field=field)
    return int(value)


class Runway(_Table):
    """Runway's developer API: tasks, credits, and a limit for each model."""

    name = "runway"
    root = "/v1/"
    credits_path = "organization"
    tasks_path = "tasks"
    prices: Mapping[tuple[str, str], int] = {("text_to_image", "gen4_image"): 8}
    state_field = "status"
    states: Mapping[str, TaskState] = {
        "PENDING": TaskState.RUNNING,
        "THROTTLED": TaskState.RUNNING,
        "RUNNING": TaskState.RUNNING,
        "SUCCEEDED": TaskState.SUCCEEDED,
        "FAILED": TaskState.FAILED,
        "CANCELLED": TaskState.CANCELLED,
    }

    def quote(self, route: Route, body: Any) -> Quote:
        quote = super().quote(route, body)
        return Quote(quote.credits, quote.slots, body["model"], source=quote.source)

    def reading(self, answer: Answer) -> Reading:
        balance = super().reading(answer).credits
        limits = answer.body["tier"]["models"]
        pools = {model: Capacity(limits[model].get("maxConcurrentGenerations")) for model in limits}
        return Reading(balance, pools)

    def balance(self, document: Mapping[str, Any]) -> int:
        return _number(document, "creditBalance")


class Luma(_Table):
    """Luma's Dream Machine: tasks, paid in US cents, and a limit that is not told."""

    name = "luma"
    unit = "US cents"
    root = "/dream-machine/v1/"
    credits_path = "credits"
    tasks_path = "generations"
    prices: Mapping[tuple[str, str], int] = {("generations/image", "photon-1"): 8}
    state_field = "state"
    states: Mapping[str, TaskState] = {
        "queued": TaskState.RUNNING,
        "dreaming": TaskState.RUNNING,
        "completed": TaskState.SUCCEEDED,
        "failed": TaskState.FAILED,
    }

    def balance(self, document: Mapping[str, Any]) -> int:
        return _number(document, "credit_balance")


class Pictures(_Table):
    """A prepaid service that speaks OpenAI's language of pictures: the answer is the picture, and no task runs on."""

    name = "pictures"
    root = "/v1/"
    credits_path = "balance"
    prices: Mapping[tuple[str, str], int] = {("images/generations", "dall-e-3"): 8}

    def verdict(self, route: Route, answer: Answer) -> Verdict:
        verdict = super().verdict(route, answer)
        return Verdict(verdict.outcome)

    def balance(self, document: Mapping[str, Any]) -> int:
        return _number(document, "balance")
