"""A fingerprint names an account and gives nobody a cheap way to try guesses of its key."""

from __future__ import annotations

import gc
import hashlib
import os
import secrets
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import budgetguard
from budgetguard import Guard, _fingerprints
from budgetguard._fingerprints import Fingerprints
from budgetguard.providers import UdioPro, Vidu
from budgetguard.stores import MemoryStore

OURS = Path(budgetguard.__file__).parent
SECRET = b"32 bytes that nobody could guess"


def fresh(length: int = 12) -> str:
    """Make a key this process has not met."""
    return f"vda_{secrets.token_hex(length)}"


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Note each time a fingerprint is worked out the slow way."""
    real, noted = hashlib.scrypt, list[dict[str, Any]]()

    def scrypt(password: bytes, **settings: Any) -> bytes:
        noted.append(settings)
        return real(password, **settings)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    return noted


def test_a_key_has_the_same_name_in_every_process_version_and_machine() -> None:
    # Guards that share a store meet by this name, so it may not change between versions.
    assert Guard(Vidu()).account_name("vda_31415926535897932384") == "vidu:ec3177677f171595"
    assert Guard(Vidu(), fingerprint_key=SECRET).account_name("vda_31415926535897932384") == "vidu:658b1c43a20c04bb"


def test_a_guess_costs_what_scrypt_costs_with_sixteen_mebibytes(derived: list[dict[str, Any]]) -> None:
    Guard(Vidu()).account_name(fresh())
    (cost,) = derived
    assert 128 * cost["n"] * cost["r"] >= 16 * 2**20


def test_a_short_secret_does_not_make_guesses_cheap(derived: list[dict[str, Any]]) -> None:
    for secret in (b"", b"a", SECRET[:15]):
        Guard(Vidu(), fingerprint_key=secret).account_name(fresh())
    assert len(derived) == 3


def test_with_a_secret_that_cannot_be_guessed_nothing_is_slow(derived: list[dict[str, Any]]) -> None:
    names = {Guard(Vidu(), fingerprint_key=secret).account_name("k") for secret in (SECRET, SECRET[:16], SECRET * 2)}
    assert len(names) == 3
    assert derived == []


def test_a_key_is_worked_out_once_in_a_process_for_all_guards(derived: list[dict[str, Any]]) -> None:
    key = fresh()
    names = {Guard(Vidu()).account_name(key) for _ in range(10)}
    guard = Guard(Vidu(), accounts={"studio": [key]}, api_key=key)
    assert guard.account_name(key) == "vidu:studio"
    assert len(names) == len(derived) == 1


def test_threads_that_begin_at_once_with_one_key_work_it_out_once(derived: list[dict[str, Any]]) -> None:
    key, names = fresh(), set[str]()
    start = threading.Barrier(8)

    def begin() -> None:
        start.wait()
        names.add(Fingerprints("vidu", None).of(key))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == len(derived) == 1


def test_one_key_has_unrelated_names_at_two_providers() -> None:
    key = fresh()
    names = {Guard(provider).account_name(key).partition(":")[2] for provider in (Vidu(), UdioPro(concurrency=1))}
    assert len(names) == 2


def test_what_a_store_holds_of_one_secret_matches_no_guess_under_another() -> None:
    store, key = MemoryStore(), "hunter2"
    guard = Guard(Vidu(), store=store, fingerprint_key=SECRET, api_key=key)
    guard.state(key)
    names = set(store._accounts)
    assert names == {guard.account_name(key)}
    for guess in (None, b"", SECRET[:-1], SECRET[:16], SECRET + b"\0"):
        assert Guard(Vidu(), fingerprint_key=guess).account_name(key) not in names


def test_what_is_remembered_of_keys_is_bounded_and_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fingerprints, "_KNOWN_MAX", 8)
    monkeypatch.setattr(_fingerprints, "_known", {})
    prints, keys = Fingerprints("vidu", SECRET), [fresh() for _ in range(20)]
    first = [prints.of(key) for key in keys]
    assert len(set(first)) == 20
    assert len(_fingerprints._known) == 8
    assert [prints.of(key) for key in keys] == first
    held = repr((_fingerprints._known, _fingerprints._MINE, prints, [getattr(prints, n) for n in prints.__slots__]))
    assert not any(key in held for key in keys)
    # Nothing that lives on refers to the text itself.
    key = "".join(["vda_", secrets.token_hex(12)])
    before = sys.getrefcount(key)
    prints.of(key)
    gc.collect()
    assert sys.getrefcount(key) == before


def test_a_key_with_odd_characters_has_a_fingerprint_too() -> None:
    prints = Fingerprints("vidu", SECRET)
    assert len({prints.of(key) for key in ("kéy 猫", "\x00", "\ud800", "")}) == 4
    assert prints.of(None) is None


@pytest.mark.parametrize("where", ["account_name", "accounts"])
def test_an_interruption_while_a_key_is_worked_out_shows_it_to_no_error_reporter(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(password: bytes, **settings: Any) -> bytes:
        del password, settings
        raise KeyboardInterrupt

    monkeypatch.setattr(hashlib, "scrypt", interrupted)
    key = fresh()
    made: dict[str, Callable[[], Any]] = {
        "account_name": lambda: Guard(Vidu()).account_name(key),
        "accounts": lambda: Guard(Vidu(), accounts={"studio": [key]}),
    }
    with pytest.raises(KeyboardInterrupt) as raised:
        made[where]()
    shown = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    ours = [frame for frame in shown.stack if OURS in Path(frame.filename).parents]
    assert len(ours) >= 4
    assert [(f.name, name) for f in ours for name, value in (f.locals or {}).items() if key in value] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_a_thread_works_one_out_is_not_stuck() -> None:
    with _fingerprints._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if Fingerprints("vidu", SECRET).of(fresh()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
