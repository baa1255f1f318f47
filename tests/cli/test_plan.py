from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from budgetguard import Guard
from budgetguard.cli.app import app
from budgetguard.providers import Vidu
from budgetguard.testing import FakeUdio, FakeVidu

KEY = "vda_made_up_for_the_command_line"
BODY = {"model": "viduq2", "prompt": "a harbour", "duration": 5, "resolution": "720p"}
PRICED = json.dumps({"path": "text2video", "body": BODY, "seconds": 60, "label": "the [bold]harbour"})


@pytest.fixture
def fake() -> FakeVidu:
    return FakeVidu(credits=100, limit=2)


@pytest.fixture
def url(fake: FakeVidu) -> Iterator[str]:
    with fake.serve() as address:
        yield address


def plan(url: str, *arguments: str, jobs: str, **env: str) -> Result:
    given = ["plan", "-", "--base-url", url, *arguments]
    return CliRunner().invoke(app, given, input=jobs, env={"NO_COLOR": "1", "VIDU_API_KEY": KEY, **env})


def test_a_batch_that_fits_is_told_with_price_and_duration(url: str) -> None:
    said = plan(url, "--seconds", "30", jobs=f"{PRICED}\n\n30\n")
    assert said.exit_code == 0, said.output
    assert "2 of 2 jobs fit" in said.stdout
    assert "65 credits" in said.stdout
    assert "about 1 min, on 2 slots" in said.stdout
    assert "Left out" not in said.stdout


def test_what_does_not_fit_is_listed_with_its_line_and_the_exit_code_says_so(url: str) -> None:
    jobs = PRICED + '\n\n400\n{"path": "nowhere", "body": {}}\n{"credits": 1, "slots": 3}'
    said = plan(url, jobs=jobs)
    assert said.exit_code == 1
    assert "1 of 4 jobs fit" in said.stdout
    assert "35 credits, 436 for all" in said.stdout
    assert "short      335 for all" in said.stdout
    rows = [line.split() for line in said.stdout.splitlines() if line[:5].strip().isdigit() and "jobs fit" not in line]
    assert [row[0] for row in rows] == ["3", "4", "5"]
    for words in ("too little left", "no row for", "needs 3 slots", "about 1 min, on 2 slots"):
        assert words in said.stdout


def test_where_nobody_says_how_long_jobs_run_the_option_is_named(url: str) -> None:
    assert "not known; give --seconds" in plan(url, jobs="5").stdout


def test_a_long_list_of_what_is_left_out_is_cut(url: str) -> None:
    said = plan(url, jobs="500\n" * 50)
    assert said.stdout.count("too little left") == 20
    assert "and 30 more; --json shows all" in said.stdout


def test_json_has_everything_under_names_that_stay(url: str) -> None:
    document = json.loads(plan(url, "--json", jobs=f"\n{PRICED}\n90").stdout)
    jobs = document.pop("jobs")
    assert document.pop("account").startswith("vidu:")
    assert document == {
        "unit": "credits",
        "available": 100,
        "total": 125,
        "spent": 35,
        "shortfall": 25,
        "seconds": 60.0,
        "slots": {"": 2},
    }
    assert jobs[0] == {
        "line": 2,
        "label": "the [bold]harbour",
        "credits": 35,
        "slots": 1,
        "pool": "",
        "seconds": 60.0,
        "fits": True,
        "why": "",
        "problem": "",
        "start": 0.0,
    }
    assert (jobs[1]["line"], jobs[1]["why"], jobs[1]["start"]) == (3, "credits", None)


def test_as_many_as_fit_may_be_asked_for(url: str) -> None:
    jobs = "80\n40\n40\n"
    fits = [
        [job["fits"] for job in json.loads(plan(url, "--json", "--order", order, jobs=jobs).stdout)["jobs"]]
        for order in ("given", "most")
    ]
    assert fits == [[True, False, False], [False, True, True]]


def test_a_file_is_read_too(url: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text("10\n20\n")
    arguments = ["plan", str(path), "--base-url", url]
    said = CliRunner().invoke(app, arguments, env={"VIDU_API_KEY": KEY})
    assert said.exit_code == 0
    missing = CliRunner().invoke(app, ["plan", str(tmp_path / "none.jsonl")], env={"VIDU_API_KEY": KEY})
    assert missing.exit_code == 2
    assert "none.jsonl cannot be read: No such file" in missing.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("-1", "credits=-1 is not usable"),
        ("1.5", "'float' is not usable"),
        ('"35"', "'str' is not usable"),
        ("null", "'NoneType' is not usable"),
        ('{"credits": "5"}', "credits='5' is not usable"),
        ('{"price": 5}', "known keys are"),
        ('{"path": "/ent/v2/credits", "method": "GET"}', "GET there does not start paid work"),
    ],
)
def test_a_line_that_is_no_job_is_named_by_its_number(url: str, line: str, said: str, fake: FakeVidu) -> None:
    result = plan(url, jobs=f"35\n\n{line}\n35")
    assert result.exit_code == 2
    assert not result.stdout
    assert result.stderr.startswith("Line 3 of the standard input")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert fake.journal.summary()["credits_requests"] == 0


def test_without_a_key_the_variable_is_named(url: str) -> None:
    said = plan(url, jobs="5", VIDU_API_KEY="")
    assert said.exit_code == 2
    assert "VIDU_API_KEY" in said.stderr
    assert plan(url, "--key-env", "MINE", jobs="5", VIDU_API_KEY="", MINE=KEY).exit_code == 0
    assert KEY not in plan(url, "--key-env", KEY, jobs="5").stderr


def test_a_balance_that_cannot_be_read_is_said_in_one_line(url: str, fake: FakeVidu) -> None:
    fake.inject("html_502", on="credits", times=None)
    said = plan(url, jobs="5")
    assert said.exit_code == 3
    assert "cannot be read" in said.stderr
    assert said.stderr.count("\n") == 1


def test_udio_tells_no_limit_so_it_can_be_given() -> None:
    with FakeUdio(credits=50).serve() as url:
        jobs = '{"path": "generate", "body": {"model": "chirp-v5"}, "seconds": 10}\n' * 4
        said = plan(url, "--provider", "udio", "--concurrency", "2", jobs=jobs, UDIO_API_KEY=KEY)
    assert said.exit_code == 0
    assert "48 credits" in said.stdout
    assert "about 20 s, on 2 slots" in said.stdout


def test_prices_of_ones_own_count(url: str, tmp_path: Path) -> None:
    prices = tmp_path / "my.toml"
    prices.write_text('"text2video" = 3\n')
    assert "3 credits" in plan(url, "--prices", str(prices), jobs=PRICED).stdout
    assert plan(url, "--prices", str(tmp_path / "none.toml"), jobs=PRICED).exit_code == 2


def test_what_other_processes_hold_on_the_same_store_counts(url: str, tmp_path: Path) -> None:
    import httpx

    store = f"sqlite:////{str(tmp_path / 'a.db').lstrip('/')}"
    headers = {"Authorization": f"Token {KEY}"}
    with (
        Guard(Vidu(base_url=url), store=store) as guard,
        httpx.Client(base_url=url, headers=headers, transport=guard.transport()) as client,
    ):
        assert client.post("/ent/v2/text2video", json=BODY).status_code == 200
        document: dict[str, Any] = json.loads(plan(url, "--json", "--store", store, jobs="5").stdout)
    assert document["available"] == 65
    assert plan(url, "--store", "nowhere://a", jobs="5").exit_code == 2
