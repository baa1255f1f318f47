"""Hears wake-ups for the watchers of a process: one thread, one subscription, and a look now and then."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from budgetguard.stores._calling import call
from budgetguard.stores._redis_form import read
from budgetguard.stores._redis_lanes import Rules
from budgetguard.stores._redis_link import Link
from budgetguard.stores._redis_wire import Args

__all__ = ["Listener"]

_LOOK_MAX = 256
_OLD = 60_000_000
_PAUSE = 0.05
_PAUSE_MAX = 2.0


class _Watched:
    """An account somebody waits for."""

    __slots__ = ("account", "heard", "watchers")

    def __init__(self, account: str) -> None:
        self.account = account
        self.watchers: tuple[Callable[[], None], ...] = ()
        self.heard = 0
        """The number of the last wake-up the watchers were told of."""


class Listener:
    """Tells watchers of wake-ups. Safe to share between threads; it never keeps a process from ending.

    Nothing here is needed for a wake-up to be right, only for it to come: whoever is woken looks for himself. So a
    watcher is also called when the subscription begins, and begins anew: what was said in between was not heard.
    """

    def __init__(self, rules: Rules, poll: float) -> None:
        self._rules = rules
        self._poll = poll
        self._lock = threading.Lock()
        self._channels: dict[bytes, _Watched] = {}
        self._news: list[tuple[str, str]] = []
        """Subscriptions to begin and to end, in order."""
        self._thread: threading.Thread | None = None
        self._bell: socket.socket | None = None
        self._connection: Any = None
        self._stopping = False

    # -- for everybody ----------------------------------------------------------------------------------------------

    def watch(self, account: str, changed: Callable[[], None]) -> Callable[[], None]:
        """Call *changed* after every wake-up of the account, until what is returned is called."""
        channel = self._rules.names.of(account).channel
        key = channel.encode()

        def watcher() -> None:
            changed()

        with self._lock:
            watched = self._channels.get(key)
            if watched is None:
                watched = self._channels[key] = _Watched(account)
                self._tell("SUBSCRIBE", channel)
            watched.watchers = (*watched.watchers, watcher)
            self._begin()

        def unwatch() -> None:
            with self._lock:
                watched = self._channels.get(key)
                if watched is None:
                    return
                watched.watchers = tuple(other for other in watched.watchers if other is not watcher)
                if not watched.watchers:
                    del self._channels[key]
                    self._tell("UNSUBSCRIBE", channel)

        return unwatch

    def woke(self, account: str, number: int) -> None:
        """Tell the watchers of this process at once of a wake-up that was sent from it."""
        if self._channels:
            self._hear(self._rules.names.of(account).channel.encode(), number)

    def end(self) -> None:
        """Let the thread end. Takes no lock: a finalizer may call it in the middle of anything."""
        self._stopping = True
        self._ring()

    def stop(self) -> None:
        """End the thread and forget the watchers. Waits for the thread, unless it is the one that calls."""
        with self._lock:
            self._channels.clear()
            thread = self._thread
            self.end()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * self._rules.server.timeout)

    def after_fork(self) -> None:
        """Forget the parent's thread in a child, and keep the watchers. The next `resume` starts another."""
        self._lock = threading.Lock()
        self._thread = self._bell = self._connection = None
        self._news = []

    def resume(self) -> None:
        """Start the thread if it should run and does not: after a fork."""
        if self._channels and self._thread is None:
            with self._lock:
                self._begin()

    # -- the thread -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._thread is None and not self._stopping:
            self._bell, ear = socket.socketpair()
            ear.setblocking(False)  # noqa: FBT003 - as the library names it
            self._bell.setblocking(False)  # noqa: FBT003 - as the library names it
            self._thread = threading.Thread(
                target=self._run, args=(self._bell, ear), name="budgetguard-redis-listener", daemon=True
            )
            self._thread.start()

    def _tell(self, what: str, channel: str) -> None:
        self._news.append((what, channel))
        self._ring()

    def _ring(self) -> None:
        bell = self._bell
        if bell is not None:
            with contextlib.suppress(OSError):  # a full pipe rings too
                bell.send(b"!")

    def _run(self, bell: socket.socket, ear: socket.socket) -> None:
        looking = Link(self._rules.server)
        failures = 0
        try:
            while not self._stopping:
                began = time.monotonic()
                try:
                    self._listen(ear, looking)
                except (RedisError, OSError):
                    failures = 1 if time.monotonic() - began > 10 * _PAUSE_MAX else failures + 1
                finally:
                    self._disconnect()
                # Perhaps one may look although one may not listen.
                with contextlib.suppress(RedisError, OSError):
                    self._look(looking)
                pause = min(_PAUSE_MAX, _PAUSE * 2**failures) * (0.5 + random.random())  # noqa: S311
                self._rest(ear, min(pause, self._poll))
        finally:
            looking.close()
            with self._lock:
                self._bell = self._thread = None
            bell.close()
            ear.close()

    def _rest(self, ear: socket.socket, seconds: float) -> None:
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(ear, selectors.EVENT_READ)
            while not self._stopping and (left := until - time.monotonic()) > 0:
                selector.select(left)
                _empty(ear)

    def _listen(self, ear: socket.socket, looking: Link) -> None:
        connection = self._connection = self._rules.server.connection()
        connection.connect()
        with self._lock:
            self._news.clear()
            channels = [key.decode() for key in self._channels]
        for start in range(0, len(channels), _LOOK_MAX):
            connection.send_command("SUBSCRIBE", *channels[start : start + _LOOK_MAX], check_health=False)
        look_at = time.monotonic() + self._poll
        with selectors.DefaultSelector() as selector:
            sock = connection._sock  # noqa: SLF001 - to wait for both
            selector.register(sock, selectors.EVENT_READ)
            selector.register(ear, selectors.EVENT_READ)
            while not self._stopping:
                if time.monotonic() >= look_at:
                    self._look(looking)
                    look_at = time.monotonic() + self._poll
                if connection.can_read(timeout=0):
                    self._message(connection.read_response())
                    continue
                ready = selector.select(max(0.0, look_at - time.monotonic()))
                if any(key.fileobj is ear for key, _ in ready):
                    _empty(ear)
                    with self._lock:
                        news, self._news = self._news, []
                    for what, channel in news:
                        connection.send_command(what, channel, check_health=False)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _message(self, message: Any) -> None:
        kind, channel, value = message
        if kind == b"message":
            self._hear(channel, int(value) if value.isdigit() else None)
        elif kind == b"subscribe":
            self._hear(channel, None)

    def _look(self, looking: Link) -> None:
        """Compare the numbers of the last wake-ups, in case one was not heard."""
        with self._lock:
            channels = [(key, watched.account) for key, watched in self._channels.items()]
        for start in range(0, len(channels), _LOOK_MAX):
            part = channels[start : start + _LOOK_MAX]
            commands: list[Args] = [["GET", self._rules.names.of(account).keys[0]] for _, account in part]
            for (key, _), state in zip(part, looking.ask(commands), strict=True):
                if isinstance(state, bytes):
                    with contextlib.suppress(ValueError):  # who transacts is told what is wrong
                        self._hear(key, read(state).woken)

    def _hear(self, channel: bytes, number: int | None) -> None:
        """Call an account's watchers, unless they were told already. Without a number, they always are."""
        with self._lock:
            watched = self._channels.get(channel)
            if watched is None:
                return
            if number is not None:
                # Numbers grow with time. A much smaller one comes from a server that began anew, with another clock.
                if watched.heard - _OLD <= number <= watched.heard:
                    return
                watched.heard = number
            watchers = watched.watchers
        try:
            call(watchers)
        except BaseException:
            watched.heard = 0  # interrupted: the next look finds it again
            raise


def _empty(ear: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while ear.recv(4096):
            pass
