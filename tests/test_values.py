"""Our data classes are those of the standard library, but for the time it takes to make them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import types
import typing
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from budgetguard import Policy, _values
from budgetguard._http import CallOptions
from budgetguard.model import Reading

pytestmark = pytest.mark.smoke

KINDS: dict[str, dict[str, bool]] = {
    "frozen": {"frozen": True, "slots": True},
    "open": {"slots": True},
    "named": {"frozen": True, "slots": True, "kw_only": True},
    "silent": {"frozen": True, "slots": True, "repr": False},
    "itself": {"slots": True, "eq": False},
}


def classes(make: Callable[..., Any], **how: bool) -> tuple[Any, Any]:
    """Make a class and one below it."""

    @make(**how)
    class Base:
        """Has a text of its own."""

        account: str
        at: float = 0.5

    @make(**how)
    class Below(Base):
        """Has a bit of everything."""

        tags: tuple[str, ...] = ()
        more: dict[str, int] = field(default_factory=dict[str, int])
        hidden: Any = field(default=None, compare=False, repr=False)

        def __post_init__(self) -> None:
            if self.account == "nobody":
                raise ValueError("account")

    return Base, Below


def both(kind: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    return classes(dataclasses.dataclass, **KINDS[kind]), classes(_values.dataclass, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_fields_signature_and_matching_are_those_of_the_standard_library(kind: str) -> None:
    for theirs, ours in zip(*both(kind), strict=True):
        assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
        assert ours.__init__.__qualname__ == theirs.__init__.__qualname__
        assert typing.get_type_hints(ours.__init__) == typing.get_type_hints(theirs.__init__)
        assert ours.__match_args__ == theirs.__match_args__
        assert ours.__slots__ == theirs.__slots__
        assert ours.__doc__ == theirs.__doc__
        assert [(f.name, f.type, f.default, f.kw_only) for f in dataclasses.fields(ours)] == [
            (f.name, f.type, f.default, f.kw_only) for f in dataclasses.fields(theirs)
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_reads_compares_and_hashes_alike(kind: str) -> None:
    said: list[list[Any]] = []
    for base, below in both(kind):
        one, same = below(account="a", tags=("t",), hidden=1), below(account="a", tags=("t",), hidden=2)
        other, above = below(account="b"), base(account="a")
        shown = repr(one) if kind not in {"silent", "itself"} else ""
        said.append(
            [
                shown,
                one == same,
                one == other,
                one == above,
                one == "a",
                dataclasses.astuple(other),
                dataclasses.asdict(dataclasses.replace(one, at=2.0)),
                copy.copy(one) == one,
                one.more is other.more,
                None if "__hash__" in vars(below) and below.__hash__ is None else "a hash",
                hash(above) == hash(base(account="a")) if KINDS[kind].get("frozen") else None,
            ]
        )
    assert said[0] == said[1]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_wrong_passes_that_the_standard_library_refuses(kind: str) -> None:
    said: list[list[str]] = []

    def complaint(do: Callable[[], object]) -> str:
        try:
            do()
        except Exception as error:  # noqa: BLE001 - which one it is decides
            return f"{type(error).__name__}: {error}"
        return ""

    for _, below in both(kind):
        one = below(account="a")
        said.append(
            [
                complaint(below),
                complaint(lambda below=below: below(account="a", nothing=1)),  # type: ignore[misc]
                complaint(lambda below=below: below("a", 1, (), {}, None, 6)),  # type: ignore[misc]
                complaint(lambda below=below: below(account="nobody")),  # type: ignore[misc]
                complaint(lambda one=one: setattr(one, "at", 2)),  # type: ignore[misc]
                complaint(lambda one=one: delattr(one, "at")),  # type: ignore[misc]
                complaint(lambda one=one: hash(one)).partition(":")[0],  # type: ignore[misc]
            ]
        )
    assert said[0] == said[1]
    assert said[0][0].startswith("TypeError")


def test_a_class_below_may_carry_more_and_still_not_change_what_it_was_given() -> None:
    _, below = classes(_values.dataclass, frozen=True, slots=True)
    more: Any = types.new_class("More", (below,))("a")
    more.note = "its own"
    assert more.note == "its own"
    del more.note
    with pytest.raises(FrozenInstanceError):
        more.account = "b"
    with pytest.raises(FrozenInstanceError):
        del more.account


@_values.dataclass(frozen=True, slots=True)
class Sent:
    """Pickled by its name."""

    account: str
    more: tuple[int, ...] = ()


def test_the_state_in_a_pickle_is_that_of_the_standard_library() -> None:
    theirs: Any = dataclasses.dataclass(frozen=True, slots=True)(
        type("Sent", (), {"__annotations__": Sent.__annotations__})
    )
    sent: Any = Sent("a", (1,))
    assert sent.__getstate__() == theirs("a", (1,)).__getstate__()
    assert pickle.loads(pickle.dumps(sent)) == sent  # noqa: S301 - our own


def test_a_method_that_a_class_writes_itself_stays() -> None:
    @_values.dataclass(frozen=True, slots=True)
    class Own:
        credits: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    assert (repr(Own(1)), Own(1) == Own(2), hash(Own(3))) == ("own", True, 7)


@pytest.mark.parametrize("made", [Policy, Reading, CallOptions])
def test_what_its_annotations_mean_can_be_found(made: type) -> None:
    hints = typing.get_type_hints(vars(made)["__init__"])
    assert hints.pop("return") is type(None)
    assert hints == typing.get_type_hints(made)
