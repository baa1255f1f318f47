"""A guard on a made-up provider, and jobs that run until they are told to end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import anyio

from budgetguard.guard import AsyncGuard, Guard
from budgetguard.model import State
from budgetguard.stores.memory import MemoryStore
from budgetguard.testing import FakeVidu, ManualClock
from tests.support.scene import PATIENT
from tests.support.vidu import KEY, made_up, quick, vidu

__all__ = ["PATIENCE", "Ground", "assert_nothing_is_held", "in_line", "pool_threads", "wait_until"]

PATIENCE = 10.0


class Ground:
    """Guards and a provider that live by one clock moved by hand; and a job function whose runs are ended by hand."""

    def __init__(self, *, credits: int = 1000, limit: int = 3, policy: Any = None, **settings: Any) -> None:
        self.clock = ManualClock(1000.0)
        self.fake: FakeVidu = made_up(credits=credits, limit=limit, clock=self.clock, **settings)
        self.store = MemoryStore(clock=self.clock)
        self.policy = quick(**PATIENT) if policy is None else policy
        self.events: list[Any] = []
        self.taken: list[int] = []
        self.begun: list[int] = []
        self.ended: set[int] = set()
        self.running = 0
        self.running_max = 0
        self.open = False
        self.changed = threading.Condition()

    def _given(self) -> dict[str, Any]:
        inner: Any = self.fake.transport()
        return {
            "store": self.store,
            "policy": self.policy,
            "observers": [self.events.append],
            "api_key": KEY,
            "inner": inner,
        }

    def guard(self) -> Guard:
        return Guard(vidu(), **self._given())

    def async_guard(self) -> AsyncGuard:
        return AsyncGuard(vidu(), **self._given())

    def items(self, count: int) -> Iterator[int]:
        """Count, and note what was taken."""
        for number in range(count):
            self.taken.append(number)
            yield number

    def _begin(self, number: int) -> None:
        self.begun.append(number)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        self.changed.notify_all()

    def _over(self, number: int) -> bool:
        return self.open or number in self.ended

    def job(self, number: int) -> int:
        """Run until told to end."""
        with self.changed:
            self._begin(number)
            try:
                assert self.changed.wait_for(lambda: self._over(number), PATIENCE), f"job {number} was never ended"
            finally:
                self.running -= 1
        return number * 10

    async def ajob(self, number: int) -> int:
        """Run until told to end."""
        with self.changed:
            self._begin(number)
        try:
            with anyio.fail_after(PATIENCE):
                while not self._over(number):  # noqa: ASYNC110 - it may be told from any thread
                    await anyio.sleep(0.001)
        finally:
            self.running -= 1
        return number * 10

    def end(self, *numbers: int) -> None:
        """Let these jobs end; without numbers all of them, and all that follow."""
        with self.changed:
            self.ended.update(numbers)
            self.open = self.open or not numbers
            self.changed.notify_all()

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def wait_until(ground: Ground, happened: Any) -> None:
    """Wait until something has happened that no thread says; fail after some seconds."""
    with ground.changed:
        for _ in range(int(PATIENCE / 0.001)):
            if happened():
                return
            ground.changed.wait(0.001)
    raise AssertionError("it did not happen")


def in_line(state: State) -> int:
    """How many wait for a slot."""
    return state.pools[""].waiting if "" in state.pools else 0


def assert_nothing_is_held(state: State, *, limit: int = 3, spent: int | None = None) -> None:
    """Nothing is open, runs or waits; only what was spent is gone."""
    pool = state.pools[""]
    assert (pool.open, pool.running, pool.waiting, pool.free) == (0, 0, 0, limit)
    if spent is not None:
        assert state.credits_free == 1000 - spent


def pool_threads() -> list[str]:
    """Name the threads of pools that are there."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("budgetguard-pool")]
