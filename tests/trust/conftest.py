from __future__ import annotations

import pytest

from tests.support.ways import Way, way_named


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def way(request: pytest.FixtureRequest) -> Way:
    """How the test holds: with `Guard` in threads, or with `AsyncGuard` on either event loop."""
    return way_named(request.param)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name = str(request.getfixturevalue("way")) if "way" in request.fixturenames else "asyncio"
    return "trio" if name == "trio" else "asyncio"
