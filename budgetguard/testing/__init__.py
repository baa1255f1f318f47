"""Fake providers for tests and demonstrations: real HTTP servers on this machine that keep account strictly.

A fake knows what really happened: its `Journal` counts every submit that a guard should have held back::

    from budgetguard.testing import FakeVidu

    fake = FakeVidu(credits=500, limit=5, mode="reject")
    with fake.serve() as url:  # needs the extra: pip install 'budgetguard-py[testing]'
        ...
    assert fake.journal.breaches == 0

``fake.transport()`` needs neither the extra nor a socket. Under pytest the fixtures ``fake_vidu`` and ``fake_udio`` are
there without an import. Importing this package costs nothing: what it names is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budgetguard.testing.clock import Clock as Clock
    from budgetguard.testing.clock import ManualClock as ManualClock
    from budgetguard.testing.clock import SystemClock as SystemClock
    from budgetguard.testing.journal import Entry as Entry
    from budgetguard.testing.journal import Fact as Fact
    from budgetguard.testing.journal import Journal as Journal
    from budgetguard.testing.provider import PrepaidAccount as PrepaidAccount
    from budgetguard.testing.server import InProcessTransport as InProcessTransport
    from budgetguard.testing.server import Serving as Serving
    from budgetguard.testing.stores import AsyncStoreContract as AsyncStoreContract
    from budgetguard.testing.stores import StoreContract as StoreContract
    from budgetguard.testing.task import AccountState as AccountState
    from budgetguard.testing.udio import FakeUdio as FakeUdio
    from budgetguard.testing.vidu import FakeVidu as FakeVidu

_HOMES = {
    "AsyncStoreContract": "stores",
    "StoreContract": "stores",
    "AccountState": "task",
    "Clock": "clock",
    "Entry": "journal",
    "Fact": "journal",
    "FakeUdio": "udio",
    "FakeVidu": "vidu",
    "InProcessTransport": "server",
    "Journal": "journal",
    "ManualClock": "clock",
    "PrepaidAccount": "provider",
    "Serving": "server",
    "SystemClock": "clock",
}

__all__ = [
    "AccountState",
    "AsyncStoreContract",
    "Clock",
    "Entry",
    "Fact",
    "FakeUdio",
    "FakeVidu",
    "InProcessTransport",
    "Journal",
    "ManualClock",
    "PrepaidAccount",
    "Serving",
    "StoreContract",
    "SystemClock",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
