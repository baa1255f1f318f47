"""Where the counters live: what guards of one account share."""

from __future__ import annotations

from budgetguard.stores.memory import MemoryStore

__all__ = ["MemoryStore"]
