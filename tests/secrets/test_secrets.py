"""No key is in anything the library writes; and a key that is would be found, whatever form it took."""

from __future__ import annotations

import base64
import dataclasses
import enum
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import budgetguard
from budgetguard import AsyncGuard, BudgetGuardError, Guard, providers, stores
from budgetguard._hidden import Hidden
from budgetguard.providers import Vidu
from tests.secrets import others
from tests.secrets.forms import forms, search
from tests.secrets.run import Session
from tests.secrets.wire import new_key, new_plain_key
from tests.secrets.written import Written


def test_no_key_is_in_what_a_guard_writes_in_its_life_nor_in_what_callbacks_leave(tmp_path: Path) -> None:
    session = Session(tmp_path)
    session.live("asyncio", "vidu", None, every=5)
    session.on_sqlite([])
    others.call_back(session.written, session.key())
    searched = search(session.written.folder, session.keys)
    assert [str(found) for found in searched.found] == []
    assert (searched.files > 12, searched.bytes > 1_000_000) == (True, True)
    assert session.written.errors > 50
    assert {"Queued", "Expired", "TaskEnded", "RefusedByProvider", "Overspent"} <= session.written.kinds
    for name in ("log.txt", "events.txt", "variables.txt", "rich.txt", "stacks.txt", "objects.txt", "tokens.txt"):
        assert (session.written.folder / name).stat().st_size > 50, name


def test_a_key_that_shows_itself_among_local_names_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hidden, "__repr__", str.__repr__)
    session = Session(tmp_path)
    others.call_back(session.written, session.key())
    found = search(session.written.folder, session.keys).found
    assert {one.file for one in found} >= {"variables.txt", "rich.txt", "structlog-tracebacks.txt", "objects.txt"}


@pytest.mark.parametrize("form", forms("x" * 40))
def test_a_planted_leak_is_found_in_each_form(form: str, tmp_path: Path) -> None:
    keys = [new_key(), new_key()]
    for number, pattern in enumerate(forms(keys[1])[form]):
        (tmp_path / f"{number}.txt").write_bytes(b"before " + pattern + b" after")
    searched = search(tmp_path, keys)
    assert {found.file for found in searched.found} == {f"{n}.txt" for n in range(len(forms(keys[1])[form]))}
    assert {found.key for found in searched.found} == {1}
    assert str(searched).startswith(f"keys found: {len(searched.found)} in ")


def test_a_leak_inside_something_else_is_found(tmp_path: Path) -> None:
    key = new_key()
    leaks: list[bytes] = [
        *(base64.b64encode(b"x" * n + f"Token {key}".encode() + b"y" * n) for n in range(6)),
        *(base64.urlsafe_b64encode(b"x" * n + key.encode()) for n in range(3)),
        json.dumps({"headers": [["authorization", f"Bearer {key}"]]}).encode(),
        repr({"a": [f"<re.Match object; match='Token {key[:21]}"]}).encode(),
        f"...{key[-18:]}".encode(),
        repr({b"authorization": f"Token {key}".encode()}).encode(),
        json.dumps(json.dumps({"key": key})).encode(),
    ]
    for number, leak in enumerate(leaks):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "x").write_bytes(leak)
        assert search(folder, [key]).found, leak
    (tmp_path / f"a {key[:20]} b").touch()
    assert [found.at for found in search(tmp_path, [key]).found if found.file.startswith("a ")] == [2], (
        "a name tells too"
    )


def test_what_is_no_leak_is_not_found(tmp_path: Path) -> None:
    keys = [new_key() for _ in range(3)]
    (tmp_path / "x").write_text(
        " ".join(Guard(Vidu(), api_key=key).account_name(key) for key in keys), encoding="utf-8"
    )
    (tmp_path / "empty").touch()
    searched = search(tmp_path, keys)
    assert (searched.files, searched.found) == (2, [])


def test_what_could_not_be_made_can_be_shown() -> None:
    shown = 0
    for module in (budgetguard, providers, stores):
        for name in module.__all__:
            kind: Any = getattr(module, name)
            if not inspect.isclass(kind) or dataclasses.is_dataclass(kind) or inspect.isabstract(kind):
                continue
            if not issubclass(kind, BudgetGuardError | enum.Enum):
                shown += repr(object.__new__(kind)).startswith(("<", kind.__name__))
    assert shown > 10


def test_no_attribute_of_a_guard_shows_what_it_was_given(tmp_path: Path) -> None:
    key, secret = new_key(), new_key().encode()[:60]
    guard = Guard(Vidu(), api_key=key, accounts={"studio": [key]}, fingerprint_key=secret)
    written = Written(tmp_path)
    written.show(guard, guard.engine, guard.engine._fingerprints, vars(guard), vars(guard.engine))
    assert search(written.folder, [key, secret.decode()]).found == []


@pytest.mark.parametrize(
    "address",
    [
        "redis://user:{}@host:1/0?no=such",
        "redis://user:{}@host:1/no-number",
        "redis://user:{}/{}@host:1/0",
        "rediss://:{}@[::1/0",
        "unix://user:{}@",
        "postgres://user:{}@host/db",
    ],
)
def test_no_frame_shows_the_password_in_an_address_of_a_store(address: str, tmp_path: Path) -> None:
    password = new_plain_key("pass")
    written = Written(tmp_path)
    for make in (Guard, AsyncGuard):
        with pytest.raises(BudgetGuardError) as caught:
            make(Vidu(), store=address.format(password, password))
        written.error(caught.value)
    assert written.errors == 2
    assert search(written.folder, [password]).found == []
