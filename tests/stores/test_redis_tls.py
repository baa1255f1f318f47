"""The store behind TLS. The server of the wheel speaks none, so something in front of it does."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Iterator
from typing import ClassVar

import pytest

from budgetguard.errors import StoreError
from budgetguard.ports import AsyncStore, Put, Store, Transaction
from budgetguard.stores import open_store
from budgetguard.stores.redis import RedisStore
from budgetguard.testing.stores import AsyncStoreContract, StoreContract
from tests.support.tls import TlsFront
from tests.support.valkey import ValkeyServer

SECRET = "s3cret-Wort"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsFront]:
    server = ValkeyServer("--requirepass", SECRET)
    try:
        server.start()
        with TlsFront(server.folder / "s", tmp_path_factory.mktemp("tls")).serve() as front:
            yield front
    finally:
        server.close()


def address(front: TlsFront, *, scheme: str = "rediss", host: str = "localhost", trusted: bool = True) -> str:
    settings = f"?ssl_ca_certs={front.authority}" if trusted else ""
    return f"{scheme}://:{SECRET}@{host}:{front.port}/0{settings}"


class _BehindTls:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _find_server(cls, front: TlsFront) -> None:
        cls.url = address(front)


class TestBlocking(_BehindTls, StoreContract):
    def make_store(self) -> Store:
        return RedisStore(self.url)


class TestOnAsyncio(_BehindTls, AsyncStoreContract):
    async def make_store(self) -> AsyncStore:
        return RedisStore(self.url)


def said(error: BaseException, store: object) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(store)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_every_connection_is_encrypted_those_for_wake_ups_too(front: TlsFront, scheme: str) -> None:
    before, woken = front.connections, threading.Event()
    here, there = open_store(address(front, scheme=scheme)), open_store(address(front, scheme=scheme))
    end = here.watch("w", woken.set)
    there.transact("w", Transaction(add={"x": 1}, put={"r": Put(b"1")}, wake=True))
    assert woken.wait(10)
    end()
    assert here.load("w", ["r"]).records == {"r": b"1"}
    assert front.connections >= before + 3
    for store in (here, there):
        assert SECRET not in repr(store)
        store.close()


def test_a_certificate_nobody_vouches_for_is_refused_before_the_password_is_sent(front: TlsFront) -> None:
    before = front.connections
    store = RedisStore(address(front, trusted=False), timeout=0.2)
    with pytest.raises(StoreError, match=r"(?i)certificate verify failed") as caught:
        store.load("a")
    assert front.connections == before
    assert SECRET not in said(caught.value, store)
    store.close()


def test_a_certificate_for_another_host_is_refused(front: TlsFront) -> None:
    with socket.create_connection(("localhost", front.port)) as connection:
        numbers = connection.getpeername()[0]
    host = f"[{numbers}]" if ":" in numbers else numbers
    store = RedisStore(address(front, host=host), timeout=0.2)
    with pytest.raises(StoreError, match=r"(?i)certificate") as caught:
        store.load("a")
    assert SECRET not in said(caught.value, store)
    store.close()


def test_a_server_that_wants_tls_and_gets_none_is_an_error_that_shows_no_password(front: TlsFront) -> None:
    store = RedisStore(address(front, scheme="redis", trusted=False), timeout=0.2)
    with pytest.raises(StoreError) as caught:
        store.load("a")
    assert SECRET not in said(caught.value, store)
    store.close()
