"""A permit's token ends it in any process, once, and says nothing it should not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from budgetguard._tokens import Token, is_token
from budgetguard.errors import PermitError, SettingError
from budgetguard.events import Settled, TaskEnded
from tests.support.permits import HoldingScene, said
from tests.support.scene import PATIENT
from tests.support.vidu import KEY, quick
from tests.support.ways import Way

pytestmark = pytest.mark.anyio


async def test_an_open_permit_is_settled_and_ended_by_its_token_in_another_process(way: Way) -> None:
    scene = HoldingScene(way)
    async with scene.reserve(35) as permit:
        permit.sent()
        assert await way.finished(scene.another(), permit.token, charge=30)
        assert await scene.held() == (30, 0, 0)
        assert not await way.finished(scene.another(), permit.token), "twice is harmless"
    assert await scene.held() == (30, 0, 0), "leaving the block does not count it again"
    assert [event.charge for event in scene.told(Settled)] == [30]
    assert len(scene.told(TaskEnded)) == 1


@pytest.mark.parametrize("at", ["before", "after"])
async def test_a_permit_whose_task_took_over_is_ended_by_its_token_whenever_that_was_kept(at: str, way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    token = permit.token
    await said(permit.settle(task_id="T"))
    if at == "after":
        token = permit.token
        assert token != Token.loads(permit.token).id
    assert await scene.held() == (35, 0, 1)
    assert await way.finished(scene.another(), token)
    assert await scene.held() == (35, 0, 0)
    assert not await way.finished(scene.another(), token)
    assert not await way.finished(scene.another(), "T")
    assert not scene.store._accounts[permit.account].records


async def test_what_tells_where_a_permit_went_goes_with_its_task(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    await said(permit.settle(task_id="T"))
    assert set(scene.store._accounts[permit.account].records) == {"t:T", f"p:{permit.id}"}
    assert await way.finished(scene.guard, "T")
    assert not scene.store._accounts[permit.account].records
    assert not await way.finished(scene.another(), permit.token)


async def test_so_it_does_when_the_lease_of_the_task_ends(way: Way) -> None:
    scene = HoldingScene(way, policy=quick(**PATIENT, task_lease=300.0))
    permit = await scene.get(35)
    await said(permit.settle(task_id="T"))
    scene.clock.advance(1000)
    await said((await scene.get(1)).release())
    assert not scene.store._accounts[permit.account].records


async def test_a_released_permit_has_nothing_to_end(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    token = permit.token
    await said(permit.release())
    assert not await way.finished(scene.another(), token)
    assert await scene.held() == (0, 0, 0)


async def test_released_after_its_token_ended_it_is_an_error(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    assert await way.finished(scene.another(), permit.token)
    with pytest.raises(PermitError, match="by its token"):
        await said(permit.release())
    assert (await scene.held())[0] == 35


async def test_settled_after_its_token_ended_it_is_harmless_and_counts_once(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    assert await way.finished(scene.another(), permit.token, charge=30)
    await said(permit.settle(task_id="T"))
    assert await scene.held() == (30, 0, 0)
    scene.clock.advance(100_000)
    await said((await scene.get(1)).release())
    assert not scene.store._accounts[permit.account].records, "the word left for the holder goes too"


async def test_a_permit_whose_lease_has_ended_can_still_be_ended_by_its_token(way: Way) -> None:
    scene = HoldingScene(way, policy=quick(lease=50.0, task_lease=1000.0, max_age=1.0, max_stale=1.0))
    permit = await scene.get(35)
    token = permit.token
    scene.guard.heartbeat.forget(permit._hold)
    scene.clock.advance(60)
    await said((await scene.get(1)).release())
    assert await way.finished(scene.another(), token)
    await said(permit.settle(charge=35))
    assert not {key for key in scene.store._accounts[permit.account].records if not key.startswith("p:")}


async def test_a_failed_call_is_refunded_where_the_policy_says_so(way: Way) -> None:
    scene = HoldingScene(way, policy=quick(**PATIENT, refund_failed=True))
    permit = await scene.get(35)
    assert await way.finished(scene.guard, permit.token, state="failed")
    assert await scene.held() == (0, 0, 0)


async def test_a_token_of_another_account_is_an_error_that_says_so(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    stranger = scene.another(api_key="vda_of_somebody_else")
    with pytest.raises(PermitError, match="another account"):
        await way.finished(stranger, permit.token)
    assert await way.finished(stranger, permit.token, key=KEY)


async def test_a_token_that_was_cut_or_changed_is_an_error(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    token = permit.token
    for wrong in (token[:-1], token[:10], "bg1.", token + "A", token[:-2] + "__", "bg1.!!", "bg1.é"):
        with pytest.raises(PermitError, match="cut short or changed"):
            await way.finished(scene.guard, wrong)
    assert not await way.finished(scene.guard, "no-token"), "anything else is a task nobody knows"
    await said(permit.release())


async def test_a_state_that_is_no_end_is_an_error_for_tokens_too(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    with pytest.raises(SettingError):
        await way.finished(scene.guard, permit.token, state="running")
    await said(permit.release())


async def test_a_token_fits_into_addresses_and_names_neither_key_nor_account(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", permit.token)
    assert is_token(permit.token)
    token = Token.loads(permit.token)
    assert Token.loads(token.dumps()) == token
    everything = repr(token) + permit.token
    assert KEY not in everything
    assert permit.account.split(":")[1] not in everything
    await said(permit.release())


async def test_two_who_end_it_at_once_end_it_once(way: Way) -> None:
    """The other one comes between any two steps of the first."""
    for stop in range(1, 12):
        scene = HoldingScene(way)
        permit = await scene.get(35)
        token, other = permit.token, scene.another()
        ended: list[bool] = []
        between = _Between(scene, stop)
        scene.store.load, scene.store.transact = between.load, between.transact  # type: ignore[method-assign]
        between.act = lambda token=token, ended=ended, scene=scene: ended.append(_end_now(scene, token))
        await way.finished(other, token, charge=30)
        between.act = None
        await said(permit.settle(charge=30))
        assert await scene.held() == (30, 0, 0), stop


class _Between:
    def __init__(self, scene: HoldingScene, stop: int) -> None:
        self.scene, self.left = scene, stop
        self.act: Any = None
        self._load, self._transact = scene.store.load, scene.store.transact

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0 and self.act is not None:
            act, self.act = self.act, None
            act()

    def load(self, *args: Any, **given: Any) -> Any:
        self._step()
        return self._load(*args, **given)

    def transact(self, *args: Any, **given: Any) -> Any:
        self._step()
        return self._transact(*args, **given)


def _end_now(scene: HoldingScene, token: str) -> bool:
    from budgetguard._core.permits import end_by_token
    from budgetguard._drivers.blocking import BlockingDriver
    from budgetguard.model import TaskSeen, TaskState

    engine = scene.another().engine
    account, named = engine.token_of(token, [engine.account(KEY)])
    driver = BlockingDriver(scene.store, engine.tell)
    return driver.run(account, end_by_token(account, named.id, TaskSeen("", TaskState.SUCCEEDED, 30)))
