"""Keeps what a run measured, as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import Table

__all__ = ["LATEST", "save"]

LATEST = Path(__file__).parent / "results" / "latest.json"


def save(path: Path, machine: dict[str, object], tables: Sequence[Table], *, fast: bool) -> None:
    """Write a run down."""
    document: dict[str, Any] = {
        "machine": machine,
        "fast": fast,
        "tables": [dataclasses.asdict(table) for table in tables],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
