"""A short search for an order of events that breaks a promise; ``make search`` runs the long one."""

from __future__ import annotations

import pytest

from tests.search.life import live
from tests.search.mutations import MUTATIONS
from tests.search.runner import catch, search
from tests.search.scenario import KINDS, draw

SHARES = 6
SCHEDULES = 1_500 // SHARES

# Where a mistake is found at once. When the core changes, others may find it: make search prints them.
SEEDS = {
    "a reading forgets the credits of open calls": 25,
    "a reading forgets the slots of open calls": 25,
    "a reading dissolves the credits accepted since its mark": 14,
    "a reading dissolves the slots accepted since its mark": 74,
    "the mark is made when the answer comes, not before asking": 14,
    "an older reading replaces a newer one": 456,
    "the lag of the balance is ignored": 79,
    "a mark is dated by the last look instead of by the store": 59732,
    "credits charged at completion are taken as charged at once": 27,
    "the queued tasks of a reading are not counted": 1,
    "a claim ends before an answer can come": 14,
    "whoever gives up a claim ends anybody's": 7120,
    "nobody notes when a reading was asked for": 1,
    "a stranger on an exclusive account is ignored": 8,
    "the end of a task inside a reading gives its slot back unseen": 1,
    "a poll sent before the reading counts as seen": 1,
    "a call accepted during a reading leaves no doubt": 109,
    "a call is tagged with the generation last seen": 102,
    "a release does not end the record": 1,
    "a finish does not end the record": 0,
    "a refused call is not given back": 1,
    "an unknown outcome is given back at once": 20,
    "the end of a lease gives back what was sent": 20,
    "the end of a lease counts as charged though that is at completion": 112,
    "a refund inside the reading is given back again": 55,
    "a finish wakes nobody": 0,
    "a release wakes nobody": 25,
    "a newcomer overtakes the line": 627,
    "a newcomer overtakes the heads of other lines": 50,
    "a head that leaves stays announced": 4,
    "the last come is served first": 1,
    "the head of the line takes slots that are not there": 0,
    "the head of the line does not look whether its credits are still there": 888,
    "a call is refused on an old reading": 4,
    "an admitted head does not pass its turn on": 20,
    "doubt about slots is ignored": 116,
    "doubt about credits is ignored": 64,
    "what a call draws stays with its job too": 2,
    "a job keeps its slots while a call of its own waits for some": 2083,
    "what a call gives back goes to its job and to the account": 40,
    "the quick path gives out what is not there": 7,
    "a call accepted on the quick path is not tagged": 13,
    "a call is refused at once on an old reading": 7,
    "who waits there is given slots that are not free": 28,
    "who leaves the line there keeps his credits": 28,
    "a newcomer overtakes the line on the quick path": 55,
    "what comes free there is handed to nobody": 133,
    "the head waits there whatever it would have to look at": 16099,
    "the head waits there on any reading": 88,
}


@pytest.mark.parametrize("share", range(SHARES))
def test_no_order_of_events_breaks_a_promise(share: int) -> None:
    tally = search(share * SCHEDULES, SCHEDULES)
    assert not tally.found, "\n".join(f"python -m tests.search --replay {f.seed}: {f.what}" for f in tally.found)
    assert set(tally.kinds) == set(KINDS)


def test_the_search_meets_what_it_is_for() -> None:
    met = search(0, 400).met
    wanted = {"Queued", "OutcomeUnknown", "Expired", "InsufficientCredits", "StrangerSeen", "RefreshFailed", "Paused"}
    wanted |= {"QueueTimeout", "CreditsUnavailable", "killed", "suspended", "cancelled", "webhooks", "renewed", "late"}
    wanted |= {"Joined", "jobs", "jobs cancelled"}
    wanted |= {"taken at once", "settled at once", "ended at once", "refused at once"}
    wanted |= {"served in line", "left the line", "went on as a flow"}
    assert not wanted - met.keys()


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_in_the_rule_is_found(name: str) -> None:
    assert catch(MUTATIONS[name], SEEDS.get(name, 0), 400).found, "the search does not see it any more"


def test_a_schedule_can_be_replayed() -> None:
    traces: list[list[str]] = [[], []]
    for trace in traces:
        live(draw(16), trace=trace)
    assert traces[0] == traces[1] != []
