"""What a plan says, and that making one holds nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard import AsyncGuard, CreditsUnavailable, Guard, Plan, Quote, SettingError
from budgetguard.providers import UdioPro, Vidu
from budgetguard.stores import MemoryStore
from budgetguard.testing import FakeUdio, FakeVidu, ManualClock
from tests.support.scene import submit
from tests.support.vidu import BODY, HEADERS, HOME, KEY, PRICE, SUBMIT, quick, vidu
from tests.support.ways import Way, way_named

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def way(request: pytest.FixtureRequest) -> Way:
    return way_named(request.param)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name = str(request.getfixturevalue("way")) if "way" in request.fixturenames else "asyncio"
    return "trio" if name == "trio" else "asyncio"


class Desk:
    """An account and a guard that plans."""

    def __init__(self, way: Way, credits: int = 100, limit: int | None = 5, **settings: Any) -> None:
        self.way = way
        self.clock = ManualClock(1000.0)
        self.fake = FakeVidu(credits, limit, charge=PRICE, duration=60.0, clock=self.clock)
        self.store = MemoryStore(clock=self.clock)
        self.guard = way.guard(
            vidu(), store=self.store, policy=quick(**settings), api_key=KEY, inner=self.fake.transport()
        )

    async def plan(self, jobs: Any, **given: Any) -> Plan:
        made = self.guard.plan(jobs, **given)
        plan: Plan = await made if inspect.isawaitable(made) else made
        return plan

    @property
    def readings(self) -> int:
        return int(self.fake.journal.summary()["credits_requests"])


# -- which fit ------------------------------------------------------------------------------------------------------


async def test_jobs_are_taken_in_turn_while_there_is_as_much_left(way: Way) -> None:
    plan = await Desk(way).plan([60, 50, 30, 20, 10])
    assert [job.fits for job in plan.jobs] == [True, False, True, False, True]
    assert [job.why for job in plan.jobs] == ["", "credits", "", "credits", ""]
    assert (plan.available, plan.total, plan.spent, plan.shortfall) == (100, 170, 100, 70)
    assert [job.index for job in plan.left_out] == [1, 3]


async def test_or_as_many_as_fit_the_cheapest_first(way: Way) -> None:
    plan = await Desk(way).plan([60, 50, 30, 20, 10], order="most")
    assert [job.fits for job in plan.jobs] == [False, False, True, True, True]
    assert (plan.spent, plan.shortfall) == (60, 70)


async def test_where_all_fit_nothing_is_short(way: Way) -> None:
    plan = await Desk(way).plan([50, 50])
    assert (len(plan.fits), plan.shortfall) == (2, 0)
    assert (await Desk(way).plan([])).jobs == ()


async def test_headroom_and_what_is_promised_to_others_are_not_available(way: Way) -> None:
    desk = Desk(way, credits_headroom=30)
    async with way.client(desk.guard, desk.fake.transport(), base_url=HOME, headers=HEADERS) as client:
        await submit(client)
    assert (await desk.plan([60, 1])).available == 60


async def test_a_job_that_needs_more_slots_than_there_ever_are_does_not_fit_and_is_not_topped_up_for(way: Way) -> None:
    plan = await Desk(way, slots_headroom=1).plan([{"credits": 90, "slots": 5}, {"credits": 100, "slots": 4}])
    assert [job.why for job in plan.jobs] == ["slots", ""]
    assert (plan.total, plan.spent, plan.shortfall) == (190, 100, 0)


# -- nothing is held ------------------------------------------------------------------------------------------------


async def test_a_plan_holds_nothing_and_sends_nothing(way: Way) -> None:
    desk = Desk(way)
    await desk.plan([10] * 50)
    state = await way.state(desk.guard, KEY)
    assert (state.credits_free, state.credits_held, state.pools[""].open) == (100, 0, 0)
    assert desk.fake.journal.submits == 0


async def test_the_balance_is_asked_for_once_and_again_only_when_the_reading_is_old(way: Way) -> None:
    desk = Desk(way, max_age=10.0)
    await desk.plan([10])
    await desk.plan([10])
    assert desk.readings == 1
    desk.clock.advance(11)
    desk.fake.stranger_takes(credits=50)
    assert (await desk.plan([10])).available == 50
    assert desk.readings == 2


async def test_a_balance_that_cannot_be_read_is_said(way: Way) -> None:
    desk = Desk(way)
    desk.fake.inject("html_502", on="credits", times=None)
    with pytest.raises(CreditsUnavailable):
        await desk.plan([10])
    desk = Desk(way, on_credits_error="open")
    desk.fake.inject("html_502", on="credits", times=None)
    with pytest.raises(CreditsUnavailable):
        await desk.plan([10])


async def test_an_old_reading_is_used_while_no_new_one_can_be_had(way: Way) -> None:
    desk = Desk(way, max_age=10.0, stale_if_error=300.0)
    await desk.plan([10])
    desk.fake.inject("html_502", on="credits", times=None)
    desk.clock.advance(100)
    assert (await desk.plan([10])).available == 100


async def test_a_plan_that_is_cancelled_leaves_no_claim_behind(way: Way) -> None:
    if way.blocking:
        return
    desk = Desk(way)
    reached = anyio.Event()

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            reached.set()
            await anyio.sleep_forever()
            raise AssertionError

    stuck = way.guard(vidu(), store=desk.store, policy=quick(), api_key=KEY, inner=Slow())
    async with anyio.create_task_group() as group:
        group.start_soon(stuck.plan, [10])
        await reached.wait()
        group.cancel_scope.cancel()
    desk.clock.advance(1)
    with anyio.fail_after(5):
        assert (await desk.plan([10])).available == 100


# -- time -----------------------------------------------------------------------------------------------------------


async def test_jobs_run_as_many_at_once_as_there_are_slots(way: Way) -> None:
    plan = await Desk(way, limit=2).plan([10] * 5, seconds=60)
    assert [job.start for job in plan.jobs] == [0, 0, 60, 60, 120]
    assert (plan.seconds, dict(plan.slots)) == (180, {"": 2})


async def test_each_job_may_tell_how_long_it_takes(way: Way) -> None:
    jobs = [{"credits": 1, "seconds": seconds} for seconds in (100, 10, 10, 10)]
    plan = await Desk(way, limit=2).plan(jobs)
    assert [job.start for job in plan.jobs] == [0, 0, 10, 20]
    assert plan.seconds == 100


async def test_a_job_of_several_slots_waits_for_all_of_them_and_is_not_overtaken(way: Way) -> None:
    jobs = [{"credits": 1}, {"credits": 1, "slots": 2}, {"credits": 1}]
    plan = await Desk(way, limit=2).plan(jobs, seconds=10)
    assert [job.start for job in plan.jobs] == [0, 10, 20]


async def test_without_a_limit_all_run_at_once(way: Way) -> None:
    desk = Desk(way)
    fake = FakeUdio(credits=100)
    desk.guard = way.guard(UdioPro(concurrency=None), api_key="a-key", inner=fake.transport())
    plan = await desk.plan([5] * 9, seconds=30)
    assert (plan.seconds, dict(plan.slots)) == (30, {"": None})
    assert "unlimited" in repr(plan)


async def test_what_is_left_out_takes_no_time(way: Way) -> None:
    plan = await Desk(way, credits=20, limit=1).plan([10] * 9, seconds=10)
    assert plan.seconds == 20
    assert [job.start for job in plan.left_out] == [None] * 7


async def test_our_own_tasks_under_way_are_waited_for_and_a_strangers_slots_are_not_counted_on(way: Way) -> None:
    desk = Desk(way, limit=4)
    desk.fake.stranger_takes(slots=1)
    async with way.client(desk.guard, desk.fake.transport(), base_url=HOME, headers=HEADERS) as client:
        await submit(client)
        await submit(client)
    plan = await desk.plan([10, 10], seconds=30)
    assert dict(plan.slots) == {"": 3}
    assert [job.start for job in plan.jobs] == [0, 30]
    assert plan.seconds == 60


async def test_where_nobody_says_how_long_or_no_slot_is_ours_no_time_is_told(way: Way) -> None:
    desk = Desk(way, limit=3)
    assert (await desk.plan([10, {"credits": 10, "seconds": 5}])).seconds is None
    desk = Desk(way, limit=3)
    desk.fake.stranger_takes(slots=3)
    plan = await desk.plan([10], seconds=5)
    assert (plan.seconds, dict(plan.slots)) == (None, {"": 0})


@given(
    seconds=st.lists(st.integers(0, 50), min_size=1, max_size=30),
    slots=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    limit=st.integers(3, 6),
)
def test_never_do_more_run_at_once_than_the_limit_and_never_is_a_slot_idle_that_the_next_could_use(
    seconds: list[int], slots: list[int], limit: int
) -> None:
    fake = FakeVidu(10**6, limit)
    guard = Guard(Vidu(), api_key=KEY, inner=fake.transport())
    jobs = [{"credits": 1, "seconds": s, "slots": n} for s, n in zip(seconds, slots, strict=False)]
    plan = guard.plan(jobs)
    runs = [(job.start or 0.0, (job.start or 0.0) + (job.seconds or 0.0), job.slots) for job in plan.jobs]
    assert plan.seconds == max(end for _, end, _ in runs)
    before = 0.0
    for index, (start, _, needed) in enumerate(runs):
        busy = sum(n for s, e, n in runs[: index + 1] if s <= start < e)
        assert busy <= limit
        assert start >= before
        if start > before:
            just_before = sum(n for s, e, n in runs[:index] if s < start <= e)
            assert just_before + needed > limit
        before = start


# -- what a job may be ----------------------------------------------------------------------------------------------


async def test_a_job_may_be_credits_a_quote_a_request_or_a_mapping(way: Way) -> None:
    request = httpx.Request("POST", f"{HOME}{SUBMIT}", json=BODY)
    dear = httpx.Request("POST", f"{HOME}{SUBMIT}", json=BODY, extensions={"budgetguard": {"credits": 7, "slots": 2}})
    jobs = [
        5,
        Quote(6, 2, source="mine"),
        request,
        dear,
        {"credits": 8, "label": "own"},
        {"path": "text2video", "body": BODY, "seconds": 4},
        {"path": SUBMIT, "body": BODY, "label": "whole path"},
        {"path": "text2video", "body": BODY, "credits": 9, "slots": 3},
    ]
    plan = await Desk(way).plan(jobs, seconds=1)
    assert [job.credits for job in plan.jobs] == [5, 6, PRICE, 7, 8, PRICE, PRICE, 9]
    assert [job.slots for job in plan.jobs] == [1, 2, 1, 2, 1, 1, 1, 3]
    assert [job.seconds for job in plan.jobs] == [1, 1, 1, 1, 1, 4, 1, 1]
    assert [plan.jobs[at].label for at in (0, 1, 4, 6)] == ["", "mine", "own", "whole path"]
    assert "text2video" in plan.jobs[2].label


async def test_jobs_may_come_from_a_generator(way: Way) -> None:
    def jobs() -> Iterator[int]:
        yield from [10] * 3

    assert len((await Desk(way).plan(jobs())).fits) == 3


async def test_a_job_nobody_can_price_is_left_out_and_says_why(way: Way) -> None:
    jobs = [{"path": "brand-new", "body": {}, "label": "new"}, 10, httpx.Request("POST", f"{HOME}/ent/v2/template")]
    plan = await Desk(way).plan(jobs)
    assert [(job.credits, job.why) for job in plan.jobs] == [(None, "price"), (10, ""), (None, "price")]
    assert plan.jobs[0].label == "new"
    assert "no row" in plan.jobs[0].problem
    assert "2 without a price" in repr(plan)
    assert (plan.total, plan.shortfall) == (10, 0)


async def test_the_policy_says_what_an_unknown_price_means_here_too(way: Way) -> None:
    job = {"path": "brand-new", "body": {}}
    held = await Desk(way, unknown_price=25).plan([job])
    assert (held.spent, held.jobs[0].fits) == (25, True)
    passed = await Desk(way, unknown_price="pass").plan([job])
    assert (passed.spent, passed.jobs[0].slots, passed.jobs[0].fits) == (0, 0, True)


async def test_a_body_that_is_made_while_it_is_sent_has_no_price(way: Way) -> None:
    request = httpx.Request("POST", f"{HOME}/ent/v2/img2video", content=iter([b"{}"]))
    assert (await Desk(way).plan([request])).jobs[0].why == "price"


WRONG: list[tuple[Any, str]] = [
    (-1, r"jobs\[1\].credits=-1"),
    (True, r"jobs\[1\]='bool'"),
    (1.5, r"jobs\[1\]='float'"),
    ("35", r"jobs\[1\]='str'"),
    (None, r"jobs\[1\]"),
    ({}, r"jobs\[1\].credits=None"),
    ({"credits": "35"}, r"jobs\[1\].credits='35'"),
    ({"credits": 1.5}, r"jobs\[1\].credits=1.5"),
    ({"credits": 5, "slots": -1}, r"jobs\[1\].slots=-1"),
    ({"credits": 5, "seconds": -1}, r"jobs\[1\].seconds=-1"),
    ({"credits": 5, "seconds": float("nan")}, r"jobs\[1\].seconds=nan"),
    ({"credits": 5, "label": 5}, r"jobs\[1\].label=5"),
    ({"credits": 5, 7: 5}, r"jobs\[1\]=\['7'\]"),
    ({"crdits": 5}, r"jobs\[1\]=\['crdits'\]"),
    ({"path": "", "body": {}}, r"jobs\[1\].path=''"),
    ({"path": "/elsewhere", "body": {}}, r"jobs\[1\].path"),
    ({"path": "/ent/v2/credits", "method": "get"}, "GET there does not start paid work"),
    (httpx.Request("GET", f"{HOME}/ent/v2/credits"), r"jobs\[1\]='GET /ent/v2/credits'"),
    (httpx.Request("POST", "https://elsewhere.example/ent/v2/text2video"), r"jobs\[1\]='POST"),
]


@pytest.mark.parametrize(("job", "said"), WRONG)
async def test_what_is_no_job_is_named_by_its_place(job: Any, said: str, way: Way) -> None:
    desk = Desk(way)
    with pytest.raises(SettingError, match=said):
        await desk.plan([10, job])
    assert desk.readings == 0


@pytest.mark.parametrize(
    ("given", "name"),
    [({"order": "cheap"}, "order"), ({"seconds": -1}, "seconds"), ({"seconds": "5"}, "seconds")],
)
async def test_a_setting_that_cannot_work_is_named(given: dict[str, Any], name: str, way: Way) -> None:
    with pytest.raises(SettingError, match=name):
        await Desk(way).plan([10], **given)


@pytest.mark.parametrize("jobs", [5, "35", b"35", {"credits": 5}, None])
async def test_jobs_come_in_a_list(jobs: Any, way: Way) -> None:
    with pytest.raises(SettingError, match="give a list of jobs"):
        await Desk(way).plan(jobs)


# -- whose account --------------------------------------------------------------------------------------------------


async def test_another_key_is_another_account(way: Way) -> None:
    desk = Desk(way)
    plan = await desk.plan([10], key="vda_another")
    assert plan.account == desk.guard.account_name("vda_another") != (await desk.plan([10])).account


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_without_a_key_the_message_says_where_to_give_one(
    kind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIDU_API_KEY", raising=False)

    async def main() -> None:
        await kind(Vidu()).plan([10])

    with pytest.raises(SettingError, match="VIDU_API_KEY"):
        anyio.run(main)


# -- how it looks ---------------------------------------------------------------------------------------------------


async def test_a_plan_reads_like_a_sentence(way: Way) -> None:
    desk = Desk(way, limit=2)
    assert (
        repr(await desk.plan([35, 35, 35], seconds=100))
        == "Plan(2 of 3 jobs fit; 70 of 105 credits, 100 available; 5 short; about 1 min 40 s on 2 slots)"
    )
    assert repr(await desk.plan([5])) == "Plan(1 of 1 jobs fit; 5 of 5 credits, 100 available)"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min 59 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_is_told_in_two_units_at_most(seconds: float, said: str) -> None:
    from budgetguard.plan import duration

    assert duration(seconds) == said


async def test_a_plan_cannot_be_changed(way: Way) -> None:
    plan = await Desk(way).plan([5])
    with pytest.raises(FrozenInstanceError):
        plan.available = 10**6  # type: ignore[misc]


async def test_a_plan_keeps_what_the_guard_then_does(way: Way) -> None:
    desk = Desk(way, credits=45, limit=9)
    plan = await desk.plan([httpx.Request("POST", f"{HOME}{SUBMIT}", json=BODY)] * 6)
    statuses: list[int] = []
    async with way.client(
        desk.guard, desk.fake.transport(), base_url=HOME, headers=HEADERS, on_refusal="respond"
    ) as client:
        statuses += [(await client.post(SUBMIT, json=BODY)).status_code for _ in range(6)]
    assert [status == 200 for status in statuses] == [job.fits for job in plan.jobs]
