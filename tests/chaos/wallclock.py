"""The wall clock of a process, which can be stepped, and the clock of a server, as its script reads it.

Nothing of the machine is changed. `step` moves what ``time.time`` and ``time.time_ns`` say in this process; to reach
everybody who asks, it must be installed before others take a copy of them. A Valkey server tells its own wall clock to
the library's script alone, so the script reads a key as well, and adds the seconds it finds there.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any

__all__ = ["SERVER_KEY", "install", "step", "step_server"]

SERVER_KEY = "chaos:step"
"""Where a server keeps the seconds its clock is off by."""

_offset = 0.0
_time, _time_ns = time.time, time.time_ns


def install() -> None:
    """Let the wall clock of this process follow `step`."""
    ours: dict[str, Any] = {"time": lambda: _time() + _offset, "time_ns": lambda: _time_ns() + int(_offset * 1e9)}
    for name, clock in ours.items():
        setattr(time, name, clock)


def step(seconds: float) -> None:
    """Set the wall clock of this process off by so many seconds."""
    global _offset  # noqa: PLW0603 - there is one clock
    _offset = seconds


def step_server() -> None:
    """Let the script of this process's Redis stores add what stands under `SERVER_KEY` to the server's time."""
    from budgetguard.stores import _redis_server as server
    from budgetguard.stores import _redis_wire as wire

    step = rb"\1\nclock[1] = clock[1] + (redis.call('GET', '%s') or 0)" % SERVER_KEY.encode()
    script, times = re.subn(rb"(local clock = [\w.]*call\('TIME'\))", step, wire.SCRIPT)
    assert times == 1 or SERVER_KEY.encode() in wire.SCRIPT
    sha = hashlib.sha1(script, usedforsecurity=False).hexdigest()
    for module in (wire, server):
        for name, value in (("SCRIPT", script), ("SHA", sha)):
            if hasattr(module, name):
                setattr(module, name, value)
