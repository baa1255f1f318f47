"""Udio API pro: music generation, https://udioapi.pro."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from budgetguard._half_made import even_half_made
from budgetguard._version import __version__
from budgetguard.errors import ReadingError, SettingError, UnknownPrice
from budgetguard.model import Capacity, Quote, Reading, Route, RouteKind, TaskSeen, Verdict
from budgetguard.ports import Answer, ProviderRequest
from budgetguard.providers._body import Body, body_of
from budgetguard.providers._cost import Cost
from budgetguard.providers._fields import count, quoted
from budgetguard.providers._price_file import Prices, credits_by_name, price_list
from budgetguard.providers._settings import api_key, header_text, lease, limit, origin
from budgetguard.providers._udio_answers import USER_AGENT_REFUSED, blocked, code_of, missing, observe, verdict

__all__ = ["UdioPro"]

_BEARER = re.compile(r"bearer\s+(\S+)", re.IGNORECASE)
_DEFAULT_MODEL = "chirp-v3-5"
_TABLES = frozenset({"calls", "date", "models", "source"})
_POLLS: Mapping[str, str] = {"feed": "workId", "cover/status": "task_id"}


class UdioPro:
    """An account at udioapi.pro, or at a white-label copy of it: one balance in credits.

    Immutable; safe to share between threads and processes. Since 0.1.

    What it rests on, and how sure that is:

    - Balance: ``GET /api/v2/credits``, https://udioapi.pro/fr/docs/query-credits. It tells nothing of concurrency, so
      the limit is yours to state, and a slot comes back when its task is seen to have ended or its lease is over.
    - No answer reports a charge. Prices are in ``udio_prices.toml`` beside this module, with date and sources: by model
      as a public client transcribed them, 1 for a cover image as documented. That extending and covering cost what
      their model costs is inferred. That credits are taken at submit is inferred too.
    - Errors: each document has a ``code``, which counts before the HTTP status; 402 is an empty balance.
    - Songs: https://udioapi.pro/docs/v2-feed. A call makes two; it has ended when each is complete or failed, whatever
      the document's ``type`` says meanwhile. Whether failed songs give credits back is not documented.
    - Callbacks are not read here: they are not signed, and list songs without naming the task they belong to
      (https://udioapi.pro/docs/generate-callback). Take one as a hint to ask for the feed through a guarded client.
    - Cloudflare turns Python's default User-Agent away (seen by clients), so the request for the balance has its own.

    Args:
        base_url: The origin requests go to.
        concurrency: Most tasks at once; ``None`` for no limit. The provider names none.
        prices: Changes to the price list: a table, or the path of a TOML file, of the shape at the head of
            ``udio_prices.toml``: ``{"models": {"chirp-v6": 15}, "calls": {"lyrics": 1}}``.
        user_agent: What to call ourselves when asking for the balance.
        task_lease: How long a task is believed to run when nothing is heard of it, in seconds.

    Raises:
        SettingError: If a setting cannot work, a price file cannot be read, or a price is no whole number.
    """

    name: str = "udio"
    unit: str = "credits"
    charged_at: str = "submit"
    key_header: str = "authorization"
    settlement_lag: float = 0.0
    reports_slots: bool = False

    __slots__ = ("_calls", "_concurrency", "_models", "_origin", "_source", "_task_lease", "_user_agent")

    def __init__(
        self,
        *,
        base_url: str = "https://udioapi.pro",
        concurrency: int | None = 4,
        prices: Prices = None,
        user_agent: str = f"budgetguard/{__version__}",
        task_lease: float = 900.0,
    ) -> None:
        self._origin = origin("base_url", base_url)
        self._concurrency = limit("concurrency", concurrency)
        self._user_agent = header_text("user_agent", user_agent)
        self._task_lease = lease("task_lease", task_lease)
        document, date = price_list("udio_prices.toml", prices)
        for name in document:
            if name not in _TABLES:
                raise SettingError("prices", name, f"give only {', '.join(sorted(_TABLES))}")
        self._models = credits_by_name(document["models"], "prices.models")
        self._calls = credits_by_name(document["calls"], "prices.calls")
        self._source = f"udio prices {date}"

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

    def match(self, method: str, path: str, query: Mapping[str, str]) -> Route | None:
        """Say what a request is about; ``None`` for what costs nothing and tells nothing.

        A ``POST`` to an endpoint that is not known counts as paid work, and will have no price.
        """
        parts = [part for part in path.split("/") if part]
        if parts[:1] != ["api"] or len(parts) < 2:
            return None
        endpoint = _endpoint(path)
        match method, endpoint:
            case "GET", "credits":
                return Route(RouteKind.CREDITS, endpoint)
            case "GET", ("feed" | "cover/status"):
                return Route(RouteKind.POLL, endpoint, query.get(_POLLS[endpoint]) or None)
            case "POST", _:
                return Route(RouteKind.SUBMIT, endpoint)
            case _:
                return None

    def quote(self, route: Route, body: Any) -> Quote:
        """Price a request from its decoded body.

        Raises:
            UnknownPrice: If the list has no row for it.
        """
        path = _endpoint(route.path)
        what = f"udio {path[:80]}"
        if path in self._calls:
            return Cost.exact(path, self._calls[path]).quote(self._source)
        if path == "generate":
            return self._by_model(path, body_of(what, body), _DEFAULT_MODEL).quote(self._source)
        if path in ("extend", "upload-cover/generate"):
            return self._by_model(path, body_of(what, body), None).quote(self._source)
        raise UnknownPrice(what=what, why="the price list has no row for this endpoint")

    def _by_model(self, path: str, body: Body, default: str | None) -> Cost:
        if body.fields.get("model") is None and default is None:
            # Extending takes the model of the song, which the request does not name.
            return Cost(f"{path} any model", max(self._models.values()), min(self._models.values()))
        model = body.word("model", default)
        if model not in self._models:
            body.unknown(f"model {model[:40]!r} is not in the price list")
        return Cost.exact(f"{path} {model}", self._models[model])

    def verdict(self, route: Route, answer: Answer) -> Verdict:  # noqa: ARG002
        """Read what became of a submitted call. It never tells a charge."""
        return verdict(answer)

    def observe(self, route: Route, answer: Answer) -> Sequence[TaskSeen]:
        """Read whether a task still runs. What cannot be read was not seen."""
        return observe(route, answer)

    def missing(self, route: Route, answer: Answer) -> bool:  # noqa: ARG002
        """Tell whether an answer says that there is no such task."""
        return missing(answer)

    def credits_request(self, *, detail: bool = False) -> ProviderRequest:  # noqa: ARG002
        """Say how to ask for the balance; there is no detail to ask for."""
        return self._question("credits")

    def task_request(self, task_id: str, *, path: str = "") -> ProviderRequest | None:
        """Say how to ask about a task. Where nothing is known of it, as a song; of others the feed knows nothing."""
        part = quoted(task_id)
        if part is None:
            return None
        poll = "cover/status" if path == "cover/generate" else "feed"
        return self._question(f"{poll}?{_POLLS[poll]}={part}")

    def _question(self, what: str) -> ProviderRequest:
        return ProviderRequest(
            f"{self._origin}/api/v2/{what}", {"accept": "application/json", "user-agent": self._user_agent}
        )

    def reading(self, answer: Answer) -> Reading:
        """Read the balance.

        Raises:
            ReadingError: If it was refused, is no JSON, or a field is missing, renamed, negative or not a number.
        """
        if blocked(answer):
            raise ReadingError(USER_AGENT_REFUSED)
        code = code_of(answer)
        if not 200 <= code < 300:
            raise ReadingError(_refused(code, answer.status))
        if not isinstance(answer.body, dict):
            raise ReadingError(f"it is not a JSON object (HTTP {answer.status})")
        data = answer.body.get("data")
        if not isinstance(data, dict):
            raise ReadingError("is not an object" if "data" in answer.body else "is missing", field="data")
        return Reading(
            credits=count(data, "credits", "data"),
            pools={"": Capacity(limit=self._concurrency)},
            document=answer.body,
        )

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Find the API key: ``Authorization: Bearer <key>``."""
        match = _BEARER.fullmatch(headers.get("authorization", "").strip())
        return match[1] if match else None

    def authorize(self, key: str) -> Mapping[str, str]:
        """Build the header that carries *key*.

        Raises:
            SettingError: If it is no key; the message does not show it.
        """
        return {"Authorization": f"Bearer {api_key(key)}"}


def _endpoint(path: str) -> str:
    """Give the price list's name of an endpoint; the first version's calls cost what the second's do."""
    parts = [part for part in path.split("/") if part]
    for prefix in ("api", "v2"):
        if parts[:1] == [prefix]:
            del parts[0]
    return "/".join(parts)


def _refused(code: int, status: int) -> str:
    said = f"code {code}, HTTP {status}"
    match code:
        case 401 | 403:
            return f"the key was refused ({said}); check the key, and that base_url is the API's host"
        case 404:
            return f"there is no such address ({said}); check base_url"
        case 429:
            return f"the provider asked for fewer requests ({said})"
        case _:
            return f"the provider answered with {said}"
