"""All targets, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.fuzz import answers, settings
from tests.fuzz.callbacks import Callbacks
from tests.fuzz.commands import Commands
from tests.fuzz.files import Files
from tests.fuzz.hashes import Hashes
from tests.fuzz.prices import Bodies, PriceFiles
from tests.fuzz.target import Target
from tests.fuzz.through import Through
from tests.fuzz.tokens import Records, Tokens

__all__ = ["TARGETS", "made"]

TARGETS: Mapping[str, Callable[[], Target]] = {
    **{target.name: lambda target=target: target for target in answers.TARGETS},  # type: ignore[misc]
    "calls": lambda: Through("calls", blocking=True),
    "async-calls": lambda: Through("async-calls", blocking=False),
    "request-bodies": Bodies,
    "price-files": PriceFiles,
    "callbacks": Callbacks,
    "tokens": Tokens,
    "records": Records,
    "sqlite-files": Files,
    "redis-keys": Hashes,
    "commands": Commands,
    "settings": settings.Settings,
}
"""What makes each of them: some open files and servers."""


def made(name: str) -> Target:
    """Make a target."""
    return TARGETS[name]()
