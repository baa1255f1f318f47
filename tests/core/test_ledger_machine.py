"""The rule against a provider that knows the truth: whatever happens in whatever order, nothing is free that is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from budgetguard._core import counters as c
from budgetguard._core.ledger import Books
from budgetguard.ports import Transaction
from tests.core.machine import LAG, Machine

TERMS: dict[str, dict[str, Any]] = {
    "careful": {},
    "careful, refunding": {"refund_failed": True},
    "exclusive": {"exclusive": True},
    "without concurrency data": {"reports_slots": False},
    "charged at completion": {"at_completion": True},
    "charged at completion, refunding, exclusive": {"at_completion": True, "refund_failed": True, "exclusive": True},
    "lagging": {"lag": LAG * c.MICROS},
}


def search(terms: dict[str, Any], examples: int) -> None:
    run_state_machine_as_test(
        type("Machine", (Machine,), {"terms": terms}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )


@pytest.mark.parametrize("terms", TERMS, ids=str)
def test_nothing_is_ever_free_that_is_not_and_a_quiet_reading_finds_everything(terms: str) -> None:
    search(TERMS[terms], 40)


Mistake = Callable[[Transaction], None]


def give_every_slot_back_at_once(step: Transaction) -> None:
    step.add["slots"] = 1


def tag_nothing(step: Transaction) -> None:
    for bucket in range(c.RING):
        step.add.pop(c.tagged(bucket), None)


def give_a_lost_call_back(step: Transaction) -> None:
    for bucket in range(c.RING):
        step.add[c.CREDITS] = step.add.get(c.CREDITS, 0) + step.add.pop(c.tagged(bucket), 0)


def never_make_a_new_mark(step: Transaction) -> None:
    step.add.pop(c.CREDITS_GENERATION, None)
    step.stamp = (c.ASKED_AT,)


def forget_what_is_open(step: Transaction) -> None:
    step.add["slots"] = step.add["base"]


@pytest.mark.parametrize(
    ("method", "mistake"),
    [
        ("finish", give_every_slot_back_at_once),
        ("accept", tag_nothing),
        ("expire", give_a_lost_call_back),
        ("claim", never_make_a_new_mark),
        ("install", forget_what_is_open),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_mistake_in_the_rule_is_found(method: str, mistake: Mistake, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(Books, method)

    def wrong(*args: Any, **named: Any) -> Any:
        result = right(*args, **named)
        mistake(result[0] if isinstance(result, tuple) else result)
        return result

    monkeypatch.setattr(Books, method, wrong)
    with pytest.raises(AssertionError):
        search({}, 400)
