import json
import urllib.error
import urllib.request
from typing import Any

import httpx
import pytest

from budgetguard.model import Outcome, Route, TaskState
from budgetguard.ports import Answer
from budgetguard.providers import UdioPro
from budgetguard.testing import FakeUdio, ManualClock
from tests.testing.listener import Listener

BODY = {"prompt": "a song about rain", "model": "chirp-v4-5", "title": "Rain"}
PRICE = 10
ADAPTER = UdioPro(base_url="http://fake")


class Scene:
    """A fake on a manual clock, with a client that needs no socket."""

    def __init__(self, credits: int = 500, limit: int | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        settings.setdefault("duration", 10.0)
        self.fake = FakeUdio(credits, limit, clock=self.clock, **settings)
        headers = {"Authorization": "Bearer key-1"}
        self.client = httpx.Client(transport=self.fake.transport(), base_url="http://fake", headers=headers)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(f"/api/v2/{path}", json=body)

    def song(self, **fields: Any) -> str:
        answer = self.post("generate", **{**BODY, **fields}).json()
        assert answer["code"] == 200, answer
        assert answer["workId"] == answer["data"]["task_id"]
        return str(answer["workId"])

    def feed(self, work_id: str) -> dict[str, Any]:
        return dict(self.client.get("/api/v2/feed", params={"workId": work_id}).json()["data"])

    def statuses(self, work_id: str) -> tuple[str, list[str]]:
        data = self.feed(work_id)
        return data["type"], [song["status"] for song in data["response_data"]]


@pytest.fixture
def scene() -> Scene:
    return Scene()


# Submits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "price"), [(None, 5), ("chirp-v3-5", 5), ("chirp-v4-0", 8), ("chirp-v4-5-plus", 10), ("chirp-v5-5", 12)]
)
def test_a_song_costs_what_its_model_costs_and_no_answer_says_so(scene: Scene, model: str | None, price: int) -> None:
    body = {"gpt_description_prompt": "rain"} | ({} if model is None else {"model": model})
    answer = scene.post("generate", **body)
    assert "credits" not in answer.text
    data = scene.client.get("/api/v2/credits").json()
    assert data == {"code": 200, "message": "success", "data": {"credits": 500 - price, "used_credits": price}}


def test_both_songs_of_a_call_are_written_stage_by_stage(scene: Scene) -> None:
    work_id = scene.song()
    assert scene.statuses(work_id) == ("IN_PROGRESS", ["text", "text"])
    scene.clock.advance(5)
    assert scene.statuses(work_id) == ("IN_PROGRESS", ["first", "first"])
    scene.clock.advance(5)
    assert scene.statuses(work_id) == ("SUCCESS", ["complete", "complete"])
    song = scene.feed(work_id)["response_data"][0]
    assert (song["title"], song["model_name"], song["fail_message"]) == ("Rain", "chirp-v4-5", "")


def test_the_feed_can_say_success_while_songs_are_still_being_written() -> None:
    scene = Scene(early_success=True)
    assert scene.statuses(scene.song()) == ("SUCCESS", ["text", "text"])


def test_one_song_of_two_can_fail(scene: Scene) -> None:
    scene.fake.fail_next_song(1, "moderated")
    work_id = scene.song()
    scene.clock.advance(10)
    first, second = scene.feed(work_id)["response_data"]
    assert (first["status"], second["status"], second["fail_message"]) == ("complete", "error", "moderated")
    assert scene.feed(work_id)["type"] == "SUCCESS"


@pytest.mark.parametrize(("refund", "left"), [(True, 500), (False, 490), (None, 490)])
def test_a_task_that_fails_may_be_refunded(scene: Scene, refund: bool | None, left: int) -> None:
    scene.fake.fail_type = "FAILED"
    scene.fake.fail_next_task("moderated", refund=refund)
    work_id = scene.song()
    scene.clock.advance(10)
    data = scene.feed(work_id)
    assert data["type"] == "FAILED"
    assert {song["fail_message"] for song in data["response_data"]} == {"moderated"}
    assert scene.fake.credits == left


def test_an_extension_answers_without_data_and_costs_what_the_songs_model_costs(scene: Scene) -> None:
    song = scene.song(model="chirp-v5")
    scene.clock.advance(10)
    answer = scene.post("extend", origin_task_id=song, extend_audio_index=0).json()
    assert (sorted(answer), answer["workId"][:4]) == (["code", "message", "workId"], "ext2")
    assert scene.fake.credits == 500 - 2 * 12


def test_a_cover_image_costs_one_and_speaks_of_msg_and_task_id_in_its_own_way(scene: Scene) -> None:
    song = scene.song()
    assert scene.post("cover/generate", taskId=song).json() == {"code": 400, "msg": "song not complete"}
    scene.clock.advance(10)
    answer = scene.post("cover/generate", taskId=song).json()
    cover = answer["data"]["taskId"]
    assert answer == {"code": 200, "msg": "success", "data": {"taskId": cover}}
    assert scene.fake.credits == 500 - PRICE - 1
    assert scene.post("cover/generate", taskId=song).json() == {"code": 400, "msg": "cover exists"}
    status = scene.client.get("/api/v2/cover/status", params={"task_id": cover})
    assert status.json()["data"]["status"] == "IN_PROGRESS"
    scene.clock.advance(10)
    status = scene.client.get("/api/v2/cover/status", params={"task_id": cover})
    assert status.json()["data"]["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("generate", {}, "prompt is required"),
        ("extend", {"origin_task_id": "gen2"}, "extend_audio_index is required"),
        ("extend", {"origin_task_id": "gen2", "extend_audio_index": 1}, "invalid origin_task_id"),
        ("upload-cover/generate", {"upload_url": "u"}, "model is required"),
        ("cover/generate", {"taskId": "gen2"}, "invalid taskId"),
    ],
)
def test_a_call_that_lacks_something_is_a_400_that_costs_nothing(
    scene: Scene, path: str, body: dict[str, Any], message: str
) -> None:
    answer = scene.post(path, **body)
    assert answer.status_code == 400
    assert message in answer.text
    assert (scene.fake.credits, scene.fake.journal.summary()["refused_other"]) == (500, 1)


def test_the_older_address_wants_a_callback_url(scene: Scene) -> None:
    assert scene.client.post("/api/generate", json=BODY).json()["message"] == "callback_url is required"
    answer = scene.client.post("/api/generate", json={**BODY, "callback_url": "http://203.0.113.7/hook"})
    assert answer.status_code == 200
    assert scene.fake.journal.count("callback_refused") == 1


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("style", "status"), [("status", 402), ("envelope", 200)])
def test_an_error_is_a_status_or_a_code_in_a_200(style: Any, status: int) -> None:
    scene = Scene(credits=PRICE - 1, style=style)
    answer = scene.post("generate", **BODY)
    assert (answer.status_code, answer.json()) == (status, {"code": 402, "message": "No credit"})
    assert scene.fake.journal.refused_credits == 1


def test_a_hidden_limit_answers_429() -> None:
    scene = Scene(limit=1)
    song = scene.song()
    assert scene.post("generate", **BODY).status_code == 429
    assert scene.fake.journal.refused_slots == 1
    scene.clock.advance(10)
    assert scene.statuses(song)[0] == "SUCCESS"
    assert scene.post("generate", **BODY).status_code == 200


def test_work_above_a_limit_can_wait_instead() -> None:
    scene = Scene(limit=1, mode="queue")
    scene.song()
    assert scene.statuses(scene.song()) == ("IN_PROGRESS", [])


@pytest.mark.parametrize("code", ["400", "401", "402", "403", "429", "500", "503"])
@pytest.mark.parametrize(("path", "said"), [("generate", "message"), ("cover/generate", "msg")])
def test_every_refusal_can_be_ordered_and_covers_say_msg(scene: Scene, code: str, path: str, said: str) -> None:
    scene.fake.inject(code, retry_after=3)
    answer = scene.post(path, **BODY)
    assert answer.status_code == answer.json()["code"] == int(code)
    assert answer.json()[said]
    assert answer.headers["retry-after"] == "3"
    assert scene.fake.credits == 500


def test_requests_that_come_too_fast_are_refused() -> None:
    scene = Scene(rate_limit=(1, 60.0))
    assert [scene.post("generate", **BODY).status_code for _ in range(2)] == [200, 429]
    assert scene.fake.journal.refused_rate == 1


def test_pythons_own_user_agent_is_turned_away_with_a_page_of_html() -> None:
    fake = FakeUdio()
    with fake.serve() as url:
        request = urllib.request.Request(f"{url}/api/v2/credits", headers={"Authorization": "Bearer k"})  # noqa: S310 - our own
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(request)
        assert caught.value.code == 403
        assert b"1010" in caught.value.read()
        caught.value.close()
        fake.check_user_agent = False
        with opener.open(request) as answer:
            assert json.load(answer)["code"] == 200


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "No API key provided in Authorization header"),
        ("Bearer", "No API key provided in Authorization header"),
        ("Bearer other", "Unauthorized: invalid API key"),
        ("Token key-1", "Unauthorized: invalid API key"),
    ],
)
def test_a_request_without_a_known_key_is_unauthorized(header: str | None, message: str) -> None:
    fake = FakeUdio(keys=["key-1"])
    headers = {} if header is None else {"Authorization": header}
    with httpx.Client(transport=fake.transport(), base_url="http://fake", headers=headers) as client:
        answer = client.post("/api/v2/generate", json=BODY)
    assert (answer.status_code, answer.json()) == (401, {"code": 401, "message": message})


def test_what_does_not_exist_is_not_found(scene: Scene) -> None:
    assert scene.client.get("/api/v2/lyrics").json()["code"] == 404
    assert scene.client.get("/api/v2/feed", params={"workId": "x"}).json()["code"] == 400
    assert scene.client.get("/api/v2/cover/status", params={"task_id": "x"}).json()["code"] == 400


# Callbacks ------------------------------------------------------------------------------------------------------------


def test_each_stage_is_called_back_with_the_songs_as_they_were(scene: Scene, listener: Listener) -> None:
    with scene.fake:
        scene.song(callback_url=listener.url)
        scene.clock.advance(10)
        assert scene.fake.callbacks.drain()
    stages = [[song["status"] for song in songs] for songs in listener.documents]
    assert stages == [["text"] * 2, ["first"] * 2, ["complete"] * 2]


# What the library's own adapter reads ---------------------------------------------------------------------------------


def seen(answer: httpx.Response) -> Answer:
    try:
        body = answer.json()
    except ValueError:
        body = None
    return Answer(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body, answer.text[:200])


def route(method: str, path: str, **query: str) -> Route:
    found = ADAPTER.match(method, path, query)
    assert found is not None
    return found


def test_the_adapter_reads_the_balance(scene: Scene) -> None:
    scene.song()
    request = ADAPTER.credits_request()
    reading = ADAPTER.reading(seen(scene.client.get(request.url, headers=dict(request.headers))))
    assert reading.credits == 500 - PRICE


def test_the_adapter_reads_the_task_of_every_kind_of_submit(scene: Scene) -> None:
    song = scene.song()
    scene.clock.advance(10)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("generate", BODY),
        ("extend", {"origin_task_id": song, "extend_audio_index": 1}),
        ("upload-cover/generate", {"upload_url": "http://127.0.0.1/x.mp3", "model": "chirp-v4-0"}),
        ("cover/generate", {"taskId": song}),
    ]
    for path, body in calls:
        verdict = ADAPTER.verdict(route("POST", f"/api/v2/{path}"), seen(scene.post(path, **body)))
        assert verdict.outcome is Outcome.ACCEPTED, path
        assert verdict.charge is None
        assert scene.fake.account.task(str(verdict.task_id)) is not None


@pytest.mark.parametrize("style", ["status", "envelope"])
@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("400", Outcome.REJECTED),
        ("401", Outcome.REJECTED),
        ("402", Outcome.INSUFFICIENT),
        ("403", Outcome.REJECTED),
        ("429", Outcome.RATE),
        ("500", Outcome.UNKNOWN),
        ("503", Outcome.UNKNOWN),
        ("1010", Outcome.REJECTED),
        ("html_502", Outcome.UNKNOWN),
        ("not_json", Outcome.UNKNOWN),
        ("wrong_shape", Outcome.UNKNOWN),
        ("empty", Outcome.UNKNOWN),
    ],
)
def test_the_adapter_reads_every_refusal_in_either_style(style: Any, kind: str, outcome: Outcome) -> None:
    scene = Scene(style=style)
    scene.fake.fail_next(kind)
    verdict = ADAPTER.verdict(route("POST", "/api/v2/generate"), seen(scene.post("generate", **BODY)))
    assert verdict.outcome is outcome


@pytest.mark.parametrize("early", [False, True])
def test_the_adapter_sees_songs_run_until_each_has_ended(early: bool) -> None:
    scene = Scene(early_success=early)
    states = []
    scene.fake.fail_next_song()
    good, bad = scene.song(), ""
    for _ in range(2):
        states.append(state(scene, good))
        scene.clock.advance(5)
    states.append(state(scene, good))
    assert states == [TaskState.RUNNING, TaskState.RUNNING, TaskState.SUCCEEDED]
    scene.fake.fail_next_task()
    bad = scene.song()
    scene.clock.advance(10)
    assert state(scene, bad) is TaskState.FAILED


def state(scene: Scene, work_id: str) -> TaskState:
    answer = scene.client.get("/api/v2/feed", params={"workId": work_id})
    (task,) = ADAPTER.observe(route("GET", "/api/v2/feed", workId=work_id), seen(answer))
    assert task.task_id == work_id
    return task.state


def test_the_adapter_sees_covers_run_and_end(scene: Scene) -> None:
    song = scene.song()
    scene.clock.advance(10)
    cover = scene.post("cover/generate", taskId=song).json()["data"]["taskId"]
    poll = route("GET", "/api/v2/cover/status", task_id=cover)

    def look() -> TaskState:
        return ADAPTER.observe(poll, seen(scene.client.get("/api/v2/cover/status", params={"task_id": cover})))[0].state

    assert look() is TaskState.RUNNING
    scene.clock.advance(10)
    assert look() is TaskState.SUCCEEDED
