from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from budgetguard.ports import AsyncStore, Store
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing import ManualClock
from budgetguard.testing.stores import AsyncStoreContract, StoreContract


class TestBlocking(StoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "accounts.db"

    def make_store(self) -> Store:
        return SQLiteStore(self.path)

    def make_other(self) -> Store:
        return SQLiteStore(self.path)


class TestBlockingAndDurable(TestBlocking):
    def make_store(self) -> Store:
        return SQLiteStore(self.path, durable=True)


class TestOnAsyncio(AsyncStoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "accounts.db"

    async def make_store(self) -> AsyncStore:
        return SQLiteStore(self.path)

    async def make_other(self) -> AsyncStore:
        return SQLiteStore(self.path)


class TestOnAsyncioAndDurable(TestOnAsyncio):
    async def make_store(self) -> AsyncStore:
        return SQLiteStore(self.path, durable=True)


class TestOnTrio(TestOnAsyncio):
    backend: ClassVar[str] = "trio"


class TestWithAClockOfItsOwn(TestBlocking):
    clock: ClassVar[ManualClock] = ManualClock(1000.0)

    def make_store(self) -> Store:
        return SQLiteStore(self.path, clock=self.clock)

    def make_other(self) -> Store:
        return SQLiteStore(self.path, clock=self.clock)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
