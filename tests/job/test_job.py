"""What a job holds, what joins it, and how it ends."""

from __future__ import annotations

import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import anyio
import pytest

from budgetguard import AsyncGuard, Guard
from budgetguard.errors import InsufficientCredits, PermitError, QueueTimeout, SettingError
from budgetguard.events import Admitted, Joined, OutcomeUnknown, Settled
from tests.support.permits import HoldingScene, said
from tests.support.vidu import BODY, PRICE, SUBMIT, vidu
from tests.support.ways import Way, in_thread, way_named

pytestmark = pytest.mark.anyio


class Mishap(Exception):
    """What goes wrong in a job."""


class JobScene(HoldingScene):
    """A scene whose clients are of httpx's own kind, as a job function has them."""

    def __init__(self, way: Way, **given: Any) -> None:
        super().__init__(way, **given)
        caller: Any = self.client()
        self.caller, self.http = caller, caller.client

    async def run(self, blocking: Any, concurrent: Any) -> Any:
        """Run the one that fits."""
        if self.way.blocking:
            return await in_thread(blocking)
        return await concurrent()

    def calling(self, times: int = 1, **job: Any) -> Any:
        """Make a job that submits some calls one after another."""

        def blocking() -> list[int]:
            return [self.http.post(SUBMIT, json=BODY).status_code for _ in range(times)]

        async def concurrent() -> list[int]:
            return [(await self.http.post(SUBMIT, json=BODY)).status_code for _ in range(times)]

        function = self.guard.job(**job)(blocking if self.way.blocking else concurrent)
        return functools.partial(self.run, function, function)


async def test_the_hold_spans_the_function_and_is_settled_when_it_returns(way: Way) -> None:
    scene = JobScene(way)
    seen: list[tuple[int, int]] = []

    def work(prompt: str, *, seconds: int = 5) -> str:
        permit = scene.guard.current_permit()
        seen.append((permit.credits, len(scene.store._accounts[permit.account].records)))
        return prompt * seconds

    render = scene.job(work, credits=lambda prompt, *, seconds=5: 7 * seconds)
    assert await said(render("a", seconds=2)) == "aa"
    assert await said(render("b")) == "bbbbb"
    assert seen == [(14, 1), (35, 1)]
    assert await scene.held() == (49, 0, 0)
    with pytest.raises(PermitError, match="No permit"):
        scene.guard.current_permit()


async def test_charge_and_task_are_read_from_the_result(way: Way) -> None:
    scene = JobScene(way)
    job = scene.job(
        lambda: {"paid": 20, "id": 77}, 35, charge=lambda result: result["paid"], task_id=lambda result: result["id"]
    )
    assert (await said(job()))["id"] == 77
    assert await scene.held() == (20, 0, 1)
    assert await way.finished(scene.guard, "77")


async def test_a_result_that_does_not_tell_costs_the_price(way: Way) -> None:
    scene = JobScene(way)
    job = scene.job(lambda: 5, 35, charge=lambda result: None, task_id=lambda result: None)
    assert await said(job()) == 5
    assert await scene.held() == (35, 0, 0)


async def test_a_reader_of_results_that_fails_books_the_price_and_is_heard(way: Way) -> None:
    scene = JobScene(way)
    with pytest.raises(ZeroDivisionError):
        await said(scene.job(lambda: 0, 35, charge=lambda result: 1 // result)())
    with pytest.raises(SettingError):
        await said(scene.job(lambda: 0, 35, charge=lambda result: "a lot")())
    assert await scene.held() == (70, 0, 0)


async def test_a_function_that_raises_leaves_it_unknown(way: Way) -> None:
    scene = JobScene(way)

    def fail() -> None:
        raise Mishap

    with pytest.raises(Mishap):
        await said(scene.job(fail, 35)())
    assert await scene.held() == (35, 1, 0)
    assert len(scene.told(OutcomeUnknown)) == 1


async def test_wrong_arguments_give_it_back(way: Way) -> None:
    scene = JobScene(way)
    with pytest.raises(TypeError):
        await said(scene.guard.job(35)(_takes_none if way.blocking else _atakes_none)(1))
    assert await scene.held() == (0, 0, 0)


def _takes_none() -> None: ...


async def _atakes_none() -> None: ...


async def test_the_function_may_say_itself_how_it_ended(way: Way) -> None:
    scene = JobScene(way)

    def blocking() -> int:
        scene.guard.current_permit().settle(charge=3)
        return 1

    async def concurrent() -> int:
        await scene.guard.current_permit().settle(charge=3)
        return 1

    job = scene.guard.job(35, charge=lambda result: 30)(blocking if way.blocking else concurrent)
    assert await said(job()) == 1
    assert await scene.held() == (3, 0, 0)


async def test_a_job_that_cannot_be_admitted_does_not_begin(way: Way) -> None:
    scene = JobScene(way, credits=100, limit=1)
    ran: list[int] = []
    with pytest.raises(InsufficientCredits):
        await said(scene.job(lambda: ran.append(1), 101)())
    holder = await scene.get(1)
    with pytest.raises(QueueTimeout):
        await said(scene.job(lambda: ran.append(1), 5, timeout=0)())
    await said(holder.release())
    assert not ran


# -- calls inside ---------------------------------------------------------------------------------------------------


async def test_a_call_inside_draws_on_the_job_and_the_rest_comes_back(way: Way) -> None:
    scene = JobScene(way, limit=1)
    assert await scene.calling(credits=35)() == [200]
    assert await scene.held() == (PRICE, 0, 1)
    (joined,) = scene.told(Joined)
    assert (joined.credits, joined.slots) == (PRICE, 1)
    assert len(scene.told(Admitted)) == 1


async def test_two_calls_inside_need_two_slots_and_none_twice(way: Way) -> None:
    scene = JobScene(way, limit=2)
    assert await scene.calling(2, credits=2 * PRICE)() == [200, 200]
    assert await scene.held() == (2 * PRICE, 0, 2)
    assert scene.fake.journal.submits == 2


async def test_a_call_dearer_than_its_job_takes_the_difference(way: Way) -> None:
    scene = JobScene(way, credits=PRICE, limit=1)
    assert await scene.calling(credits=PRICE - 6)() == [200]
    assert await scene.held() == (PRICE, 0, 1)


async def test_a_call_dearer_than_its_job_is_refused_before_it_is_sent_if_the_difference_is_not_there(way: Way) -> None:
    scene = JobScene(way, credits=PRICE - 1, limit=1)
    with pytest.raises(InsufficientCredits) as refused:
        await scene.calling(credits=PRICE - 6)()
    assert refused.value.shortfall == 1
    assert scene.fake.journal.submits == 0
    assert await scene.held() == (0, 0, 0), "the job did nothing else, so it is given back"


async def test_a_call_the_provider_rejects_gives_back_what_it_drew(way: Way) -> None:
    scene = JobScene(way, limit=1)
    scene.fake.fail_next("FieldLacking")

    def blocking() -> None:
        assert scene.http.post(SUBMIT, json=BODY).status_code == 400
        assert scene.http.post(SUBMIT, json=BODY).status_code == 200

    async def concurrent() -> None:
        assert (await scene.http.post(SUBMIT, json=BODY)).status_code == 400
        assert (await scene.http.post(SUBMIT, json=BODY)).status_code == 200

    job = scene.guard.job(PRICE)(blocking if way.blocking else concurrent)
    await scene.run(job, job)
    assert len(scene.told(Admitted)) == 1, "the second drew what the first gave back"
    assert await scene.held() == (PRICE, 0, 1)


async def test_a_job_that_fails_after_its_calls_is_not_unknown(way: Way) -> None:
    scene = JobScene(way)

    def blocking() -> None:
        scene.http.post(SUBMIT, json=BODY)
        raise Mishap

    async def concurrent() -> None:
        await scene.http.post(SUBMIT, json=BODY)
        raise Mishap

    job = scene.guard.job(35)(blocking if way.blocking else concurrent)
    with pytest.raises(Mishap):
        await scene.run(job, job)
    assert await scene.held() == (PRICE, 0, 1)


async def test_a_charge_of_a_job_counts_what_its_calls_were_charged(way: Way) -> None:
    scene = JobScene(way)
    await scene.calling(credits=35, charge=lambda result: PRICE + 4)()
    assert (await scene.held())[0] == PRICE + 4
    assert sorted(event.charge for event in scene.told(Settled)) == [4, PRICE]
    await scene.calling(credits=35, charge=lambda result: PRICE)()
    assert (await scene.held())[0] == 2 * PRICE + 4


async def test_a_task_that_a_call_inside_started_is_not_counted_twice(way: Way) -> None:
    scene = JobScene(way)
    tasks: list[str] = []

    def blocking() -> str:
        tasks.append(scene.http.post(SUBMIT, json=BODY).json()["task_id"])
        return tasks[0]

    async def concurrent() -> str:
        tasks.append((await scene.http.post(SUBMIT, json=BODY)).json()["task_id"])
        return tasks[0]

    job = scene.guard.job(35, task_id=lambda result: result)(blocking if way.blocking else concurrent)
    await scene.run(job, job)
    assert await scene.held() == (PRICE, 0, 1)
    assert await way.finished(scene.guard, tasks[0])
    assert await scene.held() == (PRICE, 0, 0)


async def test_a_permit_inside_a_permit_and_a_job_inside_a_job_join_too(way: Way) -> None:
    scene = JobScene(way, credits=100, limit=1)
    async with scene.reserve(100):
        async with scene.reserve(60) as inner:
            assert await scene.held() == (100, 1, 0)
            inner.sent()
            await said(inner.settle(charge=50))
        assert (await scene.held())[0] == 90, "what it did not cost after all is free for everybody"
        await said(scene.job(lambda: None, 30)())
    assert await scene.held() == (80, 0, 0)


async def test_a_call_of_another_account_does_not_join(way: Way) -> None:
    scene = JobScene(way, limit=2)
    stranger = scene.another(api_key="vda_of_somebody_else")
    async with scene.reserve(10), scene.block(stranger.reserve(10)):
        pass
    assert not scene.told(Joined)


async def test_what_is_made_after_the_end_was_said_stands_for_itself(way: Way) -> None:
    scene = JobScene(way)
    async with scene.reserve(35) as permit:
        await said(permit.settle(charge=5))
        async with scene.reserve(10) as later:
            later.sent()
    assert not scene.told(Joined)
    assert (await scene.held())[0] == 15


async def test_calls_made_side_by_side_draw_no_credit_twice(way: Way) -> None:
    scene = JobScene(way, credits=8 * PRICE, limit=8)

    def blocking() -> None:
        crew = [
            threading.Thread(
                target=contextvars.copy_context().run, args=(functools.partial(scene.http.post, SUBMIT, json=BODY),)
            )
            for _ in range(8)
        ]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()

    async def concurrent() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(functools.partial(scene.http.post, SUBMIT, json=BODY))

    job = scene.guard.job(8 * PRICE, slots=8)(blocking if way.blocking else concurrent)
    await scene.run(job, job)
    assert scene.fake.journal.accepted == 8
    assert await scene.held() == (8 * PRICE, 0, 8)
    assert sum(event.credits for event in scene.told(Joined)) == 8 * PRICE


async def test_two_jobs_that_each_want_another_slot_do_not_wait_for_each_other(way: Way) -> None:
    scene = JobScene(way, limit=2, duration=0.0)
    want_two = {"budgetguard": {"slots": 2}}

    def blocking() -> int:
        return int(scene.http.post(SUBMIT, json=BODY, extensions=want_two).status_code)

    async def concurrent() -> int:
        with anyio.fail_after(20):
            status: int = (await scene.http.post(SUBMIT, json=BODY, extensions=want_two)).status_code
        return status

    job = scene.guard.job(PRICE)(blocking if way.blocking else concurrent)
    done: list[int] = []

    async def one() -> None:
        done.append(await scene.run(job, job))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(one)
            while len(done) < 2:
                await anyio.sleep(0.01)
                scene.clock.advance(10)
                await scene.caller.get("/ent/v2/tasks", params={"pager.pagesz": "100"})
                await scene.caller.get("/ent/v2/credits")
    assert done == [200, 200]


# -- generators, methods, and what is no job -------------------------------------------------------------------------


async def test_a_generator_holds_from_its_first_item_to_its_end(way: Way) -> None:
    scene = JobScene(way)
    made = _counting(scene, 35)
    assert not scene.events
    assert await _next(made) == 0
    assert await scene.held() == (35, 1, 0)
    with pytest.raises(PermitError):
        scene.guard.current_permit()
    assert [item async for item in _rest(made)] == [1, 2]
    assert await scene.held() == (35, 0, 0)


async def test_a_generator_closed_early_is_settled(way: Way) -> None:
    scene = JobScene(way)
    made = _counting(scene, 35)
    await _next(made)
    await (in_thread(made.close) if way.blocking else made.aclose())
    assert await scene.held() == (35, 0, 0)
    assert len(scene.told(Settled)) == 1


async def test_what_is_sent_and_thrown_into_a_generator_reaches_it() -> None:
    scene = JobScene(way_named("blocking"))

    @scene.guard.job(35, charge=lambda result: result)  # type: ignore[untyped-decorator]
    def talk() -> Generator[str, str, int]:
        heard: list[str] = []
        while len(heard) < 2:
            try:
                heard.append((yield " ".join(heard)))
            except Mishap:
                heard.append("mishap")
        return 9

    talking = talk()
    assert next(talking) == ""
    assert talking.send("hello") == "hello"
    with pytest.raises(StopIteration) as stop:
        talking.throw(Mishap())
    assert stop.value.value == 9
    assert (await scene.held())[0] == 9


async def test_calls_inside_a_generator_join_it_and_those_of_its_taker_do_not(way: Way) -> None:
    scene = JobScene(way)

    def blocking() -> Iterator[int]:
        yield scene.http.post(SUBMIT, json=BODY).status_code
        yield 0

    async def concurrent() -> AsyncIterator[int]:
        yield (await scene.http.post(SUBMIT, json=BODY)).status_code
        yield 0

    made = scene.guard.job(35)(blocking if way.blocking else concurrent)()
    assert await _next(made) == 200
    assert len(scene.told(Joined)) == 1
    async with scene.reserve(5):
        assert len(scene.told(Joined)) == 1
    assert [item async for item in _rest(made)] == [0]
    assert (await scene.held())[0] == PRICE


def _counting(scene: JobScene, credits_: int) -> Any:
    def blocking() -> Iterator[int]:
        yield from range(3)

    async def concurrent() -> AsyncIterator[int]:
        for item in range(3):
            yield item

    return scene.guard.job(credits_)(blocking if scene.way.blocking else concurrent)()


async def _next(made: Any) -> Any:
    return next(made) if hasattr(made, "__next__") else await anext(made)


async def _rest(made: Any) -> AsyncIterator[Any]:
    if hasattr(made, "__next__"):
        for item in made:
            yield item
    else:
        async for item in made:
            yield item


async def test_methods_are_held_like_functions(way: Way) -> None:
    scene = JobScene(way)
    guard = scene.guard

    class Studio:
        price = 7

        def blocking(self, seconds: int) -> int:
            return seconds

        async def concurrent(self, seconds: int) -> int:
            return seconds

        render = guard.job(credits=lambda self, seconds: self.price * seconds)(blocking if way.blocking else concurrent)

    assert await said(Studio().render(5)) == 5
    assert (await scene.held())[0] == 35


def test_name_signature_and_kind_are_kept() -> None:
    guard, aguard = Guard(vidu(), api_key="k"), AsyncGuard(vidu(), api_key="k")

    @guard.job(1)
    def plain(prompt: str, seconds: int = 5) -> list[str]:
        """Render."""
        return [prompt] * seconds

    @aguard.job(1)
    async def concurrent(prompt: str) -> str:
        return prompt

    @guard.job(1)
    def items() -> Iterator[int]:
        yield 1

    @aguard.job(1)
    async def aitems() -> AsyncIterator[int]:
        yield 1

    assert (plain.__name__, plain.__doc__) == ("plain", "Render.")
    assert str(inspect.signature(plain)) == "(prompt: 'str', seconds: 'int' = 5) -> 'list[str]'"
    assert inspect.iscoroutinefunction(concurrent)
    assert inspect.isgeneratorfunction(items)
    assert inspect.isasyncgenfunction(aitems)


def test_a_function_of_the_wrong_colour_is_refused_when_it_is_decorated() -> None:
    guard, aguard = Guard(vidu(), api_key="k"), AsyncGuard(vidu(), api_key="k")

    async def concurrent() -> None: ...

    async def aitems() -> AsyncIterator[int]:
        yield 1

    class Machine:
        async def __call__(self) -> None: ...

    for function in (concurrent, aitems, Machine(), functools.partial(concurrent)):
        with pytest.raises(SettingError, match="AsyncGuard"):
            guard.job(1)(function)
    not_async: tuple[Any, ...] = (_takes_none, len, functools.partial(_takes_none))
    for blocking in not_async:
        with pytest.raises(SettingError, match="of a Guard"):
            aguard.job(1)(blocking)
    not_functions: tuple[Any, ...] = (int, classmethod(lambda cls: None), staticmethod(_takes_none), 5)
    for wrong in not_functions:
        with pytest.raises(SettingError, match="below @classmethod"):
            guard.job(1)(wrong)


@pytest.mark.parametrize(
    "given", [{"credits": -1}, {"credits": None}, {"credits": 1, "slots": -1}, {"credits": 1, "timeout": -1.0},
              {"credits": 1, "tags": 5}, {"credits": 1, "priority": "high"}], ids=str,
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_when_it_is_decorated(given: Any) -> None:
    for guard in (Guard(vidu(), api_key="k"), AsyncGuard(vidu(), api_key="k")):
        with pytest.raises(SettingError):
            guard.job(**given)


def test_a_job_needs_no_key_before_its_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDU_API_KEY", raising=False)
    job = Guard(vidu()).job(1)(_takes_none)
    with pytest.raises(SettingError, match="VIDU_API_KEY"):
        job()
