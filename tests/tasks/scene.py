"""Fakes, a guard and a client that live by one clock moved by hand, for tests of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio.lowlevel

from budgetguard import Guard
from budgetguard.events import Event
from budgetguard.providers import UdioPro
from budgetguard.stores.memory import MemoryStore
from budgetguard.tasks import AsyncTasks, Tasks
from budgetguard.testing import FakeUdio, FakeVidu, ManualClock
from tests.support.scene import PATIENT
from tests.support.vidu import HEADERS, HOME, made_up, quick, vidu
from tests.support.ways import Way, in_thread

__all__ = ["SONG", "SongScene", "TaskScene", "did"]

SONG = {"gpt_description_prompt": "rain on a tin roof"}
_UDIO = "https://udioapi.pro"


async def did(way: Way, method: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Call a method of either guard, or of anything else that comes in both colours."""
    if way.blocking:
        return await in_thread(lambda: method(*given, **named))
    return await method(*given, **named)


class TaskScene:
    """A fake Vidu and a guard whose store and pauses use the same clock."""

    home = HOME
    headers = HEADERS

    def __init__(self, way: Way, *, policy: Any = None, **settings: Any) -> None:
        self.way = way
        self.clock = ManualClock(1000.0)
        self.fake = self.make_fake(**settings)
        self.events: list[Event] = []
        self.store = MemoryStore(self.clock)
        policy = quick(**PATIENT) if policy is None else policy
        key = self.headers["Authorization"].partition(" ")[2]
        given = {"store": self.store, "policy": policy, "observers": [self.events.append], "api_key": key}
        self.guard = way.guard(self.make_provider(), inner=self.fake.transport(), **given)
        self.naps: list[float] = []
        self.on_nap: Callable[[], None] = lambda: None
        self.client = way.client(self.guard, self.fake.transport(), base_url=self.home, headers=self.headers)

    def make_fake(self, **settings: Any) -> FakeVidu | FakeUdio:
        usual: dict[str, Any] = {"duration": 10.0}
        return made_up(clock=self.clock, **{**usual, **settings})

    def make_provider(self) -> Any:
        return vidu()

    @property
    def http(self) -> Any:
        """The httpx client itself."""
        return self.client.client  # type: ignore[attr-defined]

    def _nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.on_nap()
        self.clock.advance(seconds)

    async def _anap(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self._nap(seconds)

    @property
    def tasks(self) -> Any:
        if isinstance(self.guard, Guard):
            return Tasks(self.guard, clock=self.clock, sleep=self._nap, chance=lambda: 0.5)
        return AsyncTasks(self.guard, clock=self.clock, sleep=self._anap, chance=lambda: 0.5)

    async def run(self, request: Any, **given: Any) -> Any:
        return await did(self.way, self.tasks.run, self.http, request, **given)

    async def wait(self, task_id: str, **given: Any) -> Any:
        return await did(self.way, self.tasks.wait, self.http, task_id, **given)

    async def running(self) -> int:
        return (await self.way.state(self.guard)).pools[""].running

    async def free(self) -> int | None:
        return (await self.way.state(self.guard)).pools[""].free

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def close(self) -> None:
        await self.client.close()
        await did(self.way, self.guard.close)


class SongScene(TaskScene):
    """The same with a fake Udio."""

    home = _UDIO
    headers = {"Authorization": "Bearer udio_made_up_for_tests_0001"}  # noqa: RUF012 - nobody changes it

    def make_fake(self, **settings: Any) -> FakeUdio:
        usual: dict[str, Any] = {"credits": 500, "duration": 20.0, "charge": 10}
        return FakeUdio(clock=self.clock, **{**usual, **settings})

    def make_provider(self) -> Any:
        return UdioPro(base_url=self.home, concurrency=4)
