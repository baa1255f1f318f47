from __future__ import annotations

import copy
import pickle
import re

import pytest

from budgetguard import BudgetGuardError, Refused, task_errors
from budgetguard.task_errors import NoResult, TaskFailed, TaskNotStarted, TaskUnfinished

EVERY: list[NoResult] = [
    TaskNotStarted(account="vidu:a", outcome="rejected", reason="FieldInvalid", status=400, document={"code": 400}),
    TaskNotStarted(account="vidu:a", outcome="unknown", status=502),
    TaskFailed(account="vidu:a", task_id="812", state="failed", document={"err_code": "moderation"}),
    TaskUnfinished(account="vidu:a", task_id="812", waited=12.3, why="its time was over"),
]


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_each_says_whose_task_and_what_to_do_and_repeats_nothing_of_the_document(error: NoResult) -> None:
    text = str(error)
    assert "vidu:a" in text
    assert text.endswith(".")
    assert "moderation" not in text
    assert isinstance(error, BudgetGuardError)
    assert not isinstance(error, Refused)


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_each_travels_to_other_processes(error: NoResult) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_an_unknown_outcome_warns_of_sending_again_and_a_refusal_says_nothing_was_charged() -> None:
    assert "Nothing was charged" in str(EVERY[0])
    assert "before you send it again" in str(EVERY[1])
    assert "wait_task(client, '812')" in str(EVERY[3])


def test_every_fact_is_documented() -> None:
    for name in task_errors.__all__:
        kind = getattr(task_errors, name)
        text = (kind.__doc__ or "") + (NoResult.__doc__ or "")
        for fact in kind.__annotations__:
            assert re.search(rf"^        {fact}: \S", text, re.MULTILINE), f"{name}.{fact}"
        assert name in (task_errors.__doc__ or "")
