"""What the library asks of the world: providers, stores, clocks, observers.

A provider adapter is pure: it looks at requests and answers as plain values and says what they mean. It does no I/O,
reads no clock and keeps no state, so one adapter may be shared by every thread and process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from budgetguard.model import Quote, Reading, Route, TaskSeen, Verdict

__all__ = [
    "Answer",
    "AsyncStore",
    "Loaded",
    "Provider",
    "ProviderRequest",
    "Put",
    "Scanned",
    "Store",
    "Transacted",
    "Transaction",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer as an adapter sees it. Since 0.1.

    Attributes:
        status: The HTTP status.
        headers: The headers, found by their lower-case names.
        body: The decoded JSON document; ``None`` where the answer held none that could be read.
        text: The first part of an answer that was not JSON, for messages.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """How to ask the provider something by ``GET``, without the key. Since 0.1.

    Attributes:
        url: The whole address, on the provider's configured origin.
        headers: Headers besides the one with the key.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """What an adapter says about one provider. Since 0.1.

    All methods are pure and must be safe to call from any thread. Only `quote`, `reading` and `credits_request` may
    raise, and only what is named there: an adapter that cannot make sense of an answer says so in its `Verdict`.

    An adapter whose `key_of` looks at one header only may name it, in lower case, in an attribute ``key_header``. Then
    the account of a request that comes again is found without asking it.

    Attributes:
        name: Short and lower-case; the first half of an account's name.
        unit: What a credit is, for people to read, e.g. ``"credits"`` or ``"US cents"``.
        origins: The origins (``scheme://host[:port]``) whose requests are looked at. The first one is asked for
            credits.
        charged_at: ``"submit"`` or ``"completion"``: when a call's credits leave the balance.
        settlement_lag: Seconds by which the reported balance may trail behind accepted calls.
        reports_slots: Whether a reading says how many tasks run. Where it does not, slots come back when a task is
            seen finished or its lease ends.
        task_lease: Seconds a task is believed to run when nothing is heard of it.
    """

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def origins(self) -> Sequence[str]: ...
    @property
    def charged_at(self) -> str: ...
    @property
    def settlement_lag(self) -> float: ...
    @property
    def reports_slots(self) -> bool: ...
    @property
    def task_lease(self) -> float: ...

    def match(self, method: str, path: str, query: Mapping[str, str]) -> Route | None:
        """Say what a request to one of `origins` is about; ``None`` for anything that does not matter here.

        Args:
            method: In capitals.
            path: The path of the address, decoded, without query.
            query: The query's fields; of repeated ones the last.
        """
        ...

    def quote(self, route: Route, body: Any) -> Quote:
        """Price a ``SUBMIT`` request from its decoded JSON body (``None`` where there was none to read).

        Raises:
            UnknownPrice: If the price list has no row for it. Never guess.
        """
        ...

    def verdict(self, route: Route, answer: Answer) -> Verdict:
        """Read from the answer to a ``SUBMIT`` whether it was accepted, and what it was charged."""
        ...

    def observe(self, route: Route, answer: Answer) -> Sequence[TaskSeen]:
        """Read from the answer to a ``POLL``, ``LIST`` or ``CANCEL`` which tasks run and which have ended."""
        ...

    def missing(self, route: Route, answer: Answer) -> bool:
        """Tell whether the answer to a ``POLL`` says that there is no such task. ``False`` for whatever else it says.

        A refused key, a failure of the provider or a page of something between are not that.
        """
        ...

    def credits_request(self, *, detail: bool = False) -> ProviderRequest:
        """Say how to ask for the balance; *detail* asks for packages too, where the provider has them."""
        ...

    def task_request(self, task_id: str, *, path: str = "") -> ProviderRequest | None:
        """Say how to ask about a task; `match` must take it for a ``POLL`` of this task.

        Args:
            task_id: As an answer named it: text of somebody else's, to be quoted.
            path: The endpoint that started it (`Route.path`), where known.

        Returns:
            ``None`` where tasks cannot be asked about, or not by this id.
        """
        ...

    def reading(self, answer: Answer) -> Reading:
        """Read the balance.

        Raises:
            ReadingError: If anything is missing, renamed, negative or not a number. Never a zero in its place.
        """
        ...

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Find the API key among a request's headers (lower-case names); ``None`` where there is none."""
        ...

    def authorize(self, key: str) -> Mapping[str, str]:
        """Build the headers that carry *key*."""
        ...


@dataclass(slots=True)
class Put:
    """A record to write. Since 0.1.

    Attributes:
        value: What to keep.
        lease: Seconds from the store's now after which the record falls due; ``None`` for never.
    """

    value: bytes
    lease: float | None = None


@dataclass(slots=True)
class Transaction:
    """One change of an account's counters and records: all of it, or nothing. Since 0.1.

    A counter that was never written is 0; all are exact up to 2^53 - 1 above and below. Times in counters are whole
    microseconds of the store's clock.

    Attributes:
        add: What to add to which counter.
        floor: What a counter must not be below afterwards.
        expect: What a counter must be beforehand.
        within: How many microseconds ago, at most, the time in a counter may lie; a counter that is 0 never is.
        stamp: Counters to set to the store's time.
        put: Records to write. One that exists already must be named in *drop* too; otherwise nothing happens.
        drop: Records to remove, with the value each must have; if one is gone or differs, nothing happens.
        wake: Whether those who wait for this account should look again.
    """

    add: dict[str, int] = field(default_factory=dict)
    floor: dict[str, int] = field(default_factory=dict)
    expect: dict[str, int] = field(default_factory=dict)
    within: dict[str, int] = field(default_factory=dict)
    stamp: tuple[str, ...] = ()
    put: dict[str, Put] = field(default_factory=dict)
    drop: dict[str, bytes] = field(default_factory=dict)
    wake: bool = False


@dataclass(slots=True)
class Transacted:
    """What became of a transaction. Since 0.1.

    Attributes:
        applied: Whether it happened.
        counters: The account's counters afterwards (unchanged ones too). The reader's own copy.
        now: The store's time, in microseconds.
    """

    applied: bool
    counters: dict[str, int]
    now: int


@dataclass(slots=True)
class Loaded:
    """What a store holds of an account. Since 0.1.

    Attributes:
        counters: The account's counters. The reader's own copy.
        records: The records asked for that exist, and those that have fallen due.
        now: The store's time, in microseconds.
    """

    counters: dict[str, int]
    records: dict[str, bytes]
    now: int


@dataclass(slots=True)
class Scanned:
    """One page of an account's records. Since 0.1.

    Attributes:
        records: Some of the records, about a hundred at most.
        cursor: Where the next page begins; ``""`` after the last one.
    """

    records: dict[str, bytes]
    cursor: str


class Store(Protocol):
    """Counters with floors, records, and the time: the one thing all guards of an account share. Since 0.1.

    A store decides nothing and tells nobody. It knows no credits and no slots. Every method may be called from any
    thread at any time, and raises `StoreError` when it cannot do its work.
    """

    def transact(self, account: str, transaction: Transaction) -> Transacted:
        """Apply the transaction whole or not at all, and say what the counters are then."""
        ...

    def load(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """Read the counters, the records named, and with *due* up to 100 of those whose lease has ended."""
        ...

    def scan(self, account: str, cursor: str = "") -> Scanned:
        """Go through the account's records, page by page, beginning without a *cursor*.

        A record that exists from the first page to the last is given at least once, whatever others do meanwhile; one
        that comes or goes may be given or not. A record may be given twice.
        """
        ...

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call *changed* after every applied transaction with ``wake``, from any thread; returns what ends it.

        *changed* must be quick and must not call the store. It may be called more often than there is news. What it
        raises concerns neither the other watchers nor whoever made the transaction.
        """
        ...

    def close(self) -> None:
        """Let go of what is held open. What was stored stays stored.

        A later call opens it again. A watch from before may be silent then: who goes on watching begins anew.
        """
        ...


class AsyncStore(Store, Protocol):
    """A store for ``async`` callers. Since 0.1.

    It has the blocking methods too: leases are renewed from a thread, so that a busy event loop does not lose them.
    """

    async def atransact(self, account: str, transaction: Transaction) -> Transacted:
        """See `Store.transact`. Cancelled, it is applied whole or not at all."""
        ...

    async def aload(self, account: str, records: Sequence[str] = (), *, due: bool = False) -> Loaded:
        """See `Store.load`."""
        ...

    async def ascan(self, account: str, cursor: str = "") -> Scanned:
        """See `Store.scan`."""
        ...

    async def aclose(self) -> None:
        """See `Store.close`."""
        ...
