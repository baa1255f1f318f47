"""How long a freed slot takes to reach a caller who waits for it in another process, over a Valkey server."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, Self

from benchmarks import stage
from benchmarks.contest import Contest, Pace
from benchmarks.peers import peer
from benchmarks.server import Server
from benchmarks.table import Goal, Table
from budgetguard.stores import RedisStore

_POLICY = replace(stage.CALM, exclusive=True)
_SETTLE = 0.01
"""Seconds after which the other process certainly waits."""
_PATIENCE = 20.0
_GO, _STOP = "go", "stop"


def tables(pace: Pace) -> Iterator[Table]:
    """Measure."""
    times = 10 if pace.fast else 30
    bare = "a bare wake: PUBLISH to a subscriber"
    note = f"From the moment before it is given back to the moment the other process has it; median of {times} a round."
    with Server() as server:
        contest = Contest("hand over a freed slot to another process", bare, pace, rounds=pace.rounds // 2, note=note)
        with Other(_subscriber, server.url) as subscriber, Other(_guard, server.url) as guard:
            client = peer("redis").Redis(port=server.port)
            mine = stage.guard(stage.wallet(limit=1), policy=_POLICY, store=RedisStore(server.url))

            def publish() -> float:
                return subscriber.after(lambda: client.publish("wake", "1"))

            def hand_over() -> float:
                permit = mine.reserve(credits=1)
                return guard.after(permit.release)

            contest.run(bare, lambda: statistics.median(publish() for _ in range(times)), kind="floor")
            contest.run(
                "budgetguard release() to reserve()",
                lambda: statistics.median(hand_over() for _ in range(times)),
                kind="ours",
                goals=(Goal(2),),
            )
            yield contest.table()
            mine.close()


class Other:
    """Another process, which waits when told to and says when it got what it waited for."""

    def __init__(self, work: Callable[[Connection, str], None], url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=work, args=(there, url), daemon=True)
        self._process.start()
        if not self._pipe.poll(_PATIENCE):
            raise RuntimeError("the other process did not begin")
        self._pipe.recv()

    def after(self, act: Callable[[], Any]) -> float:
        """Let it wait, act, and give the microseconds until it had what it waited for."""
        self._pipe.send(_GO)
        time.sleep(_SETTLE)
        begin = time.monotonic_ns()
        act()
        if not self._pipe.poll(_PATIENCE):
            raise RuntimeError("the other process was not woken")
        end: int = self._pipe.recv()
        return (end - begin) / 1000

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(_STOP)
        self._process.join(_PATIENCE)
        self._pipe.close()


def _subscriber(pipe: Connection, url: str) -> None:
    subscription = peer("redis").Redis.from_url(url).pubsub()
    subscription.subscribe("wake")
    while subscription.get_message(timeout=_PATIENCE)["type"] != "subscribe":
        pass
    pipe.send(_GO)
    while pipe.recv() == _GO:
        subscription.get_message(timeout=_PATIENCE)
        pipe.send(time.monotonic_ns())


def _guard(pipe: Connection, url: str) -> None:
    guard = stage.guard(stage.wallet(limit=1), policy=_POLICY, store=RedisStore(url))
    pipe.send(_GO)
    while pipe.recv() == _GO:
        with guard.reserve(credits=1):
            end = time.monotonic_ns()
        pipe.send(end)
    guard.close()
