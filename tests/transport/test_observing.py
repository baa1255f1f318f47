"""What the guard learns from the caller's own polls and from the caller's own questions for the balance."""

from __future__ import annotations

import threading

import anyio
import pytest

from budgetguard.events import Event, Refreshed, RefreshFailed, TaskEnded
from budgetguard.model import TaskState
from tests.support.raw_server import RawServer, Seen, Wire, answer, credits_answer
from tests.support.scene import PATIENT, Scene, submit, until
from tests.support.vidu import BODY, CREDITS, HEADERS, SUBMIT, poll, quick, vidu
from tests.support.ways import Way

pytestmark = pytest.mark.anyio


async def test_a_task_holds_its_slot_while_polls_show_it_running(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        task = await submit(client)
        for _ in range(3):
            assert (await client.get(poll(task))).json()["state"] == "processing"
            assert await scene.running() == 1
        assert scene.told(TaskEnded) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_a_poll_that_shows_the_end_of_a_task_frees_its_slot_once(fails: bool, way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        if fails:
            scene.fake.fail_next_task()
        task = await submit(client)
        assert await scene.free() == 4
        scene.clock.advance(11)
        for _ in range(3):
            await client.get(poll(task))
        assert (await scene.running(), await scene.free()) == (0, 5)
        (ended,) = scene.told(TaskEnded)
        assert ended.state is (TaskState.FAILED if fails else TaskState.SUCCEEDED)
        assert scene.fake.journal.credits_requests == 1


async def test_a_list_shows_the_end_of_all_its_tasks(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        for _ in range(3):
            await submit(client)
        scene.clock.advance(11)
        last = await submit(client)
        await client.get("/ent/v2/tasks")
        assert await scene.running() == 1
        assert last not in {event.task_id for event in scene.told(TaskEnded)}
        assert len(scene.told(TaskEnded)) == 3


async def test_a_cancelled_task_frees_its_slot_and_one_that_cannot_be_cancelled_keeps_it(way: Way) -> None:
    scene = Scene(way, mode="queue", limit=2)
    async with scene.client() as client:
        running = await submit(client)
        assert (await client.post(f"/ent/v2/tasks/{running}/cancel")).status_code == 400
        assert await scene.running() == 1
        scene.fake.stranger_takes(slots=1)
        waiting = await submit(client)
        assert (await client.post(f"/ent/v2/tasks/{waiting}/cancel")).json() == {}
        assert await scene.running() == 1
        (ended,) = scene.told(TaskEnded)
        assert (ended.task_id, ended.state) == (waiting, TaskState.CANCELLED)


async def test_polls_of_unknown_tasks_and_answers_nobody_understands_change_nothing(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        task = await submit(client)
        scene.clock.advance(11)
        assert (await client.get(poll("somebody-elses"))).status_code == 404
        for kind in ("empty", "not_json", "wrong_shape", "html_502", "redirect", "Unauthorized"):
            scene.fake.fail_next(kind, on="poll")
            await client.get(poll(task))
            assert await scene.running() == 1, kind
        await client.get(poll(task))
        assert await scene.running() == 0


async def test_a_poll_whose_answer_breaks_off_raises_and_changes_nothing(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        task = await submit(client)
        scene.clock.advance(11)
        for kind in ("cut_body", "drop_before_accept"):
            scene.fake.fail_next(kind, on="poll")
            with pytest.raises(Exception, match=r"peer closed|disconnected"):
                await client.get(poll(task))
            assert await scene.running() == 1


async def test_a_poll_left_alone_on_request_is_not_looked_at(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        task = await submit(client)
        scene.clock.advance(11)
        await client.get(poll(task), extensions={"budgetguard": {"skip": True}})
        assert await scene.running() == 1


# -- the caller's own questions for the balance ---------------------------------------------------------------------


async def test_the_callers_own_question_is_a_reading_and_saves_the_guards(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        rows = (await client.get(CREDITS)).json()["remains"]
        assert rows[0]["credit_remain"] == 500
        await submit(client)
        assert scene.fake.journal.credits_requests == 1
        (refreshed,) = scene.told(Refreshed)
        assert (refreshed.asked_by, refreshed.reading.credits) == ("user", 500)
        scene.fake.top_up(1000)
        await client.get(CREDITS, params={"show_detail": "true"})
        assert (await way.state(scene.guard)).balance == 1490


async def test_a_call_accepted_after_the_callers_question_is_counted_on_top_of_its_answer(way: Way) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def say(seen: Seen, wire: Wire) -> None:
        if seen.path != CREDITS:
            wire.send(answer(b'{"task_id":"1","state":"created","credits":10}'))
            return
        if asked.is_set():
            go_on.wait(5)
        asked.set()
        wire.send(credits_answer(100))

    with RawServer(say) as server:
        server.own_credits = False
        guard = way.guard(vidu(server.url), policy=quick(**PATIENT))
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            await client.get(CREDITS)
            async with anyio.create_task_group() as group:
                group.start_soon(client.get, CREDITS)
                await until(lambda: len(server.requests(CREDITS)) == 2)
                await client.post(SUBMIT, json=BODY)
                go_on.set()
            state = await way.state(guard)
            assert (state.balance, state.credits_free) == (100, 90)


async def test_the_callers_question_is_no_reading_while_another_is_under_way(way: Way) -> None:
    go_on = threading.Event()
    events: list[Event] = []

    def say(seen: Seen, wire: Wire) -> None:
        if seen.header("x-mine"):
            wire.send(credits_answer(7))
        elif seen.path == CREDITS:
            go_on.wait(5)
            wire.send(credits_answer(100))
        else:
            wire.send(answer(b'{"task_id":"1","state":"created","credits":10}'))

    with RawServer(say) as server:
        server.own_credits = False
        guard = way.guard(vidu(server.url), policy=quick(), observers=[events.append])
        async with way.client(guard, base_url=server.url, headers=HEADERS) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: client.post(SUBMIT, json=BODY))
                await until(lambda: server.requests(CREDITS))
                mine = await client.get(CREDITS, headers={"X-Mine": "1"})
                assert mine.json()["remains"][0]["credit_remain"] == 7
                go_on.set()
            told = [event for event in events if isinstance(event, Refreshed)]
            assert [(event.asked_by, event.reading.credits) for event in told] == [("guard", 100)]


@pytest.mark.parametrize("kind", ["html_502", "not_json", "wrong_shape", "empty", "Unauthorized", "redirect"])
async def test_a_failed_question_of_the_caller_neither_blocks_nor_counts_as_a_failure(kind: str, way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        scene.fake.fail_next(kind, on="credits")
        await client.get(CREDITS)
        scene.clock.advance(1)
        await submit(client)
        assert scene.told(RefreshFailed) == []
        assert [event.asked_by for event in scene.told(Refreshed)] == ["guard"]


@pytest.mark.parametrize("kind", ["cut_body", "drop_before_accept"])
async def test_a_question_of_the_caller_that_breaks_off_raises_and_gives_its_claim_up(kind: str, way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        scene.fake.fail_next(kind, on="credits")
        with pytest.raises(Exception, match=r"peer closed|disconnected"):
            await client.get(CREDITS)
        scene.clock.advance(1)
        await submit(client)
        assert [event.asked_by for event in scene.told(Refreshed)] == ["guard"]


async def test_leases_end_also_where_all_readings_are_the_callers_own(way: Way) -> None:
    scene = Scene(way, limit=2, policy=quick(max_age=10.0, lease=30.0, task_lease=40.0))
    async with scene.client() as client:
        for _ in range(2):
            scene.fake.fail_next("html_502")
            await client.post(SUBMIT, json=BODY)
        assert await scene.free() == 0
        for _ in range(20):
            scene.clock.advance(5)
            await client.get(CREDITS)
        state = await way.state(scene.guard)
        assert (state.pools[""].open, state.pools[""].free, state.credits_held) == (0, 2, 0)
