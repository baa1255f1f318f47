"""What an adapter says, looked at before it is believed: a number it gives is counted with in every process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from budgetguard._settings import CREDITS_MAX
from budgetguard.errors import ReadingError
from budgetguard.model import Capacity, Quote, Reading, TaskSeen, Verdict

__all__ = ["reading_of", "see_quote", "see_task", "see_verdict"]


def _is_amount(value: Any) -> bool:
    return type(value) is int and 0 <= value <= CREDITS_MAX


def reading_of(given: Any) -> Reading:
    """Give a reading whose numbers can be.

    Raises:
        ReadingError: If one cannot, or it is none.
    """
    if not isinstance(given, Reading):
        raise ReadingError(f"the adapter gave a {type(given).__name__} and no Reading")
    if not _is_amount(given.credits):
        raise ReadingError(f"is no whole number from 0 to {CREDITS_MAX}", field="credits")
    if not isinstance(given.pools, Mapping):
        raise ReadingError("is no mapping", field="pools")
    for name, capacity in given.pools.items():
        if not isinstance(name, str) or not name.isprintable() or not isinstance(capacity, Capacity):
            raise ReadingError("has something else than capacities by name", field="pools")
        for word, number in (("limit", capacity.limit), ("running", capacity.running)):
            if number is not None and not _is_amount(number):
                raise ReadingError(f"is no whole number from 0 to {CREDITS_MAX}", field=f"pools[{name!r}].{word}")
    return given


def see_verdict(verdict: Verdict) -> None:
    """See that the numbers of a verdict can be.

    Raises:
        ValueError: If one cannot.
    """
    charge, wait, task = verdict.charge, verdict.retry_after, verdict.task_id
    if charge is not None and (type(charge) is not int or not 0 <= charge <= CREDITS_MAX):
        raise ValueError("charge")
    if wait is not None and not (isinstance(wait, int | float) and math.isfinite(wait) and wait >= 0):
        raise ValueError("retry_after")
    if task is not None and (type(task) is not str or not task):
        raise ValueError("task_id")


def see_task(tasks: Iterable[TaskSeen]) -> None:
    """See that what was seen of tasks can be.

    Raises:
        ValueError: If it cannot.
    """
    for task in tasks:
        if type(task.task_id) is not str or not (task.charge is None or _is_amount(task.charge)):
            raise ValueError("tasks")


def see_quote(quote: Any) -> Quote:
    """See that a price is a quote, which has looked at its own numbers.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(quote, Quote):
        raise TypeError(type(quote).__name__)
    return quote
