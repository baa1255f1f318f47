"""One process of a scene. ``python -m tests.chaos.worker``.

It reads its orders, one line of JSON, and then commands, one a line. What it does and meets it tells, one line each.
"""

from __future__ import annotations

from tests.chaos import wallclock

wallclock.install()

import faulthandler  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402 - whoever takes a copy of the clock must find the one that can be stepped
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import warnings  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import httpx  # noqa: E402

from budgetguard.errors import BudgetGuardError, StoreError  # noqa: E402
from budgetguard.events import Event, Paused, RefusedByProvider  # noqa: E402
from budgetguard.stores import MemoryStore  # noqa: E402
from tests.chaos.calling import Bench, Callers, folder_of, say  # noqa: E402
from tests.chaos.keep import Keep  # noqa: E402
from tests.chaos.plan import Part, policy  # noqa: E402
from tests.chaos.tasks import Tasks  # noqa: E402
from tests.chaos.threads import Threads  # noqa: E402
from tests.chaos.trade import trade  # noqa: E402
from tests.fleet.worker import store_at  # noqa: E402

__all__ = ["Orders"]

_TICK, _LATE = 0.05, 0.2
_FORKED_CALLS = 3
_LATER = (
    "anyio._backends._asyncio",
    "anyio._backends._trio",
    "asyncio",
    "encodings.idna",
    "rich._emoji_codes",
    "structlog",
    "trio",
)
"""Modules that are loaded when they are first used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is told.

    Attributes:
        label: The beginning of the names of its calls.
        url, provider, limit: Where the provider is, who it is, and how many tasks it runs at once.
        key: The API key.
        store: The address of the store; ``""`` for memory.
        patience: Seconds a call to the store may take.
        parts: Its callers.
        lag: Seconds by which the balance lags.
        keep: The folder everything is written to; ``""`` for none.
        stacks: The file it writes down where it is, when it gets a SIGUSR1.
    """

    label: str
    url: str
    provider: str
    limit: int
    key: str
    store: str
    patience: float
    parts: list[dict[str, Any]]
    lag: float
    keep: str
    stacks: str


class Worker:
    """The process: its callers, and what it is told to do."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        keep = Keep(folder_of(orders.keep), orders.label, [_observe])
        if orders.store.startswith("unix"):
            wallclock.step_server()
        store = store_at(orders.store, orders.patience) if orders.store else MemoryStore()
        self.bench = Bench(
            trade=trade(orders.provider, orders.limit),
            url=orders.url,
            key=orders.key,
            store=store,
            policy=policy(orders.lag),
            keep=keep,
            over=threading.Event(),
        )
        self.callers: list[Threads | Tasks] = []
        for number, given in enumerate(orders.parts):
            part = Part(**given)
            kind = Threads if part.flavour == "threads" else Tasks
            self.callers.append(kind(self.bench, part, f"{orders.label}.{number}"))
        self._children = 0
        self._running = [threading.Thread(target=self._run, args=(callers,)) for callers in self.callers]

    def work(self) -> None:
        """Do what one is told, until there is nobody to tell it."""
        self._warm_up()
        self._stacks = Path(self.orders.stacks).open("w")  # noqa: SIM115 - open as long as the process
        faulthandler.register(signal.SIGUSR1, self._stacks, all_threads=True)
        say(ready=os.getpid())
        for line in sys.stdin:
            order: dict[str, Any] = json.loads(line)
            if order["do"] == "end":
                break
            getattr(self, f"_{order.pop('do')}")(**order)
        self._show()
        os._exit(0)

    def _warm_up(self) -> None:
        """Load and work out now what is needed later: a fork beside a thread that imports, or is inside OpenSSL, leaves
        locks behind that are Python's and OpenSSL's own.
        """
        for module in _LATER:
            importlib.import_module(module)
        httpx.Client().close()
        self.bench.keep.error(StoreError("for the tools that show errors to load what they need"))
        for callers in self.callers:
            callers.guard.account_name(self.orders.key)

    def _run(self, callers: Callers) -> None:
        try:
            callers.run()  # type: ignore[attr-defined]
        except BaseException:  # noqa: BLE001 - it is told, and is a broken promise whatever it is
            say(crashed=traceback.format_exc())
        say(part=callers.label)

    def _go(self) -> None:
        threading.Thread(target=_tick, daemon=True).start()
        for thread in self._running:
            thread.start()

    def _stop(self) -> None:
        self.bench.over.set()
        threading.Thread(target=self._stopped).start()

    def _stopped(self) -> None:
        for thread in self._running:
            thread.join()
        say(finished=True)

    def _ask(self) -> None:
        for callers in self.callers:
            callers.questions += 1

    def _clock(self, by: float) -> None:
        wallclock.step(by)

    def _fork(self) -> None:
        label = f"{self.orders.label}f{self._children}"
        self._children += 1
        pid = os.fork()
        if pid:
            say(child=label, pid=pid)
            return
        say.in_child()
        # The clients of the parent's callers are dropped with its threads; that they were not closed is as it must be.
        warnings.simplefilter("ignore", ResourceWarning)
        status = 1
        try:
            callers = self.callers[0]
            callers.label = label
            callers.in_child(_FORKED_CALLS)
            status = 0
        except BaseException:  # noqa: BLE001 - it is told, and is a broken promise whatever it is
            say(crashed=traceback.format_exc())
        finally:
            say(left=label)
            os._exit(status)

    def _look(self) -> None:
        """Get a new reading, and tell what the guard knows then."""
        callers = next(callers for callers in self.callers if isinstance(callers, Threads))
        try:
            asked = time.monotonic()
            callers.look()
            state = callers.guard.state(self.orders.key)
            pools = {name: (pool.free, pool.open, pool.running) for name, pool in state.pools.items()}
            fresh = state.age is not None and state.age <= time.monotonic() - asked
            say(state={"free": state.credits_free, "held": state.credits_held, "pool": pools.get(""), "fresh": fresh})
        except Exception as error:  # noqa: BLE001 - it is told
            say(state={"error": repr(error)})

    def _show(self) -> None:
        keep = self.bench.keep
        keep.show(self.bench.store, self.bench.policy)
        for callers in self.callers:
            keep.show(callers.guard, callers.transport, callers.adapter)
            if isinstance(callers, Threads):
                try:
                    keep.show(callers.guard.state(self.orders.key))
                except BudgetGuardError as error:
                    keep.error(error)


def _observe(event: Event) -> None:
    if isinstance(event, Paused):
        say(paused=event.reason)
    elif isinstance(event, RefusedByProvider):
        say(refused=event.outcome)


def _tick() -> None:
    """Tell when this process was not let run for a while."""
    before = time.monotonic()
    while True:
        time.sleep(_TICK)
        now = time.monotonic()
        if now - before > _TICK + _LATE:
            say(late=now - before - _TICK)
        before = now


def main() -> None:
    # What httpcore leaves behind on trio when a body ends in an error, guarded or not.
    warnings.filterwarnings("ignore", "Async generator 'http", ResourceWarning)
    Worker(Orders(**json.loads(sys.stdin.readline()))).work()


if __name__ == "__main__":
    main()
