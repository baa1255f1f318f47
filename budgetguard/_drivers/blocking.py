"""Performs a flow's steps in the calling thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from budgetguard._core.account import Account, Hold
from budgetguard._core.direct import begin, heard
from budgetguard._core.line import Ticket
from budgetguard._core.quick import QuickAccount
from budgetguard._core.serving import Place, ServingAccount
from budgetguard._core.steps import (
    Ask,
    Asked,
    Fetch,
    Fetched,
    Flow,
    Load,
    Scan,
    Send,
    Step,
    Tell,
    Transact,
    Wait,
    Wake,
)
from budgetguard.events import Event
from budgetguard.model import Verdict
from budgetguard.ports import Store

__all__ = ["BlockingDriver"]

T = TypeVar("T")

_LONG = (Wait, Send)
"""Steps that may take long, and have nothing to do with a question for the balance before them."""


class BlockingDriver:
    """Performs steps for callers in threads. Safe to share between threads."""

    def __init__(self, store: Store, tell: Callable[[Event], None]) -> None:
        self._store = store
        self._tell = tell

    def run(
        self,
        account: Account,
        flow: Flow[T],
        *,
        fetch: Callable[[], Fetched] | None = None,
        send: Callable[[], Verdict] | None = None,
        ask: Callable[[Sequence[str]], Sequence[Asked]] | None = None,
    ) -> T:
        """Drive a flow to its end and give what it returns. Whatever interrupts it closes it."""
        reply: Any = None
        lock = account.lock
        process = 0
        try:
            while True:
                with lock:
                    step = flow.send(reply)
                    if type(step) is Fetch:
                        process = process or account.begin_question(os.getpid())
                    elif process and type(step) in _LONG:
                        process = account.end_question(process)
                reply = self._perform(account, step, fetch, send, ask)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            with lock:
                flow.close()
                if process:
                    account.end_question(process)

    def join_question(self, account: QuickAccount) -> bool:
        """Where nobody can go on without a newer reading, wait for those who ask for one here; ``False`` else."""
        if not account.asking or not account.must_wait():
            return False
        with account.lock:
            if os.getpid() not in account.asking:
                return False
            ticket = account.herds.get(0)
            if ticket is None:
                account.herds[0] = ticket = Ticket()
                ticket.signal = threading.Event()
            signal = ticket.signal
        if isinstance(signal, threading.Event):
            signal.wait()
        return True

    def stand(self, account: ServingAccount, place: Place) -> None:
        """Wait in line on the quick path, until the place has its slots or must go on as a flow."""
        while (seconds := account.patience(place)) is not None:
            _wait(account, place, seconds)

    def take(self, account: Account, hold: Hold) -> bool:
        """Let a call through by its first step; ``False`` if `admit` must go on from there."""
        with account.lock:
            step = begin(account, hold)
        if step is None:
            return False
        done = self._store.transact(account.name, step.transaction)
        with account.lock:
            return heard(account, hold, step, done)

    def _perform(
        self,
        account: Account,
        step: Step[Any],
        fetch: Callable[[], Fetched] | None,
        send: Callable[[], Verdict] | None,
        ask: Callable[[Sequence[str]], Sequence[Asked]] | None,
    ) -> Any:
        match step:
            case Transact():
                return self._store.transact(step.account, step.transaction)
            case Load():
                return self._store.load(step.account, step.records, due=step.due)
            case Scan():
                return self._store.scan(step.account, step.cursor)
            case Wait():
                return _wait(account, step.ticket, step.seconds)
            case Wake():
                with account.lock:
                    step.ticket.wake()
                return None
            case Tell():
                return self._tell(step.event)
            case Fetch():
                return fetch() if fetch is not None else Fetched(None, "nobody here can ask for the balance")
            case Send():
                return send() if send is not None else None
            case Ask():
                return ask(step.task_ids) if ask is not None else None
            case _:
                raise NotImplementedError(step)


def _wait(account: Account, ticket: Ticket, seconds: float | None) -> bool:
    with account.lock:
        if ticket.woken:
            ticket.woken = False
            return True
        if seconds is not None and seconds <= 0:
            return False
        ticket.signal = signal = threading.Event()
    try:
        return signal.wait(seconds)
    finally:
        with account.lock:
            ticket.signal = None
            ticket.woken = False
