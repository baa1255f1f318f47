"""Ending a flow that waits, from outside: for callers in threads, who cannot be cancelled."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, TypeVar

from budgetguard._core.line import Ticket
from budgetguard._core.steps import Flow, Wait

__all__ = ["Stop", "Stopped", "stoppable"]

T = TypeVar("T")


class Stopped(Exception):
    """A flow was ended because somebody asked for it."""


class Stop:
    """Asks a flow to end. Once asked, for good.

    Args:
        lock: The account's, which its driver holds while the flow runs.
    """

    __slots__ = ("_lock", "asked", "ticket")

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self.asked = False
        self.ticket: Ticket | None = None
        """What the flow waits on, if it waits."""

    def ask(self) -> None:
        """Ask, from any thread. A flow that waits ends now, any other one after the step it is at."""
        with self._lock:
            self.asked = True
            if self.ticket is not None:
                self.ticket.wake()


def stoppable(flow: Flow[T], stop: Stop) -> Flow[T]:
    """Drive a flow until it ends or is asked to stop; its cleanup is the caller's, as after any other interruption.

    Raises:
        Stopped: If it was stopped.
    """
    reply: Any = None
    try:
        while not stop.asked:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            stop.ticket = step.ticket if isinstance(step, Wait) else None
            reply = yield step
        raise Stopped
    finally:
        stop.ticket = None
        flow.close()
