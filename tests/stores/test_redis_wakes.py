"""How those who wait are woken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from budgetguard.ports import Transaction
from budgetguard.stores.redis import RedisStore
from tests.support.valkey import ValkeyServer

PATIENCE = 10.0
WAKE = Transaction(add={"x": 1}, wake=True)
QUIET = Transaction(add={"x": 1})


class Bell:
    """Counts its calls, and lets a test wait for them."""

    def __init__(self) -> None:
        self.rung = threading.Semaphore(0)

    def __call__(self) -> None:
        self.rung.release()

    def wait(self) -> bool:
        return self.rung.acquire(timeout=PATIENCE)

    def silent(self, seconds: float) -> bool:
        return not self.rung.acquire(timeout=seconds)


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def make(server: ValkeyServer) -> Iterator[Callable[..., RedisStore]]:
    made: list[RedisStore] = []

    def make(poll: float = 1000.0) -> RedisStore:
        made.append(RedisStore(server.url, poll=poll, timeout=1.0))
        return made[-1]

    yield make
    for store in made:
        store.close()


def watching(store: RedisStore, account: str = "a") -> Bell:
    """Watch, and wait for the call that tells that the subscription has begun."""
    bell = Bell()
    store.watch(account, bell)
    assert bell.wait()
    return bell


def test_a_wake_up_in_one_store_is_heard_in_another(make: Callable[..., RedisStore]) -> None:
    here, there = make(), make()
    bell = watching(here)
    for _ in range(3):
        there.transact("a", WAKE)
        assert bell.wait()
    there.transact("a", QUIET)
    there.transact("a", Transaction(expect={"x": 99}, wake=True))
    there.transact("b", WAKE)
    assert bell.silent(0.05)


def test_a_wake_up_of_ones_own_comes_at_once_and_once(make: Callable[..., RedisStore]) -> None:
    store = make()
    bell = watching(store)
    for _ in range(3):
        store.transact("a", WAKE)
        assert bell.rung.acquire(blocking=False)
    assert bell.silent(0.05)


def test_accounts_watched_later_are_heard_too_and_those_let_go_are_not(make: Callable[..., RedisStore]) -> None:
    here, there = make(), make()
    first = watching(here, "a")
    second, calls = Bell(), Bell()
    unwatch = here.watch("b", second)
    end = here.watch("c", calls)
    assert second.wait()
    assert calls.wait()
    end()
    unwatch()
    unwatch()
    for account in ("b", "c", "a"):
        there.transact(account, WAKE)
    assert first.wait()
    assert second.silent(0.01)
    assert calls.silent(0.01)


def test_after_a_lost_connection_watchers_are_called_once_and_hear_again(
    server: ValkeyServer, make: Callable[..., RedisStore]
) -> None:
    here, there = make(), make()
    bell, other = watching(here), watching(here, "b")
    server.client.client_kill_filter(_type="pubsub")
    assert bell.wait()
    assert other.wait()
    there.transact("a", WAKE)
    assert bell.wait()
    assert other.silent(0.01)


def test_after_a_restart_of_the_server_watchers_hear_again(
    server: ValkeyServer, make: Callable[..., RedisStore]
) -> None:
    here, there = make(), make()
    bell = watching(here)
    there.transact("a", WAKE)
    assert bell.wait()
    server.stop()
    server.start()
    assert bell.wait()
    for _ in range(3):
        there.transact("a", WAKE)
        assert bell.wait()


def test_a_wake_up_that_was_not_heard_is_found_by_looking(
    server: ValkeyServer, make: Callable[..., RedisStore]
) -> None:
    here, there = make(poll=0.05), make()
    bell = watching(here)
    there.transact("a", WAKE)
    assert bell.wait()
    key = "budgetguard:{a}:counters"
    number = int.from_bytes(server.client.getrange(key, 24, 31), "little")  # type: ignore[arg-type]
    server.client.setrange(key, 24, (number + 1).to_bytes(8, "little"))
    assert bell.wait()
    assert bell.silent(0.2)


def test_a_watcher_that_fails_keeps_nobody_from_being_called(make: Callable[..., RedisStore]) -> None:
    here, there = make(), make()

    def fail() -> None:
        raise RuntimeError

    before, after = watching(here), Bell()
    here.watch("a", fail)
    here.watch("a", after)
    for _ in range(2):
        there.transact("a", WAKE)
        assert before.wait()
        assert after.wait()


def test_a_store_that_is_forgotten_ends_its_thread(make: Callable[..., RedisStore], server: ValkeyServer) -> None:
    store = RedisStore(server.url)
    watching(store)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "budgetguard-redis-listener"]
    del store
    thread.join(PATIENCE)
    assert not thread.is_alive()
