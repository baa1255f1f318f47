"""What the providers really say, as their pages, and clients in the field, show it. Spoilt from here on."""

from __future__ import annotations

from typing import Any

__all__ = [
    "UDIO_CREDITS",
    "UDIO_FEEDS",
    "UDIO_REFUSALS",
    "UDIO_SUBMITTED",
    "VIDU_BODIES",
    "VIDU_CREDITS",
    "VIDU_LISTS",
    "VIDU_POLLS",
    "VIDU_REFUSALS",
    "VIDU_SUBMITTED",
]

_PACKAGE = {
    "id": "812345678901234567",
    "name": "Standard monthly",
    "type": "metered",
    "concurrency": 5,
    "credit_amount": 8000,
    "credit_remain": 480,
    "created_at": "2025-01-01T15:41:31.968916Z",
    "purchase_at": "2025-01-01T15:41:31Z",
    "valid_from": "2025-01-01T00:00:00Z",
    "valid_to": "2026-01-01T00:00:00Z",
}


def _row(kind: str, credits: Any, limit: Any = 5, running: Any = 1, queued: Any = 0) -> dict[str, Any]:
    return {
        "type": kind,
        "credit_remain": credits,
        "concurrency_limit": limit,
        "current_concurrency": running,
        "queue_count": queued,
    }


VIDU_CREDITS: tuple[Any, ...] = (
    {"remains": [_row("metered", 500)], "packages": []},
    {"remains": [_row("metered", 480), _row("test", 20, 1, 0), _row("concurrent", 0, 20, 3, 2)], "packages": []},
    {"remaining_credits": [_row("metered", "500", "5", "0", "0")]},
    {"remains": [_row("metered", 480)], "packages": [_PACKAGE, {**_PACKAGE, "id": 7, "type": "test"}]},
    {"remains": []},
    {"remains": [_row("metered", 500)], "remaining_credits": [_row("metered", 500)]},
    {"remains": [], "remaining_credits": [_row("metered", 500)]},
    {"code": 500, "reason": "InternalServiceFailure", "message": "internal", "remains": []},
)

_SUBMITTED = {
    "task_id": "812345678901234567",
    "state": "created",
    "model": "viduq2",
    "prompt": "a kite over the sea",
    "images": [],
    "duration": 5,
    "seed": 0,
    "aspect_ratio": "16:9",
    "resolution": "720p",
    "bgm": False,
    "movement_amplitude": "auto",
    "payload": "",
    "off_peak": False,
    "credits": 10,
    "created_at": "2025-01-01T15:41:31.968916Z",
}
VIDU_SUBMITTED: tuple[Any, ...] = (
    _SUBMITTED,
    {**_SUBMITTED, "credits": "10"},
    {name: value for name, value in _SUBMITTED.items() if name != "credits"},
    {"sub_task_id": "8123", "state": "created"},
    {"task_id": "8123", "state": "success", "credits": 300},
)
VIDU_REFUSALS: tuple[Any, ...] = tuple(
    {"code": code, "reason": reason, "message": message, "metadata": {"trace_id": "f3a1"}}
    for code, reason, message in (
        (400, "CreditInsufficient", "insufficient credits"),
        (429, "QuotaExceeded", "quota exceeded"),
        (429, "TooManyRequests", "too many requests"),
        (400, "FieldLacking", "field is missing or empty: model"),
        (401, "Unauthorized", "unauthorized"),
        (404, "TaskNotFound", "task not found"),
        (500, "InternalServiceFailure", "internal service failure"),
        (400, "BadRequest", "task state is scheduled, can not cancel"),
    )
)
VIDU_POLLS: tuple[Any, ...] = tuple(
    {
        "id": "812345678901234567",
        "state": state,
        "err_code": error,
        "credits": 10,
        "payload": "",
        "bgm": False,
        "off_peak": False,
        "creations": [{"id": "1", "url": "https://example.com/a.mp4", "cover_url": "https://example.com/a.jpg"}],
    }
    for state, error in (
        ("created", ""),
        ("queueing", ""),
        ("processing", ""),
        ("success", ""),
        ("failed", "CreationPolicyViolation"),
        ("failed", "UserCancelled"),
    )
)
VIDU_LISTS: tuple[Any, ...] = (
    {"next_page_token": "", "tasks": [{**poll, "id": str(at), "key_id": "7"} for at, poll in enumerate(VIDU_POLLS)]},
    {"next_page_token": "x", "tasks": []},
    {},
)
VIDU_BODIES: tuple[Any, ...] = (
    {"model": "viduq2", "prompt": "a kite", "duration": 5, "resolution": "720p"},
    {"model": "viduq3-pro", "prompt": "a fox", "duration": 8, "off_peak": True, "audio": True, "bgm": True},
    {"model": "viduq2-pro", "images": ["https://example.com/a.png"], "duration": 0, "resolution": "1080p"},
    {"model": "viduq2", "prompt": "a fox", "images": ["a", "b", "c"], "resolution": "4K"},
    {"model": "viduq2-turbo", "start_image": "a", "image_settings": [{"key_image": "b"}, {"duration": 7}]},
    {"template": "hugging", "images": ["a"]},
    {"text": "a word or two", "voice_setting_voice_id": "x"},
    {"video_url": "https://example.com/a.mp4", "upscale_resolution": "8K"},
    {"images": ["a"], "audio_url": "b", "lip_sync": True, "resolution": "720p"},
    {"images": ["a"], "duration": 30, "type": "generate_bgm"},
    {"model": "audio1.0", "prompt": "rain", "duration": 5.0},
    {"model": "vidu1.0", "style": "anime", "duration": 4, "resolution": "360p"},
    {"count": 10, "type": ["a", "b"]},
)
UDIO_CREDITS: tuple[Any, ...] = (
    {"code": 200, "message": "success", "data": {"credits": 195, "used_credits": 5}},
    {"code": "200", "msg": "success", "data": {"credits": "195"}},
)
UDIO_SUBMITTED: tuple[Any, ...] = (
    {"code": 200, "message": "success", "workId": "gen2abc", "data": {"task_id": "gen2abc"}},
    {"code": 200, "message": "success", "workId": "ext2abc"},
    {"code": 200, "msg": "success", "data": {"taskId": "cover1"}},
)
UDIO_REFUSALS: tuple[Any, ...] = tuple(
    {"code": code, "message": message}
    for code, message in (
        (400, "Missing extend_audio_index"),
        (401, "Unauthorized: No API key provided in Authorization header"),
        (402, "No credit"),
        (403, "Forbidden: no permission"),
        (429, "rate limit exceeded"),
        (500, "internal error"),
    )
)
_SONG = {
    "id": "s1",
    "audio_url": "https://example.com/a.mp3",
    "status": "complete",
    "fail_message": "",
    "duration": 5.5,
}
UDIO_FEEDS: tuple[Any, ...] = tuple(
    {"code": 200, "message": "success", "data": {"type": kind, "request_body": {}, "response_data": songs}}
    for kind, songs in (
        ("IN_PROGRESS", []),
        ("IN_PROGRESS", [_SONG]),
        ("SUCCESS", [{**_SONG, "status": "text"}, _SONG]),
        ("SUCCESS", [_SONG, _SONG]),
        ("FAILED", [{**_SONG, "status": "text", "fail_message": "moderated"}]),
        ("FAIL", []),
    )
)
