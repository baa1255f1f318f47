"""Whatever comes in a blocking and an async form offers the same methods with the same parameters in both.

Every public ``AsyncX`` of the package is paired with the ``X`` of its module; `PAIRS` names those called otherwise.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

from tests.house.source import PACKAGE, assert_none, modules

Pair = tuple[str, str, str, str]

PAIRS: tuple[Pair, ...] = (
    (f"{PACKAGE}._drivers.blocking", "BlockingDriver", f"{PACKAGE}._drivers.concurrent", "ConcurrentDriver"),
)
ASYNC_NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "handle_async_request": "handle_request",
}
SPECIAL = {"__init__", "__call__", *ASYNC_NAMES, *ASYNC_NAMES.values()}


def pairs() -> list[Pair]:
    found = [pair for pair in PAIRS if pair[0] in modules() or pair[2] in modules()]
    for module, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Async"):
                found += [(module, node.name.removeprefix("Async"), module, node.name)]
    return found


def offers(cls: type) -> dict[str, object]:
    """What a class offers by itself, not from a foreign base: the parameters of methods, and which are properties."""
    offered: dict[str, object] = {}
    own = {PACKAGE, __name__.partition(".")[0]}
    for base in reversed([base for base in cls.__mro__ if base.__module__.partition(".")[0] in own]):
        for name, value in vars(base).items():
            if name.startswith("_") and name not in SPECIAL:
                continue
            plain = ASYNC_NAMES.get(name, name)
            if isinstance(value, property):
                offered[plain] = "property"
            elif isinstance(value, staticmethod | classmethod) or inspect.isfunction(value):
                offered[plain] = parameters(value.__func__ if isinstance(value, staticmethod | classmethod) else value)
    return offered


def parameters(function: Callable[..., Any]) -> list[str]:
    return [
        f"{p.kind.name.lower()} {p.name}" + ("" if p.default is p.empty else f"={p.default!r}")
        for p in inspect.signature(function).parameters.values()
    ]


def unlike(blocking: type, concurrent: type) -> Iterator[str]:
    """Compare two classes. ``aclose`` is the async ``close``, and so with every ``a`` before a blocking name."""
    ours = offers(blocking)
    theirs = {
        name[1:] if name[0] == "a" and name[1:] in ours and name not in ours else name: offer
        for name, offer in offers(concurrent).items()
    }
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield f"{name}: {blocking.__name__} {ours.get(name)}, {concurrent.__name__} {theirs.get(name)}"


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: f"{pair[1]}-{pair[3]}")
def test_both_halves_of_a_pair_offer_the_same(pair: Pair) -> None:
    module, name, async_module, async_name = pair
    blocking = getattr(importlib.import_module(module), name)
    concurrent = getattr(importlib.import_module(async_module), async_name)
    assert offers(blocking), f"{name} offers nothing to compare"
    assert_none(unlike(blocking, concurrent))


def test_the_pairs_are_found() -> None:
    names = {pair[3] for pair in pairs()}
    assert "AsyncStore" in names
    for module, expected in (("guard", "AsyncGuard"), ("transport", "AsyncGuardTransport")):
        assert f"{PACKAGE}.{module}" not in modules() or expected in names


class Door:
    def __enter__(self) -> Self:
        return self

    def open(self, width: int, *, slowly: bool = False) -> None: ...

    @property
    def ajar(self) -> bool:
        return True

    def close(self) -> None: ...


class AsyncDoor:
    async def __aenter__(self) -> Self:
        return self

    async def open(self, width: int, *, slowly: bool = False) -> None: ...

    @property
    def ajar(self) -> bool:
        return True

    async def aclose(self) -> None: ...


class HastyDoor(AsyncDoor):
    async def open(self, width: int, *, slowly: bool = True) -> None: ...

    async def slam(self) -> None: ...


def test_the_same_methods_under_their_async_names_are_no_difference() -> None:
    assert list(unlike(Door, AsyncDoor)) == []


def test_another_default_and_a_method_too_many_are_found() -> None:
    assert [problem.split(":")[0] for problem in unlike(Door, HastyDoor)] == ["open", "slam"]
