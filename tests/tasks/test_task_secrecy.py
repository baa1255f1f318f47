"""The key is not in what run_task, wait_task and recover raise, nor in the frames they pass."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from budgetguard import NoResult, StoreError
from budgetguard.stores import MemoryStore
from tests.support.vidu import BODY, HOME, KEY, SUBMIT, poll
from tests.support.ways import Way
from tests.tasks.scene import TaskScene, did
from tests.transport.test_secrecy import Moody, answered, frames

pytestmark = pytest.mark.anyio

TASK = "900000000000000001"


async def raised_by(scene: TaskScene, *given: Any, **named: Any) -> BaseException:
    with pytest.raises((NoResult, httpx.HTTPError, StoreError)) as raised:
        await did(scene.way, *given, **named)
    return raised.value


def hides(error: BaseException) -> None:
    assert KEY not in str(error)
    assert KEY not in repr(error)
    assert list(frames(error)) == []


def moody(way: Way, **settings: Any) -> tuple[TaskScene, Moody]:
    scene = TaskScene(way, **settings)
    inner = Moody(scene.fake)
    scene.client = way.client(scene.guard, inner, base_url=HOME, headers=scene.headers)
    return scene, inner


@pytest.mark.parametrize("status", [400, 401, 500, 200])
async def test_an_answer_that_repeats_the_key_passes_none_of_it_on_but_as_the_document(way: Way, status: int) -> None:
    scene, inner = moody(way)
    inner.instead[SUBMIT] = answered(status)
    hides(await raised_by(scene, scene.tasks.run, scene.http, SUBMIT, json=BODY))
    await scene.close()


async def test_a_poll_that_repeats_the_key_does_neither(way: Way) -> None:
    scene, inner = moody(way)
    inner.instead[poll(TASK)] = answered(200, state="failed")
    hides(await raised_by(scene, scene.tasks.run, scene.http, SUBMIT, json=BODY))
    scene.fake.inject("html_502", on="poll", times=None)
    hides(await raised_by(scene, scene.tasks.wait, scene.http, TASK))
    await scene.close()


async def test_a_connection_that_breaks_shows_no_key(way: Way) -> None:
    scene, inner = moody(way)
    inner.instead[SUBMIT] = httpx.ReadError("broken")
    hides(await raised_by(scene, scene.tasks.run, scene.http, SUBMIT, json=BODY))
    await scene.close()


async def test_a_store_that_fails_while_tasks_are_picked_up_shows_no_key(way: Way) -> None:
    class Broken(MemoryStore):
        def scan(self, account: str, cursor: str = "") -> Any:
            raise StoreError("The store is away.")

    scene = TaskScene(way)
    guard = way.guard(scene.make_provider(), store=Broken(scene.clock), inner=Moody(scene.fake))
    hides(await raised_by(scene, guard.recover, KEY))
    await did(way, guard.close)
    await scene.close()
