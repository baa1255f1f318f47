from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import math
import pickle
import re
from decimal import Decimal
from typing import Any

import pytest

from budgetguard import model
from budgetguard.errors import SettingError
from budgetguard.model import (
    Balance,
    Capacity,
    Outcome,
    Package,
    PoolState,
    Quote,
    Reading,
    Recovered,
    Route,
    RouteKind,
    State,
    TaskSeen,
    TaskState,
    Verdict,
)

pytestmark = pytest.mark.smoke

VALUES: list[Any] = [
    Route(RouteKind.POLL, "tasks", "t"),
    Quote(30, 2, "vip", 10, 60.0, "row"),
    Verdict(Outcome.ACCEPTED, 10, "t"),
    TaskSeen("t", TaskState.RUNNING),
    Capacity(4, 1),
    Balance("metered", 100),
    Package("1", "starter", "metered", 100),
    Reading(100, {"": Capacity(4, 1)}, (Balance("metered", 100),)),
    PoolState(4, 2, 1, 1, 0),
    Recovered("vidu:a", ("t",), ("u",), ("v",), 1, 2, 3),
    State("vidu:a", 100, 90, 10, {"": PoolState(4, 2, 1, 1, 0)}, 1.0, 0.0),
]


def of(value: Any) -> str:
    return type(value).__name__


def test_every_value_of_the_module_is_tried_here() -> None:
    classes = {name for name, value in vars(model).items() if dataclasses.is_dataclass(value)}
    assert classes == {of(value) for value in VALUES}


@pytest.mark.parametrize("value", VALUES, ids=of)
def test_a_value_cannot_be_changed_and_carries_nothing_else(value: Any) -> None:
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", VALUES, ids=of)
def test_equal_values_are_equal(value: Any) -> None:
    assert dataclasses.replace(value) == value
    assert copy.copy(value) == value


@pytest.mark.parametrize("value", VALUES, ids=of)
def test_every_field_is_described(value: Any) -> None:
    text = inspect.getdoc(type(value)) or ""
    assert "Since 0." in text
    if "Attributes:" in text:
        for field in dataclasses.fields(value):
            assert re.search(rf"^ +{field.name}: \S", text, re.MULTILINE), field.name


@pytest.mark.parametrize("value", VALUES, ids=of)
def test_values_travel_to_other_processes(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own


def test_a_reading_without_pools_travels_too() -> None:
    assert pickle.loads(pickle.dumps(Reading(5))) == Reading(5)  # noqa: S301 - our own


def test_slack_is_what_lies_between_the_bounds_of_a_price() -> None:
    assert (Quote(30).slack, Quote(30, credits_min=10).slack, Quote(30, credits_min=30).slack) == (0, 20, 0)


def test_a_call_takes_one_slot_of_the_only_pool_unless_said_otherwise() -> None:
    assert (Quote(30).slots, Quote(30).pool) == (1, "")


def test_every_state_but_running_has_ended() -> None:
    assert [state for state in TaskState if not state.ended] == [TaskState.RUNNING]


@pytest.mark.parametrize("kind", [RouteKind, Outcome, TaskState])
def test_words_are_lower_case_and_read_as_they_are_written(kind: type[enum.StrEnum]) -> None:
    assert [str(member) for member in kind] == [member.name.lower() for member in kind]


def test_a_reading_without_pools_has_one_without_bounds() -> None:
    assert dict(Reading(5).pools) == {"": Capacity(None, None)}
    assert Reading(5).pools is not Reading(5).pools


def test_the_document_of_a_reading_is_neither_shown_nor_compared() -> None:
    reading = Reading(5, document={"secret": "of somebody"})
    assert reading == Reading(5)
    assert "secret" not in repr(reading)


@pytest.mark.parametrize(
    ("name", "value"),
    [("credits", value) for value in (-5, 1.5, None, True, "5", Decimal(5), 10**15 + 1, 10**5000, math.nan)]
    + [("slots", value) for value in (-1, 2.5, None, True, 10**9 + 1)]
    + [("pool", value) for value in (None, 5, "a\x1fb", "a\nb", "\ud800")]
    + [("credits_min", value) for value in (-1, 31, 1.5, True)]
    + [("task_lease", value) for value in (0, -1, math.nan, math.inf, "60", True)]
    + [("source", value) for value in (None, 5)],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else type(value).__name__,
)
def test_a_quote_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    given: dict[str, Any] = {"credits": 30, name: value}
    with pytest.raises(SettingError, match=f"^{name}=") as refused:
        Quote(**given)
    assert refused.value.name == name
    assert len(str(refused.value)) < 500


def test_a_quote_may_be_free_or_a_range_and_of_any_pool() -> None:
    assert Quote(0, 0).slack == 0
    assert Quote(10**15, 10**9, "images é", 0, 1e9, "a row").slack == 10**15
