"""Which callbacks of Vidu are believed, and what they tell."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard import CallbackError, SettingError, TaskState
from budgetguard.errors import ProviderError
from budgetguard.model import TaskSeen
from budgetguard.providers import UdioPro, Vidu
from budgetguard.providers._vidu_callback import BODY_MAX
from tests.support.letters import NOW, URL, Post
from tests.support.vidu import KEY


def told(post: Post, **changes: Any) -> list[TaskSeen]:
    given: dict[str, Any] = {
        "method": post.method,
        "url": post.url,
        "headers": post.headers,
        "body": post.body,
        "secret": KEY,
        "now": NOW + 1,
    }
    return list(Vidu().verify_callback(**{**given, **changes}))


def refusal(post: Post, **changes: Any) -> CallbackError:
    with pytest.raises(CallbackError) as refused:
        told(post, **changes)
    return refused.value


# -- what is believed -----------------------------------------------------------------------------------------------


def test_the_string_of_the_documented_example_is_what_is_signed() -> None:
    date, nonce = "Tue, 06 May 2025 12:09:42 GMT", "123e4567-e89b-12d3-a456-426614174000"
    text = f"POST\n/vidu/callback\nname=james&age=36\nvidu\n{date}\nDate:{date}\nx-request-nonce:{nonce}\n"
    signature = base64.b64encode(hmac.new(b"a-token", text.encode(), hashlib.sha256).digest()).decode()
    headers = {
        "Date": date,
        "x-request-nonce": nonce,
        "X-HMAC-SIGNED-HEADERS": "Date;x-request-nonce",
        "X-HMAC-SIGNATURE": signature,
    }
    seen = Vidu().verify_callback(
        "POST",
        "http://127.0.0.1:8080/vidu/callback?name=james&age=36",
        headers,
        b'{"id": "1", "state": "success"}',
        secret="a-token",
        now=1746533382.0,
    )
    assert list(seen) == [TaskSeen("1", TaskState.SUCCEEDED)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "success"}, TaskSeen("900", TaskState.SUCCEEDED, 35)),
        ({"state": "failed", "err_code": "CreationPolicyViolation"}, TaskSeen("900", TaskState.FAILED, 35)),
        ({"state": "failed", "err_code": "UserCancelled"}, TaskSeen("900", TaskState.CANCELLED, 35)),
        ({"state": "processing"}, TaskSeen("900", TaskState.RUNNING, 35)),
        ({"state": "success", "credits": "40"}, TaskSeen("900", TaskState.SUCCEEDED, 40)),
        ({"state": "success", "credits": None}, TaskSeen("900", TaskState.SUCCEEDED)),
        ({"id": None, "task_id": "901"}, TaskSeen("901", TaskState.SUCCEEDED, 35)),
        ({"id": 902}, TaskSeen("902", TaskState.SUCCEEDED, 35)),
    ],
)
def test_a_genuine_callback_tells_the_task_its_state_and_its_charge(fields: dict[str, Any], expected: TaskSeen) -> None:
    assert told(Post(**fields)) == [expected]


def test_a_state_that_is_new_tells_nothing_and_is_no_fault() -> None:
    assert told(Post(state="pondering")) == []


def test_the_address_may_be_given_whole_or_as_path_and_query() -> None:
    post = Post()
    assert told(post, url=post.target) == told(post, url=URL) == told(post, url=f"{URL}#top")
    bare = Post(url="https://shop.example")
    assert told(bare) == told(bare, url="/")


def test_header_names_come_in_any_case() -> None:
    post = Post()
    shouted = {name.upper(): value for name, value in post.headers.items()}
    assert told(post, headers=shouted) == told(post)


def test_a_callback_may_be_five_minutes_old_and_a_minute_ahead() -> None:
    post = Post()
    assert told(post, now=NOW + 300)
    assert told(post, now=NOW - 60)
    assert refusal(post, now=NOW + 301).kind == refusal(post, now=NOW - 61).kind == "stale"
    assert told(post, now=NOW + 3600, max_age=3600.0)
    assert refusal(post, now=NOW - 30, max_age=10.0).kind == "stale"


def test_what_is_repeated_tells_the_same_again() -> None:
    post = Post()
    assert told(post) == told(post)


# -- what is not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "another-key"},
        {"method": "PUT"},
        {"url": "/hooks/vidu?batch=8"},
        {"url": "/hooks/vidu"},
        {"url": "/hooks/Vidu?batch=7"},
        {"url": "/hooks/vidu?batch=7&x=1"},
    ],
)
def test_what_is_not_signed_so_is_forged(changes: dict[str, Any]) -> None:
    assert refusal(Post(), **changes).kind == "forged"


@pytest.mark.parametrize("name", ["Date", "x-request-nonce", "X-HMAC-SIGNED-HEADERS", "X-HMAC-SIGNATURE"])
def test_each_header_of_the_signature_is_needed_and_must_be_as_signed(name: str) -> None:
    post = Post()
    without = {key: value for key, value in post.headers.items() if key != name}
    assert refusal(post, headers=without).kind == "forged"
    assert refusal(post, headers={**post.headers, name: ""}).kind == "forged"
    assert refusal(post, headers={**post.headers, name: f"{post.headers[name]}x"}).kind == "forged"


def test_a_signature_of_another_kind_is_no_signature() -> None:
    post = Post()
    refused = refusal(post, headers={**post.headers, "X-HMAC-ALGORITHM": "none"})
    assert refused.kind == "forged"
    assert "hmac-sha256" in str(refused)


@pytest.mark.parametrize("signature", ["é" * 44, "=" * 44, "\0", "A" * 10_000_000])
def test_whatever_stands_in_place_of_a_signature_is_only_wrong(signature: str) -> None:
    post = Post()
    assert refusal(post, headers={**post.headers, "X-HMAC-SIGNATURE": signature}).kind == "forged"


def test_a_line_break_cannot_move_what_is_signed_to_another_line() -> None:
    post = Post()
    split = {**post.headers, "x-request-nonce": "0001\nx-more:1", "X-HMAC-SIGNED-HEADERS": "Date;x-request-nonce"}
    assert refusal(post, headers=split).kind == "malformed"


@pytest.mark.parametrize("date", ["yesterday", "1700000000", "Tue, 99 May 2025 12:09:42 GMT", "-", "Tue, 06 May 2025"])
def test_a_date_that_cannot_be_read_is_malformed_though_it_is_signed(date: str) -> None:
    post = Post()
    from budgetguard.testing.callbacks import sign

    headers = {**post.headers, "Date": date, "X-HMAC-SIGNATURE": sign(KEY, URL, date=date, nonce="0001")}
    assert refusal(post, headers=headers).kind == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"success"',
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"state": "success"}',
        b'{"id": "", "state": "success"}',
        b'{"id": {"a": 1}, "state": "success"}',
        b'{"id": "1"}',
        b'{"id": "1", "state": 5}',
        b'{"id": "1", "state": ["success"]}',
        b'{"state": "success", "creations": [{"id": "7"}]}',
    ],
)
def test_a_body_that_tells_no_task_and_state_is_malformed(body: bytes) -> None:
    assert refusal(Post(), body=body).kind == "malformed"


def test_an_address_that_is_none_is_malformed() -> None:
    assert refusal(Post(), url="http://[::1").kind == "malformed"


def test_a_body_without_end_is_not_read() -> None:
    assert refusal(Post(), body=b" " * (BODY_MAX + 1)).kind == "too_large"


def test_a_refusal_repeats_neither_the_key_nor_what_came() -> None:
    post = Post(payload="a private note")
    for changes in ({"secret": "vda_another_key"}, {"body": b'{"secret": 1}'}, {"now": NOW + 9999}, {"method": "GET"}):
        refused = refusal(post, **changes)
        shown = f"{refused} {refused!r} {refused.__cause__!r}"
        for secret in (KEY, "vda_another_key", post.headers["X-HMAC-SIGNATURE"], "private note", "secret"):
            assert secret not in shown


def test_a_refusal_is_a_fault_of_the_provider_and_travels_between_processes() -> None:
    refused = refusal(Post(), secret="another")
    assert isinstance(refused, ProviderError)
    copy = pickle.loads(pickle.dumps(refused))  # noqa: S301 - our own
    assert (copy.kind, copy.why, str(copy)) == (refused.kind, refused.why, str(refused))


@pytest.mark.parametrize("secret", ["", None, 5, b"key"])
def test_without_a_key_nothing_can_be_checked(secret: Any) -> None:
    with pytest.raises(SettingError, match="hidden"):
        told(Post(), secret=secret)


@pytest.mark.parametrize("age", [0, -1, 86_401, True, "5", float("nan")])
def test_an_age_that_cannot_work_is_refused(age: Any) -> None:
    with pytest.raises(SettingError, match="max_age"):
        told(Post(), max_age=age)


def test_udios_callbacks_are_not_signed_so_there_is_nothing_to_verify() -> None:
    assert not hasattr(UdioPro(), "verify_callback")


@given(
    method=st.text(max_size=8),
    url=st.text(max_size=40),
    headers=st.dictionaries(
        st.sampled_from([*Post().headers, "date", "Other"]), st.text(max_size=40) | st.sampled_from(["Date", ";;"])
    ),
    body=st.binary(max_size=60) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()),
)
def test_nothing_that_comes_from_outside_raises_anything_else(
    method: str, url: str, headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(CallbackError):
        Vidu().verify_callback(method, url, headers, body, secret=KEY, now=NOW)
