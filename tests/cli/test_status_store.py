"""What `budgetguard status` shows of the guards that share a store."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from budgetguard.cli.app import app
from budgetguard.guard import Guard
from budgetguard.policy import Policy
from budgetguard.providers.vidu import Vidu
from budgetguard.testing import FakeVidu
from tests.support.valkey import ValkeyServer

KEY = "vda_secret_4711"
JOB = {"model": "viduq2", "prompt": "a kite", "duration": 5, "resolution": "720p"}


@pytest.fixture
def fake() -> FakeVidu:
    return FakeVidu(credits=1_000, limit=5, charge=35, duration=60.0, mode="reject", keys=KEY)


@pytest.fixture
def url(fake: FakeVidu) -> Iterator[str]:
    with fake.serve() as url:
        yield url


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_STATE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def status(url: str, *arguments: str, **env: str) -> Result:
    environment = {"VIDU_API_KEY": KEY, "COLUMNS": "120", "NO_COLOR": "1", **env}
    return CliRunner().invoke(app, ["status", "vidu", "--base-url", url, *arguments], env=environment)


def work(url: str, store: str, **settings: Any) -> None:
    """Have two calls accepted."""
    policy = Policy(max_age=60.0)
    with Guard(Vidu(base_url=url, prices={"text2video": 35}), store=store, policy=policy, **settings) as guard:
        transport = guard.transport()
        with httpx.Client(base_url=url, headers={"Authorization": f"Token {KEY}"}, transport=transport) as client:
            for _ in range(2):
                assert client.post("/ent/v2/text2video", json=JOB).status_code == 200


def shown(said: Result) -> Any:
    assert said.exit_code == 0, said.output
    assert KEY not in said.output
    return json.loads(said.stdout)["store"]


def test_without_a_file_nothing_is_shown_and_none_is_made(url: str, home: Path) -> None:
    assert shown(status(url, "--json")) is None
    said = status(url)
    assert "guards" not in said.stdout
    assert said.stderr == ""
    assert list(home.rglob("*")) == []


def test_the_usual_file_is_looked_at_if_it_is_there(url: str, home: Path) -> None:
    work(url, "sqlite:")
    (path,) = home.rglob("accounts.db")
    store = shown(status(url, "--json"))
    age = store.pop("age")
    assert 0 <= age < 60
    account = store.pop("account")
    assert account.startswith("vidu:")
    assert store == {
        "where": f"SQLiteStore('{path}')",
        "credits_free": 930,
        "credits_held": 70,
        "slots_open": 0,
        "slots_running": 2,
        "slots_free": 3,
        "slots_limit": 5,
        "paused": 0.0,
    }
    said = status(url).stdout
    assert "70 credits held, 930 free" in said
    assert "0 slots of open calls, 2 of tasks, 3 free" in said
    assert "s old" in said


def test_an_account_no_guard_has_used_is_not_mentioned_unless_the_store_was_named(url: str, home: Path) -> None:
    work(url, "sqlite:", fingerprint_key=b"another")
    assert shown(status(url, "--json")) is None
    assert "none has used this account there" in status(url, "--store", "sqlite:").stdout
    assert shown(status(url, "--json", "--store", "sqlite:"))["age"] is None


def test_accounts_with_names_and_fingerprint_keys_of_their_own_are_found(url: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/accounts.db"
    work(url, store, accounts={"studio": [KEY]})
    found = shown(status(url, "--json", "--store", store, "--account", "studio"))
    assert (found["account"], found["credits_held"]) == ("vidu:studio", 70)
    other = f"sqlite:///{tmp_path}/other.db"
    work(url, other, fingerprint_key=b"s3cret")
    named = ("--json", "--store", other, "--fingerprint-key-env", "FPK")
    assert shown(status(url, *named, FPK="s3cret"))["credits_held"] == 70
    missing = status(url, *named)
    assert (missing.exit_code, "FPK is not set" in missing.stderr) == (2, True)


def test_a_file_that_was_named_and_is_not_there_is_said_and_not_made(url: str, tmp_path: Path) -> None:
    said = status(url, "--store", f"sqlite:///{tmp_path}/accounts.db")
    assert said.exit_code == 0
    assert "1,000" in said.stdout
    assert said.stderr == f"{tmp_path}/accounts.db does not exist, or is empty; no guard has used it.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["corrupt", "foreign", "folder", "locked"])
def test_a_file_that_cannot_be_used_is_said_and_the_provider_is_shown_all_the_same(
    url: str, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "accounts.db"
    with contextlib.ExitStack() as stack:
        if kind == "corrupt":
            path.write_bytes(b"nonsense" * 1000)
        elif kind == "folder":
            path.mkdir()
        else:
            connection = stack.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
            connection.execute("CREATE TABLE mine (x)")
            if kind == "locked":
                connection.execute("BEGIN EXCLUSIVE")
        before = path.read_bytes() if path.is_file() else b""
        said = status(url, "--store", f"sqlite:///{path}", "--json")
    assert shown(said) is None
    assert json.loads(said.stdout)["credits"] == 1_000
    assert said.stderr.startswith("What guards hold is not shown.")
    assert str(path) in said.stderr
    assert said.stderr.count("\n") == 1
    assert not path.is_file() or path.read_bytes() == before


def test_an_address_that_is_none_is_a_wrong_call_and_its_password_is_not_shown(fake: FakeVidu, url: str) -> None:
    for address in ("nonsense", "http://user:pass-W@host", "redis://:pass-W@host:port", "sqlite://host/x"):
        said = status(url, "--store", address)
        assert said.exit_code == 2
        assert "pass-W" not in said.output
    assert fake.journal.credits_requests == 0


def test_a_server_is_looked_at_too_and_one_that_is_gone_is_said(url: str) -> None:
    server = ValkeyServer("--requirepass", "pass-W").start()
    try:
        address = server.url.replace("unix://", "unix://:pass-W@")
        work(url, address)
        found = shown(status(url, "--json", "--store", address))
        assert found["credits_held"] == 70
        server.stop()
        said = status(url, "--store", address)
    finally:
        server.close()
    assert said.exit_code == 0
    assert "gave no answer" in said.stderr
    assert "1,000" not in said.stderr
    assert "pass-W" not in said.output
