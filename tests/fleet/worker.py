"""One process of a fleet: a user's own code, with httpx, in threads or in tasks. ``python -m tests.fleet.worker``.

It reads its orders, one line of JSON, says that it is ready, begins at the next line, and tells of every job it has
done and of every error it has met. A job that met one is tried again, as a user's queue would.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any

import httpx

from budgetguard import AsyncGuard, Guard
from budgetguard.errors import BudgetGuardError
from budgetguard.events import Event, Paused
from budgetguard.ports import AsyncStore
from budgetguard.providers import Vidu
from budgetguard.stores import open_store
from tests.fleet.plan import KEY, policy

__all__ = ["Orders", "store_at"]

_AGAIN = 0.1
"""Seconds after which a job that met an error is tried again."""
_FAULTS = (BudgetGuardError, httpx.HTTPError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is told.

    Attributes:
        url: Where the provider is.
        store: The address of the store; ``""`` to go without a guard, by the slots of a pipe.
        patience: Seconds a call to the store may take.
        slots: The two ends of that pipe: a byte in it is a free slot.
        way: ``"threads"`` or ``"tasks"``.
        width: How many of them.
        poll: Seconds between two polls.
        lease: The policy's lease.
        jobs: The path and the body of each job.
    """

    url: str
    store: str
    patience: float
    slots: tuple[int, int] | None
    way: str
    width: int
    poll: float
    lease: float
    jobs: list[tuple[str, dict[str, Any]]]


class _Told:
    """Says one thing at a time. What was said by whoever is killed later stays said."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, **facts: Any) -> None:
        line = json.dumps({"at": time.monotonic(), **facts})
        with self._lock:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def error(self, error: Exception) -> None:
        self(error=type(error).__name__, says=str(error))


say = _Told()


class Slots:
    """A semaphore of all processes that is told at once: a pipe with a byte for each free slot."""

    def __init__(self, ends: tuple[int, int], width: int) -> None:
        self._take, self._give = ends
        self._threads = concurrent.futures.ThreadPoolExecutor(width)

    @contextlib.contextmanager
    def one(self) -> Generator[None]:
        os.read(self._take, 1)
        try:
            yield
        finally:
            os.write(self._give, b".")

    @contextlib.asynccontextmanager
    async def aone(self) -> AsyncGenerator[None]:
        await asyncio.get_running_loop().run_in_executor(self._threads, os.read, self._take, 1)
        try:
            yield
        finally:
            os.write(self._give, b".")


def store_at(address: str, patience: float) -> AsyncStore:
    """Open a store that gives up after *patience* seconds."""
    if address.startswith("sqlite"):
        from budgetguard.stores import SQLiteStore

        return SQLiteStore.from_url(address, busy_timeout=patience)
    if address.startswith("unix"):
        from budgetguard.stores import RedisStore

        return RedisStore(address, timeout=patience)
    return open_store(address)


class _Threads:
    """The jobs, in threads."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._left = collections.deque(orders.jobs)
        self._slots = Slots(orders.slots, orders.width) if orders.slots else None
        transport = None
        if not orders.slots:
            store = store_at(orders.store, orders.patience)
            guard = Guard(Vidu(base_url=orders.url), store=store, policy=policy(orders.lease), observers=[_observe])
            transport = guard.transport()
        self._client = httpx.Client(base_url=orders.url, headers=_HEADERS, transport=transport, timeout=30)

    def run(self) -> None:
        self._client.get("/ent/v2/tasks")
        _ready()
        threads = [threading.Thread(target=self._work) for _ in range(self._orders.width)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._client.close()

    def _work(self) -> None:
        while self._left:
            with contextlib.suppress(IndexError):
                path, body = self._left.popleft()
                with self._slots.one() if self._slots else contextlib.nullcontext():
                    self._generate(path, body)
                say(done=body["payload"])

    def _begin(self, path: str, body: dict[str, Any]) -> str:
        while True:
            try:
                answer = self._client.post(f"/ent/v2/{path}", json=body).raise_for_status()
            except _FAULTS as error:
                say.error(error)
                time.sleep(_AGAIN)
            else:
                return str(answer.json()["task_id"])

    def _generate(self, path: str, body: dict[str, Any]) -> None:
        task_id, state = self._begin(path, body), ""
        while state not in ("success", "failed"):
            time.sleep(self._orders.poll)
            try:
                state = self._client.get(f"/ent/v2/tasks/{task_id}/creations").raise_for_status().json()["state"]
            except _FAULTS as error:
                say.error(error)


class _Tasks:
    """The jobs, in tasks of an event loop."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._left = collections.deque(orders.jobs)
        self._slots = Slots(orders.slots, orders.width) if orders.slots else None

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        orders = self._orders
        transport = None
        if not orders.slots:
            store = store_at(orders.store, orders.patience)
            guard = AsyncGuard(
                Vidu(base_url=orders.url), store=store, policy=policy(orders.lease), observers=[_observe]
            )
            transport = guard.transport()
        async with httpx.AsyncClient(base_url=orders.url, headers=_HEADERS, transport=transport, timeout=30) as client:
            await client.get("/ent/v2/tasks")
            await asyncio.to_thread(_ready)
            await asyncio.gather(*(self._work(client) for _ in range(orders.width)))

    async def _work(self, client: httpx.AsyncClient) -> None:
        while self._left:
            path, body = self._left.popleft()
            async with self._slots.aone() if self._slots else contextlib.nullcontext():
                await self._generate(client, path, body)
            say(done=body["payload"])

    async def _begin(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> str:
        while True:
            try:
                answer = (await client.post(f"/ent/v2/{path}", json=body)).raise_for_status()
            except _FAULTS as error:
                say.error(error)
                await asyncio.sleep(_AGAIN)
            else:
                return str(answer.json()["task_id"])

    async def _generate(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
        task_id, state = await self._begin(client, path, body), ""
        while state not in ("success", "failed"):
            await asyncio.sleep(self._orders.poll)
            try:
                poll = await client.get(f"/ent/v2/tasks/{task_id}/creations")
                state = poll.raise_for_status().json()["state"]
            except _FAULTS as error:
                say.error(error)


def _observe(event: Event) -> None:
    if isinstance(event, Paused):
        say(paused=event.reason)


_HEADERS = {"Authorization": f"Token {KEY}"}


def _ready() -> None:
    say(ready=os.getpid())
    sys.stdin.readline()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    os.read(0, 1)  # nothing more is said: this is its end
    os._exit(1)


def main() -> None:
    orders = Orders(**json.loads(sys.stdin.readline()))
    (_Tasks(orders) if orders.way == "tasks" else _Threads(orders)).run()
    say(finished=True)


if __name__ == "__main__":
    main()
