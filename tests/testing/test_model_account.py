import itertools
import random
import threading
from typing import Any

import pytest

from budgetguard.errors import SettingError
from budgetguard.testing import Journal, ManualClock, PrepaidAccount
from budgetguard.testing.task import FakeTask, Phase, Refusal


class Story:
    """An account on a manual clock, and short words for what is done to it."""

    def __init__(self, credits: int = 100, limit: int | None = 2, mode: Any = "queue", **settings: Any) -> None:
        settings.setdefault("duration", 10.0)
        self.clock = ManualClock()
        self.journal = Journal()
        self.told: list[tuple[str, str, float]] = []
        self.account = PrepaidAccount(
            credits,
            limit,
            mode=mode,
            clock=self.clock,
            journal=self.journal,
            rng=random.Random(7),
            listener=lambda task, what, at: self.told.append((task.id, what, at)),
            **settings,
        )
        self.ids = itertools.count(1)

    def submit(self, charge: int = 10, **options: Any) -> FakeTask | Refusal:
        return self.account.submit(str(next(self.ids)), "text2video", {}, charge, **options)

    def task(self, charge: int = 10, **options: Any) -> FakeTask:
        task = self.submit(charge, **options)
        assert isinstance(task, FakeTask)
        return task

    @property
    def slots(self) -> tuple[int, int]:
        state = self.account.look()
        return state.running, state.queued

    @property
    def credits(self) -> int:
        return self.account.look().credits


def test_a_submit_takes_its_charge_and_a_slot_and_gives_only_the_slot_back() -> None:
    story = Story()
    task = story.task(30)
    assert (story.credits, story.slots, task.phase) == (70, (1, 0), Phase.RUNNING)
    story.clock.advance(10)
    assert (story.credits, story.slots) == (70, (0, 0))
    assert (task.phase, task.ended_at) == (Phase.SUCCEEDED, 10.0)


def test_work_above_the_limit_waits_and_starts_in_order_at_the_very_moment_a_slot_frees() -> None:
    story = Story(limit=2)
    tasks = [story.task() for _ in range(5)]
    assert story.slots == (2, 3)
    assert [task.phase for task in tasks] == [Phase.RUNNING] * 2 + [Phase.WAITING] * 3
    story.clock.advance(35)
    assert story.slots == (0, 0)
    assert [task.started_at for task in tasks] == [0.0, 0.0, 10.0, 10.0, 20.0]
    assert story.journal.without_slot == 3


def test_one_long_look_tells_the_same_story_as_many_short_ones() -> None:
    stories = [Story(limit=2, duration=(1.0, 9.0)) for _ in range(2)]
    for story in stories:
        for _ in range(8):
            story.submit()
    stories[0].clock.advance(60)
    for _ in range(600):
        stories[1].clock.advance(0.1)
        stories[1].account.look()
    stories[0].account.look()
    assert [told[:2] for told in stories[0].told] == [told[:2] for told in stories[1].told]
    assert [told[2] for told in stories[0].told] == pytest.approx([told[2] for told in stories[1].told])
    assert stories[0].journal.utilisation == pytest.approx(stories[1].journal.utilisation)


def test_reject_mode_refuses_what_finds_no_slot_and_charges_nothing_for_it() -> None:
    story = Story(limit=2, mode="reject")
    story.submit()
    story.submit()
    assert story.submit() is Refusal.SLOTS
    assert (story.credits, story.slots, story.journal.refused_slots) == (80, (2, 0), 1)
    story.clock.advance(10)
    assert isinstance(story.submit(), FakeTask)


def test_want_of_credits_is_told_before_want_of_a_slot() -> None:
    story = Story(credits=25, limit=1, mode="reject")
    story.submit(20)
    assert story.submit(20) is Refusal.CREDITS
    assert story.submit(5) is Refusal.SLOTS


def test_the_last_credit_can_be_spent_and_not_one_more() -> None:
    story = Story(credits=30)
    assert isinstance(story.submit(30), FakeTask)
    assert story.submit(1) is Refusal.CREDITS
    assert isinstance(story.submit(0), FakeTask)


def test_a_queue_with_an_end_refuses_what_does_not_fit() -> None:
    story = Story(limit=1)
    story.account.queue_max = 1
    assert [type(story.submit()) for _ in range(3)] == [FakeTask, FakeTask, Refusal]


def test_a_raised_limit_starts_waiting_work_and_a_lowered_one_leaves_running_work_alone() -> None:
    story = Story(limit=1)
    for _ in range(4):
        story.submit()
    story.account.set_limit(3)
    assert story.slots == (3, 1)
    story.account.set_limit(1)
    assert story.slots == (3, 1)
    story.clock.advance(10)
    assert story.slots == (1, 0)


def test_strangers_take_slots_and_credits_for_a_while() -> None:
    story = Story(credits=100, limit=3)
    assert story.account.stranger_takes(slots=2, credits=30, seconds=5) == (2, 30)
    assert (story.credits, story.slots, story.account.look().foreign) == (70, (2, 0), 2)
    story.submit()
    story.submit()
    assert story.slots == (3, 1)
    story.clock.advance(5)
    assert story.slots == (2, 0)
    assert story.journal.charged == 20


def test_strangers_take_no_more_than_there_is() -> None:
    story = Story(credits=20, limit=1, mode="reject")
    assert story.account.stranger_takes(slots=3, credits=50) == (1, 20)
    assert story.submit(0) is Refusal.SLOTS
    story.account.strangers_leave()
    assert story.slots == (0, 0)
    assert story.account.tasks() == []


def test_a_task_ordered_to_fail_fails_at_its_end_and_is_refunded_if_that_is_the_rule() -> None:
    story = Story()
    story.account.fail_next_task("Moderated", refund=True)
    story.account.fail_next_task("Moderated", refund=False)
    story.account.fail_next_task("Moderated")
    story.account.set_limit(None)
    tasks = [story.task(10) for _ in range(4)]
    story.clock.advance(10)
    assert story.credits == 70
    assert [task.phase for task in tasks] == [Phase.FAILED] * 3 + [Phase.SUCCEEDED]
    assert [task.refunded for task in tasks] == [True, False, False, False]
    assert story.journal.refunded == 10


def test_a_share_of_tasks_fails_and_the_seed_says_which() -> None:
    def fates() -> list[Phase]:
        story = Story(credits=1000, limit=None)
        story.account.fail_rate = 0.3
        tasks = [story.task(1) for _ in range(200)]
        story.clock.advance(10)
        story.account.look()
        return [task.phase for task in tasks]

    first = fates()
    assert 30 < first.count(Phase.FAILED) < 90
    assert first == fates()


def test_only_waiting_tasks_can_be_cancelled_and_their_charge_comes_back() -> None:
    story = Story(limit=1)
    running, waiting, behind = story.task(), story.task(), story.task()
    assert story.account.cancel(running.id) is Phase.RUNNING
    assert story.account.cancel(waiting.id) is Phase.WAITING
    assert story.account.cancel(waiting.id) is Phase.CANCELLED
    assert story.account.cancel("nobody") is None
    assert (running.phase, waiting.phase, story.credits, story.slots) == (Phase.RUNNING, Phase.CANCELLED, 80, (1, 1))
    story.clock.advance(10)
    assert story.slots == (1, 0)
    assert behind.started_at == 10.0


def test_off_peak_work_that_is_not_done_in_two_days_expires_with_a_refund() -> None:
    story = Story(limit=1)
    story.account.off_peak_delay = None
    task = story.task(40, off_peak=True)
    assert story.slots == (0, 1)
    assert story.journal.without_slot == 0
    story.clock.advance(48 * 3600 - 1)
    assert story.account.look().queued == 1
    story.clock.advance(1)
    assert (story.credits, story.slots, task.phase) == (100, (0, 0), Phase.EXPIRED)


def test_off_peak_work_that_still_runs_at_its_deadline_expires_too() -> None:
    story = Story(limit=1, duration=3600.0)
    story.account.off_peak_delay = 47.5 * 3600
    task = story.task(40, off_peak=True)
    story.clock.advance(47.5 * 3600)
    assert story.slots == (1, 0)
    story.clock.advance(1800)
    assert (story.slots, task.phase, story.credits) == ((0, 0), Phase.EXPIRED, 100)


def test_the_reported_balance_trails_by_seconds() -> None:
    story = Story()
    story.account.lag_seconds = 60.0
    story.submit(30)
    assert (story.account.look().credits, story.account.look().reported) == (70, 100)
    story.clock.advance(59)
    assert story.account.look().reported == 100
    story.clock.advance(1)
    assert story.account.look().reported == 70


def test_the_reported_balance_trails_by_readings() -> None:
    story = Story()
    story.account.lag_calls = 2
    story.account.read()
    story.submit(30)
    assert [story.account.read().reported for _ in range(3)] == [100, 100, 70]


def test_a_top_up_shows_at_once_whatever_the_lag() -> None:
    story = Story()
    story.account.lag_seconds = 60.0
    story.submit(30)
    story.account.top_up(50)
    state = story.account.look()
    assert (state.credits, state.reported, state.granted) == (120, 150, 150)


def test_slotless_work_is_charged_and_done_at_once() -> None:
    story = Story(limit=0, mode="reject")
    task = story.task(10, slotless=True)
    assert (task.phase, story.slots, story.credits) == (Phase.SUCCEEDED, (0, 0), 90)


def test_actions_can_be_planned_for_later() -> None:
    story = Story(credits=0)
    story.account.later(5, lambda: story.account.top_up(100))
    story.clock.advance(4)
    assert story.submit(10) is Refusal.CREDITS
    story.clock.advance(1)
    assert isinstance(story.submit(10), FakeTask)


def test_the_listener_hears_of_every_change_with_its_moment() -> None:
    story = Story(limit=1, stages={"half": 0.5})
    story.submit()
    story.submit()
    story.clock.advance(20)
    story.account.look()
    first = [("1", "running", 0.0), ("1", "half", 5.0), ("1", "succeeded", 10.0)]
    second = [("2", "running", 10.0), ("2", "half", 15.0), ("2", "succeeded", 20.0)]
    assert story.told == first + second


def test_ended_tasks_are_forgotten_beyond_a_bound() -> None:
    story = Story(credits=1000, limit=None, tasks_max=3)
    tasks = [story.task(1) for _ in range(5)]
    assert len(story.account.tasks()) == 5, "running tasks are never forgotten"
    story.clock.advance(10)
    story.submit(1)
    assert story.account.task(tasks[0].id) is None
    assert len(story.account.tasks()) == 3


def test_durations_come_from_a_number_a_range_or_a_function() -> None:
    assert Story(duration=4.0).task().seconds == 4.0
    assert 1.0 <= Story(duration=(1.0, 2.0)).task().seconds <= 2.0
    assert Story(duration=lambda path, body: float(len(path) + len(body))).task().seconds == 10.0


@pytest.mark.parametrize("settings", [{"credits": -1}, {"limit": -1}, {"mode": "panic"}])
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(settings))}="):
        Story(**settings)


def test_many_threads_never_get_more_than_there_is() -> None:
    story = Story(credits=100, limit=7, mode="reject", duration=1000.0)
    outcomes: list[FakeTask | Refusal] = []
    start = threading.Barrier(20)

    def work() -> None:
        start.wait()
        outcomes.extend([story.submit(3) for _ in range(10)])

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, FakeTask) for outcome in outcomes) == 7
    assert outcomes.count(Refusal.SLOTS) == 193
    assert (story.credits, story.slots) == (79, (7, 0))
