"""The provider that schedules are measured with refuses what is too much, and its best schedule is computed right."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx
import pytest

from benchmarks.flat import Flat
from benchmarks.simulated import Simulated, TooMany, Wire, draw, list_schedule
from benchmarks.strategies import Strategy, guarded_pool, guarded_reserve, guarded_tasks, guarded_transport
from budgetguard.model import Capacity, Reading
from budgetguard.policy import Policy
from budgetguard.ports import Answer


@pytest.mark.parametrize(
    ("plan", "jobs", "seconds"),
    [
        ([(0, 1)], [1, 2, 3], 6),
        ([(0, 3)], [1, 2, 3], 3),
        ([(0, 2)], [3, 1, 1, 1], 3),
        ([(0, 2)], [1, 1, 3], 4),  # first come, first served: not the longest first
        ([(0, 2), (1, 1)], [1, 1, 1, 1], 3),
        ([(0, 1), (2, 3)], [2, 1, 1, 1], 3),
        ([(0, 3), (1, 1), (4, 3)], [2, 2, 2, 2, 2, 2], 6),  # what runs goes on when the limit falls
        ([(0, 5)], [], 0),
    ],
)
def test_jobs_begin_in_their_order_as_soon_as_the_limit_lets_them(
    plan: list[tuple[float, int]], jobs: list[float], seconds: float
) -> None:
    assert list_schedule(plan, jobs) == seconds


def test_jobs_are_drawn_the_same_each_time() -> None:
    assert draw(3, 1, 2) == draw(5, 1, 2)[:3]
    assert all(1 <= seconds <= 2 for seconds in draw(50, 1, 2))


async def test_the_provider_counts_strangers_and_refuses_what_is_too_much() -> None:
    provider = Simulated([(0, 3)], strangers=2, asking=0)
    task = await provider.start(60)
    assert task == "task-0"
    with pytest.raises(TooMany):
        await provider.call(0)
    assert (provider.running, provider.refused) == (1, 1)
    request = httpx.Request("GET", "https://api.vidu.com/ent/v2/credits")
    answer = await Wire(provider).handle_async_request(request)
    reading = Flat().reading(Answer(200, {}, answer.json()))
    assert reading == Reading(10**14, {"": Capacity(3, 3)})


@pytest.mark.parametrize("strategy", [guarded_pool, guarded_reserve, guarded_tasks, guarded_transport])
async def test_each_way_in_gets_a_batch_through_without_a_refusal(strategy: Callable[[Policy], Strategy]) -> None:
    provider = Simulated([(0, 2)], asking=0)
    with anyio.fail_after(20):
        await strategy(Policy(exclusive=True))(provider, [0.001] * 5)
    assert (provider.refused, provider.running, provider.readings) == (0, 0, 0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio
