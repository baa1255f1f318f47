from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from budgetguard.cli.app import app

BODY = {"model": "viduq2", "prompt": "a harbour", "duration": 5, "resolution": "720p"}
RANGE = {
    "model": "viduq2-turbo",
    "start_image": "a.png",
    "image_settings": [{"key_image": "b.png", "duration": 3}, {"key_image": "c.png", "duration": 3}],
    "resolution": "540p",
}


def price(*arguments: str, provider: str = "vidu", stdin: Any = None) -> Result:
    text = None if stdin is None else stdin if isinstance(stdin, str) else json.dumps(stdin)
    return CliRunner().invoke(app, ["price", provider, *arguments], input=text, env={"NO_COLOR": "1"})


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(BODY))
    return str(path)


def test_a_request_is_priced_with_the_row_it_comes_from(request_file: str) -> None:
    said = price(request_file, "--path", "text2video")
    assert said.exit_code == 0
    credits, source = said.stdout.splitlines()
    assert credits == "35 credits"
    assert "text2video viduq2 720p 5 s" in source
    assert source.startswith("vidu prices ")


def test_the_request_may_come_from_the_standard_input_with_its_path() -> None:
    assert (
        price("-", stdin={"path": "text2video", "body": BODY}).stdout
        == price("-", "--path", "/ent/v2/text2video", stdin=BODY).stdout
    )


def test_a_range_shows_its_lower_bound() -> None:
    said = price("-", "--path", "multiframe", stdin=RANGE)
    assert said.exit_code == 0
    assert said.stdout.startswith("20 to 28 credits")


def test_json_has_everything_under_names_that_stay() -> None:
    document = json.loads(price("-", "--json", "--path", "multiframe", stdin=RANGE).stdout)
    source = document.pop("source")
    assert document == {
        "provider": "vidu",
        "path": "multiframe",
        "unit": "credits",
        "credits": 28,
        "credits_min": 20,
        "slots": 1,
    }
    assert "multiframe viduq2-turbo" in source
    exact = json.loads(price("-", "--json", "--path", "text2video", stdin=BODY).stdout)
    assert exact["credits"] == exact["credits_min"] == 35


def test_without_a_path_nothing_is_guessed_and_the_known_ones_are_named(request_file: str) -> None:
    said = price(request_file)
    assert said.exit_code == 2
    assert not said.stdout
    assert all(path in said.stderr for path in ("--path", "text2video", "one-click/mv", "upscale-new"))
    assert "surcharges" not in said.stderr


def test_two_paths_that_differ_are_a_wrong_call() -> None:
    document = {"path": "text2video", "body": BODY}
    assert price("-", "--path", "img2video", stdin=document).exit_code == 2
    assert price("-", "--path", "text2video", stdin=document).exit_code == 0


@pytest.mark.parametrize(("path", "why"), [("nowhere", "no row for this endpoint"), ("img2video", "model")])
def test_an_unknown_price_is_said_in_one_line(path: str, why: str) -> None:
    said = price("-", "--path", path, stdin={**BODY, "model": "viduq99"})
    assert said.exit_code == 1
    assert not said.stdout
    assert why in said.stderr
    assert said.stderr.count("\n") == 1


def test_what_depends_on_the_length_of_a_source_names_the_option_that_states_it() -> None:
    body = {"video_url": "a.mp4", "text": "ahoy"}
    assert "--source-seconds-max" in price("-", "--path", "lip-sync", stdin=body).stderr
    assert price("-", "--path", "lip-sync", "--source-seconds-max", "30", stdin=body).exit_code == 0


def test_a_price_list_of_ones_own_is_laid_over_the_shipped_one(request_file: str, tmp_path: Path) -> None:
    prices = tmp_path / "my.toml"
    prices.write_text("[text2video.viduq2]\nstep = { 720p = 6 }\n")
    said = price(request_file, "--path", "text2video", "--prices", str(prices))
    assert said.stdout.startswith("39 credits")
    assert "with changes" in said.stdout
    assert price(request_file, "--path", "text2video", "--prices", str(tmp_path / "none.toml")).exit_code == 2


def test_udio_is_priced_by_model() -> None:
    said = price("-", "--path", "generate", provider="udio", stdin={"model": "chirp-v5"})
    assert said.exit_code == 0
    assert said.stdout.startswith("12 credits")
    assert "upload-cover/generate" in price("-", provider="udio", stdin={}).stderr


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000])
def test_what_is_no_json_is_said_in_one_line(text: str) -> None:
    said = price("-", "--path", "text2video", stdin=text)
    assert said.exit_code == 2
    assert said.stderr.startswith("the standard input is not JSON")
    assert said.stderr.count("\n") == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = price(str(tmp_path / "nowhere.json"), "--path", "text2video")
    assert said.exit_code == 2
    assert "nowhere.json cannot be read: No such file" in said.stderr
