from __future__ import annotations

import errno
import gc
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest
import structlog.testing

import budgetguard.engine
from budgetguard import AsyncGuard, Guard, Policy, SettingError, State, TaskState
from budgetguard._core.settlement import call
from budgetguard._core.steps import Fetched
from budgetguard.events import Admitted, Event, TaskEnded
from budgetguard.instruments import LogObserver
from budgetguard.model import Capacity, Outcome, Quote, Reading, Verdict
from budgetguard.providers import Vidu
from budgetguard.stores import MemoryStore
from budgetguard.testing import ManualClock

pytestmark = pytest.mark.smoke

KEY = "vda_made_up_for_tests_0001"
OTHER = "vda_made_up_for_tests_0002"

Kind = type[Guard] | type[AsyncGuard]


@pytest.fixture(params=[Guard, AsyncGuard])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


class Face:
    """Either guard, used as a plain one."""

    def __init__(self, kind: Kind, **settings: Any) -> None:
        self.clock = ManualClock(1000.0)
        self.store = settings.pop("store", MemoryStore(self.clock))
        self.guard: Any = kind(Vidu(), store=self.store, **settings)

    def do(self, what: Any, *given: Any, **named: Any) -> Any:
        if isinstance(self.guard, Guard):
            return what(*given, **named)

        async def main() -> Any:
            return await what(*given, **named)

        return anyio.run(main)

    def spend(self, task_id: str, credits_: int = 10, key: str = KEY) -> None:
        """Have a call accepted."""
        guard = self.guard
        account = guard.engine.account(key)
        hold = guard.engine.hold(Quote(credits_))
        reading = Fetched(Reading(100, {"": Capacity(4, 0)}))
        verdict = Verdict(Outcome.ACCEPTED, task_id=task_id)
        if isinstance(guard, Guard):
            guard.driver.run(account, call(account, hold), fetch=lambda: reading, send=lambda: verdict)
            return

        async def fetch() -> Fetched:
            return reading

        async def send() -> Verdict:
            return verdict

        self.do(guard.driver.run, account, call(account, hold), fetch=fetch, send=send)

    def finished(self, *given: Any, **named: Any) -> bool:
        return bool(self.do(self.guard.finished, *given, **named))

    def state(self, key: str | None = None) -> State:
        state: State = self.do(self.guard.state, key)
        return state

    def running(self, key: str | None = None) -> int:
        return self.state(key).pools[""].running


# -- accounts -------------------------------------------------------------------------------------------------------


def test_an_account_is_named_by_the_provider_and_a_fingerprint_of_its_key(kind: Kind) -> None:
    guard = kind(Vidu())
    name = guard.account_name(KEY)
    assert name.startswith("vidu:")
    assert KEY not in name
    assert len(name) == len("vidu:") + 16
    assert name == guard.account_name(KEY) == kind(Vidu()).account_name(KEY) != guard.account_name(OTHER)


def test_another_fingerprint_key_gives_other_names(kind: Kind) -> None:
    names = {kind(Vidu(), fingerprint_key=secret).account_name(KEY) for secret in (b"", b"a", b"b", b"x" * 64)}
    assert len(names) == 4


def test_keys_named_together_are_one_account_and_others_each_their_own(kind: Kind) -> None:
    guard = kind(Vidu(), accounts={"team": [KEY, OTHER], "idle": []})
    assert guard.account_name(KEY) == guard.account_name(OTHER) == "vidu:team"
    assert guard.account_name("vda_third").startswith("vidu:")
    assert guard.account_name("vda_third") != "vidu:team"


def test_a_key_may_hold_any_character(kind: Kind) -> None:
    assert kind(Vidu()).account_name("kéy 猫").startswith("vidu:")


def test_guards_that_share_a_store_share_their_accounts(kind: Kind) -> None:
    one = Face(kind)
    other = Face(kind, store=one.store)
    one.spend("t")
    assert other.running(KEY) == 1
    assert other.finished("t", key=KEY)
    assert one.running() == 0


def test_a_guard_that_has_met_no_pool_yet_shows_those_in_the_store(kind: Kind) -> None:
    one = Face(kind)
    one.spend("t")
    assert list(Face(kind, store=one.store).state(KEY).pools) == [""]


def test_idle_accounts_are_forgotten_beyond_a_bound_and_those_in_use_stay(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgetguard.engine, "_ACCOUNTS_MAX", 10)
    face = Face(kind)
    engine = face.guard.engine
    used = engine.account(KEY)
    for number in range(30):  # to learn a key's fingerprint takes long on purpose
        engine.account(f"vda_{number}")
    gc.collect()
    assert engine.account(KEY) is used
    assert len(engine.accounts()) <= 11
    watching = [name for name, books in face.store._accounts.items() if books.watchers]
    assert len(watching) <= 13


def test_an_account_that_was_forgotten_is_found_again_in_the_store(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgetguard.engine, "_ACCOUNTS_MAX", 2)
    face = Face(kind)
    face.spend("t")
    for number in range(20):
        face.guard.account_name(f"vda_{number}")
    gc.collect()
    assert face.running(KEY) == 1
    assert face.finished("t", key=KEY)


def test_many_threads_that_meet_an_account_at_once_get_the_same() -> None:
    engine = Guard(Vidu()).engine
    barrier, found = threading.Barrier(8), list[Any]()

    def meet() -> None:
        barrier.wait(10)
        found.append(engine.account(KEY))

    threads = [threading.Thread(target=meet) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


# -- finished -------------------------------------------------------------------------------------------------------


def test_threads_that_ask_for_the_first_time_at_once_ask_with_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3)

    class Slow(httpx.HTTPTransport):
        def __init__(self) -> None:
            together.wait(10)
            super().__init__()

    monkeypatch.setattr(httpx, "HTTPTransport", Slow)
    with Guard(Vidu(), api_key="k") as guard, ThreadPoolExecutor(3) as pool:
        askings = list(pool.map(lambda _: guard.asking, range(3)))
        assert {*askings, guard.asking} == {guard.asking}


def test_telling_that_a_task_has_ended_frees_its_slot_once(kind: Kind) -> None:
    told: list[Event] = []
    face = Face(kind, observers=[told.append])
    face.spend("t")
    assert face.running() == 1
    assert [face.finished("t"), face.finished("t")] == [True, False]
    assert face.running() == 0
    assert [type(event) for event in told].count(TaskEnded) == 1


def test_telling_of_a_task_nobody_knows_changes_nothing(kind: Kind) -> None:
    face = Face(kind)
    assert face.finished("t") is False
    face.spend("t2")
    before = face.state()
    assert face.finished("nobody's") is False
    assert face.finished("t2", key=OTHER) is False
    assert face.state(KEY) == before


@pytest.mark.parametrize("state", [*[state for state in TaskState if state.ended], "succeeded", "failed", "cancelled"])
def test_a_task_may_end_well_badly_or_cancelled(kind: Kind, state: TaskState | str) -> None:
    face = Face(kind)
    face.spend("t")
    assert face.finished("t", state=state)


@pytest.mark.parametrize("state", ["running", TaskState.RUNNING, "done", "", None, 5])
def test_a_state_in_which_no_task_ends_is_refused(kind: Kind, state: Any) -> None:
    face = Face(kind)
    face.spend("t")
    with pytest.raises(SettingError, match="give 'succeeded', 'failed' or 'cancelled'"):
        face.finished("t", state=state)
    assert face.running() == 1


def test_a_charge_told_at_the_end_is_counted(kind: Kind) -> None:
    face = Face(kind)
    face.spend("t", 30)
    assert face.state().credits_free == 70
    face.finished("t", charge=20)
    assert face.state().credits_free == 80


@pytest.mark.parametrize("charge", [-1, -1000, 1.5, "4", True, float("nan"), 10**16])
def test_a_charge_that_is_no_number_of_credits_is_refused_and_changes_nothing(kind: Kind, charge: Any) -> None:
    face = Face(kind)
    face.spend("t", 30)
    with pytest.raises(SettingError, match="charge"):
        face.finished("t", charge=charge)
    assert (face.state().credits_free, face.running()) == (70, 1)


@pytest.mark.parametrize("task_id", [None, 5, b"t", "", ["t"]])
def test_an_id_that_is_no_text_is_refused(kind: Kind, task_id: Any) -> None:
    face = Face(kind)
    with pytest.raises(SettingError, match="give the provider's id as text"):
        face.finished(task_id)


def test_a_task_is_found_among_all_accounts_the_guard_knows(kind: Kind) -> None:
    face = Face(kind)
    face.spend("a", key=KEY)
    face.spend("b", key=OTHER)
    assert face.finished("b")
    assert (face.running(KEY), face.running(OTHER)) == (1, 0)


# -- state ----------------------------------------------------------------------------------------------------------


def test_the_state_is_told_without_asking_the_provider(kind: Kind) -> None:
    face = Face(kind, policy=Policy(credits_headroom=5, slots_headroom=1))
    face.spend("t", 30)
    face.clock.advance(2.5)
    state = face.state()
    assert (state.account, state.balance) == (face.guard.account_name(KEY), 100)
    assert (state.credits_free, state.credits_held) == (65, 30)
    pool = state.pools[""]
    assert (pool.limit, pool.free, pool.open, pool.running, pool.waiting) == (4, 2, 0, 1, 0)
    assert state.age is not None
    assert math.isclose(state.age, 2.5, abs_tol=0.001)
    assert state.paused == 0


def test_the_state_of_an_account_nobody_has_looked_at_says_so(kind: Kind) -> None:
    state = Face(kind).state(KEY)
    assert (state.balance, state.age, state.credits_free, dict(state.pools)) == (None, None, 0, {})


@pytest.mark.parametrize("keys", [[], [KEY, OTHER]])
def test_whose_state_is_meant_must_be_clear(kind: Kind, keys: list[str]) -> None:
    face = Face(kind)
    kept = [face.guard.engine.account(key) for key in keys]
    how_many = f"knows {len(keys)} accounts" if keys else "no call has been made yet"
    with pytest.raises(SettingError, match=f"{how_many}, so say whose account by giving the API key"):
        face.state()
    assert len(kept) == len(keys)
    assert face.state(KEY).account == face.guard.account_name(KEY)


# -- observers ------------------------------------------------------------------------------------------------------


def test_every_observer_is_told_everything(kind: Kind) -> None:
    told: tuple[list[Event], list[Event]] = ([], [])
    face = Face(kind, observers=[told[0].append, told[1].append])
    face.spend("t")
    assert told[0] == told[1]
    assert [type(event).__name__ for event in told[0]] == ["Refreshed", "Admitted", "Settled"]


def test_an_observer_that_fails_never_stops_a_call_nor_the_others_and_is_logged_once(kind: Kind) -> None:
    told: list[Event] = []

    def broken(event: Event) -> None:
        raise LookupError(f"at {event.at}")

    face = Face(kind, observers=[broken, told.append])
    with structlog.testing.capture_logs() as logs:
        for number in range(3):
            face.spend(f"t{number}")
    assert sum(isinstance(event, Admitted) for event in told) == 3
    assert [log["event"] for log in logs] == ["observer_failed"]
    assert logs[0]["error"] == "LookupError"


def test_a_log_that_cannot_be_written_stops_no_call(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(structlog, "get_logger", full)
    told: list[Event] = []
    face = Face(kind, observers=[full, LogObserver(), told.append])
    face.spend("t")
    assert [type(event).__name__ for event in told] == ["Refreshed", "Admitted", "Settled"]


def test_each_kind_of_failure_is_logged_once(kind: Kind) -> None:
    def moody(event: Event) -> None:
        raise (KeyError if isinstance(event, Admitted) else ValueError)

    face = Face(kind, observers=[moody])
    with structlog.testing.capture_logs() as logs:
        for number in range(3):
            face.spend(f"t{number}")
    assert sorted(log["error"] for log in logs) == ["KeyError", "ValueError"]


def test_what_ends_the_process_is_not_swallowed(kind: Kind) -> None:
    def interrupted(_event: Event) -> None:
        raise KeyboardInterrupt

    face = Face(kind, observers=[interrupted])
    with pytest.raises(KeyboardInterrupt):
        face.spend("t")


def test_an_observer_may_ask_for_the_state() -> None:
    seen: list[int] = []

    def observe(event: Event) -> None:
        if isinstance(event, Admitted):
            seen.append(guard.state(KEY).credits_free)

    guard = Guard(Vidu(), observers=[observe])
    account, hold = guard.engine.account(KEY), guard.engine.hold(Quote(10))
    reading = Fetched(Reading(100, {"": Capacity(4, 0)}))
    guard.driver.run(account, call(account, hold), fetch=lambda: reading, send=lambda: Verdict(Outcome.ACCEPTED))
    assert seen == [90]


# -- closing --------------------------------------------------------------------------------------------------------


class Closing(MemoryStore):
    closed = 0

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


def test_a_guard_closes_the_store_it_made_and_no_other(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Closing()
    face = Face(kind, store=given)
    face.do(face.guard.close)
    assert given.closed == 0
    made: list[Closing] = []

    def make() -> Closing:
        made.append(Closing())
        return made[-1]

    monkeypatch.setattr("budgetguard.guard.MemoryStore", make)
    face.guard = kind(Vidu())
    face.do(face.guard.close)
    assert [store.closed for store in made] == [1]


def test_it_is_closed_at_the_end_of_a_with_block(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Closing] = []

    def make() -> Closing:
        made.append(Closing())
        return made[-1]

    monkeypatch.setattr("budgetguard.guard.MemoryStore", make)
    with Guard(Vidu()) as guard:
        assert isinstance(guard, Guard)

    async def main() -> None:
        async with AsyncGuard(Vidu()) as concurrent:
            assert isinstance(concurrent, AsyncGuard)

    anyio.run(main)
    assert [store.closed for store in made] == [1, 1]
