"""Callers in threads."""

from __future__ import annotations

import contextlib
import threading
import time

import httpx

from budgetguard import Guard
from budgetguard.errors import BudgetGuardError, Refused, StoreError
from budgetguard.model import Outcome
from budgetguard.task_errors import TaskFailed, TaskUnfinished
from tests.chaos.calling import AGAIN, FINAL, POLL, POLL_MAX, Bench, Callers, Unclear
from tests.chaos.plan import CREDITS_TIMEOUT, Part

__all__ = ["Threads"]

_SENT_NOTHING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Threads(Callers):
    """Callers in threads, with a guard of their own on the store of their process."""

    def __init__(self, bench: Bench, part: Part, label: str) -> None:
        super().__init__(bench, part, label)
        self.guard = Guard(
            self.adapter, store=bench.store, policy=bench.policy, observers=bench.keep.observers, api_key=bench.key
        )
        self._open()
        self._job = self.guard.job(credits=bench.trade.price)(self._in_job)

    def _open(self) -> None:
        self.transport = self.guard.transport()
        self.client = httpx.Client(transport=self.transport, **self.given)
        self.plain = httpx.Client(**self.given)

    def run(self) -> None:
        """Call until the scene is over."""
        work = {"transport": self._by_transport, "decorator": self._by_decorator}.get(self.part.way)
        others = [threading.Thread(target=self._ask)]
        if work is None:
            others.append(threading.Thread(target=self._by_pool))
        else:
            others += [threading.Thread(target=self._work, args=(work, n)) for n in range(self.part.width)]
        for thread in others:
            thread.start()
        for thread in others:
            thread.join()

    def in_child(self, calls: int) -> None:
        """After a fork: make a few calls with the guard of the process that forked, and a client of one's own."""
        self._open()
        for _ in range(calls):
            self._by_transport("0")
        self.client.close()

    def look(self) -> None:
        """Ask for the balance."""
        self.client.get(self.bench.trade.credits_path, timeout=CREDITS_TIMEOUT).raise_for_status()

    def _ask(self) -> None:
        while not self.over:
            if self.questions:
                self.questions -= 1
                with contextlib.suppress(httpx.HTTPError, BudgetGuardError):
                    self.client.get(f"{self.bench.trade.credits_path}?show_detail=true", timeout=10.0)
            time.sleep(0.05)

    def _work(self, call: object, number: int) -> None:
        assert callable(call)
        while not self.over:
            if not call(str(number)):
                time.sleep(AGAIN)

    def _by_transport(self, caller: str) -> bool:
        name = self.begin(caller)
        path, body = self.bench.trade.job(name)
        try:
            task = self.read(self.client.post(path, json=body))
        except (BudgetGuardError, httpx.HTTPError, Unclear) as error:
            self.failed(name, error)
            return False
        self.done(name, task)
        self._wait(self.client, task)
        return True

    def _by_decorator(self, caller: str) -> bool:
        name = self.begin(caller)
        try:
            task, client = self._job(name)
        except (BudgetGuardError, httpx.HTTPError, Unclear) as error:
            self.failed(name, error)
            return False
        self._wait(client, task)
        return True

    def _in_job(self, name: str) -> tuple[str, httpx.Client]:
        """Make a call inside a job: half of them by a guarded client, which joins it, the others by any client."""
        path, body = self.bench.trade.job(name)
        if name.endswith(("0", "2", "4", "6", "8")):
            task = self.read(self.client.post(path, json=body))
            self.done(name, task)
            return task, self.client
        permit = self.guard.current_permit()
        try:
            answer = self.plain.post(path, json=body)
        except _SENT_NOTHING:
            permit.release()
            raise
        outcome, task_id, charge = self.verdict(answer)
        if outcome in FINAL:
            permit.release()
        if outcome is not Outcome.ACCEPTED or not task_id:
            raise Unclear(f"{answer.status_code} {outcome}")
        self.done(name, task_id)
        with contextlib.suppress(StoreError):
            permit.settle(charge, task_id)
        return task_id, self.plain

    def _by_pool(self) -> None:
        while not self.over:
            try:
                with self.guard.pool(credits=self.bench.trade.price, max_workers=self.part.width) as pool:
                    for result in pool.as_completed(self._in_pool, self.names()):
                        if result.error is not None:
                            self.failed(result.args[0], result.error)
                        else:
                            self.done(result.args[0], "")
            except (Refused, StoreError) as error:
                self.left_out(error)
            time.sleep(AGAIN)

    def _in_pool(self, name: str) -> None:
        path, body = self.bench.trade.job(name)
        with contextlib.suppress(TaskFailed, TaskUnfinished):  # it was accepted
            self.guard.run_task(self.client, path, json=body, poll_every=POLL, poll_max=3 * POLL, timeout=POLL_MAX)

    def _wait(self, client: httpx.Client, task: str) -> None:
        """Ask about a task until it has ended; whoever's client nobody guards tells the guard himself."""
        trade = self.bench.trade
        until = time.monotonic() + POLL_MAX
        while time.monotonic() < until:
            time.sleep(POLL)
            with contextlib.suppress(httpx.HTTPError):
                state = trade.state(self.adapter, task, client.get(trade.poll(task)))
                if state.ended:
                    if client is self.plain:
                        with contextlib.suppress(StoreError):
                            self.guard.finished(task, state=state)
                    return
