"""Keeps the leases of calls under way alive, from a thread of its own, so that a busy event loop does not lose them."""

from __future__ import annotations

import os
import threading
import weakref

from budgetguard._core.account import Account, Hold
from budgetguard._core.settlement import renew
from budgetguard._drivers.blocking import BlockingDriver
from budgetguard._half_made import even_half_made
from budgetguard.errors import StoreError

__all__ = ["Heartbeat"]


class Heartbeat:
    """Renews the lease of every call that has what it needs, three times a lease. Safe to share between threads.

    The thread is there only while there are calls, and it never keeps a process from ending. A call that nobody holds
    any more is renewed no more, so that a permit that was dropped without a word ends with its lease.
    """

    def __init__(self, driver: BlockingDriver, lease: float) -> None:
        self._driver = driver
        self._seconds = lease / 3
        self._calls: weakref.WeakKeyDictionary[Hold, Account] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._running = False
        self._process = os.getpid()

    def watch(self, account: Account, hold: Hold) -> None:
        """Begin to renew a call's lease."""
        if self._process != os.getpid():
            # A fork takes the calls along, but not the thread; and they are the parent's to renew.
            self._process, self._running = os.getpid(), False
            self._calls, self._lock = weakref.WeakKeyDictionary(), threading.Lock()
        with self._lock:
            self._calls[hold] = account
            if not self._running:
                self._running = True
                threading.Thread(target=self._beat, name="budgetguard-heartbeat", daemon=True).start()

    def forget(self, hold: Hold) -> None:
        """End it. Harmless if there is none."""
        if self._process == os.getpid():
            with self._lock:
                self._calls.pop(hold, None)

    def beat(self) -> None:
        """Renew every lease once."""
        with self._lock:
            calls = list(self._calls.items())
        while calls:
            hold, account = calls.pop()  # not kept alive by this list while the others are renewed
            try:
                self._driver.run(account, renew(account, hold))
            except StoreError:
                # The next beat tries again; if none succeeds, the lease ends, which is safe.
                continue

    def _beat(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self._seconds)
            with self._lock:
                if not self._calls:
                    self._running = False
                    return
            self.beat()

    @even_half_made
    def __repr__(self) -> str:
        return f"Heartbeat({len(self._calls)} calls, every {self._seconds:.1f} s)"
