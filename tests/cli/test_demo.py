from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from budgetguard.cli.app import app
from budgetguard.cli.demo import command, jobs, measure, stage
from budgetguard.cli.demo.measure import Figures, promises, slots_used
from budgetguard.cli.demo.runs import Guarded, Run, Told, Unguarded
from budgetguard.cli.demo.view import watch
from budgetguard.testing import Entry, Fact


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of half a second. What a reading finds a tenth of a second late weighs more then, so less is asked."""
    monkeypatch.setattr(jobs, "_SECONDS", (0.3, 0.7))
    monkeypatch.setattr(stage, "_MEAN_SECONDS", 0.5)
    monkeypatch.setattr(measure, "SLOTS_SHARE_MIN", 0.5)


@pytest.mark.parametrize("way", list(command.Way))
def test_a_small_demonstration_keeps_its_promises_and_says_so_in_plain_lines(hurried: None, way: str) -> None:
    said = CliRunner().invoke(app, ["demo", "--jobs", "12", "--seed", "3", "--way", way], env={"COLUMNS": "80"})
    assert said.exit_code == 0, said.output
    assert "\x1b" not in said.output
    assert "✗" not in said.output
    assert said.output.count("✓") == 4
    for column in ("with the guard", "told at once", "without it"):
        assert f"{column}: " in said.output
    for row in ("admitted", "queued for a slot", "refused before sending", "charged", "asked for the balance"):
        assert row in said.output


def test_a_promise_that_was_not_kept_ends_with_1(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SLOTS_SHARE_MIN", 2.0)
    said = CliRunner().invoke(app, ["demo", "--jobs", "12", "--seed", "3", "--plain"])
    assert said.exit_code == 1
    assert said.output.count("✗") == 1
    assert "✗ The guard used the slots" in said.output


@pytest.fixture(params=list(command.Way))
def played(hurried: None, request: pytest.FixtureRequest) -> list[Run]:
    scene = stage.scene(16, seed=5)
    runs: list[Run] = [command.WAYS[request.param](scene), Told(scene), Unguarded(scene)]
    command.play(runs)
    return runs


def is_refused_without_it(run: Run) -> bool:
    """Tell whether an unguarded run met full slots.

    Where the machine is so busy that one caller's task has ended before the next one comes, nobody does: then it has
    the machine to itself, and another chance.
    """
    for _ in range(3):
        if run.figures is not None and run.figures.refused_slots > 0:
            return True
        run = Unguarded(run.scene)
        command.play([run])
    return False


def test_the_guard_is_never_refused_and_the_same_batch_without_it_is(played: list[Run]) -> None:
    guarded, told, bare = (run.figures for run in played)
    assert guarded is not None
    assert told is not None
    assert bare is not None
    assert (guarded.refused_slots, guarded.refused_credits, guarded.failed) == (0, 0, 0)
    assert guarded.admitted == guarded.accepted == guarded.submits == guarded.done
    assert guarded.done + guarded.refused == 16
    assert guarded.refused > 0
    assert guarded.asked > 0
    assert told.refused_slots == 0
    assert told.refused == bare.refused == 0
    assert is_refused_without_it(played[2])
    assert bare.refused_credits > 0
    assert bare.submits == bare.accepted + bare.refused_slots + bare.refused_credits
    for run, figures in zip(played, (guarded, told, bare), strict=True):
        spent = sum(act.spends for act in run.scene.acts)
        assert figures.charged + figures.left + spent == run.scene.credits
        assert 0 < figures.used <= 1.01
        assert run.look().left == 0


def test_the_live_view_shows_every_run_on_a_wide_and_on_a_narrow_terminal(played: list[Run]) -> None:
    for width in (120, 70):
        console = Console(width=width, force_terminal=True, record=True, file=open_nothing())
        with watch(console, played, plain=False):
            time.sleep(0.01)
        shown = console.export_text()
        for word in ("with the guard", "told at once", "without it", "balance", "slots", "line", "done", "refused"):
            assert word in shown, (width, word)


def open_nothing() -> io.StringIO:
    return io.StringIO()


def test_every_way_into_the_guard_can_be_shown() -> None:
    assert command.WAYS.keys() == set(command.Way)
    assert command.WAYS[command.Way.TRANSPORT] is Guarded
    assert CliRunner().invoke(app, ["demo", "--way", "window"]).exit_code == 2


def test_a_run_that_cannot_start_ends_the_demonstration(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Told, url: str) -> httpx.Client:
        raise RuntimeError("no client today")

    monkeypatch.setattr(Told, "_client", broken)
    with pytest.raises(RuntimeError, match="no client today"):
        command.play([kind(stage.scene(12, seed=1)) for kind in (Guarded, Told, Unguarded)])


def test_a_seed_gives_the_same_scene_again_and_another_one_another() -> None:
    assert stage.scene(60, 7) == stage.scene(60, 7)
    assert stage.scene(60, 7) != stage.scene(60, 8)


@pytest.mark.parametrize("count", [12, 13, 25, 60, 500])
def test_every_scene_is_short_of_credits_and_what_is_ours_never_shrinks(count: int) -> None:
    for seed in range(20):
        scene = stage.scene(count, seed)
        spent = sum(act.spends for act in scene.acts)
        assert scene.credits - spent < sum(scene.work.credits.values())
        ours = [act.ours for act in scene.acts]
        assert ours == sorted(ours)
        assert ours[0] > 0
        assert max(ours) < scene.threads <= count
        limits = [act.limit for act in scene.acts]
        assert limits[0] < max(limits) > limits[-1]


# -- how the runs are measured --------------------------------------------------------------------------------------


def entries(*moves: tuple[float, Fact]) -> Iterator[Entry]:
    return (Entry(at, fact) for at, fact in moves)


def test_slots_are_counted_from_the_first_task_to_the_last_that_was_accepted() -> None:
    journal = [(1.0, Fact.ACCEPTED), (1.0, Fact.ACCEPTED), (3.0, Fact.SUCCEEDED), (3.0, Fact.ACCEPTED)]
    tail = [(9.0, Fact.SUCCEEDED), (9.0, Fact.SUCCEEDED)]
    assert slots_used(entries(*journal, *tail), [(0.0, 2)]) == 1.0
    assert slots_used(entries(*journal, *tail), [(0.0, 4)]) == 0.5
    assert slots_used(entries(*journal, *tail), [(0.0, 2), (2.0, 6)]) == 0.5


def test_the_time_between_the_end_of_a_task_and_the_start_of_the_next_is_lost() -> None:
    journal = entries((0.0, Fact.ACCEPTED), (3.0, Fact.SUCCEEDED), (4.0, Fact.ACCEPTED), (5.0, Fact.SUCCEEDED))
    assert slots_used(journal, [(0.0, 1)]) == 0.75


def test_a_batch_without_two_tasks_lost_nothing() -> None:
    assert slots_used(entries(), [(0.0, 3)]) == 1.0
    assert slots_used(entries((1.0, Fact.ACCEPTED)), [(0.0, 3)]) == 1.0


GOOD = Figures(
    title="with the guard",
    jobs=10,
    done=8,
    admitted=8,
    queued=6,
    refused=2,
    failed=0,
    cheapest=12,
    seconds=1.0,
    submits=8,
    accepted=8,
    charged=100,
    refused_slots=0,
    refused_credits=0,
    asked=5,
    left=11,
    used=0.95,
)


def test_each_broken_promise_is_found() -> None:
    told = replace(GOOD, used=1.0)
    assert all(promise.kept for promise in promises(GOOD, told))
    for place, broken in enumerate(
        (
            replace(GOOD, refused_slots=1),
            replace(GOOD, used=0.94),
            replace(GOOD, left=12),
            replace(GOOD, refused=1),
        )
    ):
        kept = [promise.kept for promise in promises(broken, told)]
        assert kept == [place != other for other in range(4)], broken


def test_a_batch_that_was_all_done_may_leave_credits() -> None:
    assert all(promise.kept for promise in promises(replace(GOOD, cheapest=None, left=500), GOOD))
