"""Text of others, as the command line shows it: printed, and never obeyed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from budgetguard.cli.app import app
from tests.fuzz.commands import Commands
from tests.fuzz.target import joined

ODD = [r'"\ud800"', '"[/red]"', '"[bold]x"', r'"\u001b[2J"', r'"\u001b]0;x\u0007"', r'"a\nb\rc"', r'"\u202e"', '"猫"']
ROW = '{"type": %s, "credit_remain": 1, "concurrency_limit": 1, "current_concurrency": 0, "queue_count": 0}'
PACKAGE = '{"id": "1", "name": %s, "type": "metered", "credit_remain": 1, "valid_to": %s}'


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    target = Commands()
    yield target
    target.close()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_provider_writes_is_printed_and_not_obeyed(commands: Commands, odd: str, *, as_json: bool) -> None:
    listed = f'{{"remains": [{ROW % odd}], "packages": [{PACKAGE % (odd, odd)}]}}'
    commands.run(joined({"command": "status vidu", "json": as_json}, listed.encode()))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_file_of_jobs_holds_is_printed_and_not_obeyed(commands: Commands, odd: str, *, as_json: bool) -> None:
    for line in (f'{{"credits": 5, "label": {odd}}}', f'{{"path": {odd}, "body": {{}}}}'):
        commands.run(joined({"command": "plan", "json": as_json}, line.encode()))
    for body in (f'{{"path": {odd}, "body": {{}}}}', f'{{"path": "text2video", "body": {{"model": {odd}}}}}'):
        commands.run(joined({"command": "price vidu", "json": as_json}, body.encode()))


def test_a_price_of_odd_text_is_told_in_json() -> None:
    given = '{"text": "\\ud800"}'
    said = CliRunner().invoke(app, ["price", "vidu", "-", "--json", "--path", "audio-tts"], input=given)
    assert json.loads(said.stdout)["credits"] == 10
