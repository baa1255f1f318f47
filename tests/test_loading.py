"""What is loaded with a guard, and what only by whoever uses it: that is what an import costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.smoke

_LATER = ("asyncio", "structlog", "tomllib", "sqlite3", "redis", "trio", "budgetguard.providers.vidu")


def loaded(statement: str) -> set[str]:
    """Tell which modules there are after a statement that are not after ``import httpx``."""
    code = f"import httpx, json, sys; old = set(sys.modules); {statement}; print(json.dumps([*set(sys.modules) - old]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_package_alone_loads_nothing_but_its_version() -> None:
    assert {name for name in loaded("import budgetguard") if name.startswith("budgetguard")} == {
        "budgetguard",
        "budgetguard._version",
    }


def test_a_guard_loads_no_event_loop_no_store_of_others_and_no_price_list() -> None:
    names = loaded("from budgetguard import Guard, AsyncGuard")
    assert "budgetguard.guard" in names
    assert not names.intersection(_LATER)


def test_an_adapter_is_loaded_without_the_others() -> None:
    names = loaded("from budgetguard.providers import Vidu")
    assert "budgetguard.providers.vidu" in names
    assert "budgetguard.providers.udio" not in names
