"""Checks of settings that many things share. Each raises `SettingError`, which names the setting and what is right."""

from __future__ import annotations

import re
from typing import Any

from budgetguard.errors import SettingError

__all__ = ["CREDITS_MAX", "SLOTS_MAX", "flag", "function", "given_address", "pool_name", "seconds", "whole"]

CREDITS_MAX = 10**15
"""The largest amount believed; more is a mistake, and would not fit every store's integers after a few additions."""
SLOTS_MAX = 10**9
_SECONDS_MAX = 1e9
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]{1,15})://([a-z0-9._:\[\]-]{0,80})(.?)", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9-]{1,30}(?:\.[a-z0-9-]{1,30}){0,4}\.[a-z]{2,10}(?::[0-9]{1,5})?", re.ASCII)


def whole(name: str, value: Any, least: int = 0, most: int = CREDITS_MAX, *, right: str = "") -> int:
    """Check a whole number within bounds. ``True`` is none, nor is 5.0."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        above = f", at most {most}" if isinstance(value, int) and not isinstance(value, bool) and value > most else ""
        raise SettingError(name, value, right or f"give a whole number, {least} or more{above}")
    return value


def seconds(name: str, value: Any, *, zero: bool = False) -> float:
    """Check a duration: more than 0, or with *zero* 0 or more; finite, and at most thirty years."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= _SECONDS_MAX
        or not (zero or value)
    ):
        raise SettingError(name, value, f"give seconds, {'0 or more' if zero else 'more than 0'}, at most 1e9")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """Check a switch: ``"no"`` and 0 are none."""
    if not isinstance(value, bool):
        raise SettingError(name, value, "give True or False")
    return value


def function(name: str, value: Any, right: str) -> None:
    """Check that something can be called."""
    if not callable(value):
        raise SettingError(name, type(value).__name__, right)


def pool_name(name: str, value: Any) -> str:
    """Check the name of a limit: stores write it down among other fields."""
    if not isinstance(value, str) or not value.isprintable():
        raise SettingError(name, value, "give the name of a limit, as text without line breaks")
    return value


def given_address(value: Any) -> str:
    """Give what of a wrong address may be shown: no user, password, query or path, and of what may be a key nothing."""
    if not isinstance(value, str):
        return type(value).__name__
    found = _ADDRESS.match(value)
    if found is None:
        return value if not value or _HOST.fullmatch(value) else "(hidden)"
    scheme, host, more = found[1], found[2], found[3]
    return f"{scheme}://..." if "@" in value else f"{scheme}://{host}{'...' if more else ''}"
