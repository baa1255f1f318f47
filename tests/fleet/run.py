"""A run of a fleet: the provider, the processes, whatever befalls them, and the count at the end."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Sequence

import httpx

from budgetguard import Guard
from budgetguard.cli.demo.measure import slots_used
from budgetguard.model import RouteKind
from budgetguard.providers import Vidu
from budgetguard.testing import FakeVidu
from tests.fleet.crew import Crew
from tests.fleet.figures import Figures
from tests.fleet.ground import TROUBLES, Ground, SQLiteGround, ValkeyGround
from tests.fleet.plan import KEY, Plan, policy
from tests.fleet.worker import store_at

__all__ = ["Run", "play"]

_READY = 60.0
_CLAIM_MAX = 6.0
_LATENCY = 0.01
"""Seconds that polls and questions for the balance are on their way."""


class Run:
    """One fleet on a provider of its own.

    Args:
        plan: What it does.
        store: Where its guards keep the account; ``None`` for a fleet without guards, which shares a semaphore.
        kills: How many processes are killed, and replaced, at random moments.
        trouble: What happens to the store.
        moments: When, as shares of the jobs that are done by then.
    """

    def __init__(
        self,
        plan: Plan,
        store: Ground | None,
        *,
        kills: int = 0,
        trouble: str = "",
        moments: Sequence[float] = (0.2, 0.45, 0.7),
    ) -> None:
        self.plan = plan
        self.store = store
        self.kills = kills
        self.trouble = trouble
        self.moments = moments
        self.figures = Figures(title="with the guard" if store else "told at once")
        self._over = threading.Event()

    @property
    def calm(self) -> bool:
        """Whether nobody is killed and nothing happens to the store."""
        return not self.kills and not self.trouble

    def play(self, begin: Callable[[], object]) -> None:
        """Run it; *begin* is called when every process is ready, and waited for."""
        plan = self.plan
        jobs = [job for share in plan.batch() for job in share]
        seconds = {job.name: job.seconds for job in jobs}
        rng = random.Random(plan.seed)
        fake = FakeVidu(
            credits=sum(job.credits for job in jobs) + plan.spare,
            limit=plan.limit,
            mode="reject",
            keys=KEY,
            duration=lambda _, body: seconds[body["payload"]],
            latency=lambda kind: rng.uniform(0.0, 2 * plan.latency) if kind is RouteKind.SUBMIT else _LATENCY,
            seed=plan.seed,
        )
        address = self.store.url if self.store else ""
        with fake.serve() as url, self._slots() as slots, Crew(plan, url, store=address, slots=slots) as crew:
            crew.start_all()
            crew.go_when(begin, _READY)
            began = time.monotonic()
            others = [
                threading.Thread(target=self._kill, args=(crew,)),
                threading.Thread(target=self._spoil, args=(crew,)),
            ]
            for other in others:
                other.start()
            crew.wait(plan.time_max)
            self._over.set()
            for other in others:
                other.join()
            crew.wait(10)
            if self.store is not None:
                self._settle(fake, url, self.store)
            self._count(fake, crew, began)

    @contextlib.contextmanager
    def _slots(self) -> Generator[tuple[int, int] | None]:
        if self.store is not None:
            yield None
            return
        ends = os.pipe()
        try:
            os.write(ends[1], b"." * self.plan.limit)
            yield ends
        finally:
            for end in ends:
                os.close(end)

    def _kill(self, crew: Crew) -> None:
        rng = random.Random(self.plan.seed)
        jobs = self.plan.jobs
        for number in range(self.kills):
            # Spread over the run, so that each kill finds work under way; the moment itself is anybody's.
            while crew.done < jobs * (number + 0.5) / (self.kills + 1) and not self._over.wait(0.01):
                pass
            if self._over.wait(rng.uniform(0.0, 0.5)):
                return
            working = [place for place in crew.places if place.left and place.alive and place.ready.is_set()]
            if working:
                crew.replace(rng.choice(working))

    def _spoil(self, crew: Crew) -> None:
        if not self.trouble:
            return
        for share in self.moments:
            while crew.done < self.plan.jobs * share and not self._over.wait(0.01):
                pass
            if self._over.is_set():
                return
            if isinstance(self.store, ValkeyGround):
                TROUBLES[self.trouble].act(self.store)
            elif isinstance(self.store, SQLiteGround):
                self.store.remove()

    def _settle(self, fake: FakeVidu, url: str, store: Ground) -> None:
        """When all is over, and a lease too if anything happened, look again and compare the numbers.

        One look must do, whoever was killed while he asked for the balance.
        """
        plan, figures = self.plan, self.figures
        if not self.calm:
            time.sleep(plan.lease)
        opened = store_at(store.url, plan.patience)
        with Guard(Vidu(base_url=url), store=opened, policy=policy(plan.lease)) as guard:
            figures.missing = self._look(guard, fake, url)
        opened.close()

    def _look(self, guard: Guard, fake: FakeVidu, url: str) -> list[str]:
        """Get a new reading, and tell where the guard's numbers are not the provider's."""
        begun = time.monotonic()
        headers = {"Authorization": f"Token {KEY}"}
        with httpx.Client(base_url=url, headers=headers, transport=guard.transport(), timeout=30) as client:
            while time.monotonic() < begun + _CLAIM_MAX:
                asked = time.monotonic()
                client.get("/ent/v2/credits").raise_for_status()
                age = guard.state(KEY).age
                if age is not None and age <= time.monotonic() - asked:
                    return self._differences(guard, fake)
                time.sleep(0.05)  # one who was killed while he asked has the right to until his answer were late
        return [f"no reading in {_CLAIM_MAX:g} s"]

    def _differences(self, guard: Guard, fake: FakeVidu) -> list[str]:
        ours, theirs = guard.state(KEY), fake.state
        pool = ours.pools[""]
        rows = [
            ("credits free", ours.credits_free, theirs.credits),
            ("credits held", ours.credits_held, 0),
            ("slots free", pool.free, self.plan.limit - theirs.running),
            ("slots being sent", pool.open, 0),
        ]
        if self.calm:  # the tasks of those who were killed are believed to run until their own lease ends
            rows.append(("slots running", pool.running, 0))
        return [f"{name} {found} instead of {right}" for name, found, right in rows if found != right]

    def _count(self, fake: FakeVidu, crew: Crew, began: float) -> None:
        figures, journal, plan = self.figures, fake.journal, self.plan
        done = [sorted(place.done.values()) for place in crew.places]
        all_done = [ends[-1] for place, ends in zip(crew.places, done, strict=True) if ends and not place.left]
        first = min(all_done, default=time.monotonic())
        figures.jobs, figures.done = plan.jobs, crew.done
        figures.seconds = max((ends[-1] for ends in done if ends), default=began) - began
        figures.shares = [sum(end <= first for end in ends) for ends in done]
        for place in crew.places:
            figures.kills += place.kills
            figures.errors += place.errors
            figures.said |= place.said
            figures.pauses += place.pauses
            complaint = place.complaint()
            if complaint:
                figures.complaints.append(complaint)
        figures.submits, figures.refused = journal.submits, journal.breaches
        figures.asked, figures.asked_at_once = journal.credits_requests, journal.credits_in_flight_max
        figures.used = slots_used(journal.entries, [(0.0, plan.limit)])
        figures.left = fake.credits


def play(runs: list[Run]) -> None:
    """Play runs at the same time, so that what else the machine does slows all of them alike."""
    ready = threading.Barrier(len(runs))
    failures: list[BaseException] = []

    def one(run: Run) -> None:
        try:
            run.play(ready.wait)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=one, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in sorted(failures, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
