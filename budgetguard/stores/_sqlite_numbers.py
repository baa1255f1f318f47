"""How an account's counters are written down: their names as one text, their numbers as eight bytes each, and a check.

Names hardly ever change, so they are compared as a whole and taken apart once. Whole numbers are exact in eight bytes
up to 2^63; where one is larger, all are written as one JSON object instead, and the names are left empty. That is also
what the first version of the file held.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping

__all__ = ["Pack", "read", "write"]

Pack = Callable[..., bytes]

_KNOWN_MAX = 1024
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_layouts: dict[int, struct.Struct] = {}
_known: dict[str, tuple[tuple[str, ...], Pack]] = {}
"""Names taken apart already, with what packs their numbers."""
_CHECK = 4
"""Bytes of the check of names and numbers: a bit that changed on the disk would be another balance otherwise."""


def read(names: str, numbers: bytes | str) -> tuple[dict[str, int], Pack | None]:
    """Read counters, and say what packs their numbers; ``None`` where they are too large for that.

    Raises:
        ValueError, TypeError, AttributeError, RecursionError: If these are no counters.
    """
    if isinstance(numbers, bytes):
        keys, pack = _known.get(names) or _take_apart(names)
        try:
            values = _layout(len(keys)).unpack(numbers[:-_CHECK])
        except struct.error as error:
            raise ValueError from error
        if pack(*values) != numbers:
            raise ValueError(names)
        return dict(zip(keys, values, strict=True)), pack
    counters: dict[str, int] = _decode(numbers)
    if not {int}.issuperset(map(type, counters.values())):
        raise ValueError(numbers)
    return counters, None


def write(counters: Mapping[str, int]) -> tuple[str, bytes | str, Pack | None]:
    """Write down counters whose names may be new: the names, the numbers, and what packs the numbers from now on."""
    names = _encode(list(counters))
    pack = _packer(len(counters), names)
    try:
        return names, pack(*counters.values()), pack
    except struct.error:
        return "", _encode(counters), None


def _layout(size: int) -> struct.Struct:
    layout = _layouts.get(size)
    if layout is None:
        layout = _layouts[size] = struct.Struct(f"<{size}q")
    return layout


def _packer(size: int, names: str) -> Pack:
    pack, seed, check = _layout(size).pack, zlib.crc32(names.encode()), zlib.crc32

    def packed(*numbers: int) -> bytes:
        data = pack(*numbers)
        return data + check(data, seed).to_bytes(_CHECK, "little")

    return packed


def _take_apart(names: str) -> tuple[tuple[str, ...], Pack]:
    found = _decode(names)
    if type(found) is not list or not {str}.issuperset(map(type, found)) or len(set(found)) < len(found):
        raise ValueError(names)
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    known = _known[names] = tuple(found), _packer(len(found), names)
    return known
