"""Hundreds of jobs from dozens of callers, over real HTTP, against a provider that refuses whatever comes too early."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from budgetguard.guard import AsyncGuard, Guard
from budgetguard.testing import FakeVidu
from tests.support.scene import until
from tests.support.vidu import BODY, HEADERS, PRICE, SUBMIT, made_up, poll, quick, vidu
from tests.support.ways import Way

JOBS = 500
CALLERS = 50
LIMIT = 12
NAP = 0.025


@pytest.fixture
def fake() -> Iterator[FakeVidu]:
    fake = made_up(credits=JOBS * PRICE, limit=LIMIT, duration=(0.02, 0.06))
    with fake.serve():
        yield fake


def assert_all_went_well(fake: FakeVidu, held: int) -> None:
    journal = fake.journal
    assert journal.accepted == JOBS
    assert journal.submits == JOBS
    assert journal.breaches == 0
    assert journal.credits_in_flight_max == 1
    assert journal.running_max <= LIMIT
    assert fake.credits == 0
    assert held >= 0


def test_fifty_threads_get_all_jobs_done_without_a_refusal(fake: FakeVidu) -> None:
    guard = Guard(vidu(fake.url), policy=quick(max_age=0.2, min_interval=0.02, recheck_after=0.02))
    jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(JOBS):
        jobs.put(number)
    failures: list[BaseException] = []
    nap = threading.Event()

    def work(client: httpx.Client) -> None:
        try:
            while True:
                jobs.get_nowait()
                task = client.post(SUBMIT, json=BODY).json()["task_id"]
                while client.get(poll(task)).json()["state"] != "success":
                    nap.wait(NAP)
        except queue.Empty:
            return
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    inner = Way("blocking").inner(limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))
    with httpx.Client(base_url=fake.url, headers=HEADERS, timeout=30, transport=guard.transport(inner)) as client:
        threads = [threading.Thread(target=work, args=(client,), daemon=True) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert failures == []
    assert_all_went_well(fake, guard.state().credits_held)
    state = guard.state().pools[""]
    assert (state.open, state.running, state.waiting) == (0, 0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_fifty_tasks_get_all_jobs_done_without_a_refusal(fake: FakeVidu, anyio_backend: Any) -> None:
    guard = AsyncGuard(vidu(fake.url), policy=quick(max_age=0.2, min_interval=0.02, recheck_after=0.02))
    jobs = itertools.count()

    async def work(client: httpx.AsyncClient) -> None:
        while next(jobs) < JOBS:
            task = (await client.post(SUBMIT, json=BODY)).json()["task_id"]
            while (await client.get(poll(task))).json()["state"] != "success":  # noqa: ASYNC110 - that is how one hears of it
                await anyio.sleep(NAP)

    inner = Way("asyncio").inner(limits=httpx.Limits(max_connections=None, max_keepalive_connections=None))
    client = httpx.AsyncClient(base_url=fake.url, headers=HEADERS, timeout=30, transport=guard.transport(inner))
    async with client, anyio.create_task_group() as group:
        for _ in range(CALLERS):
            group.start_soon(work, client)
    state = await guard.state()
    assert_all_went_well(fake, state.credits_held)
    assert (state.pools[""].open, state.pools[""].running, state.pools[""].waiting) == (0, 0, 0)


@pytest.mark.anyio
async def test_a_batch_that_cannot_be_paid_to_its_end_is_refused_from_there_on_and_never_by_the_provider(
    way: Way,
) -> None:
    fake = made_up(credits=25 * PRICE, limit=6, duration=0.005)
    refused: list[str] = []
    done: list[str] = []
    with fake.serve() as url:
        guard = way.guard(vidu(url), policy=quick())
        async with way.client(guard, base_url=url, headers=HEADERS, on_refusal="respond", timeout=30) as client:

            async def job() -> None:
                response = await client.post(SUBMIT, json=BODY)
                if response.status_code == 402:
                    refused.append(response.json()["title"])
                    return
                task = response.json()["task_id"]
                while (await client.get(poll(task))).json()["state"] != "success":  # noqa: ASYNC110 - that is how one hears of it
                    await anyio.sleep(0.003)
                done.append(task)

            async with anyio.create_task_group() as group:
                for _ in range(40):
                    group.start_soon(job)
            await until(lambda: len(done) + len(refused) == 40)
    assert (len(done), len(refused), set(refused)) == (25, 15, {"InsufficientCredits"})
    assert fake.journal.breaches == 0
    assert fake.journal.credits_in_flight_max == 1
