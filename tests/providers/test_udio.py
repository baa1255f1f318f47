from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard._version import __version__
from budgetguard.errors import ReadingError, SettingError, UnknownPrice
from budgetguard.model import Capacity, Outcome, Route, RouteKind, TaskSeen, TaskState, Verdict
from budgetguard.ports import Answer, Provider
from budgetguard.providers import UdioPro
from tests.providers.test_fields import JSON

GENERATE = Route(RouteKind.SUBMIT, "generate")
FEED = Route(RouteKind.POLL, "feed", "gen2a")
COVER = Route(RouteKind.POLL, "cover/status", "cover1")


def test_it_is_a_provider_that_charges_at_submit_and_tells_nothing_of_slots() -> None:
    udio: Provider = UdioPro()
    assert (udio.name, udio.unit, udio.charged_at, udio.settlement_lag) == ("udio", "credits", "submit", 0.0)
    assert not udio.reports_slots
    assert udio.task_lease == 900.0
    assert list(udio.origins) == ["https://udioapi.pro"]


def test_a_white_label_copy_is_another_origin() -> None:
    udio = UdioPro(base_url="https://altrix.udioapi.pro/")
    assert udio.origins == ("https://altrix.udioapi.pro",)
    assert udio.credits_request().url == "https://altrix.udioapi.pro/api/v2/credits"
    assert repr(udio) == "UdioPro(base_url='https://altrix.udioapi.pro')"


def test_it_travels_between_processes() -> None:
    udio = pickle.loads(pickle.dumps(UdioPro(prices={"calls": {"lyrics": 2}})))  # noqa: S301
    assert udio.quote(Route(RouteKind.SUBMIT, "lyrics"), None).credits == 2


# -- routes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "query", "route"),
    [
        ("POST", "/api/v2/generate", {}, GENERATE),
        ("POST", "/api/v2/generate/", {}, GENERATE),
        ("POST", "/api/generate", {}, GENERATE),
        ("POST", "/api/v2/extend", {}, Route(RouteKind.SUBMIT, "extend")),
        ("POST", "/api/v2/upload-cover/generate", {}, Route(RouteKind.SUBMIT, "upload-cover/generate")),
        ("POST", "/api/v2/cover/generate", {}, Route(RouteKind.SUBMIT, "cover/generate")),
        ("POST", "/api/v2/something/new", {}, Route(RouteKind.SUBMIT, "something/new")),
        ("GET", "/api/v2/feed", {"workId": "gen2a"}, FEED),
        ("GET", "/api/feed", {"workId": "gen2a"}, FEED),
        ("GET", "/api/v2/feed", {}, Route(RouteKind.POLL, "feed")),
        ("GET", "/api/v2/feed", {"workId": ""}, Route(RouteKind.POLL, "feed")),
        ("GET", "/api/v2/cover/status", {"task_id": "cover1"}, COVER),
        ("GET", "/api/v2/credits", {}, Route(RouteKind.CREDITS, "credits")),
        ("GET", "/api/v2/generate", {}, None),
        ("HEAD", "/api/v2/credits", {}, None),
        ("POST", "/api", {}, None),
        ("POST", "/", {}, None),
        ("POST", "/login", {}, None),
        ("POST", "/v2/generate", {}, None),
    ],
)
def test_requests_are_told_apart(method: str, path: str, query: dict[str, str], route: Route | None) -> None:
    assert UdioPro().match(method, path, query) == route


# -- prices ------------------------------------------------------------------------------------------------------------

MODELS = {
    "chirp-v3-5": 5,
    "chirp-v4-0": 8,
    "chirp-v4": 8,
    "chirp-v4-5": 10,
    "chirp-v4-5-plus": 10,
    "chirp-v5": 12,
    "chirp-v5-5": 12,
}


@pytest.mark.parametrize(("model", "credits"), sorted(MODELS.items()))
@pytest.mark.parametrize("path", ["generate", "/api/v2/generate", "v2/extend", "upload-cover/generate"])
def test_songs_cost_by_model(path: str, model: str, credits: int) -> None:
    quote = UdioPro().quote(Route(RouteKind.SUBMIT, path), {"model": model})
    assert (quote.credits, quote.credits_min, quote.slots, quote.task_lease) == (credits, None, 1, None)


def test_a_song_without_a_model_is_of_the_default_model() -> None:
    for body in ({}, {"model": None}):
        quote = UdioPro().quote(GENERATE, body)
        assert (quote.credits, quote.credits_min) == (5, None)
        assert quote.source == "udio prices 2026-08-30, generate chirp-v3-5"


@pytest.mark.parametrize("path", ["extend", "upload-cover/generate"])
def test_extending_a_song_of_unknown_model_holds_the_dearest(path: str) -> None:
    quote = UdioPro().quote(Route(RouteKind.SUBMIT, path), {"origin_task_id": "gen2a"})
    assert (quote.credits, quote.credits_min) == (12, 5)


def test_a_cover_image_costs_one_whatever_its_body() -> None:
    for body in ({"taskId": "gen2a"}, {}, None):
        assert UdioPro().quote(Route(RouteKind.SUBMIT, "cover/generate"), body).credits == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("generate", {"model": "chirp-v6"}),
        ("generate", {"model": ""}),
        ("generate", {"model": 5}),
        ("generate", {"model": True}),
        ("generate", {"model": []}),
        ("generate", None),
        ("generate", []),
        ("extend", {"model": "chirp-v6"}),
        ("lyrics", {}),
        ("", {}),
    ],
)
def test_what_the_list_does_not_cover_has_no_price(path: str, body: Any) -> None:
    with pytest.raises(UnknownPrice) as raised:
        UdioPro().quote(Route(RouteKind.SUBMIT, path), body)
    assert raised.value.what.startswith(f"udio {path}")


def test_prices_may_be_changed_and_added(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('date = "2027-01-01"\n[models]\nchirp-v6 = 20\n[calls]\nlyrics = 0\n', encoding="utf-8")
    own = UdioPro(prices=path)
    assert own.quote(GENERATE, {"model": "chirp-v6"}).credits == 20
    assert own.quote(Route(RouteKind.SUBMIT, "extend"), {}).credits == 20
    assert own.quote(Route(RouteKind.SUBMIT, "lyrics"), {}).credits == 0
    assert own.quote(GENERATE, {}).source == "udio prices 2027-01-01, generate chirp-v3-5"
    assert "with changes" in UdioPro(prices={"models": {"chirp-v5": 13}}).quote(GENERATE, {}).source


@pytest.mark.parametrize(
    ("prices", "key"),
    [
        (5, "prices"),
        ({"model": {}}, "prices"),
        ({"models": 5}, "prices.models"),
        ({"models": {"chirp-v5": 1.5}}, "prices.models.chirp-v5"),
        ({"calls": {"lyrics": -1}}, "prices.calls.lyrics"),
        ("/nowhere/own.toml", "prices"),
    ],
)
def test_a_wrong_price_is_a_wrong_setting_and_named_by_its_path(prices: Any, key: str) -> None:
    with pytest.raises(SettingError) as raised:
        UdioPro(prices=prices)
    assert raised.value.name == key


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "message": "success", "workId": "gen2a", "data": {"task_id": "gen2a"}},
        {"code": 200, "message": "success", "workId": "gen2a"},
        {"code": 200, "message": "success", "data": {"task_id": "gen2a"}},
        {"code": 200, "msg": "success", "data": {"taskId": "gen2a"}},
        {"code": "200", "workId": "gen2a", "data": None},
        {"workId": "gen2a"},
    ],
)
def test_an_accepted_call_tells_its_task_and_never_a_charge(body: Any) -> None:
    assert UdioPro().verdict(GENERATE, Answer(200, body=body)) == Verdict(Outcome.ACCEPTED, None, "gen2a")


@pytest.mark.parametrize("body", [None, [], {}, {"code": 200}, {"code": 200, "data": {}}, {"code": 200, "workId": ""}])
def test_a_success_that_names_no_task_leaves_the_outcome_unknown(body: Any) -> None:
    assert UdioPro().verdict(GENERATE, Answer(200, body=body)).outcome is Outcome.UNKNOWN


CODES = [
    (302, Outcome.REJECTED),
    (400, Outcome.REJECTED),
    (401, Outcome.REJECTED),
    (402, Outcome.INSUFFICIENT),
    (403, Outcome.REJECTED),
    (404, Outcome.REJECTED),
    (408, Outcome.UNKNOWN),
    (429, Outcome.RATE),
    (499, Outcome.UNKNOWN),
    (500, Outcome.UNKNOWN),
    (503, Outcome.UNKNOWN),
    (521, Outcome.UNKNOWN),
]


@pytest.mark.parametrize(("code", "outcome"), CODES)
@pytest.mark.parametrize("word", ["message", "msg"])
def test_the_code_counts_whatever_the_status(code: int, outcome: Outcome, word: str) -> None:
    for status in (200, code, 500):
        answer = Answer(status, body={"code": code, word: "why"})
        assert UdioPro().verdict(GENERATE, answer) == Verdict(outcome, reason=str(code), message="why")


@pytest.mark.parametrize(("status", "outcome"), CODES)
@pytest.mark.parametrize("body", [{}, {"code": None}, {"code": 0}, {"code": 1010}, {"code": "no"}])
def test_without_a_code_the_status_counts(status: int, outcome: Outcome, body: Any) -> None:
    assert UdioPro().verdict(GENERATE, Answer(status, body=body)).outcome is outcome


@pytest.mark.parametrize(("status", "outcome"), CODES)
def test_a_page_in_place_of_json_goes_by_its_status(status: int, outcome: Outcome) -> None:
    assert UdioPro().verdict(GENERATE, Answer(status, text="<html>")).outcome is outcome


def test_a_client_turned_away_at_the_door_hears_of_its_user_agent() -> None:
    page = Answer(403, text="error code: 1010")
    verdict = UdioPro().verdict(GENERATE, page)
    assert verdict.outcome is Outcome.REJECTED
    assert "User-Agent" in verdict.message
    with pytest.raises(ReadingError, match="User-Agent"):
        UdioPro().reading(page)


def test_a_rate_refusal_tells_how_long_to_wait() -> None:
    answer = Answer(200, {"retry-after": "9"}, {"code": 429, "message": "slow down"})
    assert UdioPro().verdict(GENERATE, answer).retry_after == 9.0


@given(st.integers(100, 599), JSON, st.dictionaries(st.sampled_from(["code", "workId", "data", "message"]), JSON))
def test_any_answer_to_a_call_has_a_verdict(status: int, body: Any, fields: dict[str, Any]) -> None:
    for document in (body, fields):
        seen = UdioPro().verdict(GENERATE, Answer(status, body=document))
        assert seen.charge is None
        assert (seen.task_id is not None) == (seen.outcome is Outcome.ACCEPTED)


# -- tasks -------------------------------------------------------------------------------------------------------------

DONE = {"status": "complete", "audio_url": "x", "fail_message": "", "error_message": None}
TEXT = {"status": "text"}
FIRST = {"status": "first"}
FAILED = {"status": "text", "fail_message": "moderated"}
ERROR = {"status": "text", "error_message": "boom"}
RUNNING, SUCCEEDED, FAILURE = TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.FAILED


@pytest.mark.parametrize(
    ("kind", "items", "state"),
    [
        ("IN_PROGRESS", [], RUNNING),
        ("IN_PROGRESS", None, RUNNING),
        ("IN_PROGRESS", [TEXT, TEXT], RUNNING),
        ("IN_PROGRESS", [DONE, FIRST], RUNNING),
        ("IN_PROGRESS", [DONE], RUNNING),
        ("IN_PROGRESS", [DONE, DONE], SUCCEEDED),
        # The type runs ahead of the songs.
        ("SUCCESS", [], RUNNING),
        ("SUCCESS", [TEXT, TEXT], RUNNING),
        ("SUCCESS", [DONE, FIRST], RUNNING),
        ("SUCCESS", [DONE, {}], RUNNING),
        ("SUCCESS", [DONE, None], RUNNING),
        ("SUCCESS", [DONE, DONE], SUCCEEDED),
        ("success", [DONE], SUCCEEDED),
        ("SUCCESS", [DONE, FAILED], SUCCEEDED),
        ("SUCCESS", [ERROR, DONE], SUCCEEDED),
        ("SUCCESS", [FAILED, TEXT], RUNNING),
        ("SUCCESS", [FAILED, ERROR], FAILURE),
        ("SUCCESS", [{"status": "failed"}, FAILED], FAILURE),
        ("FAIL", [], FAILURE),
        ("FAILED", None, FAILURE),
        ("FAILED", [TEXT, TEXT], FAILURE),
        ("FAILED", [DONE, TEXT], SUCCEEDED),
        ("complete", [{"audio_url": "x"}, {"audio_url": "y"}], SUCCEEDED),
        ("first", [DONE, TEXT], RUNNING),
        (None, [DONE, DONE], SUCCEEDED),
        (None, [DONE, TEXT], RUNNING),
        (None, [], None),
        (5, None, None),
    ],
)
def test_a_song_call_has_ended_when_every_song_has(kind: Any, items: Any, state: TaskState | None) -> None:
    data = {"type": kind, "response_data": items, "created_at": "x"}
    expected = [] if state is None else [TaskSeen("gen2a", state)]
    assert (
        list(UdioPro().observe(FEED, Answer(200, body={"code": 200, "message": "success", "data": data}))) == expected
    )
    assert list(UdioPro().observe(FEED, Answer(200, body=data))) == expected


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("IN_PROGRESS", RUNNING),
        ("SUCCESS", SUCCEEDED),
        ("FAILED", FAILURE),
        ("fail", FAILURE),
        ("ODD", None),
        (None, None),
    ],
)
def test_a_cover_image_has_ended_when_its_status_says_so(status: Any, state: TaskState | None) -> None:
    body = {"code": 200, "msg": "success", "data": {"taskId": "cover1", "status": status, "images": None}}
    assert list(UdioPro().observe(COVER, Answer(200, body=body))) == (
        [] if state is None else [TaskSeen("cover1", state)]
    )


@pytest.mark.parametrize(
    ("route", "answer"),
    [
        (FEED, Answer(200, body={"code": 404, "message": "no such work", "data": {"type": "FAILED"}})),
        (FEED, Answer(500, body={"data": {"type": "FAILED"}})),
        (FEED, Answer(200, body={"code": 200, "data": None})),
        (FEED, Answer(200, body={"code": 200, "data": []})),
        (FEED, Answer(200, body=[])),
        (FEED, Answer(502, text="<html>")),
        (Route(RouteKind.POLL, "feed"), Answer(200, body={"code": 200, "data": {"type": "FAILED"}})),
        (GENERATE, Answer(200, body={"code": 200, "data": {"type": "FAILED"}})),
    ],
)
def test_what_cannot_be_read_was_not_seen(route: Route, answer: Answer) -> None:
    assert not UdioPro().observe(route, answer)


@given(st.sampled_from([FEED, COVER, GENERATE]), st.integers(100, 599), JSON, JSON)
def test_any_answer_about_tasks_can_be_looked_at(route: Route, status: int, body: Any, inner: Any) -> None:
    for document in (body, {"data": inner}, {"data": {"type": inner, "response_data": [body]}, "code": 200}):
        assert len(UdioPro().observe(route, Answer(status, body=document))) <= 1


def test_a_song_is_asked_about_at_the_feed_and_a_cover_at_its_own_address() -> None:
    for path, url in (
        ("", "https://udioapi.pro/api/v2/feed?workId=gen2%26a"),
        ("extend", "https://udioapi.pro/api/v2/feed?workId=gen2%26a"),
        ("cover/generate", "https://udioapi.pro/api/v2/cover/status?task_id=gen2%26a"),
    ):
        request = UdioPro(user_agent="studio/2").task_request("gen2&a", path=path)
        assert request is not None
        assert (request.url, request.headers["user-agent"]) == (url, "studio/2")
        assert "authorization" not in request.headers
    assert UdioPro().task_request("a/b") is None


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (Answer(400, body={"code": 400, "message": "invalid workId"}), True),
        (Answer(200, body={"code": 404, "message": "not found"}), True),
        (Answer(404, body={"detail": "a proxy's"}), False),
        (Answer(404, text="<html>"), False),
        (Answer(200, body={"code": 200, "data": {}}), False),
        (Answer(401, body={"code": 401}), False),
        (Answer(200, body={"code": 500}), False),
        (Answer(200, body={"code": 429}), False),
    ],
)
def test_only_the_envelope_says_that_there_is_no_such_task(answer: Answer, missing: bool) -> None:
    assert UdioPro().missing(FEED, answer) is missing


# -- the balance -------------------------------------------------------------------------------------------------------


def balance(credits: Any, **envelope: Any) -> dict[str, Any]:
    return {"code": 200, "message": "success", "data": {"credits": credits, "used_credits": 5}, **envelope}


def test_the_question_for_the_balance_names_its_user_agent() -> None:
    request = UdioPro().credits_request(detail=True)
    assert request.url == "https://udioapi.pro/api/v2/credits"
    assert request.headers["user-agent"] == f"budgetguard/{__version__}"
    assert UdioPro(user_agent="studio/2").credits_request().headers["user-agent"] == "studio/2"


@pytest.mark.parametrize(("credits", "read"), [(195, 195), ("195", 195), (195.0, 195), (0, 0)])
def test_the_balance_is_read(credits: Any, read: int) -> None:
    body = balance(credits)
    reading = UdioPro().reading(Answer(200, body=body))
    assert reading.credits == read
    assert reading.pools == {"": Capacity(limit=4, running=None)}
    assert reading.document is body


def test_the_limit_is_the_users_or_none() -> None:
    assert UdioPro(concurrency=9).reading(Answer(200, body=balance(1))).pools[""].limit == 9
    assert UdioPro(concurrency=None).reading(Answer(200, body=balance(1))).pools[""].limit is None


def test_the_code_counts_before_the_status_for_the_balance_too() -> None:
    assert UdioPro().reading(Answer(500, body=balance(195))).credits == 195
    with pytest.raises(ReadingError, match="code 500, HTTP 200"):
        UdioPro().reading(Answer(200, body=balance(195, code=500)))


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        (Answer(200, body=balance(None)), "data.credits"),
        (Answer(200, body=balance(-1)), "data.credits"),
        (Answer(200, body=balance(True)), "data.credits"),
        (Answer(200, body=balance("much")), "data.credits"),
        (Answer(200, body=balance(1.5)), "data.credits"),
        (Answer(200, body={"code": 200, "data": {"used_credits": 5}}), "data.credits"),
        (Answer(200, body={"code": 200, "data": {"remaining": 5}}), "data.credits"),
        (Answer(200, body={"code": 200, "credits": 5}), "data"),
        (Answer(200, body={"code": 200, "data": None}), "data"),
        (Answer(200, body={"code": 200, "data": [5]}), "data"),
        (Answer(200, body={}), "data"),
        (Answer(200, body=[]), ""),
        (Answer(200, text="<html>"), ""),
        (Answer(500, text="<html>"), ""),
    ],
)
def test_an_answer_of_another_shape_is_no_reading(answer: Answer, field: str) -> None:
    with pytest.raises(ReadingError) as raised:
        UdioPro().reading(answer)
    assert raised.value.field == field


def test_data_of_another_shape_is_told_from_data_that_is_missing() -> None:
    for body, told in (({"code": 200, "data": None}, "is not an object"), ({"code": 200}, "is missing")):
        with pytest.raises(ReadingError, match=told):
            UdioPro().reading(Answer(200, body=body))


@pytest.mark.parametrize(
    ("code", "told"),
    [(401, "key was refused"), (403, "key was refused"), (404, "base_url"), (429, "fewer requests"), (500, "code 500")],
)
def test_a_refused_question_says_what_happened_and_not_what_the_provider_repeated(code: int, told: str) -> None:
    for status in (200, code):
        with pytest.raises(ReadingError, match=told) as raised:
            UdioPro().reading(Answer(status, body={"code": code, "message": "bad key sk-12"}))
        assert "sk-12" not in str(raised.value)


@given(st.sampled_from([200, 201, 302, 403, 500]), JSON)
def test_any_answer_is_a_reading_or_a_reading_error(status: int, body: Any) -> None:
    for document in (body, {"data": body}, {"data": {"credits": body}}, balance(body), balance(5, code=body)):
        try:
            reading = UdioPro().reading(Answer(status, body=document))
        except ReadingError:
            continue
        assert reading.credits == int(float(document["data"]["credits"]))


# -- keys and settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "key"),
    [("Bearer sk-1", "sk-1"), ("bearer  sk-1 ", "sk-1"), ("Token sk-1", None), ("Bearer", None), ("Bearer a b", None)],
)
def test_the_key_follows_the_word_bearer(header: str, key: str | None) -> None:
    assert UdioPro().key_of({"authorization": header}) == key
    assert UdioPro().key_of({}) is None


def test_a_key_is_carried_in_the_same_header_and_a_wrong_one_is_not_shown() -> None:
    assert UdioPro().authorize("sk-1") == {"Authorization": "Bearer sk-1"}
    for key in ("", "sk-1\n", "sk 1"):
        with pytest.raises(SettingError) as raised:
            UdioPro().authorize(key)
        assert "sk" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("base_url", value) for value in ("udioapi.pro", "https://udioapi.pro/api", "https://k@udioapi.pro", None)]
    + [("concurrency", value) for value in (0, -1, 1.5, True, "4")]
    + [("user_agent", value) for value in ("", "a\nb", " a", "ä", None)]
    + [("task_lease", value) for value in (0, None, True, float("nan"))],
)
def test_a_setting_that_cannot_work_is_named(name: str, value: Any) -> None:
    with pytest.raises(SettingError) as raised:
        UdioPro(**{name: value})
    assert raised.value.name == name
