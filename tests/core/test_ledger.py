"""The rule, a row an event. The columns: free credits, free slots, credits held, slots in doubt."""

from __future__ import annotations

import pytest

from budgetguard._core import counters as c
from tests.core.story import Story, play

pytestmark = pytest.mark.smoke


def test_nothing_is_free_before_the_first_reading() -> None:
    play("""
        a cannot have 1                       0    0     0    0
        read 100, 1 of 4 run                100    3     0    0
        reserve a for 1                      99    2     1    0
    """)


def test_a_reservation_takes_credits_and_a_slot_and_its_release_gives_both_back() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        release a                           100    4     0    0
    """)


def test_an_accepted_call_stays_on_top_until_a_reading_asked_for_later_contains_it() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
    """)


def test_a_call_accepted_while_a_reading_is_under_way_is_counted_on_top_of_it() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        mark                                 70    3    30    0
        accept a                             70    3    30    0
        install 70, 1 of 4 run               40    2    30    1
        read 70, 1 of 4 run                  70    3     0    0
    """)


def test_a_call_accepted_before_the_mark_is_inside_the_reading_however_late_that_is_installed() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        mark                                 70    3    30    0
        reserve b for 10                     60    2    40    0
        install 70, 1 of 4 run               60    2    10    0
    """)


def test_an_open_call_is_counted_on_top_of_every_reading() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        read 70, 1 of 4 run                  40    2    30    0
        read 70, 1 of 4 run                  40    2    30    0
        release a                            70    3     0    0
        read 100, 0 of 4 run                100    4     0    0
    """)


def test_a_charge_below_the_price_gives_the_difference_back_at_once() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a at 20                       80    3    20    0
        read 80, 1 of 4 run                  80    3     0    0
    """)
    assert [step.wake for step in story.transactions[:4]] == [False, True, False, True]


def test_a_charge_above_the_price_is_counted_and_never_refused() -> None:
    play("""
        read 30, 0 of 4 run                  30    4     0    0
        reserve a for 30                      0    3    30    0
        accept a at 50                      -20    3    50    0
        b cannot have 1                     -20    3    50    0
        read 0, 1 of 4 run                    0    3     0    0
    """)


def test_credits_and_slots_are_given_out_to_the_last_and_not_further() -> None:
    play("""
        read 60, 0 of 2 run                  60    2     0    0
        a cannot have 61                     60    2     0    0
        reserve a for 30                     30    1    30    0
        b cannot have 31                     30    1    30    0
        reserve b for 30                      0    0    60    0
        c cannot have 0                       0    0    60    0
        reserve d for 0 slots 0               0    0    60    0
    """)


def test_the_headroom_is_never_given_out() -> None:
    play(
        """
        read 100, 0 of 4 run                100    4     0    0
        a cannot have 91                    100    4     0    0
        reserve a for 90                     10    3    90    0
        reserve b for 0                      10    2    90    0
        c cannot have 0                      10    2    90    0
        """,
        credits_headroom=10,
        slots_headroom=2,
    )


def test_a_call_of_several_slots_takes_and_gives_them_all() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 10 slots 3             90    1    10    0
        b cannot have 10 slots 2             90    1    10    0
        accept a                             90    1    10    0
        a ends                               90    4    10    0
    """)


def test_a_provider_without_a_limit_refuses_nobody_a_slot() -> None:
    play(f"""
        read 100, 7 of ? run                100    {c.UNLIMITED - 7}     0    0
        reserve a for 10 slots 50            90    {c.UNLIMITED - 57}    10    0
    """)


def test_a_reading_too_old_admits_nobody() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        10 seconds pass                     100    4     0    0
        reserve a for 10                     90    3    10    0
        1 seconds pass                       90    3    10    0
        b cannot have 10                     90    3    10    0
        read 100, 0 of 4 run                 90    3    10    0
        reserve b for 10                     80    2    20    0
    """)


def test_a_reading_that_is_distrusted_admits_nobody_until_the_next() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        nobody trusts the reading           100    4     0    0
        a cannot have 1                     100    4     0    0
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 1                      99    3     1    0
    """)


def test_a_call_in_line_holds_credits_and_no_slot() -> None:
    story = play("""
        read 100, 1 of 1 run                100    0     0    0
        a waits for 30                       70    0    30    0
        a finds no slot                      70    0    30    0
        read 100, 0 of 1 run                 70    1    30    0
        a takes its slot                     70    0    30    0
        accept a                             70    0    30    0
        a ends                               70    1    30    0
    """)
    assert story.view[c.WAITING] == 0


def test_what_waits_in_line_is_held_but_raises_no_doubt_about_credits() -> None:
    story = play("""
        read 100, 1 of 1 run                100    0     0    0
        a waits for 30                       70    0    30    0
        read 100, 1 of 1 run                 70    0    30    0
    """)
    assert (story.view[c.WAITING], story.view[c.CREDITS_DOUBT]) == (30, 0)
    story.play("release a                   100    0     0    0")
    assert story.view[c.WAITING] == 0


def test_a_call_that_was_open_at_a_reading_may_be_counted_twice_and_its_acceptance_raises_the_doubt() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        read 70, 1 of 4 run                  40    2    30    0
    """)
    assert (story.view.credits_open, story.view[c.CREDITS_DOUBT]) == (30, 0)
    story.play("accept a                     40    2    30    1")
    assert (story.view.credits_open, story.view[c.CREDITS_DOUBT]) == (0, 30)
    story.play("read 70, 1 of 4 run          70    3     0    0")
    assert (story.view.credits_open, story.view[c.CREDITS_DOUBT]) == (0, 0)


def test_a_refresh_that_failed_is_asked_again_under_a_new_mark_and_settles_what_came_between() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        mark                                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        20 seconds pass                      70    3    30    0
        mark                                 70    3    30    0
        install 70, 1 of 4 run               70    3     0    0
    """)
    assert (story.view[c.GENERATION], story.view[c.MARK]) == (3, 3)


def test_a_mark_that_led_to_no_reading_is_used_again_while_nothing_happens() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        mark                                 70    3    30    0
        20 seconds pass                      70    3    30    0
        mark                                 70    3    30    0
        20 seconds pass                      70    3    30    0
        mark                                 70    3    30    0
        20 seconds pass                      70    3    30    0
        mark                                 70    3    30    0
        accept a                             70    3    30    0
        20 seconds pass                      70    3    30    0
        mark                                 70    3    30    0
        install 70, 1 of 4 run               70    3     0    0
    """)
    assert (story.view[c.GENERATION], story.view[c.MARK]) == (3, 3)


def test_the_first_reading_after_many_that_failed_settles_a_call_whose_lease_ended_meanwhile() -> None:
    failed = "\n".join(["mark  70 3 30 0", "20 seconds pass  70 3 30 0"] * 6)
    play(f"""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        {failed}
        the lease of a ends                  70    3    30    1
        mark                                 70    3    30    1
        install 70, 0 of 4 run               70    4     0    0
    """)


def test_after_three_refreshes_that_failed_the_last_mark_is_used_again_whatever_happened() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 10                     90    3    10    0
        reserve b for 20                     70    2    30    0
        reserve d for 30                     40    1    60    0
        mark                                 40    1    60    0
        accept a                             40    1    60    0
        20 seconds pass                      40    1    60    0
        mark                                 40    1    60    0
        accept b                             40    1    60    0
        20 seconds pass                      40    1    60    0
        mark                                 40    1    60    0
        accept d                             40    1    60    0
        20 seconds pass                      40    1    60    0
        mark                                 40    1    60    0
        install 40, 3 of 4 run               10    0    30    1
        20 seconds pass                      10    0    30    1
        mark                                 10    0    30    1
        install 40, 3 of 4 run               40    1     0    0
    """)
    assert (story.view[c.GENERATION], story.view[c.MARK]) == (5, 5)


def test_of_two_readings_under_one_mark_the_first_is_installed_and_the_second_is_not() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        mark                                100    4     0    0
    """)
    first = story.claim
    story.tell("20 seconds pass")
    story.tell("mark")
    story.tell("install 90, 0 of 4 run")
    assert first is not None
    assert not story.books.supersedes(story.view, first)


@pytest.mark.parametrize("lag", [0, 3600])
def test_thousands_of_readings_use_the_same_few_buckets(lag: int) -> None:
    story = Story(lag=lag * c.MICROS)
    story.tell("read 100, 0 of 4 run")
    for turn in range(3000):
        story.tell(f"reserve x{turn} for 1")
        story.tell(f"accept x{turn}")
        story.tell(f"x{turn} ends at 0")
        story.tell("7 seconds pass")
        story.tell("read 100, 0 of 4 run")
        view = story.view
        assert 0 <= view[c.CREDITS_GENERATION] - view[c.CREDITS_BASE] < c.RING
        assert story.numbers == (100, 4, 0, 0)
    assert len(story.view.counters) < 2 * c.RING + 30


def test_a_ring_that_nobody_empties_does_not_overflow() -> None:
    story = Story(lag=10**9 * c.MICROS)
    for turn in range(100):
        story.tell("130000000 seconds pass")
        story.tell("read 1000, 0 of 4 run")
        story.tell(f"reserve x{turn} for 1")
        story.tell(f"accept x{turn}")
        story.tell(f"x{turn} ends")
        assert story.numbers[0] == 1000 - story.numbers[2]
        assert sum(story.view[c.tagged(bucket)] for bucket in range(c.RING)) == story.numbers[2]
    assert story.numbers[2] < 20


def test_where_the_balance_lags_a_call_stays_on_top_until_the_lag_is_over() -> None:
    play(
        """
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        60 seconds pass                      70    3    30    0
        read 100, 1 of 4 run                 70    3    30    0
        60 seconds pass                      70    3    30    0
        read 70, 1 of 4 run                  40    3    30    0
        60 seconds pass                      40    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
        """,
        lag=100 * c.MICROS,
    )


def test_where_credits_are_charged_at_completion_they_stay_held_until_then() -> None:
    play(
        """
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 100, 1 of 4 run                 70    3    30    0
        a is seen running                    70    3    30    0
        a ends                               70    4    30    0
        read 70, 0 of 4 run                  70    4     0    0
        """,
        at_completion=True,
    )


def test_a_task_charged_at_completion_settles_what_it_did_cost() -> None:
    story = play(
        """
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30 slack 20            70    3    30    0
        accept a                             70    3    30    0
        a ends at 12                         88    4    12    0
        read 88, 0 of 4 run                  88    4     0    0
        """,
        at_completion=True,
    )
    assert story.view[c.SLACK] == 0


def test_a_charge_told_at_the_end_corrects_the_one_that_was_assumed() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        a ends at 25                         75    4    25    0
        read 75, 0 of 4 run                  75    4     0    0
    """)


def test_a_charge_told_after_a_reading_contains_the_call_changes_nothing() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 75, 1 of 4 run                  75    3     0    0
        a ends at 25                         75    3     0    1
    """)


@pytest.mark.parametrize(("refund", "free"), [(True, 100), (False, 70)])
def test_a_failed_task_gives_its_credits_back_where_the_policy_says_so(refund: bool, free: int) -> None:
    play(
        f"""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        a ends failed                        {free}    4     {100 - free}    0
        """,
        refund_failed=refund,
    )


def test_a_refund_that_a_reading_may_contain_is_not_given_twice() -> None:
    play(
        """
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
        a ends failed                        70    3     0    1
        read 100, 0 of 4 run                100    4     0    0
        """,
        refund_failed=True,
    )


def test_the_slack_of_an_open_call_is_known_while_it_is_open() -> None:
    story = Story()
    slack = []
    for event in (
        "read 100, 0 of 4 run",
        "reserve a for 30 slack 20",
        "reserve b for 10 slack 5",
        "accept a at 15",
        "release b",
    ):
        story.tell(event)
        slack.append(story.view[c.SLACK])
    assert slack == [0, 20, 25, 5, 0]
    assert story.numbers == (85, 3, 15, 0)


def test_a_pause_is_kept_in_the_counters_and_moves_them_alone() -> None:
    story = play("read 100, 0 of 4 run      100    4     0    0")
    view = story.view
    story.do(story.books.pause(view, view.now + 5 * c.MICROS))
    assert story.view[c.PAUSE] == view.now + 5 * c.MICROS
    assert story.numbers == (100, 4, 0, 0)
    assert not story.transact(story.books.pause(view, view.now)).applied


def test_renewing_a_call_begins_its_lease_anew_and_changes_nothing_else() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        100 seconds pass                     70    3    30    0
    """)
    story.do(story.books.renew(story.records["a"]))
    story.clock.advance(100)
    assert story.store.load("p:a", due=True).records == {}
    story.clock.advance(21)
    assert set(story.store.load("p:a", due=True).records) == {"r:a"}
    assert story.numbers == (70, 3, 30, 0)
