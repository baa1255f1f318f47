"""The guard: what a user makes once and puts in front of the calls."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from budgetguard._asking import Asking, AsyncAsking
from budgetguard._checks import checked, told_of
from budgetguard._core.counters import SERIAL
from budgetguard._core.quick import QuickAccount
from budgetguard._core.settlement import finish
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard._drivers.concurrent import ConcurrentDriver
from budgetguard._drivers.heartbeat import Heartbeat
from budgetguard._fingerprints import Fingerprints
from budgetguard._half_made import even_half_made
from budgetguard._hidden import Given, hide, hide_address
from budgetguard._reserving import AsyncReserving, Reserving
from budgetguard._tokens import is_token
from budgetguard.engine import Engine
from budgetguard.errors import SettingError
from budgetguard.events import Observer
from budgetguard.job import AsyncJobs, Jobs
from budgetguard.model import State, TaskState
from budgetguard.plan import AsyncPlans, Plans
from budgetguard.policy import Policy
from budgetguard.pool.offer import AsyncPools, Pools
from budgetguard.ports import AsyncStore, Provider, Store
from budgetguard.stores import MemoryStore, open_store
from budgetguard.stores.grace import GraceStore
from budgetguard.tasks import AsyncTaskRunning, TaskRunning
from budgetguard.transport import AsyncGuardTransport, GuardTransport, OnRefusal

__all__ = ["AsyncGuard", "Guard"]

_KEY_MAX = hashlib.blake2b.MAX_KEY_SIZE


class _Base:
    """What both guards are made of."""

    def __init__(
        self,
        provider: Provider,
        store: Any,
        policy: Policy | None,
        observers: Sequence[Observer],
        given: Given,
        offers: str,
    ) -> None:
        # A wrong value may be a key or hold a password, so a message names only its type.
        if isinstance(provider, type) or not hasattr(provider, "credits_request"):
            raise SettingError("provider", _kind(provider), "give an adapter, for instance Guard(Vidu())")
        if policy is not None and not isinstance(policy, Policy):
            raise SettingError("policy", _kind(policy), "give a Policy")
        told: Any = observers
        if not isinstance(told, Sequence) or isinstance(told, str) or not all(map(callable, told)):
            raise SettingError("observers", _kind(observers), "give a sequence of callables of one event")
        self._made = store is None or isinstance(store, str)
        if not self._made and (isinstance(store, type) or not hasattr(store, offers)):
            raise SettingError("store", _kind(store), f"give a store with {offers}(), or its address")
        if given.fingerprint_key is not None and (
            not isinstance(given.fingerprint_key, bytes) or len(given.fingerprint_key) > _KEY_MAX
        ):
            raise SettingError("fingerprint_key", _kind(given.fingerprint_key), f"give at most {_KEY_MAX} bytes")
        if given.api_key is not None and (not isinstance(given.api_key, str) or not given.api_key):
            raise SettingError("api_key", _kind(given.api_key), "give the provider's API key")
        self.policy = Policy() if policy is None else policy
        # Opened last, so that nothing stays open where something else is wrong.
        opened = MemoryStore() if store is None else open_store(store) if isinstance(store, str) else store
        if self.policy.store_grace:
            opened = GraceStore(opened, self.policy.store_grace, serial=SERIAL, owned=self._made)
            self._made = True
        try:
            fingerprints = Fingerprints(provider.name, given.fingerprint_key)
            names = fingerprints.named(given.accounts)
            self.engine = Engine(provider, opened, self.policy, observers, fingerprints, names)
        except BaseException:
            if self._made:
                opened.close()
            raise
        if isinstance(opened, GraceStore) and observers:
            opened.tell = self.engine.tell
        self._opened = opened
        self._bearer: httpx.Request | None = None
        self._own: QuickAccount | None = None
        if given.api_key is not None:
            self._bearer = self._bear(given.api_key)

    def _bear(self, key: str) -> httpx.Request:
        """Put a key where no traceback and no ``repr`` shows it."""
        provider = self.engine.provider
        return httpx.Request("GET", provider.origins[0], headers=dict(provider.authorize(key)))

    @property
    def bearer(self) -> httpx.Request:
        """A request that carries the key the guard's own questions are asked with.

        Raises:
            SettingError: If there is none.
        """
        if self._bearer is None:
            variable = f"{self.engine.provider.name.upper()}_API_KEY"
            key = os.environ.get(variable, "").strip()
            if not key:
                right = f"give {type(self).__name__}(..., api_key=...), or set {variable}"
                raise SettingError("api_key", None, right)
            self._bearer = self._bear(key)
        return self._bearer

    @property
    def own(self) -> QuickAccount:
        """The account of that key. Raises the same."""
        own = self._own
        if own is None:
            self._own = own = self.engine.account(self.engine.provider.key_of(self.bearer.headers) or "")
        return own

    def account_name(self, key: str) -> str:
        """Tell the name of the account a key belongs to, as it stands in events and errors: never the key itself."""
        key = hide(key, needed=True)
        return self.engine.account(key).name

    def _accounts(self, key: str | None) -> list[QuickAccount]:
        return self.engine.accounts() if key is None else [self.engine.account(key)]

    def _told(self, key: str | None) -> list[QuickAccount]:
        """List the accounts a task may belong to: a guard that has just begun knows none yet but its own key's."""
        accounts = self._accounts(key)
        if key is None:
            with contextlib.suppress(SettingError):  # it has none
                own = self.own
                if own not in accounts:
                    accounts.append(own)
        return accounts

    def asked(self, key: str | None) -> tuple[QuickAccount, httpx.Request]:
        """Find the account that is meant, and what to ask for its balance with: the guard's own, or that of *key*."""
        bearer = self.bearer if key is None else self._bear(key)
        return self.engine.account(self.engine.provider.key_of(bearer.headers) or ""), bearer

    def _one(self, key: str | None) -> QuickAccount:
        accounts = self._accounts(key)
        if len(accounts) != 1:
            known = f"this guard knows {len(accounts)} accounts" if accounts else "no call has been made yet"
            raise SettingError("key", key, f"{known}, so say whose account by giving the API key")
        return accounts[0]

    @even_half_made
    def __repr__(self) -> str:
        engine = self.engine
        return f"{type(self).__name__}({engine.provider!r}, {engine.store!r}, {self.policy!r})"


class Guard(Jobs, Plans, Pools, Reserving, TaskRunning, _Base):
    """Admits, queues or refuses paid calls before they are sent, for callers in threads. Since 0.1.

    No call admitted is refused by the provider for want of credits or of a slot, as long as prices are right and nobody
    else spends the account. One guard may be shared by any number of threads.

    Args:
        provider: Whose API is called, e.g. ``Vidu()``.
        store: What guards of the same accounts share, or its address, e.g. ``sqlite:///accounts.db`` or
            ``redis://localhost`` (see `open_store`); by default a `MemoryStore` of this guard's own.
        policy: The settings.
        observers: Called with each event.
        accounts: Names of accounts, each with the API keys that spend it. A key not named here is an account of its
            own.
        fingerprint_key: At most 64 secret bytes that go into the names of accounts and into tokens; make them with
            ``secrets.token_bytes(32)``. Guards that share a store need the same, or all none.
        api_key: The key whose account permits, jobs and pools are held on, and with which the guard asks for the
            balance on their behalf; by default what stands in ``VIDU_API_KEY``, ``UDIO_API_KEY`` and so on. Calls
            through a transport use their own.
        inner: Sends the guard's own questions; by default a new ``httpx.HTTPTransport``. Closed with the guard.

    Raises:
        SettingError: If one of these cannot work.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        store: Store | str | None = None,
        policy: Policy | None = None,
        observers: Sequence[Observer] = (),
        accounts: Mapping[str, Iterable[str]] | None = None,
        fingerprint_key: bytes | None = None,
        api_key: str | None = None,
        inner: httpx.BaseTransport | None = None,
    ) -> None:
        store, given = hide_address(store), Given(accounts, fingerprint_key, api_key)
        del accounts, fingerprint_key, api_key  # a traceback may show what this frame names
        super().__init__(provider, store, policy, observers, given, "transact")
        self._store: Store = self._opened
        self.driver = BlockingDriver(self._store, self.engine.tell)
        self.heartbeat = Heartbeat(self.driver, self.policy.lease)
        self._inner = None if inner is None else checked(inner, "handle_request")
        self._askings: dict[int, Asking] = {}

    @property
    def asking(self) -> Asking:
        """What the guard asks the provider with on its own behalf. Made when it is first used."""
        # On connections of a parent's, an answer may be to a question of the parent's. They are left as they are.
        asking = self._askings.get(os.getpid())
        if asking is None:
            # Where several threads make one, all use the same: of another the connections would be closed by nobody.
            made = Asking(self.engine, httpx.HTTPTransport() if self._inner is None else self._inner)
            asking = self._askings.setdefault(os.getpid(), made)
        return asking

    def transport(self, inner: httpx.BaseTransport | None = None, *, on_refusal: OnRefusal = "raise") -> GuardTransport:
        """Make a transport for an ``httpx.Client``. See `GuardTransport`. Since 0.1."""
        return GuardTransport(self, inner, on_refusal=on_refusal)

    def finished(
        self,
        task_id: str,
        *,
        state: TaskState | str = TaskState.SUCCEEDED,
        charge: int | None = None,
        key: str | None = None,
    ) -> bool:
        """Tell the guard that a task or a permit has ended, for instance from a webhook. Since 0.1.

        Its slots are free from here on. Telling twice is harmless.

        Args:
            task_id: The provider's id, or a permit's `token <Permit.token>`. An open permit is settled first.
            state: How it ended: ``succeeded``, ``failed`` or ``cancelled``.
            charge: Credits it cost, where known.
            key: The API key it was started with; needed only if it is not the guard's own and this process has not
                used it yet.

        Returns:
            Whether it was ours and had not ended before.

        Raises:
            PermitError: If a token cannot be read, or belongs to an account this guard does not know.
            SettingError: If the id, the state or the charge is none.
        """
        key = hide(key)
        task = told_of(task_id, state, charge)
        if is_token(task_id):
            return self._finished(task_id, task, self._told(key))
        accounts = self._told(key)
        if any(account.is_quick and account.finish(task) for account in accounts):
            return True
        return any(self.driver.run(account, finish(account, task)) for account in accounts)

    def state(self, key: str | None = None) -> State:
        """Tell what is known of an account now, without asking the provider. Since 0.1.

        Args:
            key: The API key; may be left out while this guard knows one account only.

        Raises:
            SettingError: If it is not clear which account is meant.
        """
        if key is None and (stated := self.engine.stated()) is not None:
            return stated
        key = hide(key)
        account = self._one(key)
        return self.engine.state(account, self.driver.run(account, account.load()))

    def close(self) -> None:
        """Close *inner*, and the store if the guard made it. What was stored stays stored. Since 0.1."""
        if self._inner is not None or os.getpid() in self._askings:
            self.asking.close()
        if self._made:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncGuard(AsyncJobs, AsyncPlans, AsyncPools, AsyncReserving, AsyncTaskRunning, _Base):
    """Admits, queues or refuses paid calls before they are sent, for callers on asyncio or trio. Since 0.1.

    The same promise as `Guard`, the same arguments, and the same methods with ``async``. One guard may be shared by any
    number of tasks.

    Args:
        provider: Whose API is called, e.g. ``Vidu()``.
        store: What guards of the same accounts share, or its address, e.g. ``sqlite:///accounts.db`` or
            ``redis://localhost`` (see `open_store`); by default a `MemoryStore` of this guard's own.
        policy: The settings.
        observers: Called with each event, on the event loop.
        accounts: Names of accounts, each with the API keys that spend it. A key not named here is an account of its
            own.
        fingerprint_key: At most 64 secret bytes that go into the names of accounts and into tokens; make them with
            ``secrets.token_bytes(32)``. Guards that share a store need the same, or all none.
        api_key: The key whose account permits, jobs and pools are held on, and with which the guard asks for the
            balance on their behalf; by default what stands in ``VIDU_API_KEY``, ``UDIO_API_KEY`` and so on. Calls
            through a transport use their own.
        inner: Sends the guard's own questions; by default a new ``httpx.AsyncHTTPTransport``. Closed with the guard.

    Raises:
        SettingError: If one of these cannot work.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        store: AsyncStore | str | None = None,
        policy: Policy | None = None,
        observers: Sequence[Observer] = (),
        accounts: Mapping[str, Iterable[str]] | None = None,
        fingerprint_key: bytes | None = None,
        api_key: str | None = None,
        inner: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        store, given = hide_address(store), Given(accounts, fingerprint_key, api_key)
        del accounts, fingerprint_key, api_key  # a traceback may show what this frame names
        super().__init__(provider, store, policy, observers, given, "atransact")
        self._store: AsyncStore = self._opened
        self.driver = ConcurrentDriver(self._store, self.engine.tell)
        self.heartbeat = Heartbeat(BlockingDriver(self._store, self.engine.tell), self.policy.lease)
        self._inner = None if inner is None else checked(inner, "handle_async_request")
        self._askings: dict[int, AsyncAsking] = {}

    @property
    def asking(self) -> AsyncAsking:
        """What the guard asks the provider with on its own behalf. Made when it is first used."""
        # On connections of a parent's, an answer may be to a question of the parent's. They are left as they are.
        asking = self._askings.get(os.getpid())
        if asking is None:
            # Where several threads make one, all use the same: of another the connections would be closed by nobody.
            made = AsyncAsking(self.engine, httpx.AsyncHTTPTransport() if self._inner is None else self._inner)
            asking = self._askings.setdefault(os.getpid(), made)
        return asking

    def transport(
        self, inner: httpx.AsyncBaseTransport | None = None, *, on_refusal: OnRefusal = "raise"
    ) -> AsyncGuardTransport:
        """Make a transport for an ``httpx.AsyncClient``. See `AsyncGuardTransport`. Since 0.1."""
        return AsyncGuardTransport(self, inner, on_refusal=on_refusal)

    async def finished(
        self,
        task_id: str,
        *,
        state: TaskState | str = TaskState.SUCCEEDED,
        charge: int | None = None,
        key: str | None = None,
    ) -> bool:
        """Tell the guard that a task or a permit has ended. See `Guard.finished`. Since 0.1."""
        key = hide(key)
        task = told_of(task_id, state, charge)
        if is_token(task_id):
            return await self._finished(task_id, task, self._told(key))
        accounts = self._told(key)
        if any(account.is_quick and account.finish(task) for account in accounts):
            return True
        for account in accounts:
            if await self.driver.run(account, finish(account, task)):
                return True
        return False

    async def state(self, key: str | None = None) -> State:
        """Tell what is known of an account now, without asking the provider. See `Guard.state`. Since 0.1."""
        if key is None and (stated := self.engine.stated()) is not None:
            return stated
        key = hide(key)
        account = self._one(key)
        return self.engine.state(account, await self.driver.run(account, account.load()))

    async def close(self) -> None:
        """Close *inner*, and the store if the guard made it. What was stored stays stored. Since 0.1."""
        if self._inner is not None or os.getpid() in self._askings:
            await self.asking.close()
        if self._made:
            await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _kind(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__
