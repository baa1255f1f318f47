"""Callers in tasks of an event loop, asyncio's or trio's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import httpx

from budgetguard import AsyncGuard
from budgetguard.errors import BudgetGuardError, Refused, StoreError
from budgetguard.model import Outcome
from budgetguard.task_errors import TaskFailed, TaskUnfinished
from tests.chaos.calling import AGAIN, FINAL, POLL, POLL_MAX, Bench, Callers, Unclear
from tests.chaos.plan import Part

__all__ = ["Tasks"]

_SENT_NOTHING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Tasks(Callers):
    """Callers in tasks, with a guard of their own on the store of their process."""

    client: httpx.AsyncClient
    plain: httpx.AsyncClient

    def __init__(self, bench: Bench, part: Part, label: str) -> None:
        super().__init__(bench, part, label)
        self.guard = AsyncGuard(
            self.adapter, store=bench.store, policy=bench.policy, observers=bench.keep.observers, api_key=bench.key
        )
        self.transport = self.guard.transport()
        self._job = self.guard.job(credits=bench.trade.price)(self._in_job)

    def run(self) -> None:
        """Call until the scene is over."""
        anyio.run(self._run, backend=self.part.flavour)

    def in_child(self, calls: int) -> None:
        """After a fork: make a few calls with the guard of the process that forked, and a loop of one's own."""

        async def run() -> None:
            async with self._clients():
                for _ in range(calls):
                    await self._by_transport("0")

        anyio.run(run, backend=self.part.flavour)

    @contextlib.asynccontextmanager
    async def _clients(self) -> AsyncGenerator[None]:
        self.transport = self.guard.transport()
        self.client = httpx.AsyncClient(transport=self.transport, **self.given)
        self.plain = httpx.AsyncClient(**self.given)
        async with self.client, self.plain:
            yield

    async def _run(self) -> None:
        work = {"transport": self._by_transport, "decorator": self._by_decorator}.get(self.part.way)
        async with self._clients(), anyio.create_task_group() as group:
            group.start_soon(self._ask)
            if work is None:
                group.start_soon(self._by_pool)
            else:
                for number in range(self.part.width):
                    group.start_soon(self._work, work, number)

    async def _ask(self) -> None:
        while not self.over:
            if self.questions:
                self.questions -= 1
                with contextlib.suppress(httpx.HTTPError, BudgetGuardError):
                    await self.client.get(f"{self.bench.trade.credits_path}?show_detail=true", timeout=10.0)
            await anyio.sleep(0.05)

    async def _work(self, call: Callable[[str], Awaitable[bool]], number: int) -> None:
        while not self.over:
            if not await call(str(number)):
                await anyio.sleep(AGAIN)

    async def _by_transport(self, caller: str) -> bool:
        name = self.begin(caller)
        path, body = self.bench.trade.job(name)
        try:
            task = self.read(await self.client.post(path, json=body))
        except (BudgetGuardError, httpx.HTTPError, Unclear) as error:
            self.failed(name, error)
            return False
        self.done(name, task)
        await self._wait(self.client, task)
        return True

    async def _by_decorator(self, caller: str) -> bool:
        name = self.begin(caller)
        try:
            task, client = await self._job(name)
        except (BudgetGuardError, httpx.HTTPError, Unclear) as error:
            self.failed(name, error)
            return False
        await self._wait(client, task)
        return True

    async def _in_job(self, name: str) -> tuple[str, httpx.AsyncClient]:
        """Make a call inside a job: half of them by a guarded client, which joins it, the others by any client."""
        path, body = self.bench.trade.job(name)
        if name.endswith(("0", "2", "4", "6", "8")):
            task = self.read(await self.client.post(path, json=body))
            self.done(name, task)
            return task, self.client
        permit = self.guard.current_permit()
        try:
            answer = await self.plain.post(path, json=body)
        except _SENT_NOTHING:
            await permit.release()
            raise
        outcome, task_id, charge = self.verdict(answer)
        if outcome in FINAL:
            await permit.release()
        if outcome is not Outcome.ACCEPTED or not task_id:
            raise Unclear(f"{answer.status_code} {outcome}")
        self.done(name, task_id)
        with contextlib.suppress(StoreError):
            await permit.settle(charge, task_id)
        return task_id, self.plain

    async def _by_pool(self) -> None:
        while not self.over:
            try:
                async with self.guard.pool(credits=self.bench.trade.price, max_workers=self.part.width) as pool:
                    async for result in pool.as_completed(self._in_pool, self.names()):
                        if result.error is not None:
                            self.failed(result.args[0], result.error)
                        else:
                            self.done(result.args[0], "")
            except (Refused, StoreError) as error:
                self.left_out(error)
            await anyio.sleep(AGAIN)

    async def _in_pool(self, name: str) -> None:
        path, body = self.bench.trade.job(name)
        with contextlib.suppress(TaskFailed, TaskUnfinished):  # it was accepted
            await self.guard.run_task(
                self.client, path, json=body, poll_every=POLL, poll_max=3 * POLL, timeout=POLL_MAX
            )

    async def _wait(self, client: httpx.AsyncClient, task: str) -> None:
        """Ask about a task until it has ended; whoever's client nobody guards tells the guard himself."""
        trade = self.bench.trade
        with anyio.move_on_after(POLL_MAX):
            while True:
                await anyio.sleep(POLL)
                with contextlib.suppress(httpx.HTTPError):
                    state = trade.state(self.adapter, task, await client.get(trade.poll(task)))
                    if state.ended:
                        if client is self.plain:
                            with contextlib.suppress(StoreError):
                                await self.guard.finished(task, state=state)
                        return
