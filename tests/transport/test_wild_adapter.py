"""An adapter of somebody else's, whose numbers cannot be: none of them is counted with."""

from __future__ import annotations

import math
from typing import Any

import pytest

from budgetguard.errors import CreditsUnavailable, UnknownPrice
from budgetguard.model import Capacity, Outcome, Reading, TaskSeen, TaskState, Verdict
from budgetguard.providers.vidu import Vidu
from budgetguard.stores import MemoryStore
from budgetguard.testing import ManualClock
from tests.support.vidu import BODY, HEADERS, HOME, PRICE, SUBMIT, made_up, poll, quick
from tests.support.ways import Way

pytestmark = pytest.mark.anyio


WRONG: list[Any] = [-1, 1.5, math.nan, math.inf, "500", True, 10**16]


class Wild(Vidu):
    """Says what it is told to say."""

    says: dict[str, Any]

    def _said(self, name: str, otherwise: Any) -> Any:
        if name in self.says:
            said = self.says[name]
            return said() if callable(said) else said
        return otherwise()

    def reading(self, answer: Any) -> Any:
        return self._said("reading", lambda: super(Wild, self).reading(answer))

    def quote(self, route: Any, body: Any) -> Any:
        return self._said("quote", lambda: super(Wild, self).quote(route, body))

    def verdict(self, route: Any, answer: Any) -> Any:
        return self._said("verdict", lambda: super(Wild, self).verdict(route, answer))

    def observe(self, route: Any, answer: Any) -> Any:
        return self._said("observe", lambda: super(Wild, self).observe(route, answer))


class Place:
    def __init__(self, way: Way, **says: Any) -> None:
        self.way = way
        self.fake = made_up()
        self.provider = Wild(prices={"text2video": PRICE})
        self.provider.says = says
        self.guard: Any = way.guard(self.provider, policy=quick(), store=MemoryStore(ManualClock()))

    def client(self) -> Any:
        return self.way.client(self.guard, self.fake.transport(), base_url=HOME, headers=HEADERS)


def fails() -> Any:
    raise ZeroDivisionError


def of(value: Any) -> str:
    """Name a case, the same in every process."""
    return value.__name__ if callable(value) else repr(value)


@pytest.mark.parametrize(
    "reading",
    [
        None,
        {"credits": 500},
        fails,
        *(Reading(credits=wrong) for wrong in WRONG),
        *(Reading(500, {"": Capacity(limit=wrong)}) for wrong in WRONG),
        *(Reading(500, {"": Capacity(5, wrong)}) for wrong in WRONG),
        Reading(500, {"a\x1fb": Capacity(5)}),
        Reading(500, {"": None}),  # type: ignore[dict-item]
        Reading(500, None),  # type: ignore[arg-type]
    ],
    ids=of,
)
async def test_a_reading_whose_numbers_cannot_be_is_none(way: Way, reading: Any) -> None:
    place = Place(way, reading=reading)
    async with place.client() as client:
        with pytest.raises(CreditsUnavailable):
            await client.post(SUBMIT, json=BODY)
        assert place.fake.journal.submits == 0
        place.provider.says.clear()


@pytest.mark.parametrize("quote", [None, 35, {"credits": 35}, fails], ids=of)
async def test_a_price_that_is_none_is_not_known(way: Way, quote: Any) -> None:
    place = Place(way, quote=quote)
    async with place.client() as client:
        with pytest.raises(UnknownPrice, match="the adapter failed"):
            await client.post(SUBMIT, json=BODY)
    assert place.fake.journal.submits == 0


@pytest.mark.parametrize(
    "verdict",
    [
        None,
        *(Verdict(Outcome.ACCEPTED, charge=wrong, task_id="1") for wrong in WRONG),
        *(Verdict(Outcome.RATE, retry_after=wrong) for wrong in WRONG if wrong not in (1.5, True, 10**16)),
        *(Verdict(Outcome.ACCEPTED, task_id=wrong) for wrong in ["", *WRONG[:2]]),
    ],
    ids=of,
)
async def test_of_a_verdict_whose_numbers_cannot_be_nothing_is_known(way: Way, verdict: Any) -> None:
    place = Place(way, verdict=verdict)
    async with place.client() as client:
        response = await client.post(SUBMIT, json=BODY)
        assert response.json()["credits"] == PRICE
        state = await way.state(place.guard)
    assert (state.credits_held, state.pools[""].open) == (PRICE, 1)


@pytest.mark.parametrize("charge", WRONG)
async def test_a_task_seen_with_a_charge_that_cannot_be_was_not_seen(way: Way, charge: Any) -> None:
    place = Place(way)
    async with place.client() as client:
        task = (await client.post(SUBMIT, json=BODY)).json()["task_id"]
        before = await way.state(place.guard)
        place.provider.says["observe"] = (TaskSeen(task, TaskState.SUCCEEDED, charge),)
        assert (await client.get(poll(task))).status_code == 200
        assert await way.state(place.guard) == before
