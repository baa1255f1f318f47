"""Where slots come back and where doubt stays. The columns: free credits, free slots, credits held, slots in doubt."""

from __future__ import annotations

import itertools

import pytest

from budgetguard._core import counters as c
from budgetguard.model import Capacity, Reading
from tests.core.story import Story, play


def test_a_task_that_no_reading_contains_gives_its_slot_back_when_it_ends() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        a ends                               70    4    30    0
        read 70, 0 of 4 run                  70    4     0    0
    """)


def test_a_task_a_reading_contains_gives_nothing_back_if_nobody_saw_it_run_since() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
        a ends                               70    3     0    1
        read 70, 0 of 4 run                  70    4     0    0
    """)


def test_a_task_a_reading_contains_gives_its_slot_back_if_it_was_seen_running_since() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
        a is seen running                    70    3     0    0
        a ends                               70    4     0    0
        read 70, 0 of 4 run                  70    4     0    0
    """)


def test_having_been_seen_running_before_the_last_reading_proves_nothing() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
        a is seen running                    70    3     0    0
        read 70, 1 of 4 run                  70    3     0    0
        a ends                               70    3     0    1
    """)


def test_an_end_before_the_mark_is_settled_by_the_reading() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
        a ends                               70    3     0    1
        mark                                 70    3     0    1
        install 70, 0 of 4 run               70    4     0    0
    """)


def test_an_end_while_a_reading_is_under_way_stays_in_doubt_after_it() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
        mark                                 70    3     0    0
        a ends                               70    3     0    1
        install 70, 1 of 4 run               70    3     0    1
        read 70, 0 of 4 run                  70    4     0    0
    """)


def test_a_slot_given_back_while_a_reading_is_under_way_may_be_counted_by_it() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        mark                                 70    3    30    0
        a ends                               70    4    30    1
        install 70, 1 of 4 run               70    3     0    1
        read 70, 0 of 4 run                  70    4     0    0
    """)


def test_a_task_that_begins_and_ends_while_a_reading_is_under_way_may_be_counted_by_it() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        mark                                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        a ends                               70    4    30    1
        install 70, 1 of 4 run               40    3    30    1
        read 70, 0 of 4 run                  70    4     0    0
    """)


def test_a_task_seen_running_under_the_installed_mark_frees_its_slot_but_leaves_doubt_under_way() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        read 70, 1 of 4 run                  70    3     0    0
        a is seen running                    70    3     0    0
        mark                                 70    3     0    0
        a ends                               70    4     0    1
        install 70, 1 of 4 run               70    3     0    1
    """)


def test_two_that_see_the_same_task_end_free_its_slot_once() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
    """)
    twice = [story.books.finish(story.view, story.records["a"], seen_under=None) for _ in range(2)]
    assert [story.transact(step).applied for step in twice] == [True, False]
    assert story.numbers == (70, 4, 30, 0)


def test_an_ending_worked_out_on_old_counters_is_worked_out_again() -> None:
    story = play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        reserve b for 10                     60    2    40    0
        accept a                             60    2    40    0
    """)
    view = story.view
    accept, _ = story.books.accept(view, story.records["b"], 10, "t")
    finish = story.books.finish(view, story.records["a"], seen_under=None)
    expire = story.books.expire(view, story.records["b"])
    assert story.claim is not None
    again = story.books.install(view, story.claim, Reading(100, {"": Capacity(4, 0)}))
    story.tell("mark")
    assert not any(story.transact(step).applied for step in (accept, finish, expire, again))
    assert story.numbers == (60, 2, 40, 0)


# -- leases ---------------------------------------------------------------------------------------------------------


def test_the_lease_of_a_call_in_line_gives_its_credits_back() -> None:
    play("""
        read 100, 1 of 1 run                100    0     0    0
        a waits for 30                       70    0    30    0
        the lease of a ends                 100    0     0    0
    """)


def test_the_lease_of_an_open_call_tags_it_and_the_next_reading_shows_what_became_of_it() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        the lease of a ends                  70    3    30    1
        read 70, 1 of 4 run                  70    3     0    0
    """)


def test_the_lease_of_an_open_call_that_ends_while_a_reading_is_under_way_waits_for_the_next() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        mark                                 70    3    30    0
        the lease of a ends                  70    3    30    1
        install 70, 1 of 4 run               40    2    30    2
        read 100, 0 of 4 run                100    4     0    0
    """)


def test_the_lease_of_a_task_leaves_doubt_and_no_more() -> None:
    play("""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30                     70    3    30    0
        accept a                             70    3    30    0
        the lease of a ends                  70    3    30    1
        read 70, 0 of 4 run                  70    4     0    0
    """)


@pytest.mark.parametrize("slots", [0, 1])
def test_a_lost_call_that_is_charged_at_completion_stays_held_as_long_as_a_task_could_run(slots: int) -> None:
    story = play(
        f"""
        read 100, 0 of 4 run                100    4     0    0
        reserve a for 30 slots {slots}      70    {4 - slots}    30    0
        the lease of a ends                  70    {4 - slots}    30    {slots}
        """,
        at_completion=True,
    )
    for _ in range(2):
        story.tell(f"read 100, {slots} of 4 run")
        assert story.numbers[0] == 70
    story.tell("the lease of lost_a ends")
    assert story.numbers[0] == 70
    story.tell("read 70, 0 of 4 run")
    assert story.numbers == (70, 4, 0, 0)


@pytest.mark.parametrize("at_completion", [False, True])
def test_the_slack_of_a_lost_call_ends_with_it(at_completion: bool) -> None:
    story = Story(at_completion=at_completion)
    for event in (
        "read 100, 0 of 4 run",
        "reserve a for 30 slack 20",
        "the lease of a ends",
        "the lease of lost_a ends",
    ):
        story.tell(event)
    assert story.view[c.SLACK] == 0


# -- an acceptance after the lease ----------------------------------------------------------------------------------


def accept_late(story: Story, who: str, charge: int, *, lost: bool) -> None:
    left = story.records.pop(f"lost_{who}") if lost else None
    record = story.records[who]
    step, story.records[who] = story.books.accept(
        story.view, record, charge, f"task {who}", read_since=True, late=True, lost=left
    )
    story.do(step)


@pytest.mark.parametrize("terms", [{}, {"exclusive": True}, {"reports_slots": False}, {"at_completion": True}])
def test_a_call_accepted_after_its_lease_is_counted_once(terms: dict[str, bool]) -> None:
    story = Story(**terms)
    for event in ("read 100, 0 of 4 run", "reserve a for 30", "the lease of a ends"):
        story.tell(event)
    accept_late(story, "a", 30, lost=True)
    assert story.numbers[:3] == (70, 3, 30)
    story.tell("a ends")
    story.tell("read 70, 0 of 4 run")
    assert story.numbers == (70, 4, 0, 0)
    assert story.view[c.SLACK] == 0


@pytest.mark.parametrize("terms", [{}, {"exclusive": True}, {"reports_slots": False}])
def test_a_call_accepted_after_its_lease_and_a_reading_is_counted_anew(terms: dict[str, bool]) -> None:
    story = Story(**terms)
    own = bool(terms)
    for event in ("read 100, 0 of 4 run", "reserve a for 30", "the lease of a ends", "read 100, 0 of 4 run"):
        story.tell(event)
    assert story.numbers[:2] == (100, 3 if own else 4)
    accept_late(story, "a", 30, lost=True)
    assert story.numbers[:2] == (70, 3)
    story.tell("read 70, 1 of 4 run")
    story.tell("a is seen running")
    story.tell("a ends")
    assert story.numbers == (70, 4, 0, 0)


def test_a_call_accepted_after_its_lease_and_its_tasks_is_counted_anew() -> None:
    story = Story()
    for event in (
        "read 100, 0 of 4 run",
        "reserve a for 30 slack 5",
        "the lease of a ends",
        "the lease of lost_a ends",
    ):
        story.tell(event)
    story.records.pop("lost_a", None)
    accept_late(story, "a", 30, lost=False)
    story.tell("read 70, 1 of 4 run")
    assert story.numbers == (70, 3, 0, 0)
    assert story.view[c.SLACK] == 0


@pytest.mark.parametrize("charge", [10, 30, 50])
def test_the_charge_of_a_late_call_counts_and_not_its_price(charge: int) -> None:
    story = Story()
    for event in ("read 100, 0 of 4 run", "reserve a for 30", "the lease of a ends"):
        story.tell(event)
    accept_late(story, "a", charge, lost=True)
    assert story.numbers[0] == 100 - charge
    story.tell(f"read {100 - charge}, 1 of 4 run")
    assert story.numbers == (100 - charge, 3, 0, 0)


# -- every order ----------------------------------------------------------------------------------------------------

ORDERS = [
    order
    for order in itertools.permutations(("mark", "accept a", "a ends", "install"))
    if order.index("mark") < order.index("install") and order.index("accept a") < order.index("a ends")
]


@pytest.mark.parametrize("terms", [{}, {"exclusive": True}, {"reports_slots": False}, {"at_completion": True}], ids=str)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_in_whatever_order_things_happen_nothing_is_free_that_is_not_and_a_quiet_reading_finds_everything(
    order: tuple[str, ...], terms: dict[str, bool]
) -> None:
    for counted in range(order.index("mark"), order.index("install") + 1):
        story = Story(**terms)
        story.tell("read 100, 0 of 4 run")
        story.tell("reserve a for 30")
        credits, running, seen = 100, 0, (100, 0)
        for number, event in enumerate(order):
            if event == "accept a":
                running = 1
                credits -= 0 if terms.get("at_completion") else 30
            if event == "a ends":
                running = 0
                credits -= 30 if terms.get("at_completion") else 0
            story.tell(f"install {seen[0]}, {seen[1]} of 4 run" if event == "install" else event)
            if number <= counted:
                seen = (credits, running)
            held = 30 if terms.get("at_completion") and order.index("a ends") > number else 0
            assert story.numbers[0] <= credits - held
            assert story.numbers[1] <= 4 - running
        story.tell(f"read {credits}, {running} of 4 run")
        assert story.numbers == (70, 4, 0, 0)
