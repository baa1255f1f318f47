"""How callers share few connections: what waits at the same moment travels together, for threads and on asyncio.

At most two batches are under way at a time, each on a lane of its own; what gathers meanwhile leaves as the next one.
Nobody waits for others to come: a caller who finds a lane free leaves at once, alone.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Sequence

from budgetguard.errors import StoreError
from budgetguard.stores._redis_form import SENDER_SIZE
from budgetguard.stores._redis_link import AsyncLink, Link
from budgetguard.stores._redis_server import Server
from budgetguard.stores._redis_wire import Address, Call, Names, Page, Scan, Step

__all__ = ["AsyncLanes", "Lanes", "Rules"]

_LANES = 2
_BATCH_MAX = 128
_SIZE_MAX = 3000
"""Counters named by those who travel together; the script takes a few thousand."""
_SLICE = 0.1
"""Seconds after which one who waits looks whether the thread he waits for is still there."""


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
        self.name = secrets.token_hex(SENDER_SIZE // 2)
        self.number = 0

    def calls(self, rules: Rules, steps: Sequence[Step]) -> list[Call | Page]:
        """Put steps into calls, one for each account, in their order."""
        self.number += 1
        if len(steps) == 1 and type(steps[0]) is not Scan:
            return [self._call(rules, steps[0].address, steps)]
        pages: list[Call | Page] = [Page(step) for step in steps if type(step) is Scan]
        rest = [step for step in steps if type(step) is not Scan] if pages else steps
        accounts: dict[str, list[Step]] = {}
        for step in rest:
            accounts.setdefault(step.address.channel, []).append(step)
        return pages + [self._call(rules, of[0].address, of) for of in accounts.values()]

    def _call(self, rules: Rules, address: Address, steps: Sequence[Step]) -> Call:
        head = address.head(self.name)
        return Call(address, head, steps, number=self.number, forget=rules.forget, keep=rules.keep)


class _Lane(_Sender):
    __slots__ = ("link",)

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.link = Link(server)


class _Waiter:
    """A thread with a step to be performed; by another thread, or by itself and for others too."""

    __slots__ = ("done", "gone", "signal", "step")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.done = False
        self.gone = False
        """Whether its thread was interrupted: it waits for nothing any more, and leads nobody."""
        self.signal: threading.Lock | None = None
        """Released when there is something to see: the step is done, or its turn to lead has come."""

    def wake(self) -> None:
        if self.signal is not None:
            with contextlib.suppress(RuntimeError):  # it was told already
                self.signal.release()


class _Flight:
    """Those who travel together on a lane. The first of them asks, for all."""

    __slots__ = ("batch", "calls", "over")

    def __init__(self, batch: Sequence[_Waiter], calls: list[Call | Page] | None = None) -> None:
        self.batch = batch
        self.calls = calls
        self.over = False

    def unless_gone(self) -> _Flight | None:
        """Give the flight itself, or that of those who are left of it without its leader."""
        if not self.batch[0].gone:
            return self
        heirs = [waiter for waiter in self.batch if not waiter.gone]
        return _Flight(heirs, self.calls) if heirs else None


class Lanes:
    """The lanes of the threads of a process.

    An exception may interrupt a thread anywhere, as Ctrl-C does. So who has which lane, and who waits, is one value,
    always replaced as a whole; and a thread that is interrupted says so in its waiter, with nothing to call. Whoever
    comes next finds by that what it had, and gives it on.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._lock = threading.Lock()
        self._all = [_Lane(rules.server) for _ in range(_LANES)]
        self._state: tuple[tuple[_Flight | None, ...], tuple[_Waiter, ...]] = ((None,) * _LANES, ())
        """What is under way on each lane, and who waits for one, in their order."""
        self._closed = False

    def run(self, step: Step) -> None:
        """Perform a step; its answer, or its error, is in it afterwards."""
        mine = _Waiter(step)
        try:
            place = self._enter(mine)
            if place is None:
                self._wait(mine)
                place = self._led_by(mine)
            if not mine.done and place is not None:
                self._lead(place)
        except BaseException:
            mine.gone = True
            self._settle()
            raise

    def _enter(self, mine: _Waiter) -> int | None:
        # Which lane was free, if any.
        with self._lock:
            if self._closed:
                raise _closed()
            flights, queue = self._state
            for place, flight in enumerate(flights):
                if flight is None:
                    self._state = (*flights[:place], _Flight((mine,)), *flights[place + 1 :]), queue
                    return place
            mine.signal = threading.Lock()
            mine.signal.acquire()
            self._state = flights, (*queue, mine)
        if any(flight is not None and flight.batch[0].gone for flight in flights):
            self._settle()
        return None

    def _wait(self, mine: _Waiter) -> None:
        # Those before us take at most one exchange, and ours another.
        until = time.monotonic() + 3 * self._rules.server.timeout + 1
        while not mine.done and self._led_by(mine) is None:
            left = until - time.monotonic()
            if left <= 0:
                self._give_up(mine)
            elif mine.signal is not None and not mine.signal.acquire(timeout=min(_SLICE, left)):
                self._settle()

    def _give_up(self, mine: _Waiter) -> None:
        with self._lock:
            unsent = mine in self._state[1]
            mine.gone = True
        self._settle()
        if not mine.done:
            mine.step.error = _busy(sent=not unsent)
            mine.done = True

    def _led_by(self, mine: _Waiter) -> int | None:
        for place, flight in enumerate(self._state[0]):
            if flight is not None and flight.batch[0] is mine:
                return place
        return None

    def _lead(self, place: int) -> None:
        flight = self._state[0][place]
        if flight is None:
            return
        lane = self._all[place]
        if flight.calls is None:
            if self._state[1]:
                flight = self._take_along(place, flight)
            flight.calls = lane.calls(self._rules, [waiter.step for waiter in flight.batch])
        # Interrupted here, not failed: one of the others asks again, which does nothing twice.
        lane.link.exchange(flight.calls)
        flight.over = True
        with self._lock:
            flights, queue = self._state
            if not (queue or self._closed or len(flight.batch) > 1):
                # Nobody waits for anything, so there is nothing to give on.
                self._state = tuple([None if other is flight else other for other in flights]), queue
                return
        self._settle()

    def _take_along(self, place: int, flight: _Flight) -> _Flight:
        """Let those come along who queued since the flight was made up: those who were just answered want more."""
        with self._lock:
            flights, queue = self._state
            room = [*flight.batch, *(waiter for waiter in queue if not waiter.gone)][:_BATCH_MAX]
            count = _together([waiter.step for waiter in room])
            longer = _Flight(tuple(room[:count]))
            taken = set(longer.batch)
            left = tuple(waiter for waiter in queue if not (waiter.gone or waiter in taken))
            self._state = (*flights[:place], longer, *flights[place + 1 :]), left
        return longer

    def _settle(self) -> None:
        """Give on the lanes of flights that are over, or whose leader is gone. May be called at any time."""
        with self._lock:
            flights, queue = self._state
            landed = [flight for flight in flights if flight is not None and flight.over]
            after: list[_Flight | None] = []
            for flight in flights:
                following = None if flight is None or flight.over else flight.unless_gone()
                if following is None:
                    queue, following = _next(queue)
                after.append(following)
            for waiter in _everybody(landed):
                waiter.done = True
            self._state = tuple(after), queue
        # Those who were answered first: what they want next may come along.
        for waiter in _everybody(landed):
            waiter.wake()
        for following in after:
            if following is not None:
                following.batch[0].wake()
        if self._closed:
            for lane, following in zip(self._all, after, strict=True):
                if following is None:
                    lane.link.close()

    def close(self) -> None:
        """Close the connections; those in use, when what is under way has ended."""
        with self._lock:
            self._closed = True
        self._settle()


def _next(queue: tuple[_Waiter, ...]) -> tuple[tuple[_Waiter, ...], _Flight | None]:
    if not queue:
        return queue, None
    waiting = tuple(waiter for waiter in queue if not waiter.gone)
    count = _together([waiter.step for waiter in waiting[:_BATCH_MAX]])
    return waiting[count:], _Flight(waiting[:count]) if count else None


def _together(steps: Sequence[Step]) -> int:
    """Tell how many of those who wait can travel together; one can always."""
    size = 0
    for number, step in enumerate(steps):
        size += step.size
        if size > _SIZE_MAX and number:
            return number
    return len(steps)


def _everybody(flights: Sequence[_Flight]) -> list[_Waiter]:
    return [waiter for flight in flights for waiter in flight.batch]


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
                if self._queue or self._closed:
                    await self._put_back(lane)
                else:
                    self._free.append(lane)
            return
        future = asyncio.get_running_loop().create_future()
        self._queue.append((step, future, time.monotonic()))
        await future

    async def _put_back(self, lane: _AsyncLane) -> None:
        self._pass(lane)
        if self._closed and lane in self._free:
            await lane.link.close()

    def _pass(self, lane: _AsyncLane) -> None:
        if self._queue:
            flight = asyncio.get_running_loop().create_task(self._fly(lane))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        else:
            self._free.append(lane)

    async def _fly(self, lane: _AsyncLane) -> None:
        # Gathered here, not before: those who were just answered have come back with what they want next.
        batch = self._gather()
        try:
            if batch:
                await lane.link.exchange(lane.calls(self._rules, [step for step, _ in batch]))
        finally:
            for _, future in batch:
                if not future.done():
                    future.set_result(None)
            await self._put_back(lane)

    def _gather(self) -> list[tuple[Step, asyncio.Future[None]]]:
        batch: list[tuple[Step, asyncio.Future[None]]] = []
        size = 0
        latest = time.monotonic() - 2 * self._rules.server.timeout
        while self._queue and len(batch) < _BATCH_MAX:
            step, future, since = waiter = self._queue.popleft()
            size += step.size
            if size > _SIZE_MAX and batch:
                self._queue.appendleft(waiter)
                break
            if future.done():
                continue  # cancelled meanwhile; it sends nothing
            if since < latest:
                step.error = _busy(sent=False)
                future.set_result(None)
            else:
                batch.append((step, future))
        return batch

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
