"""A semaphore that is told at once how many slots there are: what no client of a real provider has."""

from __future__ import annotations

import threading

__all__ = ["ToldSemaphore"]


class ToldSemaphore:
    """First come, first served; counts who had to wait. Safe to share between threads. Also a plain one, if never told.

    Attributes:
        waited: How many found no slot free when they came.
    """

    def __init__(self, slots: int) -> None:
        self.waited = 0
        self._slots = slots
        self._taken = 0
        self._line: list[object] = []
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        with self._changed:
            return len(self._line)

    def told(self, slots: int) -> None:
        """Hear of a new number of slots."""
        with self._changed:
            self._slots = slots
            self._changed.notify_all()

    def __enter__(self) -> None:
        place = object()
        with self._changed:
            self._line.append(place)
            self.waited += not self._next(place)
            self._changed.wait_for(lambda: self._next(place))
            self._line.remove(place)
            self._taken += 1
            self._changed.notify_all()

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def _next(self, place: object) -> bool:
        return self._line[0] is place and self._taken < self._slots
