import asyncio
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import anyio
import httpx
import pytest

from budgetguard.errors import SettingError
from budgetguard.testing import FakeVidu

HEADERS = {"Authorization": "Token key-1"}
SUBMIT = "/ent/v2/text2video"
CREDITS = "/ent/v2/credits"
BODY = {"model": "viduq2", "prompt": "a cat"}


@pytest.fixture
def fake() -> FakeVidu:
    return FakeVidu(credits=500, limit=5, mode="reject", charge=10, duration=60.0)


@pytest.fixture
def client(fake: FakeVidu) -> Iterator[httpx.Client]:
    with fake.serve() as url, httpx.Client(base_url=url, headers=HEADERS) as client:
        yield client


def test_a_served_fake_answers_on_loopback_and_is_gone_afterwards(fake: FakeVidu) -> None:
    before = set(threading.enumerate())
    with fake.serve() as url:
        assert url.startswith("http://127.0.0.1:")
        assert fake.url == url
        assert httpx.get(f"{url}{CREDITS}", headers=HEADERS).status_code == 200
    assert fake.url == ""
    assert set(threading.enumerate()) <= before
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}{CREDITS}", headers=HEADERS)


def test_a_fake_can_be_served_again_and_keeps_its_account(fake: FakeVidu) -> None:
    for expected in (490, 480, 470):
        with fake.serve() as url:
            assert httpx.post(f"{url}{SUBMIT}", headers=HEADERS, json=BODY).status_code == 200
        assert fake.credits == expected


def test_serving_can_be_started_and_stopped_by_hand_twice_over(fake: FakeVidu) -> None:
    serving = fake.serve()
    url = serving.start()
    assert serving.start() == url
    serving.stop()
    serving.stop()
    assert serving.url == ""


def test_a_taken_port_is_told_to_the_caller(fake: FakeVidu) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            fake.serve(port=taken.getsockname()[1]).start()


def test_a_stop_does_not_wait_for_a_slow_request_or_an_idle_connection(fake: FakeVidu) -> None:
    fake.inject("slow", on="credits", seconds=60.0)
    errors: list[BaseException] = []

    def ask(url: str) -> None:
        try:
            httpx.get(f"{url}{CREDITS}", headers=HEADERS, timeout=30.0)
        except httpx.HTTPError as error:
            errors.append(error)

    with fake.serve() as url, httpx.Client(base_url=url, headers=HEADERS) as idle:
        idle.post(SUBMIT, json=BODY)
        thread = threading.Thread(target=ask, args=(url,))
        thread.start()
        while fake.journal.credits_requests == 0:
            time.sleep(0.005)
        began = time.monotonic()
    thread.join()
    assert time.monotonic() - began < 5.0
    assert len(errors) == 1


def test_a_submit_dropped_after_it_was_accepted_has_started_a_task(fake: FakeVidu, client: httpx.Client) -> None:
    fake.fail_next("drop_after_accept")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        client.post(SUBMIT, json=BODY)
    assert (fake.credits, fake.state.running) == (490, 1)
    assert client.get("/ent/v2/tasks").json()["tasks"][0]["prompt"] == "a cat"


def test_a_submit_dropped_before_it_was_accepted_has_not(fake: FakeVidu, client: httpx.Client) -> None:
    fake.fail_next("drop_before_accept")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        client.post(SUBMIT, json=BODY)
    assert (fake.credits, fake.state.running) == (500, 0)


@pytest.mark.parametrize(("kind", "left"), [("reset_after_accept", 490), ("reset_before_accept", 500)])
def test_a_submit_may_be_answered_by_a_reset(fake: FakeVidu, client: httpx.Client, kind: str, left: int) -> None:
    fake.fail_next(kind)
    with pytest.raises(httpx.ReadError, match="reset by peer"):
        client.post(SUBMIT, json=BODY)
    assert fake.credits == left
    assert client.get(CREDITS).status_code == 200


def test_a_cut_body_breaks_off_halfway_through_an_accepted_answer(fake: FakeVidu, client: httpx.Client) -> None:
    fake.fail_next("cut_body")
    with client.stream("POST", SUBMIT, json=BODY) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
            answer.read()
    assert fake.credits == 490
    assert client.get(CREDITS).status_code == 200


def test_fifty_threads_get_exactly_what_the_account_has(fake: FakeVidu) -> None:
    answers: list[tuple[int, str]] = []
    start = threading.Barrier(50)
    context = httpx.create_ssl_context()

    def work(url: str) -> None:
        with httpx.Client(base_url=url, headers=HEADERS, verify=context, timeout=30.0) as client:
            start.wait()
            for _ in range(4):
                answer = client.post(SUBMIT, json=BODY)
                answers.append((answer.status_code, answer.json().get("reason", "")))

    with fake.serve() as url:
        threads = [threading.Thread(target=work, args=(url,)) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Counter(answers) == {(200, ""): 5, (429, "QuotaExceeded"): 195}
    journal = fake.journal
    assert (journal.submits, journal.accepted, journal.refused_slots, journal.charged) == (200, 5, 195, 50)
    assert (journal.running_max, journal.breaches) == (5, 195)


def test_fifty_threads_run_out_of_credits_at_the_same_credit() -> None:
    fake = FakeVidu(credits=333, limit=None, mode="reject", charge=10, duration=60.0)
    answers: list[tuple[int, str]] = []

    def work() -> None:
        with httpx.Client(transport=fake.transport(), base_url="http://fake", headers=HEADERS) as client:
            for _ in range(4):
                answer = client.post(SUBMIT, json=BODY)
                answers.append((answer.status_code, answer.json().get("reason", "")))

    threads = [threading.Thread(target=work) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(answers) == {(200, ""): 33, (400, "CreditInsufficient"): 167}
    assert (fake.credits, fake.journal.refused_credits) == (3, 167)


def test_credits_requests_under_way_at_once_are_seen_by_the_journal(fake: FakeVidu) -> None:
    fake.answer_latency = 0.2

    async def ask(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, headers=HEADERS) as client:
            await asyncio.gather(*(client.get(CREDITS) for _ in range(7)))

    with fake.serve() as url:
        asyncio.run(ask(url))
    assert (fake.journal.credits_requests, fake.journal.credits_in_flight_max) == (7, 7)


def sync_form(fake: FakeVidu) -> Callable[[str, str], httpx.Response]:
    def ask(method: str, path: str) -> httpx.Response:
        with httpx.Client(transport=fake.transport(), base_url="http://fake", headers=HEADERS, timeout=0.1) as client:
            return client.request(method, path, json=BODY if method == "POST" else None)

    return ask


def async_form(fake: FakeVidu, *, backend: str, asgi: bool) -> Callable[[str, str], httpx.Response]:
    async def ask(method: str, path: str) -> httpx.Response:
        transport: httpx.AsyncBaseTransport = httpx.ASGITransport(fake.asgi()) if asgi else fake.transport()
        async with httpx.AsyncClient(
            transport=transport, base_url="http://fake", headers=HEADERS, timeout=0.1
        ) as client:
            return await client.request(method, path, json=BODY if method == "POST" else None)

    return lambda method, path: anyio.run(ask, method, path, backend=backend)


@pytest.fixture(params=["sync", "asyncio", "trio", "asgi-asyncio", "asgi-trio"])
def ask(request: pytest.FixtureRequest, fake: FakeVidu) -> Callable[[str, str], httpx.Response]:
    if request.param == "sync":
        return sync_form(fake)
    return async_form(fake, backend=request.param.removeprefix("asgi-"), asgi=request.param.startswith("asgi"))


def test_every_form_without_a_socket_answers_like_the_server(
    fake: FakeVidu, ask: Callable[[str, str], httpx.Response]
) -> None:
    answer = ask("POST", SUBMIT)
    assert (answer.status_code, answer.json()["credits"]) == (200, 10)
    assert answer.headers["content-length"] == str(len(answer.content))
    row = ask("GET", f"{CREDITS}?show_detail=True").json()["remains"][0]
    assert (row["credit_remain"], row["current_concurrency"]) == (490, 1)


@pytest.mark.parametrize(("kind", "left"), [("drop_after_accept", 490), ("drop_before_accept", 500), ("cut_body", 490)])
def test_every_form_without_a_socket_breaks_off_like_the_server(
    fake: FakeVidu, ask: Callable[[str, str], httpx.Response], kind: str, left: int
) -> None:
    fake.fail_next(kind)
    with pytest.raises(httpx.RemoteProtocolError):
        ask("POST", SUBMIT)
    assert fake.credits == left


@pytest.mark.parametrize(("kind", "left"), [("reset_after_accept", 490), ("reset_before_accept", 500)])
def test_every_form_without_a_socket_is_reset_like_the_server(
    fake: FakeVidu, ask: Callable[[str, str], httpx.Response], kind: str, left: int
) -> None:
    fake.fail_next(kind)
    with pytest.raises(httpx.ReadError):
        ask("POST", SUBMIT)
    assert fake.credits == left


@pytest.mark.parametrize("form", ["sync", "asyncio", "trio"])
def test_a_client_that_loses_patience_has_started_the_task_all_the_same(fake: FakeVidu, form: str) -> None:
    ask = sync_form(fake) if form == "sync" else async_form(fake, backend=form, asgi=False)
    fake.inject("slow", seconds=30.0)
    with pytest.raises(httpx.ReadTimeout):
        ask("POST", SUBMIT)
    assert fake.credits == 490


def test_delays_are_waited_for_before_and_after_the_handling(fake: FakeVidu) -> None:
    fake.latency = lambda kind: 0.02 if kind == "credits" else 0.0
    fake.answer_latency = 0.02
    began = time.monotonic()
    assert sync_form(fake)("GET", CREDITS).status_code == 200
    assert time.monotonic() - began >= 0.04
    fake.latency = fake.answer_latency = 0.0
    fake.inject("slow_before", seconds=0.02)
    began = time.monotonic()
    assert sync_form(fake)("POST", SUBMIT).status_code == 200
    assert time.monotonic() - began >= 0.02


def test_a_missing_extra_is_named(fake: FakeVidu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(SettingError, match=r"pip install 'budgetguard-py\[testing\]'"):
        fake.asgi()
    with pytest.raises(SettingError, match=r"pip install 'budgetguard-py\[testing\]'"):
        fake.serve().start()


def test_the_in_process_form_needs_no_extra(fake: FakeVidu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert sync_form(fake)("GET", CREDITS).status_code == 200
