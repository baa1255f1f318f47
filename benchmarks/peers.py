"""The one door to other people's libraries.

They are installed only where benchmarks run (``benchmarks/peers.txt``), and few of them have types, so they come in by
name and as ``Any``. One that is missing fails the row that asked for it, with that as the reason.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "peer", "versions"]

PEERS = Path(__file__).parent / "peers.txt"


def peer(module: str) -> Any:
    """Import a module of a peer.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    return importlib.import_module(module)


def versions() -> dict[str, str]:
    """Tell which peers are installed, in which version."""
    found = {}
    for line in PEERS.read_text("utf-8").splitlines():
        name = line.partition("==")[0].partition("[")[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
