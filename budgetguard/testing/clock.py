"""The clocks the fakes live by: one moved by hand, one that follows the machine's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from budgetguard.errors import SettingError

__all__ = ["Clock", "ManualClock", "SystemClock"]

_MOST = 1e12
"""Seconds; more than a clock will ever tell."""
_EPOCH = 1_767_225_600.0  # 2026-01-01T00:00:00Z


class Clock(Protocol):
    """What a fake asks of a clock. Every method may be called from any thread. Since 0.1."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def time(self) -> float:
        """Seconds since 1970, for dates in answers; runs at the pace of `monotonic`."""
        ...

    def wall(self, seconds: float) -> float | None:
        """How many real seconds pass while this clock moves by *seconds*; ``None`` where nobody can tell."""
        ...

    def subscribe(self, moved: Callable[[], None]) -> Callable[[], None]:
        """Call *moved* whenever the clock jumps; returns what ends it. A clock that never jumps never calls."""
        ...


class ManualClock:
    """A clock that stands still until it is told to move. Since 0.1.

    Calling the clock is the same as `monotonic`, so it fits wherever a plain ``time.monotonic`` does.
    May be shared between threads.

    Args:
        start: What `monotonic` says first, in seconds.
        epoch: What `time` says first, in seconds since 1970; the start of 2026 unless given.

    Raises:
        SettingError: If one of these is no finite number.
    """

    def __init__(self, start: float = 0.0, *, epoch: float = _EPOCH) -> None:
        for name, value in (("start", start), ("epoch", epoch)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST:
                raise SettingError(name, value, "give seconds, a finite number of them")
        self._lock = threading.Lock()
        self._now = start
        self._epoch = epoch - start
        self._moved: list[Callable[[], None]] = []

    def __call__(self) -> float:
        """Say the same as `monotonic`. Since 0.1."""
        return self.monotonic()

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now:g} s>"

    def monotonic(self) -> float:
        """Seconds the clock has been moved to. Since 0.1."""
        with self._lock:
            return self._now

    def time(self) -> float:
        """Seconds since 1970. Since 0.1."""
        return self._epoch + self.monotonic()

    def wall(self, seconds: float) -> float | None:
        """Unknown, unless *seconds* is not positive: only the caller of `advance` could tell. Since 0.1."""
        return 0.0 if seconds <= 0 else None

    def advance(self, seconds: float) -> float:
        """Move the clock forward and return the new time. Those who subscribed are called before this returns.

        Args:
            seconds: How far; 0 or more.

        Raises:
            SettingError: If *seconds* is negative or not finite; the clock does not move then.

        Since 0.1.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _MOST:
            raise SettingError("seconds", seconds, "a clock moves forward, by a finite number of seconds")
        with self._lock:
            self._now += seconds
            now, moved = self._now, tuple(self._moved)
        for call in moved:
            call()
        return now

    def subscribe(self, moved: Callable[[], None]) -> Callable[[], None]:
        """Call *moved* after every `advance`, in the thread that advanced; returns what ends it. Since 0.1."""
        with self._lock:
            self._moved.append(moved)

        def end() -> None:
            with self._lock:
                if moved in self._moved:
                    self._moved.remove(moved)

        return end


class SystemClock:
    """The machine's clock, or one that runs faster or slower than it. Since 0.1.

    A demonstration of hour-long tasks runs in seconds with ``SystemClock(speed=600)``. May be shared between threads.

    Args:
        speed: Seconds of this clock to one real second; above 0.

    Raises:
        SettingError: If *speed* is not a positive, finite number.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 < speed <= _MOST:
            raise SettingError("speed", speed, "a number above 0; 1 is real time")
        self.speed = speed
        self._start = time.monotonic()
        self._epoch = time.time()

    def __call__(self) -> float:
        """Say the same as `monotonic`. Since 0.1."""
        return self.monotonic()

    def __repr__(self) -> str:
        return f"<SystemClock at {self.monotonic():.1f} s, speed {self.speed:g}>"

    def monotonic(self) -> float:
        """Seconds since the clock was made, times `speed`. Since 0.1."""
        return (time.monotonic() - self._start) * self.speed

    def time(self) -> float:
        """Seconds since 1970, starting from the true date. Since 0.1."""
        return self._epoch + self.monotonic()

    def wall(self, seconds: float) -> float | None:
        """Real seconds that pass while this clock moves by *seconds*. Since 0.1."""
        return max(0.0, seconds / self.speed)

    def subscribe(self, moved: Callable[[], None]) -> Callable[[], None]:
        """Do nothing: this clock never jumps. Since 0.1."""
        del moved
        return lambda: None
