"""Whole calls through a guard whose provider answers something spoilt: nothing is admitted on it, nothing is lost.

The answer reaches the caller untouched, whatever the guard makes of it; and the next good answer is understood.
"""

from __future__ import annotations

import asyncio
import gzip
import importlib
import random
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import httpx

from budgetguard import AsyncGuard, Guard, Policy
from budgetguard.errors import CreditsUnavailable, InsufficientCredits, Refused
from budgetguard.model import State
from budgetguard.providers import Vidu
from budgetguard.stores import MemoryStore
from budgetguard.testing import ManualClock
from tests.fuzz import corpus, exact
from tests.fuzz.answers import balance_in, facts_of, states_in
from tests.fuzz.spoil import Pairs, mixed
from tests.fuzz.target import Broken, Target, joined, parted

__all__ = ["Through"]

brotli: Any = importlib.import_module("brotli")  # untyped
zstandard: Any = importlib.import_module("zstandard")

_HOME = "https://api.vidu.com/ent/v2"
_PRICE = 10
_TASK = "812345678901234567"
_KINDS = ("credits", "credits", "asked", "submit", "submit", "poll", "list", "cancel")
_PACKINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": lambda data: gzip.compress(data, 1),
    "deflate": zlib.compress,
    "br": lambda data: bytes(brotli.compress(data, quality=1)),
    "zstd": lambda data: bytes(zstandard.compress(data)),
    "gzip, deflate": lambda data: zlib.compress(gzip.compress(data, 1)),
    "gzip, ": bytes,
    "x-none": bytes,
}
_TYPES = ("application/json", "application/json", "text/html", "application/json; charset=utf-16", "text/event-stream")
_LENGTHS = ("0", "-1", "5", "9" * 30, "9" * 5000, "0x10", "5, 5", "")
_DOCUMENTS: Mapping[str, tuple[Any, ...]] = {
    "credits": (*corpus.VIDU_CREDITS, *corpus.VIDU_REFUSALS),
    "asked": (*corpus.VIDU_CREDITS, *corpus.VIDU_REFUSALS),
    "submit": (*corpus.VIDU_SUBMITTED, *corpus.VIDU_REFUSALS),
    "poll": (*corpus.VIDU_POLLS, *corpus.VIDU_REFUSALS),
    "list": (*corpus.VIDU_LISTS, *corpus.VIDU_REFUSALS),
    "cancel": ({}, *corpus.VIDU_POLLS, *corpus.VIDU_REFUSALS),
}
_SENT: Mapping[str, tuple[str, str]] = {
    "credits": ("GET", "/credits"),
    "asked": ("GET", "/credits"),
    "submit": ("POST", "/text2video"),
    "poll": ("GET", f"/tasks/{_TASK}/creations"),
    "list": ("GET", "/tasks"),
    "cancel": ("POST", f"/tasks/{_TASK}/cancel"),
}


_VIDU = Vidu(prices={"text2video": _PRICE})


def _good(path: str) -> dict[str, Any]:
    if path.endswith("/credits"):
        row = {"credit_remain": 500, "concurrency_limit": 5, "current_concurrency": 0, "queue_count": 0}
        return {"remains": [{"type": "metered", **row}]}
    return {"task_id": _TASK, "state": "created", "credits": _PRICE}


class _Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, body: bytes, size: int) -> None:
        self._pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class _Provider(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers well, but for one kind of request, while it is told to."""

    def __init__(self, kind: str, facts: Mapping[str, Any], body: bytes) -> None:
        self.spoilt = True
        self.submits = 0
        self.headers = _headers(facts)
        status = facts.get("status")
        self.status = status if isinstance(status, int) and 100 <= status <= 999 else 200
        self.size = max(1, int(facts["pieces"])) if str(facts.get("pieces", "")).isdigit() else 1 << 20
        packing = str(facts.get("packing", ""))
        packed = _PACKINGS.get(packing, bytes)(body)
        self.body = packed[: len(packed) - 3] + b"\0" if facts.get("broken") else packed
        self._asked = _SENT[kind]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/ent/v2")
        self.submits += path == "/text2video"
        if self.spoilt and (request.method, path) == self._asked:
            return httpx.Response(self.status, headers=self.headers, stream=_Pieces(self.body, self.size))
        return httpx.Response(200, json=_good(path))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request)


def _headers(facts: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    names = {"type": b"content-type", "length": b"content-length", "packing": b"content-encoding", "retry-after": None}
    found = [(name or key.encode(), facts.get(key)) for key, name in names.items()]
    return [(name, value.encode("ascii", "replace")) for name, value in found if isinstance(value, str) and value]


class Through(Target):
    """A call, whose provider answers something spoilt."""

    examples = 25

    def __init__(self, name: str, *, blocking: bool) -> None:
        self.name = name
        self._blocking = blocking
        self._runner = None if blocking else asyncio.Runner()

    def draw(self, chance: random.Random) -> bytes:
        kind = chance.choice(_KINDS)
        facts: dict[str, Any] = {**facts_of(chance), "kind": kind, "type": chance.choice(_TYPES)}
        if chance.random() < 0.3:
            facts["packing"] = chance.choice(list(_PACKINGS))
            facts["broken"] = chance.random() < 0.2
        if chance.random() < 0.1:
            facts["length"] = chance.choice(_LENGTHS)
        if chance.random() < 0.3:
            facts["pieces"] = chance.choice((1, 7, 300))
        return joined(facts, mixed(chance, _DOCUMENTS[kind]))

    def run(self, case: bytes) -> None:
        facts, body = parted(case)
        kind = str(facts.get("kind", "credits"))
        if kind not in _SENT or len(body) > 1 << 20:
            return
        scene = _Scene(kind, facts, body, blocking=self._blocking)
        if self._runner is None:
            _step(scene.play())
        else:
            self._runner.run(scene.play())

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()


def _step(coroutine: Any) -> None:
    """Run what never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("a blocking scene waited")


class _Scene:
    def __init__(self, kind: str, facts: Mapping[str, Any], body: bytes, *, blocking: bool) -> None:
        self.kind = kind
        self.document = exact.document(body)
        self.provider = _Provider(kind, facts, body)
        self.clock = ManualClock(1000.0)
        self._blocking = blocking
        settings: dict[str, Any] = {
            "store": MemoryStore(clock=self.clock),
            "policy": Policy(max_wait=0.0, resend_max=0, min_interval=0.0, recheck_after=0.0, lease=0.03),
            "fingerprint_key": b"k" * 32,
            "api_key": "a-key",
        }
        self.guard: Any = (Guard if blocking else AsyncGuard)(_VIDU, **settings)
        self.transport: Any = self.guard.transport(self.provider)

    async def play(self) -> None:
        if self.kind not in ("credits", "asked"):
            self.provider.spoilt = False
            await self._submit_well()
            self.provider.spoilt = True
        before = None if self.kind in ("credits", "asked") else await self.state()
        if self.kind == "credits":
            await self._admitted_or_not()
        elif self.kind == "submit":
            await self._sent(before)
        else:
            await self._looked(before)
        self.provider.spoilt = False
        self.clock.advance(100_000.0)
        await self._submit_well()
        state = await self.state()
        if state.balance != 500 or not 500 - 3 * _PRICE <= state.credits_free <= 500 - _PRICE:
            raise Broken(f"after the next good answer the account stands at {state}")

    async def state(self) -> State:
        state = self.guard.state("a-key")
        return state if self._blocking else await state  # type: ignore[no-any-return]

    async def send(self, kind: str) -> httpx.Response:
        method, path = _SENT[kind]
        body = {"model": "viduq2", "prompt": "a kite"} if method == "POST" else None
        request = httpx.Request(method, _HOME + path, headers={"Authorization": "Token a-key"}, json=body)
        response: httpx.Response
        if self._blocking:
            response = self.transport.handle_request(request)
        else:
            response = await self.transport.handle_async_request(request)
        return response

    async def received(self, response: httpx.Response) -> bytes:
        if self._blocking:
            data = b"".join(response.stream)  # type: ignore[arg-type]
            response.close()
            return data
        data = b"".join([piece async for piece in response.stream])  # type: ignore[union-attr]
        await response.aclose()
        return data

    async def _submit_well(self) -> None:
        response = await self.send("submit")
        await self.received(response)
        if response.status_code != 200:
            raise Broken(f"a good call ended in {response.status_code}")

    async def _untouched(self, kind: str) -> None:
        response = await self.send(kind)
        status, headers = response.status_code, response.headers.raw
        data = await self.received(response)
        provider = self.provider
        if (status, headers, data) != (provider.status, httpx.Headers(provider.headers).raw, provider.body):
            raise Broken(f"the caller was given {status}, {headers}, {data[:200]!r}")

    async def _admitted_or_not(self) -> None:
        """A call that needs a reading, which is spoilt."""
        said = balance_in(self.document) if 200 <= self.provider.status < 300 else None
        try:
            await self.received(await self.send("submit"))
        except CreditsUnavailable:
            if self.provider.submits:
                raise Broken("it was refused, and sent all the same") from None
            return
        except Refused:
            pass
        state = await self.state()
        if state.balance is not None and (said is None or said[0] != state.balance):
            raise Broken(f"a balance of {state.balance} was installed, and said is {said}")
        if self.provider.submits and (said is None or said[0] < _PRICE):
            raise Broken(f"a call was admitted on {said}")

    async def _sent(self, before: State | None) -> None:
        """A call whose own answer is spoilt."""
        held = 0 if before is None else before.credits_held
        try:
            await self._untouched("submit")
        except InsufficientCredits as refused:
            if not refused.by_provider or refused.response is None:
                raise
        state = await self.state()
        refuses = isinstance(exact.field(self.document, "reason"), str) or 300 <= self.provider.status < 500
        charge = exact.amount(exact.field(self.document, "credits"))
        kept = state.credits_held - held
        if kept < _PRICE and not refuses and charge != kept:
            raise Broken(f"{kept} credits are held for a call whose answer says neither no nor {kept}")
        if state.credits_free > 500:
            raise Broken(f"more than everything is free: {state}")

    async def _looked(self, before: State | None) -> None:
        """A request that costs nothing, whose answer is only looked at."""
        await self._untouched(self.kind)
        if before is None:
            await self._adopted()
            return
        state = await self.state()
        fewer = before.pools[""].running - state.pools[""].running
        cancelled = self.kind == "cancel" and isinstance(self.document, Pairs)
        if fewer and not cancelled and not states_in(self.document) & {"ended"}:
            raise Broken("a task ended, of which the answer does not say so")
        charge = exact.amount(exact.field(self.document, "credits"))
        said = charge is not None or self.kind == "list"
        if state.credits_free > before.credits_free and not (fewer and said):
            raise Broken(f"credits came free: {before.credits_free} before, {state.credits_free} now")

    async def _adopted(self) -> None:
        """The user's own question for the balance, from which the guard learns."""
        said = balance_in(self.document) if 200 <= self.provider.status < 300 else None
        try:
            state = await self.state()
        except Refused:
            return
        if state.balance is not None and (said is None or said[0] != state.balance):
            raise Broken(f"a balance of {state.balance} was adopted, and said is {said}")
