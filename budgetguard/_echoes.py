"""What a provider says, and whether it repeats the key it was asked with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from budgetguard._hidden import Hidden
from budgetguard.model import Reading

__all__ = ["Echo", "without_echoes"]

_PIECE = 8
"""So many characters of a key in a row are a part of it; a key that is no longer is looked for as a whole text."""


class Echo:
    """Tells whether a text repeats a key, or a part of it that would help to guess it."""

    __slots__ = ("_key", "_parts")

    def __init__(self, key: str) -> None:
        self._key = key = Hidden(key)
        self._parts = [key[at : at + _PIECE] for at in range(len(key) - _PIECE + 1)] if len(key) > _PIECE else ()

    def is_in(self, text: str) -> bool:
        """Look into one text."""
        if not self._parts:
            return bool(self._key) and text == self._key
        return len(text) >= _PIECE and any(part in text for part in self._parts)

    def is_within(self, document: Any) -> bool:
        """Look into all texts of a JSON document, however deep."""
        left = [document]
        while left:
            node = left.pop()
            if isinstance(node, str):
                if self.is_in(node):
                    return True
            elif isinstance(node, dict):
                left += [*node.keys(), *node.values()]
            elif isinstance(node, list):
                left += node
        return False


def without_echoes(reading: Reading, echo: Echo) -> Reading:
    """Take the key out of the words of a reading; its numbers stay. A document that repeats it is left out."""

    def word(text: str) -> str:
        return "" if echo.is_in(text) else text

    balances = tuple(replace(balance, type=word(balance.type)) for balance in reading.balances)
    packages = tuple(
        replace(
            package,
            id=word(package.id),
            name=word(package.name),
            type=word(package.type),
            valid_from=word(package.valid_from),
            valid_to=word(package.valid_to),
        )
        for package in reading.packages
    )
    document = None if echo.is_within(reading.document) else reading.document
    return replace(reading, balances=balances, packages=packages, document=document)
