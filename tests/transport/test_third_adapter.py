"""A third provider in one file: an adapter, a server that plays its API, and the guard between them.

Prontopix does not exist. It sells pictures for US cents, which are charged when a picture is done; fast and fine models
have a limit each; a call for n pictures takes n slots; and every answer is a 200 around an envelope, errors too. Drafts
are made while the caller waits, and come back as the picture itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from budgetguard.errors import InsufficientCredits, InsufficientSlots, QueueTimeout, ReadingError, UnknownPrice
from budgetguard.events import Admitted, Event, Settled, TaskEnded
from budgetguard.model import Capacity, Outcome, Quote, Reading, Route, RouteKind, TaskSeen, TaskState, Verdict
from budgetguard.ports import Answer, ProviderRequest
from tests.support.scene import until
from tests.support.vidu import quick
from tests.support.ways import Way

pytestmark = pytest.mark.anyio

# -- the adapter ----------------------------------------------------------------------------------------------------

CENTS = {"fast": 3, "fine": 12}
OUTCOMES = {
    "low_funds": Outcome.INSUFFICIENT,
    "busy": Outcome.CONCURRENCY,
    "slow_down": Outcome.RATE,
    "bad_request": Outcome.REJECTED,
}
STATES = {
    "working": TaskState.RUNNING,
    "done": TaskState.SUCCEEDED,
    "failed": TaskState.FAILED,
    "stopped": TaskState.CANCELLED,
}


class Prontopix:
    """What there is to know of a provider, and nothing of how it is guarded."""

    name = "prontopix"
    unit = "US cents"
    origins = ("https://api.prontopix.test",)
    charged_at = "completion"
    settlement_lag = 0.0
    reports_slots = True
    task_lease = 600.0

    def match(self, method: str, path: str, query: Mapping[str, str]) -> Route | None:
        match method, path.strip("/").split("/"):
            case "POST", ["pictures" | "drafts" as what]:
                return Route(RouteKind.SUBMIT, what)
            case "GET", ["pictures", job]:
                return Route(RouteKind.POLL, "pictures/{id}", job)
            case "DELETE", ["pictures", job]:
                return Route(RouteKind.CANCEL, "pictures/{id}", job)
            case "GET", ["pictures"]:
                return Route(RouteKind.LIST, "pictures")
            case "GET", ["wallet"]:
                return Route(RouteKind.CREDITS, "wallet")
            case _:
                return None

    def quote(self, route: Route, body: Any) -> Quote:
        if route.path == "drafts":
            return Quote(1, pool="fast", source="drafts")
        model = body.get("model") if isinstance(body, dict) else None
        if model not in CENTS:
            raise UnknownPrice(what="prontopix pictures", why="the model is not in the price list")
        pictures = body.get("n", 1)
        # The most a picture can cost; a simple one comes cheaper.
        most = CENTS[model] * pictures
        return Quote(most, slots=pictures, pool=model, credits_min=most // 3, source=f"pictures {model}")

    def verdict(self, route: Route, answer: Answer) -> Verdict:
        if answer.status == 200 and answer.headers.get("content-type", "").startswith("image/"):
            return Verdict(Outcome.ACCEPTED)
        body = answer.body
        if answer.status != 200 or not isinstance(body, dict):
            return Verdict(Outcome.REJECTED if 400 <= answer.status < 500 else Outcome.UNKNOWN)
        if body.get("ok") is True:
            return Verdict(Outcome.ACCEPTED, task_id=body["data"]["job"])
        return Verdict(OUTCOMES.get(body.get("error", ""), Outcome.UNKNOWN), reason=str(body.get("error", "")))

    def observe(self, route: Route, answer: Answer) -> Sequence[TaskSeen]:
        body = answer.body if isinstance(answer.body, dict) else {}
        if body.get("ok") is not True:
            return ()
        jobs = body["data"] if route.kind is RouteKind.LIST else [body["data"]]
        return [TaskSeen(job["job"], STATES[job["state"]], job.get("cents")) for job in jobs]

    def missing(self, route: Route, answer: Answer) -> bool:
        return isinstance(answer.body, dict) and answer.body.get("error") == "no_such_job"

    def credits_request(self, *, detail: bool = False) -> ProviderRequest:
        return ProviderRequest(f"{self.origins[0]}/wallet")

    def task_request(self, task_id: str, *, path: str = "") -> ProviderRequest | None:
        return ProviderRequest(f"{self.origins[0]}/pictures/{task_id}") if task_id.isalnum() else None

    def reading(self, answer: Answer) -> Reading:
        try:
            data = answer.body["data"]
            dollars, _, cents = data["balance"].partition(".")
            pools = {model: Capacity(limit, running) for model, (limit, running) in data["pools"].items()}
            return Reading(int(dollars) * 100 + int(cents), pools)
        except (KeyError, TypeError, ValueError) as error:
            raise ReadingError("it is no wallet") from error

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        return headers.get("x-prontopix-key")

    def authorize(self, key: str) -> Mapping[str, str]:
        return {"X-Prontopix-Key": key}


# -- the provider itself --------------------------------------------------------------------------------------------


class Studio:
    """Plays the API, and keeps account strictly: what a guard lets through must have room and money."""

    def __init__(self, cents: int, **limits: int) -> None:
        self.cents, self.limits = cents, limits
        self.jobs: dict[str, dict[str, Any]] = {}
        self.read_already = False
        self.refused: list[str] = []
        self.wallets = 0
        self.fail_with: list[str] = []

    def running(self, model: str) -> int:
        return sum(job["n"] for job in self.jobs.values() if job["model"] == model and job["state"] == "working")

    def end(self, job: str, state: str = "done", cents: int | None = None) -> None:
        entry = self.jobs[job]
        entry["state"] = state
        if state == "done":
            entry["cents"] = CENTS[entry["model"]] * entry["n"] if cents is None else cents
            self.cents -= entry["cents"]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path.strip("/").split("/"):
            case "GET", ["wallet"]:
                self.wallets += 1
                pools = {model: [limit, self.running(model)] for model, limit in self.limits.items()}
                return self.good({"balance": f"{self.cents // 100}.{self.cents % 100:02}", "pools": pools})
            case "POST", ["drafts"]:
                self.cents -= 1
                picture, headers = b"png" * 99, {"content-type": "image/png"}
                if self.read_already:
                    return httpx.Response(200, headers=headers, content=picture)
                return httpx.Response(200, headers=headers, stream=httpx.ByteStream(picture))
            case "POST", ["pictures"]:
                return self.submit(json.loads(request.content))
            case "GET", ["pictures"]:
                return self.good([self.shown(job) for job in self.jobs])
            case _, ["pictures", job]:
                if request.method == "DELETE":
                    self.end(job, "stopped")
                return self.good(self.shown(job))
            case _:
                return httpx.Response(404)

    def submit(self, body: dict[str, Any]) -> httpx.Response:
        model, pictures = body["model"], body.get("n", 1)
        due = sum(CENTS[job["model"]] * job["n"] for job in self.jobs.values() if job["state"] == "working")
        error = self.fail_with.pop() if self.fail_with else ""
        if not error and CENTS[model] * pictures > self.cents - due:
            error = "low_funds"
        if not error and self.running(model) + pictures > self.limits[model]:
            error = "busy"
        if error:
            self.refused.append(error)
            return httpx.Response(200, json={"ok": False, "error": error})
        job = f"job-{len(self.jobs) + 1}"
        self.jobs[job] = {"model": model, "n": pictures, "state": "working"}
        return self.good({"job": job})

    def shown(self, job: str) -> dict[str, Any]:
        entry = self.jobs[job]
        return {"job": job, "state": entry["state"]} | ({"cents": entry["cents"]} if "cents" in entry else {})

    @staticmethod
    def good(data: Any) -> httpx.Response:
        return httpx.Response(200, json={"ok": True, "data": data})


class Shop:
    """The two with a guard between them."""

    def __init__(self, way: Way, cents: int = 1000, **limits: int) -> None:
        self.way = way
        self.studio = Studio(cents, **(limits or {"fast": 4, "fine": 2}))
        self.events: list[Event] = []
        policy = quick(max_age=600.0, max_stale=600.0, stale_if_error=600.0)
        self.guard = way.guard(Prontopix(), policy=policy, observers=[self.events.append])
        self.client = way.client(
            self.guard,
            httpx.MockTransport(self.studio),
            base_url=Prontopix.origins[0],
            headers={"X-Prontopix-Key": "a-made-up-key"},
        )

    async def draw(self, model: str, n: int = 1, **settings: Any) -> dict[str, Any]:
        extensions = {"budgetguard": settings} if settings else {}
        response = await self.client.post("/pictures", json={"model": model, "n": n}, extensions=extensions)
        answer: dict[str, Any] = response.json()
        return answer

    async def free(self, model: str) -> int | None:
        return (await self.way.state(self.guard)).pools[model].free


# -- what the guard makes of it -------------------------------------------------------------------------------------


async def test_an_adapter_in_one_file_is_all_it_takes(way: Way) -> None:
    shop = Shop(way, cents=50)
    async with shop.client:
        answer = await shop.draw("fine", 2)
        assert answer == {"ok": True, "data": {"job": "job-1"}}
        with pytest.raises(InsufficientCredits) as refused:
            await shop.draw("fast", 18, slots=1)
        assert (refused.value.needed, refused.value.available, refused.value.balance) == (54, 26, 50)
        with pytest.raises(UnknownPrice, match="price list"):
            await shop.draw("huge")
    assert shop.studio.refused == []


async def test_each_model_has_a_line_of_its_own(way: Way) -> None:
    shop = Shop(way)
    async with shop.client:
        await shop.draw("fine", 2)
        with pytest.raises(QueueTimeout):
            await shop.draw("fine", deadline=0)
        await shop.draw("fast", 4)
        assert (await shop.free("fine"), await shop.free("fast")) == (0, 0)
        with pytest.raises(InsufficientSlots, match="pool 'fine'"):
            await shop.draw("fine", 3)
    assert shop.studio.refused == []


async def test_a_call_for_several_pictures_waits_until_all_its_slots_are_free(way: Way) -> None:
    shop = Shop(way)
    async with shop.client:
        await shop.draw("fast", 2)
        await shop.draw("fast", 1)
        async with anyio.create_task_group() as group:
            group.start_soon(shop.draw, "fast", 3)
            await until(lambda: any(type(event).__name__ == "Queued" for event in shop.events))
            for job in ("job-2", "job-1"):
                assert len(shop.studio.jobs) == 2
                shop.studio.end(job)
                await shop.client.get(f"/pictures/{job}")
        assert shop.studio.running("fast") == 3
    assert shop.studio.refused == []


async def test_what_is_charged_at_completion_is_held_until_then_and_settled_at_its_charge(way: Way) -> None:
    shop = Shop(way, cents=100)
    async with shop.client:
        await shop.draw("fine")
        await shop.client.get("/wallet")
        state = await way.state(shop.guard)
        assert (state.balance, state.credits_free) == (100, 88)
        shop.studio.end("job-1", cents=5)
        await shop.client.get("/pictures/job-1")
        assert (await way.state(shop.guard)).credits_free == 95
        await shop.client.get("/wallet")
        state = await way.state(shop.guard)
        assert (state.balance, state.credits_free) == (95, 95)
    assert [event.charge for event in shop.events if isinstance(event, Settled)] == [12]


async def test_a_call_that_may_be_paid_from_what_open_calls_leave_over_waits_for_it(way: Way) -> None:
    shop = Shop(way, cents=24, fast=5, fine=2)
    async with shop.client:
        await shop.draw("fine")
        async with anyio.create_task_group() as group:
            group.start_soon(partial(shop.draw, "fast", 5, slots=1))
            await until(lambda: any(type(event).__name__ == "Queued" for event in shop.events))
            assert len(shop.studio.jobs) == 1
            shop.studio.end("job-1", cents=4)
            await shop.client.get("/pictures/job-1")
    assert shop.studio.refused == []
    assert len(shop.studio.jobs) == 2


async def test_the_next_in_line_has_its_turn_when_the_head_gives_up_without_having_held_anything(way: Way) -> None:
    shop = Shop(way, cents=24, fast=5, fine=2)

    async def impatient() -> None:
        with pytest.raises(QueueTimeout):
            await shop.draw("fast", 5, deadline=0.05)

    async with shop.client:
        await shop.draw("fine")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(impatient)
                await until(lambda: any(type(event).__name__ == "Queued" for event in shop.events))
                assert (await shop.draw("fast", 1, deadline=2))["ok"]
    (admitted,) = [event for event in shop.events if isinstance(event, Admitted) and event.credits == 3]
    assert admitted.waited < 1
    assert shop.studio.refused == []


async def test_lists_and_cancelled_jobs_free_their_slots(way: Way) -> None:
    shop = Shop(way)
    async with shop.client:
        for _ in range(3):
            await shop.draw("fast")
        shop.studio.end("job-1")
        shop.studio.end("job-2", "failed")
        await shop.client.get("/pictures")
        assert await shop.free("fast") == 3
        await shop.client.request("DELETE", "/pictures/job-3")
        assert await shop.free("fast") == 4
    states = [event.state for event in shop.events if isinstance(event, TaskEnded)]
    assert states == [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED]


async def test_errors_inside_a_200_are_understood(way: Way) -> None:
    shop = Shop(way)
    async with shop.client:
        shop.studio.fail_with = ["busy"]
        assert (await shop.draw("fine"))["ok"]
        shop.studio.fail_with = ["bad_request"]
        assert (await shop.draw("fine"))["error"] == "bad_request"
        shop.studio.fail_with = ["low_funds"]
        with pytest.raises(InsufficientCredits) as refused:
            await shop.draw("fine")
        assert refused.value.by_provider
        assert refused.value.response.json() == {"ok": False, "error": "low_funds"}
        assert (await way.state(shop.guard)).credits_held == 12


async def test_a_draft_holds_its_slot_until_its_body_is_closed(way: Way) -> None:
    shop = Shop(way)
    async with shop.client:
        async with shop.client.stream("POST", "/drafts", json={}) as body:
            assert await shop.free("fast") == 3
            async for _ in body.pieces("raw"):
                assert await shop.free("fast") == 3
        assert await shop.free("fast") == 4
        assert (await shop.client.post("/drafts", json={})).content == b"png" * 99
        assert await shop.free("fast") == 4


async def test_a_draft_nobody_reads_still_frees_its_slot_when_it_is_closed(way: Way) -> None:
    shop = Shop(way)
    async with shop.client:
        async with shop.client.stream("POST", "/drafts", json={}):
            assert await shop.free("fast") == 3
        assert await shop.free("fast") == 4


async def test_a_draft_whose_answer_came_read_already_frees_its_slot_at_once(way: Way) -> None:
    shop = Shop(way)
    shop.studio.read_already = True
    async with shop.client:
        assert (await shop.client.post("/drafts", json={})).content == b"png" * 99
        assert await shop.free("fast") == 4


async def test_many_callers_at_once_are_all_served_and_none_is_refused(way: Way) -> None:
    shop = Shop(way, cents=10_000)

    async def one(number: int) -> None:
        model = "fine" if number % 3 else "fast"
        job = (await shop.draw(model, 1 + number % 2))["data"]["job"]
        shop.studio.end(job)
        await shop.client.get(f"/pictures/{job}")

    async with shop.client, anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(one, number)
    assert shop.studio.refused == []
    assert len(shop.studio.jobs) == 30
    state = await way.state(shop.guard)
    assert [(pool.free, pool.waiting) for pool in state.pools.values()] == [(4, 0), (2, 0)]
