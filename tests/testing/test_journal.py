import json

from budgetguard.model import RouteKind
from budgetguard.testing import Entry, Fact, Journal


def test_a_fresh_journal_is_empty_and_says_so() -> None:
    journal = Journal()
    assert repr(journal) == "<Journal empty>"
    assert journal.entries == ()
    assert journal.utilisation is None


def test_submits_are_counted_by_what_became_of_them() -> None:
    journal = Journal()
    for _ in range(4):
        journal.arrived(RouteKind.SUBMIT)
        journal.left(RouteKind.SUBMIT)
    journal.note(1.0, Fact.ACCEPTED, "text2video", task_id="1", credits=35)
    journal.note(1.0, Fact.WITHOUT_SLOT, "text2video", task_id="1")
    journal.note(2.0, Fact.REFUSED_CREDITS, "text2video", credits=35)
    journal.note(3.0, Fact.REFUSED_SLOTS, "text2video")
    assert (journal.submits, journal.accepted, journal.charged) == (4, 1, 35)
    assert (journal.refused_credits, journal.refused_slots, journal.without_slot) == (1, 1, 1)
    assert journal.breaches == 3
    assert journal.entries[0] == Entry(1.0, Fact.ACCEPTED, "text2video", "1", 35)


def test_what_was_injected_is_counted_apart_by_kind() -> None:
    journal = Journal()
    journal.note(0.0, Fact.INJECTED, "CreditInsufficient")
    journal.note(0.0, Fact.INJECTED, "CreditInsufficient")
    journal.note(0.0, Fact.INJECTED, "html_502")
    assert journal.injected == {"CreditInsufficient": 2, "html_502": 1}
    assert journal.breaches == 0


def test_the_most_credits_requests_under_way_at_once_are_remembered() -> None:
    journal = Journal()
    journal.arrived(RouteKind.CREDITS)
    journal.arrived(RouteKind.CREDITS)
    journal.left(RouteKind.CREDITS)
    journal.arrived(RouteKind.CREDITS)
    journal.left(RouteKind.CREDITS)
    journal.left(RouteKind.CREDITS)
    assert (journal.credits_requests, journal.credits_in_flight_max) == (3, 2)
    assert journal.in_flight_max("submit") == 0


def test_utilisation_counts_from_the_first_accepted_submit_to_the_last_end() -> None:
    journal = Journal()
    journal.occupy(0.0, own=0, foreign=0, queued=0, limit=2)
    journal.note(10.0, Fact.ACCEPTED)
    journal.occupy(10.0, own=0, foreign=0, queued=0, limit=2)
    journal.occupy(10.0, own=2, foreign=0, queued=0, limit=2)
    journal.occupy(14.0, own=1, foreign=0, queued=0, limit=2)
    journal.occupy(18.0, own=0, foreign=0, queued=0, limit=2)
    journal.occupy(99.0, own=0, foreign=0, queued=0, limit=2)
    assert journal.slot_seconds_busy == 2 * 4 + 1 * 4
    assert journal.slot_seconds_available == 2 * 8
    assert journal.utilisation == 0.75


def test_idle_time_between_two_tasks_lowers_utilisation() -> None:
    journal = Journal()
    journal.note(0.0, Fact.ACCEPTED)
    journal.occupy(0.0, own=1, foreign=0, queued=0, limit=1)
    journal.occupy(1.0, own=0, foreign=0, queued=0, limit=1)
    journal.occupy(3.0, own=1, foreign=0, queued=0, limit=1)
    journal.occupy(4.0, own=0, foreign=0, queued=0, limit=1)
    assert journal.utilisation == 0.5


def test_slots_of_strangers_were_not_available() -> None:
    journal = Journal()
    journal.note(0.0, Fact.ACCEPTED)
    journal.occupy(0.0, own=1, foreign=3, queued=0, limit=4)
    journal.occupy(2.0, own=0, foreign=3, queued=0, limit=4)
    assert journal.utilisation == 1.0
    assert journal.summary()["running_max_with_strangers"] == 4
    assert journal.running_max == 1


def test_a_limit_lowered_below_what_runs_does_not_make_more_than_everything() -> None:
    journal = Journal()
    journal.note(0.0, Fact.ACCEPTED)
    journal.occupy(0.0, own=5, foreign=0, queued=0, limit=2)
    journal.occupy(1.0, own=0, foreign=0, queued=0, limit=2)
    assert journal.utilisation == 1.0


def test_the_oldest_entries_are_forgotten_but_the_counts_are_not() -> None:
    journal = Journal(entries_max=3)
    for at in range(10):
        journal.note(float(at), Fact.ACCEPTED, credits=1)
    assert [entry.at for entry in journal.entries] == [7.0, 8.0, 9.0]
    assert journal.accepted == journal.charged == 10


def test_a_reset_forgets_the_past_and_keeps_what_is_under_way() -> None:
    journal = Journal()
    journal.note(0.0, Fact.ACCEPTED, credits=5)
    journal.occupy(0.0, own=1, foreign=0, queued=0, limit=1)
    journal.occupy(5.0, own=1, foreign=0, queued=0, limit=1)
    journal.arrived(RouteKind.CREDITS)
    journal.reset()
    assert (journal.accepted, journal.charged, journal.credits_requests) == (0, 0, 0)
    assert (journal.running_max, journal.credits_in_flight_max) == (1, 1)
    journal.occupy(7.0, own=0, foreign=0, queued=0, limit=1)
    assert journal.slot_seconds_busy == 2.0


def test_the_summary_is_flat_and_fit_for_json() -> None:
    journal = Journal()
    journal.note(0.0, Fact.ACCEPTED, credits=7)
    summary = json.loads(json.dumps(journal.summary()))
    assert (summary["accepted"], summary["charged"], summary["utilisation"]) == (1, 7, None)
    assert repr(journal) == "<Journal accepted=1, charged=7>"
