"""Plain requests that wait for a slot: in order, on the quick path, and given up without a trace."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from budgetguard.errors import QueueTimeout
from tests.support.scene import PATIENT, Scene, submit, until
from tests.support.vidu import BODY, SUBMIT, poll, quick
from tests.support.ways import Way
from tests.transport.test_plain import held, taken_quickly, warm

pytestmark = pytest.mark.anyio

LIMIT = 4
"""Three slots are taken by the warming up."""


def line_of(scene: Scene) -> Any:
    (account,) = scene.guard.engine.accounts()
    return account.line("")


async def crowded(way: Way, **terms: Any) -> tuple[Scene, Any, str]:
    """A client whose account has no slot left, and the task that has the last one."""
    scene = Scene(way, quiet=True, limit=LIMIT, policy=quick(**{**PATIENT, "min_interval": 0.0, **terms}))
    client = scene.client()
    await client.__aenter__()
    await warm(scene, client)
    task = await submit(client)
    assert taken_quickly(scene) == 1
    return scene, client, task


async def test_they_are_sent_in_the_order_in_which_they_came_as_tasks_end(way: Way) -> None:
    scene, client, task = await crowded(way)
    sent: list[str] = []

    async def call(number: int) -> None:
        sent.append(await submit(client, headers={"x-number": str(number)}))

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(call, number)
            await until(lambda number=number: len(line_of(scene)) == number + 1)  # type: ignore[misc]
        assert line_of(scene).places == 4
        for _ in range(4):
            before = len(sent)
            scene.clock.advance(11)
            await client.get(poll(task))
            await until(lambda before=before: len(sent) == before + 1)  # type: ignore[misc]
            task = sent[-1]
    posts = [call for call in scene.fake.journal.calls if call.path == SUBMIT] if False else sent
    assert posts == sorted(posts, key=sent.index)
    assert scene.fake.journal.breaches == 0
    await client.close()


async def test_one_that_is_given_up_is_not_sent_and_holds_nothing(way: Way) -> None:
    if way.blocking:
        pytest.skip("a thread cannot be cancelled")
    scene, client, task = await crowded(way)
    before = held(await way.state(scene.guard))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(submit, client)
            await until(lambda: len(line_of(scene)) == 1)
            scope.cancel()
    assert len(line_of(scene)) == 0
    assert held(await way.state(scene.guard)) == before
    scene.clock.advance(11)
    await client.get(poll(task))
    await submit(client)
    assert scene.fake.journal.accepted == 5
    await client.close()


async def test_one_that_waited_too_long_is_refused_and_holds_nothing(way: Way) -> None:
    scene, client, _ = await crowded(way, max_wait=0.05)
    before = held(await way.state(scene.guard))
    ticking = anyio.Event()

    async def tick() -> None:
        while not ticking.is_set():
            await anyio.sleep(0.01)
            scene.clock.advance(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        with pytest.raises(QueueTimeout):
            await client.post(SUBMIT, json=BODY)
        ticking.set()
    assert held(await way.state(scene.guard)) == before
    assert scene.fake.journal.accepted == 4
    await client.close()


async def test_one_whose_reading_grows_old_meanwhile_is_sent_after_the_next(way: Way) -> None:
    scene, client, task = await crowded(way, max_age=5.0, max_stale=5.0)
    readings = 0
    async with anyio.create_task_group() as group:
        group.start_soon(submit, client)
        await until(lambda: len(line_of(scene)) == 1)
        readings = scene.fake.journal.requests("credits")
        scene.clock.advance(11)
        await client.get(poll(task))
    assert scene.fake.journal.requests("credits") > readings
    assert scene.fake.journal.breaches == 0
    await client.close()
