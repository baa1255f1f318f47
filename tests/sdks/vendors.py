"""The vendors' SDKs, each in its blocking and its async form, under one face."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import lumaai
import openai
import runwayml

from tests.sdks.adapters import Luma, Pictures, Runway

__all__ = ["VENDORS", "Sdk", "Vendor"]


class Vendor:
    """One vendor: its SDK, our adapter, and how to make a picture with it."""

    def __init__(
        self,
        module: ModuleType,
        adapter: type[Any],
        clients: tuple[str, str],
        root: str,
        key: str,
        submit: Callable[[Any], Any],
        poll: Callable[[Any, str], Any] | None,
    ) -> None:
        self.module = module
        self.adapter = adapter
        self.clients = clients
        self.root = root
        self.key = key
        self.submit = submit
        self.poll = poll

    def __repr__(self) -> str:
        return self.module.__name__


def _runway(client: Any) -> Any:
    return client.text_to_image.create(model="gen4_image", prompt_text="a kite", ratio="1280:720")


def _luma(client: Any) -> Any:
    return client.generations.image.create(model="photon-1", prompt="a kite")


def _openai(client: Any) -> Any:
    return client.images.generate(model="dall-e-3", prompt="a kite")


VENDORS = (
    Vendor(
        runwayml,
        Runway,
        ("RunwayML", "AsyncRunwayML"),
        "",
        "api_key",
        _runway,
        lambda client, task: client.tasks.retrieve(task),
    ),
    Vendor(
        lumaai,
        Luma,
        ("LumaAI", "AsyncLumaAI"),
        "/dream-machine/v1",
        "auth_token",
        _luma,
        lambda client, task: client.generations.get(task),
    ),
    Vendor(openai, Pictures, ("OpenAI", "AsyncOpenAI"), "/v1", "api_key", _openai, None),
)


class Sdk:
    """An SDK client made as its documentation says, but for the transport of its httpx client."""

    def __init__(self, vendor: Vendor, url: str, transport: Any, *, blocking: bool, **settings: Any) -> None:
        module = vendor.module
        kind = module.DefaultHttpxClient if blocking else module.DefaultAsyncHttpxClient
        given = {vendor.key: "sk-made-up-for-tests", "base_url": f"{url}{vendor.root}", **settings}
        self.vendor = vendor
        self.blocking = blocking
        self.client: Any = getattr(module, vendor.clients[not blocking])(http_client=kind(transport=transport), **given)

    async def _done(self, call: Callable[[], Any]) -> Any:
        if self.blocking:
            return await anyio.to_thread.run_sync(call, limiter=anyio.CapacityLimiter(1))
        answer: Awaitable[Any] = call()
        return await answer

    async def submit(self) -> Any:
        return await self._done(lambda: self.vendor.submit(self.client))

    async def poll(self, task: str) -> Any:
        poll = self.vendor.poll
        assert poll is not None
        return await self._done(lambda: poll(self.client, task))

    async def close(self) -> None:
        closed = self.client.close()
        if inspect.isawaitable(closed):
            await closed
