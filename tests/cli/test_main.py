from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from budgetguard._version import __version__
from budgetguard.cli import main
from budgetguard.cli.app import app

COMMANDS = (
    ("status", "vidu"),
    ("status", "udio"),
    ("price", "vidu"),
    ("price", "udio"),
    ("fake", "vidu"),
    ("fake", "udio"),
    ("demo",),
)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_sentence_says_what_to_install(missing: str) -> None:
    ran = python("-c", f"import sys; sys.modules[{missing!r}] = None; from budgetguard.cli import main; main()")
    assert ran.returncode == 2
    assert "pip install 'budgetguard-py[cli]'" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not ran.stdout


def test_a_fault_of_our_own_is_not_taken_for_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "budgetguard.cli.app")
    monkeypatch.setitem(sys.modules, "budgetguard.cli.price", None)
    # What the package remembers as its own must be looked up anew.
    monkeypatch.delattr("budgetguard.cli.price")
    monkeypatch.delattr("budgetguard.cli.app")
    with pytest.raises((ModuleNotFoundError, ImportError), match="price"):
        main()


def test_the_module_runs_like_the_command_and_says_its_version() -> None:
    ran = python("-m", "budgetguard", "--version")
    assert (ran.returncode, ran.stdout) == (0, f"budgetguard {__version__}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_shows_an_example(command: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    assert f"budgetguard {' '.join(command)}" in said.output.partition("Usage:")[2].partition("\n")[2]


def test_the_help_names_every_command() -> None:
    said = CliRunner().invoke(app, ["-h"])
    assert said.exit_code == 0
    assert all(name in said.output for name in ("status", "price", "demo", "fake"))


def test_an_unknown_command_is_a_wrong_call() -> None:
    assert CliRunner().invoke(app, ["nope"]).exit_code == 2
