"""With ``on_refusal="respond"`` a refusal is an answer that vendor SDKs understand at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from budgetguard.errors import (
    CreditsUnavailable,
    InsufficientCredits,
    InsufficientSlots,
    QueueFull,
    QueueTimeout,
    Refused,
    SettingError,
    UnknownPrice,
)
from tests.support.scene import PATIENT, Scene, submit
from tests.support.vidu import BODY, KEY, SUBMIT, quick, vidu
from tests.support.ways import Caller, Way

pytestmark = pytest.mark.anyio
NOW = {"budgetguard": {"deadline": 0}}


async def poor(scene: Scene, client: Caller) -> dict[str, Any]:
    scene.fake.stranger_takes(credits=495)
    return {"json": BODY}


async def crowded(scene: Scene, client: Caller) -> dict[str, Any]:
    return {"json": BODY, "extensions": {"budgetguard": {"slots": 6}}}


async def full(scene: Scene, client: Caller) -> dict[str, Any]:
    await submit(client)
    return {"json": BODY}


async def late(scene: Scene, client: Caller) -> dict[str, Any]:
    await submit(client)
    return {"json": BODY, "extensions": NOW}


async def unpriced(scene: Scene, client: Caller) -> dict[str, Any]:
    return {"url": "/ent/v2/brand-new", "json": BODY}


async def blind(scene: Scene, client: Caller) -> dict[str, Any]:
    scene.fake.inject("html_502", on="credits", times=None)
    return {"json": BODY}


KINDS: list[tuple[type[Refused], int, Callable[[Scene, Caller], Any], dict[str, Any], dict[str, Any]]] = [
    (InsufficientCredits, 402, poor, {}, {}),
    (InsufficientSlots, 402, crowded, {}, {}),
    (UnknownPrice, 402, unpriced, {}, {}),
    (QueueFull, 429, full, {"max_waiting": 0}, {"limit": 1}),
    (QueueTimeout, 429, late, {}, {"limit": 1}),
    (CreditsUnavailable, 503, blind, {}, {}),
]


@pytest.mark.parametrize(("kind", "status", "prepare", "policy", "fake"), KINDS, ids=[row[0].__name__ for row in KINDS])
async def test_each_refusal_is_a_problem_document_that_says_not_to_try_again(
    kind: type[Refused], status: int, prepare: Any, policy: dict[str, Any], fake: dict[str, Any], way: Way
) -> None:
    scene = Scene(way, policy=quick(**PATIENT, **policy), **fake)
    async with scene.client(on_refusal="respond") as client:
        given = {"url": SUBMIT, **await prepare(scene, client)}
        sent = scene.fake.journal.submits
        response = await client.post(**given)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["x-should-retry"] == "false"
        document = response.json()
        assert document["title"] == kind.__name__
        assert document["status"] == status
        assert document["type"] == "about:blank"
        assert document["account"] == scene.guard.account_name(KEY)
        if status != 402:
            assert int(response.headers["retry-after"]) >= 1
            assert document["retry_after"] >= 0
        else:
            assert "retry-after" not in response.headers
        assert scene.fake.journal.submits == sent
        assert response.request.url.path == given["url"]
        assert response.is_closed
        assert json.loads(response.text) == document
        assert KEY not in response.text
    async with scene.client() as client:
        with pytest.raises(kind) as refused:
            await client.post(**given)
        assert document.keys() - {"type", "title", "status", "detail"} == refused.value.facts.keys()
        assert document["detail"].split()[0] == str(refused.value).split()[0]


async def test_a_refusal_that_is_answered_says_how_long_it_took(way: Way) -> None:
    scene = Scene(way, credits=5)
    async with scene.client(on_refusal="respond") as client:
        response = await client.post(SUBMIT, json=BODY)
    assert response.elapsed.total_seconds() >= 0


async def test_a_refusal_that_is_answered_can_be_streamed_too(way: Way) -> None:
    scene = Scene(way, credits=5)
    async with (
        scene.client(on_refusal="respond") as client,
        client.stream("POST", SUBMIT, json=BODY) as body,
    ):
        data = b"".join([piece async for piece in body.pieces("raw")])
        assert json.loads(data)["needed"] == 10


async def test_answers_for_refusals_do_not_hide_wrong_settings(way: Way) -> None:
    scene = Scene(way)
    async with scene.client(on_refusal="respond") as client:
        with pytest.raises(SettingError):
            await client.post(SUBMIT, json=BODY, extensions={"budgetguard": {"credit": 1}})


def test_there_are_two_ways_to_refuse_and_no_third(way: Way) -> None:
    wrong: Any = "ignore"
    with pytest.raises(SettingError, match="'raise' or 'respond'"):
        way.guard(vidu()).transport(on_refusal=wrong)
