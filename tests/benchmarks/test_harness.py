"""What is printed about speed is counted right: pairs, ratios, goals, and rows that fail. No time is looked at."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.__main__ import main, measure
from benchmarks.contest import Contest, Measured, Pace
from benchmarks.machine import facts, headline
from benchmarks.peers import PEERS, peer
from benchmarks.results import save
from benchmarks.show import show, summary
from benchmarks.subjects import SUBJECTS, load
from benchmarks.table import ADDED, VALUE, Column, Goal, Spread, Table

QUICK = Pace(fast=True)


@pytest.fixture(autouse=True)
def no_garbage_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done before each sample takes long beside a whole test suite, and changes nothing here."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


class Script:
    """Gives figures in the order of a list, and notes who was asked when."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __call__(self, name: str, *figures: float) -> Callable[[], float]:
        left = iter(figures)

        def work() -> float:
            self.log.append(name)
            return next(left)

        return work


def contest(**settings: Any) -> Contest:
    return Contest("a race", "slow", QUICK, unit="ms", rounds=3, **settings)


def test_ratios_are_taken_within_a_round_and_the_median_over_all() -> None:
    script, race = Script([]), contest()
    race.run("slow", script("slow", 1.0, 10.0, 100.0), kind="floor")
    race.run("ours", script("ours", 2.0, 40.0, 300.0), kind="ours")
    row = race.table().row("ours")
    assert row.ratio == Spread(2.0, 3.0, 4.0)  # the medians alone are 40 to 10
    assert row.value == Spread(2.0, 40.0, 300.0)
    assert row.added == Spread(1.0, 30.0, 200.0)


def test_rounds_are_interleaved_in_an_order_that_changes() -> None:
    log: list[str] = []
    script = Script(log)
    race = Contest("a race", "a", QUICK, rounds=12)
    for name in "abc":
        race.run(name, script(name, *[1.0] * 12))
    race.table()
    rounds = ["".join(log[start : start + 3]) for start in range(0, 36, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 1


def test_a_row_may_stand_beside_another_than_the_tables() -> None:
    script, race = Script([]), contest()
    race.run("slow", script("slow", 8.0, 8.0, 8.0))
    race.run("ours, once", script("once", 2.0, 2.0, 2.0))
    race.run("ours, many", script("many", 3.0, 3.0, 3.0), beside="ours, once")
    assert race.table().row("ours, many").ratio == Spread(1.5, 1.5, 1.5)


def test_quartiles_are_shown_where_there_are_rounds_enough() -> None:
    assert Spread.over([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(2.0, 3.0, 4.0)
    assert Spread.over([3.0, 1.0]) == Spread(1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("goal", "figure", "holds", "stretches"),
    [
        (Goal(3, 2), 3.0, True, False),
        (Goal(3, 4), 3.0, True, True),
        (Goal(2.9), 3.0, False, None),
        (Goal(3, sign=">="), 3.0, True, None),
        (Goal(3.1, sign=">="), 3.0, False, None),
        (Goal(2, of=ADDED), 2.0, True, None),
        (Goal(1.9, of=ADDED), 2.0, False, None),
        (Goal(3, of=VALUE), 3.0, True, None),
        (Goal(1, of="requests", sign="=="), 7.0, False, None),
        (Goal(7, of="requests", sign="=="), 7.0, True, None),
        (Goal(0.5, beside="peer"), 0.5, True, None),
        (Goal(0.4, beside="peer"), 0.5, False, None),
    ],
)
def test_a_goal_is_judged_by_the_figure_it_is_about(
    goal: Goal, figure: float, holds: bool, stretches: bool | None
) -> None:
    race = contest(columns=[Column("requests", over="max")])
    requests = iter([1.0, 7.0, 2.0])
    race.run("slow", lambda: 1.0)
    race.run("peer", lambda: 6.0)
    race.run("ours", lambda: Measured(3.0, {"requests": next(requests)}), kind="ours", goals=(goal,))
    (verdict,) = race.table().row("ours").verdicts
    assert (verdict.figure, verdict.holds, verdict.stretches) == (figure, holds, stretches)


def broken() -> Table:
    """A race with a peer that is not there, one that fails in the middle, and a goal that looks at it."""
    race, times = contest(), iter([1.0])
    race.run("slow", lambda: 1.0, kind="floor")
    race.statement("not there", "it.hit()", lambda: {"it": peer("no_such_limiter").Limiter()})
    race.run("gives up", lambda: next(times))
    race.run("ours", lambda: 2.0, kind="ours", goals=(Goal(2), Goal(1), Goal(1, beside="not there")))
    return race.table()


def test_a_row_that_fails_says_why_and_disturbs_no_other() -> None:
    table = broken()
    assert table.row("not there").reason == "not installed: no_such_limiter"
    assert table.row("gives up").reason.startswith("StopIteration")
    assert table.row("gives up").value is None
    assert table.row("ours").ratio == Spread(2.0, 2.0, 2.0)


def test_a_row_beside_nothing_is_a_mistake_in_the_subject() -> None:
    race = contest()
    race.run("ours", lambda: 1.0)
    with pytest.raises(ValueError, match="stands beside 'slow', which is no row"):
        race.table()


def test_the_last_line_counts_the_goals_and_names_those_missed_or_not_measured() -> None:
    table = broken()
    table.subject = "race"
    assert summary([table]) == (
        "goals met: 1 of 3; missed: race, ours (2.00, goal <= 1); "
        "not measured: race, ours (goal <= 1 of not there): no figure of not there"
    )
    assert summary([]) == "goals met: 0 of 0"


def printed(table: Table) -> str:
    console = Console(width=200, record=True, quiet=False, file=Path("/dev/null").open("w", encoding="utf-8"))  # noqa: SIM115
    with console.file:
        show(console, table)
    return console.export_text()


def test_a_table_prints_every_row_with_its_ratio_first() -> None:
    lines = [line.rstrip() for line in printed(broken()).splitlines()]
    assert lines[1:3] == ["a race", lines[2]]
    assert lines[2].startswith("ratio to: slow; 3 rounds")
    assert lines[3].split() == ["ratio", "quartiles", "ms", "goal"]
    assert lines[5].split() == ["not", "there", "-"]
    assert lines[7].startswith("ours")
    assert lines[7].split()[1:7] == ["2.00", "x", "2.00", "to", "2.00", "2.00"]
    assert lines[7].endswith("<= 2 met")
    assert [line.strip() for line in lines[8:10]] == ["<= 1 missed", "<= 1 of not there: ?"]
    assert lines[10] == "not there: not installed: no_such_limiter"
    assert lines[11].startswith("gives up: StopIteration")


def test_a_statement_runs_as_often_as_is_said_with_new_names_where_it_must() -> None:
    made: list[list[int]] = []
    tidied: list[int] = []

    def names() -> dict[str, list[int]]:
        made.append([])
        return {"done": made[-1]}

    race = Contest("counted", "slow", QUICK, rounds=2)
    race.statement("slow", "done.append(1)", names, times=5, fresh=True, between=lambda done: tidied.append(len(done)))
    table = race.table()
    assert [len(each) for each in made] == [5, 5, 5]  # once to warm up
    assert tidied == [0, 0, 0]
    value = table.row("slow").value
    assert value is not None
    assert value.low > 0


def test_an_awaiting_statement_keeps_its_loop_from_setup_to_the_last_round() -> None:
    race = Contest("awaited", "slow", QUICK, rounds=2)

    async def names() -> dict[str, Any]:
        import asyncio

        loop = asyncio.get_running_loop()
        return {"loop": loop, "current": asyncio.get_running_loop, "sleep": asyncio.sleep}

    race.statement("slow", "assert current() is loop\nawait sleep(0)", names, asynchronous=True, times=3)
    row = race.table().row("slow")
    assert row.reason == ""
    assert row.ratio == Spread(1.0, 1.0, 1.0)


def test_the_json_holds_what_the_tables_do(tmp_path: Path) -> None:
    machine = facts()
    assert "Python" in headline(machine)
    save(tmp_path / "results" / "run.json", machine, [broken()], fast=True)
    document = json.loads((tmp_path / "results" / "run.json").read_text("utf-8"))
    assert document["fast"] is True
    names = [re.split(r"[=\[]", line)[0] for line in PEERS.read_text("utf-8").split()]
    assert list(document["machine"]["peers"]) == names
    (table,) = document["tables"]
    assert (table["title"], table["reference"], table["unit"], table["rounds"]) == ("a race", "slow", "ms", 3)
    ours = next(row for row in table["rows"] if row["name"] == "ours")
    assert ours["ratio"] == {"low": 2.0, "middle": 2.0, "high": 2.0}
    assert [(each["goal"]["limit"], each["holds"]) for each in ours["verdicts"]] == [(2, True), (1, False), (1, False)]


def test_a_subject_that_breaks_is_told_and_the_next_one_is_measured() -> None:
    def fails(_: Pace) -> Iterator[Table]:
        yield from ()
        raise RuntimeError("no server")

    def works(_: Pace) -> Iterator[Table]:
        yield broken()

    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        tables: list[Table] = []
        wrong = measure({"one": lambda: fails, "two": lambda: works}, QUICK, Console(file=nowhere), tables)
    assert wrong == ["one (RuntimeError: no server)"]
    assert [table.subject for table in tables] == ["two"]


def test_every_subject_can_be_found() -> None:
    for name in SUBJECTS:
        assert callable(load(name))


def test_a_subject_nobody_knows_is_an_error_that_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "memory,nonsense"])
    assert f"no such subject: nonsense; there are {', '.join(SUBJECTS)}" in " ".join(capsys.readouterr().err.split())
