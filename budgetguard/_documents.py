"""Bodies that somebody else wrote, read within bounds: what is inside an encoding, and what JSON says.

A body of a few hundred bytes can unpack to gigabytes, and a few megabytes of brackets become a gigabyte of lists. So
both are bounded here, and whatever is beyond a bound was not understood. Nor is a number ever guessed: an object that
names a field twice is none, and a fraction that is too fine for a float is no number.
"""

from __future__ import annotations

import importlib
import json
import zlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

__all__ = ["DOCUMENT_MAX", "decode", "unpacked"]

DOCUMENT_MAX = 32 * 1024 * 1024
"""Bytes of a body that are looked at, packed or not. Twice what any provider here says it sends or takes."""

_SMALL = 64 * 1024
_ITEMS_MAX = 2**21
"""Commas and brackets in a document; its texts may have some too. A payload of Vidu's has a million characters."""
_ENCODINGS_MAX = 3
_STEP = 16
_WINDOW_MAX = 8 * 1024 * 1024
"""The largest window of zstd over HTTP: https://www.rfc-editor.org/rfc/rfc9659."""


def decode(raw: bytes) -> Any:
    """Read a JSON document; ``None`` where it is none, is ambiguous, or has more parts than anybody means.

    How deep it may be, and how many digits an integer may have, is for the interpreter to bound.
    """
    if len(raw) > _SMALL and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > _ITEMS_MAX:
        return None
    try:
        text = raw.decode()
        try:
            document, end = _scan(text, 0)
        except (StopIteration, ValueError):
            return _careful(text)
        # Each field has a colon, and so may a text. An object with as many fields as there are colons names none twice
        # and has no other object inside: then the careful way, three times as slow, could find nothing more.
        if type(document) is dict and end == len(text) and len(document) == text.count(":"):
            return document
        return _careful(text)
    except RecursionError:
        return None
    except ValueError:
        encoding = json.detect_encoding(raw)
        if encoding == "utf-8":
            return None
    try:
        return _careful(raw.decode(encoding))
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> float:
    number = float(text)
    if not number.is_integer():
        return number
    # 1e-400 is not 0, and 499.99999999999999999 is not 500.
    try:
        return number if Decimal(text) == number else float("nan")
    except ArithmeticError:  # its exponent is beyond even that
        return float("nan")


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields


_careful = json.JSONDecoder(parse_float=_number, object_pairs_hook=_fields).decode
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(parse_float=_number).scan_once  # type: ignore[attr-defined]


def unpacked(raw: bytes, encodings: str, most: int = DOCUMENT_MAX) -> bytes | None:
    """Undo the encodings a ``content-encoding`` header names; one that is not known here is passed over, as httpx does.

    Gives ``None`` where a body is damaged, or longer than *most* bytes at any step. Takes no more memory than that,
    but for older releases of brotli, which may take some megabytes more.
    """
    names = [name.strip().lower() for name in encodings.split(",")]
    if len(names) > _ENCODINGS_MAX:
        return None
    content: bytes | None = raw
    for name in reversed(names):
        unpack = _UNPACK.get(name)
        if unpack is not None and content is not None:
            try:
                content = unpack(content, most)
            except Exception:  # noqa: BLE001 - each library has an error of its own, and all mean the same
                return None
    return content


def _inflated(raw: bytes, most: int, bits: int) -> bytes | None:
    inflater = zlib.decompressobj(bits)
    content = inflater.decompress(raw, most + 1)
    return content if len(content) <= most else None


def _gzip(raw: bytes, most: int) -> bytes | None:
    return _inflated(raw, most, zlib.MAX_WBITS | 16)


def _deflate(raw: bytes, most: int) -> bytes | None:
    try:
        return _inflated(raw, most, zlib.MAX_WBITS)
    except zlib.error:
        return _inflated(raw, most, -zlib.MAX_WBITS)  # many servers leave the frame away


def _br(raw: bytes, most: int) -> bytes | None:
    library = _library("brotli", "brotlicffi")
    if library is None:
        return raw
    opened = library.Decompressor()
    process = getattr(opened, "process", None) or opened.decompress
    try:
        content: bytes = process(raw, output_buffer_limit=most + 1)
    except TypeError:
        return _in_steps(process, raw, most)
    return content if len(content) <= most else None


def _in_steps(process: Callable[[bytes], bytes], raw: bytes, most: int) -> bytes | None:
    """Feed a library that knows no bound so little at a time that each step stays within some megabytes."""
    content = bytearray()
    for at in range(0, len(raw), _STEP):
        content += process(raw[at : at + _STEP])
        if len(content) > most:
            return None
    return bytes(content)


def _zstd(raw: bytes, most: int) -> bytes | None:
    library = _library("zstandard")
    if library is None:
        return raw
    reader = library.ZstdDecompressor(max_window_size=_WINDOW_MAX).stream_reader(raw, read_across_frames=True)
    content: bytes = reader.read(most + 1)
    return content if len(content) <= most else None


def _library(*names: str) -> Any:
    """Find a library that httpx would use, where it is installed: it asks for no encoding it cannot read."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_UNPACK: Mapping[str, Callable[[bytes, int], bytes | None]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "br": _br,
    "zstd": _zstd,
}
