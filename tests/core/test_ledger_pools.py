"""Pools of our own, and several pools. The columns: free credits, free slots, credits held, slots in doubt."""

from __future__ import annotations

import pytest

from budgetguard._core import counters as c
from tests.core.story import Story, play


@pytest.mark.parametrize("terms", [{"exclusive": True}, {"reports_slots": False}])
def test_where_nobody_else_uses_the_account_slots_come_back_with_every_end_and_there_is_no_doubt(
    terms: dict[str, bool],
) -> None:
    play(
        """
        read 100, 0 of 2 run                100    2     0    0
        reserve a for 30                     70    1    30    0
        accept a                             70    1    30    0
        read 70, 1 of 2 run                  70    1     0    0
        mark                                 70    1     0    0
        a ends                               70    2     0    0
        install 70, 1 of 2 run               70    2     0    0
        """,
        **terms,
    )


def test_without_concurrency_data_a_slot_comes_back_when_the_lease_of_its_task_ends() -> None:
    play(
        """
        read 100, ? of 2 run                100    2     0    0
        reserve a for 30                     70    1    30    0
        accept a                             70    1    30    0
        read 70, ? of 2 run                  70    1     0    0
        the lease of a ends                  70    2     0    0
        """,
        reports_slots=False,
    )


def test_without_concurrency_data_a_lost_call_keeps_its_slot_as_long_as_a_task_could_run() -> None:
    play(
        """
        read 100, ? of 2 run                100    2     0    0
        reserve a for 30                     70    1    30    0
        the lease of a ends                  70    1    30    0
        read 70, ? of 2 run                  70    1     0    0
        the lease of lost_a ends             70    2     0    0
        """
    )


def test_a_stranger_on_an_exclusive_account_brings_the_careful_rule_back_for_good() -> None:
    story = play(
        """
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 60, 2 of 4 run                  60    2     0    0
        a ends                               60    2     0    1
        read 60, 0 of 4 run                  60    4     0    0
        """,
        exclusive=True,
    )
    assert story.view[c.CAREFUL] == 1


def test_our_own_calls_under_way_and_just_ended_are_no_strangers() -> None:
    story = play(
        """
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 10                     90    3    10    0
        reserve b for 10                     80    2    20    0
        accept a                             80    2    20    0
        mark                                 80    2    20    0
        a ends                               80    3    20    0
        install 80, 2 of 4 run               70    3    10    0
        """,
        exclusive=True,
    )
    assert story.view[c.CAREFUL] == 0


def test_the_limit_may_change_with_every_reading() -> None:
    for terms in ({}, {"exclusive": True}):
        play(
            """
            read 100, 0 of 4 run                100    4     0    0
            reserve a for 10                     90    3    10    0
            accept a                             90    3    10    0
            read 90, 1 of 2 run                  90    1     0    0
            read 90, 1 of 1 run                  90    0     0    0
            read 90, 1 of 0 run                  90   -1     0    0
            read 90, 1 of 9 run                  90    8     0    0
            """,
            **terms,
        )


# -- several pools --------------------------------------------------------------------------------------------------


def test_pools_share_credits_and_not_slots() -> None:
    story = Story()
    story.tell("read 100, 0 of 1 run in fast")
    story.tell("read 100, 0 of 2 run in slow")
    story.tell("reserve a for 10 in fast")
    story.tell("b cannot have 10 in fast")
    story.tell("reserve b for 10 in slow")
    story.tell("reserve d for 10 in slow")
    story.tell("c cannot have 10 in slow")
    story.tell("accept a")
    story.tell("a ends")
    story.tell("reserve e for 10 in fast")
    story.pool = "fast"
    assert story.numbers[:2] == (60, 0)
    story.pool = "slow"
    assert story.numbers[:2] == (60, 0)
    story.tell("c cannot have 10")
