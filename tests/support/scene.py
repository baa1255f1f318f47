"""A fake provider and a guard in one place, with all the guard told, and a way to wait for something to happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from budgetguard.events import Event
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import FakeVidu, ManualClock
from tests.support.vidu import BODY, HEADERS, HOME, SUBMIT, made_up, quick, vidu
from tests.support.ways import Caller, Way

__all__ = ["PATIENT", "Scene", "submit", "until"]

PATIENT: dict[str, Any] = {"max_age": 600.0, "max_stale": 600.0, "stale_if_error": 600.0}
"""Settings under which a reading is good for as long as a test takes."""


async def until(happened: Callable[[], Any]) -> None:
    """Wait until something has happened; fail after some seconds."""
    with anyio.fail_after(5):
        while not happened():  # noqa: ASYNC110 - it may happen in any thread
            await anyio.sleep(0.001)


async def submit(client: Caller, **given: Any) -> str:
    """Have a call accepted; gives its task."""
    response = await client.post(SUBMIT, json=BODY, **given)
    assert response.status_code == 200, response.text
    return str(response.json()["task_id"])


class Scene:
    """A fake provider and a guard that live by one clock moved by hand."""

    def __init__(
        self, way: Way, *, policy: Any = None, duration: float = 10.0, quiet: bool = False, **settings: Any
    ) -> None:
        self.clock = ManualClock(1000.0)
        self.fake: FakeVidu = made_up(clock=self.clock, duration=duration, **settings)
        self.events: list[Event] = []
        self.store = MemoryStore(clock=self.clock)
        policy = quick(**PATIENT) if policy is None else policy
        # With nobody to listen, plain calls go the quick path.
        observers = [] if quiet else [self.events.append]
        self.guard = way.guard(vidu(), store=self.store, policy=policy, observers=observers)
        self.way = way

    def client(self, **given: Any) -> Caller:
        return self.way.client(self.guard, self.fake.transport(), base_url=HOME, headers=HEADERS, **given)

    async def running(self) -> int:
        return (await self.way.state(self.guard)).pools[""].running

    async def free(self) -> int | None:
        return (await self.way.state(self.guard)).pools[""].free

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
