"""What answers of udioapi.pro mean: an envelope with a code of its own around every document.

``{"code": 200, "message": "success", "data": {...}}``, with ``msg`` instead of ``message`` on some calls. Whether the
HTTP status repeats the code is not documented, and clients meet both, so the code decides where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from budgetguard.model import Outcome, Route, RouteKind, TaskSeen, TaskState, Verdict
from budgetguard.ports import Answer
from budgetguard.providers._fields import identifier, retry_after, sentence, whole

__all__ = ["USER_AGENT_REFUSED", "blocked", "code_of", "missing", "observe", "verdict"]

USER_AGENT_REFUSED = (
    "it is not the API's own (HTTP 403): Cloudflare in front of it refuses some clients by their User-Agent "
    "(error 1010); give another with UdioPro(user_agent=...), and with your own requests"
)

_ENDED_WELL = frozenset({"SUCCESS", "COMPLETE"})
_ENDED_BADLY = frozenset({"FAIL", "FAILED"})
_SONGS = 2  # of every call


def code_of(answer: Answer) -> int:
    """Give the envelope's code, or the status where there is none that could be one."""
    code = whole(answer.body.get("code")) if isinstance(answer.body, dict) else None
    return code if code is not None and 100 <= code <= 599 else answer.status


def blocked(answer: Answer) -> bool:
    """Tell whether the client was turned away before the provider saw it, whose own refusals are JSON."""
    return answer.status == 403 and not isinstance(answer.body, dict)


def verdict(answer: Answer) -> Verdict:
    """Read what became of a submitted call."""
    if blocked(answer):
        return Verdict(Outcome.REJECTED, reason="1010", message=USER_AGENT_REFUSED)
    body: Mapping[str, Any] = answer.body if isinstance(answer.body, dict) else {}
    code = code_of(answer)
    message = sentence(body.get("message")) or sentence(body.get("msg"))
    if 200 <= code < 300:
        task_id = _task_id(body)
        # All calls start a task; an answer that names none does not tell what happened.
        outcome = Outcome.UNKNOWN if task_id is None else Outcome.ACCEPTED
        return Verdict(outcome, task_id=task_id, message="" if task_id else message)
    return Verdict(_outcome(code), retry_after=retry_after(answer.headers), reason=str(code), message=message)


def _task_id(body: Mapping[str, Any]) -> str | None:
    data = _object(body.get("data"))
    candidates = (body.get("workId"), data.get("task_id"), data.get("taskId"))
    return next((found for value in candidates if (found := identifier(value))), None)


def _outcome(code: int) -> Outcome:
    if code == 402:
        return Outcome.INSUFFICIENT
    if code == 429:
        return Outcome.RATE
    if code in (408, 499) or not 300 <= code < 500:
        return Outcome.UNKNOWN
    return Outcome.REJECTED


def observe(route: Route, answer: Answer) -> Sequence[TaskSeen]:
    """Read whether a task still runs. What cannot be read was not seen."""
    if route.kind is not RouteKind.POLL or not route.task_id or not isinstance(answer.body, dict):
        return ()
    # The oldest feed has no envelope: https://doc.udioapi.pro/quickstart/query-result.
    data = answer.body if "response_data" in answer.body else answer.body.get("data")
    if not 200 <= code_of(answer) < 300 or not isinstance(data, dict):
        return ()
    state = _cover(data) if route.path == "cover/status" else _songs(data)
    return () if state is None else (TaskSeen(route.task_id, state),)


def missing(answer: Answer) -> bool:
    """Tell whether an answer says that there is no such task: by the envelope, not by a page of something between.

    That an id which nobody knows is a 400 is inferred; no page says.
    """
    return isinstance(answer.body, dict) and "code" in answer.body and code_of(answer) in (400, 404, 410)


def _cover(data: Mapping[str, Any]) -> TaskState | None:
    # https://altrix.udioapi.pro/docs/generate-music-cover
    match _upper(data.get("status")):
        case "IN_PROGRESS":
            return TaskState.RUNNING
        case word if word in _ENDED_WELL:
            return TaskState.SUCCEEDED
        case word if word in _ENDED_BADLY:
            return TaskState.FAILED
        case _:
            return None


def _songs(data: Mapping[str, Any]) -> TaskState | None:
    kind, listed = _upper(data.get("type")), data.get("response_data")
    items: list[Any] = listed if isinstance(listed, list) else []
    done = [_complete(item) for item in items]
    if kind in _ENDED_BADLY:
        return TaskState.SUCCEEDED if True in done else TaskState.FAILED
    if not kind and not items:
        return None
    if kind == "COMPLETE":  # The oldest feed's word, whose songs carry no status.
        return TaskState.SUCCEEDED
    # The type may say SUCCESS while songs are still being written: each song has to have ended. And while it says
    # that work goes on, one finished song may be all that is listed yet.
    waiting = not items or None in done or (kind not in _ENDED_WELL and len(items) < _SONGS)
    if waiting:
        return TaskState.RUNNING
    # Some of it was delivered: money spent.
    return TaskState.SUCCEEDED if True in done else TaskState.FAILED


def _complete(item: Any) -> bool | None:
    """Tell whether a song is there (true), failed (false) or still to come (none)."""
    song = _object(item)
    if _upper(song.get("status")) == "COMPLETE":
        return True
    if song.get("fail_message") or song.get("error_message") or _upper(song.get("status")) in _ENDED_BADLY:
        return False
    return None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _upper(value: Any) -> str:
    return value.strip().upper() if isinstance(value, str) else ""
