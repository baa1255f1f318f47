"""What Ctrl-C does to the store, wherever it comes."""

from __future__ import annotations

import dis
import sys
import threading
import time
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import pytest

from budgetguard.ports import Put, Transaction
from budgetguard.stores.redis import RedisStore
from tests.support.valkey import ValkeyServer, valkey_server

__all__ = ["valkey_server"]

ADD = Transaction(add={"x": 1})
LONG = 2.0
"""Seconds; far more than a call takes, and less than one who waits for a lane that is lost."""
_files = ("_redis_form.py", "_redis_lanes.py", "_redis_link.py", "_redis_server.py", "_redis_wire.py")
_looks = {
    code
    for name, code in dis.opmap.items()
    if name.startswith(("CALL", "RESUME", "JUMP_BACKWARD", "FOR_ITER", "SEND", "BINARY_OP"))
}


class Interrupt:
    """Raises a KeyboardInterrupt at the *n*-th moment at which the interpreter would, in the store's own modules.

    It looks for signals after a call, at the begin of a function and at the end of a loop, so never between a lock's
    acquisition and the block that gives it back.
    """

    def __init__(self, moment: int, times: int = 1) -> None:
        self.left = moment
        self.times = times
        self.last: dict[CodeType, dict[int, int]] = {}

    def _before(self, frame: FrameType) -> int | None:
        code = frame.f_code
        if code not in self.last:
            before, known = None, {}
            for instruction in dis.get_instructions(code):
                if before is not None:
                    known[instruction.offset] = before
                before = instruction.opcode
            self.last[code] = known
        return self.last[code].get(frame.f_lasti)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(_files):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode" and self.times and self._before(frame) in _looks:
            self.left -= 1
            if self.left < 0:
                self.times -= 1
                raise KeyboardInterrupt
        return self

    def during(self, store: RedisStore) -> str:
        traced = sys.gettrace()
        sys.settrace(self)
        try:
            store.transact("a", ADD)
        except KeyboardInterrupt:
            return "interrupted"
        else:
            return "done"
        finally:
            sys.settrace(traced)


@pytest.fixture
def store(valkey_server: ValkeyServer) -> Iterator[RedisStore]:
    valkey_server.client.flushall()
    store = RedisStore(valkey_server.url, timeout=LONG)
    yield store
    store.close()


def count(store: RedisStore) -> int:
    return store.load("a").counters.get("x", 0)


def at_once_here_and_there(store: RedisStore) -> None:
    began = time.monotonic()
    there = threading.Thread(target=store.transact, args=("a", ADD))
    there.start()
    store.transact("a", ADD)
    there.join(10)
    assert time.monotonic() - began < LONG


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("connected", [True, False])
def test_an_interrupt_at_any_moment_costs_no_lane_and_no_count(
    store: RedisStore, times: int, *, connected: bool
) -> None:
    moment, ended = 0, ""
    store.transact("a", ADD)
    while ended != "done":
        if not connected:
            for lane in store._lanes._all:
                lane.link.close()
        before = count(store) if connected else moment_count(store)
        interrupt = Interrupt(moment, times)
        ended = interrupt.during(store)
        at_once_here_and_there(store)
        after = count(store) - 2
        assert after - before in ((0, 1) if ended == "interrupted" else (1,)), moment
        moment += 1
    assert moment > 50
    assert all(flight is None for flight in store._lanes._state[0])


def moment_count(store: RedisStore) -> int:
    """Count without the store's own connections, which are to be opened."""
    other = RedisStore(store._rules.server.where)
    try:
        return count(other)
    finally:
        other.close()


def test_one_who_waits_takes_over_from_a_thread_that_was_interrupted_at_any_moment(store: RedisStore) -> None:
    for moment in range(0, 120, 3):
        lanes = store._lanes
        before = count(store)
        outcomes: list[str] = []

        def others() -> None:
            for _ in range(3):
                store.transact("a", ADD)
            outcomes.append("done")  # noqa: B023 - joined in this round

        threads = [threading.Thread(target=others) for _ in range(4)]
        for thread in threads:
            thread.start()
        ended = Interrupt(moment).during(store)
        for thread in threads:
            thread.join(10)
        assert outcomes == ["done"] * 4
        assert count(store) - before - 12 in ((0, 1) if ended == "interrupted" else (1,)), moment
        assert lanes._state == ((None, None), ())


def test_no_number_is_given_to_the_client_to_write() -> None:
    # Interrupted in the middle of it, hiredis would end the process.
    store = RedisStore("unix:///nowhere")
    wire, lane = store._wire, store._lanes._all[0]
    address = store._rules.names.of("a")
    whole = Transaction(add={"x": 1}, floor={"x": 0}, expect={"y": 0}, within={"z": 1}, put={"r": Put(b"", 1.0)})
    steps = [wire.Transact(address, whole), wire.Look(address, ["r"], due=True), wire.Scan(address, "")]
    for call in lane.calls(store._rules, steps):
        assert {type(part) for part in call.command} <= {str, bytes}
