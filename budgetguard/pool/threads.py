"""Threads that are reused, and end when there has been nothing to do for a while."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

__all__ = ["Crew"]

_IDLE_SECONDS = 5.0
_names = itertools.count(1)


class Crew:
    """As many threads as there is work for. Safe to share between threads.

    They are daemons: a process may end without them. Who wants to wait for them calls `close`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Seat] = []
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._prefix = f"budgetguard-pool-{next(_names)}"
        self._numbers = itertools.count(1)

    def do(self, work: Callable[[], None]) -> None:
        """Have a thread do something: one that is idle, or a new one.

        Raises:
            RuntimeError: If no thread can be started.
        """
        with self._lock:
            seat = self._idle.pop() if self._idle else None  # the latest, so that those not needed end
            if seat is not None:
                seat.work = work
                seat.called.set()
                return
            name = f"{self._prefix}-{next(self._numbers)}"
            thread = threading.Thread(target=self._serve, args=(work,), name=name, daemon=True)
            self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._threads.discard(thread)
            raise

    def close(self) -> None:
        """Let all threads end, and wait for those that work."""
        with self._lock:
            self._closed = True
            for seat in self._idle:
                seat.called.set()
            self._idle.clear()
            threads = list(self._threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def _serve(self, work: Callable[[], None] | None) -> None:
        try:
            while work is not None:
                work()
                work = self._next()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            if self._closed:
                return None
            seat = _Seat()
            self._idle.append(seat)
        seat.called.wait(_IDLE_SECONDS)
        with self._lock:
            if seat in self._idle:
                self._idle.remove(seat)
            return seat.work


class _Seat:
    """Where an idle thread waits."""

    __slots__ = ("called", "work")

    def __init__(self) -> None:
        self.called = threading.Event()
        self.work: Callable[[], None] | None = None
