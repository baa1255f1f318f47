"""Careful reading of fields that somebody else wrote.

A balance that is misread must never look like a balance: whatever is missing, negative or not a whole number raises
`ReadingError` with the path of the field. Where a wrong field only means "not told", the functions give ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from budgetguard._settings import CREDITS_MAX
from budgetguard.errors import ReadingError

__all__ = ["CREDITS_MAX", "count", "identifier", "objects", "quoted", "retry_after", "sentence", "text", "whole"]

# Some JSON encoders quote every 64-bit integer, and some write whole numbers with an empty fraction.
_QUOTED = re.compile(r"[+-]?[0-9]{1,16}(?:\.0{1,6})?", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_RETRY_AFTER_MAX = 86_400.0
_IDENTIFIER_MAX = 256
_SENTENCE_MAX = 500


def whole(value: Any) -> int | None:
    """Read a whole number that may be quoted; ``None`` for anything else, and beyond `CREDITS_MAX` either way."""
    number: int | None = None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and _QUOTED.fullmatch(value.strip()):
        number = int(value.strip().partition(".")[0])
    return number if number is not None and abs(number) <= CREDITS_MAX else None


def count(document: Mapping[str, Any], name: str, where: str = "") -> int:
    """Read a field that must be a whole number, 0 or more.

    Raises:
        ReadingError: If it is missing, negative, too large or not a whole number.
    """
    field = _path(where, name)
    if name not in document:
        raise ReadingError("is missing", field=field)
    number = whole(document[name])
    if number is None:
        raise ReadingError(f"is {_kind(document[name])}, not a whole number up to {CREDITS_MAX}", field=field)
    if number < 0:
        raise ReadingError(f"is negative ({number})", field=field)
    return number


def text(document: Mapping[str, Any], name: str, where: str = "") -> str:
    """Read a field that must be text.

    Raises:
        ReadingError: If it is missing, empty or no text.
    """
    value = document.get(name)
    if not isinstance(value, str) or not value:
        problem = f"is {_kind(value)}, not text" if name in document else "is missing"
        raise ReadingError(problem, field=_path(where, name))
    return value


def objects(value: Any, field: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Read a list of objects, each with its own path.

    Raises:
        ReadingError: If it is no list, or holds anything but objects.
    """
    if not isinstance(value, list):
        raise ReadingError(f"is {_kind(value)}, not a list", field=field)
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for index, row in enumerate(value):
        if not isinstance(row, dict):
            raise ReadingError(f"is {_kind(row)}, not an object", field=f"{field}[{index}]")
        rows.append((f"{field}[{index}]", row))
    return rows


def identifier(value: Any) -> str | None:
    """Read an id: short printable text, or a number; ``None`` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**40:
        return str(value)
    if isinstance(value, str) and 0 < len(value) <= _IDENTIFIER_MAX and value.isprintable() and value.strip() == value:
        return value
    return None


def quoted(task_id: str) -> str | None:
    """Write an id as one part of an address; ``None`` for one that could lead elsewhere.

    Servers differ in what they make of a quoted slash, so an id with one is none.
    """
    known = identifier(task_id)
    return None if known is None or known in (".", "..") or set(known) & set("/\\") else quote(known, safe="")


def sentence(value: Any) -> str:
    """Read a provider's word or sentence, cut to a bearable length; ``""`` for anything but text."""
    return value[:_SENTENCE_MAX] if isinstance(value, str) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After`` where it is given in seconds, at most a day.

    Its other form, a date, would need a clock, which adapters do not have.
    """
    value = headers.get("retry-after", "").strip()
    return min(float(value), _RETRY_AFTER_MAX) if _SECONDS.fullmatch(value) else None


def _path(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _kind(value: Any) -> str:
    # Says what it is rather than showing it: it may be long, and is none of a log file's business.
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text" if value else "empty text"
        case int() | float():
            return "a number of another sort"
        case list():
            return "a list"
        case _:
            return "an object"
