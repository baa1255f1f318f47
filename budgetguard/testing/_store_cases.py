# ruff: noqa: S101 - a contract is made of assertions
"""What one caller may expect of a store, case by case."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from typing import ClassVar

from budgetguard.ports import Loaded, Put, Store, Transacted, Transaction

__all__ = ["ODD", "PATIENCE", "StoreCases"]

PATIENCE = 10.0
"""Seconds a wake-up may take; only a store that is wrong needs them."""
_LARGE = 10**15
_AHEAD = 4 * 10**15
ODD = ("with space", "a:b:c", "{braces}", "*?[x]", "line\nfeed", "unit\x1fmark", "grün 猫", "'quoted\"", "%s\\", "🐈")


class StoreCases:
    """The cases, for whatever answers like a blocking store."""

    tick: ClassVar[float] = 0.05
    """The shortest time the suite asks to pass, in seconds. Leases are made of it."""

    def advance(self, seconds: float) -> None:
        """Let the store's time pass. By default it really does; a store with a clock of its own moves that."""
        time.sleep(seconds)

    def teardown_method(self) -> None:
        """Close what the test opened."""
        self._stack.close()

    # -- counters ---------------------------------------------------------------------------------------------------

    def test_a_counter_that_was_never_written_is_zero(self) -> None:
        """Expecting 0 of it succeeds, and a floor of 0 holds."""
        assert self._do(expect={"new": 0}, floor={"new": 0}).applied
        assert not self._do(expect={"new": 1}).applied
        assert not self._do(floor={"new": 1}).applied
        assert self._load().counters.get("new", 0) == 0

    def test_what_is_added_adds_up(self) -> None:
        """Above zero and below."""
        self._do(add={"a": 5, "b": -3})
        assert self._of(self._do(add={"a": -7}).counters, "a", "b") == (-2, -3)
        assert self._of(self._load().counters, "a", "b") == (-2, -3)

    def test_large_amounts_are_kept_to_the_last_unit(self) -> None:
        """No store may turn them into floats."""
        self._do(add={"a": _LARGE, "b": -_LARGE})
        self._do(add={"a": 1, "b": -1})
        assert self._of(self._load().counters, "a", "b") == (_LARGE + 1, -_LARGE - 1)

    def test_a_transaction_that_asks_nothing_is_applied(self) -> None:
        """It is a look, and tells the counters."""
        self._do(add={"a": 5})
        done = self._do()
        assert done.applied
        assert self._of(done.counters, "a") == (5,)

    def test_a_floor_may_be_reached_but_not_crossed(self) -> None:
        """It is checked on what the counter would be afterwards."""
        self._do(add={"a": 10})
        assert self._do(add={"a": -7}, floor={"a": 3}).applied
        assert not self._do(add={"a": -1}, floor={"a": 3}).applied
        assert not self._do(floor={"a": 4}).applied
        assert self._do(add={"a": 1}, floor={"a": 4}).applied

    def test_a_counter_without_a_floor_may_fall_below_zero(self) -> None:
        """The store itself knows no floors."""
        assert self._of(self._do(add={"a": -4}).counters, "a") == (-4,)

    def test_what_is_expected_is_expected_beforehand(self) -> None:
        """So a counter can be compared and changed in one."""
        assert self._do(add={"gen": 1}, expect={"gen": 0}).applied
        assert not self._do(add={"gen": 1}, expect={"gen": 0}).applied
        assert self._do(add={"gen": 1}, expect={"gen": 1}).applied

    def test_a_time_must_lie_within_reach(self) -> None:
        """A counter that holds a time is compared with the store's own clock; one that is 0 never passes."""
        assert not self._do(within={"at": 10**14}).applied
        now = self._load().now
        self._do(add={"at": now})
        assert self._do(within={"at": int(3600 * 1e6)}).applied
        self.advance(2 * self.tick)
        assert self._do(within={"at": int(3600 * 1e6)}).applied
        assert not self._do(within={"at": int(self.tick * 1e6)}).applied

    def test_a_time_is_compared_to_the_microsecond(self) -> None:
        """However large it is. One that lies ahead is within any reach, and behind by less than nothing."""
        now = self._load().now
        self._do(add={"before": now - 1, "ahead": _AHEAD})
        assert not self._do(within={"before": 0}).applied
        assert self._do(within={"ahead": 0}).applied
        assert self._do(within={"ahead": self._load().now + 10**12 - _AHEAD}).applied
        assert not self._do(within={"ahead": now - 1 - _AHEAD}).applied

    def test_a_stamp_is_the_time_of_the_transaction_itself(self) -> None:
        """Whatever the counter was; and what is expected or floored is looked at before."""
        self._do(add={"at": 5})
        self.advance(self.tick)
        done = self._do(expect={"at": 5}, stamp=("at", "new"))
        assert done.applied
        assert self._of(done.counters, "at", "new") == (done.now, done.now)
        refused = self._do(expect={"at": 5}, stamp=("at",))
        assert not refused.applied
        assert self._of(self._load().counters, "at", "new") == (done.now, done.now)

    def test_one_condition_that_fails_stops_everything(self) -> None:
        """Whichever it is: neither counters nor records change, and nobody's lease moves."""
        self._do(add={"a": 10}, put={"kept": Put(b"1", None)})
        for refused in (
            Transaction(floor={"a": 100}),
            Transaction(floor={"b": 1}),
            Transaction(expect={"a": 9}),
            Transaction(within={"never": 10}),
            Transaction(drop={"kept": b"2"}),
            Transaction(drop={"absent": b""}),
            Transaction(put={"kept": Put(b"3", None)}),
        ):
            refused.add = {"a": 1, "c": 1} | refused.add
            refused.put = {"new": Put(b"n", None)} | refused.put
            refused.stamp = ("stamped",)
            assert not self.store.transact(self.account, refused).applied, refused
        loaded = self._load("kept", "new")
        assert self._of(loaded.counters, "a", "c", "stamped") == (10, 0, 0)
        assert loaded.records == {"kept": b"1"}

    def test_a_refusal_tells_the_counters_and_the_time(self) -> None:
        """Whoever was refused learns why without a second look."""
        self._do(add={"a": 5, "b": 6})
        done = self._do(add={"a": -9}, floor={"a": 0})
        assert self._of(done.counters, "a", "b") == (5, 6)
        assert done.now > 0

    def test_counters_that_did_not_change_are_told_too(self) -> None:
        """An answer shows the whole account."""
        self._do(add={"a": 1, "b": 2})
        assert self._of(self._do(add={"c": 3}).counters, "a", "b", "c") == (1, 2, 3)

    def test_counters_are_given_as_a_copy(self) -> None:
        """What a reader does to them stays with the reader."""
        self._do(add={"a": 5})
        self._do().counters["a"] = 99
        self._load().counters["a"] = 99
        assert self._of(self._load().counters, "a") == (5,)

    def test_names_may_hold_anything(self) -> None:
        """Accounts, counters and records are named by others."""
        for name in ODD:
            account = f"{self.account} {name}"
            put = {f"t:{name}": Put(name.encode(), None)}
            assert self.store.transact(account, Transaction(add={f"slots:{name}": 1}, put=put)).applied
            loaded = self.store.load(account, [f"t:{name}"])
            assert (loaded.counters, loaded.records) == ({f"slots:{name}": 1}, {f"t:{name}": name.encode()})

    def test_accounts_do_not_see_each_other(self) -> None:
        """Neither counters nor records."""
        self._do(add={"a": 5}, put={"r": Put(b"1", 0.0)})
        other = self.store.load(f"{self.account}2", ["r"], due=True)
        assert (other.counters.get("a", 0), other.records) == (0, {})

    def test_what_one_handle_writes_another_reads(self) -> None:
        """There is one truth for all who share the store."""
        other = self._other()
        self._do(add={"a": 5}, put={"r": Put(b"1", None)})
        loaded = other.load(self.account, ["r"])
        assert (self._of(loaded.counters, "a"), loaded.records) == ((5,), {"r": b"1"})

    # -- records ----------------------------------------------------------------------------------------------------

    def test_records_are_given_when_named(self) -> None:
        """Those that do not exist are left out; those not named are not given."""
        self._do(put={"r": Put(b"1", None), "s": Put(b"2", None)})
        assert self._load("r", "absent").records == {"r": b"1"}
        assert self._load().records == {}

    def test_records_keep_every_byte(self) -> None:
        """They are not text."""
        for value in (b"", bytes(range(256)), b"\x00\x00", "猫".encode(), b"x" * 10_000):
            key = secrets.token_hex(4)
            self._do(put={key: Put(value, None)})
            assert self._load(key).records == {key: value}
            assert self._do(drop={key: value}).applied

    def test_a_record_is_dropped_only_by_who_knows_it(self) -> None:
        """So of two that try to end the same call only one succeeds."""
        self._do(put={"r": Put(b"1", None)})
        assert not self._do(drop={"r": b"2"}).applied
        assert not self._do(drop={"r": b""}).applied
        assert self._do(drop={"r": b"1"}).applied
        assert not self._do(drop={"r": b"1"}).applied
        assert self._load("r").records == {}

    def test_a_record_is_overwritten_only_by_who_knows_it(self) -> None:
        """A record that exists must be named among those dropped."""
        self._do(put={"r": Put(b"1", None)})
        assert not self._do(put={"r": Put(b"2", None)}).applied
        assert self._do(drop={"r": b"1"}, put={"r": Put(b"2", None)}).applied
        assert self._load("r").records == {"r": b"2"}

    def test_a_record_falls_due_when_its_lease_ends(self) -> None:
        """Not before; and one without a lease never does. It stays until somebody drops it."""
        done = self._do(put={"soon": Put(b"1", self.tick), "late": Put(b"2", 3600.0), "never": Put(b"3", None)})
        seen = self.store.load(self.account, due=True)
        # On a busy machine the lease may be over by now: only a look by the store's own time can be early.
        assert seen.records == {} or seen.now - done.now >= self.tick * 1_000_000
        self.advance(2 * self.tick)
        assert self._due() == {"soon": b"1"}
        assert self._load("soon").records == {"soon": b"1"}
        assert self._due() == {"soon": b"1"}
        assert self._do(drop={"soon": b"1"}).applied
        assert self._due() == {}

    def test_a_look_gives_what_is_named_and_what_is_due(self) -> None:
        """Both in one."""
        self._do(put={"due": Put(b"1", 0.0), "named": Put(b"2", None), "other": Put(b"3", None)})
        assert self.store.load(self.account, ["named"], due=True).records == {"due": b"1", "named": b"2"}

    def test_a_lease_begins_anew_when_the_record_is_put_anew(self) -> None:
        """Longer or shorter than it was."""
        self._do(put={"r": Put(b"1", self.tick), "s": Put(b"1", 3600.0)})
        self._do(
            drop={"r": b"1", "s": b"1"},
            put={"r": Put(b"1", 3600.0), "s": Put(b"1", self.tick)},
        )
        self.advance(2 * self.tick)
        assert self._due() == {"s": b"1"}

    def test_at_most_a_hundred_records_fall_due_at_a_time_and_in_the_end_all(self) -> None:
        """However many leases ended while nobody looked."""
        for start in range(0, 250, 50):
            self._do(put={f"r{number}": Put(b"%d" % number, self.tick) for number in range(start, start + 50)})
        self.advance(2 * self.tick)
        seen: dict[str, bytes] = {}
        while due := self._due():
            assert len(due) <= 100
            assert not due.keys() & seen.keys()
            assert self._do(drop=due).applied
            seen |= due
        assert seen == {f"r{number}": b"%d" % number for number in range(250)}

    def test_an_amount_that_is_no_whole_number_changes_nothing(self) -> None:
        """Whoever gave it is told, and the store goes on as if it had not been asked."""
        self._do(add={"a": 5}, put={"kept": Put(b"1", None)})
        for wrong in (1.5, "1", None):
            step = Transaction(add={"a": 1, "b": wrong, "c": 1}, put={"new": Put(b"1", None)}, drop={"kept": b"1"})  # type: ignore[dict-item]
            with contextlib.suppress(TypeError):
                self.store.transact(self.account, step)
                raise AssertionError(wrong)
            loaded = self._load("kept", "new")
            assert (loaded.counters, loaded.records) == ({"a": 5}, {"kept": b"1"})
        assert self._of(self._do(add={"a": 1}).counters, "a") == (6,)

    # -- time -------------------------------------------------------------------------------------------------------

    def test_the_time_is_in_whole_microseconds_and_never_runs_backwards(self) -> None:
        """From whatever handle it is asked."""
        other, times = self._other(), [self._load().now]
        for _ in range(10):
            times += [self._do(add={"a": 1}).now, other.load(self.account).now, self._load().now]
        before = times[-1]
        self.advance(2 * self.tick)
        times.append(self._load().now)
        assert times == sorted(times)
        assert all(isinstance(now, int) and now > 0 for now in times)
        assert times[-1] - before >= int(self.tick * 1e6)

    # -- wake-ups ---------------------------------------------------------------------------------------------------

    def test_who_watches_is_woken_by_every_handle(self) -> None:
        """And sees what woke them."""
        for handle in (self.store, self._other()):
            woken = threading.Event()
            unwatch = self.store.watch(self.account, woken.set)
            handle.transact(self.account, Transaction(add={"a": 1}, wake=True))
            assert woken.wait(PATIENCE)
            unwatch()
        assert self._of(self._load().counters, "a") == (2,)

    def test_everybody_who_watches_is_woken(self) -> None:
        """Not only the first."""
        woken = [threading.Event() for _ in range(3)]
        for event in woken:
            self._stack.callback(self.store.watch(self.account, event.set))
        self._do(wake=True)
        assert all(event.wait(PATIENCE) for event in woken)

    def test_a_watcher_that_fails_harms_nobody(self) -> None:
        """Neither the others nor whoever made the transaction, now and later."""
        before, after = threading.Event(), threading.Event()

        def fail() -> None:
            raise RuntimeError

        for changed in (before.set, fail, after.set):
            self._stack.callback(self.store.watch(self.account, changed))
        for _ in range(2):
            assert self._do(wake=True).applied
            assert before.wait(PATIENCE)
            assert after.wait(PATIENCE)
            before.clear()
            after.clear()

    def test_who_stopped_watching_is_not_woken(self) -> None:
        """Stopping ends this watch and no other, and stopping twice is harmless."""
        calls: list[str] = []
        woken = threading.Event()

        def changed() -> None:
            calls.append("changed")

        first = self.store.watch(self.account, changed)
        first()
        first()
        self._stack.callback(self.store.watch(self.account, woken.set))
        self._do(wake=True)
        assert woken.wait(PATIENCE)
        # A store may call without news while a watch begins, and a call under way may still come. None comes later.
        calls.clear()
        woken.clear()
        self._do(wake=True)
        assert woken.wait(PATIENCE)
        assert not calls

    def test_two_watches_of_one_callable_end_one_by_one(self) -> None:
        """Ending one leaves the other."""
        woken = threading.Event()
        wake = woken.set
        first = self.store.watch(self.account, wake)
        self._stack.callback(self.store.watch(self.account, wake))
        first()
        self._do(wake=True)
        assert woken.wait(PATIENCE)

    # -- helpers ----------------------------------------------------------------------------------------------------

    _lazy_stack: contextlib.ExitStack | None = None
    _lazy_store: Store | None = None
    _lazy_account: str = ""

    @property
    def _stack(self) -> contextlib.ExitStack:
        if self._lazy_stack is None:
            self._lazy_stack = contextlib.ExitStack()
        return self._lazy_stack

    @property
    def store(self) -> Store:
        """The store under test, opened when first asked for."""
        if self._lazy_store is None:
            self._lazy_store = self._open()
            self._stack.callback(self._lazy_store.close)
        return self._lazy_store

    @property
    def account(self) -> str:
        """The name of an account no other test has used."""
        self._lazy_account = self._lazy_account or f"contract:{secrets.token_hex(6)}"
        return self._lazy_account

    def _open(self) -> Store:
        raise NotImplementedError

    def _other(self) -> Store:
        raise NotImplementedError

    def _do(
        self,
        add: dict[str, int] | None = None,
        floor: dict[str, int] | None = None,
        expect: dict[str, int] | None = None,
        within: dict[str, int] | None = None,
        stamp: tuple[str, ...] = (),
        put: dict[str, Put] | None = None,
        drop: dict[str, bytes] | None = None,
        *,
        wake: bool = False,
    ) -> Transacted:
        step = Transaction(add or {}, floor or {}, expect or {}, within or {}, stamp, put or {}, drop or {}, wake)
        return self.store.transact(self.account, step)

    def _load(self, *records: str) -> Loaded:
        return self.store.load(self.account, records)

    def _due(self) -> dict[str, bytes]:
        return self.store.load(self.account, due=True).records

    def _of(self, counters: dict[str, int], *names: str) -> tuple[int, ...]:
        return tuple(counters.get(name, 0) for name in names)
