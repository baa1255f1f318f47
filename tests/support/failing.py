"""A store whose server can be taken away, before or after it did what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from budgetguard.errors import StoreError
from budgetguard.ports import Loaded, Scanned, Transacted, Transaction
from budgetguard.stores.memory import MemoryStore

__all__ = ["FailingStore"]

T = TypeVar("T")


class FailingStore:
    """Asks another store, unless it was told to fail.

    Attributes:
        mood: Called with each question; says ``"fine"``, ``"gone"`` (nothing was done), ``"lost"`` (it was done, and
            the answer is lost) or ``"broken"`` (a failure that waiting does not mend).
        asked: How many questions there were.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.mood: Callable[[], str] = lambda: "fine"
        self.asked = 0
        self.closed = 0

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        return self._ask(lambda: self.store.transact(account, transaction))

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        return self._ask(lambda: self.store.load(account, records, due=due))

    def scan(self, account: str, cursor: str = "") -> Scanned:
        return self._ask(lambda: self.store.scan(account, cursor))

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        return self.store.watch(account, changed)

    def close(self) -> None:
        self.closed += 1

    async def atransact(self, account: str, transaction: Transaction) -> Transacted:
        return self.transact(account, transaction)

    async def aload(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        return self.load(account, records, due=due)

    async def ascan(self, account: str, cursor: str = "") -> Scanned:
        return self.scan(account, cursor)

    async def aclose(self) -> None:
        self.close()

    def be(self, mood: str) -> None:
        """Be of one mood from now on."""
        self.mood = lambda: mood

    def _ask(self, do: Callable[[], T]) -> T:
        self.asked += 1
        mood = self.mood()
        if mood == "fine":
            return do()
        if mood == "lost":
            do()
        if mood == "broken":
            raise StoreError("It is damaged.")
        raise StoreError("It gave no answer.", unreachable=True)
