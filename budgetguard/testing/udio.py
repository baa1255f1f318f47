"""A fake Udio API pro: music generation behind an envelope with a code of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, Unpack

from budgetguard._settings import flag
from budgetguard.errors import SettingError
from budgetguard.model import RouteKind
from budgetguard.providers.udio import UdioPro
from budgetguard.testing.callbacks import Letter, is_loopback
from budgetguard.testing.exchange import Reply, Request, json_reply
from budgetguard.testing.fake import FakeProvider, Handler, PriceList
from budgetguard.testing.journal import Fact
from budgetguard.testing.settings import Settings, choice
from budgetguard.testing.task import FakeTask, Mode, Phase, Refusal

__all__ = ["FakeUdio"]

_PREFIX = "/api/v2/"
_PAGE_1010 = (
    b"<!DOCTYPE html>\n<html><head><title>Access denied</title></head>"
    b"<body><h1>Error 1010</h1><p>The owner of this website has banned your access based on your browser's signature."
    b"</p></body></html>\n"
)
_SUBMITS: Mapping[str, tuple[str, str]] = {
    "/api/generate": ("generate", "gen2"),
    "/api/v2/generate": ("generate", "gen2"),
    "/api/v2/extend": ("extend", "ext2"),
    "/api/v2/upload-cover/generate": ("upload-cover/generate", "upc2"),
    "/api/v2/cover/generate": ("cover/generate", "cover"),
}
_COVER = "/api/v2/cover/"
_SONGS = 2


class FakeUdio(FakeProvider):
    """An account at a music provider on this machine, for tests and demonstrations. Since 0.1.

    Speaks ``POST /api/v2/generate``, ``/api/generate``, ``/api/v2/extend``, ``/api/v2/upload-cover/generate`` and
    ``/api/v2/cover/generate``, and ``GET /api/v2/credits``, ``/api/v2/feed`` and ``/api/v2/cover/status``. The key
    comes as ``Authorization: Bearer <key>``. Charges when it accepts, never says how much, and says nothing of
    concurrency. Credits are checked before the limit. Everything may be called, and every setting changed, from any
    thread.

    Args:
        credits: The balance to begin with.
        limit: A hidden limit: a submit that finds so many tasks running is answered 429; ``None`` for no limit.
        mode: ``"queue"`` lets work above the limit wait instead.
        style: Whether an error's code is the HTTP status too (``"status"``) or stands in a 200 (``"envelope"``).
        early_success: Whether the feed says ``SUCCESS`` while songs are still being written.
        fail_type: What the feed calls a task that failed.
        check_user_agent: Whether Python's default ``User-Agent`` is turned away with a 403 page of HTML.
        **settings: See `FakeProvider`.
    """

    refusals: Mapping[str, tuple[int, str]] = {
        "400": (400, "Bad request"),
        "401": (401, "Unauthorized: invalid API key"),
        "402": (402, "No credit"),
        "403": (403, "Forbidden: no permission"),
        "429": (429, "Rate limit exceeded, please try again later"),
        "500": (500, "Internal server error"),
        "503": (503, "Service unavailable"),
        "1010": (403, "error code: 1010"),
    }
    stages: Mapping[str, float] = {"first": 0.5}

    def __init__(
        self,
        credits: int = 500,
        limit: int | None = None,
        *,
        mode: Mode = "reject",
        style: Literal["status", "envelope"] = "status",
        early_success: bool = False,
        fail_type: str = "FAIL",
        check_user_agent: bool = True,
        **settings: Unpack[Settings],
    ) -> None:
        choice("style", style, "status", "envelope")
        flag("early_success", early_success)
        flag("check_user_agent", check_user_agent)
        if not isinstance(fail_type, str):
            raise SettingError("fail_type", fail_type, "give the feed's word, as text")
        super().__init__(credits, limit, mode=mode, **settings)
        self.style: str = style
        self.early_success = early_success
        self.fail_type = fail_type
        self.check_user_agent = check_user_agent
        self._bad_songs: deque[tuple[int, str]] = deque()
        self._covered: set[str] = set()
        self._cover_lock = threading.Lock()

    def fail_next_song(self, index: int = 1, message: str = "song failed moderation") -> None:
        """Let one of the two songs of the next accepted call fail, 0 or 1; the task succeeds. Since 0.1."""
        self._bad_songs.append((index, message))

    # Routes --------------------------------------------------------------------------------------------------------

    def _route(self, request: Request) -> tuple[RouteKind | None, Handler]:
        kind: RouteKind | None = None
        handler: Handler = self._not_found
        path = request.path.rstrip("/")
        match request.method, path:
            case "GET", "/api/v2/credits":
                kind, handler = RouteKind.CREDITS, self._get_credits
            case "GET", "/api/v2/feed":
                kind, handler = RouteKind.POLL, self._feed
            case "GET", "/api/v2/cover/status":
                kind, handler = RouteKind.POLL, self._cover_status
            case "POST", _ if path in _SUBMITS:
                kind, handler = RouteKind.SUBMIT, self._submit
            case _:
                pass
        return kind, lambda request: self._turned_away(request) or handler(request)

    def _turned_away(self, request: Request) -> Reply | None:
        if self.check_user_agent and request.headers.get("user-agent", "").startswith("Python-urllib"):
            return self._refuse(request, "1010")
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key and (self._keys is None or key in self._keys):
            return None
        if request.method == "POST":
            self._journal.note(self.clock.monotonic(), Fact.REFUSED_OTHER, request.path)
        return self._refuse(request, "401", message=None if key else "No API key provided in Authorization header")

    def _not_found(self, request: Request) -> Reply:
        return self._error(request, 404, "Not found")

    def _refuse(
        self, request: Request, kind: str, *, retry_after: float | None = None, message: str | None = None
    ) -> Reply:
        if kind == "1010":
            return Reply(403, _PAGE_1010, {"content-type": "text/html; charset=UTF-8"})
        code, said = self.refusals[kind]
        return self._error(request, code, message or said, retry_after=retry_after)

    def _refuse_rate(self, request: Request) -> Reply:
        return self._refuse(request, "429")

    def _error(self, request: Request, code: int, message: str, *, retry_after: float | None = None) -> Reply:
        document = {"code": code, ("msg" if request.path.startswith(_COVER) else "message"): message}
        headers = None if retry_after is None else {"retry-after": f"{retry_after:g}"}
        return json_reply(document, 200 if self.style == "envelope" else code, headers)

    def _bad(self, request: Request, message: str) -> Reply:
        if request.method == "POST":
            self._journal.note(self.clock.monotonic(), Fact.REFUSED_OTHER, request.path)
        return self._error(request, 400, message)

    # Submits -------------------------------------------------------------------------------------------------------

    def _submit(self, request: Request) -> Reply:
        path, prefix = _SUBMITS[request.path.rstrip("/")]
        body = request.json()
        if not isinstance(body, dict):
            return self._bad(request, "the body is not a JSON object")
        if path == "cover/generate":
            return self._submit_cover(request, body, prefix)
        problem = self._problem(request.path, path, body)
        if problem is not None:
            return self._bad(request, problem)
        priced: Mapping[str, Any] = body
        if path == "extend":  # The request names the song, and the song its model.
            origin = self.account.task(str(body["origin_task_id"]))
            priced = {**body, "model": origin.body.get("model", "chirp-v3-5")} if origin else body
        task = self._accept(path, prefix, body, priced)
        if not isinstance(task, FakeTask):
            return self._refused(request, task)
        if self._bad_songs:
            task.extra["bad_song"] = self._bad_songs.popleft()
        if path == "extend":
            return json_reply({"code": 200, "message": "success", "workId": task.id})
        return json_reply({"code": 200, "message": "success", "workId": task.id, "data": {"task_id": task.id}})

    def _problem(self, address: str, path: str, body: Mapping[str, Any]) -> str | None:
        if path == "generate":
            if not (body.get("gpt_description_prompt") or body.get("prompt")):
                return "prompt is required"
            return "callback_url is required" if address == "/api/generate" and not body.get("callback_url") else None
        if path == "extend":
            if body.get("extend_audio_index") not in (0, 1):
                return "extend_audio_index is required"
            origin = self.account.task(str(body.get("origin_task_id")))
            if origin is None:
                return "invalid origin_task_id"
            return None if origin.phase is Phase.SUCCEEDED else "song not complete"
        return next((f"{name} is required" for name in ("upload_url", "model") if not body.get(name)), None)

    def _submit_cover(self, request: Request, body: Mapping[str, Any], prefix: str) -> Reply:
        song = self.account.task(str(body.get("taskId")))
        if song is None:
            return self._bad(request, "invalid taskId")
        if song.phase is not Phase.SUCCEEDED:
            return self._bad(request, "song not complete")
        with self._cover_lock:  # One cover for each song, also if two ask at once.
            if song.id in self._covered:
                return self._bad(request, "cover exists")
            task = self._accept("cover/generate", prefix, body, body)
            if not isinstance(task, FakeTask):
                return self._refused(request, task)
            self._covered.add(song.id)
        return json_reply({"code": 200, "msg": "success", "data": {"taskId": task.id}})

    def _accept(self, path: str, prefix: str, body: Mapping[str, Any], priced: Mapping[str, Any]) -> FakeTask | Refusal:
        callback = body.get("callback_url")
        if callback:
            self.callbacks.open()
        task = self.account.submit(
            f"{prefix}{next(self._ids):028x}",
            path,
            body,
            self._price(path, priced),
            extra={"callback": callback, "model": priced.get("model", "chirp-v3-5")},
        )
        if isinstance(task, FakeTask) and callback:
            accepted = task
            if is_loopback(str(callback)):
                self.callbacks.expect(accepted.id, ended=lambda: accepted.phase.ended)
            else:
                self.callbacks.refuse(str(callback), accepted.id)
        return task

    def _refused(self, request: Request, why: Refusal) -> Reply:
        return self._refuse(request, "402" if why is Refusal.CREDITS else "429")

    # Reading -------------------------------------------------------------------------------------------------------

    def _get_credits(self, request: Request) -> Reply:
        del request
        state = self.account.read()
        used = state.granted - state.reported
        return json_reply(
            {"code": 200, "message": "success", "data": {"credits": state.reported, "used_credits": used}}
        )

    def _feed(self, request: Request) -> Reply:
        task = self.account.task(request.field("workId") or "")
        if task is None or task.path == "cover/generate":
            return self._bad(request, "invalid workId")
        data = {
            "type": self._type(task),
            "request_body": dict(task.body),
            "response_data": self._songs(task, self.clock.monotonic()),
            "created_at": int(self._date(task.submitted_at)),
        }
        return json_reply({"code": 200, "message": "success", "data": data})

    def _type(self, task: FakeTask) -> str:
        if task.phase is Phase.SUCCEEDED or (self.early_success and task.phase is Phase.RUNNING):
            return "SUCCESS"
        return self.fail_type if task.phase.ended else "IN_PROGRESS"

    def _songs(self, task: FakeTask, at: float) -> list[dict[str, Any]]:
        if task.started_at is None:
            return []
        ended = task.ended_at is not None and at >= task.ended_at
        status = "complete" if ended else "text" if at < task.started_at + task.seconds * 0.5 else "first"
        songs = [self._song(task, place, status) for place in range(_SONGS)]
        if ended:
            bad = [(0, task.fails), (1, task.fails)] if task.phase is Phase.FAILED else [task.extra.get("bad_song")]
            for place, message in filter(None, bad):
                songs[place].update(status="error", audio_url="", fail_message=message or "generation failed")
        return songs

    def _song(self, task: FakeTask, place: int, status: str) -> dict[str, Any]:
        body, url = task.body, f"https://media.invalid/{task.id}-{place}"
        return {
            "id": f"{task.id}-{place}",
            "audio_url": "" if status == "text" else f"{url}.mp3",
            "image_url": "" if status == "text" else f"{url}.jpg",
            "image_large_url": "" if status == "text" else f"{url}-large.jpg",
            "created_at": int(self._date(task.submitted_at)),
            "timestamp": int(self._date(task.submitted_at)),
            "status": status,
            "title": body.get("title", ""),
            "prompt": body.get("prompt") or body.get("gpt_description_prompt", ""),
            "tags": body.get("tags", ""),
            "duration": body.get("duration", 180.0) if status == "complete" else 0,
            "model_name": task.extra.get("model", ""),
            "extra_message": "",
            "fail_message": "",
            "error_message": "",
        }

    def _cover_status(self, request: Request) -> Reply:
        task = self.account.task(request.field("task_id") or "")
        if task is None or task.path != "cover/generate":
            return self._bad(request, "invalid task_id")
        done = task.phase is Phase.SUCCEEDED
        status = "SUCCESS" if done else self.fail_type if task.phase.ended else "IN_PROGRESS"
        images = [f"https://media.invalid/{task.id}-{place}.png" for place in range(2)] if done else []
        data = {"taskId": task.id, "status": status, "images": images}
        return json_reply({"code": 200, "msg": "success", "data": data})

    # Callbacks and prices ------------------------------------------------------------------------------------------

    def _changed(self, task: FakeTask, what: str, at: float) -> None:
        url = task.extra.get("callback")
        if not url or not is_loopback(str(url)) or task.path == "cover/generate":
            return
        del what
        body = json_reply(self._songs(task, at)).body
        self.callbacks.send(
            Letter(task.id, str(url), body, lambda: {"Content-Type": "application/json"}, last=task.phase.ended)
        )

    def _make_price_list(self) -> PriceList:
        return UdioPro()
