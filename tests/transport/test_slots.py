"""How long an accepted call holds its slot: until its end is seen, told, or found, or its lease is over."""

from __future__ import annotations

from typing import Any

import pytest

from budgetguard.errors import QueueTimeout, SettingError
from budgetguard.events import Expired, TaskEnded
from tests.support.scene import PATIENT, Scene, submit
from tests.support.vidu import CREDITS, KEY, poll, quick
from tests.support.ways import Way

pytestmark = pytest.mark.anyio
NOW: dict[str, Any] = {"extensions": {"budgetguard": {"deadline": 0}}}


async def test_the_end_of_a_task_can_be_told_once(way: Way) -> None:
    scene = Scene(way, limit=1)
    async with scene.client() as client:
        task = await submit(client)
        with pytest.raises(QueueTimeout):
            await submit(client, **NOW)
        scene.clock.advance(11)
        assert await way.finished(scene.guard, task)
        assert not await way.finished(scene.guard, task)
        assert not await way.finished(scene.guard, "somebody-elses")
        await submit(client, **NOW)
    assert len(scene.told(TaskEnded)) == 1
    assert scene.fake.journal.breaches == 0


async def test_the_end_of_a_task_can_be_told_with_its_key_its_state_and_its_charge(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        task = await submit(client)
        assert not await way.finished(scene.guard, task, key="another-key")
        assert await way.finished(scene.guard, task, key=KEY, state="failed", charge=0)
    (ended,) = scene.told(TaskEnded)
    assert ended.state == "failed"


@pytest.mark.parametrize("state", ["running", "done", ""])
async def test_only_an_end_can_be_told(state: str, way: Way) -> None:
    scene = Scene(way)
    with pytest.raises(SettingError, match="'succeeded', 'failed' or 'cancelled'"):
        await way.finished(scene.guard, "1", state=state)


async def test_a_reading_finds_the_slots_of_tasks_that_nobody_polled(way: Way) -> None:
    scene = Scene(way, limit=2, policy=quick(max_age=20.0))
    async with scene.client() as client:
        await submit(client)
        await submit(client)
        scene.clock.advance(15)
        with pytest.raises(QueueTimeout):
            await submit(client, **NOW)
        scene.clock.advance(10)
        # The reading is old now, so the next call looks before it decides.
        await submit(client, extensions={"budgetguard": {"deadline": 1}})
        assert scene.fake.journal.credits_requests == 2
        assert await scene.free() == 1
    assert scene.fake.journal.breaches == 0


async def test_a_task_still_running_at_a_reading_keeps_its_slot(way: Way) -> None:
    scene = Scene(way, limit=2, duration=100.0)
    async with scene.client() as client:
        task = await submit(client)
        for _ in range(3):
            scene.clock.advance(5)
            await client.get(CREDITS)
            assert await scene.free() == 1
        # Seen running in a poll sent after the reading, so its end gives the slot back at once.
        await client.get(poll(task))
        scene.clock.advance(100)
        await client.get(poll(task))
        assert await scene.free() == 2
    (ended,) = scene.told(TaskEnded)
    assert ended.freed


async def test_a_task_of_which_nothing_is_heard_is_believed_to_run_for_its_lease_only(way: Way) -> None:
    scene = Scene(way, limit=1, duration=10_000.0, policy=quick(**PATIENT, task_lease=60.0))
    async with scene.client() as client:
        await submit(client)
        scene.fake.inject("html_502", on="poll", times=None)
        scene.clock.advance(61)
        await client.get(CREDITS)
        # The provider is asked before it is given up, and so it is kept for another while when nothing could be learnt.
        assert (await scene.running(), scene.told(Expired)) == (1, [])
        scene.clock.advance(scene.guard.policy.lease + 1)
        await client.get(CREDITS)
        # The reading still shows it: it is the provider's word that counts, and the lease only ends our own count.
        assert (await scene.running(), await scene.free()) == (0, 0)
        (expired,) = scene.told(Expired)
        assert (expired.what, expired.slots) == ("task", 1)
        scene.clock.advance(10_000)
        await client.get(CREDITS)
        assert await scene.free() == 1


async def test_an_exclusive_account_needs_no_reading_for_its_slots(way: Way) -> None:
    scene = Scene(way, limit=2, policy=quick(**PATIENT, exclusive=True))
    async with scene.client() as client:
        for _ in range(6):
            tasks = [await submit(client), await submit(client)]
            scene.clock.advance(11)
            for task in tasks:
                await client.get(poll(task))
    assert scene.fake.journal.credits_requests == 1
    assert scene.fake.journal.breaches == 0
    assert scene.fake.journal.accepted == 12
