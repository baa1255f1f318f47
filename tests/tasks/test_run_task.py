"""A task is submitted, asked about and finished in one call."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

from budgetguard import (
    InsufficientCredits,
    NoResult,
    Policy,
    SettingError,
    TaskFailed,
    TaskNotStarted,
    TaskUnfinished,
)
from budgetguard.events import TaskEnded
from budgetguard.model import TaskState
from budgetguard.providers import UdioPro
from budgetguard.testing import FakeUdio
from tests.support.scene import PATIENT
from tests.support.vidu import BODY, CREDITS, HOME, SUBMIT, made_up, poll, quick, vidu
from tests.support.ways import Way
from tests.tasks.scene import SONG, SongScene, TaskScene, did

pytestmark = pytest.mark.anyio


# -- results --------------------------------------------------------------------------------------------------------


async def test_the_final_document_comes_back_and_the_slot_is_free(way: Way) -> None:
    scene = TaskScene(way)
    document = await scene.run(SUBMIT, json=BODY)
    assert document["state"] == "success"
    assert document["creations"]
    assert await scene.running() == 0
    (ended,) = scene.told(TaskEnded)
    assert (ended.task_id, ended.state) == (document["id"], TaskState.SUCCEEDED)
    await scene.close()


async def test_the_slot_is_held_to_the_end_and_not_a_moment_longer(way: Way) -> None:
    scene = TaskScene(way, limit=1)
    seen: list[tuple[int, int | None]] = []

    def look() -> None:
        counters = scene.store.load(scene.guard.account_name(scene.headers["Authorization"].split()[1])).counters
        seen.append((scene.fake.state.running, counters["slots"]))

    scene.on_nap = look
    await scene.run(SUBMIT, json=BODY)
    assert set(seen) == {(1, 0)}
    assert await scene.free() == 1
    await scene.close()


async def test_a_request_that_was_built_may_have_settings_of_its_own(way: Way) -> None:
    scene = TaskScene(way)
    extensions = {"budgetguard": {"credits": 33, "deadline": 5.0}}
    request = scene.http.build_request("POST", SUBMIT, json=BODY, extensions=extensions)
    assert (await scene.run(request))["state"] == "success"
    await scene.close()


async def test_songs_are_asked_for_at_the_feed_and_covers_at_their_own_address(way: Way) -> None:
    scene = SongScene(way)
    song = await scene.run("/api/v2/generate", json=SONG)
    assert [item["status"] for item in song["data"]["response_data"]] == ["complete", "complete"]
    work = scene.told(TaskEnded)[0].task_id
    cover = await scene.run("/api/v2/cover/generate", json={"taskId": work})
    assert cover["data"]["images"]
    assert await scene.running() == 0
    await scene.close()


async def test_a_song_that_says_success_too_early_is_waited_for(way: Way) -> None:
    scene = SongScene(way, early_success=True)
    song = await scene.run("/api/v2/generate", json=SONG)
    assert [item["status"] for item in song["data"]["response_data"]] == ["complete", "complete"]
    await scene.close()


async def test_films_are_asked_for_where_they_were_started(way: Way) -> None:
    scene = TaskScene(way)
    request = scene.http.build_request(
        "POST", "/ent/v2/ad-one-click", json={"images": ["x"]}, extensions={"budgetguard": {"credits": 40}}
    )
    document = await scene.run(request)
    assert document["state"] == "success"
    await scene.close()


async def test_work_that_is_done_when_it_is_answered_is_not_asked_about(way: Way) -> None:
    fake = made_up(charge=1)
    with fake.serve() as url:
        guard = way.guard(vidu(url), policy=quick())
        client = way.client(guard, base_url=url, headers=TaskScene.headers)
        http: Any = client.client  # type: ignore[attr-defined]
        extensions = {"budgetguard": {"credits": 1}}
        request = http.build_request("POST", "/ent/v2/audio-clone", json={"text": "x"}, extensions=extensions)
        document = await did(way, guard.run_task, http, request)
        assert document["state"] == "success"
        assert (await way.state(guard)).pools[""].running == 0
        await client.close()
        await did(way, guard.close)
    assert fake.journal.summary()["polls"] == 0


async def test_the_key_may_come_with_the_request_or_from_the_clients_auth(way: Way) -> None:
    class Sign(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Any:
            request.headers["Authorization"] = TaskScene.headers["Authorization"]
            yield request

    for given in ({"headers": TaskScene.headers}, {"auth": Sign()}):
        scene = TaskScene(way)
        await scene.client.close()
        auth = given.pop("auth", None)
        scene.client = way.client(scene.guard, scene.fake.transport(), base_url=HOME, auth=auth)
        request = scene.http.build_request("POST", SUBMIT, json=BODY, **given)
        assert (await scene.run(request))["state"] == "success"
        assert await scene.running() == 0
        await scene.close()


# -- polls ----------------------------------------------------------------------------------------------------------


async def test_pauses_grow_from_the_first_to_the_longest(way: Way) -> None:
    scene = TaskScene(way, duration=60.0)
    await scene.run(SUBMIT, json=BODY, poll_every=1, poll_max=4)
    assert scene.naps[:6] == [1.0, 1.0, 1.5, 2.25, 3.375, 4.0]
    assert set(scene.naps[5:]) == {4.0}
    await scene.close()


async def test_the_provider_may_ask_for_longer_pauses(way: Way) -> None:
    scene = TaskScene(way)
    scene.fake.inject("TooManyRequests", on="poll", retry_after=7.0)
    assert (await scene.run(SUBMIT, json=BODY))["state"] == "success"
    assert scene.naps[:2] == [1.0, 7.0]
    await scene.close()


async def test_polls_that_fail_are_repeated(way: Way) -> None:
    scene = TaskScene(way)
    for kind in ("html_502", "InternalServiceFailure", "drop_before_accept", "cut_body", "not_json", "TaskNotFound"):
        scene.fake.inject(kind, on="poll")
    assert (await scene.run(SUBMIT, json=BODY))["state"] == "success"
    assert await scene.running() == 0
    await scene.close()


@pytest.mark.parametrize("kind", ["html_502", "drop_before_accept", "TaskNotFound", "Unauthorized"])
async def test_polls_that_keep_failing_end_the_waiting_but_not_the_task(way: Way, kind: str) -> None:
    scene = TaskScene(way)
    scene.fake.inject(kind, times=None, on="poll")
    with pytest.raises(TaskUnfinished, match="11 polls in a row failed") as raised:
        await scene.run(SUBMIT, json=BODY)
    assert scene.fake.state.running == 0
    assert await scene.running() == 1, "nobody saw it end"
    assert isinstance(raised.value.__cause__, httpx.HTTPError) is (kind == "drop_before_accept")
    scene.fake.clear_injections()
    assert (await scene.wait(raised.value.task_id))["state"] == "success"
    assert await scene.running() == 0
    await scene.close()


async def test_a_task_that_takes_too_long_can_be_waited_for_again(way: Way) -> None:
    scene = TaskScene(way, duration=100.0)
    with pytest.raises(TaskUnfinished, match=r"its time was over.*wait_task\(client, '9000") as raised:
        await scene.run(SUBMIT, json=BODY, timeout=20.0)
    unfinished = raised.value
    assert unfinished.waited == pytest.approx(20.0)
    assert unfinished.document["state"] == "processing"
    assert await scene.running() == 1
    with pytest.raises(TaskUnfinished):
        await scene.wait(unfinished.task_id, timeout=1)
    assert (await scene.wait(unfinished.task_id))["state"] == "success"
    assert await scene.running() == 0
    assert (await scene.wait(unfinished.task_id))["state"] == "success", "asking for an ended one is harmless"
    await scene.close()


async def test_a_task_longer_than_its_lease_keeps_its_slot(way: Way) -> None:
    scene = TaskScene(way, duration=500.0, limit=1, policy=quick(**PATIENT, task_lease=100.0))
    looks = 0

    def look() -> None:
        nonlocal looks
        if scene.fake.state.running:
            counters = scene.store.load(scene.guard.account_name(scene.headers["Authorization"].split()[1])).counters
            assert counters["slots"] == 0
            looks += 1

    scene.on_nap = look
    await scene.run(SUBMIT, json=BODY)
    assert looks > 10
    await scene.close()


# -- no result ------------------------------------------------------------------------------------------------------


async def test_a_task_that_fails_raises_with_what_is_known(way: Way) -> None:
    scene = TaskScene(way)
    scene.fake.fail_next_task("CreationPolicyViolation")
    with pytest.raises(TaskFailed) as raised:
        await scene.run(SUBMIT, json=BODY)
    failed = raised.value
    assert (failed.state, failed.document["err_code"]) == ("failed", "CreationPolicyViolation")
    assert failed.task_id == failed.document["id"]
    assert failed.account == scene.told(TaskEnded)[0].account
    assert isinstance(failed, NoResult)
    assert await scene.running() == 0
    await scene.close()


async def test_a_song_that_fails_raises_too(way: Way) -> None:
    scene = SongScene(way)
    scene.fake.fail_next_task("moderation")
    with pytest.raises(TaskFailed, match="ended as failed"):
        await scene.run("/api/v2/generate", json=SONG)
    assert await scene.running() == 0
    await scene.close()


async def test_a_task_that_is_cancelled_meanwhile_raises_as_cancelled(way: Way) -> None:
    scene = TaskScene(way, mode="queue", limit=2)
    scene.fake.stranger_takes(slots=1, seconds=1000)
    await scene.client.get(CREDITS)
    scene.fake.set_limit(1)

    def cancel() -> None:
        for task in scene.fake.account.tasks():
            scene.fake.account.cancel(task.id)

    scene.on_nap = cancel
    with pytest.raises(TaskFailed) as raised:
        await scene.run(SUBMIT, json=BODY)
    assert raised.value.state == "cancelled"
    assert await scene.running() == 0
    await scene.close()


@pytest.mark.parametrize(
    ("kind", "outcome", "reason"),
    [
        ("FieldInvalid", "rejected", "FieldInvalid"),
        ("Unauthorized", "rejected", "Unauthorized"),
        ("InternalServiceFailure", "unknown", "InternalServiceFailure"),
        ("html_502", "unknown", ""),
    ],
)
async def test_an_answer_that_takes_nothing_raises_and_says_what_it_was(
    way: Way, kind: str, outcome: str, reason: str
) -> None:
    scene = TaskScene(way)
    scene.fake.inject(kind)
    with pytest.raises(TaskNotStarted) as raised:
        await scene.run(SUBMIT, json=BODY)
    told = raised.value
    assert (told.outcome, told.reason, told.task_id) == (outcome, reason, None)
    assert ("look at the provider's list" in str(told)) is (outcome == "unknown")
    assert scene.naps == []
    await scene.close()


async def test_an_envelope_that_says_no_raises_whatever_its_status(way: Way) -> None:
    scene = SongScene(way, style="envelope")
    with pytest.raises(TaskNotStarted, match="HTTP 200") as raised:
        await scene.run("/api/v2/generate", json={})
    assert (raised.value.outcome, raised.value.reason) == ("rejected", "400")
    await scene.close()


async def test_a_refusal_is_raised_as_for_any_call(way: Way) -> None:
    scene = TaskScene(way, credits=5)
    with pytest.raises(InsufficientCredits):
        await scene.run(SUBMIT, json=BODY)
    assert scene.fake.journal.summary()["submits"] == 0
    await scene.close()


async def test_a_refusal_that_comes_as_an_answer_was_not_sent(way: Way) -> None:
    scene = TaskScene(way, credits=5)
    await scene.client.close()
    scene.client = way.client(
        scene.guard, scene.fake.transport(), base_url=HOME, headers=scene.headers, on_refusal="respond"
    )
    with pytest.raises(TaskNotStarted) as raised:
        await scene.run(SUBMIT, json=BODY)
    assert (raised.value.outcome, raised.value.reason, raised.value.status) == ("not_sent", "InsufficientCredits", 402)
    await scene.close()


async def test_a_call_that_cannot_be_sent_raises_what_the_client_raises(way: Way) -> None:
    scene = TaskScene(way)
    scene.fake.inject("drop_before_accept")
    with pytest.raises(httpx.HTTPError):
        await scene.run(SUBMIT, json=BODY)
    await scene.close()


# -- mistakes -------------------------------------------------------------------------------------------------------


async def test_a_client_this_guard_does_not_watch_is_refused_before_anything_is_sent(way: Way) -> None:
    scene = TaskScene(way)
    other = way.guard(vidu())
    for client in (
        way.client(None, scene.fake.transport(), base_url=HOME, headers=scene.headers),
        way.client(other, scene.fake.transport(), base_url=HOME, headers=scene.headers),
        way.client(
            scene.guard,
            scene.fake.transport(),
            base_url=HOME,
            headers=scene.headers,
            mounts={"https://": scene.fake.transport()},
        ),
    ):
        await scene.client.close()
        scene.client = client
        with pytest.raises(SettingError, match=r"guard\.transport\(\)"):
            await scene.run(SUBMIT, json=BODY)
        with pytest.raises(SettingError, match=r"guard\.transport\(\)"):
            await scene.wait("900000000000000001")
    assert scene.fake.journal.summary()["submits"] == 0
    await scene.close()


async def test_what_starts_no_task_is_refused_before_anything_is_sent(way: Way) -> None:
    scene = TaskScene(way)
    skipped = scene.http.build_request("POST", SUBMIT, json=BODY, extensions={"budgetguard": {"skip": True}})
    poll_ = scene.http.build_request("GET", poll("1"))
    elsewhere = scene.http.build_request("POST", "https://example.com/ent/v2/text2video", json=BODY)
    for request in (skipped, poll_, elsewhere, "/v1/other"):
        with pytest.raises(SettingError, match="starts a task"):
            await scene.run(request, json=BODY if isinstance(request, str) else None)
    with pytest.raises(SettingError, match="address and json"):
        await scene.run(scene.http.build_request("POST", SUBMIT), json=BODY)
    with pytest.raises(SettingError, match="address and json"):
        await scene.run(("POST", SUBMIT))
    assert scene.fake.journal.summary()["submits"] == 0
    await scene.close()


@pytest.mark.parametrize("task_id", ["", "..", "a/b", "a\\b", "x" * 300, "a\nb", "\ud800"])
async def test_an_id_that_could_lead_elsewhere_is_refused(way: Way, task_id: str) -> None:
    scene = TaskScene(way)
    with pytest.raises(SettingError, match="task_id"):
        await scene.wait(task_id)
    await scene.close()


@pytest.mark.parametrize("setting", [{"poll_every": 0}, {"poll_max": -1.0}, {"timeout": 0.0}, {"timeout": "1"}])
async def test_times_must_be_above_zero(way: Way, setting: dict[str, Any]) -> None:
    scene = TaskScene(way)
    with pytest.raises(SettingError, match=next(iter(setting))):
        await scene.run(SUBMIT, json=BODY, **setting)
    await scene.close()


# -- interruptions --------------------------------------------------------------------------------------------------


async def test_who_is_interrupted_leaves_the_task_and_its_slot(way: Way) -> None:
    scene = TaskScene(way, limit=1)

    class Interruption(BaseException):
        pass

    def interrupt() -> None:
        raise Interruption

    scene.on_nap = interrupt
    with pytest.raises(Interruption):
        await scene.run(SUBMIT, json=BODY)
    assert (scene.fake.state.running, await scene.running()) == (1, 1)
    scene.on_nap = lambda: None
    (task,) = scene.fake.account.tasks()
    assert (await scene.wait(task.id))["state"] == "success"
    assert await scene.free() == 1
    await scene.close()


async def test_a_cancelled_caller_leaves_the_task_and_its_slot(way: Way) -> None:
    if way.blocking:
        pytest.skip("threads are not cancelled")
    scene = TaskScene(way, limit=1)
    with anyio.CancelScope() as scope:
        scene.on_nap = scope.cancel
        await scene.run(SUBMIT, json=BODY)
    assert scope.cancelled_caught
    assert await scene.running() == 1
    await scene.close()


# -- over real HTTP -------------------------------------------------------------------------------------------------


async def test_several_at_once_over_real_http_use_the_slots_and_no_more(way: Way) -> None:
    fake = made_up(limit=2, duration=0.05)
    with fake.serve() as url:
        guard = way.guard(vidu(url), policy=quick(max_age=0.05, max_stale=0.1))
        client = way.client(guard, base_url=url, headers=TaskScene.headers)
        http: Any = client.client  # type: ignore[attr-defined]
        documents: list[Any] = []

        async def one() -> None:
            documents.append(await did(way, guard.run_task, http, SUBMIT, json=BODY, poll_every=0.01, poll_max=0.02))

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(one)
        await client.close()
        await did(way, guard.close)
    assert [document["state"] for document in documents] == ["success"] * 6
    assert fake.journal.breaches == 0


async def test_songs_over_real_http(way: Way) -> None:
    fake = FakeUdio(500, charge=10, duration=0.05)
    with fake.serve() as url:
        guard = way.guard(UdioPro(base_url=url), policy=Policy())
        client = way.client(guard, base_url=url, headers=SongScene.headers)
        http: Any = client.client  # type: ignore[attr-defined]
        song = await did(way, guard.run_task, http, "/api/v2/generate", json=SONG, poll_every=0.01, poll_max=0.02)
        waited = await did(way, guard.wait_task, http, fake.account.tasks()[0].id)
        await client.close()
        await did(way, guard.close)
    assert song == waited
