"""Observers that carry events elsewhere."""

from __future__ import annotations

from budgetguard.instruments.logs import LogObserver

__all__ = ["LogObserver"]
