"""All targets, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.fuzz import answers, settings
from tests.fuzz.target import Target

__all__ = ["TARGETS", "made"]

TARGETS: Mapping[str, Callable[[], Target]] = {
    **{target.name: lambda target=target: target for target in answers.TARGETS},  # type: ignore[misc]
    "settings": settings.Settings,
}
"""What makes each of them: some open files and servers."""


def made(name: str) -> Target:
    """Make a target."""
    return TARGETS[name]()
