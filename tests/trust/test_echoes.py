"""A provider that repeats the key it was asked with does not bring it into events, errors or the state."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from budgetguard import BudgetGuardError, Guard, Policy
from budgetguard._echoes import Echo
from budgetguard.events import Event
from budgetguard.providers import Vidu
from tests.secrets.wire import repeated
from tests.support.vidu import BODY, PRICE

_KEY = "vda_0123456789abcdefghijklmnopqrstuv"
_WORDS = pytest.mark.parametrize("said", [_KEY, _KEY[4:20], f"Bad{_KEY[-12:]}", _KEY.upper().lower()], ids=len)


def calling(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[Guard, httpx.Client, list[Event]]:
    events: list[Event] = []
    guard = Guard(
        Vidu(prices={"text2video": PRICE}), api_key=_KEY, observers=[events.append], policy=Policy(resend_max=0)
    )
    transport = guard.transport(httpx.MockTransport(answer))
    headers = {"Authorization": f"Token {_KEY}"}
    return guard, httpx.Client(base_url="https://api.vidu.com", headers=headers, transport=transport), events


def told(*things: object) -> str:
    return " ".join(f"{thing!r} {thing}" for thing in things)


@_WORDS
@pytest.mark.parametrize("status", [400, 402, 429, 500])
def test_a_reason_that_repeats_the_key_is_kept_nowhere(said: str, status: int) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/credits"):
            return httpx.Response(200, json=repeated("usual"))
        return httpx.Response(status, json={"code": status, "reason": said, "message": said})

    guard, client, events = calling(answer)
    with guard, client, pytest.raises(BudgetGuardError) as caught:
        guard.run_task(client, "/ent/v2/text2video", json=BODY)
    assert said not in told(caught.value, caught.value.args, *events)
    assert len(events) > 2


def test_a_word_that_repeats_nothing_is_kept() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/credits"):
            return httpx.Response(200, json=repeated("usual"))
        return httpx.Response(429, json={"code": 429, "reason": "TooManyRequests"})

    guard, client, events = calling(answer)
    with guard, client, pytest.raises(BudgetGuardError, match="TooManyRequests"):
        guard.run_task(client, "/ent/v2/text2video", json=BODY)
    assert "'TooManyRequests'" in told(*events)
    assert "type='usual'" in told(*events)


@pytest.mark.parametrize("asked_by", ["guard", "user"])
def test_a_balance_that_repeats_the_key_counts_without_it(asked_by: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        more: dict[str, Any] = repeated(_KEY) if request.url.path.endswith("/credits") else {"task_id": "1"}
        return httpx.Response(200, json=more)

    guard, client, events = calling(answer)
    with guard, client:
        if asked_by == "user":
            client.get("/ent/v2/credits")
        client.post("/ent/v2/text2video", json=BODY)
        assert guard.state().balance == 500
        assert _KEY not in told(guard.state(), *events)
    assert _KEY.encode() not in pickle.dumps(events)
    assert [type(event).__name__ for event in events].count("Refreshed") == 1


def test_an_error_of_the_credits_endpoint_that_repeats_the_key_says_so_without_it() -> None:
    key = "abcdefghijklmnopqrstuvwxyzABCDEF"  # of letters alone, as words are
    guard = Guard(Vidu(), api_key=key)
    transport = guard.transport(httpx.MockTransport(lambda _: httpx.Response(403, json={"reason": key})))
    with guard, httpx.Client(transport=transport) as client, pytest.raises(BudgetGuardError) as caught:
        client.post("https://api.vidu.com/ent/v2/text2video", json=BODY, headers={"Authorization": f"Token {key}"})
    assert key not in told(caught.value)
    assert "repeats the key" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("", "", False),
        ("", "k", False),
        ("a k", "k", False),
        ("k", "k", True),
        ("01234567", "01234567", True),
        ("x01234567x", "0123456789", True),
        ("0123456", "0123456789", False),
        ("TooManyRequests", _KEY, False),
    ],
)
def test_a_part_of_a_key_is_told_from_a_word(text: str, key: str, wanted: bool) -> None:
    assert Echo(key).is_in(text) is wanted
    assert Echo(key).is_within({"a": [[{"b": text}], 5, None]}) is wanted
    assert Echo(key).is_within([{text: 1}]) is wanted
