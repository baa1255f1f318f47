"""Both drivers perform every step alike: in threads, on asyncio and on trio."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

import anyio
import anyio.to_thread
import pytest

from budgetguard._core.account import Account
from budgetguard._core.line import Ticket
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
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard._drivers.concurrent import ConcurrentDriver
from budgetguard.errors import StoreError
from budgetguard.events import Event
from budgetguard.model import Outcome, Reading, Verdict
from budgetguard.policy import Policy
from budgetguard.ports import Put, Transaction
from budgetguard.stores.memory import MemoryStore

READING = Fetched(Reading(7))
VERDICT = Verdict(Outcome.ACCEPTED)
PATIENCE = 10.0


class Way:
    """One driver, used as a plain function."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.store = MemoryStore()
        self.told: list[Event] = []
        self.account = Account("p:a", Policy())
        self.account.lock = threading.Lock()

    def run(
        self,
        flow: Flow[Any],
        *,
        fetch: Callable[[], Fetched] | None = None,
        send: Callable[[], Verdict] | None = None,
        ask: Callable[[Sequence[str]], Sequence[Asked]] | None = None,
        store: Any = None,
    ) -> Any:
        chosen = self.store if store is None else store
        if self.kind == "threads":
            return BlockingDriver(chosen, self.told.append).run(self.account, flow, fetch=fetch, send=send, ask=ask)
        return anyio.run(self._arun, chosen, flow, fetch, send, ask, backend=self.kind)

    async def _arun(self, store: Any, flow: Flow[Any], fetch: Any, send: Any, ask: Any) -> Any:
        async def afetch() -> Fetched:
            await anyio.lowlevel.checkpoint()
            return fetch()  # type: ignore[no-any-return]

        async def asend() -> Verdict:
            await anyio.lowlevel.checkpoint()
            return send()  # type: ignore[no-any-return]

        async def aask(task_ids: Sequence[str]) -> Sequence[Asked]:
            await anyio.lowlevel.checkpoint()
            return ask(task_ids)  # type: ignore[no-any-return]

        driver = ConcurrentDriver(store, self.told.append)
        return await driver.run(
            self.account,
            flow,
            fetch=None if fetch is None else afetch,
            send=None if send is None else asend,
            ask=None if ask is None else aask,
        )


@pytest.fixture(params=["threads", "asyncio", "trio"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


def one(step: Step[Any]) -> Flow[Any]:
    return (yield from step)


def test_a_transaction_and_a_look_reach_the_store_and_their_answers_the_flow(way: Way) -> None:
    def flow() -> Flow[tuple[int, dict[str, bytes], dict[str, bytes]]]:
        put = {"r": Put(b"1", 0.0), "s": Put(b"2")}
        done = yield from Transact("p:a", Transaction(add={"x": 3}, put=put))
        named = yield from Load("p:a", ("s", "absent"))
        due = yield from Load("p:a", due=True)
        return done.counters["x"], named.records, due.records

    assert way.run(flow()) == (3, {"s": b"2"}, {"r": b"1"})


def test_events_reach_who_listens_in_order(way: Way) -> None:
    def flow() -> Flow[str]:
        for at in range(3):
            yield from Tell(Event("p:a", at))
        return "end"

    assert way.run(flow()) == "end"
    assert [event.at for event in way.told] == [0, 1, 2]


def test_the_balance_is_fetched_and_the_call_is_sent_by_who_runs_the_flow(way: Way) -> None:
    assert way.run(one(Fetch("p:a")), fetch=lambda: READING) is READING
    assert way.run(one(Send("h")), send=lambda: VERDICT) is VERDICT


def test_tasks_are_asked_about_by_who_runs_the_flow(way: Way) -> None:
    answers = {"a": Asked(None, "no"), "b": Asked(None, "perhaps", again=True)}
    given = way.run(one(Ask("p:a", ["b", "a"])), ask=lambda ids: [answers[name] for name in ids])
    assert given == [answers["b"], answers["a"]]
    assert way.run(one(Ask("p:a", ["a"]))) is None, "nobody can ask"


def test_the_records_of_an_account_reach_the_flow_page_by_page(way: Way) -> None:
    def flow() -> Flow[list[int]]:
        yield from Transact("p:a", Transaction(put={f"r{number}": Put(b"1") for number in range(150)}))
        pages, cursor = [], ""
        while True:
            page = yield from Scan("p:a", cursor)
            pages.append(len(page.records))
            cursor = page.cursor
            if not cursor:
                return pages

    assert way.run(flow()) == [100, 50]


def test_where_nobody_can_ask_for_the_balance_there_is_no_reading(way: Way) -> None:
    fetched = way.run(one(Fetch("p:a")))
    assert fetched.reading is None
    assert "nobody" in fetched.why


def test_a_step_nobody_knows_is_refused(way: Way) -> None:
    class Jump(Step[None]):
        __slots__ = ()

    with pytest.raises(NotImplementedError):
        way.run(one(Jump()))


def test_a_wake_up_that_came_before_the_wait_is_not_lost_and_counts_once(way: Way) -> None:
    ticket = Ticket()

    def flow() -> Flow[tuple[bool, bool]]:
        yield from Wake(ticket)
        first = yield from Wait(ticket, PATIENCE)
        return first, (yield from Wait(ticket, 0.0))

    assert way.run(flow()) == (True, False)


def test_waiting_ends_when_its_time_is_over(way: Way) -> None:
    for seconds in (0.0, -1.0, 0.001):
        assert way.run(one(Wait(Ticket(), seconds))) is False


@pytest.mark.parametrize("seconds", [PATIENCE, None])
def test_waiting_ends_when_another_thread_wakes(way: Way, seconds: float | None) -> None:
    ticket = Ticket()

    def wake() -> None:
        while ticket.signal is None:
            pass
        with way.account.lock:
            ticket.wake()

    waker = threading.Thread(target=wake)
    waker.start()
    assert way.run(one(Wait(ticket, seconds))) is True
    waker.join(PATIENCE)
    assert ticket.signal is None
    assert not ticket.woken


def test_a_transaction_of_anybody_wakes_who_waits(way: Way) -> None:
    ticket = Ticket()
    way.account.watchers.add(ticket)

    def changed() -> None:
        with way.account.lock:
            for other in way.account.changed():
                other.wake()

    way.store.watch("p:a", changed)

    def act() -> None:
        while ticket.signal is None:
            pass
        way.store.transact("p:a", Transaction(wake=True))

    actor = threading.Thread(target=act)
    actor.start()
    assert way.run(one(Wait(ticket, PATIENCE))) is True
    actor.join(PATIENCE)


def closing(step: Step[Any], log: list[str]) -> Flow[None]:
    try:
        yield step
    finally:
        log.append("closed")


@pytest.mark.parametrize("error", [ValueError, StoreError, KeyboardInterrupt, SystemExit])
def test_whatever_interrupts_a_step_closes_the_flow_and_is_raised(way: Way, error: type[BaseException]) -> None:
    def fail(*_args: Any, **_named: Any) -> Any:
        raise error("at the step")

    class Broken:
        transact = load = staticmethod(fail)

        async def atransact(self, *_args: Any) -> Any:
            fail()

        aload = atransact

    cases: list[tuple[Step[Any], dict[str, Any]]] = [
        (Send("h"), {"send": fail}),
        (Fetch("p:a"), {"fetch": fail}),
        (Transact("p:a", Transaction()), {"store": Broken()}),
    ]
    for step, given in cases:
        log: list[str] = []
        with pytest.raises(error):
            way.run(closing(step, log), **given)
        assert log == ["closed"]


def test_what_a_flow_raises_is_raised(way: Way) -> None:
    def flow() -> Flow[None]:
        yield from Load("p:a")
        raise LookupError

    with pytest.raises(LookupError):
        way.run(flow())


def test_the_account_is_locked_while_a_flow_decides_and_free_while_a_step_is_performed(way: Way) -> None:
    lock = way.account.lock
    assert isinstance(lock, type(threading.Lock()))
    seen: list[bool] = []

    def flow() -> Flow[None]:
        seen.append(lock.locked())
        yield from Send("h")
        seen.append(lock.locked())

    def send() -> Verdict:
        seen.append(lock.locked())
        return VERDICT

    way.run(flow(), send=send)
    assert seen == [True, False, True]
    assert not lock.locked()


# -- on an event loop -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("step", [Wait(Ticket(), None), Wait(Ticket(), 0.0), Send("h")], ids=["wait", "look", "send"])
def test_a_cancellation_closes_the_flow(backend: str, step: Step[Any]) -> None:
    log: list[str] = []
    way = Way(backend)

    async def forever() -> Verdict:
        await anyio.sleep_forever()
        raise AssertionError

    def flow() -> Flow[None]:
        try:
            while True:
                yield step
        finally:
            log.append("closed")

    async def main() -> None:
        driver = ConcurrentDriver(way.store, way.told.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: driver.run(way.account, flow(), send=forever))
            await anyio.wait_all_tasks_blocked() if not isinstance(step, Wait) or step.seconds is None else None
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert log in (["closed"], [])  # a task cancelled before its first step has nothing to close


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_task_wakes_another_on_the_same_loop(backend: str) -> None:
    ticket, way = Ticket(), Way(backend)
    woken: list[bool] = []

    async def main() -> None:
        driver = ConcurrentDriver(way.store, way.told.append)

        async def wait() -> None:
            woken.append(await driver.run(way.account, one(Wait(ticket, PATIENCE))))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await driver.run(way.account, one(Wake(ticket)))

    anyio.run(main, backend=backend)
    assert woken == [True]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_wait_leaves_nothing_behind_when_it_is_cancelled(backend: str) -> None:
    ticket, way = Ticket(), Way(backend)

    async def main() -> None:
        driver = ConcurrentDriver(way.store, way.told.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: driver.run(way.account, one(Wait(ticket, None))))
            await anyio.wait_all_tasks_blocked()
            assert ticket.signal is not None
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert ticket.signal is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waking_somebody_whose_loop_has_ended_is_harmless(backend: str) -> None:
    ticket, way, kept = Ticket(), Way(backend), list[Any]()

    async def main() -> None:
        driver = ConcurrentDriver(way.store, way.told.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: driver.run(way.account, one(Wait(ticket, None))))
            await anyio.wait_all_tasks_blocked()
            kept.append(ticket.signal)
            tasks.cancel_scope.cancel()

    thread = threading.Thread(target=lambda: anyio.run(main, backend=backend))
    thread.start()
    thread.join(PATIENCE)
    kept[0].set()


def test_loops_in_several_threads_share_one_driver() -> None:
    way = Way("asyncio")
    driver = ConcurrentDriver(way.store, way.told.append)
    tickets = [Ticket() for _ in range(3)]
    woken: list[bool] = []

    def wait(ticket: Ticket, backend: str) -> None:
        async def main() -> None:
            woken.append(await driver.run(way.account, one(Wait(ticket, PATIENCE))))

        anyio.run(main, backend=backend)

    threads = [
        threading.Thread(target=wait, args=given) for given in zip(tickets, ("asyncio", "trio", "asyncio"), strict=True)
    ]
    for thread in threads:
        thread.start()

    async def wake() -> None:
        for ticket in tickets:
            while ticket.signal is None:
                await anyio.to_thread.run_sync(lambda: None)
            await driver.run(way.account, one(Wake(ticket)))

    anyio.run(wake)
    for thread in threads:
        thread.join(PATIENCE)
    assert woken == [True] * 3


def test_a_generator_is_all_a_driver_needs(way: Way) -> None:
    def flow() -> Generator[Step[Any], Any, int]:
        yield from ()
        return 5

    assert way.run(flow()) == 5
