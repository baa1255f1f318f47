"""The body of a request that asks for paid work, read for its price.

What is missing takes the provider's documented default; what cannot be read raises `UnknownPrice` and says why. A field
that is ``null`` counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from budgetguard.errors import UnknownPrice
from budgetguard.providers._fields import whole

__all__ = ["Body", "body_of"]

_FLAGS = {"true": True, "false": False}


def body_of(what: str, document: Any) -> Body:
    """Wrap a decoded body.

    Raises:
        UnknownPrice: If it is no JSON object.
    """
    if not isinstance(document, Mapping):
        raise UnknownPrice(what=what, why="the request's body is not a JSON object")
    return Body(what, document)


@dataclass(frozen=True, slots=True)
class Body:
    """One body and what it is for."""

    what: str
    fields: Mapping[str, Any]

    def named(self, name: str) -> Body:
        """Give the same body, known by its model too."""
        return Body(f"{self.what} {name}", self.fields)

    def unknown(self, why: str) -> NoReturn:
        """Give up."""
        raise UnknownPrice(what=self.what, why=why)

    def flag(self, name: str) -> bool:
        """Read a switch that is off by default."""
        value = self.fields.get(name)
        if isinstance(value, str):
            value = _FLAGS.get(value.strip().lower(), value)
        if value is not None and not isinstance(value, bool):
            self.unknown(f"{name} is neither true nor false")
        return bool(value)

    def number(self, name: str, default: int | None, least: int, most: int) -> int:
        """Read a whole number within documented bounds."""
        value = self.fields.get(name)
        if value is None:
            if default is None:
                self.unknown(f"{name} is missing and has no known default")
            return default
        number = whole(value)
        if number is None or not least <= number <= most:
            self.unknown(f"{name} is not a whole number from {least} to {most}")
        return number

    def word(self, name: str, default: str | None = None) -> str:
        """Read text that must not be empty."""
        value = self.fields.get(name)
        value = default if value is None else value
        if not isinstance(value, str) or not value:
            self.unknown(f"{name} is missing or not text")
        return value

    def letters(self, name: str) -> int:
        """Count the characters of a text; 0 where there is none."""
        return 0 if self.fields.get(name) is None else len(self.word(name))

    def choice(self, name: str, known: Iterable[str], default: str | None = None) -> str | None:
        """Read one of a few words, in any case; ``None`` where it is missing and has no default."""
        if self.fields.get(name) is None:
            return default
        given = self.word(name)
        found = [word for word in known if word.casefold() == given.casefold()]
        if not found:
            self.unknown(f"{name} {given[:40]!r} is not in the price list")
        return found[0]

    def items(self, name: str) -> list[Any]:
        """Read a list; empty where there is none."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, list):
            self.unknown(f"{name} is not a list")
        return value or []
