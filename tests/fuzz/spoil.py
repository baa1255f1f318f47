"""Ways to spoil what was right: bytes, and documents."""

from __future__ import annotations

import codecs
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["NUMBERS", "Pairs", "Raw", "damaged", "encoded", "mixed", "spoilt", "twisted", "written"]


class Raw(str):
    """Stands in a document as it is."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose names may come twice."""


NUMBERS = (
    "0",
    "-0",
    "1",
    "-1",
    "5",
    "0.0",
    "0.5",
    "5.0",
    "5e0",
    "5e2",
    "4.99999999999999999999",
    "1e-400",
    "1e400",
    "-1e400",
    "1e-99999999999999999999",
    "1e99999999999999999999",
    "NaN",
    "Infinity",
    "-Infinity",
    "999999999999999",
    "1000000000000000",
    "1000000000000001",
    "9007199254740993",
    "9223372036854775808",
    "1e15",
    "1e16",
    "0x10",
    "1_0",
    "05",
    "+5",
    "9" * 400,
    "9" * 5000,
)
_VALUES = (
    "null",
    "true",
    "false",
    '""',
    '"0"',
    '" 5 "',
    '"5.0"',
    '"-5"',
    '"1e3"',
    '"NaN"',
    '"0x10"',
    '"\u0663"',
    '"many"',
    '"\\ud800"',
    '"\\u0000"',
    '"\\u001b[2J"',
    '"[/red]"',
    "[]",
    "{}",
    "[null]",
    '[{"credits": 5}]',
    '{"credits": 5}',
    "[" * 1200,
    '{"a":' * 1200,
    "[" * 60 + "]" * 60,
)
_BITS = (
    b"null",
    b"NaN",
    b"1e400",
    b"-1",
    b'"',
    b"\\",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"\r\n",
    b"<html>",
    b"\x1f\x8b",
)
_ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp500")


def damaged(chance: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Damage bytes in a few places."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        data = chance.choice(_DAMAGES)(chance, data, others)
    return data


def _at(chance: random.Random, data: bytes) -> int:
    return chance.randrange(len(data) + 1)


def _flip(chance: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = _at(chance, data)
    return data[:at] + bytes(byte ^ (1 << chance.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 :]


def _put(chance: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = _at(chance, data)
    return data[:at] + chance.choice(_BITS) + data[at + chance.randrange(3) :]


def _drop(chance: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = _at(chance, data)
    return data[:at] + data[at + 1 + chance.randrange(8) :]


def _repeat(chance: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at, size = _at(chance, data), 1 + chance.randrange(16)
    return data[:at] + data[at : at + size] * (2 + chance.randrange(4)) + data[at + size :]


def _cut(chance: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    return data[: _at(chance, data)]


def _splice(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others) if others else data
    return data[: _at(chance, data)] + other[_at(chance, other) :]


def _digit(chance: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Exchange a digit: what is damaged stays readable, and says something else."""
    places = [at for at, byte in enumerate(data[:4096]) if 0x30 <= byte <= 0x39]
    if not places:
        return data
    at = chance.choice(places)
    return data[:at] + bytes([0x30 + chance.randrange(10)]) + data[at + 1 :]


_Damage = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
_DAMAGES: tuple[_Damage, ...] = (_flip, _put, _drop, _repeat, _cut, _splice, _digit)


# -- documents ------------------------------------------------------------------------------------------------------


def written(node: Any) -> str:
    """Write a document down, also one that JSON cannot say."""
    if isinstance(node, Raw):
        return str(node)
    if isinstance(node, dict):
        node = Pairs(node.items())
    if isinstance(node, Pairs):
        return "{" + ", ".join(f"{json.dumps(name)}: {written(value)}" for name, value in node) + "}"
    if isinstance(node, list):
        return "[" + ", ".join(map(written, node)) + "]"
    return json.dumps(node)


def twisted(chance: random.Random, node: Any, others: Sequence[Any] = ()) -> Any:
    """Twist one place of a document."""
    if isinstance(node, dict) and node and chance.random() < 0.85:
        name = chance.choice(list(node))
        if chance.random() < 0.6:
            return {**node, name: twisted(chance, node[name], others)}
        return _twisted_field(chance, node, name, others)
    if isinstance(node, list) and node and chance.random() < 0.85:
        at = chance.randrange(len(node))
        return [*node[:at], twisted(chance, node[at], others), *node[at + 1 :]]
    return _replaced(chance, node, others)


def _twisted_field(chance: random.Random, node: dict[str, Any], name: str, others: Sequence[Any]) -> Any:
    match chance.randrange(5):
        case 0:
            return {other: value for other, value in node.items() if other != name}
        case 1:
            respelt = chance.choice((name.upper(), name + "s", f" {name}", name.replace("_", ""), "\ud800"))
            return {respelt if other == name else other: value for other, value in node.items()}
        case 2:
            again = (name, _replaced(chance, node[name], others))
            return Pairs([*node.items(), again]) if chance.random() < 0.5 else Pairs([again, *node.items()])
        case 3:
            return {**node, name: [node[name]]}
        case _:
            return {**node, name: _replaced(chance, node[name], others)}


def _replaced(chance: random.Random, node: Any, others: Sequence[Any]) -> Any:
    match chance.randrange(6):
        case 0 | 1:
            return Raw(chance.choice(NUMBERS))
        case 2:
            return Raw(chance.choice(_VALUES))
        case 3 if others:
            return chance.choice(others)
        case 4:
            return [node, node]
        case _:
            return Raw(f'"{chance.choice(NUMBERS)}"')


def encoded(chance: random.Random, text: str) -> bytes:
    """Write a text down, mostly as one should."""
    name = "utf-8" if chance.random() < 0.9 else chance.choice(_ENCODINGS)
    try:
        return codecs.encode(text, name, "surrogatepass" if name.startswith("utf") and name != "utf-7" else "replace")
    except (ValueError, LookupError):
        return text.encode("utf-8", "replace")


def spoilt(chance: random.Random, document: Any, others: Sequence[Any] = ()) -> bytes:
    """Write a document down, spoilt in one way or another, or in none."""
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        if isinstance(document, (dict, list)) and not isinstance(document, Pairs):
            document = twisted(chance, document, others)
    data = encoded(chance, written(document))
    return damaged(chance, data) if chance.random() < 0.25 else data


def mixed(chance: random.Random, documents: Sequence[Any]) -> bytes:
    """Spoil one of several documents, with parts of the others."""
    return spoilt(chance, chance.choice(documents), documents)
