"""One scene: the provider, the processes and what befalls them, and the count when all is over."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from budgetguard import Guard
from budgetguard.errors import BudgetGuardError
from tests.chaos import wallclock
from tests.chaos.crew import Book, Crew
from tests.chaos.faults import LEASE
from tests.chaos.ground import File, Nothing, Server, make
from tests.chaos.injector import Injector
from tests.chaos.plan import CREDITS_TIMEOUT, MAX_AGE, TASK_LEASE, Scene, policy
from tests.chaos.stalls import Stalls
from tests.chaos.trade import Fake, Trade, trade
from tests.chaos.witness import Foreign, Witness
from tests.chaos.worker import Orders
from tests.fleet.worker import store_at

__all__ = ["Outcome", "key_of", "play"]

_READY, _STOP = 60.0, 30.0
_AFTERWARDS, _AFTERWARDS_MAX = 1.0, 10.0
"""Seconds for which calls are made when nothing goes wrong any more: at least, and at most until the balance was read
and every guard has let a call through."""
_STORE_PATIENCE = 1.0
_CLAIM = CREDITS_TIMEOUT + 2.0
"""Seconds for which somebody who was killed while he asked for the balance is waited for."""
_LOOKS = 20.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a scene.

    Attributes:
        scene: The scene.
        injected: How often each fault was injected.
        calls: How many calls were begun.
        accepted: How many the provider accepted.
        refused: Refusals by the provider that no stranger explains, with their moments.
        foreign: What strangers took, and what it cost.
        credits, slots: What is missing, or too much, once all is over.
        lost: Calls that are lost, with the reason.
        twice: Calls that were sent twice.
        stall: The longest stall in seconds; *stall_at* is when it began.
        lease: The longest time a call may be believed under way.
        late: The longest time for which a process was not let run, although it was not stopped.
        errors: What callers met.
        broken: Each promise that was broken, in words.
    """

    scene: Scene
    injected: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    accepted: int = 0
    refused: list[tuple[float, str]] = field(default_factory=list)
    foreign: list[Foreign] = field(default_factory=list)
    credits: int = 0
    slots: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    stall: float = 0.0
    stall_at: float = 0.0
    lease: float = LEASE
    late: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    paused: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0


def key_of(scene: Scene) -> str:
    """Make the API key of a scene: long, and like nothing else."""
    rng = random.Random(f"key {scene.seed}")
    return "bgk" + "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789", k=45))


class _Log:
    """A file of JSON lines: the plan, then what was injected, told and refused, with the seconds since it began."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("w", buffering=1)
        self.began = time.monotonic()

    def __call__(self, **facts: Any) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps({"t": round(time.monotonic() - self.began, 3), **facts}) + "\n")

    def close(self) -> None:
        with self._lock:
            self._file.close()


def play(scene: Scene, folder: Path, *, keep: bool) -> Outcome:
    """Play a scene. Its log goes to *folder*, and with *keep* everything the library writes."""
    folder.mkdir(parents=True, exist_ok=True)
    log = _Log(folder / "log.jsonl")
    try:
        log(plan=scene.as_dict())
        with make(scene) as ground:
            return _Stage(scene, ground, folder, log, keep=keep).play()
    finally:
        log.close()


class _Stage:
    def __init__(self, scene: Scene, ground: Nothing | File | Server, folder: Path, log: _Log, *, keep: bool) -> None:
        self._scene = scene
        self._ground = ground
        self._folder = folder
        self._log = log
        self._keep = keep
        self._key = key_of(scene)
        self._trade: Trade = trade(scene.provider, scene.limit)
        self._fake: Fake = self._trade.fake(
            scene.calls * self._trade.price,
            mode=scene.mode,
            keys=self._key,
            seed=scene.seed,
            lag_seconds=scene.lag,
        )
        self._url = ""
        self._book = Book()
        own = 0.0 if self._fake_reports_slots() else TASK_LEASE
        self._outcome = Outcome(scene=scene, lease=LEASE + own)

    def _fake_reports_slots(self) -> bool:
        return self._trade.adapter("http://127.0.0.1:1").reports_slots

    def _orders(self, label: str, number: int) -> Orders:
        scene = self._scene
        return Orders(
            label=label,
            url=self._url,
            provider=scene.provider,
            limit=scene.limit,
            key=self._key,
            store=self._ground.url,
            patience=_STORE_PATIENCE,
            parts=[{"flavour": p.flavour, "way": p.way, "width": p.width} for p in scene.workers[number]],
            lag=scene.lag,
            keep=str(self._folder) if self._keep else "",
            stacks=str(self._folder / f"{label}.stacks.txt"),
        )

    def play(self) -> Outcome:
        outcome, scene = self._outcome, self._scene
        witness = Witness(self._fake, self._trade, log=self._log, arrived=self._book.arrived, lag=scene.lag)
        serving = self._fake.serve()
        self._url = serving.start()
        serving._port = int(self._url.rpartition(":")[2])  # where it is found again after it was stopped
        begun = time.monotonic()
        try:
            with Crew(scene, self._orders, self._book, lambda said: self._log(**said)) as crew:
                crew.start_all(_READY)
                injector = Injector(
                    scene,
                    trade=self._trade,
                    fake=self._fake,
                    serving=serving,
                    ground=self._ground,
                    crew=crew,
                    witness=witness,
                    log=self._log,
                )
                with Stalls(self._fake, self._trade, crew, witness, injector.trouble) as stalls:
                    began = time.monotonic()
                    self._log(began=True)
                    injector.begin(began)
                    time.sleep(scene.load)
                    injector.end()
                    self._until_all_is_well(witness, crew)
                    crew.stop(_STOP)
                outcome.lost = [f"{name}: never answered" for name in self._book.unanswered(crew.killed)]
                crew.end_children()
                self._log(calls_ended=True)
                found = self._settle(crew)
                self._count(witness, injector, stalls, crew, found)
                if self._keep and not isinstance(self._ground, Nothing):
                    self._ground.keep(self._folder)
                for hand in crew.hands:
                    hand.order("end")
                    hand.wait(20)
                outcome.broken += [f"a process complained: {text.strip()[-2000:]}" for text in crew.complaints()]
        finally:
            serving.stop()
        outcome.seconds = time.monotonic() - begun
        self._log(outcome=_plain(outcome))
        return outcome

    def _until_all_is_well(self, witness: Witness, crew: Crew) -> None:
        """Let calls be made until the balance was read when nothing went wrong any more, and no guard is left behind.

        After several readings in a row that failed the next one may only begin to count anew.
        """
        crew.wait_until_ready(_READY)  # whoever was killed last may still be beginning anew
        ended = time.monotonic()
        time.sleep(_AFTERWARDS)
        silent = self._book.silent(crew.guards, ended)
        while (silent or witness.readings[-1:] < [ended]) and time.monotonic() < ended + _AFTERWARDS_MAX:
            time.sleep(0.05)
            silent = self._book.silent(silent, ended)
        time.sleep(0.3)
        for guard in silent:
            self._outcome.broken.append(f"{guard} sent nothing for {_AFTERWARDS_MAX:g} s when all was well again")

    def _settle(self, crew: Crew) -> dict[str, Any]:
        """Let one lease pass, of what ended last, and get one reading.

        A balance that lags needs a second one, when what the first one closed is old enough; and a slot that no reading
        shows is kept, from the first one on, for as long as a task may run.
        """
        time.sleep(LEASE + 0.1)
        found = self._look(crew)
        more = max(self._scene.lag, self._outcome.lease - LEASE)
        if more:
            time.sleep(more + 0.1)
            found = self._look(crew)
        return found

    def _look(self, crew: Crew) -> dict[str, Any]:
        """Get one new reading, and say what a guard knows then: one that has just begun, or in memory the only one."""
        until = time.monotonic() + _LOOKS
        found: dict[str, Any] = {"error": "no look"}
        while time.monotonic() < until:
            if isinstance(self._ground, Nothing):
                hand = crew.hands[0]
                hand.stated.clear()
                hand.order("look")
                hand.stated.wait(10.0)
                found = hand.state or found
            else:
                found = self._look_anew()
            if found.get("fresh"):
                return found
            time.sleep(0.1)  # one who was killed while he asked is waited for until his answer would be late
        return found

    def _look_anew(self) -> dict[str, Any]:
        if isinstance(self._ground, Server):
            wallclock.step_server()
        store = store_at(self._ground.url, _STORE_PATIENCE)
        adapter = self._trade.adapter(self._url)
        try:
            with Guard(adapter, store=store, policy=policy(self._scene.lag), api_key=self._key) as guard:
                headers = self._trade.headers(self._key)
                with httpx.Client(base_url=self._url, headers=headers, transport=guard.transport()) as client:
                    asked = time.monotonic()
                    client.get(self._trade.credits_path).raise_for_status()
                    state = guard.state(self._key)
                    pool = state.pools.get("")
                    return {
                        "free": state.credits_free,
                        "held": state.credits_held,
                        "pool": None if pool is None else (pool.free, pool.open, pool.running),
                        "fresh": state.age is not None and state.age <= time.monotonic() - asked,
                    }
        except (BudgetGuardError, httpx.HTTPError) as error:
            return {"error": repr(error)}
        finally:
            store.close()

    def _count(self, witness: Witness, injector: Injector, stalls: Stalls, crew: Crew, found: dict[str, Any]) -> None:
        outcome, scene, book = self._outcome, self._scene, self._book
        state = self._fake.state
        outcome.injected = {name: injector.injected[name] + witness.met[name] for name in scene.faults}
        if scene.lag:
            outcome.injected["balance-lag"] = witness.lies
        outcome.calls = len(book.begun)
        accepted = witness.accepted()
        outcome.accepted = sum(accepted.values())
        outcome.refused = witness.breaches()
        outcome.foreign = witness.foreign
        self._compare(found, state.credits, state.running)
        for how in ("not sent", "by provider"):
            outcome.lost += [f"{name}: told as {how}, but accepted" for name in book.told(how) if accepted.get(name)]
        outcome.lost += [
            f"{name}: told as accepted, but never was" for name in book.told("task") if name not in accepted
        ]
        outcome.twice = witness.sent_twice()
        outcome.stall, outcome.stall_at = stalls.longest, stalls.began - self._log.began
        outcome.late = max((late for _, late in book.late), default=0.0)
        outcome.errors, outcome.paused = book.errors, book.paused
        self._judge(injector)

    def _compare(self, found: dict[str, Any], credits: int, running: int) -> None:
        outcome = self._outcome
        if not found.get("fresh"):
            outcome.broken.append(f"no reading was to be had when all was over: {found}")
            return
        free, opened, _ = found["pool"]
        outcome.credits = credits - found["free"]
        outcome.slots = self._scene.limit - running - free
        if found["held"] or opened:
            outcome.broken.append(f"when all was over, {found['held']} credits and {opened} slots were held")

    def _judge(self, injector: Injector) -> None:
        outcome = self._outcome
        outcome.broken += [f"could not be injected: {failure}" for failure in injector.failures]
        began = self._log.began
        outcome.broken += [f"the provider refused at {at - began:.2f} s: {what}" for at, what in outcome.refused]
        if outcome.credits or outcome.slots:
            outcome.broken.append(f"{outcome.credits} credits and {outcome.slots} slots are missing")
        outcome.broken += [f"lost: {call}" for call in outcome.lost]
        outcome.broken += [f"sent twice: {call}" for call in outcome.twice]
        # That a lease is over shows at the next look at the balance; and every process must have been let run.
        if outcome.stall > outcome.lease + MAX_AGE + CREDITS_TIMEOUT + outcome.late:
            outcome.broken.append(f"nothing came for {outcome.stall:.1f} s from {outcome.stall_at:.1f} s on")


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "injected": outcome.injected,
        "calls": outcome.calls,
        "accepted": outcome.accepted,
        "missing": [outcome.credits, outcome.slots],
        "stall": [round(outcome.stall, 2), round(outcome.stall_at, 2)],
        "late": round(outcome.late, 2),
        "errors": dict(outcome.errors),
        "paused": dict(outcome.paused),
        "broken": outcome.broken,
    }
