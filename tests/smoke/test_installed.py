"""The package as it is installed: complete, typed, and at work with nothing but its own dependencies.

`tests.house.wheel` runs this module and the others that are marked as smoke against the built wheel.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import budgetguard
from budgetguard import AsyncGuard, Guard, InsufficientCredits, Policy
from budgetguard.providers import UdioPro, Vidu
from budgetguard.testing import FakeVidu

pytestmark = pytest.mark.smoke

BODY = {"model": "viduq2", "prompt": "a kite", "duration": 5, "resolution": "720p"}
HEADERS = {"Authorization": "Token vda_made_up"}
HOME = "https://api.vidu.com"
EXTRAS = {"budgetguard.celery", "budgetguard.cli", "budgetguard.stores._redis", "budgetguard.testing.loopback"}


def test_the_package_under_test_is_the_one_that_is_installed() -> None:
    place = os.environ.get("BUDGETGUARD_INSTALLED_IN")
    if place is None:
        pytest.skip("the tests run in the repository")
    assert Path(place).resolve() in Path(budgetguard.__file__).resolve().parents


def test_every_module_that_needs_no_extra_can_be_imported() -> None:
    names = [module.name for module in pkgutil.walk_packages(budgetguard.__path__, "budgetguard.", onerror=print)]
    assert len(names) > 80
    for name in names:
        if name.endswith("__main__") or any(name.startswith(extra) for extra in EXTRAS):
            continue
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            assert error.name in {"redis", "starlette", "uvicorn", "typer", "rich", "celery"}, name  # noqa: PT017


def test_it_says_that_it_is_typed_and_brings_its_price_lists_and_licence() -> None:
    files = resources.files("budgetguard")
    assert (files / "py.typed").is_file()
    assert (files / "providers" / "vidu_prices.toml").is_file()
    assert (files / "providers" / "udio_prices.toml").is_file()
    about = importlib.metadata.distribution("budgetguard-py")
    assert about.version == budgetguard.__version__
    assert about.metadata["License-Expression"] == "Apache-2.0"
    assert {point.name for point in about.entry_points} == {"budgetguard"}


def test_calls_are_admitted_refused_and_counted_by_a_blocking_client(tmp_path: Path) -> None:
    fake = FakeVidu(credits=100, limit=2, mode="reject")
    for store in (None, f"sqlite:///{tmp_path}/accounts.db"):
        with Guard(Vidu(), store=store, policy=Policy(max_wait=5.0)) as guard:
            transport = guard.transport(fake.transport())
            with httpx.Client(base_url=HOME, headers=HEADERS, transport=transport) as client:
                answer = client.post("/ent/v2/text2video", json=BODY)
                assert answer.status_code == 200
                with pytest.raises(InsufficientCredits):
                    client.post("/ent/v2/text2video", json=BODY, extensions={"budgetguard": {"credits": 101}})
                assert guard.state().pools[""].running + guard.state().pools[""].open >= 1
    assert fake.journal.breaches == 0


def test_permits_jobs_and_pools_work_on_an_event_loop() -> None:
    fake = FakeVidu(credits=100, limit=2, mode="reject")

    async def main() -> list[Any]:
        inner: Any = fake.transport()
        async with AsyncGuard(Vidu(), api_key="vda_made_up", inner=inner) as guard:
            async with guard.reserve(5) as permit:
                await permit.settle(charge=3)

            @guard.job(credits=2)
            async def render(number: int) -> int:
                return number * 10

            async with guard.pool() as pool:
                return [await render(4), *[value async for value in pool.map(render, [1, 2, 3])]]

    assert anyio.run(main) == [40, 10, 20, 30]


def test_what_needs_an_extra_says_which_to_install() -> None:
    code = "import sys\nfrom budgetguard.cli import main\nsys.argv = ['budgetguard', '--version']\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    try:
        importlib.import_module("typer")
    except ModuleNotFoundError:
        assert "budgetguard-py[cli]" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    else:
        assert budgetguard.__version__ in done.stdout
    try:
        importlib.import_module("redis")
    except ModuleNotFoundError:
        with pytest.raises(budgetguard.BudgetGuardError, match=r"budgetguard-py\[redis\]"):
            Guard(UdioPro(), store="redis://localhost")
