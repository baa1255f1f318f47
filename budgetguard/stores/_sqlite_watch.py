"""Waking those who wait, when another process has changed their account.

A process tells its own watchers itself. What other processes did shows in the file: SQLite counts commits, which costs
next to nothing to ask, and each account counts how often its waiters were asked to look again. One thread asks, while
anybody watches: soon after something happened, and ever more rarely when nothing does. A wake-up is late by no more
than an eighth of the silence before it, and by no more than 5 ms in a process that has committed anything in the last
minute: whoever waits does, as he begins his lease anew. In any other it is late by no more than 50 ms.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from budgetguard.errors import StoreError
from budgetguard.stores._calling import call

__all__ = ["Looker", "Watchers"]

_SHORTEST = 0.002
_LONGEST = 0.005
_IDLE = 60.0
"""Seconds without a commit of its own after which a process looks more rarely."""
_LONGEST_IDLE = 0.05
_AFTER_TROUBLE = 0.5
_SHARE = 8


class Looker(Protocol):
    """Who can look into the file."""

    @property
    def commits(self) -> int:
        """How often this process has committed."""
        ...

    def look(self, accounts: Iterable[str], *, always: bool) -> Mapping[str, int] | None:
        """Read how often each account's waiters were asked to look; ``None`` if no process committed anything."""
        ...


class Watchers:
    """Whom to call when an account changes. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, tuple[Callable[[], None], ...]] = {}
        self._seen: dict[str, int] = {}
        """Up to which wake-up the watchers of an account have been called."""
        self._nudge = threading.Event()
        self._thread: threading.Thread | None = None
        self._news = False
        self._last = 0.0
        self._commits = 0
        self._active = 0.0

    def add(self, account: str, changed: Callable[[], None], looker: Looker) -> Callable[[], None]:
        """Call *changed* from now on; returns what ends it."""

        def watcher() -> None:
            changed()

        with self._lock:
            self._calls[account] = (*self._calls.get(account, ()), watcher)
            self._news = True
            self._start(looker)
        self._nudge.set()

        def unwatch() -> None:
            with self._lock:
                left = tuple(other for other in self._calls.get(account, ()) if other is not watcher)
                if left:
                    self._calls[account] = left
                else:
                    self._calls.pop(account, None)
                    self._seen.pop(account, None)

        return unwatch

    def forked(self) -> None:
        """Forget the thread, which a fork did not take along, and whatever it held."""
        self._lock = threading.Lock()
        self._nudge = threading.Event()
        self._thread = None
        self._news = True

    def resume(self, looker: Looker) -> None:
        """Go on looking after a fork."""
        with self._lock:
            if self._calls:
                self._start(looker)

    def begin_anew(self) -> None:
        """Forget how often anybody was called: another file has taken the place of the one looked at."""
        with self._lock:
            self._seen.clear()
            self._news = True

    def forget(self) -> None:
        """End every watch."""
        with self._lock:
            self._calls.clear()
            self._seen.clear()
        self._nudge.set()

    def told(self, account: str, wakes: int) -> None:
        """Call the watchers of an account that this process changed."""
        with self._lock:
            calls = self._calls.get(account, ())
            if calls and wakes > self._seen.get(account, -1):
                self._seen[account] = wakes
        call(calls)

    # -- the thread -------------------------------------------------------------------------------------------------

    def _start(self, looker: Looker) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=_watch,
                args=(weakref.ref(self), weakref.ref(looker), self._nudge),
                name="budgetguard-sqlite",
                daemon=True,
            )
            self._thread.start()

    def look(self, looker: Looker) -> float | None:
        """Look once; how many seconds to wait until the next time, ``None`` for ever."""
        if self._end():
            return None
        self._nudge.clear()
        try:
            if self._look(looker):
                self._last = time.monotonic()
        except StoreError:
            return _AFTER_TROUBLE
        now = time.monotonic()
        if self._commits != looker.commits:
            self._commits, self._active = looker.commits, now
        longest = _LONGEST if now - self._active < _IDLE else _LONGEST_IDLE
        return min(max((now - self._last) / _SHARE, _SHORTEST), longest)

    def _end(self) -> bool:
        with self._lock:
            if self._calls:
                return False
            self._thread = None
            return True

    def _look(self, looker: Looker) -> bool:
        """Look once; whether another process changed something that somebody here watches."""
        with self._lock:
            accounts, always, self._news = list(self._calls), self._news, False
        try:
            found = looker.look(accounts, always=always)
        except StoreError:
            with self._lock:
                self._news = True  # nothing that happened meanwhile may be missed
            raise
        active = False
        for account, wakes in (found or {}).items():
            with self._lock:
                news = wakes > self._seen.get(account, 0)
                if news and account in self._calls:
                    self._seen[account] = wakes
                calls = self._calls.get(account, ()) if news else ()
            active = active or news
            call(calls)
        return active


def _watch(watchers_of: weakref.ref[Watchers], looker_of: weakref.ref[Looker], nudge: threading.Event) -> None:
    while True:
        # Held only while it looks, so that a forgotten store goes away and this thread with it.
        watchers, looker = watchers_of(), looker_of()
        if watchers is None or looker is None:
            return
        pause = watchers.look(looker)
        del watchers, looker
        if pause is None:
            return
        nudge.wait(pause)
