from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
import subprocess
import sys
from typing import Any

import pytest

from budgetguard import errors
from budgetguard.errors import (
    BudgetGuardError,
    CreditsUnavailable,
    InsufficientCredits,
    InsufficientSlots,
    ProviderError,
    QueueFull,
    QueueTimeout,
    ReadingError,
    Refused,
    SettingError,
    StoreError,
    UnknownPrice,
)

pytestmark = pytest.mark.smoke

REFUSALS: list[Refused] = [
    InsufficientCredits(account="vidu:a", needed=50, available=20, held=30, balance=50, read_at=1.5, age=2.0),
    InsufficientCredits(account="vidu:a", needed=50, available=5, balance=10, headroom=5),
    InsufficientCredits(account="vidu:a", needed=50, available=70, balance=70, age=1.0, by_provider=True),
    InsufficientSlots(account="vidu:a", needed=3, limit=2),
    InsufficientSlots(account="vidu:a", needed=3, limit=2, pool="vip"),
    QueueFull(account="vidu:a", waiting=7, max_waiting=7, retry_after=3.0),
    QueueTimeout(account="vidu:a", waited=12.34, place=4),
    UnknownPrice(what="text2video viduq9", why="no such model", account="vidu:a"),
    CreditsUnavailable(account="vidu:a", age=301.0, failures=4, why="status 500", retry_after=8.0),
    CreditsUnavailable(account="vidu:a", age=None),
]
FAULTS: list[BudgetGuardError] = [
    ReadingError("is missing", field="remains[0].credit_remain"),
    ReadingError("is no object"),
    StoreError("The store cannot be reached."),
    ProviderError("odd"),
    SettingError("lease", 0, "give more"),
]
EVERY = [*REFUSALS, *FAULTS]


def of(error: BaseException) -> str:
    return type(error).__name__


def travelled(error: Any, protocol: int | None = None) -> Any:
    return pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own


@pytest.mark.parametrize("error", REFUSALS, ids=of)
def test_a_refusal_says_whose_account_the_numbers_and_what_to_do(error: Refused) -> None:
    text = str(error)
    if not isinstance(error, UnknownPrice):
        assert "vidu:a" in text
    for name in ("needed", "limit", "waiting", "max_waiting", "place", "failures"):
        if name in error.facts:
            assert str(error.facts[name]) in text
    assert text[0].isupper() or text.startswith(("vidu:a", "7 calls"))
    assert text.endswith(".")
    assert re.search(r"Top up|Wait|Raise|Send|Allow|Give|Check|see Policy|send fewer|top up", text)


def test_a_refusal_for_credits_tells_how_many_are_missing_and_to_whom_the_rest_is_promised() -> None:
    waits, short, provider = REFUSALS[:3]
    assert "needs 50 credits for this call and has 20 free" in str(waits)
    assert "30 held for calls under way" in str(waits)
    assert "read 2.0 s ago" in str(waits)
    assert "Top up at least 30 credits" in str(waits)
    assert "Top up at least 45 credits" in str(short)
    assert "5 kept as headroom" in str(short)
    assert "read never" in str(short)
    assert "refused 50 credits by the provider itself" in str(provider)
    assert "credits_headroom" in str(provider)
    assert [error.facts["shortfall"] for error in REFUSALS[:3]] == [30, 45, 0]


@pytest.mark.parametrize("error", REFUSALS, ids=of)
def test_the_facts_of_a_refusal_are_its_attributes_and_ready_for_json(error: Refused) -> None:
    facts = error.facts
    assert json.loads(json.dumps(facts)) == facts
    assert all(getattr(error, name) == value for name, value in facts.items())
    facts["account"] = "changed"
    assert error.account == "vidu:a"


@pytest.mark.parametrize("error", EVERY, ids=of)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_comes_out_of_a_pickle_as_it_went_in(error: BudgetGuardError, protocol: int) -> None:
    for again in (travelled(error, protocol), copy.copy(error), copy.deepcopy(error)):
        assert isinstance(again, BudgetGuardError)
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert getattr(again, "facts", None) == getattr(error, "facts", None)


def test_errors_travel_to_other_processes() -> None:
    program = "import pickle, sys; print([str(e) for e in pickle.load(sys.stdin.buffer)])"
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(EVERY), capture_output=True, check=True)
    assert done.stdout.decode().strip() == repr([str(error) for error in EVERY])


def test_the_response_of_a_provider_stays_behind() -> None:
    error = InsufficientCredits(account="vidu:a", needed=1, available=0)
    error.response = object()
    assert travelled(error).response is None


@pytest.mark.parametrize("error", FAULTS[:2], ids=str)
def test_a_reading_that_cannot_be_used_names_the_field(error: ReadingError) -> None:
    assert (error.field in str(error)) is True
    assert error.problem in str(error)


def test_a_wrong_setting_is_also_a_value_error() -> None:
    error = SettingError("lease", 0, "give more than 0")
    assert isinstance(error, ValueError)
    assert str(error) == "lease=0 is not usable: give more than 0."
    assert (error.name, error.value, error.right) == ("lease", 0, "give more than 0")


class Unspeakable:
    """Refuses to be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("not now")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(10**5000, "lease=(int) is"), (Unspeakable(), "lease=(Unspeakable) is"), ("x" * 10**6, "x... (str) is")],
    ids=["an integer of 5,000 digits", "refuses", "long"],
)
def test_a_wrong_setting_that_cannot_be_shown_is_named_all_the_same(value: Any, shown: str) -> None:
    error = SettingError("lease", value, "give more than 0")
    assert shown in str(error)
    assert len(str(error)) < 300
    assert str(travelled(error)) == str(error)


def test_the_tree_in_the_documentation_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ((?:[│ ]   )*)(?:[├└]── )?([A-Z]\w+)(?:\s|$)", line)
        if found is None:
            continue
        branch = re.match(r"^    ((?:[│ ]   )*)[├└]── ", line)
        depth = 0 if branch is None else len(branch[1]) // 4 + 1
        del path[depth:]
        drawn[found[2]] = path[-1] if path else ""
        path.append(found[2])
    classes = {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BudgetGuardError)
    }
    assert drawn == {
        name: "" if value is BudgetGuardError else value.__mro__[1].__name__ for name, value in classes.items()
    }
    assert set(errors.__all__) == set(classes)


@pytest.mark.parametrize("name", errors.__all__)
def test_facts_end_in_no_error_and_faults_do(name: str) -> None:
    kind = getattr(errors, name)
    assert name.endswith("Error") != (issubclass(kind, Refused))


@pytest.mark.parametrize("error", REFUSALS, ids=of)
def test_every_fact_of_a_refusal_is_documented(error: Refused) -> None:
    text = (type(error).__doc__ or "") + (Refused.__doc__ or "")
    assert all(re.search(rf"^        {name}: \S", text, re.MULTILINE) for name in error.facts)


def test_one_clause_catches_every_refusal_and_one_everything() -> None:
    def caught(error: BudgetGuardError, kind: type[BaseException]) -> bool:
        try:
            raise error
        except kind:
            return True
        except BudgetGuardError:
            return False

    assert all(caught(error, Refused) for error in REFUSALS)
    assert not any(caught(error, Refused) for error in FAULTS)
    assert all(caught(error, BudgetGuardError) for error in EVERY)


@pytest.mark.parametrize("value", [lambda: None, sys], ids=["function", "module"])
def test_a_wrong_setting_that_cannot_be_pickled_travels_as_what_it_looked_like(value: Any) -> None:
    error = SettingError("store", value, "give a store")
    assert str(travelled(error)) == str(error)
