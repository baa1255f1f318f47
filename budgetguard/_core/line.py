"""The line: who waits, and whose turn it is.

First come, first served; a higher priority goes before a lower one. A place is kept by number, so a call that goes back
into the line (the provider refused it after all) stands where it stood. Only the head of a line tries for a slot, so
nobody who comes later can overtake. Not safe to share between threads by itself: the driver holds the account's lock
around it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

__all__ = ["Line", "Signal", "Ticket"]


_SLACK = 64
"""How many more tickets than those who wait may be kept."""


class Signal(Protocol):
    """What a driver waits on."""

    def set(self) -> None:
        """Wake the waiter, from any thread."""
        ...


class Ticket:
    """A place in line, or just somebody who wants to be woken."""

    __slots__ = ("announced", "gone", "is_over", "is_place", "order", "signal", "woken")

    def __init__(self, priority: int = 0, number: int = 0) -> None:
        self.order = (-priority, number)
        self.gone = True
        self.is_place = False
        """Whether whoever frees a slot hands it to the waiter; any other takes it himself."""
        self.announced = False
        """Whether other processes know that it waits."""
        self.woken = False
        """Whether a wake-up came that nobody has waited for yet."""
        self.signal: Signal | None = None
        """The driver's own: what it waits on."""
        self.is_over: Callable[[], bool] | None = None
        """The driver's own: tells whether what it waited in has ended, so that it never goes on."""

    def wake(self) -> None:
        """Note that there is news, and wake whoever waits for it."""
        self.woken = True
        signal = self.signal
        if signal is not None:
            signal.set()

    def is_deserted(self) -> bool:
        """Tell whether nobody is there any more who could give it up himself."""
        return self.is_over is not None and self.is_over()

    def __lt__(self, other: Ticket) -> bool:
        return self.order < other.order

    def __repr__(self) -> str:
        return f"Ticket(priority={-self.order[0]}, number={self.order[1]})"


class Line:
    """The tickets of one limit, in order."""

    __slots__ = ("_heap", "announced", "places", "waiting")

    def __init__(self) -> None:
        self.announced = 0
        """Tickets that other processes know of: heads, and those a higher priority went before later."""
        self._heap: list[tuple[int, int, Ticket]] = []
        self.waiting = 0
        """How many wait."""
        self.places = 0
        """How many of them are handed their slots."""

    def __len__(self) -> int:
        return self.waiting

    def join(self, ticket: Ticket) -> None:
        """Take the place the ticket's priority and number give it."""
        ticket.gone = False
        heapq.heappush(self._heap, (*ticket.order, ticket))
        self.waiting += 1
        self.places += ticket.is_place

    def leave(self, ticket: Ticket) -> bool:
        """Give the place up; says whether the ticket had one. Twice is harmless."""
        if ticket.gone:
            return False
        ticket.gone = True
        self.announced -= ticket.announced
        self.waiting -= 1
        self.places -= ticket.is_place
        if len(self._heap) > 2 * self.waiting + _SLACK:
            # Those who left behind a head that stays must not pile up.
            self._heap = [entry for entry in self._heap if not entry[-1].gone]
            heapq.heapify(self._heap)
        return True

    def entrust(self, ticket: Ticket) -> None:
        """Let a waiter take his slots himself from here on."""
        if ticket.is_place:
            ticket.is_place = False
            self.places -= not ticket.gone

    def find(self, wanted: Callable[[Ticket], bool]) -> Ticket | None:
        """Find who waits and is wanted. Walks the line."""
        return next((ticket for *_, ticket in self._heap if not ticket.gone and wanted(ticket)), None)

    def pass_over(self) -> None:
        """Let nobody stand here who is gone without a word. Walks the line."""
        for *_, ticket in self._heap.copy():
            if not ticket.gone and ticket.is_deserted():
                self.leave(ticket)

    @property
    def head(self) -> Ticket | None:
        """Whose turn it is."""
        heap = self._heap
        while heap:
            ticket = heap[0][-1]
            if ticket.gone:
                heapq.heappop(heap)
            elif ticket.is_deserted():
                self.leave(ticket)
                heap = self._heap
            else:
                return ticket
        return None

    def place(self, ticket: Ticket) -> int:
        """Count the place from 1. Walks the line: for messages and events only."""
        return 1 + sum(1 for *_, other in self._heap if not other.gone and other.order < ticket.order)

    def __repr__(self) -> str:
        return f"Line({self.waiting} waiting)"
