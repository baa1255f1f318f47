"""A short run of chaos, and what the long ones rest on. ``make chaos`` lets everything happen."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from budgetguard.model import RouteKind
from budgetguard.testing.exchange import Request
from budgetguard.testing.mishaps import Mishap
from tests.chaos.crew import Book
from tests.chaos.faults import FAULTS
from tests.chaos.figures import table
from tests.chaos.plan import FLAVOURS, WAYS, Scene, everything, first_pass, scenes
from tests.chaos.scene import Outcome, key_of
from tests.chaos.trade import Fake, Trade, trade
from tests.chaos.witness import Witness

_SEED = 4637
_SCENES = 4


@pytest.mark.timeout(300)
def test_whatever_goes_wrong_in_a_short_run_every_promise_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    run = ["--seed", str(_SEED), "--scenes", str(_SCENES), "--lanes", str(_SCENES), "--keep", str(kept)]
    command = [sys.executable, "-m", "tests.chaos", *run]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert len(list(kept.glob("scene-*/log.jsonl"))) == _SCENES
    assert list(kept.glob("scene-*/*.log")), "the library's own lines were not kept"
    assert list(kept.glob("scene-*/*/ours/errors.txt")), "nor its exceptions"
    assert f"\n{_SCENES} keys were used; keys found: 0 in " in done.stdout


def test_the_short_run_has_every_store_both_providers_every_way_and_the_worst_faults() -> None:
    played = list(itertools.islice(scenes(_SEED), _SCENES))
    parts = [part for scene in played for worker in scene.workers for part in worker]
    assert {scene.store for scene in played} == {"memory", "sqlite", "valkey"}
    assert {scene.provider for scene in played} == {"vidu", "udio"}
    assert {(part.flavour, part.way) for part in parts} == set(itertools.product(FLAVOURS, WAYS))
    assert {name for scene in played for name in scene.faults} >= {
        "lost",
        "stuck",
        "kill",
        "sleep",
        "fork",
        "disk-full",
    }


def test_the_same_seed_plans_the_same_faults_and_another_seed_others() -> None:
    def plan(seed: int) -> list[dict[str, Any]]:
        last = [everything(seed, -1, "sqlite"), everything(seed, -2, "valkey")]
        return [scene.as_dict() for scene in (*itertools.islice(scenes(seed), 30), *last)]

    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


@pytest.mark.parametrize("seed", range(20))
def test_every_fault_has_its_turn_in_the_first_pass_where_it_can_happen(seed: int) -> None:
    played = list(itertools.islice(scenes(seed), first_pass(seed) + 1))
    assert {name for scene in played for name in scene.faults} == set(FAULTS)
    for scene in played:
        assert {injection.fault for injection in scene.injections} >= {
            name for name in scene.faults if not FAULTS[name].whole
        }
        for name in scene.faults:
            assert scene.store in FAULTS[name].stores
            assert scene.provider in FAULTS[name].providers


# -- what the count rests on -----------------------------------------------------------------------------------------


def submit(fake: Fake, business: Trade, name: str) -> None:
    path, body = business.job(name)
    request = Request(
        "POST", path, headers={"authorization": business.headers("k")["Authorization"]}, body=json.dumps(body).encode()
    )
    for _ in fake.flow(request):
        pass


@pytest.fixture
def business() -> Trade:
    return trade("vidu", 2)


@pytest.fixture
def fake(business: Trade) -> Fake:
    return business.fake(3 * business.price, mode="reject")


@pytest.fixture
def witness(fake: Fake, business: Trade) -> Witness:
    return Witness(fake, business, log=lambda **facts: None, arrived=lambda name: None)


def test_a_refusal_nobody_else_is_to_blame_for_is_a_broken_promise(
    fake: Fake, business: Trade, witness: Witness
) -> None:
    for number in range(3):
        submit(fake, business, f"w0.0.0-{number}")
    assert [what for _, what in witness.breaches()] == ["refused_slots"]


def test_a_stranger_explains_as_many_refusals_as_he_took_slots_and_no_more(
    fake: Fake, business: Trade, witness: Witness
) -> None:
    taken, _ = fake.stranger_takes(slots=1, seconds=60.0)
    witness.took("stranger-slots", slots=taken)
    for number in range(3):
        submit(fake, business, f"w0.0.0-{number}")
    assert len(witness.breaches()) == 1
    assert [(foreign.what, foreign.calls, foreign.cost) for foreign in witness.foreign] == [("slots", 1, 1)]


def test_a_stranger_of_long_ago_explains_nothing(fake: Fake, business: Trade, witness: Witness) -> None:
    taken, _ = fake.stranger_takes(slots=1, seconds=60.0)
    witness.took("stranger-slots", slots=taken)
    witness.foreign[0].at -= 60.0
    for _ in range(4):
        fake.account.read()
    for number in range(2):
        submit(fake, business, f"w0.0.0-{number}")
    assert len(witness.breaches()) == 1


def test_a_call_that_comes_twice_was_sent_twice_unless_it_was_refused(
    fake: Fake, business: Trade, witness: Witness
) -> None:
    for name in ("w0.0.0-1", "w0.0.0-1", "w0.0.1-2", "w0.0.1-2"):
        submit(fake, business, name)  # the last two are refused
    assert witness.sent_twice() == ["w0.0.0-1"]
    assert witness.accepted() == {"w0.0.0-1": 2}


def test_answers_go_wrong_on_behalf_of_the_fault_that_ordered_it(fake: Fake, business: Trade, witness: Witness) -> None:
    witness.inject("503", Mishap("http_503"), times=1, on=RouteKind.SUBMIT)
    submit(fake, business, "w0.0.0-1")
    submit(fake, business, "w0.0.0-2")
    assert witness.met == {"503": 1}
    assert witness.accepted() == {"w0.0.0-2": 1}


def test_whoever_was_refused_still_wants_his_call_and_a_killed_process_wants_nothing() -> None:
    book = Book()
    for name in ("w0.0.0-1", "w0.0.1-2", "w1.0.0-1"):
        book.heed({"at": time.monotonic(), "begin": name})
    book.arrived("w0.0.0-1")
    book.heed({"end": "w0.0.1-2", "how": "not sent", "met": "StoreError"})
    assert book.wanting(set()) == ["w0.0.1", "w1.0.0"]
    assert book.wanting({"w1"}) == ["w0.0.1"]
    book.forget("w0")
    assert book.wanting(set()) == ["w1.0.0"]
    assert book.unanswered({"w1"}) == ["w0.0.0-1"]
    assert book.told("not sent") == ["w0.0.1-2"]
    assert book.told("task") == []


def test_a_guard_that_sends_nothing_any_more_is_found() -> None:
    book = Book()
    book.arrived("w0.0.0-1")
    began = time.monotonic()
    book.arrived("w0.1.pool-7")
    assert book.silent(["w0.0", "w0.1", "w1.0"], began) == ["w0.0", "w1.0"]
    book.arrived("w1.0.2-3")
    assert book.silent(["w0.0", "w1.0"], began) == ["w0.0"]


def test_the_table_shows_for_each_fault_what_its_scenes_came_to() -> None:
    scene = next(iter(scenes(_SEED)))
    outcome = Outcome(scene=scene, injected=dict.fromkeys(scene.faults, 7), calls=40, twice=["w0.0.0-1"], stall=1.26)
    shown = table([outcome], []).splitlines()
    row = next(line for line in shown if line.startswith(FAULTS[scene.faults[0]].says))
    assert row.split()[-8:] == ["7", "0", "0", "0", "0", "1", "1.3", "s"]
    assert len([line for line in shown if " 7 " in line]) == len(scene.faults)


# -- keys ------------------------------------------------------------------------------------------------------------


def a_scene() -> Scene:
    return next(iter(scenes(_SEED)))


def test_every_scene_has_a_key_of_its_own_and_always_the_same() -> None:
    keys = [key_of(scene) for scene in itertools.islice(scenes(_SEED), 20)]
    assert len(set(keys)) == 20
    assert key_of(a_scene()) == keys[0]
