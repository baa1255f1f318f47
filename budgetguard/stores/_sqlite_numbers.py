"""How an account's counters are written down: their names as one text, their numbers as eight bytes each.

Names hardly ever change, so they are compared as a whole and taken apart once. Whole numbers are exact in eight bytes
up to 2^63; where one is larger, all are written as one JSON object instead, and the names are left empty. That is also
what the first version of the file held.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping

__all__ = ["Pack", "read", "write"]

Pack = Callable[..., bytes]

_KNOWN_MAX = 1024
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_layouts: dict[int, struct.Struct] = {}
_known: dict[str, tuple[str, ...]] = {}
"""Names taken apart already."""


def read(names: str, numbers: bytes | str) -> tuple[dict[str, int], Pack | None]:
    """Read counters, and say what packs their numbers; ``None`` where they are too large for that.

    Raises:
        ValueError, TypeError, AttributeError, RecursionError: If these are no counters.
    """
    if isinstance(numbers, bytes):
        keys = _known.get(names) or _take_apart(names)
        layout = _layout(len(keys))
        try:
            return dict(zip(keys, layout.unpack(numbers), strict=True)), layout.pack
        except struct.error as error:
            raise ValueError from error
    counters: dict[str, int] = _decode(numbers)
    if not {int}.issuperset(map(type, counters.values())):
        raise ValueError(numbers)
    return counters, None


def write(counters: Mapping[str, int]) -> tuple[str, bytes | str, Pack | None]:
    """Write down counters whose names may be new: the names, the numbers, and what packs the numbers from now on."""
    layout = _layout(len(counters))
    try:
        return _encode(list(counters)), layout.pack(*counters.values()), layout.pack
    except struct.error:
        return "", _encode(counters), None


def _layout(size: int) -> struct.Struct:
    layout = _layouts.get(size)
    if layout is None:
        layout = _layouts[size] = struct.Struct(f"<{size}q")
    return layout


def _take_apart(names: str) -> tuple[str, ...]:
    found = _decode(names)
    if type(found) is not list or not {str}.issuperset(map(type, found)) or len(set(found)) < len(found):
        raise ValueError(names)
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    keys = _known[names] = tuple(found)
    return keys
