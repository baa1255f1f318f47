"""Callbacks: sent from a thread of their own, repeated and out of order where asked, and never off this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from budgetguard.testing.journal import Fact
from budgetguard.testing.provider import PrepaidAccount

__all__ = ["Callbacks", "Letter", "is_loopback", "sign"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NAP = 0.25


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine for certain. Since 0.1."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and parts.hostname in _LOOPBACK
    except ValueError:
        return False


def sign(key: str, url: str, *, date: str, nonce: str, method: str = "POST") -> str:
    """Sign a callback as Vidu does: base64 of the HMAC-SHA256 under the key that created the task. Since 0.1."""
    parts = urlsplit(url)
    lines = (method, parts.path or "/", parts.query, "vidu", date, f"Date:{date}", f"x-request-nonce:{nonce}")
    text = "".join(f"{line}\n" for line in lines)
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


@dataclass(frozen=True, slots=True)
class Letter:
    """One callback to send. Since 0.1.

    Attributes:
        task_id: The task it is about.
        url: Where it goes.
        body: What it says.
        headers: Built at each sending, as dates and nonces differ.
        last: Whether it is the last one about its task.
    """

    task_id: str
    url: str
    body: bytes
    headers: Callable[[], Mapping[str, str]]
    last: bool


class Callbacks:
    """Sends callbacks, from a thread that lives only while some are to be expected. Since 0.1.

    Attributes:
        repeats: How often each callback is sent; 2 and more are what "at least once" means.
        reverse: Whether callbacks of a task are held back until its last one has been sent.
        retries: How often the last callback of a task is tried again when nobody answers 2xx.
        retry_seconds: Real seconds between two tries.
    """

    def __init__(self, account: PrepaidAccount) -> None:
        self.repeats = 1
        self.reverse = False
        self.retries = 3
        self.retry_seconds = 0.05
        self._account = account
        self._cond = threading.Condition()
        self._letters: deque[Letter] = deque()
        self._held: dict[str, list[Letter]] = {}
        self._open: set[str] = set()
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._alive = self._busy = self._kicked = self._stopping = False

    def refuse(self, url: str, task_id: str) -> None:
        """Write down that an address is not on this machine and will not be called. Since 0.1."""
        self._account.journal.note(self._account.clock.monotonic(), Fact.CALLBACK_REFUSED, url, task_id=task_id)

    def open(self) -> None:
        """Send again after `close`. Since 0.1."""
        with self._cond:
            self._stopping = False

    def expect(self, task_id: str, *, ended: Callable[[], bool]) -> None:
        """Keep an eye on a task that has an address for callbacks. Since 0.1."""
        with self._cond:
            self._open.add(task_id)
            if ended():  # Its last letter may have been written before we were told of the task.
                self._open.discard(task_id)
            self._wake()

    def send(self, letter: Letter) -> None:
        """Send a callback soon. Quick, so that it may be called under the account's lock. Since 0.1."""
        with self._cond:
            if self._stopping:
                return
            if self.reverse and not letter.last:
                self._held.setdefault(letter.task_id, []).append(letter)
                return
            self._letters.append(letter)
            self._letters.extend(reversed(self._held.pop(letter.task_id, [])))
            if letter.last:
                self._open.discard(letter.task_id)
            self._wake()

    def drain(self, timeout: float = 5.0) -> bool:
        """Wait until all callbacks due at the clock's present are sent; ``False`` if *timeout* real seconds pass."""
        self._account.look()
        with self._cond:
            return self._cond.wait_for(lambda: not self._letters and not self._busy, timeout)

    def close(self) -> None:
        """Stop sending, and wait for the thread to end. What was not sent is forgotten, until `open`. Since 0.1."""
        with self._cond:
            thread = self._thread
            self._stopping = True
            self._letters.clear()
            self._held.clear()
            self._open.clear()
            self._cond.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _wake(self) -> None:
        self._kicked = True
        self._cond.notify_all()
        if not (self._alive or self._stopping) and (self._letters or self._open):
            self._alive = True
            self._unsubscribe = self._account.clock.subscribe(self._moved)
            self._thread = threading.Thread(target=self._run, name="budgetguard-fake-callbacks", daemon=True)
            self._thread.start()

    def _moved(self) -> None:
        with self._cond:
            self._kicked = True
            self._cond.notify_all()

    def _run(self) -> None:
        # Only this machine is called: no certificates to check, no proxy to pass.
        with httpx.Client(verify=False, trust_env=False, timeout=5.0) as client:  # noqa: S501
            while True:
                with self._cond:
                    self._busy = False
                    self._kicked = False
                    self._cond.notify_all()
                    if self._stopping or not (self._letters or self._open):
                        self._alive = False
                        self._unsubscribe()
                        return
                    letter = self._letters.popleft() if self._letters else None
                    self._busy = letter is not None
                if letter is not None:
                    for _ in range(max(1, self.repeats)):
                        self._deliver(client, letter)
                    continue
                due = self._account.next_due()  # Brings the account to the present, which may write letters.
                with self._cond:
                    if not self._kicked and not self._stopping:
                        # A new limit or a stranger may bring the next moment forward: never sleep for long.
                        real = None if due is None else self._account.clock.wall(due)
                        self._cond.wait(_NAP if real is None else min(real, _NAP))

    def _deliver(self, client: httpx.Client, letter: Letter) -> None:
        journal, clock = self._account.journal, self._account.clock
        for attempt in range(1 + (self.retries if letter.last else 0)):
            if attempt:
                time.sleep(self.retry_seconds)
            if self._stopping:
                return
            journal.note(clock.monotonic(), Fact.CALLBACK, letter.url, task_id=letter.task_id)
            try:
                answer = client.post(letter.url, content=letter.body, headers=dict(letter.headers()))
                if answer.is_success:
                    return
            except (httpx.HTTPError, httpx.InvalidURL):
                pass
            journal.note(clock.monotonic(), Fact.CALLBACK_FAILED, letter.url, task_id=letter.task_id)
