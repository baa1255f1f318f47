"""The question for a list of tasks: which ones, and which page of them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from budgetguard.testing.exchange import Request

__all__ = ["TaskQuery"]

_WEEK = 7 * 86400.0
_FILTERS = {"task_ids": "id", "states": "state", "resolutions": "resolution", "templates": "template"}


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """What a list request asks for. Since 0.1.

    Attributes:
        start: How many matching tasks to skip.
        size: Most tasks to show, 1 to 100.
        since: No tasks made before, in seconds since 1970.
        until: No tasks made after; ``None`` for no bound.
        wanted: Values asked for by field of the listed task.
    """

    start: int
    size: int
    since: float
    until: float | None
    wanted: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, request: Request, *, now: float) -> Self:
        """Read the question from a request's query; *now* is in seconds since 1970.

        Raises:
            ValueError: If a field makes no sense.

        Since 0.1.
        """
        # The paging fields are spelled both ways in the provider's own documentation.
        size = int(request.field("pager.pagesz", "paper.pagesz") or 10)
        page = int(request.field("pager.page", "paper.page") or 0)
        start = int(request.field("pager.page_token", "paper.page_token") or page * size)
        if not 1 <= size <= 100 or start < 0:
            raise ValueError("pager")
        since, until = _moment(request.field("created_at.from")), _moment(request.field("created_at.to"))
        wanted = {
            shown: frozenset(part for value in request.fields(asked) for part in value.split(",") if part)
            for asked, shown in _FILTERS.items()
        }
        return cls(start, size, now - _WEEK if since is None else since, until, wanted)

    def page(self, tasks: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str]:
        """Pick the page from all tasks as they are listed, and the token of the next one, ``""`` at the end."""
        end = self.start + self.size
        found = list(itertools.islice(filter(self._matches, tasks), self.start, end + 1))
        return found[: self.size], str(end) if len(found) > self.size else ""

    def _matches(self, task: Mapping[str, Any]) -> bool:
        created = dt.datetime.fromisoformat(task["created_at"]).timestamp()
        if created < self.since or (self.until is not None and created > self.until):
            return False
        return all(not values or task[name] in values for name, values in self.wanted.items())


def _moment(value: str | None) -> float | None:
    return None if not value else dt.datetime.fromisoformat(value).timestamp()
