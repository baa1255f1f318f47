"""What an answer says, worked out anew and exactly: by the text of its numbers, and with every field it names.

Shares nothing with the library, so that the two do not share a mistake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from tests.fuzz.spoil import Pairs

__all__ = ["amount", "document", "field", "is_ambiguous", "texts"]


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


_decode = json.JSONDecoder(
    parse_float=_number, parse_int=_number, parse_constant=_number, object_pairs_hook=Pairs
).decode


def document(raw: bytes) -> Any:
    """Read JSON; objects are lists of pairs, numbers are decimals. ``None`` where it is none."""
    try:
        return _decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
    except (ValueError, RecursionError):
        return None


def is_ambiguous(node: Any) -> bool:
    """Tell whether an object in it names a field twice."""
    if isinstance(node, Pairs):
        return len({name for name, _ in node}) < len(node) or any(is_ambiguous(value) for _, value in node)
    return isinstance(node, list) and any(map(is_ambiguous, node))


def field(node: Any, *path: str) -> Any:
    """Give a field by its path; ``None`` where there is none."""
    for name in path:
        if not isinstance(node, Pairs):
            return None
        node = next((value for other, value in node if other == name), None)
    return node


def amount(node: Any) -> Decimal | None:
    """Give the exact value of a number, or of one in quotes."""
    if isinstance(node, str):
        node = _number(node.strip())
    if not isinstance(node, Decimal) or not node.is_finite():
        return None
    return node


def texts(node: Any) -> Iterator[str]:
    """List all texts and numbers in a document, as texts."""
    if isinstance(node, Pairs):
        for _, value in node:
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node
    elif isinstance(node, Decimal):
        # As many digits as an id may have at most; a negative zero is a zero.
        yield f"{node:f}".removeprefix("-") if not node else f"{node:f}" if abs(node.adjusted()) < 300 else str(node)
