from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
import types
import typing
from typing import Any

import pytest

from budgetguard import events
from budgetguard.events import Event
from budgetguard.model import Capacity, Reading, TaskState

pytestmark = pytest.mark.smoke

KINDS: list[type[Event]] = [
    value for value in vars(events).values() if inspect.isclass(value) and issubclass(value, Event)
]
SAMPLES: dict[Any, Any] = {
    str: "x",
    int: 7,
    float: 0.5,
    bool: True,
    TaskState: TaskState.SUCCEEDED,
    Reading: Reading(5, {"": Capacity(4, 1)}),
    tuple[str, ...]: ("nightly", "team=film"),
}


def sample(kind: type[Event]) -> Event:
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        values[field.name] = next(SAMPLES[option] for option in options if option in SAMPLES)
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_says_whose_account_and_when_before_anything_else(kind: type[Event]) -> None:
    assert [field.name for field in dataclasses.fields(kind)][:2] == ["account", "at"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_cannot_be_changed_and_carries_nothing_else(kind: type[Event]) -> None:
    event = sample(kind)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.account = "other"  # type: ignore[misc]
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_documented_with_every_word_that_does_not_speak_for_itself(kind: type[Event]) -> None:
    text = inspect.getdoc(kind) or ""
    assert text
    assert text.rstrip().endswith(".")
    plain = {"account", "at", "reservation", "credits", "slots", "pool", "task_id", "state", "reading", "tags"}
    plain |= {"credits_free", "slots_free", "why", "failures", "threshold", "running", "ours"}
    for field in dataclasses.fields(kind):
        if kind is not Event and field.name not in plain:
            assert re.search(rf"\*{field.name}\*", text) or field.name in text or field.name in ("charge", "reason")


@pytest.mark.parametrize("kind", KINDS)
def test_events_compare_copy_and_travel(kind: type[Event]) -> None:
    event = sample(kind)
    assert event == sample(kind)
    assert copy.copy(event) == event
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 - our own


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_shows_its_own_name_and_fields(kind: type[Event]) -> None:
    assert repr(sample(kind)).startswith(f"{kind.__name__}(account='x', at=0.5")


def test_all_events_are_public_and_nothing_else_is_but_who_listens() -> None:
    assert set(events.__all__) == {kind.__name__ for kind in KINDS} | {"Observer"}


def test_no_event_has_room_for_a_key_or_headers() -> None:
    names = {field.name for kind in KINDS for field in dataclasses.fields(kind)}
    assert not names & {"key", "api_key", "headers", "authorization", "request", "response", "body"}
