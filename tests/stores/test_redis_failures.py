"""What the store does when the server does not do its part."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import pytest
import redis
import redis.exceptions
from anyio.from_thread import start_blocking_portal

from budgetguard.errors import SettingError, StoreError
from budgetguard.ports import Put, Scanned, Transacted, Transaction
from budgetguard.stores.redis import RedisStore
from tests.support.valkey import ValkeyServer

TIMEOUT = 0.4
ADD = Transaction(add={"x": 1})


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def store(server: ValkeyServer) -> Iterator[RedisStore]:
    store = RedisStore(server.url, timeout=TIMEOUT)
    yield store
    store.close()


Act = Callable[[RedisStore], Transacted]


def transact(store: RedisStore, transaction: Transaction = ADD) -> Transacted:
    return store.transact("a", transaction)


@pytest.fixture(params=["blocking", "asyncio"])
def act(request: pytest.FixtureRequest) -> Iterator[Act]:
    """Adds 1 to a counter, in a thread or on an event loop."""
    if request.param == "blocking":
        yield transact
    else:
        with start_blocking_portal("asyncio") as portal:
            yield lambda store: portal.call(store.atransact, "a", ADD)


def in_bounds(began: float) -> bool:
    return time.monotonic() - began < 2 * TIMEOUT + 1


def test_a_server_that_is_gone_is_an_error_in_bounded_time_and_one_that_is_back_needs_no_new_store(
    server: ValkeyServer, store: RedisStore, act: Act
) -> None:
    assert act(store).counters == {"x": 1}
    server.stop()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"gave no answer in 0\.4 s.*Check that the server runs") as caught:
        act(store)
    assert in_bounds(began)
    assert isinstance(caught.value.__cause__, redis.exceptions.ConnectionError)
    server.start()
    assert act(store).counters == {"x": 1}  # it began anew, empty


def test_of_many_who_wait_while_the_server_is_gone_all_learn_it_in_bounded_time(
    server: ValkeyServer, store: RedisStore
) -> None:
    transact(store)
    server.stop()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            transact(store)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(20)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 20
    assert len({id(error) for error in errors}) == 20
    assert in_bounds(began)


def test_a_server_that_comes_back_in_time_is_waited_for(server: ValkeyServer, act: Act) -> None:
    store = RedisStore(server.url, timeout=10.0)
    act(store)
    server.stop()
    back = threading.Timer(0.1, server.start)
    back.start()
    assert act(store).counters == {"x": 1}
    back.join()
    store.close()


def test_a_server_restarted_with_its_data_goes_on_where_it_was(server: ValkeyServer, store: RedisStore) -> None:
    store.transact("a", Transaction(add={"x": 5}, put={"r": Put(b"1", 0.0)}))
    server.client.save()
    server.stop()
    server.start()
    loaded = store.load("a", due=True)
    assert (loaded.counters, loaded.records) == ({"x": 5}, {"r": b"1"})


def test_a_paused_server_is_an_error_in_bounded_time_that_says_what_is_not_known(
    server: ValkeyServer, store: RedisStore, act: Act
) -> None:
    act(store)
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(StoreError, match="It may have been applied"):
            act(store)
        assert in_bounds(began)
    finally:
        server.resume()
    before = store.load("a").counters["x"]
    assert before in (1, 2)  # sent twice, done at most once
    assert act(store).counters == {"x": before + 1}


def test_a_transaction_sent_twice_to_a_paused_server_is_done_once(server: ValkeyServer, act: Act) -> None:
    store = RedisStore(server.url, timeout=2.0)
    act(store)
    server.pause()
    try:
        go_on = threading.Timer(1.3, server.resume)  # after the first try was given up and sent again
        go_on.start()
        done = act(store)
        go_on.join()
    finally:
        server.resume()
    assert (done.applied, done.counters) == (True, {"x": 2})
    assert store.load("a").counters == {"x": 2}
    assert server.calls["evalsha"] >= 3
    store.close()


def test_a_transaction_whose_answer_was_lost_is_done_once_and_its_outcome_told(
    server: ValkeyServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    transact(store)
    losing = [True]
    ask = store._lanes._all[0].link.__class__.ask

    def lose(link: object, commands: object) -> object:
        replies = ask(link, commands)  # type: ignore[arg-type]
        if losing:
            losing.clear()
            raise redis.exceptions.ConnectionError("lost")
        return replies

    monkeypatch.setattr(store._lanes._all[0].link.__class__, "ask", lose)
    done = transact(store, Transaction(add={"x": 1}, expect={"x": 1}, put={"r": Put(b"1")}, wake=True))
    assert (done.applied, done.counters) == (True, {"x": 2})
    losing.append(True)
    refused = transact(store, Transaction(add={"x": 1}, expect={"x": 1}))
    assert (refused.applied, refused.counters) == (False, {"x": 2})


def test_an_abandoned_transaction_that_arrives_late_is_not_done_any_more(
    server: ValkeyServer, store: RedisStore
) -> None:
    lane = store._lanes._all[0]
    wire = store._wire
    (late,) = lane.calls(store._rules, [wire.Transact(store._rules.names.of("a"), ADD)])
    (newer,) = lane.calls(store._rules, [wire.Transact(store._rules.names.of("a"), Transaction(add={"y": 1}))])
    lane.link.exchange([newer])
    lane.link.exchange([late])
    assert store.load("a").counters == {"y": 1}


def test_a_flushed_script_is_loaded_again(server: ValkeyServer, store: RedisStore, act: Act) -> None:
    for _ in range(3):
        act(store)
        server.client.script_flush()
    assert act(store).counters == {"x": 4}


def test_a_flush_between_transactions_of_several_threads_loses_none(server: ValkeyServer, store: RedisStore) -> None:
    def run(number: int) -> None:
        for _ in range(25):
            store.transact(f"a{number % 3}", ADD)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        server.client.script_flush()
    assert [store.load(f"a{number}").counters["x"] for number in range(3)] == [100, 100, 100]


def test_a_replica_is_no_place_to_write_until_it_is_promoted(server: ValkeyServer) -> None:
    store = RedisStore(server.url, timeout=TIMEOUT)
    transact(store)
    server.client.replicaof("127.0.0.1", "1")
    server.client.config_set("replica-serve-stale-data", "yes")
    with pytest.raises(StoreError, match="ReadOnlyError"):
        transact(store)
    patient = RedisStore(server.url, timeout=10.0)
    promoted = threading.Timer(0.1, server.client.replicaof, ("NO", "ONE"))
    promoted.start()
    assert transact(patient).counters == {"x": 2}
    promoted.join()
    store.close()
    patient.close()


def test_a_server_without_memory_refuses_and_nothing_is_changed(server: ValkeyServer, store: RedisStore) -> None:
    store.transact("a", Transaction(add={"x": 1}, put={"r": Put(b"1")}))
    server.client.config_set("maxmemory", "1")
    with pytest.raises(StoreError, match=r"OutOfMemoryError|OOM.*Give the server more memory"):
        store.transact("a", Transaction(add={"x": 1}, put={"s": Put(b"1")}, drop={"r": b"1"}))
    server.client.config_set("maxmemory", "0")
    loaded = store.load("a", ["r", "s"])
    assert (loaded.counters, loaded.records) == ({"x": 1}, {"r": b"1"})


def test_keys_of_something_else_are_not_overwritten(server: ValkeyServer, store: RedisStore) -> None:
    server.client.hset("budgetguard:{a}:counters", mapping={"x": 5})
    with pytest.raises(StoreError, match=r"WRONGTYPE.*choose another prefix"):
        transact(store)
    assert server.client.hgetall("budgetguard:{a}:counters") == {b"x": b"5"}
    for foreign, layout in ((b"mine", "none"), (b"", "none"), (b"\x09" + bytes(200), "9"), (b"\xff" * 200, "-1")):
        server.client.set("budgetguard:{b}:counters", foreign)
        for act in (lambda: store.transact("b", ADD), lambda: store.load("b")):
            with pytest.raises(StoreError, match=rf"LAYOUT {layout} instead of 3.*another prefix"):
                act()
        assert server.client.get("budgetguard:{b}:counters") == foreign


def test_a_counter_that_cannot_be_exact_any_more_is_refused_and_others_are_not_harmed(
    server: ValkeyServer, store: RedisStore
) -> None:
    top = 2**53 - 1
    assert transact(store, Transaction(add={"x": top})).counters == {"x": top}
    for delta in (1, 2**53, -(2**54) + 5):
        with pytest.raises(StoreError, match="counts exactly"):
            transact(store, Transaction(add={"x": delta, "y": 1}))
    assert transact(store, Transaction(add={"x": -1})).counters == {"x": top - 1}


@pytest.mark.parametrize(
    "wrong",
    [
        Transaction(put={"r": Put(object())}),  # type: ignore[arg-type]
        Transaction(drop={"r": "text"}),  # type: ignore[dict-item]
        Transaction(add={"x": 1.5}),  # type: ignore[dict-item]
        Transaction(floor={"x": None}),  # type: ignore[dict-item]
    ],
)
def test_what_is_no_number_or_no_record_is_found_before_it_is_sent(wrong: Transaction) -> None:
    with pytest.raises(TypeError):
        transact(RedisStore("unix:///nowhere"), wrong)


def test_counters_that_something_else_spoiled_are_an_error(server: ValkeyServer, store: RedisStore) -> None:
    transact(store)
    ours = server.client.get("budgetguard:{a}:counters")
    assert isinstance(ours, bytes)
    for cut in (len(ours) - 1, len(ours) - 5, 88 + 8, 88 + 3):
        server.client.set("budgetguard:{a}:counters", ours[:cut])
        other = RedisStore(server.url)  # knows no names
        with pytest.raises(StoreError, match=r"nothing else writes under the prefix|another prefix"):
            other.load("a")
        with pytest.raises(StoreError, match=r"nothing else writes under the prefix|another prefix"):
            other.transact("a", ADD)
        other.close()
    count = 4 * 8
    server.client.set("budgetguard:{a}:counters", ours[:count] + (10**9).to_bytes(8, "little") + ours[count + 8 :])
    with pytest.raises(StoreError, match="another prefix"):
        transact(store)


def test_a_thousand_who_wait_for_a_server_that_is_gone_all_learn_it_in_bounded_time(server: ValkeyServer) -> None:
    store = RedisStore(server.url, timeout=0.2)

    async def run() -> list[BaseException | Transacted]:
        await store.atransact("a", ADD)
        server.stop()
        began = time.monotonic()
        ends = await asyncio.gather(*(store.atransact("a", ADD) for _ in range(2000)), return_exceptions=True)
        assert time.monotonic() - began < 3
        return ends

    assert {type(end) for end in asyncio.run(run())} == {StoreError}
    store.close()


def test_one_who_may_not_listen_finds_wake_ups_by_looking(server: ValkeyServer) -> None:
    server.client.acl_setuser(
        "deaf", enabled=True, passwords=["+p"], commands=["+@all", "-subscribe"], keys=["*"], channels=["*"]
    )
    here = RedisStore(server.url.replace("unix://", "unix://deaf:p@"), poll=0.05)
    there = RedisStore(server.url)
    woken = threading.Event()
    here.watch("a", woken.set)
    there.transact("a", Transaction(wake=True))
    assert woken.wait(10)
    here.close()
    there.close()


# -- secrets --------------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_told_without_waiting_and_never_shown(act: Act, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s3cret-Wort"
    server = ValkeyServer("--requirepass", "right-Wort").start()
    try:
        store = RedisStore(server.url.replace("unix://", f"unix://:{secret}@"), timeout=30.0)
        with pytest.raises(StoreError, match=r"does not let us in.*Check the user and the password") as caught:
            act(store)
        said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(store)
        assert secret not in said
        none = RedisStore(server.url, timeout=30.0)
        with pytest.raises(StoreError, match="does not let us in"):
            transact(none)
        right = RedisStore(server.url.replace("unix://", "unix://:right-Wort@"))
        assert transact(right).applied
        assert "Wort" not in repr(right)
        for opened in (store, none, right):
            opened.close()
    finally:
        server.close()
    assert secret not in caplog.text


def test_a_user_who_may_not_is_told_what_he_needs(server: ValkeyServer) -> None:
    server.client.acl_setuser("poor", enabled=True, passwords=["+s3cret"], commands=["+ping"], keys=["*"])
    store = RedisStore(server.url.replace("unix://", "unix://poor:s3cret@"), timeout=30.0)
    with pytest.raises(StoreError, match=r"Allow this user the commands EVALSHA") as caught:
        transact(store)
    assert "s3cret" not in str(caught.value)
    store.close()


def test_a_user_who_may_do_what_the_message_names_and_no_more_can_work(server: ValkeyServer) -> None:
    server.client.acl_setuser("poor", enabled=True, passwords=["+p"], commands=["+ping"], keys=["budgetguard:*"])
    url = server.url.replace("unix://", "unix://poor:p@") + "?db=1"
    refused = RedisStore(url.removesuffix("?db=1"), timeout=TIMEOUT)
    with pytest.raises(StoreError, match="Allow this user the commands") as caught:
        transact(refused)
    refused.close()
    named = re.findall(r"\b[A-Z]{3,}(?: LOAD)?\b", str(caught.value).partition("the commands ")[2])
    assert "EVALSHA" in named
    server.client.acl_setuser(
        "poor",
        enabled=True,
        reset=True,
        passwords=["+p"],
        commands=[f"+{name.lower().replace(' ', '|')}" for name in named],
        keys=["budgetguard:*"],
        channels=["budgetguard:*"],
    )
    store, other = RedisStore(url, poll=0.05), RedisStore(url)
    woken = threading.Event()
    unwatch = store.watch("a", woken.set)
    assert woken.wait(10)
    woken.clear()
    leased, free = Put(b"1", 0.0), Put(b"2")
    done = other.transact("a", Transaction(add={"x": 2}, floor={"x": 0}, stamp=("t",), put={"r": leased}, wake=True))
    assert done.applied
    assert woken.wait(10)
    assert store.transact("a", Transaction(expect={"x": 2}, drop={"r": b"1"}, put={"r": free})).applied
    assert store.scan("a").records == store.load("a", ["r"], due=True).records == {"r": b"2"}
    assert store.transact("a", Transaction(within={"t": 10**9}, drop={"r": b"2"})).applied
    store.transact("a", Transaction(put={"s": leased}))
    with redis.Redis(unix_socket_path=f"{server.folder}/s", db=1, protocol=2) as client:
        client.hdel("budgetguard:{a}:records", "s")
    assert store.load("a", due=True).records == {}
    unwatch()
    for opened in (store, other):
        opened.close()


def test_a_password_in_what_the_client_says_is_hidden() -> None:
    server = RedisStore("redis://:s3cret@host", timeout=1.0)._rules.server
    assert server._said(redis.exceptions.ConnectionError("no s3cret here")) == "ConnectionError: no *** here"


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@host",
        "user:s3cret@host",
        "redis://:s3/cret@host:6379",
        "redis://:s3cret@host:port",
        "redis://:s3cret@host?socket_timeout=s3cret",
        "redis://:s3cret@host?nonsense=s3cret",
        "redis://:s3cret@host/notanumber",
        "redis://host/s3cret",
        "unix://s3cret.sock",
        "unix://",
        "",
        None,
    ],
)
def test_an_address_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        RedisStore(url)
    said = "".join(traceback.format_exception(caught.value))
    assert "cret" not in said.replace(__file__, "")
    assert "url=" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("unix://relative.sock", "three slashes: unix:///run/valkey.sock"),
        ("redis://host/nine", "the number of a database"),
    ],
)
def test_an_address_that_the_client_would_misread_is_refused_with_what_is_right(url: str, remedy: str) -> None:
    with pytest.raises(SettingError, match=remedy):
        RedisStore(url)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://host", "redis://host:6379/0"),
        ("REDIS://host/", "redis://host:6379/0"),
        ("Valkey://Host:7000/3", "valkey://host:7000/3"),
        ("valkey://u:p@host:7000/3", "valkey://host:7000/3"),
        ("rediss://:p@host?ssl_ca_certs=/etc/ca.pem", "rediss://host:6379/0"),
        ("valkeys://host/2", "valkeys://host:6379/2"),
        ("unix:///run/valkey.sock?password=p&db=1", "unix:///run/valkey.sock"),
    ],
)
def test_its_repr_says_where_and_not_with_what(url: str, where: str) -> None:
    assert repr(RedisStore(url, prefix="mine")) == f"RedisStore('{where}', prefix='mine')"


@pytest.mark.parametrize(
    ("name", "value"),
    [("prefix", ""), ("prefix", "a{b"), ("timeout", 0), ("timeout", True), ("forget_after", 1.0), ("poll", "1")],
)
def test_a_setting_that_cannot_work_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=name):
        RedisStore("redis://localhost", **{name: value})  # type: ignore[arg-type]


@pytest.fixture(params=["blocking", "asyncio"])
def scan(request: pytest.FixtureRequest) -> Iterator[Callable[[RedisStore], Scanned]]:
    """Asks for a page of records, in a thread or on an event loop."""
    if request.param == "blocking":
        yield lambda store: store.scan("a")
    else:
        with start_blocking_portal("asyncio") as portal:
            yield lambda store: portal.call(store.ascan, "a")


def test_a_page_is_had_again_when_the_connection_was_lost_and_is_an_error_when_the_server_is(
    server: ValkeyServer, store: RedisStore, scan: Callable[[RedisStore], Scanned]
) -> None:
    store.transact("a", Transaction(put={"r": Put(b"1")}))
    assert scan(store).records == {"r": b"1"}
    server.client.client_kill_filter(_type="normal", skipme=True)
    assert scan(store).records == {"r": b"1"}
    server.stop()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"gave no answer in 0\.4 s"):
        scan(store)
    assert in_bounds(began)


def test_a_user_who_may_not_go_through_the_records_is_told_what_to_allow(server: ValkeyServer) -> None:
    commands = ["+evalsha", "+script|load", "+hset", "+hsetnx", "+zadd", "+time", "+get", "+set", "+pexpireat"]
    server.client.acl_setuser("poor", enabled=True, passwords=["+s3cret"], commands=commands, keys=["*"])
    poor = RedisStore(server.url.replace("unix://", "unix://poor:s3cret@"), timeout=TIMEOUT)
    with pytest.raises(StoreError, match="HSCAN") as caught:
        poor.scan("a")
    assert "s3cret" not in str(caught.value)
    poor.close()
