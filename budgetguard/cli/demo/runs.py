"""The three runs: with the guard, with a semaphore that is told everything at once, and without either."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from budgetguard.cli.demo.batch import Job, generate, generate_carefully, run
from budgetguard.cli.demo.measure import Figures, slots_used
from budgetguard.cli.demo.stage import KEY, Act, Scene, Stage
from budgetguard.cli.demo.told import ToldSemaphore
from budgetguard.errors import Refused
from budgetguard.events import Admitted, Event, Queued
from budgetguard.guard import Guard
from budgetguard.policy import Policy
from budgetguard.providers.vidu import Vidu

__all__ = ["POLICY", "ByJob", "ByPool", "Guarded", "Look", "Run", "Told", "Unguarded"]

# Generations that take a minute take three seconds here: so do the policy's own times, by the same twentieth.
POLICY = Policy(max_age=0.5, recheck_after=0.05, min_interval=0.05)
_HEADERS = {"Authorization": f"Token {KEY}"}


@dataclass(frozen=True, slots=True)
class Look:
    """How a run stands at one moment, for the live view.

    Attributes:
        seconds: Since it began.
        balance: Credits at the provider.
        held: Credits of it that are promised to calls; ``None`` where nobody keeps count.
        limit: Most tasks at once.
        ours, foreign: Slots our own tasks take, and the stranger's.
        line: Jobs begun that wait for a slot.
        done: Jobs done.
        refused: Jobs refused before they were sent.
        said_no: Submits the provider refused.
        left: Jobs of the batch that have not ended.
    """

    seconds: float
    balance: int
    held: int | None
    limit: int
    ours: int
    foreign: int
    line: int
    done: int
    refused: int
    said_no: int
    left: int


class Run(ABC):
    """One run of the batch over a stage of its own. `play` once; `look` from any thread at any time."""

    title = ""
    note = ""
    """What is put around the batch, in code or in a word."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.stage = Stage(scene, self._told)
        self.acts: list[Act] = []
        self.began: float | None = None
        self.figures: Figures | None = None
        self._ends: Counter[str] = Counter()
        self._seconds = 0.0
        self._cheapest: int | None = None

    @abstractmethod
    def _client(self, url: str) -> httpx.Client:
        """Make the client the batch is run with."""

    def _work(self, client: httpx.Client, job: Job) -> str:
        return generate(client, job)

    def _ends_of(self, client: httpx.Client) -> Iterator[tuple[Job, str | Exception]]:
        """Do all jobs; give each with how it ended."""
        return run(lambda job: self._work(client, job), self.scene.work.jobs, self.scene.threads)

    def _told(self, act: Act) -> None:
        self.acts.append(act)

    def _held(self) -> int | None:
        return None

    def _waiting(self) -> int:
        return 0

    def _queued(self) -> int:
        return 0

    def play(self, begin: Callable[[], object]) -> Figures:
        """Run the batch and say what it came to; *begin* is called when everything is ready, and waited for."""
        work, fake = self.scene.work, self.stage.fake
        with fake.serve() as url, self._client(url) as client:
            client.get("/ent/v2/tasks")  # Connect before the clock starts, so that all runs begin alike.
            fake.journal.reset()
            begin()
            self.stage.begin()
            self.began = time.monotonic()
            for job, end in self._ends_of(client):
                how = "refused" if isinstance(end, Refused) else "failed" if isinstance(end, Exception) else "done"
                if how != "done":
                    price = work.price(job)
                    self._cheapest = price if self._cheapest is None else min(self._cheapest, price)
                if isinstance(end, Exception) and not isinstance(end, Refused | httpx.HTTPStatusError):
                    raise end
                self._ends[how] += 1
            self._seconds = time.monotonic() - self.began
            journal = fake.journal
            self.figures = Figures(
                title=self.title,
                jobs=len(work.jobs),
                done=self._ends["done"],
                admitted=self._admitted(journal.accepted),
                queued=self._queued(),
                refused=self._ends["refused"],
                failed=self._ends["failed"],
                cheapest=self._cheapest,
                seconds=self._seconds,
                submits=journal.submits,
                accepted=journal.accepted,
                charged=journal.charged,
                refused_slots=journal.refused_slots,
                refused_credits=journal.refused_credits,
                asked=journal.credits_requests,
                left=fake.credits,
                used=slots_used(journal.entries, self.stage.room),
            )
            return self.figures

    def _admitted(self, accepted: int) -> int:
        return accepted

    def look(self) -> Look:
        """Say how the run stands."""
        state, journal, ends = self.stage.fake.state, self.stage.fake.journal, self._ends
        seconds = 0.0 if self.began is None else time.monotonic() - self.began
        return Look(
            seconds=self._seconds or seconds,
            balance=state.credits,
            held=self._held(),
            limit=state.limit or 0,
            ours=state.running - state.foreign,
            foreign=state.foreign,
            line=self._waiting(),
            done=ends["done"],
            refused=ends["refused"],
            said_no=journal.refused_credits + journal.refused_slots,
            left=len(self.scene.work.jobs) - ends.total(),
        )


class Guarded(Run):
    """With the guard: the same batch, and a transport. What goes another way into the guard builds on this."""

    title = "with the guard"
    note = "transport=guard.transport()"
    says = "with the guard's transport"
    """The way in, for the introduction."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._events: Counter[type[Event]] = Counter()
        self._guard: Guard | None = None

    def _client(self, url: str) -> httpx.Client:
        guard = self._guarding(url)
        return httpx.Client(base_url=url, headers=_HEADERS, transport=guard.transport())

    def play(self, begin: Callable[[], object]) -> Figures:
        """Run the batch, and close what the guard asks with."""
        try:
            return super().play(begin)
        finally:
            if self._guard is not None:
                self._guard.close()

    def _guarding(self, url: str) -> Guard:
        self._guard = Guard(Vidu(base_url=url), policy=POLICY, observers=[self._observe], api_key=KEY)
        return self._guard

    def _observe(self, event: Event) -> None:
        self._events[type(event)] += 1

    def _admitted(self, accepted: int) -> int:
        del accepted
        return self._events[Admitted]

    def _queued(self) -> int:
        return self._events[Queued]

    def _held(self) -> int | None:
        if self._guard is None or self.began is None:
            return 0
        # The provider has charged some of what the guard still counts on top of its last reading.
        return max(0, self.stage.fake.credits - self._guard.state(KEY).credits_free)

    def _waiting(self) -> int:
        pools = {} if self._guard is None else self._guard.state(KEY).pools
        return pools[""].waiting if "" in pools else 0


class ByJob(Guarded):
    """With the guard around the job function: the hold spans the whole job, and what it sends joins it."""

    note = "@guard.job(credits=price)"
    says = "with the guard's decorator around the job function"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._generate: Callable[[httpx.Client, Job], str] = generate

    def _client(self, url: str) -> httpx.Client:
        guard = self._guarding(url)

        self._generate = guard.job(credits=lambda _, job: self.scene.work.price(job))(generate)
        return httpx.Client(base_url=url, headers=_HEADERS, transport=guard.transport())

    def _work(self, client: httpx.Client, job: Job) -> str:
        return self._generate(client, job)


class ByPool(Guarded):
    """With the guard's pool in place of the threads: as many jobs at once as the provider runs now."""

    note = "guard.pool(credits=price)"
    says = "with the guard's pool of workers"

    def _ends_of(self, client: httpx.Client) -> Iterator[tuple[Job, str | Exception]]:
        if self._guard is None:
            return
        with self._guard.pool(credits=self.scene.work.price, on_insufficient="skip") as pool:
            for result in pool.as_completed(lambda job: generate(client, job), self.scene.work.jobs):
                error = result.error
                yield result.args[0], error if isinstance(error, Exception) else result.get()


class Unguarded(Run):
    """Without: a semaphore of the size the account had when the code was written, and another try after a 429."""

    title = "without it"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        limit = scene.acts[0].limit
        self.note = f"Semaphore({limit}), again on 429"
        self._slots = ToldSemaphore(limit)

    def _client(self, url: str) -> httpx.Client:
        return httpx.Client(base_url=url, headers=_HEADERS)

    def _work(self, client: httpx.Client, job: Job) -> str:
        return generate_carefully(client, job, self._slots)

    def _waiting(self) -> int:
        return self._slots.waiting

    def _queued(self) -> int:
        return self._slots.waited


class Told(Unguarded):
    """A semaphore that hears of every change of the limit, and of the stranger, in the instant it happens."""

    title = "told at once"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.note = "a semaphore that knows all"
        self._slots.told(scene.acts[0].ours)

    def _told(self, act: Act) -> None:
        super()._told(act)
        self._slots.told(act.ours)
