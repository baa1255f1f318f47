from collections.abc import Iterator

import pytest

from tests.testing.listener import Listener


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener
