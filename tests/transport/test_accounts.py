"""Whose account a call is on, and where the question for its balance goes."""

from __future__ import annotations

from typing import Any

import pytest

from budgetguard.errors import CreditsUnavailable, InsufficientCredits
from budgetguard.providers.udio import UdioPro
from budgetguard.testing import FakeUdio
from tests.support.raw_server import RawServer, Seen, Wire, answer, credits_answer
from tests.support.vidu import BODY, CREDITS, HEADERS, HOME, KEY, SUBMIT, headers, made_up, quick, vidu
from tests.support.ways import Way

pytestmark = pytest.mark.anyio
ACCEPTED = answer(b'{"task_id":"1","state":"created","credits":10}')


async def test_two_keys_are_two_accounts_that_know_nothing_of_each_other(way: Way) -> None:
    balances = {"Token one": 10, "Token two": 30}

    def say(seen: Seen, wire: Wire) -> None:
        key = seen.header("authorization")
        if seen.path == SUBMIT:
            balances[key] -= 10
        wire.send(credits_answer(balances[key]) if seen.path == CREDITS else ACCEPTED)

    with RawServer(say) as server:
        server.own_credits = False
        guard = way.guard(vidu(server.url), policy=quick())
        async with way.client(guard, base_url=server.url) as client:
            await client.post(SUBMIT, json=BODY, headers=headers("one"))
            with pytest.raises(InsufficientCredits) as refused:
                await client.post(SUBMIT, json=BODY, headers=headers("one"))
            await client.post(SUBMIT, json=BODY, headers=headers("two"))
        assert refused.value.account == guard.account_name("one") != guard.account_name("two")
        assert (await way.state(guard, "two")).credits_free == 20
        sent = {seen.header("authorization") for seen in server.requests(SUBMIT)}
        assert sent == {"Token one", "Token two"}


async def test_keys_named_as_one_account_spend_one_balance(way: Way) -> None:
    fake = made_up(credits=20, keys=("one", "two", "three"))
    guard = way.guard(vidu(), policy=quick(), accounts={"studio": ["one", "two"]})
    async with way.client(guard, fake.transport(), base_url=HOME) as client:
        await client.post(SUBMIT, json=BODY, headers=headers("one"))
        await client.post(SUBMIT, json=BODY, headers=headers("two"))
        for key in ("one", "two"):
            with pytest.raises(InsufficientCredits, match="vidu:studio"):
                await client.post(SUBMIT, json=BODY, headers=headers(key))
    assert fake.journal.accepted == 2
    assert fake.journal.breaches == 0
    assert guard.account_name("one") == guard.account_name("two") == "vidu:studio" != guard.account_name("three")


async def test_without_a_key_a_call_passes_and_nobody_is_asked_for_credits(way: Way) -> None:
    fake = made_up()
    guard = way.guard(vidu(), policy=quick())
    async with way.client(guard, fake.transport(), base_url=HOME) as client:
        assert (await client.post(SUBMIT, json=BODY)).status_code == 401
    assert fake.journal.credits_requests == 0


async def test_each_provider_answers_for_its_own_origin_when_guards_stand_one_behind_the_other(way: Way) -> None:
    video, music = made_up(credits=10), FakeUdio(credits=500)
    with video.serve() as video_url, music.serve() as music_url:
        videos = way.guard(vidu(video_url), policy=quick())
        songs = way.guard(UdioPro(base_url=music_url), policy=quick())
        inner = way.transport(songs)
        async with way.client(videos, inner) as client:
            assert (await client.post(f"{video_url}{SUBMIT}", json=BODY, headers=HEADERS)).status_code == 200
            song = {"gpt_description_prompt": "a cat", "model": "chirp-v3-5"}
            bearer = {"Authorization": f"Bearer {KEY}"}
            assert (await client.post(f"{music_url}/api/v2/generate", json=song, headers=bearer)).status_code == 200
            with pytest.raises(InsufficientCredits):
                await client.post(f"{video_url}{SUBMIT}", json=BODY, headers=HEADERS)
    assert (video.journal.credits_requests >= 1, music.journal.credits_requests) == (True, 1)


async def test_the_question_for_the_balance_carries_the_key_in_one_header_only(way: Way) -> None:
    with RawServer(lambda seen, wire: wire.send(ACCEPTED)) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        cookies = {"session": "of the client"}
        given: dict[str, Any] = {"headers": {**HEADERS, "X-Mine": "1"}, "params": {"mine": "2"}, "cookies": cookies}
        async with way.client(guard, base_url=server.url, **given) as client:
            await client.post(SUBMIT, json=BODY)
        (asked,) = server.requests(CREDITS)
        assert asked.target == CREDITS
        assert [name for name, value in asked.headers if KEY.encode() in value] == [b"Authorization"]
        assert not {b"x-mine", b"cookie"} & {name.lower() for name, _ in asked.headers}
        assert asked.body == b""


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_the_question_for_the_balance_follows_no_redirect(status: str, way: Way) -> None:
    with RawServer(lambda seen, wire: wire.send(credits_answer())) as elsewhere:
        elsewhere.own_credits = False

        def say(seen: Seen, wire: Wire) -> None:
            wire.send(answer(b"", status, headers=[("Location", f"{elsewhere.url}{CREDITS}")]))

        with RawServer(say) as server:
            server.own_credits = False
            guard = way.guard(vidu(server.url), policy=quick())
            given: dict[str, Any] = {"base_url": server.url, "headers": HEADERS, "follow_redirects": True}
            async with way.client(guard, **given) as client:
                with pytest.raises(CreditsUnavailable):
                    await client.post(SUBMIT, json=BODY)
            assert server.requests(SUBMIT) == []
        assert elsewhere.seen == []


async def test_the_question_goes_to_the_configured_origin_however_the_call_is_addressed(way: Way) -> None:
    with RawServer(lambda seen, wire: wire.send(ACCEPTED)) as server:
        guard = way.guard(vidu(server.url), policy=quick())
        url = f"http://somebody@127.0.0.1:{server.port}{SUBMIT}"
        async with way.client(guard, headers={**HEADERS, "Host": "evil.example"}) as client:
            # httpx turns the user into another Authorization header, so this one has no key of ours.
            await client.post(url, json=BODY)
            assert server.requests(CREDITS) == []
            await client.post(f"{server.url}{SUBMIT}", json=BODY)
        (asked,) = server.requests(CREDITS)
        assert asked.header("host") == f"127.0.0.1:{server.port}"


async def test_guards_with_one_store_share_an_account_and_one_reading(way: Way) -> None:
    fake = made_up(credits=20)
    first = way.guard(vidu(), policy=quick())
    second = way.guard(vidu(), policy=quick(), store=first.engine.store)
    for guard in (first, second):
        async with way.client(guard, fake.transport(), base_url=HOME, headers=HEADERS) as client:
            await client.post(SUBMIT, json=BODY)
    assert fake.journal.credits_requests == 1
    assert (await way.state(second)).credits_free == 0


async def test_another_fingerprint_key_gives_the_same_api_key_another_name(way: Way) -> None:
    names = {way.guard(vidu(), fingerprint_key=secret).account_name(KEY) for secret in (None, b"one", b"two")}
    assert len(names) == 3
    assert not any(KEY in name for name in names)
