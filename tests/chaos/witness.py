"""What happened at the provider, seen from there: which calls came, what became of them, when the balance was read."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from budgetguard.model import RouteKind
from budgetguard.testing.exchange import Flow, Reply, Request
from budgetguard.testing.journal import Fact
from budgetguard.testing.mishaps import Mishap
from budgetguard.testing.task import FakeTask
from tests.chaos.trade import Fake, Trade

__all__ = ["Foreign", "Witness"]

_BACK = 2
"""Readings a call may have been admitted on, before the last one: one on its way, and one installed."""
_BACK_SECONDS = 3.0
"""... or as many seconds, where readings fail."""
_READ = 0.6
"""Seconds within which the balance is read again, and the answer known."""
_BREACHES = {Fact.REFUSED_CREDITS: "credits", Fact.REFUSED_SLOTS: "slots", Fact.WITHOUT_SLOT: "slots"}


@dataclass(slots=True)
class Foreign:
    """Something a stranger, or the provider itself, took from the account: what it may cost, in calls."""

    at: float
    what: str
    calls: int
    fault: str
    cost: int = 0


class Witness:
    """Looks on at a fake provider.

    Attributes:
        arrivals: When each call came, by its name.
        count: How many came.
        met: How often each fault's answers were given.
        lies: How many readings said something else than the truth.
        foreign: What others took.
        slow_questions: How many questions of users are still to be answered late, each with its seconds.
    """

    def __init__(
        self,
        fake: Fake,
        trade: Trade,
        *,
        log: Callable[..., None],
        arrived: Callable[[str], None],
        lag: float = 0.0,
    ) -> None:
        self._fake = fake
        self._trade = trade
        self._log = log
        self._lag = lag
        self._arrived = arrived
        self._lock = threading.Lock()
        self.arrivals: defaultdict[str, list[float]] = defaultdict(list)
        self.count = 0
        self.refusals: Counter[str] = Counter()
        self.readings: list[float] = []
        self._waiting: dict[str, int] = {}
        self.lies = 0
        self.met: Counter[str] = Counter()
        self.foreign: list[Foreign] = []
        self.slow_questions: list[tuple[float, str]] = []
        self._faults: dict[int, tuple[Mishap, str]] = {}
        self._wrap(fake, "flow", self._flow)
        self._wrap(fake.account, "submit", self._submit)
        self._wrap(fake.account, "read", self._read)
        self._wrap(fake._mishaps, "take", self._take)

    @staticmethod
    def _wrap(thing: object, name: str, around: Callable[..., Any]) -> None:
        inner = getattr(thing, name)
        setattr(thing, name, lambda *given, **more: around(inner, *given, **more))

    def inject(self, fault: str, mishap: Mishap, *, times: int, on: RouteKind) -> None:
        """Let answers go wrong on behalf of a fault."""
        self._faults[id(mishap)] = mishap, fault
        self._fake._mishaps.add(mishap, times=times, on=on)

    def answer_well(self, on: RouteKind) -> None:
        """Let no answer of that kind go wrong any more."""
        self._fake._mishaps._lines.pop(on, None)

    @property
    def is_balance_withheld(self) -> bool:
        """Whether the next question for the balance will not be answered well."""
        return bool(self._fake._mishaps._lines.get(RouteKind.CREDITS))

    def took(self, fault: str, *, slots: int = 0, credits: int = 0) -> None:
        """Note what a stranger took."""
        now = time.monotonic()
        if slots > 0:
            self.foreign.append(Foreign(now, "slots", slots, fault))
        if credits > 0:
            self.foreign.append(Foreign(now, "credits", math.ceil(credits / self._trade.price), fault))

    def _flow(self, inner: Callable[[Request], Flow], request: Request) -> Generator[float | Reply]:
        if request.method == "POST":
            body = request.json()
            if isinstance(body, dict):
                name = self._trade.name_of(body)
                with self._lock:
                    self.count += 1
                    self.arrivals[name].append(time.monotonic())
                self._arrived(name)
        late, fault = 0.0, ""
        if request.field("show_detail") and self.slow_questions:
            late, fault = self.slow_questions.pop()
        for step in inner(request):
            if late and isinstance(step, Reply):
                self._met(fault, "an answer to a user's question, late")
                yield late
            yield step

    def _submit(self, inner: Callable[..., Any], *given: Any, **more: Any) -> Any:
        account = self._fake.account
        with account._lock:
            task = inner(*given, **more)
            waiting = sum(1 for other in account._line if not other.foreign)
        if isinstance(task, FakeTask):
            self._waiting[task.id] = waiting
        else:
            with self._lock:
                self.refusals[self._trade.name_of(given[2])] += 1
            self._log(refused=str(task), call=self._trade.name_of(given[2]))
        return task

    def _read(self, inner: Callable[[], Any]) -> Any:
        state = inner()
        with self._lock:
            self.readings.append(time.monotonic())
            self.lies += state.reported != state.credits
        return state

    def _take(self, inner: Callable[[Any], Mishap | None], kind: RouteKind | None) -> Mishap | None:
        mishap = inner(kind)
        if mishap is not None:
            self._met(self._faults[id(mishap)][1], mishap.kind)
        return mishap

    def _met(self, fault: str, what: str) -> None:
        with self._lock:
            self.met[fault] += 1
        self._log(fault=fault, injected=what)

    # -- what came of it --------------------------------------------------------------------------------------------

    def accepted(self) -> dict[str, int]:
        """How often each call was accepted."""
        return Counter(self._trade.name_of(task.body) for task in self._fake.account.tasks())

    def sent_twice(self) -> list[str]:
        """Calls that came again though the provider had not refused them."""
        with self._lock:
            return [name for name, times in self.arrivals.items() if len(times) - self.refusals[name] > 1]

    def breaches(self) -> list[tuple[float, str]]:
        """Refusals, and calls without a slot, that what others took does not explain. The rest is counted to that.

        What somebody takes explains as many refusals as it would pay for or run, once, of calls that were let through
        on a reading from before. Where the provider lets calls wait for a slot instead, it explains that so many of
        them wait at the same moment. While the balance does not show it yet, it explains every refusal for credits: no
        reading tells the guard that they are gone.
        """
        broken = []
        for entry in self._fake.journal.entries:
            what = _BREACHES.get(entry.fact)
            if what is None:
                continue
            before = [at for at in self.readings if at < entry.at]
            since = min(before[-1 - _BACK] if len(before) > _BACK else 0.0, entry.at - _BACK_SECONDS)
            near = [taken for taken in self.foreign if taken.what == what and since <= taken.at <= entry.at]
            if entry.fact is Fact.WITHOUT_SLOT:
                explained = self._waiting.get(entry.task_id, 0) <= sum(taken.calls for taken in near)
                blamed = near[-1:]
            else:
                hidden = [taken for taken in near if entry.at < taken.at + self._lag + _READ]
                blamed = (hidden if self._lag and what == "credits" else []) or [
                    taken for taken in near if taken.cost < taken.calls
                ]
                explained = bool(blamed)
            if explained and blamed:
                blamed[0].cost += 1
            else:
                broken.append((entry.at, f"{entry.fact.value} {entry.task_id}".strip()))
        return broken
