"""What users tell of a call's end, looked at before it is believed."""

from __future__ import annotations

from typing import Any, TypeVar

from budgetguard._settings import whole
from budgetguard.errors import SettingError
from budgetguard.model import TaskSeen, TaskState

__all__ = ["check_charge", "check_task_id", "checked", "told_of"]

T = TypeVar("T")


def check_charge(charge: Any) -> None:
    """See that a charge is a number of credits, or ``None``.

    Raises:
        SettingError: If it is not.
    """
    if charge is not None:
        whole("charge", charge)


def check_task_id(task_id: Any, *, needed: bool = False) -> None:
    """See that a task's id is text, or ``None`` where it is not *needed*.

    Raises:
        SettingError: If it is not.
    """
    if not isinstance(task_id, str if needed else str | None) or (needed and not task_id):
        raise SettingError("task_id", task_id, "give the provider's id as text")


def checked(inner: T, offers: str) -> T:
    """See that there is something to send with, of the right colour.

    Raises:
        SettingError: If there is not.
    """
    if isinstance(inner, type) or not callable(getattr(inner, offers, None)):
        kind = "a transport" if offers == "handle_request" else "an async transport"
        given = inner.__name__ if isinstance(inner, type) else type(inner).__name__
        raise SettingError("inner", given, f"give {kind} of httpx, with {offers}()")
    return inner


def told_of(task_id: Any, state: Any, charge: Any) -> TaskSeen:
    """Note what was told of a task's end.

    Raises:
        SettingError: If the id, the state or the charge is none.
    """
    check_task_id(task_id, needed=True)
    check_charge(charge)
    try:
        ended = TaskState(state)
    except ValueError:
        ended = TaskState.RUNNING
    if not ended.ended:
        raise SettingError("state", state, "give 'succeeded', 'failed' or 'cancelled'")
    return TaskSeen(task_id, ended, charge)
