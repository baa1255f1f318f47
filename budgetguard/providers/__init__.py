"""Adapters: what each provider's requests and answers mean. Pure; one may serve every thread and process."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budgetguard.providers.udio import UdioPro
    from budgetguard.providers.vidu import Vidu

__all__ = ["UdioPro", "Vidu"]

# Loaded when they are first asked for, as most programs use one.
_HOMES = {"UdioPro": "budgetguard.providers.udio", "Vidu": "budgetguard.providers.vidu"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
