"""Calling those who watch an account."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

__all__ = ["call"]


def call(watchers: Iterable[Callable[[], None]]) -> None:
    """Call each. What one raises is logged: it concerns neither the others nor whoever changed the account."""
    for changed in watchers:
        try:
            changed()
        except Exception:  # noqa: BLE001 - what was applied stays applied, whatever those who hear of it do
            import structlog  # noqa: PLC0415 - costs 90 ms, and is hardly ever needed

            with contextlib.suppress(Exception):  # a log that cannot be written concerns them as little
                structlog.get_logger("budgetguard").warning("watcher_failed", exc_info=True)
