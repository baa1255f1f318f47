"""What every way in shares: the provider, the store, the accounts this process knows, and who is told of events."""

from __future__ import annotations

import collections
import contextlib
import hmac
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from urllib.parse import parse_qsl

import cachetools

from budgetguard._believed import reading_of, see_task, see_verdict
from budgetguard._core import counters as c
from budgetguard._core.account import Account, Hold
from budgetguard._core.counters import MICROS, UNLIMITED, View, pool_names
from budgetguard._core.quick import QuickAccount
from budgetguard._core.till import Till
from budgetguard._documents import decode
from budgetguard._echoes import Echo, without_echoes
from budgetguard._fingerprints import Fingerprints
from budgetguard._hidden import hide
from budgetguard._names import new_name, new_portable_name
from budgetguard._tokens import Token
from budgetguard.errors import PermitError, ReadingError
from budgetguard.events import Event, Observer
from budgetguard.model import Outcome, PoolState, Quote, Reading, Route, RouteKind, State, TaskSeen, Verdict
from budgetguard.policy import Policy
from budgetguard.ports import Answer, Provider, Store
from budgetguard.stores.memory import MemoryStore

__all__ = ["Engine", "decode"]

_ACCOUNTS_MAX = 1024
_TASKS_MAX = 20_000
_WORD_MAX = 48


class Engine:
    """One provider's accounts on one store, under one policy. Safe to share between threads."""

    def __init__(
        self,
        provider: Provider,
        store: Store,
        policy: Policy,
        observers: Sequence[Observer],
        fingerprints: Fingerprints,
        names: Mapping[str, str],
    ) -> None:
        self.provider = provider
        self.store = store
        self.policy = policy
        self.observers = tuple(observers)
        self.origins = frozenset(provider.origins)
        self._fingerprints = fingerprints
        self._names = names
        self._lock = threading.Lock()
        self._alive: weakref.WeakValueDictionary[str, QuickAccount] = weakref.WeakValueDictionary()
        self._recent: cachetools.LRUCache[str, QuickAccount] = cachetools.LRUCache(_ACCOUNTS_MAX)
        self._forgotten: collections.deque[Callable[[], None]] = collections.deque()
        self._complained: set[str] = set()
        self._stated: tuple[Till, int, int, State] | None = None
        """What was last said of the only account there is, after which move of its till, and until when that holds."""
        _engines.add(self)

    # -- accounts ---------------------------------------------------------------------------------------------------

    def account(self, key: str) -> QuickAccount:
        """Find the account a key belongs to."""
        return self._of(self._fingerprints.of(hide(key)))

    def account_in(self, headers: Mapping[str, str]) -> QuickAccount | None:
        """Find the account of the key that headers carry; ``None`` where they carry none."""
        fingerprint = self._fingerprints.of(self.provider.key_of(headers))
        return None if fingerprint is None else self._of(fingerprint)

    def _of(self, fingerprint: str) -> QuickAccount:
        return self.named(self._names.get(fingerprint) or f"{self.provider.name}:{fingerprint}")

    def named(self, name: str) -> QuickAccount:
        """Find an account by its name. Idle ones are forgotten when there are many; the store remembers."""
        with self._lock:
            account = self._alive.get(name)
            if account is None:
                self._stated = None
                account = self._open(name)
                self._alive[name] = account
            self._recent[name] = account
            return account

    def accounts(self) -> list[QuickAccount]:
        """List the accounts this process has to do with."""
        with self._lock:
            return list(self._alive.values())

    def _open(self, name: str) -> QuickAccount:
        provider = self.provider
        account = QuickAccount(
            name,
            self.policy,
            reports_slots=provider.reports_slots,
            at_completion=provider.charged_at == "completion",
            settlement_lag=provider.settlement_lag,
            task_lease=provider.task_lease,
            seen=cachetools.LRUCache(_TASKS_MAX),
            ended=cachetools.LRUCache(_TASKS_MAX),
            listening=bool(self.observers),
        )
        account.lock = threading.Lock()
        while self._forgotten:
            self._forgotten.popleft()()
        # A finalizer may run in the middle of anything, so it only leaves a note.
        weakref.finalize(account, self._forgotten.append, self.store.watch(name, _waker(weakref.ref(account))))
        if type(self.store) is MemoryStore:  # no other kind of it: that may do more than this one
            books = self.store.books(name)
            account.attend(books.till, books.wake)
        return account

    def stated(self) -> State | None:
        """Say again what was said of the only account there is, if nothing has changed since.

        Its age may be a millisecond behind.
        """
        known = self._stated
        if known is None:
            return None
        till, moves, until, state = known
        return state if till.moves == moves and till.now() < until else None

    def state(self, account: QuickAccount, view: View) -> State:
        """Say what is known of an account."""
        state = self._state(account, view)
        if account.is_quick and len(self._alive) == 1:
            self._stated = (*account.moment(), state)
        return state

    def _state(self, account: Account, view: View) -> State:
        age, paused = view.age, view[c.PAUSE] - view.now
        return State(
            account=account.name,
            balance=view[c.BALANCE] if view.has_reading else None,
            credits_free=view[c.CREDITS] - self.policy.credits_headroom,
            credits_held=view.held,
            pools={name: self._pool_state(account, view, name) for name in pool_names(view)},
            age=None if age is None else age / MICROS,
            paused=max(0, paused) / MICROS,
        )

    def _pool_state(self, account: Account, view: View, name: str) -> PoolState:
        pool = account.books.pool(name)
        bounded = view[pool.limit] < UNLIMITED
        return PoolState(
            limit=view[pool.limit] if bounded else None,
            free=view[pool.slots] - self.policy.slots_headroom if bounded else None,
            open=view[pool.open],
            running=view[pool.running],
            waiting=len(account.line(name)),
        )

    # -- calls ------------------------------------------------------------------------------------------------------

    def hold(self, quote: Quote, *, priority: int = 0, deadline: float | None = None, resendable: bool = True) -> Hold:
        """Prepare a call's way through the guard, under an id nobody else has."""
        return Hold(new_name(), quote, priority=priority, deadline=deadline, resendable=resendable)

    def permit(self, quote: Quote, priority: int, deadline: float | None, tags: tuple[str, ...]) -> Hold:
        """Prepare a permit, under an id that can be kept in a token."""
        return Hold(new_portable_name(), quote, priority=priority, deadline=deadline, tags=tags)

    def token(self, account: Account, name: str, task_id: str = "") -> str:
        """Make the token of a permit."""
        return Token(name, task_id).sealed(partial(self._fingerprints.seal, account.name)).dumps()

    def token_of(self, text: str, accounts: Iterable[Account]) -> tuple[QuickAccount, Token]:
        """Read a token, and find which of these accounts, or of those named in the settings, it belongs to.

        Raises:
            PermitError: If it cannot be read, or belongs to none of them.
        """
        token = Token.loads(text)
        names = [account.name for account in accounts]
        for name in dict.fromkeys([*names, *self._names.values()]):
            if hmac.compare_digest(self._fingerprints.seal(name, token.said), token.seal):
                return self.named(name), token
        raise PermitError(
            f"This token belongs to another account than {', '.join(names) or 'any this guard knows'}, or was changed. "
            "End it where that account is used: a guard of the same provider and fingerprint_key, with its key as "
            "api_key or key."
        )

    def route(self, method: str, origin: str, path: str, query: str) -> Route | None:
        """Say what a request is about; ``None`` where the guard has nothing to do with it."""
        if origin not in self.origins:
            if method == "POST":
                self._elsewhere(origin, path)
            return None
        return self.provider.match(method, path, dict(parse_qsl(query, keep_blank_values=True)) if query else {})

    def _elsewhere(self, origin: str, path: str) -> None:
        """Say once where a paid call goes to a host the adapter was not told of: it passes unguarded."""
        route = self.provider.match("POST", path, {})
        if route is not None and route.kind is RouteKind.SUBMIT:
            name = type(self.provider).__name__
            self.complain("unguarded_host", host=origin, guarded=min(self.origins), remedy=f"{name}(base_url=...)")

    def verdict(self, route: Route, answer: Answer, sent: Mapping[str, str]) -> Verdict:
        """Ask the adapter what became of a call. An adapter that fails has not understood: nothing is known then.

        The provider's own words may repeat what was *sent*, a key in its headers too. Only a reason that is one word,
        and no part of the key, is kept.
        """
        try:
            verdict = self.provider.verdict(route, answer)
            see_verdict(verdict)
            if verdict.reason or verdict.message:
                reason = "" if self._echo(sent).is_in(verdict.reason) else _word(verdict.reason)
                return replace(verdict, reason=reason, message="")
            return verdict
        except Exception as error:  # noqa: BLE001 - the caller's request must not suffer from our reading of its answer
            self.complain("adapter_failed", provider=self.provider.name, error=type(error).__name__)
            return Verdict(Outcome.UNKNOWN)

    def observe(self, route: Route, answer: Answer) -> Sequence[TaskSeen]:
        """Ask the adapter which tasks an answer shows."""
        try:
            tasks = self.provider.observe(route, answer)
            see_task(tasks)
            return tasks
        except Exception as error:  # noqa: BLE001 - as above
            self.complain("adapter_failed", provider=self.provider.name, error=type(error).__name__)
            return ()

    def missing(self, route: Route, answer: Answer) -> bool:
        """Ask the adapter whether an answer says that there is no such task."""
        try:
            return self.provider.missing(route, answer)
        except Exception as error:  # noqa: BLE001 - as above
            self.complain("adapter_failed", provider=self.provider.name, error=type(error).__name__)
            return False

    def reading(self, answer: Answer, sent: Mapping[str, str]) -> Reading:
        """Ask the adapter for the balance, and take out where it repeats the key of the headers that were *sent*.

        Raises:
            ReadingError: If the answer is none.
        """
        try:
            return without_echoes(reading_of(self.provider.reading(answer)), self._echo(sent))
        except ReadingError as error:
            if self._echo(sent).is_in(str(error)):
                raise ReadingError("it repeats the key, and cannot be read") from None
            raise
        except Exception as error:
            raise ReadingError(f"the adapter failed ({type(error).__name__})") from error

    def _echo(self, sent: Mapping[str, str]) -> Echo:
        return Echo(self.provider.key_of(sent) or "")

    def forked(self) -> None:
        """Begin as a process that was forked: the parent's threads, which may have held locks, are not here."""
        self._lock = threading.Lock()
        for account in list(self._alive.values()):
            account.lock = threading.Lock()
            account.forked()

    # -- telling ----------------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Tell the observers. What they raise is logged, once for each kind, and never stops a request."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - an observer never stops a request
                self.complain("observer_failed", observer=repr(observer), error=type(error).__name__)

    def complain(self, what: str, **facts: str) -> None:
        """Log a fault that is nobody's business but the developer's, once for each kind."""
        kind = f"{what} {sorted(facts.items())}"
        if kind not in self._complained and len(self._complained) < _ACCOUNTS_MAX:
            self._complained.add(kind)
            import structlog  # noqa: PLC0415 - costs 90 ms, and is hardly ever needed

            with contextlib.suppress(Exception):  # a log that cannot be written never stops a request either
                structlog.get_logger("budgetguard").warning(what, **facts)


def _word(reason: str) -> str:
    return reason if len(reason) <= _WORD_MAX and reason.replace("_", "").replace(".", "").isalnum() else ""


def _waker(reference: weakref.ref[Account]) -> Callable[[], None]:
    def changed() -> None:
        account = reference()
        if account is None:
            return
        with account.lock:
            for ticket in account.changed():
                ticket.wake()

    return changed


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _after_fork() -> None:
    for engine in list(_engines):
        engine.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
