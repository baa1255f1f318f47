"""Rows of Vidu's price list: what a table of the file says, checked and typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from budgetguard.errors import SettingError
from budgetguard.providers._price_file import credits_at, credits_by_name, table_at

__all__ = ["ImageRow", "VideoRow", "image_row", "video_row"]

_FLAT = re.compile(r"([1-9][0-9]{0,3})s (\S+(?: anime)?)", re.ASCII)
_VIDEO_KEYS = frozenset(
    {
        "adds",
        "first",
        "flat",
        "free",
        "off_peak_flat",
        "off_peak_half",
        "off_peak_per_second",
        "per_second",
        "resolution_default",
        "seconds",
        "seconds_auto",
        "seconds_default",
        "step",
        "table",
    }
)
_IMAGE_KEYS = frozenset({"credits", "least", "resolution_default", "up_to"})
_SECONDS_MAX = 86_400


@dataclass(frozen=True, slots=True)
class VideoRow:
    """What one model costs on one endpoint: by the second, by first seconds and steps, or flat."""

    table: str
    seconds: tuple[int, int]
    seconds_default: int | None = None
    seconds_auto: int | None = None
    resolution_default: str | None = None
    per_second: Mapping[str, int] = field(default_factory=dict[str, int])
    off_peak_per_second: Mapping[str, int] = field(default_factory=dict[str, int])
    first: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    step: Mapping[str, int] = field(default_factory=dict[str, int])
    flat: Mapping[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    off_peak_flat: Mapping[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    off_peak_half: bool = False
    adds: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()

    @property
    def has_off_peak(self) -> bool:
        """Whether off-peak calls have a price."""
        return self.off_peak_half or bool(self.off_peak_per_second or self.off_peak_flat)

    def resolutions(self, seconds: int) -> list[str]:
        """Name the resolutions that have a price for a video of that length."""
        if self.flat:
            return [name for length, name in self.flat if length == seconds and not name.endswith(" anime")]
        return list(self.per_second or self.first)

    def price(self, seconds: int, resolution: str, *, anime: bool = False, off_peak: bool = False) -> int | None:
        """Give the price without surcharges; where off-peak is half of the total, the price before halving."""
        if self.flat:
            cells = self.off_peak_flat if off_peak and not self.off_peak_half else self.flat
            plain = cells.get((seconds, resolution))
            return cells.get((seconds, f"{resolution} anime"), plain) if anime else plain
        if self.per_second:
            rates = self.off_peak_per_second if off_peak and not self.off_peak_half else self.per_second
            rate = rates.get(resolution)
            return None if rate is None else rate * seconds
        totals = self.first.get(resolution, ())
        if not totals or seconds < 1:
            return None
        beyond = seconds - len(totals)
        return totals[seconds - 1] if beyond <= 0 else totals[-1] + self.step[resolution] * beyond


def video_row(value: Any, where: str) -> VideoRow:
    """Read a model's table.

    Raises:
        SettingError: If it does not say one price, or says anything unknown.
    """
    table = _known(value, where, _VIDEO_KEYS)
    amounts = {
        name: credits_by_name(table[name], f"{where}.{name}")
        for name in ("per_second", "off_peak_per_second", "step")
        if name in table
    }
    flats = {name: _flat(table[name], f"{where}.{name}") for name in ("flat", "off_peak_flat") if name in table}
    first = {
        name: _totals(totals, f"{where}.first.{name}")
        for name, totals in table_at(table.get("first", {}), f"{where}.first").items()
    }
    if [bool(amounts.get("per_second")), bool(first), bool(flats.get("flat"))].count(True) != 1:
        raise SettingError(where, dict(table), "give one of per_second, first with step, or flat")
    if first.keys() != amounts.get("step", {}).keys():
        raise SettingError(f"{where}.step", table.get("step"), "give a step for each resolution in first, and no other")
    half = table.get("off_peak_half", False)
    if not isinstance(half, bool):
        raise SettingError(f"{where}.off_peak_half", half, "give true or false")
    lengths = [seconds for seconds, _ in flats.get("flat", {})]
    return VideoRow(
        table=_word(table.get("table", "own"), f"{where}.table"),
        seconds=(min(lengths), max(lengths)) if lengths else _bounds(table.get("seconds"), f"{where}.seconds"),
        seconds_default=_length(table.get("seconds_default"), f"{where}.seconds_default"),
        seconds_auto=_length(table.get("seconds_auto"), f"{where}.seconds_auto"),
        resolution_default=_word(table["resolution_default"], f"{where}.resolution_default")
        if "resolution_default" in table
        else None,
        per_second=amounts.get("per_second", {}),
        off_peak_per_second=amounts.get("off_peak_per_second", {}),
        first=first,
        step=amounts.get("step", {}),
        flat=flats.get("flat", {}),
        off_peak_flat=flats.get("off_peak_flat", {}),
        off_peak_half=half,
        adds=_words(table.get("adds", []), f"{where}.adds"),
        free=_words(table.get("free", []), f"{where}.free"),
    )


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What one image model costs, by resolution and number of input images."""

    least: int
    up_to: tuple[int, ...]
    resolution_default: str | None
    credits: Mapping[str, tuple[int, ...]]

    def price(self, inputs: int, resolution: str) -> int:
        """Give the price of one call with that many inputs, which must be within bounds."""
        column = next(index for index, most in enumerate(self.up_to) if inputs <= most)
        return self.credits[resolution][column]


def image_row(value: Any, where: str) -> ImageRow:
    """Read an image model's table.

    Raises:
        SettingError: If a column is missing, or it says anything unknown.
    """
    table = _known(value, where, _IMAGE_KEYS)
    up_to = _totals(table.get("up_to"), f"{where}.up_to")
    if list(up_to) != sorted(set(up_to)):
        raise SettingError(f"{where}.up_to", list(up_to), "give rising numbers of input images")
    credits = {
        name: _totals(totals, f"{where}.credits.{name}")
        for name, totals in table_at(table.get("credits"), f"{where}.credits").items()
    }
    for name, totals in credits.items():
        if len(totals) != len(up_to):
            raise SettingError(f"{where}.credits.{name}", list(totals), f"give {len(up_to)} amounts, as up_to has")
    return ImageRow(
        least=credits_at(table.get("least", 0), f"{where}.least"),
        up_to=up_to,
        resolution_default=_word(table["resolution_default"], f"{where}.resolution_default")
        if "resolution_default" in table
        else None,
        credits=credits,
    )


def _known(value: Any, where: str, keys: frozenset[str]) -> Mapping[str, Any]:
    table = table_at(value, where)
    for name in table:
        if name not in keys:
            raise SettingError(where, name, f"give only {', '.join(sorted(keys))}")
    return table


def _flat(value: Any, where: str) -> dict[tuple[int, str], int]:
    cells: dict[tuple[int, str], int] = {}
    for name, amount in credits_by_name(value, where).items():
        match = _FLAT.fullmatch(name)
        if match is None:
            raise SettingError(where, name, "give names such as '4s 720p' or '4s 360p anime'")
        cells[int(match[1]), match[2]] = amount
    return cells


def _totals(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise SettingError(where, value, "give a list of whole numbers")
    return tuple(credits_at(amount, where) for amount in value)


def _bounds(value: Any, where: str) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise SettingError(where, value, "give [least, most], in whole seconds")
    least, most = (_length(bound, where) for bound in value)
    if least is None or most is None or least > most:
        raise SettingError(where, value, "give [least, most], in whole seconds")
    return least, most


def _length(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _SECONDS_MAX:
        raise SettingError(where, value, "give whole seconds, 1 or more")
    return value


def _word(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise SettingError(where, value, "give text")
    return value


def _words(value: Any, where: str) -> frozenset[str]:
    if not isinstance(value, list | tuple | frozenset | set):
        raise SettingError(where, value, "give a list of surcharges")
    return frozenset(_word(item, where) for item in value)
