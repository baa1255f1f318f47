from __future__ import annotations

from typing import Any

import pytest

from budgetguard import AsyncGuard, Guard, Policy, SettingError
from budgetguard.providers import Vidu
from budgetguard.stores import MemoryStore

KEY = "vda_made_up_for_tests_0001"

Kind = type[Guard] | type[AsyncGuard]


@pytest.fixture(params=[Guard, AsyncGuard])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


class Blocking:
    """Half a store."""

    def transact(self) -> None:
        raise NotImplementedError


class Async:
    """The other half."""

    def atransact(self) -> None:
        raise NotImplementedError


WRONG: dict[str, tuple[str, list[Any]]] = {
    "provider": ("Guard(Vidu())", [Vidu, None, KEY, object()]),
    "store": ("give ", [MemoryStore, object(), 5, "nonsense", "http://host", ""]),
    "policy": ("give a Policy", [{}, Policy, "closed"]),
    "observers": ("callables", [print, None, [5], ["x"], "x", {print}]),
    "fingerprint_key": ("64 bytes", ["text", 5, b"x" * 65]),
    "accounts": (
        "mapping of account names to lists of API keys, each key under one name",
        [
            [KEY],
            KEY,
            {"": [KEY]},
            {"team": KEY},
            {KEY: "team"},
            {"team": None},
            {"team": [5]},
            {5: [KEY]},
            {"team": [""]},
            {"a": [KEY], "b": [KEY]},
        ],
    ),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(name, value, id=f"{name} {value!s:.12}") for name, (_, values) in WRONG.items() for value in values],
)
def test_what_cannot_work_is_refused_at_once_with_a_remedy_and_without_what_was_given(
    kind: Kind, name: str, value: Any
) -> None:
    remedy = WRONG[name][0]
    given: dict[str, Any] = {"provider": Vidu(), name: value}
    with pytest.raises(SettingError) as error:
        kind(given.pop("provider"), **given)
    assert error.value.name.startswith(name)
    assert remedy in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("store", ["nonsense", "http://:password@host", "postgres://user:password@host/db"])
def test_an_address_nobody_knows_is_not_repeated(kind: Kind, store: str) -> None:
    with pytest.raises(SettingError) as error:
        kind(Vidu(), store=store)
    assert "password" not in str(error.value)
    assert "sqlite:///" in str(error.value)


def test_each_guard_wants_its_own_half_of_a_store() -> None:
    half: Any = Async()
    with pytest.raises(SettingError, match=r"transact\(\)"):
        Guard(Vidu(), store=half)
    half = Blocking()
    with pytest.raises(SettingError, match=r"atransact\(\)"):
        AsyncGuard(Vidu(), store=half)


def test_its_repr_shows_the_settings_and_no_key(kind: Kind) -> None:
    guard = kind(Vidu(), policy=Policy(max_age=5.0), accounts={"team": [KEY]}, fingerprint_key=b"secret of ours")
    guard.account_name(KEY)
    text = repr(guard)
    assert text.startswith(f"{kind.__name__}(Vidu(")
    assert "Policy(max_age=5.0)" in text
    assert "MemoryStore" in text
    assert KEY not in text
    assert "secret" not in text
