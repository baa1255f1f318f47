"""A guard picks up what earlier ones left, and asks before it gives a slot up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from budgetguard import Recovered, SettingError, StoreError
from budgetguard.events import Expired, TaskEnded
from budgetguard.stores import MemoryStore
from budgetguard.testing import ManualClock
from tests.support.scene import PATIENT, submit
from tests.support.valkey import ValkeyServer, valkey_server
from tests.support.vidu import BODY, CREDITS, HEADERS, KEY, SUBMIT, headers, made_up, quick, vidu
from tests.support.ways import Way
from tests.tasks.scene import SONG, SongScene, TaskScene, did

__all__ = ["valkey_server"]

pytestmark = pytest.mark.anyio


async def recover(scene: TaskScene, key: str | None = None) -> Recovered:
    found = await did(scene.way, scene.guard.recover, key)
    assert isinstance(found, Recovered)
    return found


async def successor(scene: TaskScene) -> None:
    """Let another guard take over the store, as another process would."""
    way, provider, sent_by = scene.way, scene.make_provider(), scene.fake.transport()
    key = scene.headers["Authorization"].partition(" ")[2]
    given: dict[str, Any] = {"policy": scene.guard.policy, "observers": [scene.events.append], "api_key": key}
    scene.events.clear()
    await scene.client.close()
    scene.guard = way.guard(provider, store=scene.store, inner=sent_by, **given)
    scene.client = way.client(scene.guard, sent_by, base_url=scene.home, headers=scene.headers)


async def test_a_guard_finishes_what_ended_before_it_began(way: Way) -> None:
    scene = TaskScene(way)
    first = await submit(scene.client)
    scene.clock.advance(11)
    scene.fake.fail_next_task()
    failed = await submit(scene.client)
    scene.clock.advance(11)
    running = await submit(scene.client)
    await successor(scene)
    found = await recover(scene)
    assert (sorted(found.finished), found.running, found.unknown) == (sorted([first, failed]), (running,), ())
    assert {event.task_id: event.state.value for event in scene.told(TaskEnded)} == {
        first: "succeeded",
        failed: "failed",
    }
    assert await scene.running() == 1
    assert (await scene.wait(running))["state"] == "success"
    assert await recover(scene) == Recovered(found.account)
    await scene.close()


async def test_it_works_where_the_provider_does_not_report_what_runs(way: Way) -> None:
    scene = SongScene(way)
    for _ in range(4):
        await scene.client.post("/api/v2/generate", json=SONG)
    assert await scene.free() == 0
    scene.clock.advance(100)
    await successor(scene)
    assert len((await recover(scene)).finished) == 4
    assert await scene.free() == 4
    await scene.close()


async def test_a_song_nobody_looked_at_is_asked_about_before_its_slot_is_given_away(way: Way) -> None:
    scene = SongScene(way, duration=2000.0, limit=4)
    for _ in range(4):
        await scene.client.post("/api/v2/generate", json=SONG)
    scene.clock.advance(901)
    answer = await scene.client.get("/api/v2/credits")
    assert answer.status_code == 200
    assert (await scene.free(), scene.told(Expired)) == (0, [])
    scene.clock.advance(2000)
    await scene.client.get("/api/v2/credits")
    assert (await scene.free(), len(scene.told(TaskEnded))) == (4, 4)
    assert scene.fake.journal.breaches == 0
    await scene.close()


async def test_a_provider_that_is_down_takes_no_slots_away_and_gives_none(way: Way) -> None:
    scene = TaskScene(way, duration=5000.0, policy=quick(task_lease=600.0, **PATIENT))
    task = await submit(scene.client)
    scene.clock.advance(601)
    scene.fake.inject("html_502", on="poll", times=None)
    scene.fake.inject("redirect", on="poll", times=3)
    for _ in range(3):
        await scene.client.get(CREDITS)
        assert scene.told(Expired) == []
        scene.clock.advance(scene.guard.policy.lease + 1)
    scene.fake.clear_injections()
    assert (await recover(scene)).running == (task,)
    await scene.close()


async def test_a_call_that_waits_gets_the_slot_of_a_task_that_ended_unseen(way: Way) -> None:
    scene = TaskScene(way, limit=1, duration=5.0, policy=quick(task_lease=600.0))
    await submit(scene.client)
    scene.clock.advance(700)
    assert (await scene.client.post(SUBMIT, json=BODY)).status_code == 200
    assert len(scene.told(TaskEnded)) == 1
    await scene.close()


async def test_the_account_of_another_key_is_asked_about_with_that_key(way: Way) -> None:
    scene = TaskScene(way, keys=("vda_one", "vda_two"))
    scene.guard = way.guard(scene.make_provider(), store=scene.store, inner=scene.fake.transport())
    await scene.client.close()
    scene.client = way.client(scene.guard, scene.fake.transport(), base_url=scene.home)
    task = (await scene.client.post(SUBMIT, json=BODY, headers=headers("vda_two"))).json()["task_id"]
    assert (await recover(scene, "vda_two")).running == (task,)
    assert (await recover(scene, "vda_one")).running == ()
    with pytest.raises(SettingError, match="VIDU_API_KEY"):
        await recover(scene)
    await scene.close()


async def test_a_key_that_is_refused_ends_nothing(way: Way) -> None:
    scene = TaskScene(way)
    task = await submit(scene.client)
    scene.fake.inject("Unauthorized", on="poll", times=None)
    assert (await recover(scene)).unknown == (task,)
    assert await scene.running() == 1
    await scene.close()


async def test_a_store_that_fails_says_so(way: Way) -> None:
    class Broken(MemoryStore):
        def scan(self, account: str, cursor: str = "") -> Any:
            raise StoreError("The store is away.")

    scene = TaskScene(way)
    scene.store = Broken(scene.clock)
    await successor(scene)
    with pytest.raises(StoreError, match="away"):
        await recover(scene)
    await scene.close()


# -- killed processes -----------------------------------------------------------------------------------------------

LIFE = """
import json, sys, httpx
from budgetguard import Guard
from tests.support.vidu import BODY, HEADERS, SUBMIT, quick, vidu
url, store, *prompts = sys.argv[1:]
guard = Guard(vidu(url), store=store, policy=quick())
with httpx.Client(base_url=url, headers=HEADERS, transport=guard.transport()) as client:
    for prompt in prompts:
        print(json.dumps(client.post(SUBMIT, json={**BODY, "prompt": prompt}).json()["task_id"]), flush=True)
    held = guard.reserve(credits=10)
    print(json.dumps("held"), flush=True)
    sys.stdin.read()
"""


def killed(url: str, store: str, *prompts: str) -> list[str]:
    """Have a process start tasks and hold a permit, and kill it; gives the ids of the tasks."""
    environment = {**os.environ, "VIDU_API_KEY": KEY, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "error", "-c", LIFE, url, store, *prompts]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        lines = [json.loads(process.stdout.readline()) for _ in range(len(prompts) + 1)]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
        process.stdin.close()
    assert lines.pop() == "held"
    return lines


async def picked_up(way: Way, store: str) -> None:
    clock = ManualClock(1000.0)
    seconds: Any = lambda _path, body: 5.0 if body["prompt"] == "short" else 500.0  # noqa: E731
    fake = made_up(limit=8, duration=seconds, clock=clock)
    with fake.serve() as url:
        short, *long = killed(url, store, "short", "long", "long")
        clock.advance(10)
        guard = way.guard(vidu(url), store=store, policy=quick(), api_key=KEY)
        found = await did(way, guard.recover)
        assert (found.finished, found.running, found.held) == ((short,), tuple(sorted(long)), 1)
        again = await did(way, guard.recover)
        assert (again.finished, again.running, again.held) == ((), found.running, 1)
        assert (await way.state(guard, KEY)).pools[""].running == 2
        clock.advance(500)
        client = way.client(guard, base_url=url, headers=HEADERS)
        http: Any = client.client  # type: ignore[attr-defined]
        for task_id in found.running:
            assert (await did(way, guard.wait_task, http, task_id))["state"] == "success"
        assert (await way.state(guard, KEY)).pools[""].running == 0
        await client.close()
        await did(way, guard.close)


async def test_a_killed_process_leaves_its_tasks_to_the_next_on_a_file(way: Way, tmp_path: Path) -> None:
    await picked_up(way, f"sqlite:///{tmp_path}/accounts.db")


async def test_a_killed_process_leaves_its_tasks_to_the_next_on_a_server(way: Way, valkey_server: ValkeyServer) -> None:
    valkey_server.client.flushall()
    await picked_up(way, valkey_server.url)
