"""Fixtures for pytest, known to it as soon as the library is installed.

``fake_vidu`` and ``fake_udio`` are served on a free port of this machine for the length of one test; their address is
``fake_vidu.url``. The factories make as many as a test needs, with any settings. Nothing is imported before a test asks
for a fixture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from budgetguard.testing.udio import FakeUdio
    from budgetguard.testing.vidu import FakeVidu


class FakeViduFactory(Protocol):
    """Makes fakes that are served until the test ends. Since 0.1."""

    def __call__(self, credits: int = 500, limit: int | None = 5, **settings: Any) -> FakeVidu:
        """Make one; the settings are those of `FakeVidu`. Since 0.1."""
        ...


class FakeUdioFactory(Protocol):
    """Makes fakes that are served until the test ends. Since 0.1."""

    def __call__(self, credits: int = 500, limit: int | None = None, **settings: Any) -> FakeUdio:
        """Make one; the settings are those of `FakeUdio`. Since 0.1."""
        ...


@pytest.fixture
def fake_vidu_factory() -> Iterator[FakeViduFactory]:
    """Make served fakes of Vidu: ``fake_vidu_factory(credits=50, limit=2, mode="reject")``. Since 0.1."""
    from budgetguard.testing.vidu import FakeVidu  # noqa: PLC0415 - only when a test asks

    with contextlib.ExitStack() as stack:

        def make(credits: int = 500, limit: int | None = 5, **settings: Any) -> FakeVidu:
            fake = FakeVidu(credits, limit, **settings)
            stack.enter_context(fake.serve())
            return fake

        yield make


@pytest.fixture
def fake_vidu(fake_vidu_factory: FakeViduFactory) -> FakeVidu:
    """Serve a Vidu with 500 credits and 5 slots at ``fake_vidu.url``. Since 0.1."""
    return fake_vidu_factory()


@pytest.fixture
def fake_udio_factory() -> Iterator[FakeUdioFactory]:
    """Make served fakes of Udio API pro: ``fake_udio_factory(credits=50, style="envelope")``. Since 0.1."""
    from budgetguard.testing.udio import FakeUdio  # noqa: PLC0415 - only when a test asks

    with contextlib.ExitStack() as stack:

        def make(credits: int = 500, limit: int | None = None, **settings: Any) -> FakeUdio:
            fake = FakeUdio(credits, limit, **settings)
            stack.enter_context(fake.serve())
            return fake

        yield make


@pytest.fixture
def fake_udio(fake_udio_factory: FakeUdioFactory) -> FakeUdio:
    """Serve a Udio API pro with 500 credits at ``fake_udio.url``. Since 0.1."""
    return fake_udio_factory()
