import base64
import hashlib
import hmac
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from budgetguard.errors import SettingError
from budgetguard.model import Outcome, RouteKind, TaskState
from budgetguard.ports import Answer
from budgetguard.providers import Vidu
from budgetguard.testing import FakeVidu, ManualClock, SystemClock
from budgetguard.testing.vidu_tables import REFUSALS
from tests.testing.listener import Listener

SUBMIT = "/ent/v2/text2video"
CREDITS = "/ent/v2/credits"
BODY = {"model": "viduq2", "prompt": "a cat", "duration": 5, "resolution": "720p", "payload": "mine"}
PRICE = 35


class Scene:
    """A fake on a manual clock, with a client that needs no socket."""

    def __init__(self, credits: int = 500, limit: int | None = 5, *, key: str = "key-1", **settings: Any) -> None:
        self.clock = ManualClock()
        settings.setdefault("duration", 10.0)
        self.fake = FakeVidu(credits, limit, clock=self.clock, **settings)
        self.client = self.as_key(key)

    def as_key(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Token {key}"}
        return httpx.Client(transport=self.fake.transport(), base_url="http://fake", headers=headers)

    def submit(self, **fields: Any) -> httpx.Response:
        return self.client.post(SUBMIT, json={**BODY, **fields})

    def task(self, **fields: Any) -> str:
        answer = self.submit(**fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    def poll(self, task_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"/ent/v2/tasks/{task_id}/creations").json())

    def cancel(self, task_id: str) -> httpx.Response:
        return self.client.post(f"/ent/v2/tasks/{task_id}/cancel", json={"id": task_id})

    def rows(self, query: str = "") -> list[dict[str, Any]]:
        return list(self.client.get(f"{CREDITS}{query}").json()[self.fake.field])


@pytest.fixture
def scene() -> Scene:
    return Scene()


# Submits and polls ----------------------------------------------------------------------------------------------------


def test_a_submit_is_priced_by_the_library_and_says_what_it_cost(scene: Scene) -> None:
    answer = scene.submit().json()
    assert (answer["state"], answer["credits"], answer["payload"]) == ("created", PRICE, "mine")
    assert answer["created_at"] == "2026-01-01T00:00:00.000000Z"
    assert scene.fake.credits == 500 - PRICE


def test_a_call_without_a_known_price_costs_the_default() -> None:
    scene = Scene(default_price=77)
    assert scene.submit(model="viduq99").json()["credits"] == 77


def test_a_charge_can_be_a_number_or_a_function_of_path_and_body() -> None:
    assert Scene(charge=3).submit().json()["credits"] == 3
    scene = Scene(charge=lambda path, body: len(path) + int(body["duration"]))
    assert scene.submit().json()["credits"] == len("text2video") + 5


def test_the_reported_charge_can_be_missing_quoted_or_wrong(scene: Scene) -> None:
    scene.fake.quoted = True
    task_id = scene.task()
    assert scene.poll(task_id)["credits"] == "35"
    scene.fake.report_charge = False
    assert "credits" not in scene.submit().json()
    assert "credits" not in scene.poll(task_id)
    scene.fake.quoted = False
    scene.fake.report_charge = lambda charge: charge + 5
    assert scene.submit().json()["credits"] == 40
    scene.fake.report_charge = lambda charge: None
    assert "credits" not in scene.submit().json()
    assert scene.fake.credits == 500 - 4 * PRICE


def test_a_task_goes_from_waiting_over_running_to_success() -> None:
    scene = Scene(limit=1)
    scene.task()
    task_id = scene.task()
    assert scene.poll(task_id)["state"] == "queueing"
    scene.clock.advance(10)
    assert scene.poll(task_id)["state"] == "processing"
    scene.clock.advance(10)
    done = scene.poll(task_id)
    assert (done["state"], done["err_code"], len(done["creations"])) == ("success", "", 1)


def test_a_task_ordered_to_fail_says_why_and_may_be_refunded(scene: Scene) -> None:
    scene.fake.fail_next_task(refund=True)
    scene.fake.fail_next_task("ImageDownloadFailure")
    first, second = scene.task(), scene.task()
    scene.clock.advance(10)
    assert (scene.poll(first)["state"], scene.poll(first)["err_code"]) == ("failed", "CreationPolicyViolation")
    assert scene.poll(second)["err_code"] == "ImageDownloadFailure"
    assert scene.fake.credits == 500 - PRICE


def test_only_waiting_tasks_can_be_cancelled() -> None:
    scene = Scene(limit=1)
    running, waiting = scene.task(), scene.task()
    answer = scene.cancel(running)
    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
    assert answer.json()["message"] == "task state is scheduled, can not cancel"
    answer = scene.cancel(waiting)
    assert (answer.status_code, answer.json()) == (200, {})
    assert (scene.poll(waiting)["state"], scene.poll(waiting)["err_code"]) == ("failed", "UserCancelled")
    assert scene.fake.credits == 500 - PRICE
    assert scene.cancel(waiting).status_code == 400
    assert scene.cancel("nobody").json()["reason"] == "TaskNotFound"
    assert scene.fake.journal.requests("cancel") == 4


def test_off_peak_tasks_expire_after_48_hours_with_a_refund(scene: Scene) -> None:
    scene.fake.off_peak_delay = None
    task_id = scene.task(off_peak=True)
    scene.clock.advance(48 * 3600)
    assert scene.poll(task_id)["state"] == "failed"
    assert scene.fake.credits == 500
    assert scene.fake.journal.summary()["expired"] == 1


def test_voices_are_cloned_while_one_waits(scene: Scene) -> None:
    answer = scene.client.post("/ent/v2/audio-clone", json={"audio_url": "u", "voice_id": "v", "text": "t"})
    assert answer.json()["state"] == "success"
    assert scene.fake.state.running == 0


def test_films_are_asked_for_by_their_own_path() -> None:
    scene = Scene(charge=1)
    answer = scene.client.post("/ent/v2/one-click/mv", json={})
    film = answer.json()["task_id"]
    assert scene.client.get(f"/ent/v2/one-click/mv/{film}").json()["state"] == "processing"
    assert scene.client.post(f"/ent/v2/one-click/mv/{film}/compose", json={}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/ent/v2/nothing"), ("POST", "/ent/v2/nothing"), ("GET", SUBMIT)]
)
def test_what_does_not_exist_is_not_found(scene: Scene, method: str, path: str) -> None:
    answer = scene.client.request(method, path)
    assert (answer.status_code, answer.json()["reason"]) == (404, "NotFound")
    assert scene.fake.journal.submits == 0


def test_a_body_that_is_not_an_object_is_a_bad_request(scene: Scene) -> None:
    assert scene.client.post(SUBMIT, content=b"{").json()["reason"] == "BadRequest"
    assert scene.client.post(SUBMIT, json=[]).json()["reason"] == "BadRequest"
    assert scene.fake.journal.summary()["refused_other"] == 2


def test_required_fields_are_checked_where_asked() -> None:
    assert Scene().client.post(SUBMIT, json={"model": "viduq2"}).status_code == 200
    answer = Scene(validate=True).client.post(SUBMIT, json={"model": "viduq2"}).json()
    assert (answer["reason"], answer["message"]) == ("FieldLacking", "field is missing or empty: prompt")


# Refusals -------------------------------------------------------------------------------------------------------------


def test_want_of_credits_is_a_400_with_its_own_reason() -> None:
    scene = Scene(credits=PRICE - 1)
    answer = scene.submit()
    assert answer.status_code == 400
    document = answer.json()
    assert document.pop("metadata")["trace_id"]
    assert document == {"code": 400, "reason": "CreditInsufficient", "message": "insufficient credits"}
    assert scene.fake.journal.refused_credits == 1


def test_work_above_the_limit_waits_in_queue_mode_and_is_counted() -> None:
    scene = Scene(limit=2, mode="queue")
    for _ in range(5):
        scene.task()
    row = scene.rows()[0]
    assert (row["concurrency_limit"], row["current_concurrency"], row["queue_count"]) == (2, 2, 3)
    assert (scene.fake.journal.without_slot, scene.fake.journal.breaches) == (3, 3)


def test_work_above_the_limit_is_refused_in_reject_mode_and_costs_nothing() -> None:
    scene = Scene(limit=2, mode="reject")
    scene.task()
    scene.task()
    answer = scene.submit()
    assert (answer.status_code, answer.json()["reason"]) == (429, "QuotaExceeded")
    assert scene.fake.credits == 500 - 2 * PRICE
    scene.clock.advance(10)
    assert scene.submit().status_code == 200
    assert scene.fake.journal.breaches == 1


def test_the_mode_and_the_limit_can_change_while_it_works() -> None:
    scene = Scene(limit=1, mode="reject")
    scene.task()
    scene.fake.set_limit(2)
    scene.task()
    scene.fake.mode = "queue"
    scene.task()
    assert scene.fake.state.queued == 1
    scene.fake.mode = "reject"
    assert scene.submit().status_code == 429


def test_strangers_are_seen_in_the_credits_and_stand_in_the_way() -> None:
    scene = Scene(limit=3, mode="reject")
    scene.fake.stranger_takes(slots=2, credits=100, seconds=5)
    row = scene.rows()[0]
    assert (row["credit_remain"], row["current_concurrency"]) == (400, 2)
    scene.task()
    assert scene.submit().status_code == 429
    scene.clock.advance(5)
    assert scene.submit().status_code == 200


@pytest.mark.parametrize("reason", sorted(REFUSALS))
def test_every_refusal_can_be_ordered(scene: Scene, reason: str) -> None:
    scene.fake.fail_next(reason)
    answer = scene.submit()
    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (*[REFUSALS[reason][0]] * 2, reason)
    assert (scene.fake.credits, scene.fake.journal.breaches) == (500, 0)
    assert scene.fake.journal.injected == {reason: 1}
    assert scene.submit().status_code == 200


def test_an_error_can_hide_a_task_that_was_started(scene: Scene) -> None:
    scene.fake.inject("InternalServiceFailure", handled=True)
    assert scene.submit().status_code == 500
    assert scene.fake.credits == 500 - PRICE


def test_injections_meet_the_kind_of_request_they_were_meant_for_in_order(scene: Scene) -> None:
    scene.fake.inject("SystemThrottling", on="credits", times=2, retry_after=1.5)
    scene.fake.inject("html_502", on="credits")
    assert scene.submit().status_code == 200
    statuses = [scene.client.get(CREDITS) for _ in range(4)]
    assert [answer.status_code for answer in statuses] == [429, 429, 502, 200]
    assert statuses[0].headers["retry-after"] == "1.5"
    assert "<html>" in statuses[2].text


def test_injections_can_last_until_they_are_cleared(scene: Scene) -> None:
    scene.fake.inject("TooManyRequests", times=None, on="any")
    assert {scene.submit().status_code for _ in range(3)} == {429}
    assert scene.client.get(CREDITS).status_code == 429
    scene.fake.clear_injections()
    assert scene.submit().status_code == 200


@pytest.mark.parametrize("kind", ["empty", "not_json", "wrong_shape"])
def test_answers_can_be_spoiled(scene: Scene, kind: str) -> None:
    scene.fake.inject(kind, on="credits")
    answer = scene.client.get(CREDITS)
    assert answer.status_code == 200
    assert "remains" not in answer.text


def test_answers_can_point_elsewhere(scene: Scene) -> None:
    scene.fake.inject("redirect", on="credits", location="http://127.0.0.1:1/trap")
    answer = scene.client.get(CREDITS)
    assert (answer.status_code, answer.headers["location"]) == (302, "http://127.0.0.1:1/trap")


def test_a_kind_nobody_knows_is_refused_with_the_list(scene: Scene) -> None:
    with pytest.raises(SettingError, match="CreditInsufficient"):
        scene.fake.inject("TeapotOverflow")


def test_requests_that_come_too_fast_are_refused_until_the_window_has_passed() -> None:
    scene = Scene(rate_limit=(2, 1.0))
    assert [scene.submit().status_code for _ in range(3)] == [200, 200, 429]
    assert scene.submit().json()["reason"] == "TooManyRequests"
    scene.clock.advance(1.0)
    assert scene.submit().status_code == 200
    assert scene.fake.journal.refused_rate == 2


# Keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, "Token", "Token ", "Bearer key-1", "key-1"])
def test_a_request_without_a_token_is_unauthorized(scene: Scene, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    with httpx.Client(transport=scene.fake.transport(), base_url="http://fake", headers=headers) as client:
        answer = client.post(SUBMIT, json=BODY)
    assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")
    assert scene.fake.credits == 500


def test_any_key_will_do_unless_some_are_named() -> None:
    scene = Scene(keys=("key-1", "key-2"))
    assert scene.submit().status_code == 200
    assert scene.as_key("key-2").post(SUBMIT, json=BODY).status_code == 200
    assert scene.as_key("key-3").get(CREDITS).status_code == 401
    assert scene.fake.credits == 500 - 2 * PRICE, "the keys of one organisation share its account"
    listed = scene.client.get("/ent/v2/tasks").json()["tasks"]
    assert [task["key_id"] for task in listed] == ["key_2", "key_1"]


def test_keys_are_never_shown() -> None:
    scene = Scene(keys="s3cret", key="s3cret")
    scene.task()
    shown = f"{scene.fake!r} {scene.fake.journal!r} {scene.fake.journal.entries} {scene.fake.account.tasks()}"
    assert "s3cret" not in shown


# Credits --------------------------------------------------------------------------------------------------------------


def test_the_credits_answer_goes_by_either_name(scene: Scene) -> None:
    assert list(scene.client.get(CREDITS).json()) == ["remains"]
    scene.fake.field = "remaining_credits"
    assert list(scene.client.get(CREDITS).json()) == ["remaining_credits"]


@pytest.mark.parametrize(("query", "shown"), [("", 0), ("?show_detail=false", 0), ("?show_detail=TRUE", 1)])
def test_packages_are_listed_only_in_detail(scene: Scene, query: str, shown: int) -> None:
    document = scene.client.get(CREDITS + query).json()
    assert ("packages" in document) == bool(shown)
    scene.fake.packages = True
    assert len(scene.client.get(CREDITS + query).json()["packages"]) == shown


def test_several_types_share_balance_and_limit_one_way_or_the_other() -> None:
    scene = Scene(credits=100, limit=5, types=("metered", "concurrent", "mystery"), quoted=True)
    scene.fake.stranger_takes(slots=2)
    assert [row["type"] for row in scene.rows()] == ["metered", "concurrent", "mystery"]
    assert [row["credit_remain"] for row in scene.rows()] == ["34", "33", "33"]
    assert [row["concurrency_limit"] for row in scene.rows()] == [5, 5, 5]
    assert [row["current_concurrency"] for row in scene.rows()] == [2, 0, 0]
    scene.fake.limit_rows = "sum"
    assert [row["concurrency_limit"] for row in scene.rows()] == [3, 1, 1]


def test_an_account_without_packages_is_an_empty_list() -> None:
    assert Scene(types=()).rows() == []


def test_the_shown_balance_can_trail_behind_by_readings(scene: Scene) -> None:
    scene.fake.lag_calls = 1
    scene.task()
    assert [scene.rows()[0]["credit_remain"] for _ in range(2)] == [500, 500 - PRICE]


def test_top_ups_and_planned_events_happen_on_the_clock() -> None:
    scene = Scene(credits=0)
    scene.fake.later(5, lambda: scene.fake.top_up(100))
    assert scene.submit().status_code == 400
    scene.clock.advance(5)
    assert scene.submit().status_code == 200


# Lists ----------------------------------------------------------------------------------------------------------------


def test_tasks_are_listed_newest_first_in_pages_without_their_charge() -> None:
    scene = Scene(credits=5000, limit=None)
    ids = [scene.task() for _ in range(25)]
    first = scene.client.get("/ent/v2/tasks?pager.pagesz=10").json()
    assert [task["id"] for task in first["tasks"]] == ids[:14:-1]
    assert "credits" not in first["tasks"][0]
    second = scene.client.get(f"/ent/v2/tasks?pager.pagesz=10&pager.page_token={first['next_page_token']}").json()
    assert second == scene.client.get("/ent/v2/tasks?paper.pagesz=10&paper.page=1").json()
    third = scene.client.get(f"/ent/v2/tasks?pager.page_token={second['next_page_token']}").json()
    assert [task["id"] for task in third["tasks"]] == ids[4::-1]
    assert third["next_page_token"] == ""
    assert scene.fake.journal.requests(RouteKind.LIST) == 4


def test_tasks_are_listed_by_id_state_resolution_and_age() -> None:
    scene = Scene(limit=1)
    first = scene.task(resolution="1080p")
    scene.clock.advance(3600)
    second, third = scene.task(), scene.task()

    def listed(query: str) -> list[str]:
        return [task["id"] for task in scene.client.get(f"/ent/v2/tasks?{query}").json()["tasks"]]

    assert listed(f"task_ids={first}&task_ids={third}") == [third, first]
    assert listed("states=processing,queueing") == [third, second]
    assert listed("resolutions=1080p") == [first]
    assert listed("created_at.from=2026-01-01T00:30:00Z") == [third, second]
    assert listed("created_at.to=2026-01-01T00:30:00Z") == [first]
    scene.clock.advance(8 * 86400)
    assert listed("") == []


@pytest.mark.parametrize("query", ["pager.pagesz=101", "pager.pagesz=0", "pager.page=x", "created_at.from=yesterday"])
def test_a_list_cannot_be_asked_for_nonsense(scene: Scene, query: str) -> None:
    assert scene.client.get(f"/ent/v2/tasks?{query}").json()["reason"] == "FieldInvalid"


# Callbacks ------------------------------------------------------------------------------------------------------------


def states(listener: Listener) -> list[str]:
    return [document["state"] for document in listener.documents]


def test_callbacks_are_sent_and_signed_by_the_key_that_created_the_task(scene: Scene, listener: Listener) -> None:
    with scene.fake:
        scene.task(callback_url=listener.url)
        scene.clock.advance(10)
        assert scene.fake.callbacks.drain()
    assert states(listener) == ["processing", "success"]
    headers, _ = listener.got[1]
    date, nonce = headers["date"], headers["x-request-nonce"]
    signed = f"POST\n/hook\ncase=7\nvidu\n{date}\nDate:{date}\nx-request-nonce:{nonce}\n"
    expected = base64.b64encode(hmac.new(b"key-1", signed.encode(), hashlib.sha256).digest()).decode()
    assert headers["x-hmac-signature"] == expected
    assert headers["x-hmac-signed-headers"] == "Date;x-request-nonce"
    assert headers["x-hmac-access-key"] == "vidu"


def test_callbacks_can_be_repeated_and_out_of_order(scene: Scene, listener: Listener) -> None:
    with scene.fake:
        scene.fake.callbacks.repeats = 2
        scene.fake.callbacks.reverse = True
        scene.task(callback_url=listener.url)
        assert scene.fake.callbacks.drain()
        assert states(listener) == []
        scene.clock.advance(10)
        assert scene.fake.callbacks.drain()
    assert states(listener) == ["success", "success", "processing", "processing"]


def test_the_last_callback_is_tried_again_when_nobody_takes_it(scene: Scene, listener: Listener) -> None:
    listener.statuses = [500, 500, 204]
    with scene.fake:
        scene.fake.callbacks.retry_seconds = 0.001
        scene.task(callback_url=listener.url)
        assert scene.fake.callbacks.drain()
        scene.clock.advance(10)
        assert scene.fake.callbacks.drain()
    assert states(listener) == ["processing", "success", "success"]
    assert scene.fake.journal.summary()["callbacks"] == 3


@pytest.mark.parametrize("url", ["http://example.com/hook", "https://10.0.0.1/", "file:///etc/passwd", "http://[::"])
def test_callbacks_never_leave_this_machine(scene: Scene, url: str) -> None:
    scene.task(callback_url=url)
    assert senders() == []
    assert scene.fake.journal.count("callback_refused") == 1


def test_callbacks_come_by_themselves_where_time_does(listener: Listener) -> None:
    with FakeVidu(clock=SystemClock(speed=10), duration=0.5) as fake:
        headers = {"Authorization": "Token k"}
        with httpx.Client(transport=fake.transport(), base_url="http://fake", headers=headers) as client:
            client.post(SUBMIT, json={**BODY, "callback_url": listener.url})
        for thread in senders():
            thread.join(5.0)
    assert states(listener) == ["processing", "success"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://127.0.0.1:99999/", "http://127.0.0.1/\x00"])
def test_a_callback_that_cannot_arrive_is_written_down_and_forgotten(scene: Scene, url: str) -> None:
    with scene.fake:
        scene.fake.callbacks.retries = 0
        scene.task(callback_url=url)
        scene.clock.advance(10)
        scene.fake.callbacks.drain()
    failed, refused = (scene.fake.journal.count(f"callback_{word}") for word in ("failed", "refused"))
    assert (failed, refused) in ((2, 0), (0, 1))


def senders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "budgetguard-fake-callbacks"]


def test_the_thread_that_sends_callbacks_ends_with_the_last_task_or_with_the_fake(
    scene: Scene, listener: Listener
) -> None:
    scene.task(callback_url=listener.url)
    assert len(senders()) == 1
    scene.fake.close()
    assert senders() == []
    scene.clock.advance(10)
    assert scene.fake.state.running == 0
    assert senders() == [], "the end of a task from before is not told any more"
    scene.task(callback_url=listener.url)
    scene.clock.advance(10)
    assert scene.fake.callbacks.drain()
    for thread in senders():
        thread.join(5.0)
    assert senders() == []


# What the library's own adapter reads ---------------------------------------------------------------------------------


def seen(answer: httpx.Response) -> Answer:
    try:
        body = answer.json()
    except ValueError:
        body = None
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status_code, headers, body, answer.text[:200])


ADAPTER = Vidu(base_url="http://fake")


def look(scene: Scene, kind: str, method: str, path: str) -> Callable[[httpx.Response], Any]:
    route = ADAPTER.match(method, path, {})
    assert route is not None
    assert route.kind == kind
    return lambda answer: (ADAPTER.verdict if kind == "submit" else ADAPTER.observe)(route, seen(answer))


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("field", ["remains", "remaining_credits"])
@pytest.mark.parametrize("types", [("metered",), ("test", "metered", "concurrent", "mystery")])
def test_the_adapter_reads_every_shape_of_the_balance(quoted: bool, field: Any, types: tuple[str, ...]) -> None:
    scene = Scene(credits=100, limit=4, quoted=quoted, field=field, types=types)
    scene.fake.stranger_takes(slots=6)
    for detail in (False, True):
        request = ADAPTER.credits_request(detail=detail)
        reading = ADAPTER.reading(seen(scene.client.get(request.url, headers=dict(request.headers))))
        assert reading.credits == 100
        assert (reading.pools[""].limit, reading.pools[""].running) == (4, 6)
        assert len(reading.packages) == (len(types) if detail else 0)


def test_the_adapter_reads_what_became_of_a_submit(scene: Scene) -> None:
    read = look(scene, "submit", "POST", SUBMIT)
    verdict = read(scene.submit())
    assert (verdict.outcome, verdict.charge) == (Outcome.ACCEPTED, PRICE)
    assert scene.fake.account.task(verdict.task_id) is not None
    scene.fake.quoted = True
    assert read(scene.submit()).charge == PRICE
    scene.fake.report_charge = False
    assert read(scene.submit()).charge is None


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("CreditInsufficient", Outcome.INSUFFICIENT),
        ("QuotaExceeded", Outcome.CONCURRENCY),
        ("TooManyRequests", Outcome.RATE),
        ("SystemThrottling", Outcome.RATE),
        ("AuditSubmitIllegal", Outcome.REJECTED),
        ("Unauthorized", Outcome.REJECTED),
        ("Canceled", Outcome.UNKNOWN),
        ("InternalServiceFailure", Outcome.UNKNOWN),
        ("html_502", Outcome.UNKNOWN),
        ("not_json", Outcome.UNKNOWN),
        ("empty", Outcome.UNKNOWN),
        ("wrong_shape", Outcome.UNKNOWN),
        ("redirect", Outcome.REJECTED),
    ],
)
def test_the_adapter_reads_every_refusal(scene: Scene, reason: str, outcome: Outcome) -> None:
    scene.fake.inject(reason, retry_after=7)
    verdict = look(scene, "submit", "POST", SUBMIT)(scene.submit())
    assert (verdict.outcome, verdict.charge, verdict.task_id) == (outcome, None, None)
    if reason in REFUSALS:
        assert (verdict.reason, verdict.retry_after) == (reason, 7.0)


def test_the_adapter_sees_tasks_run_and_end_in_polls_lists_and_cancels() -> None:
    scene = Scene(limit=2)
    first, second, third = scene.task(), scene.task(), scene.task()
    path = f"/ent/v2/tasks/{third}/cancel"
    assert look(scene, "cancel", "POST", path)(scene.cancel(third))[0].state is TaskState.CANCELLED
    path = f"/ent/v2/tasks/{first}/creations"
    assert look(scene, "poll", "GET", path)(scene.client.get(path))[0].state is TaskState.RUNNING
    scene.clock.advance(10)
    task = look(scene, "poll", "GET", path)(scene.client.get(path))[0]
    assert (task.task_id, task.state, task.charge) == (first, TaskState.SUCCEEDED, PRICE)
    tasks = look(scene, "list", "GET", "/ent/v2/tasks")(scene.client.get("/ent/v2/tasks"))
    assert {task.task_id: task.state for task in tasks} == {
        first: TaskState.SUCCEEDED,
        second: TaskState.SUCCEEDED,
        third: TaskState.CANCELLED,
    }
