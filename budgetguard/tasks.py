"""Running a task to its end, waiting for one that runs, and picking up what an earlier process left.

A task is submitted and asked about through the user's own guarded client, so it is admitted as any call is, and the
answer that shows its end gives its slot back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx

from budgetguard._core.recovery import recover
from budgetguard._desk import AsyncInquiring, Inquiring
from budgetguard._following import Following, Pace, Work, asked_for, begun, see_guarded, submit_of
from budgetguard._hidden import hide
from budgetguard.model import Recovered
from budgetguard.transport import AsyncGuardTransport, GuardTransport

__all__ = ["AsyncTaskRunning", "AsyncTasks", "TaskRunning", "Tasks"]


class Tasks:
    """Runs tasks for callers in threads. Safe to share between threads if the client is. Since 0.1.

    Args:
        guard: Whose transport the clients use.
        clock: Gives seconds that never run backwards.
        sleep: Pauses for so many seconds.
        chance: Gives numbers from 0 to 1, which spread the polls of many.
    """

    def __init__(
        self,
        guard: Inquiring,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._engine = guard.engine
        self._clock = clock
        self._sleep = time.sleep if sleep is None else sleep
        self._chance = chance

    def run(
        self,
        client: httpx.Client,
        request: httpx.Request | str,
        *,
        json: Any = None,
        poll_every: float = 1.0,
        poll_max: float = 10.0,
        timeout: float | None = None,
    ) -> Any:
        """Submit a task and wait for its result. See `TaskRunning.run_task`."""
        pace = Pace(poll_every, poll_max, timeout, self._clock, self._chance)
        call = asked_for(client, request, json)
        route = submit_of(self._engine, call)
        see_guarded(self._engine, client, call.url, GuardTransport)
        return self._drive(client, begun(self._engine, client, route, client.send(call, follow_redirects=False), pace))

    def wait(
        self,
        client: httpx.Client,
        task_id: str,
        *,
        path: str = "",
        poll_every: float = 1.0,
        poll_max: float = 10.0,
        timeout: float | None = None,
    ) -> Any:
        """Wait for the result of a task that runs. See `TaskRunning.wait_task`."""
        pace = Pace(poll_every, poll_max, timeout, self._clock, self._chance)
        following = Following(self._engine, client, task_id, path, pace)
        see_guarded(self._engine, client, following.url, GuardTransport)
        return self._drive(client, following.follow())

    def _drive(self, client: httpx.Client, work: Work) -> Any:
        reply: httpx.Response | httpx.HTTPError | None = None
        try:
            while True:
                step = work.send(reply)
                if isinstance(step, httpx.Request):
                    try:
                        reply = client.send(step, follow_redirects=False)
                    except httpx.HTTPError as error:
                        reply = error
                else:
                    self._sleep(step)
                    reply = None
        except StopIteration as stop:
            return stop.value


class AsyncTasks:
    """Runs tasks for callers on asyncio or trio. Safe to share between tasks of one event loop. Since 0.1.

    Args:
        guard: Whose transport the clients use.
        clock: Gives seconds that never run backwards.
        sleep: Pauses for so many seconds.
        chance: Gives numbers from 0 to 1, which spread the polls of many.
    """

    def __init__(
        self,
        guard: AsyncInquiring,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._engine = guard.engine
        self._clock = clock
        self._sleep = anyio.sleep if sleep is None else sleep
        self._chance = chance

    async def run(
        self,
        client: httpx.AsyncClient,
        request: httpx.Request | str,
        *,
        json: Any = None,
        poll_every: float = 1.0,
        poll_max: float = 10.0,
        timeout: float | None = None,  # noqa: ASYNC109 - how long a task may take, not this call
    ) -> Any:
        """Submit a task and wait for its result. See `TaskRunning.run_task`."""
        pace = Pace(poll_every, poll_max, timeout, self._clock, self._chance)
        call = asked_for(client, request, json)
        route = submit_of(self._engine, call)
        see_guarded(self._engine, client, call.url, AsyncGuardTransport)
        return await self._drive(
            client, begun(self._engine, client, route, await client.send(call, follow_redirects=False), pace)
        )

    async def wait(
        self,
        client: httpx.AsyncClient,
        task_id: str,
        *,
        path: str = "",
        poll_every: float = 1.0,
        poll_max: float = 10.0,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> Any:
        """Wait for the result of a task that runs. See `TaskRunning.wait_task`."""
        pace = Pace(poll_every, poll_max, timeout, self._clock, self._chance)
        following = Following(self._engine, client, task_id, path, pace)
        see_guarded(self._engine, client, following.url, AsyncGuardTransport)
        return await self._drive(client, following.follow())

    async def _drive(self, client: httpx.AsyncClient, work: Work) -> Any:
        reply: httpx.Response | httpx.HTTPError | None = None
        try:
            while True:
                step = work.send(reply)
                if isinstance(step, httpx.Request):
                    try:
                        reply = await client.send(step, follow_redirects=False)
                    except httpx.HTTPError as error:
                        reply = error
                else:
                    await self._sleep(step)
                    reply = None
        except StopIteration as stop:
            return stop.value


class TaskRunning:
    """The part of `Guard` that runs tasks. Since 0.1."""

    def run_task(
        self: Inquiring,
        client: httpx.Client,
        request: httpx.Request | str,
        *,
        json: Any = None,
        poll_every: float = 1.0,
        poll_max: float = 10.0,
        timeout: float | None = None,
    ) -> Any:
        """Submit a task, ask about it until it has ended, and return what the provider says of it then. Since 0.1.

        The call is admitted like any other, and its slot is held until the task is seen to end. Polls that fail are
        repeated, ten in a row. Whatever interrupts the waiting, Ctrl-C or a cancellation too, does not end the task: it
        goes on at the provider and keeps its slot until it is seen to end, by `wait_task`, a poll, a webhook or
        `recover`, or when the provider is asked at the end of its lease.

        Args:
            client: Its transport is ``guard.transport()`` of this guard.
            request: What starts the task: as ``client.build_request`` gives it, or an address to post *json* to.
            json: The body, where *request* is an address.
            poll_every: Seconds until the first poll; pauses grow from there, with jitter. ``Retry-After`` is heeded.
            poll_max: The longest pause, in seconds.
            timeout: Seconds the task may take from its acceptance; ``None`` for no bound. How long the call may stand
                in line is the policy's to say, or its own ``deadline``.

        Returns:
            The decoded JSON of the last poll; of work that is done when it is answered, of that answer (its bytes,
            where it is no JSON).

        Raises:
            Refused: If the call cannot be admitted; it was not sent.
            TaskNotStarted: If the provider's answer does not say that it took the call.
            TaskFailed: If the task failed or was cancelled.
            TaskUnfinished: If it was not seen to end in time, or polls keep failing. It goes on: see `wait_task`.
            SettingError: If the client is not guarded by this guard, or *request* starts no task. Nothing was sent.
            httpx.HTTPError: If sending the call failed.
        """
        return Tasks(self).run(client, request, json=json, poll_every=poll_every, poll_max=poll_max, timeout=timeout)

    def wait_task(
        self: Inquiring,
        client: httpx.Client,
        task_id: str,
        *,
        path: str = "",
        poll_every: float = 1.0,
        poll_max: float = 10.0,
        timeout: float | None = None,
    ) -> Any:
        """Ask about a task that runs until it has ended; whoever started it, in whatever process. Since 0.1.

        Args:
            client: As for `run_task`; it carries the key itself.
            task_id: The provider's id.
            path: The provider's name of the endpoint that started it, such as ``cover/generate``; needed only for kinds
                of tasks that are asked about elsewhere than the others.
            poll_every: Seconds after the first poll, which is sent at once; the pauses grow from there.
            poll_max: The longest pause, in seconds.
            timeout: Seconds to wait; ``None`` for no bound.

        Returns:
            As `run_task`.

        Raises:
            TaskFailed: If the task failed or was cancelled.
            TaskUnfinished: If it was not seen to end in time, or polls keep failing.
            SettingError: If the client is not guarded by this guard, or *task_id* is none that can be asked about.
        """
        return Tasks(self).wait(client, task_id, path=path, poll_every=poll_every, poll_max=poll_max, timeout=timeout)

    def recover(self: Inquiring, key: str | None = None) -> Recovered:
        """Pick up what earlier processes left in the store, and what others are at: ask about every task. Since 0.1.

        Tasks that have ended are finished, those that run begin their lease anew, and leases that are over end. Calls
        that were under way when a process was killed end with their lease. Harmless at any time; worth calling when a
        process starts, with a store that outlives it. Asks about eight tasks at a time.

        Args:
            key: The API key whose account it is; by default the guard's own.

        Raises:
            SettingError: If there is no key.
            StoreError: If the store fails. What was done by then stands.
        """
        key = hide(key)
        account, bearer = self.asked(key)
        return self.driver.run(account, recover(account), ask=lambda ids: self.asking.tasks(bearer, ids))


class AsyncTaskRunning:
    """The part of `AsyncGuard` that runs tasks. Since 0.1."""

    async def run_task(
        self: AsyncInquiring,
        client: httpx.AsyncClient,
        request: httpx.Request | str,
        *,
        json: Any = None,
        poll_every: float = 1.0,
        poll_max: float = 10.0,
        timeout: float | None = None,  # noqa: ASYNC109 - how long a task may take, not this call
    ) -> Any:
        """Submit a task, ask about it until it has ended, and return what the provider says. See `Guard.run_task`.

        Since 0.1.
        """
        return await AsyncTasks(self).run(
            client, request, json=json, poll_every=poll_every, poll_max=poll_max, timeout=timeout
        )

    async def wait_task(
        self: AsyncInquiring,
        client: httpx.AsyncClient,
        task_id: str,
        *,
        path: str = "",
        poll_every: float = 1.0,
        poll_max: float = 10.0,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> Any:
        """Ask about a task that runs until it has ended. See `Guard.wait_task`. Since 0.1."""
        return await AsyncTasks(self).wait(
            client, task_id, path=path, poll_every=poll_every, poll_max=poll_max, timeout=timeout
        )

    async def recover(self: AsyncInquiring, key: str | None = None) -> Recovered:
        """Pick up what earlier processes left in the store. See `Guard.recover`. Since 0.1."""
        key = hide(key)
        account, bearer = self.asked(key)
        return await self.driver.run(account, recover(account), ask=lambda ids: self.asking.tasks(bearer, ids))
