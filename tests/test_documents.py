"""Bodies of others are read within bounds, and no number in them is guessed."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from budgetguard import _documents
from budgetguard._documents import decode, unpacked

brotli: Any = importlib.import_module("brotli")  # untyped
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("raw", "document"),
    [
        (b'{"credits": 5}', {"credits": 5}),
        (b'\xef\xbb\xbf{"credits": 5}', {"credits": 5}),
        ('{"credits": 5}'.encode("utf-16"), {"credits": 5}),
        ('{"credits": 5}'.encode("utf-16-le"), {"credits": 5}),
        ('{"credits": 5}'.encode("utf-32"), {"credits": 5}),
        (b"[5.0, 5e2, -0.0, 0.5, 1.0e-3]", [5.0, 500.0, 0.0, 0.5, 0.001]),
        (b'"\\ud83d"', "\ud83d"),
    ],
)
def test_json_is_read_in_every_encoding_it_may_have(raw: bytes, document: Any) -> None:
    assert decode(raw) == document


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b'{"credits": 5',
        b'{"credits": 0, "credits": 500}',
        b'[{"a": {"credits": 500, "credits": 500}}]',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
        b'"caf\xe9"',
        b"\xff\xfe\x00",
        b"\x00",
        b"5 5",
    ],
)
def test_what_is_no_json_or_names_a_field_twice_is_no_document(raw: bytes) -> None:
    assert decode(raw) is None


@pytest.mark.parametrize(
    "text", ["1e-400", "0e99999999999999999999", "1e-99999999999999999999", "499.99999999999999999", "1e400", "NaN"]
)
def test_a_number_too_fine_or_too_large_for_a_float_is_not_rounded_to_another(text: str) -> None:
    number = decode(f"[{text}]".encode())[0]
    assert not math.isfinite(number)


def test_a_document_of_more_parts_than_anybody_means_is_not_built() -> None:
    many = b"[" + b"[]," * (4 * MIB) + b"[]]"
    tracemalloc.start()
    try:
        assert decode(many) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB
    assert decode(json.dumps({"payload": "," * 1_048_576}).encode()) is not None


@pytest.mark.parametrize("name", PACK)
def test_what_is_packed_is_unpacked(name: str) -> None:
    data = b'{"credits": 5}' * 1000
    assert unpacked(PACK[name](data), name) == data
    assert unpacked(PACK[name](data), name.upper(), len(data)) == data
    assert unpacked(PACK[name](data), name, len(data) - 1) is None


def test_encodings_are_undone_in_turn_and_unknown_ones_passed_over() -> None:
    data = b'{"credits": 5}'
    assert unpacked(zlib.compress(gzip.compress(data)), "gzip, deflate") == data
    assert unpacked(gzip.compress(data), "identity, x-own , GZIP") == data
    assert unpacked(data, "utf-8") == data
    assert unpacked(zlib.compress(data)[2:-4], "deflate") == data
    assert unpacked(b"", "") == b""


@pytest.mark.parametrize("name", PACK)
def test_a_damaged_body_is_not_read(name: str) -> None:
    assert unpacked(b"no such thing", name) is None


def test_a_body_packed_many_times_is_not_read() -> None:
    data = b"5"
    for _ in range(4):
        data = gzip.compress(data)
    assert unpacked(data, ", ".join(["gzip"] * 4)) is None


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("twice", [False, True])
def test_a_small_body_that_unpacks_to_forty_megabytes_takes_no_more_memory_than_is_allowed(
    name: str, *, twice: bool
) -> None:
    zeros = b"0" * (40 * MIB)
    bomb = brotli.compress(zeros, quality=4) if name == "br" else PACK[name](zeros)
    del zeros
    names = name
    if twice:
        bomb, names = gzip.compress(bomb), f"{name}, gzip"
    tracemalloc.start()
    try:
        assert unpacked(bomb, names, MIB) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


def test_a_brotli_that_knows_no_bound_is_fed_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        class Decompressor:
            def __init__(self) -> None:
                self._real = brotli.Decompressor()

            def process(self, data: bytes) -> bytes:
                return bytes(self._real.process(data))

    monkeypatch.setattr(_documents, "_library", lambda *_names: Old)
    data = b'{"credits": 5}' * 1000
    assert unpacked(brotli.compress(data), "br") == data
    bomb = brotli.compress(b"0" * (40 * MIB), quality=4)
    tracemalloc.start()
    try:
        assert unpacked(bomb, "br", MIB) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 48 * MIB


@pytest.mark.parametrize("name", ["br", "zstd"])
def test_an_encoding_whose_library_is_not_installed_is_passed_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_documents, "_library", lambda *_names: None)
    assert unpacked(b"packed", name) == b"packed"
