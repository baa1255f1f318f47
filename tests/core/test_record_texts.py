"""A record is found again by its text, so it must be written the same way whenever it is."""

from __future__ import annotations

import pytest

from budgetguard._core.account import Account, Hold
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
