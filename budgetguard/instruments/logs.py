"""Events as structured log lines."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

from budgetguard import events
from budgetguard.events import Event

__all__ = ["LogObserver"]

_LEVELS: Final[dict[type[Event], str]] = {
    events.Queued: "info",
    events.RefusedCall: "info",
    events.RefusedByProvider: "warning",
    events.OutcomeUnknown: "warning",
    events.Expired: "warning",
    events.RefreshFailed: "warning",
    events.Overspent: "warning",
    events.PriceMismatch: "warning",
    events.LowBalance: "warning",
    events.StrangerSeen: "warning",
    events.Paused: "warning",
    events.StoreLost: "warning",
    events.StoreFound: "warning",
}
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")


class LogObserver:
    """Writes each event as one structlog line. Since 0.1.

    What needs a person (a charge above the price, a low balance, a stranger, an unknown outcome) is a warning, what
    explains why a call waits or was refused is info, the rest is debug. The line is named for the event (``overspent``)
    and carries its fields. May be shared between threads.

    Args:
        logger: A structlog logger; by default ``structlog.get_logger("budgetguard")``, bound when the first event
            comes.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger
        self._names: dict[type[Event], tuple[str, str]] = {}

    def __call__(self, event: Event) -> None:
        """Write one line."""
        kind = type(event)
        known = self._names.get(kind)
        if known is None:
            known = self._names[kind] = (_WORDS.sub("_", kind.__name__).lower(), _LEVELS.get(kind, "debug"))
        name, level = known
        if self._logger is None:
            # Loading structlog takes about as long as loading httpx, so it waits until there is something to write.
            import structlog  # noqa: PLC0415

            self._logger = structlog.get_logger("budgetguard")
        getattr(self._logger, level)(name, **_fields(event))

    def __repr__(self) -> str:
        return "LogObserver()"


def _fields(event: Event) -> dict[str, Any]:
    fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    if isinstance(event, events.Refreshed):
        reading = fields.pop("reading")
        fields["balance"] = reading.credits
    if not fields.get("tags", True):
        del fields["tags"]
    return fields
