"""One test for both colours of permits and jobs."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.support.scene import Scene
from tests.support.vidu import KEY, vidu
from tests.support.ways import Way

__all__ = ["HoldingScene", "said"]


async def said(value: Any) -> Any:
    """Await what an async permit gives; take what a blocking one gives as it is."""
    return await value if inspect.isawaitable(value) else value


class HoldingScene(Scene):
    """A fake provider and a guard with a key, that live by one clock moved by hand."""

    def __init__(self, way: Way, *, policy: Any = None, **settings: Any) -> None:
        super().__init__(way, policy=policy, **settings)
        self.guard = self.another()

    def another(self, *, api_key: str = KEY) -> Any:
        """Make a guard of another process: the same store, and nothing remembered."""
        return self.way.guard(
            vidu(),
            store=self.store,
            policy=self.guard.policy,
            observers=[self.events.append],
            api_key=api_key,
            inner=self.fake.transport(),
        )

    @asynccontextmanager
    async def block(self, permit: Any) -> AsyncGenerator[Any]:
        """Enter a permit's block, whatever its colour."""
        if self.way.blocking:
            with permit as entered:
                yield entered
        else:
            async with permit as entered:
                yield entered

    def reserve(self, *args: Any, **given: Any) -> Any:
        """Enter a block of ``guard.reserve``."""
        return self.block(self.guard.reserve(*args, **given))

    async def get(self, *args: Any, **given: Any) -> Any:
        """Have a permit outside of a block."""
        return await said(self.guard.reserve(*args, **given))

    def job(self, function: Callable[..., Any], *args: Any, **given: Any) -> Any:
        """Put a job around a blocking function, or around its twin."""
        if self.way.blocking:
            return self.guard.job(*args, **given)(function)

        async def twin(*a: Any, **k: Any) -> Any:
            return function(*a, **k)

        return self.guard.job(*args, **given)(twin)

    async def held(self) -> tuple[int, int, int]:
        """Credits held, slots open, and slots of tasks."""
        state = await self.way.state(self.guard, KEY)
        return state.credits_held, state.pools[""].open, state.pools[""].running

    def due(self) -> list[str]:
        """Records whose lease has ended."""
        return list(self.store.load(self.guard.account_name(KEY), due=True).records)
