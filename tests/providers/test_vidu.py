from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.errors import ReadingError, SettingError
from budgetguard.model import Balance, Capacity, Outcome, Package, Route, RouteKind, TaskSeen, TaskState, Verdict
from budgetguard.ports import Answer, Provider
from budgetguard.providers import Vidu
from tests.providers.test_fields import JSON

ROW: dict[str, Any] = {
    "type": "metered",
    "credit_remain": 500,
    "concurrency_limit": 5,
    "current_concurrency": 2,
    "queue_count": 1,
}
TEXT = Route(RouteKind.SUBMIT, "text2video")
POLL = Route(RouteKind.POLL, "tasks/{id}/creations", "812")
LIST = Route(RouteKind.LIST, "tasks")
CANCEL = Route(RouteKind.CANCEL, "tasks/{id}/cancel", "812")


def rows(*changes: dict[str, Any]) -> Answer:
    return Answer(200, body={"remains": [{**ROW, **change} for change in changes], "packages": []})


def test_it_is_a_provider_that_charges_at_submit_and_tells_of_slots() -> None:
    vidu: Provider = Vidu()
    assert (vidu.name, vidu.unit, vidu.charged_at, vidu.settlement_lag) == ("vidu", "credits", "submit", 0.0)
    assert vidu.reports_slots
    assert vidu.task_lease == 3600.0
    assert list(vidu.origins) == ["https://api.vidu.com"]


def test_the_two_hosts_are_two_accounts() -> None:
    china = Vidu.china(concurrency=3)
    assert china.origins == ("https://api.vidu.cn",)
    assert china.credits_request().url == "https://api.vidu.cn/ent/v2/credits"
    assert repr(china) == "Vidu(base_url='https://api.vidu.cn')"


def test_it_travels_between_processes() -> None:
    vidu = pickle.loads(pickle.dumps(Vidu(concurrency=3, prices={"template": {"hugging": 4}})))  # noqa: S301
    assert vidu.reading(rows({})).pools[""].limit == 3
    assert vidu.quote(Route(RouteKind.SUBMIT, "template"), {"template": "hugging"}).credits == 4


# -- routes ------------------------------------------------------------------------------------------------------------


ENDPOINTS = """
    text2video img2video start-end2video reference2video multiframe template template-story reference2image text2audio
    timing2audio audio-tts audio-clone lip-sync digital-human extend upscale-new upscale image2dance
    img2video-prompt-recommendation ad-one-click one-click/mv trending-replicate ad-one-click/edit ad-one-click/compose
    one-click/mv/edit one-click/mv/compose trending-replicate/compose replace something/new tasks credits
"""


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        *((name, name) for name in ENDPOINTS.split()),
        ("template2video", "template"),
        ("ad-one-click/812", "ad-one-click/{id}"),
        ("ad-one-click/812/edit", "ad-one-click/edit"),
        ("one-click/mv/812/compose", "one-click/mv/compose"),
        ("trending-replicate/812/edit", "trending-replicate/edit"),
        ("ad-one-click/812/more/edit", "ad-one-click/{id}"),
    ],
)
def test_every_post_counts_as_paid_work(path: str, endpoint: str) -> None:
    for address in (f"/ent/v2/{path}", f"/ent/v2/{path}/", f"//ent/v2//{path}"):
        assert Vidu().match("POST", address, {}) == Route(RouteKind.SUBMIT, endpoint)


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/ent/v2/credits", Route(RouteKind.CREDITS, "credits")),
        ("GET", "/ent/v2/credits/", Route(RouteKind.CREDITS, "credits")),
        ("GET", "/ent/v2/tasks", LIST),
        ("GET", "/ent/v2/tasks/812/creations", POLL),
        ("GET", "/ent/v2/tasks/812/creations/", POLL),
        ("POST", "/ent/v2/tasks/812/cancel", CANCEL),
        ("GET", "/ent/v2/ad-one-click/812", Route(RouteKind.POLL, "ad-one-click/{id}", "812")),
        ("GET", "/ent/v2/one-click/mv/812", Route(RouteKind.POLL, "one-click/mv/{id}", "812")),
    ],
)
def test_questions_about_tasks_and_credits_are_known(method: str, path: str, route: Route) -> None:
    assert Vidu().match(method, path, {}) == route


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/ent/v2/text2video"),
        ("GET", "/ent/v2/tasks/812"),
        ("HEAD", "/ent/v2/credits"),
        ("OPTIONS", "/ent/v2/text2video"),
        ("DELETE", "/ent/v2/tasks/812"),
        ("POST", "/ent/v2"),
        ("POST", "/ent/v2/"),
        ("POST", "/"),
        ("POST", ""),
        ("POST", "/ent/v1/text2video"),
        ("POST", "/ent/v20/text2video"),
        ("POST", "/other/ent/v2/text2video"),
        ("POST", "/tools/v2/files/uploads"),
    ],
)
def test_everything_else_is_let_pass(method: str, path: str) -> None:
    assert Vidu().match(method, path, {}) is None


@pytest.mark.parametrize("path", ["text2video", "/text2video", "/ent/v2/text2video", "ent/v2/text2video/"])
def test_an_endpoint_may_be_named_short_or_by_its_address(path: str) -> None:
    assert Vidu().quote(Route(RouteKind.SUBMIT, path), {"model": "viduq2"}).credits == 35


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    ("credits", "charge"),
    [
        ({"credits": 35}, 35),
        ({"credits": "35"}, 35),
        ({"credits": 0}, 0),
        ({}, None),
        ({"credits": None}, None),
        ({"credits": "many"}, None),
        ({"credits": -5}, None),
        ({"credits": 3.5}, None),
    ],
)
def test_an_accepted_call_tells_its_task_and_its_charge(
    status: int, credits: dict[str, Any], charge: int | None
) -> None:
    body = {"task_id": "812", "state": "created", **credits}
    assert Vidu().verdict(TEXT, Answer(status, body=body)) == Verdict(Outcome.ACCEPTED, charge, "812")


@pytest.mark.parametrize(
    ("path", "body", "task_id"),
    [
        ("text2video", {"task_id": 812}, "812"),
        ("text2video", {"credits": 5}, None),
        ("text2video", {"state": "queueing"}, None),
        ("audio-tts", {"task_id": "812", "state": "success", "credits": 5}, None),
        ("audio-clone", {"task_id": "812", "voice_id": "x"}, None),
        ("img2video-prompt-recommendation", {"id": "812", "prompts": []}, None),
        ("ad-one-click/edit", {"ad_one_click_task_id": "1", "sub_task_id": "2", "state": "created"}, "2"),
        ("ad-one-click/compose", {"ad_one_click_task_id": "1", "compose_sub_task_id": "3"}, "3"),
        ("ad-one-click/edit", {"ad_one_click_task_id": "1", "sub_task_id": "2", "state": "success"}, None),
    ],
)
def test_work_that_is_done_with_its_answer_leaves_no_task(path: str, body: Any, task_id: str | None) -> None:
    seen = Vidu().verdict(Route(RouteKind.SUBMIT, path), Answer(200, body=body))
    assert (seen.outcome, seen.task_id) == (Outcome.ACCEPTED, task_id)


@pytest.mark.parametrize(
    "body", [None, {}, [], "ok", {"ok": True}, {"reason": "New"}, {"task_id": ""}, {"state": "new"}]
)
def test_a_success_that_tells_nothing_leaves_the_outcome_unknown(body: Any) -> None:
    assert Vidu().verdict(TEXT, Answer(200, body=body, text="<html>")).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        (400, "CreditInsufficient", Outcome.INSUFFICIENT),
        (429, "QuotaExceeded", Outcome.CONCURRENCY),
        (429, "TooManyRequests", Outcome.RATE),
        (429, "SystemThrottling", Outcome.RATE),
        (400, "OperationInProcess", Outcome.RATE),
        (400, "AuditSubmitIllegal", Outcome.REJECTED),
        (400, "CreationPolicyViolation", Outcome.REJECTED),
        (400, "TaskPromptPolicyViolation", Outcome.REJECTED),
        (400, "ModelUnavailable", Outcome.REJECTED),
        (400, "UserCancelled", Outcome.REJECTED),
        (400, "BadRequest", Outcome.REJECTED),
        (400, "FieldLacking", Outcome.REJECTED),
        (400, "FieldUnwanted", Outcome.REJECTED),
        (400, "FieldItemCountOutOfRange", Outcome.REJECTED),
        (400, "FieldInvalid", Outcome.REJECTED),
        (400, "PageSizeOutOfRange", Outcome.REJECTED),
        (400, "ImageDownloadFailure", Outcome.REJECTED),
        (400, "ImageFormatInvalid", Outcome.REJECTED),
        (400, "ImageCheckBodyJointsFailed", Outcome.REJECTED),
        (400, "ImageCheckFaceFailed", Outcome.REJECTED),
        (400, "ImageObjectsUndetected", Outcome.REJECTED),
        (401, "Unauthorized", Outcome.REJECTED),
        (403, "Forbidden", Outcome.REJECTED),
        (404, "TaskNotFound", Outcome.REJECTED),
        (404, "CreationNotFound", Outcome.REJECTED),
        (404, "NotFound", Outcome.REJECTED),
        (409, "Conflict", Outcome.REJECTED),
        (499, "Canceled", Outcome.UNKNOWN),
        (500, "InternalServiceFailure", Outcome.UNKNOWN),
        # The reason wins over the status.
        (400, "QuotaExceeded", Outcome.CONCURRENCY),
        (500, "CreditInsufficient", Outcome.INSUFFICIENT),
        (200, "CreditInsufficient", Outcome.INSUFFICIENT),
        (429, "CreditInsufficient", Outcome.INSUFFICIENT),
        (400, "InternalServiceFailure", Outcome.UNKNOWN),
        (503, "SystemThrottling", Outcome.RATE),
        # Reasons nobody wrote down go by the status.
        (400, "Novel", Outcome.REJECTED),
        (503, "Novel", Outcome.UNKNOWN),
        (429, "Novel", Outcome.RATE),
    ],
)
def test_a_refusal_goes_by_its_reason_first(status: int, reason: str, outcome: Outcome) -> None:
    body = {"code": status, "reason": reason, "message": "why", "metadata": {"trace_id": "x"}}
    assert Vidu().verdict(TEXT, Answer(status, body=body)) == Verdict(outcome, reason=reason, message="why")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(status, Outcome.REJECTED) for status in (301, 302, 304, 307, 400, 401, 403, 404, 405, 409, 413, 415, 422)]
    + [(status, Outcome.UNKNOWN) for status in (100, 408, 499, 500, 502, 503, 504, 521, 599)]
    + [(402, Outcome.INSUFFICIENT), (429, Outcome.RATE)],
)
@pytest.mark.parametrize("body", [None, {}, [], {"reason": 5, "message": None}])
def test_an_answer_without_a_reason_goes_by_its_status(status: int, outcome: Outcome, body: Any) -> None:
    assert Vidu().verdict(TEXT, Answer(status, body=body, text="<html>")) == Verdict(outcome)


def test_a_refusal_tells_how_long_to_wait_where_it_says_so_in_seconds() -> None:
    answer = Answer(429, {"retry-after": "7"}, {"reason": "TooManyRequests"})
    assert Vidu().verdict(TEXT, answer).retry_after == 7.0
    answer = Answer(429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, {"reason": "TooManyRequests"})
    assert Vidu().verdict(TEXT, answer).retry_after is None


@given(st.integers(100, 599), JSON, st.dictionaries(st.sampled_from(["task_id", "credits", "reason", "state"]), JSON))
def test_any_answer_to_a_call_has_a_verdict(status: int, body: Any, fields: dict[str, Any]) -> None:
    for document in (body, fields):
        seen = Vidu().verdict(TEXT, Answer(status, body=document))
        assert seen.charge is None or seen.charge >= 0
        assert seen.outcome is not Outcome.ACCEPTED or 200 <= status < 300


# -- tasks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ({"state": "created"}, TaskSeen("812", TaskState.RUNNING)),
        ({"state": "queueing"}, TaskSeen("812", TaskState.RUNNING)),
        ({"state": "processing", "credits": "35"}, TaskSeen("812", TaskState.RUNNING, 35)),
        ({"state": "success", "err_code": "", "credits": 35}, TaskSeen("812", TaskState.SUCCEEDED, 35)),
        ({"state": "failed", "err_code": "CreationPolicyViolation"}, TaskSeen("812", TaskState.FAILED)),
        ({"state": "failed", "err_code": "UserCancelled"}, TaskSeen("812", TaskState.CANCELLED)),
        ({"state": "success", "id": "other"}, TaskSeen("812", TaskState.SUCCEEDED)),
        ({"state": "dreaming"}, None),
        ({"state": None}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_a_poll_shows_whether_the_task_runs(body: Any, seen: TaskSeen | None) -> None:
    assert list(Vidu().observe(POLL, Answer(200, body=body))) == ([] if seen is None else [seen])


def test_a_task_nobody_finds_was_not_seen() -> None:
    for status, reason in ((404, "TaskNotFound"), (500, "InternalServiceFailure"), (401, "Unauthorized")):
        answer = Answer(status, body={"code": status, "reason": reason, "state": "failed"})
        assert not Vidu().observe(POLL, answer)


def test_a_list_shows_the_tasks_whose_state_it_tells() -> None:
    tasks = [
        {"id": "1", "state": "success"},
        {"id": 2, "state": "queueing"},
        {"id": "3"},
        {"state": "failed"},
        "x",
        None,
    ]
    assert list(Vidu().observe(LIST, Answer(200, body={"tasks": tasks}))) == [
        TaskSeen("1", TaskState.SUCCEEDED),
        TaskSeen("2", TaskState.RUNNING),
    ]
    shapeless: list[Any] = [{}, {"tasks": None}, {"tasks": {"id": "1"}}, []]
    for body in shapeless:
        assert not Vidu().observe(LIST, Answer(200, body=body))


def test_a_cancelled_task_has_ended_and_one_that_was_scheduled_has_not() -> None:
    assert list(Vidu().observe(CANCEL, Answer(200, body={}))) == [TaskSeen("812", TaskState.CANCELLED)]
    scheduled = {"code": 400, "reason": "BadRequest", "message": "task state is scheduled, can not cancel"}
    for answer in (Answer(400, body=scheduled), Answer(200, body=scheduled), Answer(200, body=None), Answer(502)):
        assert not Vidu().observe(CANCEL, answer)


@given(st.sampled_from([POLL, LIST, CANCEL, TEXT, Route(RouteKind.POLL, "x")]), st.integers(100, 599), JSON, JSON)
def test_any_answer_about_tasks_can_be_looked_at(route: Route, status: int, body: Any, inner: Any) -> None:
    for document in (body, {"tasks": inner}, {"tasks": [inner, body]}, {"state": inner, "credits": body}):
        for seen in Vidu().observe(route, Answer(status, body=document)):
            assert seen.task_id


def test_a_task_is_asked_about_at_the_configured_origin_and_films_where_they_were_started() -> None:
    found = Vidu(base_url="http://127.0.0.1:8900").task_request("812")
    assert found is not None
    assert found.url == "http://127.0.0.1:8900/ent/v2/tasks/812/creations"
    assert "authorization" not in found.headers
    for path in ("ad-one-click", "one-click/mv", "trending-replicate"):
        found = Vidu().task_request("812", path=path)
        assert found is not None
        assert found.url == f"https://api.vidu.com/ent/v2/{path}/812"
        assert Vidu().match("GET", f"/ent/v2/{path}/812", {}) == Route(RouteKind.POLL, f"{path}/{{id}}", "812")
    for path in ("text2video", "ad-one-click/edit", "../x"):
        found = Vidu().task_request("812", path=path)
        assert found is not None
        assert found.url.endswith("/ent/v2/tasks/812/creations")
    assert Vidu().task_request("..") is None


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (Answer(404, body={"reason": "TaskNotFound"}), True),
        (Answer(400, body={"reason": "TaskNotFound"}), True),
        (Answer(404, body={"reason": "CreationNotFound"}), True),
        (Answer(404, body={"reason": "NotFound"}), False),
        (Answer(200, body={"reason": "TaskNotFound"}), False),
        (Answer(404, text="<html>"), False),
        (Answer(401, body={"reason": "Unauthorized"}), False),
        (Answer(404, body=["TaskNotFound"]), False),
        (Answer(404, body={"reason": ["TaskNotFound"]}), False),
    ],
)
def test_only_its_own_word_says_that_there_is_no_such_task(answer: Answer, missing: bool) -> None:
    assert Vidu().missing(POLL, answer) is missing


# -- the balance -------------------------------------------------------------------------------------------------------


def test_the_balance_is_asked_for_at_the_configured_origin() -> None:
    assert Vidu().credits_request().url == "https://api.vidu.com/ent/v2/credits"
    assert Vidu().credits_request(detail=True).url == "https://api.vidu.com/ent/v2/credits?show_detail=true"
    assert "authorization" not in Vidu().credits_request().headers


def test_the_balance_is_the_sum_over_the_types() -> None:
    answer = rows({}, {"type": "test", "credit_remain": 30, "concurrency_limit": 2, "current_concurrency": 0})
    reading = Vidu().reading(answer)
    assert reading.credits == 530
    assert reading.pools == {"": Capacity(limit=5, running=4)}
    assert reading.balances == (Balance("metered", 500, 5, 2, 1), Balance("test", 30, 2, 0, 1))
    assert reading.document is answer.body


def test_both_names_of_the_list_are_taken_and_the_one_in_use_first() -> None:
    other = {**ROW, "credit_remain": 7}
    vidu = Vidu()
    assert vidu.reading(Answer(200, body={"remaining_credits": [other]})).credits == 7
    assert vidu.reading(Answer(200, body={"remains": None, "remaining_credits": [other]})).credits == 7
    assert vidu.reading(Answer(200, body={"remains": [ROW], "remaining_credits": [ROW]})).credits == 500
    assert vidu.reading(Answer(200, body={"remains": [ROW], "remaining_credits": 7})).credits == 500


@pytest.mark.parametrize(
    "body",
    [
        {"remains": [ROW], "remaining_credits": []},
        {"remains": [], "remaining_credits": [ROW]},
        {"remains": [], "reason": "InternalServiceFailure"},
        {"remains": [], "code": 500, "reason": "InternalServiceFailure", "message": "", "metadata": {}},
    ],
)
def test_two_lists_that_contradict_each_other_and_a_list_in_an_error_are_no_balance(body: Any) -> None:
    with pytest.raises(ReadingError):
        Vidu().reading(Answer(200, body=body))


def test_an_empty_list_is_an_empty_account() -> None:
    reading = Vidu().reading(Answer(200, body={"remains": []}))
    assert (reading.credits, reading.balances) == (0, ())
    assert reading.pools == {"": Capacity(limit=None, running=0)}
    assert Vidu(concurrency=3, credit_types="metered").reading(Answer(200, body={"remains": []})).credits == 0


def test_numbers_may_be_quoted_and_unknown_types_are_kept() -> None:
    quoted = {name: str(value) for name, value in ROW.items()}
    reading = Vidu().reading(Answer(200, body={"remains": [{**quoted, "type": "festive", "colour": "red"}]}))
    assert reading.balances == (Balance("festive", 500, 5, 2, 1),)


@pytest.mark.parametrize(
    ("settings", "credits"),
    [
        ({}, 111),
        ({"credit_types": "sum"}, 111),
        ({"credit_types": "metered"}, 100),
        ({"credit_types": ("test",)}, 11),
        ({"credit_types": ("metered", "concurrent")}, 100),
    ],
)
def test_only_the_pinned_types_count(settings: dict[str, Any], credits: int) -> None:
    answer = rows(
        {"credit_remain": 100},
        {"type": "test", "credit_remain": 1, "concurrency_limit": 9},
        {"type": "test", "credit_remain": 10},
    )
    reading = Vidu(**settings).reading(answer)
    assert reading.credits == credits
    assert reading.pools == {"": Capacity(9, 9)}


def test_a_pinned_type_that_no_row_has_is_not_an_empty_balance() -> None:
    with pytest.raises(ReadingError, match=r"field remains: .*metred"):
        Vidu(credit_types="metred").reading(rows({}))


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 5),
        ({"limits": "sum"}, 7),
        ({"concurrency": 20}, 20),
        ({"provider_queue": 10}, 15),
        ({"limits": "sum", "provider_queue": 1}, 8),
        ({"concurrency": 3, "provider_queue": 2}, 5),
    ],
)
def test_the_limit_is_the_greatest_their_sum_or_the_users(settings: dict[str, Any], limit: int) -> None:
    reading = Vidu(**settings).reading(rows({}, {"type": "test", "concurrency_limit": 2}))
    assert reading.pools[""].limit == limit


def test_waiting_tasks_count_as_running() -> None:
    assert Vidu().reading(rows({"current_concurrency": 5, "queue_count": 990})).pools[""].running == 995


@pytest.mark.parametrize("name", sorted(ROW))
@pytest.mark.parametrize("value", [None, "", True, [], {}, -1, 1.5, float("nan")])
def test_a_wrong_field_is_named_and_never_a_zero(name: str, value: Any) -> None:
    with pytest.raises(ReadingError) as raised:
        Vidu().reading(rows({}, {name: value}))
    assert raised.value.field == f"remains[1].{name}"


@pytest.mark.parametrize("name", sorted(ROW))
def test_a_missing_field_is_named(name: str) -> None:
    row = {key: value for key, value in ROW.items() if key != name}
    with pytest.raises(ReadingError) as raised:
        Vidu().reading(Answer(200, body={"remaining_credits": [row]}))
    assert raised.value.field == f"remaining_credits[0].{name}"
    assert "is missing" in str(raised.value)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "remains"),
        ({"remains": None}, "remains"),
        ({"Remains": []}, "remains"),
        ({"remains": {}}, "remains"),
        ({"remains": 500}, "remains"),
        ({"remains": "[]"}, "remains"),
        ({"remains": [500]}, "remains[0]"),
        ({"remains": [ROW, None]}, "remains[1]"),
        ({"remains": [], "packages": {}}, "packages"),
        ({"remains": [], "packages": [{}]}, "packages[0].credit_remain"),
        ({"remains": [{**ROW, "credit_remain": 10**15}] * 2}, "remains"),
        ({"code": 0, "message": "ok"}, "remains"),
        (None, ""),
        ([], ""),
        ("500", ""),
        (500, ""),
    ],
)
def test_an_answer_of_another_shape_is_no_reading(body: Any, field: str) -> None:
    with pytest.raises(ReadingError) as raised:
        Vidu().reading(Answer(200, body=body))
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "key was refused"),
        (403, "base_url"),
        (404, "base_url"),
        (429, "fewer requests"),
        (500, "HTTP 500"),
        (302, "HTTP 302"),
        (100, "HTTP 100"),
    ],
)
def test_a_refused_question_says_what_happened_and_not_what_the_provider_repeated(status: int, told: str) -> None:
    body = {"code": status, "reason": "Unauthorized", "message": "no such key vda_1234", "remains": []}
    with pytest.raises(ReadingError) as raised:
        Vidu().reading(Answer(status, body=body))
    assert told in str(raised.value)
    assert "Unauthorized" in str(raised.value)
    assert "vda_1234" not in str(raised.value)
    with pytest.raises(ReadingError) as raised:
        Vidu().reading(Answer(status, body={"reason": "key vda_1234"}))
    assert "vda_1234" not in str(raised.value)


def test_packages_are_listed_with_their_validity_where_told() -> None:
    package = {
        "id": "p1",
        "name": "Starter",
        "type": "metered",
        "concurrency": "5",
        "credit_amount": 1000,
        "credit_remain": "400",
        "created_at": "2026-01-01",
        "valid_from": "2026-01-01",
        "valid_to": "2027-01-01",
    }
    reading = Vidu().reading(Answer(200, body={"remains": [], "packages": [package, {"credit_remain": 0}]}))
    assert reading.packages == (
        Package("p1", "Starter", "metered", 400, 1000, 5, "2026-01-01", "2027-01-01"),
        Package("", "", "", 0),
    )
    absent: list[dict[str, Any]] = [{}, {"packages": None}, {"packages": []}]
    for nothing in absent:
        assert Vidu().reading(Answer(200, body={"remains": [], **nothing})).packages == ()


ODD_ROWS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(ROW, JSON)) | JSON, max_size=3)


@given(
    st.sampled_from([200, 201, 204, 301, 401, 500]), JSON, ODD_ROWS, st.sampled_from(["remains", "remaining_credits"])
)
def test_any_answer_is_a_reading_or_a_reading_error(status: int, body: Any, odd: list[Any], name: str) -> None:
    for document in (
        body,
        {name: odd},
        {name: body},
        {name: [{**ROW, "credit_remain": body}]},
        {name: [], "packages": odd},
    ):
        try:
            reading = Vidu().reading(Answer(status, body=document))
        except ReadingError:
            continue
        assert 200 <= status < 300
        # Only a list that is really empty, or rows that really say 0, are an empty balance.
        listed = document["remains"] if document.get("remains") is not None else document["remaining_credits"]
        assert reading.credits == sum(int(float(row["credit_remain"])) for row in listed)


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Token vda_1", "vda_1"),
        ("token vda_1", "vda_1"),
        ("TOKEN   vda_1 ", "vda_1"),
        ("Bearer vda_1", None),
        ("vda_1", None),
        ("Token", None),
        ("Token ", None),
        ("Token a b", None),
        ("Tokenvda_1", None),
        ("", None),
    ],
)
def test_the_key_follows_the_word_token(header: str, key: str | None) -> None:
    assert Vidu().key_of({"authorization": header}) == key
    assert Vidu().key_of({"x-api-key": "vda_1"}) is None


def test_a_key_is_found_again_in_the_header_that_carries_it() -> None:
    headers = Vidu().authorize("vda_1")
    assert headers == {"Authorization": "Token vda_1"}
    assert Vidu().key_of({name.lower(): value for name, value in headers.items()}) == "vda_1"


@pytest.mark.parametrize("key", ["", "vda_1\n", "vda_1\r\nX-Evil: 1", "vda 1", "vda_1\0", "vdä_1", " vda_1"])
def test_a_key_that_cannot_be_a_header_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(SettingError) as raised:
        Vidu().authorize(key)
    assert "vd" not in str(raised.value)
    assert "vd" not in repr(raised.value.value)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://api.vidu.com", "https://api.vidu.com"),
        ("https://api.vidu.com/", "https://api.vidu.com"),
        ("https://api.vidu.com/ent/v2", "https://api.vidu.com"),
        ("https://api.vidu.com/ent/v2/", "https://api.vidu.com"),
        ("HTTPS://API.Vidu.com:443", "https://api.vidu.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://proxy.example:80", "https://proxy.example:80"),
    ],
)
def test_an_origin_is_written_in_one_way(base_url: str, origin: str) -> None:
    assert Vidu(base_url=base_url).origins == (origin,)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.vidu.com",
        "//api.vidu.com",
        "ftp://api.vidu.com",
        "https://",
        "https:///ent/v2",
        "https://api.vidu.com/v3",
        "https://api.vidu.com?x=1",
        "https://api.vidu.com#x",
        "https://api.vidu.com:port",
        "https://api.vidu.com:99999",
        "https://u:hunter2@api.vidu.com",
        "https://u@api.vidu.com:x",
        "https://api.vidu.com?token=hunter2",
        "https://a b",
        "https://api.vidu.com\n",
        "https://äpi.vidu.com",
        "https://evil.example\\@api.vidu.com",
        "https://[::1",
        None,
        5,
    ],
)
def test_an_address_that_is_no_origin_is_refused_without_showing_secrets(base_url: Any) -> None:
    with pytest.raises(SettingError, match=r"^base_url=") as raised:
        Vidu(base_url=base_url)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("credit_types", value) for value in ("", (), ("",), ["metered"], None, 5, (5,))]
    + [("limits", value) for value in ("min", None, 5)]
    + [("concurrency", value) for value in (0, -1, 1.5, True, "5")]
    + [("provider_queue", value) for value in (-1, None, True, 0.5)]
    + [("source_seconds_max", value) for value in (0, -1, 1.5, True)]
    + [("task_lease", value) for value in (0, -1, None, True, float("nan"), float("inf"), "60")],
)
def test_a_setting_that_cannot_work_is_named(name: str, value: Any) -> None:
    with pytest.raises(SettingError) as raised:
        Vidu(**{name: value})
    assert raised.value.name == name


def test_the_lease_of_tasks_is_the_users_choice() -> None:
    assert Vidu(task_lease=60).task_lease == 60.0
