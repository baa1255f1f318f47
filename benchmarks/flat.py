"""An adapter in the fewest words: one price for every call, and a call succeeded if its status says so.

It speaks of the same addresses as Vidu's, so that both can be measured with the same requests and answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from budgetguard.errors import UnknownPrice
from budgetguard.model import Capacity, Outcome, Quote, Reading, Route, RouteKind, TaskSeen, Verdict
from budgetguard.ports import Answer, ProviderRequest

__all__ = ["CREDITS", "ORIGIN", "SUBMIT", "Flat"]

ORIGIN = "https://api.vidu.com"
SUBMIT = "/ent/v2/text2video"
CREDITS = "/ent/v2/credits"

_ROUTES = {
    ("POST", SUBMIT): Route(RouteKind.SUBMIT, "text2video", quote=Quote(35, source="text2video")),
    ("GET", CREDITS): Route(RouteKind.CREDITS, "credits"),
}
_ACCEPTED = Verdict(Outcome.ACCEPTED)
_REFUSED = {402: Verdict(Outcome.INSUFFICIENT), 429: Verdict(Outcome.CONCURRENCY)}


class Flat:
    """Prices by route, reads the verdict from the status. Calls are done when their answer is."""

    name = "flat"
    unit = "credits"
    origins = (ORIGIN,)
    charged_at = "submit"
    settlement_lag = 0.0
    reports_slots = True
    key_header = "authorization"
    task_lease = 600.0

    def match(self, method: str, path: str, query: Mapping[str, str]) -> Route | None:
        return _ROUTES.get((method, path))

    def quote(self, route: Route, body: Any) -> Quote:
        raise UnknownPrice(what=route.path, why="its route tells the price of every endpoint")

    def verdict(self, route: Route, answer: Answer) -> Verdict:
        if answer.status == 200:
            return _ACCEPTED
        return _REFUSED.get(answer.status) or Verdict(Outcome.REJECTED if answer.status < 500 else Outcome.UNKNOWN)

    def observe(self, route: Route, answer: Answer) -> Sequence[TaskSeen]:
        return ()

    def missing(self, route: Route, answer: Answer) -> bool:
        return False

    def credits_request(self, *, detail: bool = False) -> ProviderRequest:
        return ProviderRequest(ORIGIN + CREDITS)

    def task_request(self, task_id: str, *, path: str = "") -> ProviderRequest | None:
        return None

    def reading(self, answer: Answer) -> Reading:
        (row,) = answer.body["remains"]
        return Reading(row["credit_remain"], {"": Capacity(row["concurrency_limit"], row["current_concurrency"])})

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        return headers.get("authorization")

    def authorize(self, key: str) -> Mapping[str, str]:
        return {"Authorization": key}
