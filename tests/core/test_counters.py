from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from budgetguard._core import counters as c
from budgetguard._core.counters import Pool, View, closed_at, micros, pool_names, tagged


def names_of(pool: Pool) -> list[str]:
    found = [getattr(pool, name) for name in Pool.__slots__]
    return [name for entry in found for name in ([entry] if isinstance(entry, str) else entry)]


def test_no_two_counters_share_a_name() -> None:
    names = [value for name, value in vars(c).items() if name.isupper() and isinstance(value, str)]
    names += [tagged(bucket) for bucket in range(c.RING)] + [closed_at(bucket) for bucket in range(c.RING)]
    for pool in ("", "vip", "0", "credits"):
        names += names_of(Pool(pool))
    assert len(set(names)) == len(names)


def test_the_buckets_of_tagged_credits_go_round() -> None:
    assert tagged(0) == tagged(c.RING) != tagged(1)
    assert closed_at(3) == closed_at(3 + 5 * c.RING)


def test_pools_are_found_among_the_counters() -> None:
    counters = {"credits": 1, "limit": 4, "limit:vip": 2, "slots:other": 1, "limiter": 1}
    assert pool_names(View(counters, 0)) == ["", "vip"]
    assert pool_names(View({}, 0)) == []


@given(st.floats(0, 1e9))
@example(0.1)
@example(0.0)
@example(1e-9)
def test_seconds_become_microseconds_that_never_cut_a_bound_short(seconds: float) -> None:
    assert seconds * 1e6 <= micros(seconds) <= seconds * 1e6 + 1


def test_a_counter_that_was_never_written_is_zero_to_who_looks() -> None:
    view = View({"credits": 5}, 7)
    assert (view[c.CREDITS], view[c.BALANCE]) == (5, 0)
    assert view.held == -5


def test_a_view_without_a_reading_has_no_age() -> None:
    assert View({}, 7).age is None
    assert not View({c.READ_AT: 0}, 7).has_reading
    assert View({c.READ_AT: 4}, 7).age == 3


def test_where_slots_are_our_own_there_is_no_doubt() -> None:
    pool = Pool("vip")
    doubtful = {pool.doubts(0): 2, pool.doubts(1): 3}
    assert View(doubtful, 0).doubt(pool) == 5
    assert View({**doubtful, pool.own: 1}, 0).doubt(pool) == 0


def test_credits_that_may_be_counted_twice_are_no_more_than_are_still_open() -> None:
    counters = {c.BALANCE: 100, c.CREDITS: 40, c.WAITING: 10, tagged(3): 20, c.CREDITS_OPEN: 50}
    assert View(counters, 0).credits_open == 30
    assert View({**counters, c.CREDITS_OPEN: 5}, 0).credits_open == 5
