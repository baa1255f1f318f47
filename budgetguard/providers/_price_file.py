"""Price lists: shipped as TOML beside the adapters, changed by the user, checked before use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from budgetguard.errors import SettingError
from budgetguard.providers._fields import CREDITS_MAX

__all__ = ["Prices", "credits_at", "credits_by_name", "price_list", "table_at"]

Prices: TypeAlias = Mapping[str, Any] | str | os.PathLike[str] | None
"""What a user may give: a table laid over the shipped list, the path of a TOML file with one, or nothing."""


# Ways to state a price, of which a table has one: a change that brings another way takes the old one out.
_RIVALS = (
    frozenset({"per_second", "off_peak_per_second"}),
    frozenset({"first", "step"}),
    frozenset({"flat", "off_peak_flat"}),
)

_FILE_MAX = 1024 * 1024
_DEPTH_MAX = 8
_SHOWN_MAX = 200


def price_list(shipped: str, changes: Prices) -> tuple[dict[str, Any], str]:
    """Give the list with the user's changes laid over it, and the date to show for it.

    Tables are merged key by key; anything else takes the place of what was there.

    Raises:
        SettingError: If a file cannot be read, or the changes are no table of names.
    """
    document = _shipped(shipped)
    date = str(document["date"])
    if changes is None:
        return dict(document), date
    over = changes if isinstance(changes, Mapping) else _from_file(changes)
    _check_names(over, "prices")
    # Whoever gives a date of his own answers for the whole list.
    shown = str(over["date"]) if "date" in over else f"{date} with changes"
    return _laid_over(document, over), shown


@cache
def _shipped(name: str) -> Mapping[str, Any]:
    from importlib import resources  # noqa: PLC0415 - only whoever makes an adapter reads a list

    return _parsed(resources.files("budgetguard.providers").joinpath(name).read_text("utf-8"))


def _parsed(text: str) -> Mapping[str, Any]:
    import tomllib  # noqa: PLC0415 - as above

    return tomllib.loads(text)


def _from_file(path: Any) -> Mapping[str, Any]:
    if not isinstance(path, str | os.PathLike):
        raise SettingError("prices", type(path).__name__, "give a table of prices or the path of a TOML file")
    shown = repr(os.fspath(path))[1:-1][-_SHOWN_MAX:]
    try:
        with Path(path).open("rb") as file:
            content = file.read(_FILE_MAX + 1)
        if len(content) > _FILE_MAX:
            raise SettingError("prices", shown, f"give a TOML file of at most {_FILE_MAX} bytes")
        return _parsed(content.decode())
    except OSError as error:
        right = f"give a TOML file that can be read ({error.strerror or type(error).__name__})"
        raise SettingError("prices", shown, right) from error
    except (ValueError, TypeError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError("prices", shown, f"give a readable TOML file ({str(error)[:_SHOWN_MAX]})") from error
    except RecursionError:
        raise SettingError("prices", shown, "give a TOML file whose tables are not nested so deep") from None


def _check_names(table: Mapping[Any, Any], where: str, depth: int = 0) -> None:
    if depth > _DEPTH_MAX:
        raise SettingError("prices", "(nested)", f"give tables nested at most {_DEPTH_MAX} deep")
    for name, value in table.items():
        if not isinstance(name, str) or not name:
            raise SettingError(where, name, "give names as text")
        if isinstance(value, Mapping):
            _check_names(value, f"{where}.{name[:_SHOWN_MAX]}", depth + 1)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    brought = [way for way in _RIVALS if not way.isdisjoint(above)]
    gone = frozenset[str]().union(*_RIVALS) - frozenset[str]().union(*brought) if brought else frozenset[str]()
    laid = {name: value for name, value in below.items() if name not in gone}
    for name, value in above.items():
        under = below.get(name)
        if isinstance(value, Mapping):
            laid[name] = _laid_over(under if isinstance(under, Mapping) else {}, value)
        else:
            laid[name] = value
    return laid


def credits_at(value: Any, where: str) -> int:
    """Check an amount of credits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= CREDITS_MAX:
        raise SettingError(where, value, "give a whole number of credits, 0 or more")
    return value


def table_at(value: Any, where: str) -> Mapping[str, Any]:
    """Check that there is a table."""
    if not isinstance(value, Mapping):
        raise SettingError(where, value, "give a table")
    return value


def credits_by_name(value: Any, where: str, known: frozenset[str] | None = None) -> dict[str, int]:
    """Check a table of amounts; with *known*, one that has no other names."""
    table = table_at(value, where)
    for name in table:
        if known is not None and name not in known:
            raise SettingError(where, name, f"give only {', '.join(sorted(known))}")
    return {name: credits_at(amount, f"{where}.{name}") for name, amount in table.items()}
