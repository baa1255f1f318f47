"""Small fleets: what must hold however slow the machine is. ``python -m tests.fleet`` runs the large ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fleet.cost import Meter, SQLiteMeter, ValkeyMeter, grows, measure
from tests.fleet.figures import fairness, promises
from tests.fleet.ground import SQLiteGround, ValkeyGround, ground
from tests.fleet.plan import Plan
from tests.fleet.run import Run, play

SMALL = Plan(processes=3, jobs=45, limit=9, threads=6, seconds=(0.2, 0.5), poll=0.05, lease=10.0, time_max=40.0)
MORTAL = replace(SMALL, lease=1.0, spare=10_000)


def broken(run: Run, *, calm: bool) -> list[str]:
    return [promise.says for promise in promises(run.figures, None, calm=calm) if promise.exact and not promise.kept]


@pytest.mark.parametrize("store", ["sqlite", "valkey"])
def test_processes_that_share_a_store_are_never_refused_and_look_one_at_a_time(store: str) -> None:
    with ground(store) as place:
        run = Run(SMALL, place)
        play([run])
    assert broken(run, calm=True) == []
    assert run.figures.left == 0


@pytest.mark.parametrize("store", ["sqlite", "valkey"])
def test_what_killed_processes_held_is_there_again_after_one_lease_and_one_reading(store: str) -> None:
    with ground(store) as place:
        run = Run(MORTAL, place, kills=2)
        play([run])
    assert broken(run, calm=False) == []
    assert run.figures.kills > 0


@pytest.mark.parametrize("trouble", ["empty", "data", "flush"])
def test_whatever_befalls_the_server_nobody_is_refused_and_the_same_processes_go_on(trouble: str) -> None:
    with ground("valkey", trouble=trouble) as place:
        run = Run(MORTAL, place, trouble=trouble, moments=(0.4,))
        play([run])
    assert broken(run, calm=False) == []


@pytest.mark.parametrize("store", ["sqlite", "valkey"])
def test_an_operation_costs_the_same_with_10_and_with_10_000_calls_held(store: str) -> None:
    with ground(store) as place:
        meter: Meter
        if isinstance(place, ValkeyGround):
            meter = ValkeyMeter(place)
        else:
            assert isinstance(place, SQLiteGround)
            meter = SQLiteMeter(place.url)
        few, many = measure(meter, 10), measure(meter, 10_000)
        meter.store.close()
    assert grows(few, many) == []
    assert {name: cost.trips for name, cost in few.items()} == {
        "admit": 1,
        "renew its lease": 1,
        "accept": 1,
        "end its task": 2,
        "give back": 1,
        "new reading": 4,
    }


def test_fairness_is_1_where_all_have_the_same_and_1_in_n_where_one_has_everything() -> None:
    assert fairness([5, 5, 5, 5]) == 1.0
    assert fairness([20, 0, 0, 0]) == 0.25
    assert fairness([0, 0]) == 1.0
