"""What a permit holds, how it ends, and what it complains of."""

from __future__ import annotations

import contextlib
import gc
from typing import Any

import pytest

from budgetguard._core.line import Ticket
from budgetguard.errors import (
    CreditsUnavailable,
    InsufficientCredits,
    InsufficientSlots,
    PermitError,
    QueueTimeout,
    SettingError,
    StoreError,
)
from budgetguard.events import Admitted, OutcomeUnknown, Overspent, PriceMismatch, Released, Settled
from budgetguard.model import Quote
from tests.support.permits import HoldingScene, said
from tests.support.ways import Way

pytestmark = pytest.mark.anyio


class Mishap(Exception):
    """What goes wrong in a block."""


async def test_a_block_left_without_a_word_gives_all_back_if_nothing_was_sent(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35, 2) as permit:
        assert await scene.held() == (35, 2, 0)
        assert (permit.credits, permit.slots, permit.pool, permit.state) == (35, 2, "", "held")
    assert await scene.held() == (0, 0, 0)
    assert permit.state == "released"
    (told,) = scene.told(Released)
    assert told.reservation == permit.id


async def test_a_block_left_without_a_word_is_settled_at_the_price_if_something_was_sent(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        permit.sent()
        assert permit.state == "sent"
    assert permit.state == "settled"
    assert await scene.held() == (35, 0, 0)
    assert [event.charge for event in scene.told(Settled)] == [35]


async def test_a_block_left_by_an_exception_is_unknown_if_something_was_sent(way: Way) -> None:
    scene = HoldingScene(way)
    permit = None
    with contextlib.suppress(Mishap):
        async with scene.reserve(35) as permit:
            permit.sent()
            raise Mishap
    assert permit is not None
    assert permit.state == "unknown"
    assert await scene.held() == (35, 1, 0)
    assert len(scene.told(OutcomeUnknown)) == 1
    scene.clock.advance(121)
    assert len(scene.due()) == 1


async def test_a_block_left_by_an_exception_gives_all_back_if_nothing_was_sent(way: Way) -> None:
    scene = HoldingScene(way)
    with pytest.raises(Mishap):
        async with scene.reserve(35):
            raise Mishap
    assert await scene.held() == (0, 0, 0)


async def test_a_charge_is_booked_at_once_and_the_slot_comes_back_with_the_end_of_the_block(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        permit.sent()
        await said(permit.settle(charge=30))
        assert await scene.held() == (30, 0, 1)
    assert await scene.held() == (30, 0, 0)
    assert not scene.told(PriceMismatch), "a price that the caller gives is a bound, not a row of a list"


async def test_outside_of_a_block_the_slot_comes_back_when_it_is_settled(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    await said(permit.settle())
    assert await scene.held() == (35, 0, 0)


async def test_with_a_task_the_slot_stays_until_the_task_has_ended(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        await said(permit.settle(task_id="T"))
    assert await scene.held() == (35, 0, 1)
    assert await way.finished(scene.guard, "T")
    assert await scene.held() == (35, 0, 0)


async def test_a_task_known_beforehand_need_not_be_named_again(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35, task_id="T") as permit:
        permit.sent()
    assert await scene.held() == (35, 0, 1)
    assert await way.finished(scene.guard, "T")


async def test_more_than_was_held_is_booked_and_told(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    await said(permit.settle(charge=50))
    assert (await scene.held())[0] == 50
    assert len(scene.told(Overspent)) == 1


async def test_released_after_it_was_sent_it_is_what_the_provider_refused(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        permit.sent()
        await said(permit.release())
        assert await scene.held() == (0, 0, 0)


SAME: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "settled": [("settle", {}), ("settle", {"charge": 35}), ("settle", {})],
    "settled with a charge": [("settle", {"charge": 30}), ("settle", {"charge": 30}), ("settle", {})],
    "settled with a task": [("settle", {"task_id": "T"}), ("settle", {}), ("settle", {"task_id": "T"})],
    "released": [("release", {}), ("release", {})],
    "unknown": [("unknown", {}), ("unknown", {})],
}
CONTRADICTIONS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "released after settled": [("settle", {}), ("release", {})],
    "settled after released": [("release", {}), ("settle", {})],
    "unknown after settled": [("settle", {}), ("unknown", {})],
    "settled after unknown": [("unknown", {}), ("settle", {})],
    "another charge": [("settle", {"charge": 30}), ("settle", {"charge": 31})],
    "a charge after the price": [("settle", {}), ("settle", {"charge": 31})],
    "another task": [("settle", {"task_id": "T"}), ("settle", {"task_id": "U"})],
    "a task afterwards": [("settle", {}), ("settle", {"task_id": "U"})],
    "sent after released": [("release", {}), ("sent", {})],
}


@pytest.mark.parametrize("words", SAME)
async def test_the_same_said_twice_is_harmless(words: str, way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        for word, given in SAME[words]:
            await said(getattr(permit, word)(**given))
    ends = scene.told(Settled) + scene.told(Released) + scene.told(OutcomeUnknown)
    assert len(ends) == 1


@pytest.mark.parametrize("words", CONTRADICTIONS)
async def test_a_contradiction_is_an_error_and_changes_nothing(words: str, way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        (first, given), (second, contrary) = CONTRADICTIONS[words]
        await said(getattr(permit, first)(**given))
        before = scene.store.load(permit.account)
        with pytest.raises(PermitError, match="ends once"):
            await said(getattr(permit, second)(**contrary))
        assert scene.store.load(permit.account).counters == before.counters


async def test_a_block_is_entered_once(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        with pytest.raises(PermitError, match="once"):
            async with scene.block(permit):
                pass
    with pytest.raises(PermitError, match="once"):
        async with scene.block(permit):
            pass
    assert await scene.held() == (0, 0, 0)


async def test_an_async_permit_is_nothing_before_it_was_awaited() -> None:
    scene = HoldingScene(Way("asyncio"))
    permit = scene.guard.reserve(35)
    assert permit.state == "waiting"
    with pytest.raises(PermitError, match="await it first"):
        permit.sent()
    with pytest.raises(PermitError, match="await it first"):
        await permit.settle()
    with pytest.raises(PermitError, match="await it first"):
        assert permit.token
    assert await permit is permit
    assert await permit is permit, "twice is the same"
    assert await scene.held() == (35, 1, 0)
    await permit.release()


async def test_what_cannot_be_had_is_refused_like_a_call(way: Way) -> None:
    scene = HoldingScene(way, credits=100, limit=2)
    with pytest.raises(InsufficientCredits) as poor:
        await scene.get(101)
    assert poor.value.shortfall == 1
    with pytest.raises(InsufficientSlots):
        await scene.get(1, 3)
    both = await scene.get(10, 2)
    with pytest.raises(QueueTimeout):
        await scene.get(10, deadline=0)
    assert await scene.held() == (10, 2, 0)
    await said(both.release())


async def test_a_quote_brings_its_own_slots(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(Quote(35, 2)):
        assert await scene.held() == (35, 2, 0)
    with pytest.raises(SettingError, match="brings its own"):
        await scene.get(Quote(35, 2), 3)


@pytest.mark.parametrize(
    "given",
    [
        {"credits": -1},
        {"credits": None},
        {"credits": True},
        {"credits": "35"},
        {"credits": 35, "slots": -1},
        {"credits": 35, "pool": 3},
        {"credits": 35, "deadline": -1.0},
        {"credits": 35, "priority": 0.5},
        {"credits": 35, "tags": "nightly"},
        {"credits": 35, "tags": [1]},
        {"credits": 35, "tags": 5},
    ],
    ids=str,
)
async def test_what_cannot_work_is_refused_before_anything_is_held(given: dict[str, Any], way: Way) -> None:
    scene = HoldingScene(way)
    with pytest.raises(SettingError):
        await scene.get(**given)
    assert not scene.store.load(scene.guard.bearer.url.host).records


async def test_tags_are_told_and_shown(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35, tags={"team": "film"}) as permit:
        assert permit.tags == ("team=film",)
        assert "team=film" in repr(permit)
    assert [event.tags for event in scene.told(Admitted)] == [("team=film",)]
    assert [event.tags for event in scene.told(Released)] == [("team=film",)]
    async with scene.reserve(35, tags=["nightly"]) as permit:
        assert permit.tags == ("nightly",)


async def test_a_charge_that_is_none_is_refused_and_the_permit_stays_open(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        for wrong in (-1, "4", True, 0.5):
            with pytest.raises(SettingError, match="charge"):
                await said(permit.settle(charge=wrong))
        with pytest.raises(SettingError, match="task_id"):
            await said(permit.settle(task_id=5))
        assert permit.state == "held"


async def test_a_permit_that_is_dropped_without_a_word_ends_with_its_lease(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    scene.guard.heartbeat.beat()
    scene.clock.advance(100)
    scene.guard.heartbeat.beat()
    scene.clock.advance(100)
    assert scene.due() == [], "as long as somebody has it, it is kept"
    del permit
    gc.collect()
    scene.guard.heartbeat.beat()
    scene.clock.advance(100)
    assert len(scene.due()) == 1


async def test_an_open_block_outlasts_its_lease(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        for _ in range(5):
            scene.clock.advance(100)
            scene.guard.heartbeat.beat()
            assert scene.due() == []
        await said(permit.settle(charge=5))
    assert await scene.held() == (5, 0, 0)


async def test_a_store_that_fails_is_told_and_may_be_tried_again(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)

    def down(*given: Any) -> Any:
        raise StoreError("down")

    with monkeypatch.context() as broken:
        broken.setattr(scene.store, "transact" if way.blocking else "atransact", down)
        with pytest.raises(StoreError):
            await said(permit.settle(charge=4))
    with pytest.raises(PermitError):
        await said(permit.release())
    await said(permit.settle(charge=4))
    assert await scene.held() == (4, 0, 0)


async def test_trying_gives_none_where_only_time_could_help(way: Way) -> None:
    scene = HoldingScene(way, credits=100, limit=1)
    first = await said(scene.guard.try_reserve(10))
    assert first is not None
    assert await said(scene.guard.try_reserve(10)) is None
    assert await scene.held() == (10, 1, 0)
    await said(first.release())
    with pytest.raises(InsufficientCredits):
        await said(scene.guard.try_reserve(101))
    async with scene.block(await said(scene.guard.try_reserve(100))) as permit:
        assert permit.credits == 100
    assert await scene.held() == (0, 0, 0)


async def test_trying_does_not_overtake_the_line(way: Way) -> None:
    scene = HoldingScene(way, limit=2)
    first = await scene.get(10)
    line, ticket = scene.guard.engine.named(first.account).line(""), Ticket()
    line.join(ticket)
    assert await said(scene.guard.try_reserve(10)) is None
    line.leave(ticket)
    second = await said(scene.guard.try_reserve(10))
    for permit in (first, second):
        await said(permit.release())


async def test_trying_refreshes_a_reading_that_is_too_old(way: Way) -> None:
    scene = HoldingScene(way, credits=100)
    await said((await said(scene.guard.try_reserve(90))).release())
    scene.clock.advance(10_000)
    scene.fake.top_up(100)
    permit = await said(scene.guard.try_reserve(190))
    assert permit is not None
    await said(permit.release())


async def test_what_can_be_afforded_is_a_look_that_holds_nothing(way: Way) -> None:
    scene = HoldingScene(way, credits=100, limit=2)
    assert await said(scene.guard.can_afford(100)) is True
    assert await said(scene.guard.can_afford(101)) is False
    assert await said(scene.guard.can_afford(1, 2)) is True
    assert await said(scene.guard.can_afford(1, 3)) is False
    assert await said(scene.guard.can_afford(Quote(40, 2))) is True
    async with scene.reserve(90, 2):
        assert await said(scene.guard.can_afford(10)) is True, "its slot would be had after a wait"
        assert await said(scene.guard.can_afford(11)) is False
        assert (await scene.held())[0] == 90
    assert scene.guard.heartbeat._calls == {}


async def test_a_balance_that_cannot_be_read_is_no_answer(way: Way) -> None:
    scene = HoldingScene(way)
    scene.fake.fail_next("html_502", on="credits")
    with pytest.raises(CreditsUnavailable):
        await said(scene.guard.can_afford(1))
    with pytest.raises(CreditsUnavailable):
        await said(scene.guard.try_reserve(1))


async def test_a_guard_without_a_key_says_where_to_give_one(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDU_API_KEY", raising=False)
    scene = HoldingScene(way)
    guard = way.guard(scene.guard.engine.provider)
    with pytest.raises(SettingError, match="VIDU_API_KEY"):
        guard.reserve(1)
