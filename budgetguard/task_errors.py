"""What a task ends in that gives no result.

::

    BudgetGuardError
    └── NoResult                 a task that was run or waited for gives no result
        ├── TaskNotStarted       the provider's answer does not say that it took the call
        ├── TaskFailed           it ran and failed, or was cancelled
        └── TaskUnfinished       it was not seen to end; it goes on, and can be waited for again by its id

All are facts and carry what is known. No message repeats what a provider said, as that may repeat what was sent.
"""

from __future__ import annotations

from typing import Any

from budgetguard.errors import BudgetGuardError

__all__ = ["NoResult", "TaskFailed", "TaskNotStarted", "TaskUnfinished"]


def _rebuild(cls: type[NoResult], facts: dict[str, Any]) -> NoResult:
    return cls(**facts)


class NoResult(BudgetGuardError):
    """A task that was run or waited for gives no result. Since 0.1.

    Attributes:
        account: The account's name.
        task_id: The provider's id; ``None`` where no task is known to have been started.
        document: The decoded JSON of the last answer about it; ``None`` if there is none.
    """

    account: str
    document: Any

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self._facts = facts
        for name, value in facts.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._facts)


class TaskNotStarted(NoResult):
    """The provider's answer does not say that it took the call. Since 0.1.

    Attributes:
        outcome: What it says instead, as in `Outcome`: ``rejected``, ``rate`` and so on, or ``unknown`` where it may
            have been taken after all; ``not_sent`` where the guard answered in the provider's stead.
        reason: The provider's own word for it; ``""`` where it has none.
        status: The HTTP status.
    """

    task_id: None
    outcome: str
    reason: str
    status: int

    def __init__(
        self, *, account: str, outcome: str, reason: str = "", status: int, document: Any = None, task_id: None = None
    ) -> None:
        said = f"HTTP {status}" + (f", {reason}" if reason else "")
        if outcome == "unknown":
            told = "does not tell whether the call was taken"
            remedy = "It may run and cost credits: look at the provider's list of tasks before you send it again"
        else:
            told = f"says that the call was not taken: {outcome}"
            remedy = "Nothing was charged; `document` holds what was said"
        super().__init__(
            f"The answer of {account} ({said}) {told}. {remedy}.",
            account=account,
            outcome=outcome,
            reason=reason,
            status=status,
            document=document,
            task_id=task_id,
        )


class TaskFailed(NoResult):
    """A task ran and failed, or was cancelled. Its slot is free. Since 0.1.

    Attributes:
        state: ``failed`` or ``cancelled``.
    """

    task_id: str
    state: str

    def __init__(self, *, account: str, task_id: str, state: str, document: Any = None) -> None:
        super().__init__(
            f"Task {task_id} of {account} ended as {state}. `document` holds what the provider said of it.",
            account=account,
            task_id=task_id,
            state=state,
            document=document,
        )


class TaskUnfinished(NoResult):
    """A task was not seen to end. It goes on, and keeps its slot until somebody sees it end. Since 0.1.

    Attributes:
        waited: Seconds it was waited for.
        why: What ended the waiting.
    """

    task_id: str
    waited: float
    why: str

    def __init__(self, *, account: str, task_id: str, waited: float, why: str, document: Any = None) -> None:
        super().__init__(
            f"Task {task_id} of {account} was not seen to end in {waited:.1f} s: {why}. It goes on; wait for it again "
            f"with wait_task(client, {task_id!r}).",
            account=account,
            task_id=task_id,
            waited=waited,
            why=why,
            document=document,
        )
