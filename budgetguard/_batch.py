"""The jobs of a batch: read from whatever they are given as, priced, and played through in time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import httpx

from budgetguard import _http
from budgetguard._core.account import Account
from budgetguard._desk import Desk
from budgetguard._http import CallOptions
from budgetguard.engine import Engine, decode
from budgetguard.errors import SettingError, UnknownPrice
from budgetguard.model import Quote, Route, RouteKind

__all__ = ["Job", "Plannable", "Reader", "Why", "serve"]

Plannable: TypeAlias = "int | Quote | httpx.Request | Mapping[str, Any]"
"""A job: credits, a quote, a request, or a mapping; see `Guard.plan`."""
Why = Literal["", "credits", "slots", "price"]

_KEYS = frozenset({"body", "credits", "label", "method", "path", "pool", "seconds", "slots"})
_SECONDS_MAX = 1e9


@dataclass(slots=True)
class Job:
    """A job and its price; and what a plan makes of it."""

    index: int
    label: str
    quote: Quote | None
    seconds: float | None
    problem: str = ""
    why: Why = ""
    start: float | None = None


class Reader:
    """Reads jobs, and prices them as a call would be priced: by the provider's list, under the policy.

    Args:
        engine: Knows the provider and the policy.
        account: Whose jobs they are, for messages.
        seconds: The mean duration of jobs that tell none of their own.
    """

    def __init__(self, engine: Engine, account: Account, seconds: float | None) -> None:
        self._engine = engine
        self._desk = Desk(engine, "raise")
        self._account = account
        self.mean = None if seconds is None else _duration("seconds", seconds)

    def read(self, jobs: Iterable[Plannable]) -> list[Job]:
        """Read all of them.

        Raises:
            SettingError: If one is no job; the message says which. One without a known price is no error.
        """
        if isinstance(jobs, str | bytes | Mapping) or not isinstance(jobs, Iterable):
            raise SettingError("jobs", type(jobs).__name__, "give a list of jobs")
        return [self._read(index, job) for index, job in enumerate(jobs)]

    def _read(self, index: int, job: Plannable) -> Job:
        try:
            return self._understood(index, job)
        except UnknownPrice as unknown:
            label = str(job.get("label") or unknown.what) if isinstance(job, Mapping) else unknown.what
            return Job(index, label, None, self._seconds(job), f"{unknown.what}: {unknown.why}")
        except SettingError as error:
            raise SettingError(f"jobs[{index}].{error.name}".rstrip("."), error.value, error.right) from None

    def _understood(self, index: int, job: Plannable) -> Job:
        if isinstance(job, int) and not isinstance(job, bool):
            return self._job(index, "", Quote(_whole("credits", job)))
        if isinstance(job, Quote):
            return self._job(index, job.source, job)
        if isinstance(job, httpx.Request):
            options, route = _http.options_of(job), _http.route_of(self._engine, job.method, job.url)
            if options.skip or route is None or route.kind is not RouteKind.SUBMIT:
                raise SettingError(
                    "", f"{job.method} {job.url.path}", "give requests that start paid work at the provider"
                )
            return self._priced(index, "", route, options, _body(job))
        if isinstance(job, Mapping):
            return self._from_mapping(index, job)
        raise SettingError("", type(job).__name__, "give credits, a Quote, an httpx.Request or a mapping")

    def _from_mapping(self, index: int, job: Mapping[str, Any]) -> Job:
        unknown = sorted(map(str, job.keys() - _KEYS))
        if unknown:
            raise SettingError("", unknown, f"known keys are {', '.join(sorted(_KEYS))}")
        label, pool = job.get("label", ""), job.get("pool", "")
        for name, value in (("label", label), ("pool", pool)):
            if not isinstance(value, str):
                raise SettingError(name, value, "give text")
        seconds = self._seconds(job)
        options = CallOptions(credits=job.get("credits"), slots=job.get("slots"))
        if "path" not in job:
            if options.credits is None:
                raise SettingError("credits", None, "give what it costs, or the path and the body of a request")
            quote = Quote(options.credits, 1 if options.slots is None else options.slots, pool)
            return Job(index, label, quote, seconds)
        done = self._priced(index, label, self._route(job), options, job.get("body"))
        done.seconds = seconds
        return done

    def _route(self, job: Mapping[str, Any]) -> Route:
        path, method = job["path"], job.get("method", "POST")
        if not isinstance(path, str) or not path or not isinstance(method, str):
            raise SettingError("path", path, "give the endpoint the body is posted to")
        if not path.startswith("/"):
            return Route(RouteKind.SUBMIT, path)
        route = self._engine.provider.match(method.upper(), path.partition("?")[0], {})
        if route is None or route.kind is not RouteKind.SUBMIT:
            raise SettingError("path", path, f"{method.upper()} there does not start paid work")
        return route

    def _priced(self, index: int, label: str, route: Route, options: CallOptions, body: Any) -> Job:
        quote = self._desk.price(self._account, route, options, body)
        if quote is None:  # the policy lets it pass: it takes nothing
            quote = Quote(0, 0, source=f"{route.path}: unguarded")
        return self._job(index, label, quote)

    def _job(self, index: int, label: str, quote: Quote) -> Job:
        return Job(index, label or quote.source, quote, self.mean)

    def _seconds(self, job: Plannable) -> float | None:
        own = job.get("seconds") if isinstance(job, Mapping) else None
        return self.mean if own is None else _duration("seconds", own)


def _whole(name: str, value: Any) -> int:
    if value is None:
        raise SettingError(name, value, "give a whole number, 0 or more")
    CallOptions(**{name: value})  # which checks it
    return int(value)


def _duration(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _SECONDS_MAX:
        raise SettingError(name, value, f"give seconds, 0 or more, at most {_SECONDS_MAX:.0e}")
    return float(value)


def _body(request: httpx.Request) -> Any:
    try:
        content = request.content
    except httpx.RequestNotRead:  # a body that is made while it is sent cannot be looked at
        return None
    return decode(content) if _http.is_json(request.headers) else None


# -- time -----------------------------------------------------------------------------------------------------------


def serve(line: Sequence[tuple[Job, Quote, float]], ours: int | None, ahead: tuple[int, int], mean: float) -> float:
    """Play one pool: a job starts when the one before it has and its slots are free; gives the end of the last one.

    *ahead* is how many of our slots are taken, and how many calls wait already; each is taken to need *mean* seconds.
    """
    free = 0 if ours is None else ours
    ends: list[tuple[float, int]] = []
    now = last = 0.0
    taken, waiting = ahead
    for slots, seconds, job in _arrivals(line, min(taken, free), waiting, mean):
        needed = 0 if ours is None else min(slots, ours)
        while needed > free:
            now, back = heapq.heappop(ends)
            free += back
        free -= needed
        end = now + seconds
        if needed:
            heapq.heappush(ends, (end, needed))
        if job is not None:
            job.start = now
            last = max(last, end)
    return last


def _arrivals(
    line: Sequence[tuple[Job, Quote, float]], taken: int, waiting: int, mean: float
) -> Iterator[tuple[int, float, Job | None]]:
    for _ in range(taken + waiting):
        yield 1, mean, None
    for job, quote, seconds in line:
        yield quote.slots, seconds, job
