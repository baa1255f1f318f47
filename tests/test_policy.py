from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import re
from typing import Any

import pytest

from budgetguard import Policy, SettingError

pytestmark = pytest.mark.smoke

NAMES = [field.name for field in dataclasses.fields(Policy)]
SECONDS = ["max_age", "recheck_after", "min_interval", "stale_if_error", "settlement_lag", "max_wait"]
MORE_THAN_NO_SECONDS = ["max_stale", "credits_timeout", "backoff", "backoff_max", "lease", "task_lease"]
COUNTS = ["credits_headroom", "slots_headroom", "max_waiting", "resend_max"]
SWITCHES = ["exclusive", "refund_failed"]
OPTIONAL = ["settlement_lag", "max_wait", "task_lease"]


def refused(**settings: Any) -> SettingError:
    with pytest.raises(SettingError) as error:
        Policy(**settings)
    return error.value


def bad_values() -> list[tuple[str, Any]]:
    odd: list[Any] = ["10", b"1", [], {}, object, math.nan, math.inf, -math.inf, -1, -0.001, True, 2e9, 1j]
    uncounted: list[Any] = ["1", 1.0, 0.5, -1, None, True, math.nan, 10**16, []]
    undecided: list[Any] = [0, 1, None, "yes", []]
    bad: list[tuple[str, Any]] = [(name, value) for name in [*SECONDS, *MORE_THAN_NO_SECONDS] for value in odd]
    bad += [(name, 0) for name in MORE_THAN_NO_SECONDS]
    bad += [(name, value) for name in COUNTS for value in uncounted]
    bad += [(name, value) for name in SWITCHES for value in undecided]
    bad += [(name, None) for name in NAMES if name not in OPTIONAL]
    bad += [("on_credits_error", value) for value in ["", "OPEN", "raise", True, []]]
    bad += [("unknown_price", value) for value in ["", "hold", -1, 1.5, True, False, []]]
    low: list[Any] = [5, "5", [5], (5.0,), (0,), (-1,), (True,), ("5",), (None,), {5}, (10**16,)]
    bad += [("low_balance", value) for value in low]
    return bad


@pytest.mark.parametrize(("name", "value"), bad_values(), ids=lambda value: str(value)[:20])
def test_a_value_that_cannot_work_is_refused_with_its_name_itself_and_what_is_right(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert error.name == name
    assert f"{name}={value!r} is not usable: give " in str(error)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("max_stale", {"max_age": 100.0}),
        ("max_stale", {"max_stale": 5.0}),
        ("stale_if_error", {"stale_if_error": 5.0}),
        ("recheck_after", {"min_interval": 5.0}),
        ("recheck_after", {"recheck_after": 0.5}),
        ("backoff_max", {"backoff": 100.0}),
        ("backoff_max", {"backoff_max": 0.5}),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_the_bound(name: str, settings: dict[str, Any]) -> None:
    error = refused(**settings)
    assert error.name == name
    assert re.search(r"give at least \w+, [\d.]+\.$", str(error))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_age": 0, "min_interval": 0, "recheck_after": 0},
        {"max_wait": 0},
        {"max_wait": None, "task_lease": None, "settlement_lag": None},
        {"settlement_lag": 0, "task_lease": 0.5},
        {"max_waiting": 0, "resend_max": 0},
        {"unknown_price": 0},
        {"unknown_price": 35},
        {"unknown_price": "pass"},
        {"on_credits_error": "open"},
        {"low_balance": (100, 10)},
        {"max_age": 1e9, "max_stale": 1e9, "stale_if_error": 1e9},
        {"exclusive": True, "refund_failed": True},
    ],
    ids=str,
)
def test_whatever_can_work_is_taken(settings: dict[str, Any]) -> None:
    policy = Policy(**settings)
    assert all(getattr(policy, name) == value for name, value in settings.items())


def test_it_shows_what_was_changed_and_nothing_else() -> None:
    assert repr(Policy()) == "Policy()"
    assert repr(Policy(max_age=5.0, exclusive=True)) == "Policy(max_age=5.0, exclusive=True)"
    assert repr(Policy(max_age=10.0)) == "Policy()"


def test_what_it_shows_makes_the_same_policy_again() -> None:
    policy = Policy(max_wait=30.0, low_balance=(10,), unknown_price="pass")
    assert eval(repr(policy), {"Policy": Policy}) == policy  # noqa: S307 - our own repr


@pytest.mark.parametrize("name", NAMES)
def test_no_setting_can_be_changed_afterwards(name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(Policy(), name, 1)


def test_settings_are_given_by_name_only() -> None:
    with pytest.raises(TypeError):
        Policy(10.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="max_ages"):
        Policy(max_ages=10.0)  # type: ignore[call-arg]


def test_one_can_be_made_from_another_and_is_checked_again() -> None:
    policy = dataclasses.replace(Policy(max_age=5.0), max_wait=9.0)
    assert (policy.max_age, policy.max_wait) == (5.0, 9.0)
    with pytest.raises(SettingError):
        dataclasses.replace(policy, max_age=-1.0)


def test_equal_settings_make_equal_policies() -> None:
    assert Policy(max_age=5.0) == Policy(max_age=5.0) != Policy()
    assert len({Policy(), Policy(max_age=10.0)}) == 1


def test_it_travels_to_other_processes() -> None:
    policy = Policy(max_age=5.0, low_balance=(7,))
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301 - our own
    assert copy.deepcopy(policy) == policy


def test_a_policy_of_ones_own_may_fix_settings() -> None:
    class Ours(Policy):
        pass

    assert Ours(max_wait=None).max_wait is None
    with pytest.raises(SettingError):
        Ours(lease=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_described(name: str) -> None:
    assert re.search(rf"^        {name}: \S", Policy.__doc__ or "", re.MULTILINE)
