"""However much a provider answers, the guard takes a few megabytes to look at it, and admits nobody on it."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from budgetguard.errors import CreditsUnavailable
from tests.support.vidu import BODY, CREDITS, HEADERS, HOME, SUBMIT, quick, vidu
from tests.support.ways import Way

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024
PIECE = b" " * 65_536
BOMB = gzip.compress(b" " * (100 * MIB))


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of a hundred megabytes, made as it is read."""

    def __init__(self, piece: bytes) -> None:
        self.given = 0
        self._piece = piece

    def _pieces(self) -> Iterator[bytes]:
        while self.given < 100 * MIB:
            self.given += len(self._piece)
            yield self._piece

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces():
            yield piece


ODD: dict[str, tuple[Any, dict[str, str]]] = {
    "a hundred megabytes": (lambda: Endless(PIECE), {}),
    "in short pieces": (lambda: Endless(b"[]" * 20), {}),
    "that unpack from a few": (lambda: httpx.ByteStream(BOMB), {"content-encoding": "gzip"}),
    "of brackets": (lambda: httpx.ByteStream(b'{"remains": ' + b"[" * MIB), {}),
    "of lists": (lambda: httpx.ByteStream(b'{"remains": [' + b"[]," * (100 * 1024) + b"[]]}"), {}),
    "of digits": (lambda: httpx.ByteStream(b'{"remains": ' + b"9" * 1_000_000 + b"}"), {}),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_answer_without_end_is_no_balance_and_fills_no_memory(way: Way, name: str) -> None:
    make, headers = ODD[name]
    submits = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal submits
        submits += request.url.path != CREDITS
        return httpx.Response(200, headers=headers, stream=make())

    guard = way.guard(vidu(), policy=quick())
    async with way.client(guard, httpx.MockTransport(answer), base_url=HOME, headers=HEADERS) as client:
        tracemalloc.start()
        try:
            with pytest.raises(CreditsUnavailable):
                await client.post(SUBMIT, json=BODY)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 40 * MIB
    assert submits == 0
