"""What an operation costs does not depend on how much is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from budgetguard._core import counters as c
from budgetguard._core.counters import View
from budgetguard._core.records import Record, Stage
from budgetguard.ports import Transaction
from tests.core.story import ACCOUNT, Story


class Looks(dict[str, int]):
    """Counters that count how often they are looked at."""

    looks = 0

    def get(self, key: str, default: int = 0) -> int:  # type: ignore[override]
        self.looks += 1
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        self.looks += len(self)
        return super().__iter__()


def loaded(held: int) -> Story:
    """An account with that many calls open, and as many accepted."""
    story = Story()
    story.tell(f"read {10 * held + 1000}, 0 of ? run")
    for number in range(held):
        story.tell(f"reserve x{number} for 1")
        story.tell(f"reserve y{number} for 1")
        story.tell(f"accept y{number}")
    story.tell("reserve a for 10 slack 5")
    story.tell("reserve b for 10")
    story.tell("accept b")
    return story


OPERATIONS: dict[str, Callable[[Story, View], Transaction]] = {
    "take": lambda story, _: story.books.take(Record("n", Stage.RESERVED, 10, 1), within=10 * c.MICROS),
    "release": lambda story, _: story.books.release(story.records["a"]),
    "renew": lambda story, _: story.books.renew(story.records["a"]),
    "accept": lambda story, view: story.books.accept(view, story.records["a"], 8, "t")[0],
    "expire": lambda story, view: story.books.expire(view, story.records["a"]),
    "finish": lambda story, view: story.books.finish(view, story.records["b"], seen_under=None, charge=5),
    "claim": lambda story, view: story.books.claim(view, 12.0)[0],
    "pause": lambda story, view: story.books.pause(view, view.now + 1),
    "distrust": lambda story, view: story.books.distrust(view),
}


def cost(story: Story, operation: str) -> tuple[int, int]:
    """How often it looks, and how much it asks of the store."""
    now = story.view
    looks = Looks(now.counters)
    step = OPERATIONS[operation](story, View(looks, now.now))
    asked = [step.add, step.floor, step.expect, step.within, step.stamp, step.put, step.drop]
    assert story.store.transact(ACCOUNT, step).applied
    return looks.looks, sum(map(len, asked))


@pytest.fixture(scope="module")
def few() -> dict[str, tuple[int, int]]:
    return {operation: cost(loaded(10), operation) for operation in OPERATIONS}


@pytest.fixture(scope="module")
def much() -> Story:
    return loaded(5000)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_costs_the_same_however_many_calls_are_held(
    operation: str, few: dict[str, tuple[int, int]]
) -> None:
    many = cost(loaded(300), operation)
    assert many == few[operation]
    assert max(many) < 40


def test_an_account_has_as_many_counters_however_much_it_holds(much: Story) -> None:
    assert len(much.store._accounts[ACCOUNT].records) == 10_002
    assert set(much.view.counters) == set(loaded(10).view.counters)


def test_admission_and_ending_cost_the_same_with_ten_thousand_calls_held(
    much: Story, few: dict[str, tuple[int, int]]
) -> None:
    assert cost(much, "take") == few["take"]
    assert cost(much, "finish") == few["finish"]
    assert cost(much, "accept") == few["accept"]
    much.tell("mark")
    before = len(much.transactions)
    much.tell("install 99999, 0 of ? run")
    assert len(much.transactions) == before + 1
    assert len(much.transactions[-1].add) < 30
    assert len(much.transactions[-1].expect) < 30
