"""One life of a guard: every way in, and every kind of failure, at one provider, on one store."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import httpx

from budgetguard.instruments import LogObserver
from tests.secrets.wire import Interruption, Moody, Provider, failures, new_key
from tests.secrets.written import Written
from tests.support.permits import said
from tests.support.vidu import quick
from tests.support.ways import Way, in_thread

__all__ = ["Life"]


class Life:
    """Lives once, and shows all that comes of it.

    Args:
        written: Where it is written down.
        way: Blocking, or on an event loop.
        provider: Whose customer it is.
        store: What the guard is given.
        key: The API key.
        inner: Sends, if not in the process: a transport of httpx.
        url: Where the provider listens then.
        discreet: Whether the provider repeats no key.
        every: Only each so many-th failure is gone through.
        settings: More for the guard.
    """

    def __init__(
        self,
        written: Written,
        way: Way,
        provider: Provider,
        store: Any,
        key: str,
        *,
        inner: Any = None,
        url: str = "",
        discreet: bool = False,
        every: int = 1,
        **settings: Any,
    ) -> None:
        self.written = written
        self.way = way
        self.provider = provider
        self.home = url or provider.home
        self.key = key
        self.quiet = inner is not None
        self.discreet = discreet
        self.every = every
        self.inner = Moody(provider.fake().transport() if inner is None else inner, written.stacks)
        policy = quick(
            resend_max=1, max_waiting=0, low_balance=(400, 490), max_age=0.001, lease=0.05, stale_if_error=0.001,
            task_lease=0.2,
        )  # fmt: skip
        log = LogObserver()

        def observer(event: Any) -> None:
            written.event(event)
            log(event)
            raise ValueError(event)

        self.make = partial(
            way.guard,
            provider.adapter(base_url=self.home),
            store=store,
            policy=policy,
            observers=[observer],
            **settings,
        )
        self.guard = self.make(api_key=key, inner=self.inner)

    def failures(self, *, own: bool = True) -> list[Any]:
        said = "nothing of yours" if self.discreet else self.key
        return failures(said, said if self.discreet else self.provider.header(said), own=own)[:: self.every]

    def client(self, **given: Any) -> Any:
        transport = self.way.transport(self.guard, self.inner, **given)
        kind: Any = httpx.Client if self.way.blocking else httpx.AsyncClient
        return kind(base_url=self.home, headers=self.provider.headers(self.key), transport=transport, timeout=2.0)

    async def do(self, what: Callable[[], Any]) -> Any:
        """Do it, and write down what it raises."""
        try:
            return await (in_thread(what) if self.way.blocking else said(what()))
        except (Exception, Interruption) as error:  # noqa: BLE001 - that is what is looked for
            self.written.error(error)
            return None

    async def live(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            client = self.client()
            stack.push_async_callback(self.do, client.close if self.way.blocking else client.aclose)
            for part in (self.well, self.calls, self.tasks, self.permits, self.jobs, self.pools, self.asks):
                await part(client)
            guard = self.guard
            engine = guard.engine
            account = engine.account(self.key)
            self.written.show(guard, client._transport, engine, engine.store, engine.policy, engine.provider, account)
            self.written.show(account.view, account.books, guard.driver, guard.heartbeat, guard.asking)
            self.written.show(guard.account_name(self.key), *account.lines.values())
            self.written.stacks()
        await self.do(self.guard.close)

    async def well(self, _: Any) -> None:
        """Let most go well: calls that wait, tasks that end, charges that differ, an answer that is lost."""
        p = self.provider
        more: dict[str, Any] = {"charge": p.price + 1} if p.name == "vidu" else {}
        fake = p.fake(limit=1, duration=0.02, credits=60 * p.price, **more)
        inner = Moody(fake.transport(), self.written.stacks)
        policy = quick(max_age=0.05, low_balance=(590,), lease=0.05, task_lease=0.1, refund_failed=True)
        guard = self.make(api_key=self.key, inner=inner, policy=policy, store=None)
        transport = self.way.transport(guard, inner)
        kind: Any = httpx.Client if self.way.blocking else httpx.AsyncClient
        client = kind(base_url=self.home, headers=p.headers(self.key), transport=transport, timeout=2.0)
        given: dict[str, Any] = {"json": p.body, "poll_every": 0.005, "poll_max": 0.005, "timeout": 2.0}

        async def run() -> None:
            self.written.show(await self.do(partial(guard.run_task, client, p.submit, **given)))

        async with anyio.create_task_group() as group:
            for _number in range(4):
                group.start_soon(run)
        permit = await self.do(partial(guard.reserve, 5, tags={"a": "b"}))
        self.written.show(permit)
        self.written.add("tokens.txt", permit.token)
        await self.do(partial(permit.settle, charge=3, task_id="T"))
        self.written.add("tokens.txt", permit.token)
        await self.do(partial(guard.finished, permit.token))
        for mishap in ("drop_after_accept", "cut_body"):
            fake.inject(mishap, on="submit", times=1)
            await self.do(partial(client.post, p.submit, json=p.body))
            await anyio.sleep(0.12)
            await run()
        await self.do(partial(client.get, p.credits))
        self.written.show(guard, await self.do(partial(guard.state, self.key)), await self.do(guard.recover))
        await self.do(client.close if self.way.blocking else client.aclose)
        await self.do(guard.close)

    async def calls(self, client: Any) -> None:
        """The first way in: a transport."""
        p, again, more = (
            self.provider,
            partial(client.request, "POST", self.provider.submit),
            {"json": self.provider.body},
        )
        await self.do(partial(again, **more))
        for failure in self.failures(own=False):
            self.inner.instead[p.submit] = failure
            await self.do(partial(again, **more))
        for failure in self.failures():
            self.inner.instead[p.credits] = failure
            await self.do(partial(again, **more, extensions={"budgetguard": {"credits": 490}}))
        for failure in self.failures(own=False):
            self.inner.instead[p.credits] = failure
            await self.do(partial(client.get, p.credits))
            self.inner.instead[p.poll.partition("?")[0].format("1")] = failure
            await self.do(partial(client.get, p.poll.format("1")))
        for wrong in ({"credits": -1}, {"no": 1}, {"credits": 10**9}, {"slots": 50}, {"deadline": 0, "slots": 2}, 5):
            await self.do(partial(again, **more, extensions={"budgetguard": wrong}))
        await self.do(partial(client.post, f"{p.submit}/brand-new", json={"model": "x"}))
        for _ in range(4):
            await self.do(partial(again, **more))
        other = self.client(on_refusal="respond")
        for wrong in ({"credits": 10**9}, {"slots": 50}, {"slots": 2}):
            response = await self.do(partial(other.post, p.submit, **more, extensions={"budgetguard": wrong}))
            if response is not None:
                self.written.add("responded.txt", f"{response.status_code} {response.headers!r} {response.text}")
        odd = new_key() + "\x7f"
        await self.do(partial(client.post, p.submit, **more, headers=p.headers(odd)))

    async def tasks(self, client: Any) -> None:
        """Tasks that are run, waited for and picked up."""
        p = self.provider
        run = partial(self.guard.run_task, client, p.submit, json=p.body, poll_every=0.001, timeout=0.01)
        wait = partial(self.guard.wait_task, client, "1", poll_every=0.0001, poll_max=0.0001, timeout=0.05)
        await self.do(run)
        await self.do(wait)
        for failure in self.failures(own=False):
            self.inner.instead[p.submit] = failure
            await self.do(run)
            self.inner.instead[p.poll.partition("?")[0].format("1")] = failure
            await self.do(wait)
        self.written.show(await self.do(self.guard.recover), await self.do(partial(self.guard.recover, self.key)))
        for wrong in ("../../x", "", None, 5):
            await self.do(partial(self.guard.wait_task, client, wrong))

    async def permits(self, client: Any) -> None:
        """The second way in: permits, and their tokens."""
        p, guard = self.provider, self.guard
        await self.do(partial(guard.can_afford, p.price))
        permit = await self.do(partial(guard.try_reserve, 1, tags={"a": "b"}))
        if permit is not None:
            self.written.show(permit)
            self.written.add("tokens.txt", permit.token)
            for _ in range(2):
                await self.do(partial(permit.settle, charge=2, task_id="T"))
                await self.do(permit.release)
            self.written.add("tokens.txt", permit.token)
            await self.do(partial(guard.finished, permit.token, key=self.key))
            await self.do(partial(guard.finished, permit.token[:-3]))
            await self.do(partial(guard.finished, permit.token, key=new_key()))
        for failure in self.failures()[::4]:
            self.inner.instead[p.credits] = failure
            await self.do(partial(guard.reserve, 400))
        for wrong in (partial(guard.reserve, -1), partial(guard.reserve, 10**12), partial(guard.reserve, 1, 99)):
            await self.do(wrong)

    async def jobs(self, client: Any) -> None:
        """The same around a function."""
        post = partial(client.post, self.provider.submit, json=self.provider.body)

        def blocking(prompt: str) -> Any:
            post()
            raise RuntimeError(prompt)

        async def concurrent(prompt: str) -> Any:
            await post()
            raise RuntimeError(prompt)

        job = self.guard.job(credits=1, timeout=0.5)(blocking if self.way.blocking else concurrent)
        self.written.show(job)
        await self.do(partial(job, "a kite"))
        await self.do(job)

    async def pools(self, client: Any) -> None:
        """The third way in, with a bar."""
        out = io.StringIO()

        def fail(number: int) -> int:
            if number % 3 == 1:
                raise RuntimeError(number)
            self.written.stacks()
            return number

        def blocking() -> None:
            with self.guard.pool(credits=1, progress=True, max_workers=2) as pool:
                for result in pool.as_completed(fail, range(4)):
                    self.written.show(result)
                self.written.show(pool, pool.submit(fail, 2), pool.report)
            with self.guard.pool(credits=10**6) as pool:
                list(pool.map(fail, range(4)))

        async def concurrent() -> None:
            async with self.guard.pool(credits=1, progress=True, max_workers=2) as pool:
                async for result in pool.as_completed(fail, range(4)):
                    self.written.show(result)
                self.written.show(pool, pool.submit(fail, 2), pool.report)
            async with self.guard.pool(credits=10**6) as pool:
                async for _ in pool.map(fail, range(4)):
                    pass

        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            await self.do(blocking if self.way.blocking else concurrent)
        self.written.add("progress.txt", out.getvalue())

    async def asks(self, client: Any) -> None:
        """Plans and states, with keys as arguments, also of the wrong kind."""
        guard = self.guard
        self.written.show(await self.do(partial(guard.plan, [1, 2, 10**6], key=self.key)))
        await self.do(partial(guard.plan, ["no job"], key=self.key))
        self.written.show(await self.do(partial(guard.state, self.key)))
        await self.do(partial(guard.finished, "T", key=self.key, state="dancing"))
        for ask in (guard.state, guard.recover, guard.account_name):
            await self.do(partial(ask, 5))
        for bad in (f"{self.key}\n", f"{self.key} x", f"{self.key}é", ""):
            await self.do(partial(guard.recover, bad))
            await self.do(partial(self.make, api_key=bad))
        for given in (
            {"api_key": [self.key]},
            {"policy": 5},
            {"fingerprint_key": self.key},
            {"accounts": {self.key: "studio"}},
            {"accounts": {"studio": [self.key, self.key]}},
            {"accounts": [self.key]},
        ):
            await self.do(partial(self.make, **{"api_key": self.key, **given}))
        await self.do(lambda: self.way.transport(guard, self.inner, on_refusal="dance"))  # type: ignore[arg-type]
