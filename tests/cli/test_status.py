from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from budgetguard.cli.app import app
from budgetguard.testing import FakeUdio, FakeVidu

KEY = "vda_secret_4711"


@pytest.fixture
def fake() -> FakeVidu:
    fake = FakeVidu(credits=12_345, limit=5, types=("metered", "concurrent"), keys=KEY)
    fake.stranger_takes(slots=2)
    return fake


@pytest.fixture
def url(fake: FakeVidu) -> Iterator[str]:
    with fake.serve() as url:
        yield url


def status(url: str, *arguments: str, provider: str = "vidu", key: str | None = KEY, **env: str) -> Result:
    places = {"XDG_STATE_HOME": "/nowhere", "HOME": "/nowhere", "LOCALAPPDATA": "/nowhere"}
    environment = {"VIDU_API_KEY": key, "UDIO_API_KEY": key, "COLUMNS": "100", "NO_COLOR": "1", **places, **env}
    return CliRunner().invoke(app, ["status", provider, "--base-url", url, *arguments], env=environment)


def test_the_table_shows_credits_slots_and_packages(url: str) -> None:
    said = status(url)
    assert said.exit_code == 0
    assert "12,345" in said.stdout
    assert "2 of 5 taken, 3 free" in said.stdout
    lines = [line.split() for line in said.stdout.splitlines()]
    assert ["metered", "6,173", "2", "0", "5"] in lines
    assert any(line[:3] == ["concurrent", "package", "concurrent"] and line[3] == "6,172" for line in lines)
    assert "valid until" in said.stdout


def test_json_has_everything_under_names_that_stay(url: str) -> None:
    said = status(url, "--json")
    document: dict[str, Any] = json.loads(said.stdout)
    packages = document.pop("packages")
    assert document == {
        "provider": "vidu",
        "base_url": url,
        "unit": "credits",
        "credits": 12_345,
        "limit": 5,
        "running": 2,
        "free": 3,
        "balances": [
            {"type": "metered", "credits": 6173, "limit": 5, "running": 2, "queued": 0},
            {"type": "concurrent", "credits": 6172, "limit": 5, "running": 0, "queued": 0},
        ],
        "store": None,
    }
    names = ["id", "name", "type", "credits", "credits_bought", "limit", "valid_from", "valid_to"]
    assert [list(package) for package in packages] == [names, names]


def test_the_help_explains_every_field_of_the_json(url: str) -> None:
    document = json.loads(status(url, "--json").stdout)
    said = CliRunner().invoke(app, ["status", "vidu", "--help"], env={"COLUMNS": "200"}).output
    assert [name for name in [*document, *document["balances"][0], *document["packages"][0]] if name not in said] == []


def test_fewer_credits_than_wanted_end_with_1_and_the_numbers_all_the_same(url: str) -> None:
    assert status(url, "--min-credits", "12345").exit_code == 0
    said = status(url, "--min-credits", "12346", "--json")
    assert said.exit_code == 1
    assert json.loads(said.stdout)["credits"] == 12_345
    assert said.stderr == "12345 credits are fewer than --min-credits 12346.\n"


def test_the_key_comes_from_the_variable_that_is_named(url: str) -> None:
    assert status(url, "--key-env", "MY_KEY", key=None, MY_KEY=KEY).exit_code == 0


def test_a_missing_key_names_the_variable_to_set(fake: FakeVidu, url: str) -> None:
    for arguments, variable in (((), "VIDU_API_KEY"), (("--key-env", "MY_KEY"), "MY_KEY")):
        said = status(url, *arguments, key=None)
        assert said.exit_code == 2
        assert f"set {variable} to the API key" in said.stderr
    assert fake.journal.credits_requests == 0


def one_line(said: Result, key: str) -> str:
    """What a failure looks like: one line on stderr, without the key."""
    assert said.exit_code == 3
    assert not said.stdout
    assert said.stderr.endswith("\n")
    assert said.stderr.count("\n") == 1
    assert key not in said.stderr
    return said.stderr


def test_a_wrong_key_is_said_in_one_line_without_the_key(url: str) -> None:
    assert "the key was refused" in one_line(status(url, key="wrong_key_815"), "wrong_key_815")


def test_a_provider_that_cannot_be_reached_is_said_in_one_line() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert f"{address} cannot be reached" in one_line(status(address), KEY)


@pytest.mark.parametrize(
    "kind", ["html_502", "not_json", "empty", "wrong_shape", "drop_after_accept", "TooManyRequests"]
)
def test_an_odd_answer_is_said_in_one_line(fake: FakeVidu, url: str, kind: str) -> None:
    fake.fail_next(kind, on="credits")
    one_line(status(url), KEY)


def test_a_redirect_is_not_followed(fake: FakeVidu, url: str) -> None:
    elsewhere = FakeVidu()
    with elsewhere.serve() as other:
        fake.inject("redirect", on="credits", location=f"{other}/ent/v2/credits")
        assert "redirect" in one_line(status(url), KEY)
    assert elsewhere.journal.credits_requests == 0


def test_a_provider_that_repeats_the_key_does_not_make_us_print_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(self: object, request: httpx.Request) -> httpx.Response:
        key = request.headers["authorization"].partition(" ")[2]
        return httpx.Response(200, json={"remains": [{"type": key, "credit_remain": key}]})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    one_line(status("http://127.0.0.1:9"), KEY)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_balance_that_repeats_the_key_is_shown_without_it(fake: FakeVidu, url: str, more: tuple[str, ...]) -> None:
    fake.types = (f"for {KEY}", KEY)
    said = status(url, *more)
    assert said.exit_code == 0
    assert "12,345" in said.stdout or "12345" in said.stdout
    assert KEY not in said.stdout
    assert KEY[:10] not in said.stdout


def test_an_address_that_is_none_and_a_key_that_is_none_are_wrong_calls(url: str) -> None:
    assert status("nonsense").exit_code == 2
    said = status(url, key="two words")
    assert said.exit_code == 2
    assert "two words" not in said.output


def test_udio_tells_its_credits_and_takes_the_limit_from_the_caller() -> None:
    with FakeUdio(credits=77, keys=KEY).serve() as url:
        plain = status(url, provider="udio")
        assert plain.exit_code == 0
        assert "77" in plain.stdout
        assert "not told" in plain.stdout
        document = json.loads(status(url, "--json", "--concurrency", "4", provider="udio").stdout)
    assert (document["credits"], document["limit"], document["running"], document["free"]) == (77, 4, None, None)
    assert document["packages"] == []
