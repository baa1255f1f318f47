"""The processes of a fleet: started, told to begin, listened to, killed and replaced. Each by its own id."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import IO, Any, Self

from tests.fleet.plan import Job, Plan
from tests.fleet.worker import Orders

__all__ = ["Crew", "Place"]


class Place:
    """One process's place in the crew: its jobs, and who does them now.

    Attributes:
        jobs: Its jobs.
        done: When each job that is done was done, in seconds of the machine's clock.
        errors: The errors it met, by their kinds.
        said: The last message of each kind.
        pauses: Pauses of the whole account that it called for, by their reasons.
        kills: How often its process was killed.
    """

    def __init__(self, number: int, jobs: list[Job]) -> None:
        self.number = number
        self.jobs = jobs
        self.done: dict[str, float] = {}
        self.errors: Counter[str] = Counter()
        self.pauses: Counter[str] = Counter()
        self.said: dict[str, str] = {}
        self.kills = 0
        self.ready = threading.Event()
        self.finished = threading.Event()
        self.process: subprocess.Popen[str] | None = None
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the crew
        self._reader: threading.Thread | None = None

    @property
    def left(self) -> list[Job]:
        return [job for job in self.jobs if job.name not in self.done]

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, orders: Orders) -> None:
        """Start a process, and give it its orders; it waits for the word."""
        self.launch("tests.fleet.worker", json.dumps(asdict(orders)), orders.slots or ())

    def launch(self, program: str, orders: str, files: Sequence[int] = ()) -> None:
        """Start a process of *program*, which inherits *files*, and give it its orders."""
        self.ready.clear()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:tests", "-m", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            pass_fds=files,
        )
        self.tell(orders)
        self._reader = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self._reader.start()

    def go(self) -> None:
        """Let it begin as soon as it is ready."""
        self.tell("go")

    def tell(self, line: str) -> None:
        """Write a line to its process."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return  # it was killed, or failed; its end tells

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                said: dict[str, Any] = json.loads(line)
            except ValueError:
                continue  # it was killed in the middle of a word
            self.heed(said)
        self.ready.set()

    def heed(self, said: dict[str, Any]) -> None:
        """Note what its process says."""
        if "done" in said:
            self.done[said["done"]] = said["at"]
        elif "error" in said:
            self.errors[said["error"]] += 1
            self.said[said["error"]] = said["says"]
        elif "paused" in said:
            self.pauses[said["paused"]] += 1
        elif "ready" in said:
            self.ready.set()
        elif "finished" in said:
            self.finished.set()

    def kill(self) -> None:
        """Kill its process with SIGKILL, and hear what it had said."""
        if self.process is not None:
            self.process.kill()
            self.wait(10)

    def wait(self, seconds: float) -> None:
        """Wait for its process to end, and hear the last it said."""
        if self.process is None or self._reader is None:
            return
        self.process.wait(seconds)
        self._reader.join(seconds)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # it was killed before it had heard everything
                    stream.close()
        self.process = None

    def complaint(self) -> str:
        """Tell what it wrote to its standard error."""
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace")[-2000:]


class Crew:
    """All processes of one run."""

    def __init__(self, plan: Plan, url: str, *, store: str = "", slots: tuple[int, int] | None = None) -> None:
        self._plan = plan
        self._url = url
        self._store = store
        self._slots = slots
        self.places = [Place(number, jobs) for number, jobs in enumerate(plan.batch())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for place in self.places:
            place.kill()
            place.stderr.close()

    def start(self, place: Place) -> None:
        """Start a process for what is left of a place's jobs."""
        plan = self._plan
        place.start(
            Orders(
                url=self._url,
                store=self._store,
                patience=plan.patience,
                slots=self._slots,
                way=plan.way_of(place.number),
                width=plan.threads,
                poll=plan.poll,
                lease=plan.lease,
                jobs=[(job.path, dict(job.body)) for job in place.left],
            )
        )

    def start_all(self) -> None:
        """Start every process."""
        for place in self.places:
            self.start(place)

    def go_when(self, begin: Callable[[], object], seconds: float) -> None:
        """Let all begin, once all are ready and *begin* has returned."""
        for place in self.places:
            if not place.ready.wait(seconds) or not place.alive:
                raise TimeoutError(f"worker {place.number} was not ready: {place.complaint()}")
        begin()
        for place in self.places:
            place.go()

    def replace(self, place: Place) -> None:
        """Kill a process, and start another that takes over its jobs."""
        place.kill()
        place.kills += 1
        if place.left:
            self.start(place)
            place.go()
        else:
            place.finished.set()

    @property
    def done(self) -> int:
        return sum(len(place.done) for place in self.places)

    @property
    def ended(self) -> bool:
        """Whether every process has ended, or said that it has nothing left to do."""
        return all(place.finished.is_set() or not place.alive for place in self.places)

    def wait(self, seconds: float) -> None:
        """Wait until all have ended; those that do not in time are killed."""
        until = time.monotonic() + seconds
        while not self.ended and time.monotonic() < until:
            time.sleep(0.02)
        for place in self.places:
            if place.finished.is_set():
                place.wait(20)
            elif place.alive:
                place.kill()
