"""A webhook may come before the answer that names its task."""

from __future__ import annotations

import httpx

from budgetguard import Guard
from budgetguard.providers import Vidu
from budgetguard.testing import FakeVidu

JOB = {"model": "viduq2", "prompt": "a kite", "duration": 5, "resolution": "720p"}


class Hasty(httpx.BaseTransport):
    """Delivers the webhook before the answer."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner
        self.guard: Guard | None = None
        self.known: list[bool] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        if request.method == "POST" and self.guard is not None:
            response.read()
            self.known.append(self.guard.finished(response.json()["task_id"]))
        return response


def test_a_task_whose_end_was_told_before_its_answer_came_holds_no_slot() -> None:
    inner = Hasty(FakeVidu(credits=500, limit=2).transport())
    guard = inner.guard = Guard(Vidu())
    with httpx.Client(
        base_url="https://api.vidu.com", headers={"Authorization": "Token any"}, transport=guard.transport(inner)
    ) as client:
        task = client.post("/ent/v2/text2video", json=JOB).json()["task_id"]
    assert inner.known == [False]
    assert guard.state().pools[""].running == 0
    assert guard.state().pools[""].free == 2
    assert guard.finished(task) is False
