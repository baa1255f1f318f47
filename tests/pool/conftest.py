from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.pool.ground import Ground, pool_threads, wait_until


@pytest.fixture
def ground() -> Iterator[Ground]:
    ground = Ground()
    yield ground
    ground.end()
    wait_until(ground, lambda: not pool_threads())


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param
