"""Every target, tried with some hundred cases; and the search itself, which must find what is wrong and keep it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import main
from tests.fuzz.runner import Tally, kept, read, tried
from tests.fuzz.settings import Settings
from tests.fuzz.target import Broken, Target
from tests.fuzz.targets import TARGETS, made

_ODD = [b"", b"\n", b"{}\n", b"\xff\xfe\x00", b"[" * 3000]
_open: dict[str, Target] = {}


def opened(name: str) -> Target:
    """Make a target once."""
    if name not in _open:
        _open[name] = made(name)
    return _open[name]


@pytest.fixture(scope="module", autouse=True)
def closing() -> object:
    yield
    for target in _open.values():
        target.close()
    _open.clear()


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_spoilt_breaks_no_promise(name: str) -> None:
    target = opened(name)

    @settings(
        max_examples=target.examples,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(chance=st.randoms(use_true_random=False, note_method_calls=False))
    def unbroken(chance: random.Random) -> None:
        target.run(target.draw(chance))

    unbroken()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("case", _ODD, ids=["none", "line", "facts", "bytes", "deep"])
def test_any_bytes_are_a_case(name: str, case: bytes) -> None:
    target = opened(name)
    target.run(case)


def test_every_setting_is_refused_by_name_where_it_cannot_work() -> None:
    target = opened("settings")
    assert isinstance(target, Settings)
    assert target.count > 10_000
    for case in target.every():
        target.run(case)


class Faulty(Target):
    """Breaks where a case has an x, and crashes where it has a y."""

    name = "faulty"

    def draw(self, chance: random.Random) -> bytes:
        return bytes(chance.choice(b"abcdefgxy") for _ in range(30))

    def run(self, case: bytes) -> None:
        if b"x" in case:
            raise Broken("an x")
        if b"y" in case:
            raise ZeroDivisionError


def test_what_is_found_is_made_smaller_kept_and_read_back(tmp_path: Path) -> None:
    tally = tried(Faulty(), 7, lambda tally: tally.tried >= 200)
    assert tally.tried == 200
    assert tally.broken > 100
    assert sorted(found.case for found in tally.found) == [b"x", b"y"]
    for found in tally.found:
        path = kept(found, tmp_path)
        assert read(path) == ("faulty", found.case)
        assert found.fault in path.with_suffix(".txt").read_text("utf-8")


def test_the_same_seed_draws_the_same_cases() -> None:
    def cases(seed: int) -> list[bytes]:
        drawn: list[bytes] = []

        class Noting(Faulty):
            def run(self, case: bytes) -> None:
                drawn.append(case)

        tried(Noting(), seed, lambda tally: tally.tried >= 5, Tally("faulty"))
        return drawn

    assert cases(1) == cases(1) != cases(2)


def test_the_command_tells_how_many_inputs_were_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--minutes", "0.002", "--seed", "3", "--processes", "1", "--target", "vidu-credits"]
    assert main([*arguments, "--findings", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "seed 3, 1 targets" in said
    assert "vidu-credits" in said
    case = tmp_path / "vidu-credits-0.case"
    case.write_bytes(b'{"status": 200}\n{"remains": [], "remaining_credits": [{}]}')
    assert main(["--replay", str(case)]) == 0
    assert "Every promise was kept." in capsys.readouterr().out
