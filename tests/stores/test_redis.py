from __future__ import annotations

from typing import ClassVar

import pytest

from budgetguard.ports import AsyncStore, Store
from budgetguard.stores.redis import RedisStore
from budgetguard.testing.stores import AsyncStoreContract, StoreContract
from tests.support.valkey import ValkeyServer, valkey_server

__all__ = ["valkey_server"]


class _OnValkey:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _find_server(cls, valkey_server: ValkeyServer) -> None:
        cls.url = valkey_server.url


class TestBlocking(_OnValkey, StoreContract):
    def make_store(self) -> Store:
        return RedisStore(self.url)

    def make_other(self) -> Store:
        return RedisStore(self.url)


class TestOnAsyncio(_OnValkey, AsyncStoreContract):
    async def make_store(self) -> AsyncStore:
        return RedisStore(self.url)

    async def make_other(self) -> AsyncStore:
        return RedisStore(self.url)


class TestOnTrio(TestOnAsyncio):
    backend = "trio"
