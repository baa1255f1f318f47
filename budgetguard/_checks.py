"""What users tell of a call's end, looked at before it is believed."""

from __future__ import annotations

from typing import Any

from budgetguard.errors import SettingError

__all__ = ["check_charge", "check_task_id"]

_MOST = 10**15


def check_charge(charge: Any) -> None:
    """See that a charge is a number of credits, or ``None``.

    Raises:
        SettingError: If it is not.
    """
    if isinstance(charge, bool) or not isinstance(charge, int | None) or not 0 <= (charge or 0) <= _MOST:
        raise SettingError("charge", charge, "give a whole number, 0 or more")


def check_task_id(task_id: Any, *, needed: bool = False) -> None:
    """See that a task's id is text, or ``None`` where it is not *needed*.

    Raises:
        SettingError: If it is not.
    """
    if not isinstance(task_id, str if needed else str | None) or (needed and not task_id):
        raise SettingError("task_id", task_id, "give the provider's id as text")
