"""The store on a node of a cluster that has all slots, and on a server behind a password, a port and a prefix."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import redis

from budgetguard.errors import StoreError
from budgetguard.ports import AsyncStore, Put, Store, Transaction
from budgetguard.stores.redis import RedisStore
from budgetguard.testing.stores import AsyncStoreContract, StoreContract
from tests.support.valkey import PATIENCE, ValkeyServer

ACCOUNTS = ("vidu:4711", "a{b}c", "{}", "", "white space", "grün 猫", "vidu:{x", "}{")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def asked(server: ValkeyServer, *command: str | int | bytes) -> Any:
    client: Any = server.client
    return client.execute_command(*command)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyServer]:
    port = str(free_port())
    server = ValkeyServer("--cluster-enabled", "yes", "--port", port, "--cluster-port", str(free_port()))
    try:
        server.start()
        asked(server, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until = time.monotonic() + PATIENCE
        while b"cluster_state:ok" not in bytes(asked(server, "CLUSTER", "INFO")):
            assert time.monotonic() < until
            time.sleep(0.01)
        yield server
    finally:
        server.close()


class _OnCluster:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _find_server(cls, cluster: ValkeyServer) -> None:
        cls.url = cluster.url


class TestBlocking(_OnCluster, StoreContract):
    def make_store(self) -> Store:
        return RedisStore(self.url)

    def make_other(self) -> Store:
        return RedisStore(self.url)


class TestOnAsyncio(_OnCluster, AsyncStoreContract):
    async def make_store(self) -> AsyncStore:
        return RedisStore(self.url)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_keys_of_an_account_hash_to_one_slot_and_accounts_spread(cluster: ValkeyServer, account: str) -> None:
    cluster.client.flushall()
    store = RedisStore(cluster.url, prefix="mine")
    step = Transaction(add={"x": 1}, put={"r": Put(b"1", 60.0)}, wake=True)
    assert store.transact(account, step).applied
    other = RedisStore(cluster.url, prefix="mine")  # what the first one did last gets a key of its own
    assert other.transact(account, Transaction(add={"x": 1})).applied
    keys = asked(cluster, "KEYS", "*")
    assert len(keys) == 4
    assert all(key.startswith(b"mine:{") for key in keys)
    slots = {asked(cluster, "CLUSTER", "KEYSLOT", key) for key in keys}
    assert len(slots) == 1
    store.transact(f"{account}2", step)
    others = set(asked(cluster, "KEYS", "*")) - set(keys)
    assert slots != {asked(cluster, "CLUSTER", "KEYSLOT", key) for key in others}
    for opened in (store, other):
        opened.close()


def test_a_node_that_does_not_have_the_slot_says_what_to_do(cluster: ValkeyServer) -> None:
    store = RedisStore(cluster.url, timeout=0.2)
    slot = asked(cluster, "CLUSTER", "KEYSLOT", "budgetguard:{a}:counters")
    asked(cluster, "CLUSTER", "DELSLOTS", slot)
    try:
        with pytest.raises(StoreError, match=r"(?i)cluster"):
            store.load("a")
    finally:
        asked(cluster, "CLUSTER", "ADDSLOTS", slot)
    store.close()


def test_a_password_a_port_a_database_and_a_prefix_all_count_and_the_password_is_never_shown() -> None:
    secret, port = "s3cret/Wort?", free_port()
    server = ValkeyServer("--port", str(port), "--requirepass", secret)
    try:
        server.start()
        url = f"redis://:s3cret%2FWort%3F@127.0.0.1:{port}/3"
        store = RedisStore(url, prefix="team", timeout=0.2)
        assert store.transact("a", Transaction(add={"x": 1})).applied
        looking: Any = redis.Redis(port=port, db=3, password=secret, protocol=2)
        assert {key.partition(b"{")[0] for key in looking.keys("*")} == {b"team:"}
        looking.close()
        server.stop()
        with pytest.raises(StoreError) as caught:
            store.load("a")
    finally:
        server.close()
    shown = "".join(traceback.format_exception(caught.value)) + repr(store) + repr(store._rules.server)
    assert "Wort" not in shown
    assert repr(store) == f"RedisStore('redis://127.0.0.1:{port}/3', prefix='team')"
    store.close()
