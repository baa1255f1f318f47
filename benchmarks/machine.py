"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib import metadata
from pathlib import Path

import httpx

import budgetguard
from benchmarks.peers import versions

__all__ = ["facts", "headline"]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def facts() -> dict[str, object]:
    """Collect them, as they stand in the JSON."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "budgetguard": budgetguard.__version__,
        "httpx": httpx.__version__,
        "anyio": _version("anyio"),
        "redis": _version("redis"),
        "hiredis": _version("hiredis"),
        "peers": versions(),
    }


def headline(found: dict[str, object]) -> str:
    """Say the most important ones in a line."""
    return (
        f"{found['processor']}, {found['cores']} cores, load {found['load']}; {found['system']}; {found['python']}; "
        f"budgetguard {found['budgetguard']}, httpx {found['httpx']}, SQLite {found['sqlite']}"
    )
