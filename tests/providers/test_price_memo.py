"""A price that was worked out before is given again for bodies that agree in all it depends on, and for no others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.errors import UnknownPrice
from budgetguard.model import Quote, Route, RouteKind
from budgetguard.providers import Vidu, _memo
from budgetguard.providers._memo import PriceMemo

ROUTE = Route(RouteKind.SUBMIT, "text2video")
BODY = {"model": "viduq2", "prompt": "a kite", "duration": 5, "resolution": "720p"}


class Prices:
    """Counts how often a price is worked out. What is dear depends on its length, what is long on more."""

    def __init__(self) -> None:
        self.worked = 0
        self.memo = PriceMemo(self.price)

    def price(self, path: str, body: Any) -> Quote:
        self.worked += 1
        if body.get("kind") == "dear":
            return Quote(100 * body.get("length", 1), source=path)
        if body.get("kind") == "whole":
            return Quote(len(body))
        if body.get("kind") == "unknown":
            raise UnknownPrice(what=path, why="so")
        return Quote(1, source=path)


def test_a_field_that_is_not_read_makes_no_difference() -> None:
    prices = Prices()
    for number in range(10):
        assert prices.memo.quote("a", {"prompt": f"{number}"}).credits == 1
    assert prices.worked == 1


def test_a_field_that_is_read_for_some_bodies_only_counts_for_all_from_then_on() -> None:
    prices = Prices()
    assert prices.memo.quote("a", {"length": 3}).credits == 1
    assert prices.memo.quote("a", {"kind": "dear", "length": 3}).credits == 300
    assert prices.memo.quote("a", {"kind": "dear", "length": 4}).credits == 400
    assert prices.memo.quote("a", {"length": 3}).credits == 1
    assert prices.memo.quote("a", {"kind": "dear", "length": 3}).credits == 300
    assert prices.worked == 5 - 1  # the last one was known


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), (None, 0), ("1", 1)])
def test_what_is_equal_is_not_the_same(one: Any, other: Any) -> None:
    seen: list[Any] = []

    def price(path: str, body: Any) -> Quote:
        seen.append(body.get("x"))
        return Quote(len(seen))

    memo = PriceMemo(price)
    assert [memo.quote("a", {"x": value}).credits for value in (one, other, one, other)] == [1, 2, 1, 2]


def test_each_endpoint_has_prices_of_its_own() -> None:
    prices = Prices()
    assert [prices.memo.quote(path, {}).source for path in ("a", "b", "a", "b")] == ["a", "b", "a", "b"]
    assert prices.worked == 2


@pytest.mark.parametrize("body", [{"kind": "whole"}, {"kind": ["a", "list"]}, {"kind": "x" * 100}, [], None, 5])
def test_what_cannot_be_known_by_a_few_plain_values_is_worked_out_each_time(body: Any) -> None:
    worked = 0

    def price(path: str, given: Any) -> Quote:
        nonlocal worked
        worked += 1
        return Quote(len(given) if given and given.get("kind") == "whole" else worked)

    memo = PriceMemo(price if isinstance(body, dict) else lambda path, given: price(path, None))
    for _ in range(3):
        memo.quote("a", body)
    assert worked == 3


def test_that_there_is_no_price_is_not_remembered() -> None:
    prices = Prices()
    for _ in range(3):
        with pytest.raises(UnknownPrice):
            prices.memo.quote("a", {"kind": "unknown"})
    assert prices.worked == 3


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memo, "_QUOTES_MAX", 3)
    prices = Prices()
    for number in range(20):
        assert prices.memo.quote("a", {"kind": "dear", "length": number}).credits == 100 * number
    assert all(len(quotes) <= 3 for _, quotes in prices.memo._known.values())


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 12), st.sampled_from(["720p", "1080p", "anime", "5", ""]))
BODIES = st.fixed_dictionaries(
    {"model": st.sampled_from(["viduq1", "viduq2", "viduq3", "vidu2.0", "none"])},
    optional=dict.fromkeys(("duration", "resolution", "style", "off_peak", "audio", "bgm", "prompt", "seed"), VALUES),
)


@given(st.lists(BODIES, max_size=8))
def test_vidus_prices_are_the_same_with_and_without_memory(bodies: list[dict[str, Any]]) -> None:
    kept = Vidu()
    for body in [*bodies, *bodies]:
        assert price_of(kept, body) == price_of(Vidu(), body)


def price_of(vidu: Vidu, body: dict[str, Any]) -> Any:
    try:
        return vidu.quote(ROUTE, body)
    except UnknownPrice as unknown:
        return str(unknown)
