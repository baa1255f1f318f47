"""What a target is, and what it means that one was broken."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from typing import Any

__all__ = ["Broken", "Target", "joined", "parted"]


class Broken(AssertionError):
    """A promise was broken. Says which."""


class Target(ABC):
    """One place where something of somebody else's is read.

    Attributes:
        name: What it is called on the command line.
        examples: How many cases the suite tries.
        guided: Whether coverage is worth being guided by: what is read is bytes, and reading takes microseconds.
    """

    name: str
    guided: bool = False
    examples: int = 60

    @abstractmethod
    def draw(self, chance: random.Random) -> bytes:
        """Make up a case. All chance comes from *chance*."""

    @abstractmethod
    def run(self, case: bytes) -> None:
        """Try a case: any bytes, also such as `draw` never makes.

        Raises:
            Broken: If a promise was broken. Any other exception is a crash, and as bad.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Let go of what was opened."""


def joined(facts: dict[str, Any], body: bytes = b"") -> bytes:
    """Write a case of a line of facts and a body."""
    return json.dumps(facts).encode() + b"\n" + body


def parted(case: bytes) -> tuple[dict[str, Any], bytes]:
    """Read it back. Of what is no such case, everything is body."""
    line, _, body = case.partition(b"\n")
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return {}, case
    return (facts, body) if isinstance(facts, dict) else ({}, case)
