"""How callers share few connections: what waits at the same moment travels together, for threads and on asyncio.

At most two batches are under way at a time, each on a lane of its own; what gathers meanwhile leaves as the next one.
Nobody waits for others to come: a caller who finds a lane free leaves at once, alone.
"""

from __future__ import annotations

import asyncio
import collections
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Sequence

from budgetguard.errors import StoreError
from budgetguard.stores._redis_link import AsyncLink, Link
from budgetguard.stores._redis_server import Server
from budgetguard.stores._redis_wire import Call, Names, Page, Scan, Step

__all__ = ["AsyncLanes", "Lanes", "Rules"]

_LANES = 2
_BATCH_MAX = 128


class Rules:
    """What all calls of a store have in common."""

    __slots__ = ("forget", "keep", "names", "server")

    def __init__(self, server: Server, names: Names, forget: float) -> None:
        self.server = server
        self.names = names
        self.forget = int(forget * 1_000_000)
        self.keep = int(max(60.0, 10 * server.timeout) * 1000)
        """Milliseconds for which the server knows what a sender did last: longer than it may be sent again."""


class _Sender:
    """Numbers the calls of one lane, so that the server does none of them twice."""

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self.number = 0

    def calls(self, rules: Rules, steps: Sequence[Step]) -> list[Call | Page]:
        """Put steps into calls, one for each account, in their order."""
        self.number += 1
        pages: list[Call | Page] = [Page(rules.names, step) for step in steps if type(step) is Scan]
        rest = [step for step in steps if type(step) is not Scan] if pages else steps
        if len(rest) == 1:
            return [*pages, self._call(rules, rest[0].account, rest)]
        accounts: dict[str, list[Step]] = {}
        for step in rest:
            accounts.setdefault(step.account, []).append(step)
        return pages + [self._call(rules, account, of) for account, of in accounts.items()]

    def _call(self, rules: Rules, account: str, steps: Sequence[Step]) -> Call:
        return Call(
            rules.names, account, steps, sender=self.name, number=self.number, forget=rules.forget, keep=rules.keep
        )


class _Lane(_Sender):
    __slots__ = ("link",)

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.link = Link(server)


class _Waiter:
    """A thread with a step to be performed; by another thread, or by itself and for others too."""

    __slots__ = ("batch", "calls", "lane", "signal", "step")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.signal: threading.Lock | None = None
        """Released when the step is done, or when a lane is handed over."""
        self.lane: _Lane | None = None
        self.batch: list[_Waiter] = []
        self.calls: list[Call | Page] | None = None

    def wake(self) -> None:
        if self.signal is not None:
            self.signal.release()


class Lanes:
    """The lanes of the threads of a process."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._lock = threading.Lock()
        self._all = [_Lane(rules.server) for _ in range(_LANES)]
        self._free = list(self._all)
        self._queue: collections.deque[_Waiter] = collections.deque()
        self._closed = False

    def run(self, step: Step) -> None:
        """Perform a step; its answer, or its error, is in it afterwards."""
        mine = _Waiter(step)
        with self._lock:
            if self._free and not self._closed:
                mine.lane = self._free.pop()
            elif not self._closed:
                mine.signal = threading.Lock()
                mine.signal.acquire()
                self._queue.append(mine)
            else:
                raise _closed()
        if mine.signal is None:
            mine.batch = [mine]
        else:
            self._wait(mine, mine.signal)
        if mine.lane is not None:
            self._lead(mine, mine.lane)

    def _wait(self, mine: _Waiter, signal: threading.Lock) -> None:
        # Those before us take at most one exchange, and ours another.
        try:
            if signal.acquire(timeout=3 * self._rules.server.timeout + 1):
                return
        except BaseException:
            self._leave(mine)
            raise
        unsent = self._leave(mine)
        mine.step.error = _busy(sent=not unsent)

    def _leave(self, mine: _Waiter) -> bool:
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
                return True
            lane, mine.lane = mine.lane, None
        if lane is not None:
            self._hand_over(mine, lane)
        return False

    def _lead(self, mine: _Waiter, lane: _Lane) -> None:
        try:
            if mine.calls is None:
                mine.calls = lane.calls(self._rules, [waiter.step for waiter in mine.batch])
            lane.link.exchange(mine.calls)
        except BaseException:
            # Interrupted, not failed: one of the others asks again, which does nothing twice.
            self._hand_over(mine, lane)
            raise
        self._pass(lane)
        for waiter in mine.batch:
            if waiter is not mine:
                waiter.wake()

    def _hand_over(self, mine: _Waiter, lane: _Lane) -> None:
        others = [waiter for waiter in mine.batch if waiter is not mine]
        if others:
            heir = others[0]
            heir.calls, heir.batch = mine.calls, others
            heir.lane = lane
            heir.wake()
        else:
            self._pass(lane)

    def _pass(self, lane: _Lane) -> None:
        with self._lock:
            if not self._queue:
                self._free.append(lane)
                closed = self._closed
                leader = None
            else:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH_MAX))]
                leader, closed = batch[0], False
                leader.batch = batch
                leader.lane = lane
        if leader is not None:
            leader.wake()
        elif closed:
            lane.link.close()

    def close(self) -> None:
        """Close the connections; those in use, when what is under way has ended."""
        with self._lock:
            self._closed = True
            free = list(self._free)
        for lane in free:
            lane.link.close()


class _AsyncLane(_Sender):
    __slots__ = ("link",)

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.link = AsyncLink(server)


class AsyncLanes:
    """The lanes of the tasks of one event loop."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._free = [_AsyncLane(rules.server) for _ in range(_LANES)]
        self._queue: collections.deque[tuple[Step, asyncio.Future[None], float]] = collections.deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._closed = False
        self.end: AsyncGenerator[None] | None = None
        """Kept as long as the loop runs; closes the lanes when it ends."""
        self.closing: asyncio.Task[None] | None = None

    async def run(self, step: Step) -> None:
        """Perform a step; its answer, or its error, is in it afterwards."""
        if self._closed:
            raise _closed()
        if self._free:
            lane = self._free.pop()
            try:
                await lane.link.exchange(lane.calls(self._rules, (step,)))
            finally:
                await self._put_back(lane)
            return
        future = asyncio.get_running_loop().create_future()
        self._queue.append((step, future, time.monotonic()))
        await future

    async def _put_back(self, lane: _AsyncLane) -> None:
        self._pass(lane)
        if self._closed:
            await lane.link.close()

    def _pass(self, lane: _AsyncLane) -> None:
        batch: list[tuple[Step, asyncio.Future[None]]] = []
        latest = time.monotonic() - 2 * self._rules.server.timeout
        while self._queue and len(batch) < _BATCH_MAX:
            step, future, since = self._queue.popleft()
            if future.done():
                continue  # cancelled meanwhile; it sends nothing
            if since < latest:
                step.error = _busy(sent=False)
                future.set_result(None)
            else:
                batch.append((step, future))
        if batch:
            flight = asyncio.get_running_loop().create_task(self._fly(lane, batch))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        else:
            self._free.append(lane)

    async def _fly(self, lane: _AsyncLane, batch: list[tuple[Step, asyncio.Future[None]]]) -> None:
        try:
            await lane.link.exchange(lane.calls(self._rules, [step for step, _ in batch]))
        finally:
            for _, future in batch:
                if not future.done():
                    future.set_result(None)
            self._pass(lane)

    async def close(self) -> None:
        """Close the connections; those in use, when what is under way has ended."""
        self._closed = True
        while self._flights:
            await asyncio.wait(self._flights)
        for lane in self._free:
            await lane.link.close()


def _busy(*, sent: bool) -> StoreError:
    what = "It may have been applied." if sent else "Nothing was sent."
    return StoreError(f"The store is slow or cannot be reached: those in front took too long. {what}", unreachable=True)


def _closed() -> StoreError:
    return StoreError("The store was closed while this call began.")
