"""What all callers of a worker have in common: names for their calls, and words for how these ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from budgetguard.errors import Refused, StoreError
from budgetguard.model import Outcome
from budgetguard.policy import Policy
from budgetguard.ports import AsyncStore, Provider
from budgetguard.task_errors import TaskFailed, TaskUnfinished
from tests.chaos.keep import Keep
from tests.chaos.plan import Part
from tests.chaos.trade import Trade

__all__ = ["AGAIN", "FINAL", "PATIENCE", "POLL", "POLL_MAX", "Bench", "Callers", "Unclear", "say"]

PATIENCE = 2.0
"""Seconds a caller waits for an answer."""
POLL, POLL_MAX = 0.1, 15.0
"""Seconds between two questions about a task, and after which nobody asks any more."""
AGAIN = 0.1
"""Seconds after which somebody who was refused, or met an error, tries again."""
FINAL = {Outcome.REJECTED, Outcome.INSUFFICIENT, Outcome.CONCURRENCY, Outcome.RATE}
"""What an answer may say that means: not accepted."""


class Unclear(Exception):
    """An answer that does not say whether the call was accepted."""


class _Told:
    """Says one thing at a time; what was said by whoever is killed later stays said."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, **facts: Any) -> None:
        line = json.dumps({"at": time.monotonic(), **facts}).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(1, line) :]

    def in_child(self) -> None:
        """After a fork: whoever was speaking is not here."""
        self._lock = threading.Lock()


say = _Told()


@dataclass(slots=True)
class Bench:
    """What the callers of one process share."""

    trade: Trade
    url: str
    key: str
    store: AsyncStore
    policy: Policy
    keep: Keep
    over: threading.Event


class Callers:
    """Some callers of one process.

    Args:
        bench: What they share with others.
        part: How many they are and how they call.
        label: The beginning of their names.
    """

    def __init__(self, bench: Bench, part: Part, label: str) -> None:
        self.bench = bench
        self.part = part
        self.label = label
        self.adapter: Provider = bench.trade.adapter(bench.url)
        self.questions = 0
        """How often somebody of them is to ask for the balance."""
        self._numbers = itertools.count()

    @property
    def over(self) -> bool:
        return self.bench.over.is_set()

    @property
    def given(self) -> dict[str, Any]:
        """What a client is made with."""
        bench = self.bench
        return {"base_url": bench.url, "headers": bench.trade.headers(bench.key), "timeout": PATIENCE}

    def begin(self, caller: str) -> str:
        """Name a call, and say that somebody wants it."""
        name = f"{self.label}.{caller}-{next(self._numbers)}"
        say(begin=name)
        return name

    def names(self) -> Iterator[str]:
        """Name calls as long as the scene lasts, for a pool."""
        while not self.over:
            yield self.begin("pool")

    def done(self, name: str, task: str) -> None:
        """Say that a call was accepted."""
        say(end=name, how="task", task=task)

    def failed(self, name: str, error: BaseException) -> None:
        """Say how a call ended that did not give a task."""
        self.bench.keep.error(error)
        say(end=name, how=self._how(error), met=type(error).__name__)

    @staticmethod
    def _how(error: BaseException) -> str:
        if isinstance(error, TaskFailed | TaskUnfinished):
            return "task"
        if isinstance(error, Refused):
            return "by provider" if getattr(error, "by_provider", False) else "not sent"
        if isinstance(error, StoreError | httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return "not sent"
        return "unclear"

    def read(self, answer: httpx.Response) -> str:
        """Read the task from an answer to a guarded call."""
        outcome, task, _ = self.verdict(answer)
        if outcome is Outcome.ACCEPTED and task:
            return task
        raise Unclear(f"{answer.status_code} {outcome}")

    def verdict(self, answer: httpx.Response) -> tuple[Outcome, str | None, int | None]:
        path, _ = self.bench.trade.job("")
        return self.bench.trade.verdict(self.adapter, path, answer)

    def left_out(self, error: BaseException) -> None:
        """Say of every job that a pool took up and did not run how it ended."""
        for job in getattr(getattr(error, "report", None), "not_run", ()):
            with contextlib.suppress(IndexError):
                self.failed(job.args[0], error)


def folder_of(text: str) -> Path | None:
    """Find the folder a run is kept in."""
    return Path(text) if text else None
