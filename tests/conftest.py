"""What all tests share."""

from __future__ import annotations

import gc
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine, not about the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("suite")

# Some images forbid bytecode. Every process a test starts would then compile the library anew, which takes it three
# times as long as all else it does until it begins; and pytest would rewrite every assertion in every run.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    sys.dont_write_bytecode = False


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector pass over modules and tests, which live to the end; who calls it looks for what a test made."""
    gc.collect()
    gc.freeze()
