"""A fake Vidu: the generation endpoints, tasks, credits, errors and signed callbacks of ``/ent/v2``."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from typing import Any, Literal, Unpack

from budgetguard._settings import flag, whole
from budgetguard.errors import SettingError
from budgetguard.model import RouteKind
from budgetguard.providers.vidu import Vidu
from budgetguard.testing.callbacks import Letter, is_loopback, sign
from budgetguard.testing.exchange import Reply, Request, json_reply
from budgetguard.testing.fake import FakeProvider, Handler, PriceList
from budgetguard.testing.journal import Fact
from budgetguard.testing.settings import Settings, choice
from budgetguard.testing.task import AccountState, FakeTask, Mode, Phase, Refusal
from budgetguard.testing.vidu_list import TaskQuery
from budgetguard.testing.vidu_tables import PATHS, REFUSALS, REQUIRED, SOLUTIONS, SYNCHRONOUS

__all__ = ["FakeVidu"]

_PREFIX = "/ent/v2/"
_STATES = {Phase.WAITING: "queueing", Phase.RUNNING: "processing", Phase.SUCCEEDED: "success"}
_FIRST_ID = 900_000_000_000_000_000
_MANY = 1_000_000
"""What no limit looks like: an answer always states one."""


class FakeVidu(FakeProvider):
    """A Vidu organisation on this machine, for tests and demonstrations. Since 0.1.

    Speaks ``POST /ent/v2/<endpoint>``, ``GET /ent/v2/credits``, ``GET /ent/v2/tasks``,
    ``GET /ent/v2/tasks/{id}/creations`` and ``POST /ent/v2/tasks/{id}/cancel``. The key comes as
    ``Authorization: Token <key>``. Charges when it accepts; credits are checked before slots. Everything may be called,
    and every setting changed, from any thread while it works::

        fake = FakeVidu(credits=500, limit=5, mode="reject", duration=(2, 6))
        with fake.serve() as url:
            ...
        assert fake.journal.breaches == 0

    Args:
        credits: The balance to begin with.
        limit: Most tasks running at once; ``None`` for no limit.
        mode: ``"queue"`` accepts work above the limit and lets it wait as ``queueing``; ``"reject"`` answers a submit
            that finds as many tasks running and waiting as the limit allows with 429 ``QuotaExceeded``.
        field: What the credits answer calls its list.
        quoted: Whether numbers of credits are quoted.
        report_charge: Whether submits and polls say what was charged; a function of the charge says something else,
            or nothing with ``None``.
        types: The credit types listed; the balance is spread evenly over them, running tasks are in the first row.
        limit_rows: Whether each row shows the whole limit (``"max"``), or a share of it (``"sum"``).
        packages: Whether an answer without detail has an empty list of packages.
        submit_status: The status of an accepted submit.
        validate: Whether a submit without a required field is refused with ``FieldLacking``.
        **settings: See `FakeProvider`.
    """

    refusals = REFUSALS

    def __init__(
        self,
        credits: int = 500,
        limit: int | None = 5,
        *,
        mode: Mode = "queue",
        field: Literal["remains", "remaining_credits"] = "remains",
        quoted: bool = False,
        report_charge: bool | Callable[[int], int | None] = True,
        types: Iterable[str] = ("metered",),
        limit_rows: Literal["max", "sum"] = "max",
        packages: bool = False,
        submit_status: int = 200,
        validate: bool = False,
        **settings: Unpack[Settings],
    ) -> None:
        choice("field", field, "remains", "remaining_credits")
        choice("limit_rows", limit_rows, "max", "sum")
        for name, value in (("quoted", quoted), ("packages", packages), ("validate", validate)):
            flag(name, value)
        if not callable(report_charge):
            flag("report_charge", report_charge)
        whole("submit_status", submit_status, 200, 299, right="give the status of an accepted submit, from 200 to 299")
        listed = tuple(types) if isinstance(types, Iterable) and not isinstance(types, str | bytes) else (None,)
        if not all(isinstance(word, str) and word for word in listed):
            raise SettingError("types", types, "give a list of types, such as ['metered', 'test']")
        super().__init__(credits, limit, mode=mode, **settings)
        self.field: str = field
        self.quoted = quoted
        self.report_charge = report_charge
        self.types = listed
        self.limit_rows = limit_rows
        self.packages = packages
        self.submit_status = submit_status
        self.validate = validate
        self.err_codes = {
            Phase.FAILED: "CreationPolicyViolation",
            Phase.CANCELLED: "UserCancelled",
            Phase.EXPIRED: "UserCancelled",
        }
        self._traces = itertools.count(1)
        self._nonces = itertools.count(1)

    # Routes --------------------------------------------------------------------------------------------------------

    def _route(self, request: Request) -> tuple[RouteKind | None, Handler]:
        parts = request.path.removeprefix(_PREFIX).rstrip("/").split("/")
        path = "/".join(parts)
        kind: RouteKind | None = None
        handler: Handler = self._not_found
        if not request.path.startswith(_PREFIX):
            return kind, handler
        match request.method, parts:
            case "GET", ["credits"]:
                kind, handler = RouteKind.CREDITS, self._get_credits
            case "GET", ["tasks"]:
                kind, handler = RouteKind.LIST, self._list
            case "GET", ["tasks", task_id, "creations"]:
                kind, handler = RouteKind.POLL, lambda request: self._poll(request, task_id)
            case "GET", [*names, task_id] if "/".join(names) in SOLUTIONS:
                kind, handler = RouteKind.POLL, lambda request: self._poll(request, task_id)
            case "POST", ["tasks", task_id, "cancel"]:
                kind, handler = RouteKind.CANCEL, lambda request: self._cancel(request, task_id)
            case "POST", _ if path in PATHS or path.startswith(SOLUTIONS):
                kind, handler = RouteKind.SUBMIT, lambda request: self._submit(request, path)
            case _:
                pass
        return kind, lambda request: self._unauthorized(request) or handler(request)

    def _unauthorized(self, request: Request) -> Reply | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme == "Token" and key and (self._keys is None or key in self._keys):
            return None
        if request.method == "POST":
            self._journal.note(self.clock.monotonic(), Fact.REFUSED_OTHER, request.path)
        return self._refuse(request, "Unauthorized")

    def _not_found(self, request: Request) -> Reply:
        return self._refuse(request, "NotFound")

    def _refuse(
        self, request: Request, kind: str, *, retry_after: float | None = None, message: str | None = None
    ) -> Reply:
        del request
        status, said = REFUSALS[kind]
        document = {
            "code": status,
            "reason": kind,
            "message": said if message is None else message,
            "metadata": {"trace_id": f"{next(self._traces):032x}"},
        }
        return json_reply(document, status, None if retry_after is None else {"retry-after": f"{retry_after:g}"})

    def _refuse_rate(self, request: Request) -> Reply:
        return self._refuse(request, "TooManyRequests")

    # Submit and poll -----------------------------------------------------------------------------------------------

    def _submit(self, request: Request, path: str) -> Reply:
        body = request.json()
        lacking = self._lacking(path, body)
        if lacking is not None:
            self._journal.note(self.clock.monotonic(), Fact.REFUSED_OTHER, path)
            if not lacking:
                return self._refuse(request, "BadRequest", message="the body is not a JSON object")
            return self._refuse(request, "FieldLacking", message=f"field is missing or empty: {lacking}")
        callback = body.get("callback_url")
        if callback:
            self.callbacks.open()
        task = self.account.submit(
            str(_FIRST_ID + next(self._ids)),
            path,
            body,
            self._price(path, body),
            off_peak=body.get("off_peak") is True,
            slotless=path in SYNCHRONOUS,
            extra={"key": request.headers["authorization"].partition(" ")[2], "callback": callback},
        )
        if task is Refusal.CREDITS:
            return self._refuse(request, "CreditInsufficient")
        if not isinstance(task, FakeTask):
            return self._refuse(request, "QuotaExceeded")
        if callback and is_loopback(str(callback)):
            self.callbacks.expect(task.id, ended=lambda: task.phase.ended)
        elif callback:
            self.callbacks.refuse(str(callback), task.id)
        return json_reply(self._accepted(task), self.submit_status)

    def _lacking(self, path: str, body: Any) -> str | None:
        if not isinstance(body, dict):
            return ""
        if self.validate:
            return next((name for name in REQUIRED.get(path, ()) if body.get(name) in (None, "", [])), None)
        return None

    def _accepted(self, task: FakeTask) -> dict[str, Any]:
        body = task.body
        document = {
            "task_id": task.id,
            "state": "success" if task.path in SYNCHRONOUS else "created",
            "model": body.get("model", ""),
            "prompt": body.get("prompt", ""),
            "images": body.get("images", []),
            "duration": body.get("duration", 5),
            "seed": body.get("seed", 0),
            "aspect_ratio": body.get("aspect_ratio", "16:9"),
            "resolution": body.get("resolution", "720p"),
            "bgm": body.get("bgm", False),
            "audio": body.get("audio", False),
            "movement_amplitude": body.get("movement_amplitude", "auto"),
            "payload": body.get("payload", ""),
            "off_peak": task.off_peak,
            "watermark": body.get("watermark", False),
            "created_at": self._iso(task.submitted_at),
        }
        return self._with_charge(document, task)

    def _with_charge(self, document: dict[str, Any], task: FakeTask) -> dict[str, Any]:
        said = self.report_charge(task.charge) if callable(self.report_charge) else task.charge
        if self.report_charge is not False and said is not None:
            document["credits"] = self._number(said)
        return document

    def _number(self, value: int) -> int | str:
        return str(value) if self.quoted else value

    def _iso(self, at: float) -> str:
        moment = dt.datetime.fromtimestamp(self._date(at), dt.UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _poll(self, request: Request, task_id: str) -> Reply:
        task = self.account.task(task_id)
        return self._refuse(request, "TaskNotFound") if task is None else json_reply(self._shown(task, task.phase))

    def _shown(self, task: FakeTask, phase: Phase) -> dict[str, Any]:
        document = {
            "id": task.id,
            "state": _STATES.get(phase, "failed"),
            "err_code": self._err_code(task, phase),
            "payload": task.body.get("payload", ""),
            "bgm": task.body.get("bgm", False),
            "off_peak": task.off_peak,
            "creations": self._creations(task, phase),
        }
        return self._with_charge(document, task)

    def _err_code(self, task: FakeTask, phase: Phase) -> str:
        return (task.fails if phase is Phase.FAILED else None) or self.err_codes.get(phase, "")

    @staticmethod
    def _creations(task: FakeTask, phase: Phase) -> list[dict[str, str]]:
        if phase is not Phase.SUCCEEDED:
            return []
        url = f"https://media.invalid/{task.id}"
        return [{"id": f"{task.id}1", "url": f"{url}.mp4", "cover_url": f"{url}.jpg"}]

    def _cancel(self, request: Request, task_id: str) -> Reply:
        before = self.account.cancel(task_id)
        if before is None:
            return self._refuse(request, "TaskNotFound")
        if before is Phase.WAITING:
            return json_reply({})
        state = "scheduled" if before is Phase.RUNNING else _STATES.get(before, "failed")
        return self._refuse(request, "BadRequest", message=f"task state is {state}, can not cancel")

    # Lists ---------------------------------------------------------------------------------------------------------

    def _list(self, request: Request) -> Reply:
        try:
            asked = TaskQuery.of(request, now=self.clock.time())
        except ValueError as error:
            return self._refuse(request, "FieldInvalid", message=f"invalid field: {error}")
        page, token = asked.page(self._listed(task) for task in reversed(self.account.tasks()))
        return json_reply({"next_page_token": token, "tasks": page})

    def _listed(self, task: FakeTask) -> dict[str, Any]:
        body = task.body
        return {
            "id": task.id,
            "key_id": f"key_{self._keys.index(task.extra['key']) + 1 if self._keys else 1}",
            "state": _STATES.get(task.phase, "failed"),
            "err_code": self._err_code(task, task.phase),
            "template": body.get("template", ""),
            "model": body.get("model", ""),
            "prompt": body.get("prompt", ""),
            "images": body.get("images", []),
            "duration": body.get("duration", 5),
            "resolution": body.get("resolution", "720p"),
            "aspect_ratio": body.get("aspect_ratio", "16:9"),
            "created_at": self._iso(task.submitted_at),
            "creations": self._creations(task, task.phase),
        }

    # Credits -------------------------------------------------------------------------------------------------------

    def _get_credits(self, request: Request) -> Reply:
        state = self.account.read()
        detail = (request.field("show_detail") or "false").lower() in ("true", "1")
        document: dict[str, Any] = {self.field: self._rows(state)}
        if detail:
            document["packages"] = self._package_rows(state)
        elif self.packages:
            document["packages"] = []
        return json_reply(document)

    def _rows(self, state: AccountState) -> list[dict[str, Any]]:
        credits = _spread(state.reported, len(self.types))
        limit = _MANY if state.limit is None else state.limit
        limits = _spread(limit, len(self.types)) if self.limit_rows == "sum" else [limit] * len(self.types)
        return [
            {
                "type": name,
                "credit_remain": self._number(credits[place]),
                "concurrency_limit": limits[place],
                "current_concurrency": 0 if place else state.running,
                "queue_count": 0 if place else state.queued,
            }
            for place, name in enumerate(self.types)
        ]

    def _package_rows(self, state: AccountState) -> list[dict[str, Any]]:
        bought, left = _spread(state.granted, len(self.types)), _spread(state.reported, len(self.types))
        return [
            {
                "id": f"{700_000_000_000 + place}",
                "name": f"{name} package",
                "type": name,
                "concurrency": _MANY if state.limit is None else state.limit,
                "credit_amount": self._number(bought[place]),
                "credit_remain": self._number(left[place]),
                "created_at": self._iso(0.0),
                "purchase_at": self._iso(0.0),
                "valid_from": self._iso(0.0),
                "valid_to": self._iso(365 * 86400.0),
            }
            for place, name in enumerate(self.types)
        ]

    # Callbacks and prices ------------------------------------------------------------------------------------------

    def _changed(self, task: FakeTask, what: str, at: float) -> None:
        url = str(task.extra.get("callback") or "")
        if not url or not is_loopback(url):
            return
        del what
        key, phase = task.extra["key"], task.phase
        body = json_reply(self._shown(task, phase)).body

        def headers() -> Mapping[str, str]:
            date = formatdate(self._date(at), usegmt=True)
            nonce = f"{next(self._nonces):016x}"
            return {
                "Content-Type": "application/json",
                "Date": date,
                "x-request-nonce": nonce,
                "X-HMAC-SIGNED-HEADERS": "Date;x-request-nonce",
                "X-HMAC-SIGNATURE": sign(key, url, date=date, nonce=nonce),
                "X-HMAC-ALGORITHM": "hmac-sha256",
                "X-HMAC-ACCESS-KEY": "vidu",
            }

        self.callbacks.send(Letter(task.id, url, body, headers, last=phase.ended))

    def _make_price_list(self) -> PriceList:
        return Vidu()


def _spread(amount: int, places: int) -> list[int]:
    """Divide *amount* evenly, the odd ones going to the first place."""
    if not places:
        return []
    share = amount // places
    return [amount - share * (places - 1)] + [share] * (places - 1)
