"""Bars, and reports."""

from __future__ import annotations

import builtins
import pickle
from typing import Any

import anyio
import pytest

from budgetguard.errors import InsufficientCredits, SettingError
from budgetguard.guard import Guard
from budgetguard.pool import JobResult, NotRun, PoolProgress, PoolReport
from tests.pool.ground import Ground
from tests.support.vidu import PRICE


@pytest.fixture
def guard(ground: Ground) -> Guard:
    ground.end()
    return ground.guard()


def test_a_callable_is_told_of_every_job_that_begins_or_is_over(ground: Ground, guard: Guard) -> None:
    looks: list[PoolProgress] = []
    with guard.pool(credits=PRICE, progress=looks.append) as pool:
        list(pool.map(ground.job, range(5)))
        assert len(looks) == 10
    last = looks[-1]
    assert (last.done, last.failed, last.not_run, last.running) == (5, 0, 0, 0)
    assert (last.ended, last.total, last.limit, last.spent, last.free) == (5, 5, 3, 50, 950)
    assert [look.ended for look in looks] == sorted(look.ended for look in looks)
    assert max(look.running for look in looks) <= 3


class Bar:
    """What tqdm offers, as far as it is needed."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def update(self, n: int = 1) -> bool | None:
        self.steps.append(n)
        return None


def test_a_bar_is_moved_on_by_one_for_each_job_that_is_over(ground: Ground) -> None:
    ground = Ground(credits=25)
    ground.end()
    bar = Bar()
    with ground.guard().pool(credits=PRICE, progress=bar) as pool, pytest.raises(InsufficientCredits):
        list(pool.map(ground.job, ground.items(5)))
    assert sum(bar.steps) == 3
    assert set(bar.steps) == {1}


@pytest.mark.anyio
async def test_a_bar_is_moved_on_by_tasks_too(ground: Ground) -> None:
    ground.end()
    bar = Bar()
    async with ground.async_guard().pool(progress=bar) as pool:
        jobs = [pool.submit(ground.ajob, number) for number in range(4)]
        for job in jobs:
            await job
        await anyio.lowlevel.checkpoint()
    assert sum(bar.steps) == 4


def test_rich_shows_how_many_are_done_run_and_may_run_and_what_it_cost(
    guard: Guard, ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    with guard.pool(credits=PRICE, progress=True) as pool:
        list(pool.map(ground.job, range(4)))
    shown = capsys.readouterr().out
    assert "4/4 done, 0 of 3 run, 40 spent, 960 left" in " ".join(shown.split())


def test_without_rich_a_bar_says_what_to_install(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingError, match=r"budgetguard-py\[progress\]"):
        guard.pool(progress=True)


def test_a_bar_that_fails_stops_no_job(ground: Ground, guard: Guard, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(look: PoolProgress) -> None:
        raise OSError("no terminal")

    with guard.pool(progress=fails) as pool:
        assert list(pool.map(ground.job, range(5))) == [0, 10, 20, 30, 40]
    assert capsys.readouterr().out.count("progress_failed") == 1


def test_a_bar_may_look_at_the_pool_and_give_it_work(ground: Ground, guard: Guard) -> None:
    more: list[Any] = []

    def look(progress: PoolProgress) -> None:
        assert pool.report.done == progress.done
        if progress.done == 2 and not more:
            more.append(pool.submit(ground.job, 7))

    with guard.pool(progress=look) as pool:
        list(pool.map(ground.job, range(2)))
    assert more[0].result() == 70


def test_a_report_reads_well() -> None:
    error = ValueError("no such model")
    report = PoolReport(
        3,
        1,
        2,
        (NotRun(4, ("a" * 100,), {}, "stopped"), NotRun(5, (1,), {"seed": 2}, error)),
        None,
        70,
        (JobResult(2, (1,), None, error),),
    )
    assert repr(report) == "PoolReport(3 done, 1 failed, 2 running, 2 not run, an unknown number left, 70 credits)"
    assert str(report).splitlines() == [
        repr(report),
        "  not run #4 ('" + "a" * 56 + "...): stopped",
        "  not run #5 (1, seed=2): ValueError: no such model",
        "  failed #2: ValueError: no such model",
    ]
    assert report.ended == 6
    many = PoolReport(not_run=tuple(NotRun(n, (n,), {}, "stopped") for n in range(30)), left=4)
    assert str(many).splitlines()[-1] == "  not run: and 20 more"
    assert "4 left" in repr(many)
    assert pickle.loads(pickle.dumps(many)) == many  # noqa: S301 - our own
