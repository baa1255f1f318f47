"""Vidu: video, image and sound generation, https://platform.vidu.com."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, Self

from budgetguard._half_made import even_half_made
from budgetguard._hidden import Hidden
from budgetguard._version import __version__
from budgetguard.errors import ReadingError, SettingError
from budgetguard.model import Balance, Capacity, Package, Quote, Reading, Route, RouteKind, TaskSeen, Verdict
from budgetguard.ports import Answer, ProviderRequest
from budgetguard.providers._fields import CREDITS_MAX, count, identifier, objects, quoted, sentence, text, whole
from budgetguard.providers._memo import PriceMemo
from budgetguard.providers._price_file import Prices
from budgetguard.providers._settings import api_key, lease, limit, origin, slots
from budgetguard.providers._vidu_answers import missing, observe, verdict
from budgetguard.providers._vidu_callback import verify
from budgetguard.providers._vidu_prices import ViduPrices

__all__ = ["Vidu"]

_ROOT: Final = "/ent/v2"
_TOKEN = re.compile(r"token\s+(\S+)", re.IGNORECASE)
_OLD_NAMES: Mapping[str, str] = {"template2video": "template"}
# Their further calls carry the film's id in the path or in the body; the price list knows them without it.
_SOLUTIONS = (("ad-one-click",), ("one-click", "mv"), ("trending-replicate",))
_FURTHER = ("edit", "compose")
_REASON_WORD = re.compile(r"[A-Za-z]{1,64}", re.ASCII)


class Vidu:
    """Vidu's account: one balance in credits, one limit on running tasks.

    Immutable; safe to share between threads and processes. Since 0.1.

    What it rests on, and how sure that is:

    - Balance: ``GET /ent/v2/credits``, https://platform.vidu.com/docs/get-account-info. The page's table calls the list
      ``remaining_credits``, its example ``remains``; clients in the field read ``remains``. Both are taken, but not if
      they contradict each other. One row per type of package; usable credits are the sum over the rows. Running are
      ``current_concurrency`` and ``queue_count`` together: a task that waits at Vidu has a claim on the next slot. How
      the limits of several rows combine is not documented; ``limits="max"`` is the careful reading.
    - The balance may trail: https://platform.vidu.com/docs/quick-start speaks of hourly billing, which may or may not
      concern this number. `settlement_lag` is 0; ``Policy(settlement_lag=...)`` sets another.
    - Charges: in ``credits`` of every answer to a submitted call (documented), taken at submit (inferred).
    - Errors: by ``reason``, then by status, https://platform.vidu.com/docs/error-code. An empty balance is a 400.
    - Limits are per organisation, not per key, and work above the limit is usually accepted and queued
      (https://platform.vidu.com/docs/usage-and-limits); a refusal with ``QuotaExceeded`` exists too.
    - Prices: ``vidu_prices.toml`` beside this module, with its date and sources. They come from transcriptions of the
      price page, and have changed several times a year.

    ``api.vidu.com`` and ``api.vidu.cn`` are separate accounts: `Vidu()` guards requests to the first alone, and
    `Vidu.china()` those to the second.

    Args:
        base_url: The origin requests go to. The path ``/ent/v2`` may follow.
        credit_types: Which rows count: ``"sum"`` for all, or the type, or types, whose credits your calls use
            (``test``, ``metered``, ``concurrent``).
        limits: How the limits of several rows combine: ``"max"`` or ``"sum"``.
        concurrency: The limit on running tasks, where you know better than the rows.
        provider_queue: How many tasks beyond the limit may wait at Vidu; added to the limit.
        prices: Changes to the price list: a table, or the path of a TOML file. Its shape stands at the head of
            ``vidu_prices.toml``: ``{"text2video": {"viduq2": {"step": {"720p": 6}}}}`` changes a cell,
            ``{"template": {"hugging": 40}}`` prices a template, ``{"some-endpoint": 25}`` a whole endpoint.
        source_seconds_max: The longest source file your calls name by address, in seconds. Lip-sync, scaling and
            digital humans are charged by it and have no price without it.
        task_lease: How long a task is believed to run when nothing is heard of it, in seconds. Off-peak tasks have
            48 hours of their own.

    Raises:
        SettingError: If a setting cannot work, a price file cannot be read, or a price is no whole number.
    """

    name: str = "vidu"
    unit: str = "credits"
    charged_at: str = "submit"
    key_header: str = "authorization"
    settlement_lag: float = 0.0
    reports_slots: bool = True

    __slots__ = ("_concurrency", "_credit_types", "_limits", "_origin", "_prices", "_provider_queue", "_task_lease")

    def __init__(
        self,
        *,
        base_url: str = "https://api.vidu.com",
        credit_types: str | tuple[str, ...] = "sum",
        limits: Literal["max", "sum"] = "max",
        concurrency: int | None = None,
        provider_queue: int = 0,
        prices: Prices = None,
        source_seconds_max: int | None = None,
        task_lease: float = 3600.0,
    ) -> None:
        self._origin = origin("base_url", base_url, path=_ROOT)
        self._credit_types = _types(credit_types)
        if limits not in ("max", "sum"):
            raise SettingError("limits", limits, "give 'max' or 'sum'")
        self._limits = limits
        self._concurrency = limit("concurrency", concurrency)
        self._provider_queue = slots("provider_queue", provider_queue)
        rates = ViduPrices(prices, source_seconds_max=limit("source_seconds_max", source_seconds_max))
        self._prices = PriceMemo(partial(_price, rates))
        self._task_lease = lease("task_lease", task_lease)

    @classmethod
    def china(cls, **settings: Any) -> Self:
        """Make one for accounts of mainland China, at ``https://api.vidu.cn``. Since 0.1.

        Args:
            **settings: As for `Vidu`, without ``base_url``.
        """
        return cls(base_url="https://api.vidu.cn", **settings)

    @even_half_made
    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._origin!r})"

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose requests are looked at: the one configured."""
        return (self._origin,)

    @property
    def task_lease(self) -> float:
        """Seconds a task is believed to run when nothing is heard of it."""
        return self._task_lease

    def match(self, method: str, path: str, query: Mapping[str, str]) -> Route | None:  # noqa: ARG002
        """Say what a request is about; ``None`` for what costs nothing and tells nothing.

        A ``POST`` to an endpoint that is not known counts as paid work, and will have no price.
        """
        parts = [part for part in path.split("/") if part]
        if parts[:2] != ["ent", "v2"] or len(parts) < 3:
            return None
        match method, parts[2:]:
            case "GET", ["credits"]:
                return Route(RouteKind.CREDITS, "credits")
            case "GET", ["tasks"]:
                return Route(RouteKind.LIST, "tasks")
            case "GET", ["tasks", task_id, "creations"]:
                return Route(RouteKind.POLL, "tasks/{id}/creations", task_id)
            case "GET", [*names, task_id] if tuple(names) in _SOLUTIONS:
                return Route(RouteKind.POLL, f"{'/'.join(names)}/{{id}}", task_id)
            case "POST", ["tasks", task_id, "cancel"]:
                return Route(RouteKind.CANCEL, "tasks/{id}/cancel", task_id)
            case "POST", rest:
                # Registering a subject or a voice could well be free, but no page says so. Uploads are not under this
                # root at all. Whoever knows an endpoint to be free says so with prices={"<endpoint>": 0}.
                return Route(RouteKind.SUBMIT, _endpoint(rest))
            case _:
                return None

    def quote(self, route: Route, body: Any) -> Quote:
        """Price a request from its decoded body.

        Raises:
            UnknownPrice: If the list has no row for it, or the request does not tell enough.
        """
        return self._prices.quote(route.path, body)

    def verdict(self, route: Route, answer: Answer) -> Verdict:
        """Read what became of a submitted call.

        A task that ended with its answer, and endpoints that answer with the work itself, give no task id.
        """
        return verdict(route, answer)

    def observe(self, route: Route, answer: Answer) -> Sequence[TaskSeen]:
        """Read which tasks run and which have ended. What cannot be read was not seen."""
        return observe(route, answer)

    def missing(self, route: Route, answer: Answer) -> bool:  # noqa: ARG002
        """Tell whether an answer says that there is no such task."""
        return missing(answer)

    def verify_callback(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        secret: str,
        now: float,
        max_age: float = 300.0,
    ) -> Sequence[TaskSeen]:
        """Check the signature and the date of a callback, and read what to tell the guard of. Since 0.1.

        Pure: the time is an argument. The comparison takes the same time wherever it fails. Callbacks may come more
        than once and in any order, so tell the guard of those tasks that have ended and skip the others: a task that
        has ended ends once. The signature does not cover the body (https://platform.vidu.com/docs/callback-signature),
        so receive callbacks over https only.

        Args:
            method: Of the request.
            url: The ``callback_url``, or its path and query as they came: ``/hook?batch=7``, undecoded.
            headers: Of the request; names in any case.
            body: As it came; at most 16 MiB.
            secret: The API key that created the task.
            now: The time, in seconds since 1970.
            max_age: How old a callback may be, in seconds; ahead of *now* it may be a minute. Vidu states no bound.

        Returns:
            The task, running or ended; nothing for a state that is not known here.

        Raises:
            CallbackError: If it is forged, stale, too large or cannot be read.
            SettingError: If there is no secret, or *max_age* cannot work.
        """
        secret = Hidden(secret) if isinstance(secret, str) else secret  # a traceback may show what this frame names
        return verify(method, url, headers, body, secret=secret, now=now, max_age=max_age)

    def credits_request(self, *, detail: bool = False) -> ProviderRequest:
        """Say how to ask for the balance; with *detail*, for packages and their validity too."""
        # Documented as required and as false by default; clients leave it out, or send it in the query.
        query = "?show_detail=true" if detail else ""
        return self._question(f"credits{query}")

    def task_request(self, task_id: str, *, path: str = "") -> ProviderRequest | None:
        """Say how to ask about a task; films are asked for where they were started."""
        part = quoted(task_id)
        if part is None:
            return None
        film = tuple(path.split("/")) in _SOLUTIONS
        return self._question(f"{path}/{part}" if film else f"tasks/{part}/creations")

    def _question(self, what: str) -> ProviderRequest:
        return ProviderRequest(
            f"{self._origin}{_ROOT}/{what}",
            {
                "accept": "application/json",
                "content-type": "application/json",
                "user-agent": f"budgetguard/{__version__}",
            },
        )

    def reading(self, answer: Answer) -> Reading:
        """Read the balance. An empty list of rows is a balance of 0.

        Raises:
            ReadingError: If it was refused, is no JSON, or a field is missing, renamed, negative or not a number.
        """
        body = _document(answer)
        name = "remains" if body.get("remains") is not None else "remaining_credits"
        if body.get(name) is None:
            raise ReadingError("is missing, and so is remaining_credits", field="remains")
        other = body.get("remaining_credits")
        if isinstance(other, list) and other != body[name]:
            raise ReadingError("says something else than remaining_credits", field=name)
        rows = [
            Balance(
                type=sentence(text(row, "type", where)),
                credits=count(row, "credit_remain", where),
                limit=count(row, "concurrency_limit", where),
                running=count(row, "current_concurrency", where),
                queued=count(row, "queue_count", where),
            )
            for where, row in objects(body[name], name)
        ]
        credits = sum(row.credits for row in self._counted(rows, name))
        running = sum((row.running or 0) + (row.queued or 0) for row in rows)
        most = self._limit(rows)
        if max(credits, running, most or 0) > CREDITS_MAX:
            raise ReadingError(f"adds up to more than {CREDITS_MAX}", field=name)
        return Reading(
            credits=credits,
            pools={"": Capacity(most, running)},
            balances=tuple(rows),
            packages=_packages(body.get("packages")),
            document=body,
        )

    def _counted(self, rows: list[Balance], name: str) -> list[Balance]:
        if self._credit_types is None or not rows:
            return rows
        counted = [row for row in rows if row.type in self._credit_types]
        if not counted:
            # A misspelt type would otherwise look like an empty balance.
            raise ReadingError(f"has no row of type {' or '.join(sorted(self._credit_types))}", field=name)
        return counted

    def _limit(self, rows: list[Balance]) -> int | None:
        stated = [row.limit for row in rows if row.limit is not None]
        found = self._concurrency
        if found is None and stated:
            found = sum(stated) if self._limits == "sum" else max(stated)
        return None if found is None else found + self._provider_queue

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Find the API key: ``Authorization: Token <key>``. The word is not ``Bearer``."""
        match = _TOKEN.fullmatch(headers.get("authorization", "").strip())
        return match[1] if match else None

    def authorize(self, key: str) -> Mapping[str, str]:
        """Build the header that carries *key*.

        Raises:
            SettingError: If it is no key; the message does not show it.
        """
        return {"Authorization": f"Token {api_key(key)}"}


def _types(value: Any) -> frozenset[str] | None:
    if value == "sum":
        return None
    types = (value,) if isinstance(value, str) else value
    if not isinstance(types, tuple) or not types or any(not isinstance(type_, str) or not type_ for type_ in types):
        raise SettingError("credit_types", value, "give 'sum', a type such as 'metered', or a tuple of types")
    return frozenset(types)


def _price(rates: ViduPrices, path: str, body: Any) -> Quote:
    return rates.quote(_named(path), body)


def _named(path: str) -> str:
    """Give the price list's name of an endpoint that may be written as a whole path."""
    return _endpoint(path.strip("/").removeprefix(f"{_ROOT.strip('/')}/").split("/"))


def _endpoint(parts: list[str]) -> str:
    """Give the price list's name of an endpoint."""
    for names in _SOLUTIONS:
        rest = parts[len(names) :]
        if tuple(parts[: len(names)]) == names and rest:
            return "/".join([*names, rest[-1] if rest[-1] in _FURTHER and len(rest) <= 2 else "{id}"])
    path = "/".join(parts)
    return _OLD_NAMES.get(path, path)


def _document(answer: Answer) -> Mapping[str, Any]:
    body = answer.body
    if not 200 <= answer.status < 300:
        # The provider's sentence might repeat the key it refuses: its word for it is enough.
        reason = sentence(body.get("reason")) if isinstance(body, dict) else ""
        said = f"HTTP {answer.status}{f' {reason}' if _REASON_WORD.fullmatch(reason) else ''}"
        match answer.status:
            case 401 | 403:
                raise ReadingError(f"the key was refused ({said}); check the key, and that base_url is the API's host")
            case 404:
                raise ReadingError(f"there is no such address ({said}); check base_url")
            case 429:
                raise ReadingError(f"the provider asked for fewer requests ({said})")
            case _:
                raise ReadingError(f"the provider answered with {said}")
    if not isinstance(body, dict):
        raise ReadingError(f"it is not a JSON object (HTTP {answer.status})")
    if body.get("reason"):
        # Only errors have one; an empty list beside it is no balance of 0.
        raise ReadingError(f"it is an error, though answered with HTTP {answer.status}", field="reason")
    return body


def _packages(value: Any) -> tuple[Package, ...]:
    return tuple(
        Package(
            id=identifier(row.get("id")) or "",
            name=sentence(row.get("name")),
            type=sentence(row.get("type")),
            credits=count(row, "credit_remain", where),
            credits_bought=whole(row.get("credit_amount")),
            limit=whole(row.get("concurrency")),
            valid_from=sentence(row.get("valid_from")),
            valid_to=sentence(row.get("valid_to")),
        )
        for where, row in objects([] if value is None else value, "packages")
    )
