"""Does to a scene what its plan says, at the moments it says."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from budgetguard.model import RouteKind
from budgetguard.testing import FakeUdio, FakeVidu
from budgetguard.testing.mishaps import Mishap
from tests.chaos.crew import Crew, Hand
from tests.chaos.faults import FAULTS
from tests.chaos.ground import File, Nothing, Server
from tests.chaos.plan import Injection, Scene
from tests.chaos.trade import Fake, Trade
from tests.chaos.witness import Witness

__all__ = ["Injector"]

_SERVED_AGAIN = 10.0
_READY = 60.0
_HAPPENS, _BALANCE_HAPPENS = 8.0, 2.0
"""Seconds for which answers that are still to go wrong are waited for, those about the balance for less."""


class Injector:
    """Injects the faults of one scene.

    Attributes:
        injected: How often each fault was really injected.
        troubled: How many things keep everybody from the store or from the provider just now.
        troubles: How many did so far.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        trade: Trade,
        fake: Fake,
        serving: Any,
        ground: Nothing | File | Server,
        crew: Crew,
        witness: Witness,
        log: Callable[..., None],
    ) -> None:
        self._scene = scene
        self._trade = trade
        self._fake = fake
        self._serving = serving
        self._ground = ground
        self._crew = crew
        self._witness = witness
        self._log = log
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}
        self._threads: list[threading.Thread] = []
        self.injected: dict[str, int] = dict.fromkeys(scene.faults, 0)
        self.troubled = self.troubles = 0
        self.failures: list[str] = []

    def begin(self, began: float) -> None:
        """Begin; what lasts a while does so beside the others."""
        for injection in self._scene.injections:
            thread = threading.Thread(target=self._at, args=(injection, began))
            self._threads.append(thread)
            thread.start()
        self._threads.append(threading.Thread(target=self._supply, args=(began,)))
        self._threads[-1].start()

    def _supply(self, began: float) -> None:
        for at, calls in self._scene.supply:
            if self._over.wait(max(0.0, began + at - time.monotonic())):
                return
            self._fake.top_up(calls * self._trade.price)

    def end(self) -> None:
        """Begin nothing more, wait for what is under way, and set right what went wrong."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        fake, scene = self._fake, self._scene
        fake.set_limit(scene.limit)
        fake.strangers_leave()
        fake.top_up(10_000 * self._trade.price)
        self._let_all_happen()
        fake.clear_injections()
        self._fields("usual")

    def _let_all_happen(self) -> None:
        """Let answers that wait to go wrong meet a call; what others had in their way may have let few through."""
        began = time.monotonic()
        while self._left() and time.monotonic() < began + _HAPPENS:
            if time.monotonic() > began + _BALANCE_HAPPENS:
                self._witness.answer_well(RouteKind.CREDITS)
            time.sleep(0.05)

    def _left(self) -> bool:
        return any(
            not self._witness.met[name] for name in self._scene.faults if FAULTS[name].does in ("answers", "readings")
        )

    def trouble(self) -> int | None:
        """Count what kept everybody from calling so far; ``None`` while something does."""
        return None if self.troubled or self._witness.is_balance_withheld else self.troubles

    def _at(self, injection: Injection, began: float) -> None:
        if self._over.wait(max(0.0, began + injection.at - time.monotonic())):
            return
        try:
            getattr(self, f"_do_{FAULTS[injection.fault].does}")(injection.fault, **injection.how)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has to know
            self.failures.append(f"{injection.fault}: {type(error).__name__}: {error}")

    def _did(self, fault: str, what: str) -> None:
        with self._lock:
            self.injected[fault] += 1
        self._log(fault=fault, injected=what)

    @contextlib.contextmanager
    def _trouble(self) -> Generator[None]:
        with self._lock:
            self.troubled += 1
            self.troubles += 1
        try:
            yield
        finally:
            with self._lock:
                self.troubled -= 1

    @contextlib.contextmanager
    def _alone(self, what: str) -> Generator[None]:
        """One thing at a time is done to the same."""
        with self._lock:
            lock = self._busy.setdefault(what, threading.Lock())
        with lock:
            yield

    # -- the provider -----------------------------------------------------------------------------------------------

    def _do_answers(self, fault: str, *, kind: str, times: int, handled: bool, seconds: float) -> None:
        self._witness.inject(fault, Mishap(kind, handled, seconds), times=times, on=RouteKind.SUBMIT)

    def _do_readings(self, fault: str, *, kind: str, times: int, handled: bool, seconds: float) -> None:
        self._witness.inject(fault, Mishap(kind, handled, seconds), times=times, on=RouteKind.CREDITS)

    def _do_provider_off(self, fault: str, *, seconds: float) -> None:
        with self._alone("provider"), self._trouble():
            self._serving.stop()
            self._did(fault, f"nobody listens for {seconds:g} s")
            time.sleep(seconds)
            until = time.monotonic() + _SERVED_AGAIN
            while True:
                try:
                    self._serving.start()
                    return
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)

    def _do_fields(self, fault: str, *, to: str, seconds: float) -> None:
        if to == "wrong" or isinstance(self._fake, FakeUdio):
            self._witness.inject(fault, Mishap("wrong_shape", handled=True), times=2, on=RouteKind.CREDITS)
            return
        with self._alone("fields"):
            self._fields(to)
            self._did(fault, f"the balance is {to} for {seconds:g} s")
            time.sleep(seconds)
            self._fields("usual")

    def _fields(self, to: str) -> None:
        fake = self._fake
        if isinstance(fake, FakeVidu):
            fake.field = "remaining_credits" if to == "renamed" else "remains"
            fake.quoted = to == "quoted"
            fake.types = ("test", "metered", "concurrent") if to == "split" else ("metered",)

    def _do_out_of_order(self, fault: str, *, seconds: float) -> None:
        self._witness.slow_questions.append((seconds, fault))
        for hand in self._crew.hands:
            hand.order("ask")

    def _do_tasks_fail(self, fault: str, *, times: int, refund: bool) -> None:
        self._fake.fail_next_task(times=times, refund=refund)
        for _ in range(times):
            self._did(fault, "the next task fails" + (" and is refunded" if refund else ""))

    def _do_stranger(self, fault: str, *, seconds: float | None, slots: int = 0, calls: int = 0) -> None:
        credits = calls * self._trade.price
        taken, spent = self._fake.stranger_takes(slots=slots, credits=credits, seconds=seconds)
        self._witness.took(fault, slots=taken, credits=spent)
        self._did(fault, f"takes {taken} slots and {spent} credits")

    def _do_limit(self, fault: str, *, to: int, seconds: float) -> None:
        with self._alone("limit"):
            self._set_limit(fault, to)
            self._over.wait(seconds)
            self._set_limit(fault, self._scene.limit)

    def _set_limit(self, fault: str, to: int) -> None:
        before = self._fake.limit or 0
        self._fake.set_limit(to)
        self._witness.took(fault, slots=before - to)
        self._did(fault, f"{before} becomes {to}")

    def _do_top_up(self, fault: str, *, calls: int) -> None:
        self._fake.top_up(calls * self._trade.price)
        self._did(fault, f"{calls * self._trade.price} credits more")

    def _do_expiry(self, fault: str, *, calls: int) -> None:
        _, spent = self._fake.stranger_takes(credits=calls * self._trade.price)
        self._witness.took(fault, credits=spent)
        self._did(fault, f"{spent} credits are gone")

    # -- those who call ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _one(self, worker: int) -> Generator[Hand]:
        hand = self._crew.hands[worker % len(self._crew.hands)]
        with self._alone(f"worker {hand.number}"):
            if not hand.ready.wait(_READY) or not hand.alive:
                raise TimeoutError(f"worker {hand.number} is not ready: {hand.complaint()}")
            yield hand

    def _do_kill(self, fault: str, *, worker: int) -> None:
        with self._one(worker) as hand:
            self._did(fault, f"{hand.label} is killed")
            self._crew.replace(hand)

    def _do_sleep(self, fault: str, *, worker: int, seconds: float) -> None:
        with self._one(worker) as hand:
            hand.away = True
            self._did(fault, f"{hand.label} sleeps {seconds:g} s")
            hand.signal(signal.SIGSTOP)
            time.sleep(seconds)
            hand.signal(signal.SIGCONT)
            time.sleep(0.2)
            hand.away = False

    def _do_fork(self, fault: str, *, worker: int) -> None:
        with self._one(worker) as hand:
            hand.order("fork")
            self._did(fault, f"{hand.label} forks")

    def _do_clock(self, fault: str, *, by: float, seconds: float) -> None:
        with self._alone("clock"):
            for hand in self._crew.hands:
                hand.order("clock", by=by)
            self._did(fault, f"the wall clock is off by {by:+g} s for {seconds:g} s")
            time.sleep(seconds)
            for hand in self._crew.hands:
                hand.order("clock", by=0.0)

    # -- the store --------------------------------------------------------------------------------------------------

    def _do_valkey(self, fault: str, *, how: str, seconds: float) -> None:
        assert isinstance(self._ground, Server)
        with self._alone("store"), self._trouble():
            self._did(fault, f"{how}, {seconds:g} s")
            self._ground.act(how, seconds)

    def _do_server_clock(self, fault: str, *, by: float, seconds: float) -> None:
        assert isinstance(self._ground, Server)
        with self._alone("store"):
            self._ground.step(by)
            self._did(fault, f"the server's clock is off by {by:+g} s for {seconds:g} s")
            time.sleep(seconds)
            self._ground.step(0.0)

    def _do_file_locked(self, fault: str, *, seconds: float) -> None:
        assert isinstance(self._ground, File)
        with self._alone("store"), self._trouble(), self._ground.locked():
            self._did(fault, f"for {seconds:g} s")
            time.sleep(seconds)

    def _do_disk_full(self, fault: str, *, seconds: float) -> None:
        assert isinstance(self._ground, File)
        processes = [hand.process.pid for hand in self._crew.hands if hand.process is not None]
        with self._alone("store"), self._trouble(), self._ground.full(processes) as how:
            self._did(fault, f"{how}, for {seconds:g} s")
            time.sleep(seconds)

    def _do_read_only(self, fault: str, *, worker: int) -> None:
        """Let one process begin while it is read-only; the others have the file open."""
        assert isinstance(self._ground, File)
        # Whoever forks begins anew with the file as well, so nobody can be asked to go on.
        with self._one(worker) as hand, self._alone("store"), self._trouble(), self._ground.read_only() as possible:
            if not possible:
                return
            hand.away = True
            self._crew.replace(hand)
            self._did(fault, f"{hand.label} begins")
            hand.ready.wait(_READY)
            time.sleep(1.0)
        hand.away = False
