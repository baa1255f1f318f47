"""A limit that changes in mid-run, with strangers who come and go, over real HTTP."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from budgetguard.events import Refreshed
from budgetguard.guard import AsyncGuard, Guard
from budgetguard.policy import Policy
from budgetguard.testing import Entry, Fact, FakeVidu
from tests.support.vidu import BODY, HEADERS, KEY, PRICE, SUBMIT, made_up, poll, quick, vidu
from tests.support.ways import Way

JOBS = 115
NAP = 0.01
ENDS = {Fact.SUCCEEDED, Fact.FAILED, Fact.CANCELLED, Fact.EXPIRED}


class Story:
    """The limit goes from 10 to 4 to 12, and a stranger takes two slots, twice; what was said when."""

    def __init__(self) -> None:
        self.fake: FakeVidu = made_up(credits=JOBS * PRICE, limit=10, duration=self._seconds)
        self.events: list[Any] = []
        self.lock = threading.Lock()
        self.jobs: list[tuple[float, int]] = [(0.0, 0)]
        self.marks: dict[str, float] = {}
        self.surprises: list[float] = []
        """When something took a slot away, of which nobody can know before the next reading."""

    def _seconds(self, path: str, body: Any) -> float:
        return 0.1 if int(body["payload"]) < 70 else 0.5

    def policy(self) -> Policy:
        return quick(max_age=0.2, min_interval=0.1, recheck_after=0.1)

    def count(self, change: int) -> None:
        """Note that a job begins or is over."""
        with self.lock:
            self.jobs.append((self.fake.clock.monotonic(), self.jobs[-1][1] + change))

    def observe(self, event: Any) -> None:
        if isinstance(event, Refreshed):
            self.events.append((self.fake.clock.monotonic(), event.reading.pools[""].limit))

    def at(self, done: int) -> None:
        """Do what happens after so many jobs."""
        fake, now = self.fake, self.fake.clock.monotonic()
        if done == 30:
            self.marks["lowered"] = now
            self.surprises.append(now)
            fake.set_limit(4)
        elif done == 45:
            # Two slots come with him, so that what is ours hardly shrinks between two readings.
            self.surprises.append(now)
            fake.set_limit(6)
            fake.stranger_takes(slots=2)
        elif done == 55:
            fake.set_limit(4)
            fake.strangers_leave()
        elif done == 70:
            self.marks["raised"] = now
            fake.set_limit(12)
        elif done == 95:
            self.surprises.append(now)
            fake.set_limit(14)
            fake.stranger_takes(slots=2)
        elif done == 110:
            fake.strangers_leave()

    def told(self) -> None:
        """Nobody was refused who could have known; at the new limit as soon as a reading told it."""
        journal = self.fake.journal
        assert journal.accepted == JOBS
        assert (journal.refused_credits, journal.without_slot, self.fake.credits) == (0, 0, 0)
        for entry in journal.entries:
            assert entry.fact is not Fact.REFUSED_SLOTS or any(
                begin <= entry.at <= end for begin, end in self._windows()
            )
        lowered, raised = self.marks["lowered"], self.marks["raised"]
        found = next(at for at, limit in self.events if at > raised and limit == 12)
        assert len([at for at, _ in self.events if raised < at <= found]) <= 2  # one may have been on its way
        # At once, but for what ended unseen meanwhile: that takes another reading or two on a slow machine.
        assert max(count for at, count in self.jobs if at > found - 0.1) >= 12
        running = list(self._running(journal.entries))
        assert max(count for at, count in running if at <= lowered) <= 10
        # Those that ran at the change run to their end; from then on there are never more than 4.
        settled = next(at for at, count in running if at > lowered and count <= 4)
        assert max(count for at, count in running if settled <= at < raised) == 4
        assert max(count for at, count in running if at > raised) <= 12

    def _windows(self) -> Iterator[tuple[float, float]]:
        """From each surprise until a reading that was asked for after it, and what was sent before that came."""
        for surprise in self.surprises:
            readings = [at for at, _ in self.events if at > surprise]
            yield surprise, readings[1] + 0.05

    def _running(self, entries: tuple[Entry, ...] | list[Entry]) -> Iterator[tuple[float, int]]:
        count = 0
        for entry in entries:
            count += 1 if entry.fact is Fact.ACCEPTED else -1 if entry.fact in ENDS else 0
            yield entry.at, count


@pytest.fixture
def story() -> Iterator[Story]:
    story = Story()
    with story.fake.serve():
        yield story


def test_a_pool_of_threads_follows_the_limit(story: Story) -> None:
    url = story.fake.url
    guard = Guard(
        vidu(url), policy=story.policy(), observers=[story.observe], api_key=KEY, inner=Way("blocking").inner()
    )
    inner = Way("blocking").inner(limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))
    with httpx.Client(base_url=url, headers=HEADERS, timeout=30, transport=guard.transport(inner)) as client:

        def job(number: int) -> int:
            story.count(1)
            body = {**BODY, "payload": str(number)}
            task = client.post(SUBMIT, json=body).raise_for_status().json()["task_id"]
            while client.get(poll(task)).json()["state"] != "success":
                time.sleep(NAP)  # as a user would
            story.count(-1)
            return number

        done = itertools.count(1)
        with guard.pool() as pool:
            for _ in pool.imap_unordered(job, range(JOBS)):
                story.at(next(done))
        assert pool.report.done == JOBS
    story.told()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("budgetguard-pool")]
    state = guard.state().pools[""]
    assert (state.open, state.running, state.waiting) == (0, 0, 0)
    guard.close()


@pytest.mark.anyio
async def test_a_pool_of_tasks_follows_the_limit(story: Story, anyio_backend: str) -> None:
    url = story.fake.url
    way = Way(anyio_backend)
    guard = AsyncGuard(vidu(url), policy=story.policy(), observers=[story.observe], api_key=KEY, inner=way.inner())
    inner = way.inner(limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))
    client = httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=30, transport=guard.transport(inner))

    async def job(number: int) -> int:
        story.count(1)
        body = {**BODY, "payload": str(number)}
        task = (await client.post(SUBMIT, json=body)).raise_for_status().json()["task_id"]
        while (await client.get(poll(task))).json()["state"] != "success":  # noqa: ASYNC110 - that is how one hears of it
            await anyio.sleep(NAP)
        story.count(-1)
        return number

    done = itertools.count(1)
    async with client, guard.pool() as pool:
        async for _ in pool.imap_unordered(job, range(JOBS)):
            story.at(next(done))
    assert pool.report.done == JOBS
    story.told()
    state = (await guard.state()).pools[""]
    assert (state.open, state.running, state.waiting) == (0, 0, 0)
    await guard.close()
