"""Data classes that cost little to make: most of what importing this library took was the compiling of their methods.

`dataclass` here stands for the one of the standard library, with ``slots=True`` always, and makes the same of a class:
the same fields, signature, text, equality, hash, pickles and errors. But each class is compiled one function, its
``__init__``, where the library compiles seven; the others are the same for all. Setting slots by their descriptors,
it is also faster to call.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["dataclass"]

T = TypeVar("T")


class _Factory:
    """Stands in a signature for a default that is made anew each time."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _make(cls: type[T], *, frozen: bool, show: bool, eq: bool, kw_only: bool) -> type[T]:
    made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    fields = dataclasses.fields(made)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    own: dict[str, Any] = {"__init__": _init(made, fields, frozen=frozen)}
    if show:
        own["__repr__"] = _repr([field.name for field in fields if field.repr])
    if eq:
        own |= _equality([field.name for field in fields if field.compare], frozen=frozen)
    if frozen:
        own |= _frozen(made, frozenset(field.name for field in fields))
    given = vars(made)
    for name, value in own.items():
        # A class that compares has no hash unless it says how: that it has none is Python's doing, not its own.
        if name not in given or (name == "__hash__" and given[name] is None):
            setattr(made, name, value)
    return made


def _init(cls: type, fields: tuple[Field[Any], ...], *, frozen: bool) -> Callable[..., None]:
    names: dict[str, Any] = {"_factory": _FACTORY}
    given: list[str] = []
    named: list[str] = []
    lines: list[str] = []
    for place, field in enumerate(fields):
        name, value = field.name, field.name
        parameter = name
        if field.default_factory is not MISSING:
            names[f"_make{place}"] = field.default_factory
            parameter = f"{name}=_factory"
            value = f"_make{place}() if {name} is _factory else {name}"
        elif field.default is not MISSING:
            names[f"_default{place}"] = field.default
            parameter = f"{name}=_default{place}"
        (named if field.kw_only else given).append(parameter)
        if frozen:
            names[f"_set{place}"] = getattr(cls, name).__set__
            lines.append(f"    _set{place}(self, {value})")
        else:
            lines.append(f"    self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("    self.__post_init__()")
    parameters = ", ".join(["self", *given, *(["*", *named] if named else [])])
    # Inside of another, so that its globals are those of the class's module, in which its annotations mean something.
    text = "\n".join([f"def make({', '.join(names)}):", f"  def __init__({parameters}):", *lines, "  return __init__"])
    made: dict[str, Any] = {}
    exec(text, vars(sys.modules[cls.__module__]), made)  # noqa: S102 - of our own classes' field names
    init: Callable[..., None] = made["make"](**names)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {**{field.name: field.type for field in fields}, "return": None}
    return init


def _repr(names: list[str]) -> Callable[[Any], str]:
    @recursive_repr()
    def __repr__(self: Any) -> str:  # noqa: N807 - becomes a method
        return f"{type(self).__qualname__}({', '.join([f'{name}={getattr(self, name)!r}' for name in names])})"

    return __repr__


def _equality(names: list[str], *, frozen: bool) -> dict[str, Any]:
    compared: Callable[[Any], Any] = attrgetter(*names)

    def __eq__(self: Any, other: object) -> bool:  # noqa: N807 - becomes a method
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:  # noqa: N807 - becomes a method
        return hash(compared(self))

    return {"__eq__": __eq__, "__hash__": __hash__ if frozen else None}


def _frozen(cls: type[Any], names: frozenset[str]) -> dict[str, Any]:
    def __setattr__(self: Any, name: str, value: object) -> None:  # noqa: N807 - becomes a method
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807 - becomes a method
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": __setattr__, "__delattr__": __delattr__, "__getstate__": _state, "__setstate__": _restore}


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=False):
        object.__setattr__(self, field.name, value)


if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        *,
        slots: bool,
        frozen: bool = False,
        repr: bool = True,  # noqa: A002 - the library's word
        eq: bool = True,
        kw_only: bool = False,
    ) -> Callable[[type[T]], type[T]]:
        """Make a data class, as the standard library's does with the same arguments.

        Args:
            slots: Always true.
            frozen: Whether it can be changed; then it can be hashed as well.
            repr: Whether it is given a text.
            eq: Whether two with the same content are equal.
            kw_only: Whether its fields are given by name.
        """
        assert slots  # noqa: S101 - all of ours have them
        return lambda cls: _make(cls, frozen=frozen, show=repr, eq=eq, kw_only=kw_only)
