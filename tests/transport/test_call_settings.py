"""Settings of one call, in its extensions."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import anyio
import pytest

from budgetguard.errors import InsufficientCredits, InsufficientSlots, QueueTimeout, SettingError
from budgetguard.events import Queued
from tests.support.raw_server import RawServer, answer
from tests.support.scene import PATIENT, Scene, submit, until
from tests.support.vidu import BODY, CREDITS, HEADERS, HOME, SUBMIT, made_up, poll, quick, vidu
from tests.support.ways import Caller, Way

pytestmark = pytest.mark.anyio


def of(**settings: Any) -> dict[str, Any]:
    return {"budgetguard": settings}


async def test_the_credits_given_with_a_call_replace_the_price_list(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        with pytest.raises(InsufficientCredits) as refused:
            await submit(client, extensions=of(credits=501))
        assert refused.value.needed == 501
        scene.fake.fail_next("html_502")
        await client.post(SUBMIT, json=BODY, extensions=of(credits=70))
        assert (await way.state(scene.guard)).credits_held == 70
        # Nothing needs a price any more.
        response = await client.post("/ent/v2/brand-new", json=BODY, extensions=of(credits=1))
        assert response.status_code == 404


async def test_a_call_that_costs_nothing_is_let_through_with_an_empty_balance(way: Way) -> None:
    scene = Scene(way, credits=0, charge=0)
    async with scene.client() as client:
        await submit(client, extensions=of(credits=0))


async def test_the_slots_given_with_a_call_replace_the_adapters_word(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        await submit(client, extensions=of(slots=3))
        assert (await way.state(scene.guard)).pools[""].free == 2
        with pytest.raises(InsufficientSlots):
            await submit(client, extensions=of(slots=6))
        with pytest.raises(QueueTimeout):
            await submit(client, extensions=of(slots=3, deadline=0))
        await submit(client, extensions=of(slots=0))
        assert (await way.state(scene.guard)).pools[""].free == 2


def more_queued(scene: Scene, before: int) -> bool:
    return len(scene.told(Queued)) > before


async def test_a_higher_priority_goes_first(way: Way) -> None:
    scene = Scene(way, limit=1)
    done: list[int] = []

    async def call(client: Caller, priority: int) -> None:
        task = await submit(client, extensions=of(priority=priority))
        done.append(priority)
        await way.finished(scene.guard, task)

    async with scene.client() as client:
        first = await submit(client)
        async with anyio.create_task_group() as group:
            for priority in (0, 5, -1, 5):
                before = len(scene.told(Queued))
                group.start_soon(call, client, priority)
                await until(partial(more_queued, scene, before))
            scene.fake.set_limit(100)
            await way.finished(scene.guard, first)
    assert done == [5, 5, 0, -1]


async def test_a_deadline_ends_the_wait_and_leaves_nothing_behind(way: Way) -> None:
    fake = made_up(limit=1)
    guard = way.guard(vidu(), policy=quick(**PATIENT))
    async with way.client(guard, fake.transport(), base_url=HOME, headers=HEADERS) as client:
        await submit(client)
        with pytest.raises(QueueTimeout) as refused:
            await submit(client, extensions=of(deadline=0.03))
        assert 0.03 <= refused.value.waited < 1
        state = await way.state(guard)
        assert (state.credits_held, state.pools[""].waiting) == (10, 0)
    assert fake.journal.submits == 1


async def test_a_call_is_not_sent_after_its_deadline_even_if_the_balance_is_what_was_waited_for(way: Way) -> None:
    fake = made_up()
    fake.inject("slow", on="credits", seconds=0.1)
    guard = way.guard(vidu(), policy=quick(**PATIENT))
    async with way.client(guard, fake.transport(), base_url=HOME, headers=HEADERS) as client:
        with pytest.raises(QueueTimeout):
            await submit(client, extensions=of(deadline=0.03))
    assert fake.journal.submits == 0


async def test_a_skipped_call_is_neither_held_nor_priced_nor_refused(way: Way) -> None:
    scene = Scene(way, credits=0)
    async with scene.client() as client:
        response = await client.post(SUBMIT, json=BODY, extensions=of(skip=True))
        assert response.json()["reason"] == "CreditInsufficient"
        assert (await client.get(CREDITS, extensions=of(skip=True))).status_code == 200
    assert scene.events == []
    assert scene.fake.journal.credits_requests == 1


async def test_empty_settings_are_none(way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        await submit(client, extensions=of())
        await submit(client, extensions={"budgetguard": None})


WRONG: list[tuple[Any, str]] = [
    ({"credit": 5}, r"\['credit'\].*known settings are credits, deadline, priority, skip, slots"),
    ({"credits": 5, "pool": "x", "deadline_": 1}, r"\['deadline_', 'pool'\]"),
    ({"credits": "5"}, r"credits='5'.*whole number"),
    ({"credits": -1}, "credits=-1"),
    ({"credits": 1.5}, r"credits=1\.5"),
    ({"credits": True}, "credits=True"),
    ({"slots": -1}, "slots=-1"),
    ({"slots": 10**16}, "slots=10000000000000000"),
    ({"priority": "high"}, "priority='high'"),
    ({"priority": 1.0}, "priority=1.0"),
    ({"deadline": -0.1}, "deadline=-0.1"),
    ({"deadline": float("nan")}, "deadline=nan"),
    ({"deadline": "soon"}, "deadline='soon'"),
    ({"skip": "yes"}, "skip='yes'"),
    ({1: 2}, r"\['1'\]"),
    ([("credits", 5)], "mapping"),
    ("credits=5", "mapping"),
    (5, "mapping"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[str(row[0]) for row in WRONG])
async def test_a_wrong_setting_is_told_and_nothing_is_sent(given: Any, message: str, way: Way) -> None:
    scene = Scene(way)
    async with scene.client() as client:
        for method, path in (("POST", SUBMIT), ("GET", poll("1")), ("GET", CREDITS), ("GET", "/elsewhere")):
            with pytest.raises(SettingError, match=message):
                await client.request(method, path, json=BODY, extensions={"budgetguard": given})
    assert scene.events == []
    assert not any(scene.fake.journal.summary()[name] for name in ("submits", "polls", "credits_requests"))


async def test_settings_travel_with_a_request_that_the_client_sends_again(way: Way) -> None:
    moved = answer(b"", "307 Temporary Redirect", headers=[("Location", "?again")])
    accepted = answer(json.dumps({"task_id": "1", "state": "created"}).encode())
    with RawServer(lambda seen, wire: wire.send(accepted if "?" in seen.target else moved)) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url, headers=HEADERS, follow_redirects=True) as client:
            await submit(client, extensions=of(credits=77))
        assert (await way.state(guard)).credits_held == 77
