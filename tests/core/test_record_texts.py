"""A record is found again by its text, so it must be written the same way whenever it is."""

from __future__ import annotations

import pytest

from budgetguard._core.account import Account, Hold
from budgetguard._core.direct import begin
from budgetguard._core.records import Record, Stage
from budgetguard.model import Quote
from budgetguard.policy import Policy


@pytest.mark.parametrize(
    ("policy", "quote"),
    [
        (Policy(), Quote(5)),
        (Policy(task_lease=900), Quote(5)),
        (Policy(task_lease=0.5), Quote(5)),
        (Policy(), Quote(5, task_lease=60)),
    ],
)
@pytest.mark.parametrize("usual", [3600, 3600.0])
def test_a_record_that_is_read_back_is_written_like_before(policy: Policy, quote: Quote, usual: float) -> None:
    record = Account("a", policy, task_lease=usual).record(Hold("c", quote), Stage.RESERVED)
    assert Record.loads(record.dumps()).dumps() == record.dumps()


def test_the_first_step_is_the_ledgers_transaction_whether_or_not_another_call_asked_for_the_same_before() -> None:
    account = Account("a", Policy(credits_headroom=3, slots_headroom=1, max_age=7), listening=False)
    quotes = [Quote(5), Quote(5), Quote(6, 2), Quote(6, 2, "p"), Quote(6, 2, "p", 4), Quote(6, 2, "p", 4, 60), Quote(0)]
    for number, quote in enumerate([*quotes, *quotes, *(quote for quote in quotes for _ in range(2))]):
        hold = Hold(f"c{number}", quote)
        step = begin(account, hold)
        assert step is not None
        expected = account.books.take(account.record(hold, Stage.RESERVED), within=account.max_age)
        expected.add["serial"] = 1
        assert step.transaction == expected
        assert step.record.drops().items() == {key: put.value for key, put in step.transaction.put.items()}.items()
        step.transaction.add["serial"] = 9  # whatever a store does to its own
