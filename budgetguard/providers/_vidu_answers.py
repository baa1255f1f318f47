"""What Vidu's answers to submitted, asked-for and cancelled tasks mean.

Errors look like ``{"code": 400, "reason": "CreditInsufficient", "message": "...", "metadata": {...}}``. The reason
decides and the status comes second: one version of https://platform.vidu.com/docs/error-code lists reasons without
statuses, and an empty balance is a 400.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from budgetguard.model import Outcome, Route, RouteKind, TaskSeen, TaskState, Verdict
from budgetguard.ports import Answer
from budgetguard.providers._fields import CREDITS_MAX, identifier, retry_after, sentence, whole

__all__ = ["missing", "observe", "verdict"]

_REASONS: Mapping[str, Outcome] = {
    "CreditInsufficient": Outcome.INSUFFICIENT,
    # Usually work above the limit is accepted and queued: https://platform.vidu.com/docs/usage-and-limits. Not always.
    "QuotaExceeded": Outcome.CONCURRENCY,
    "TooManyRequests": Outcome.RATE,
    "SystemThrottling": Outcome.RATE,
    "OperationInProcess": Outcome.RATE,
    # We, or something between, hung up; or Vidu broke: it may have been accepted.
    "Canceled": Outcome.UNKNOWN,
    "InternalServiceFailure": Outcome.UNKNOWN,
    **dict.fromkeys(
        (
            "AuditSubmitIllegal",
            "BadRequest",
            "Conflict",
            "CreationNotFound",
            "CreationPolicyViolation",
            "FieldInvalid",
            "FieldItemCountOutOfRange",
            "FieldLacking",
            "FieldUnwanted",
            "Forbidden",
            "ImageCheckBodyJointsFailed",
            "ImageCheckFaceFailed",
            "ImageDownloadFailure",
            "ImageFormatInvalid",
            "ImageObjectsUndetected",
            "ModelUnavailable",
            "NotFound",
            "PageSizeOutOfRange",
            "TaskNotFound",
            "TaskPromptPolicyViolation",
            "Unauthorized",
            "UserCancelled",
        ),
        Outcome.REJECTED,
    ),
}
_STATES: Mapping[str, TaskState] = {
    "created": TaskState.RUNNING,
    "queueing": TaskState.RUNNING,
    "processing": TaskState.RUNNING,
    "success": TaskState.SUCCEEDED,
    "failed": TaskState.FAILED,
}
_ACCEPTED = Outcome.ACCEPTED
_OVER = (TaskState.SUCCEEDED, TaskState.FAILED)
# The editing calls of the film endpoints name the task they start differently, and the film itself beside it:
# https://platform.vidu.cn/docs/one-click-ad-film.
_TASK_IDS = ("sub_task_id", "compose_sub_task_id")
# These are done when they answer; a task id in the answer names nothing that still runs.
_SYNCHRONOUS = frozenset({"audio-clone", "img2video-prompt-recommendation"})


def verdict(route: Route, answer: Answer) -> Verdict:
    """Read what became of a submitted call."""
    document = answer.body
    body: Mapping[str, Any] = document if isinstance(document, dict) else {}
    if 200 <= answer.status < 300:
        task_id = identifier(body.get("task_id")) or _task_id(body)
        if task_id is not None or _tells(route, body):
            over = route.path in _SYNCHRONOUS or _state(body) in _OVER
            return Verdict(_ACCEPTED, _charge(body), None if over else task_id)
    # A success that names no task, no charge and no state (a proxy's page, say) tells nothing.
    reason, message = sentence(body.get("reason")), sentence(body.get("message"))
    outcome = _REASONS.get(reason, _by_status(answer.status))
    return Verdict(outcome, retry_after=retry_after(answer.headers), reason=reason, message=message)


def _task_id(body: Mapping[str, Any]) -> str | None:
    for name in _TASK_IDS:
        found = identifier(body.get(name))
        if found:
            return found
    return None


def _tells(route: Route, body: Mapping[str, Any]) -> bool:
    if body.get("reason"):
        return False
    return (route.path in _SYNCHRONOUS and bool(body)) or body.get("credits") is not None or _state(body) is not None


def _by_status(status: int) -> Outcome:
    if 300 <= status < 400:
        return Outcome.REJECTED
    if not 400 <= status < 500 or status in (408, 499):
        return Outcome.UNKNOWN
    return {402: Outcome.INSUFFICIENT, 429: Outcome.RATE}.get(status, Outcome.REJECTED)


def observe(route: Route, answer: Answer) -> Sequence[TaskSeen]:
    """Read which tasks run and which have ended. What cannot be read was not seen."""
    body = answer.body
    if not 200 <= answer.status < 300 or not isinstance(body, dict):
        return ()
    match route.kind:
        case RouteKind.POLL:
            return _seen(route.task_id, body)
        case RouteKind.LIST:
            tasks = body.get("tasks")
            rows = [task for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []
            return tuple(seen for task in rows for seen in _seen(identifier(task.get("id")), task))
        case RouteKind.CANCEL:
            # Only a waiting task can be cancelled; the answer to that is an empty object.
            ended = route.task_id is not None and not body
            return (TaskSeen(route.task_id or "", TaskState.CANCELLED),) if ended else _seen(route.task_id, body)
        case _:
            return ()


def missing(answer: Answer) -> bool:
    """Tell whether an answer says that there is no such task. A 404 of something in between is not Vidu's word."""
    reason = answer.body.get("reason") if isinstance(answer.body, dict) else None
    return answer.status >= 400 and reason in ("TaskNotFound", "CreationNotFound")


def _seen(task_id: str | None, task: Mapping[str, Any]) -> tuple[TaskSeen, ...]:
    state = _state(task)
    if not task_id or state is None:
        return ()
    if state is TaskState.FAILED and task.get("err_code") == "UserCancelled":
        state = TaskState.CANCELLED
    return (TaskSeen(task_id, state, _charge(task)),)


def _state(document: Mapping[str, Any]) -> TaskState | None:
    state = document.get("state")
    return _STATES.get(state) if isinstance(state, str) else None


def _charge(document: Mapping[str, Any]) -> int | None:
    # Older answers lack it, and some quote it. What is not reported is not 0.
    charge = document.get("credits")
    if type(charge) is not int or charge > CREDITS_MAX:
        charge = whole(charge)
    return charge if charge is not None and charge >= 0 else None
