"""The processes of a scene, and what is known of every call they want."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Self

from tests.chaos.plan import Scene
from tests.chaos.worker import Orders
from tests.fleet.crew import Place

__all__ = ["Book", "Crew", "Hand"]


class Book:
    """Every call that was wanted, and how it ended.

    Attributes:
        begun: When each call was begun, by its name.
        ended: How each ended, and the task it was given.
        errors: What callers met, by the names of the errors.
        crashed: What ended callers against their will.
        late: Seconds for which some process was not let run, and when.
        paused: Reasons for which the account was paused.
        children: Processes that were forked.
        last: When the last call of each guard reached the provider, by the beginning of its callers' names.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun: dict[str, float] = {}
        self.ended: dict[str, tuple[str, str]] = {}
        self.errors: Counter[str] = Counter()
        self.crashed: list[str] = []
        self.late: list[tuple[float, float]] = []
        self.paused: Counter[str] = Counter()
        self.children: dict[str, int] = {}
        self.last: dict[str, float] = {}
        self._wanting: dict[str, str] = {}
        self._closing = False

    @staticmethod
    def caller(name: str) -> str:
        """Who made a call: its name without its number."""
        return name.rpartition("-")[0]

    def heed(self, said: dict[str, Any]) -> None:
        """Note what a worker says."""
        with self.lock:
            if "begin" in said:
                name = said["begin"]
                self.begun[name] = said["at"]
                self._wanting[self.caller(name)] = name
            elif "end" in said:
                name = said["end"]
                if name in self.ended:
                    return
                self.ended[name] = said["how"], said.get("task", "")
                if "met" in said:
                    self.errors[said["met"]] += 1
                if said["how"] == "task" or self._closing:
                    self._satisfied(name)
            elif "crashed" in said:
                self.crashed.append(said["crashed"])
            elif "late" in said:
                self.late.append((said["at"], said["late"]))
            elif "paused" in said:
                self.paused[said["paused"]] += 1
            elif "child" in said:
                self.children[said["child"]] = said["pid"]
            elif "left" in said:
                self._forget(said["left"])
                self.children.pop(said["left"], None)

    def close(self) -> None:
        """From here on whoever is refused does not try again."""
        with self.lock:
            self._closing = True
            for name in [name for name in self._wanting.values() if name in self.ended]:
                self._satisfied(name)

    def arrived(self, name: str) -> None:
        """Note that a call reached the provider."""
        with self.lock:
            self.last[".".join(name.split(".")[:2])] = time.monotonic()
            self._satisfied(name)

    def silent(self, guards: Iterable[str], since: float) -> list[str]:
        """Which of these guards let no call reach the provider from then on."""
        with self.lock:
            return [guard for guard in guards if self.last.get(guard, 0.0) <= since]

    def _satisfied(self, name: str) -> None:
        if self._wanting.get(self.caller(name)) == name:
            del self._wanting[self.caller(name)]

    def forget(self, label: str) -> None:
        """Nobody of that process wants anything any more."""
        with self.lock:
            self._forget(label)

    def _forget(self, label: str) -> None:
        for caller in [caller for caller in self._wanting if caller.startswith(f"{label}.")]:
            del self._wanting[caller]

    def wanting(self, away: set[str]) -> list[str]:
        """Who wants a call that has not reached the provider, but for those in processes that are *away*."""
        with self.lock:
            return [caller for caller in self._wanting if caller.partition(".")[0] not in away]

    def unanswered(self, killed: set[str]) -> list[str]:
        """Calls that ended neither way, but for those of processes that were *killed*."""
        with self.lock:
            return [name for name in self.begun if name not in self.ended and name.partition(".")[0] not in killed]

    def told(self, how: str) -> list[str]:
        """Calls whose callers were told that they were ``"not sent"``, refused ``"by provider"``, or ``"task"``s."""
        with self.lock:
            return [name for name, (ended, _) in self.ended.items() if ended == how]


class Hand(Place):
    """One process of the scene."""

    def __init__(self, number: int, book: Book, record: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(number, [])
        self._book = book
        self._record = record
        self.label = ""
        self.state: dict[str, Any] | None = None
        self.stated = threading.Event()
        self.away = False

    def heed(self, said: dict[str, Any]) -> None:
        self._record(said)
        if not ("late" in said and self.away):  # it was stopped on purpose
            self._book.heed(said)
        super().heed({} if "left" in said else said)
        if "state" in said:
            self.state = said["state"]
            self.stated.set()

    def order(self, do: str, **given: Any) -> None:
        """Tell its process to do something."""
        self.tell(json.dumps({"do": do, **given}))

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)


class Crew:
    """All processes of a scene."""

    def __init__(
        self, scene: Scene, orders: Callable[[str, int], Orders], book: Book, record: Callable[[dict[str, Any]], None]
    ) -> None:
        self._scene = scene
        self._orders = orders
        self.book = book
        self.hands = [Hand(number, book, record) for number in range(len(scene.workers))]
        self.killed: set[str] = set()
        self._starts = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end_children()
        for hand in self.hands:
            hand.signal(signal.SIGCONT)
            hand.kill()
            hand.stderr.close()

    def start(self, hand: Hand) -> None:
        """Start a process in a place; it waits for the word."""
        with self._lock:
            hand.label = f"w{self._starts}"
            self._starts += 1
        hand.launch("tests.chaos.worker", json.dumps(asdict(self._orders(hand.label, hand.number))))

    def start_all(self, seconds: float) -> None:
        """Start all, and wait until they are ready."""
        for hand in self.hands:
            self.start(hand)
        for hand in self.hands:
            if not hand.ready.wait(seconds) or not hand.alive:
                raise TimeoutError(f"worker {hand.number} was not ready: {hand.complaint()}")
            hand.order("go")

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until every process can call."""
        until = time.monotonic() + seconds
        for hand in self.hands:
            hand.ready.wait(max(0.0, until - time.monotonic()))

    def replace(self, hand: Hand) -> None:
        """Kill a process, and let another take its place."""
        self.killed.add(hand.label)
        self.end_children(hand.label)  # they would keep open what it spoke by
        hand.kill()
        self.book.forget(hand.label)
        self.start(hand)
        hand.order("go")

    @property
    def guards(self) -> list[str]:
        """The beginnings of the names of all calls, one for each guard of each process."""
        return [f"{hand.label}.{part}" for hand in self.hands for part in range(len(self._scene.workers[hand.number]))]

    @property
    def away(self) -> set[str]:
        """Processes that cannot call now."""
        return {hand.label for hand in self.hands if hand.away or not hand.ready.is_set()}

    def stop(self, seconds: float) -> None:
        """Let all end their calls, and wait for that."""
        until = time.monotonic() + seconds
        self.book.close()
        for hand in self.hands:
            hand.order("stop")
        for hand in self.hands:
            hand.finished.wait(max(0.0, until - time.monotonic()))
        while self.book.children and time.monotonic() < until:
            time.sleep(0.02)
        self._ask_where()

    def _ask_where(self) -> None:
        """Let whoever has not ended write down where it is."""
        for pid in self.book.children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        late = [hand for hand in self.hands if not hand.finished.is_set() and hand.alive]
        for hand in late:
            hand.signal(signal.SIGUSR1)
        if late or self.book.children:
            time.sleep(0.5)

    def end_children(self, of: str = "") -> None:
        """End who was forked and has not ended, of all or of one process."""
        for label, pid in list(self.book.children.items()):
            if of and not label.startswith(f"{of}f"):
                continue
            self.killed.add(label)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.book.heed({"left": label})

    def complaints(self) -> list[str]:
        """Tell what processes wrote to their standard error, or crashed with."""
        return [text for hand in self.hands if (text := hand.complaint())] + self.book.crashed
