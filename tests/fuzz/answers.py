"""Answers of the providers: to the question for the balance, to a submitted call, to a poll, a list and a cancel."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import httpx

from budgetguard._http import CREDITS_MAX, answer_of
from budgetguard.errors import ReadingError
from budgetguard.model import Outcome, Reading, Route, RouteKind, TaskSeen, Verdict
from budgetguard.ports import Answer
from budgetguard.providers import UdioPro, Vidu
from tests.fuzz import corpus, exact
from tests.fuzz.spoil import Pairs, mixed
from tests.fuzz.target import Broken, Target, joined, parted

__all__ = ["TARGETS", "balance_in", "facts_of", "states_in"]

_STATUSES = (200, 200, 200, 200, 201, 202, 204, 206, 301, 400, 401, 402, 403, 404, 408, 409, 429, 499, 500, 502, 503)
_RETRY_AFTER = ("5", "0", "-1", "1e9", "9" * 5000, "nan", "Wed, 21 Oct 2026 07:28:00 GMT", "\u0663", "")
_MOST = 10**15


def facts_of(chance: random.Random, *, fine: float = 0.8) -> dict[str, Any]:
    """Make up what comes with an answer."""
    facts: dict[str, Any] = {"status": 200 if chance.random() < fine else chance.choice(_STATUSES)}
    if chance.random() < 0.1:
        facts["retry-after"] = chance.choice(_RETRY_AFTER)
    return facts


def shown(case: bytes) -> tuple[Answer, bytes]:
    """Show a case to an adapter, as an answer would be."""
    facts, body = parted(case)
    status, wait = facts.get("status"), facts.get("retry-after")
    headers = [(b"retry-after", wait.encode("ascii", "replace"))] if isinstance(wait, str) else []
    response = httpx.Response(status if isinstance(status, int) and 100 <= status <= 999 else 200, headers=headers)
    return answer_of(response, body, most=CREDITS_MAX), body


class _Balance(Target):
    """A reading is exactly what the answer says, or there is none."""

    guided = True

    def __init__(self, name: str, provider: Any, documents: Sequence[Any]) -> None:
        self.name = name
        self._provider = provider
        self._documents = documents

    def draw(self, chance: random.Random) -> bytes:
        return joined(facts_of(chance, fine=0.9), mixed(chance, self._documents))

    def run(self, case: bytes) -> None:
        answer, body = shown(case)
        try:
            reading: Reading = self._provider.reading(answer)
        except ReadingError:
            return
        node = exact.document(body)
        said = balance_in(node)
        if said is None:
            raise Broken(f"a balance of {reading.credits} was read where none is told")
        capacity = reading.pools[""]
        if said[0] != reading.credits or said[1] != capacity.running:
            raise Broken(f"{reading.credits} credits and {capacity.running} running were read, and said are {said}")
        if not 0 <= reading.credits <= _MOST or not 0 <= (capacity.running or 0) <= _MOST:
            raise Broken(f"{reading.credits} credits and {capacity.running} running are absurd")
        if said[2] is not None and capacity.limit != said[2]:
            raise Broken(f"a limit of {capacity.limit} was read, and said is {said[2]}")
        if exact.is_ambiguous(node):
            raise Broken("a document that names a field twice was read")


def balance_in(node: Any) -> tuple[Decimal, Decimal | None, Decimal | None] | None:
    """Say exactly which credits, running tasks and limit an answer tells, whichever of the two providers' it is."""
    data = exact.amount(exact.field(node, "data", "credits"))
    rows = exact.field(node, "remains")
    others = exact.field(node, "remaining_credits")
    if rows is None and others is None:
        return None if data is None else (data, None, None)
    two = isinstance(others, list) and not isinstance(others, Pairs) and rows is not None
    if (two and rows != others) or exact.field(node, "reason"):
        return None  # two lists that contradict each other tell nothing, nor does an error
    rows = others if rows is None else rows
    if not isinstance(rows, list) or isinstance(rows, Pairs):
        return None
    columns = [
        [exact.amount(exact.field(row, name)) for row in rows]
        for name in ("credit_remain", "current_concurrency", "queue_count", "concurrency_limit")
    ]
    if any(value is None for column in columns for value in column):
        return None
    credits, running, queued, limits = ([value for value in column if value is not None] for column in columns)
    return sum(credits, Decimal()), sum([*running, *queued], Decimal()), max(limits, default=None)


class _Verdicts(Target):
    """What became of a call is told by the answer alone, and a charge exactly; of a riddle nothing is known."""

    guided = True

    def __init__(self, name: str, provider: Any, documents: Sequence[Any], path: str) -> None:
        self.name = name
        self._provider = provider
        self._documents = documents
        self._route = Route(RouteKind.SUBMIT, path)

    def draw(self, chance: random.Random) -> bytes:
        return joined(facts_of(chance, fine=0.6), mixed(chance, self._documents))

    def run(self, case: bytes) -> None:
        answer, body = shown(case)
        verdict: Verdict = self._provider.verdict(self._route, answer)
        node = exact.document(body)
        _check_words(verdict)
        if verdict.charge is not None:
            said = exact.amount(exact.field(node, "credits"))
            if verdict.charge != said or not 0 <= verdict.charge <= _MOST:
                raise Broken(f"a charge of {verdict.charge} was read, and said is {said}")
        if verdict.task_id is not None and verdict.task_id not in set(exact.texts(node)):
            raise Broken(f"the task {verdict.task_id!r} was read, which the answer does not name")
        if verdict.outcome is Outcome.ACCEPTED and not isinstance(node, Pairs):
            raise Broken("a call was taken as accepted that no document speaks of")
        given_back = verdict.outcome not in (Outcome.ACCEPTED, Outcome.UNKNOWN)
        if given_back and not 300 <= answer.status < 500 and not _refuses(node):
            raise Broken(f"HTTP {answer.status} without a refusal in it gave everything back: {verdict.outcome}")
        if exact.is_ambiguous(node) and verdict.outcome is Outcome.ACCEPTED:
            raise Broken("a document that names a field twice was believed")


def _refuses(node: Any) -> bool:
    code = exact.amount(exact.field(node, "code"))
    return isinstance(exact.field(node, "reason"), str) or (code is not None and 300 <= code < 500)


def _check_words(verdict: Verdict) -> None:
    wait = verdict.retry_after
    if wait is not None and not (math.isfinite(wait) and 0 <= wait <= 86_400):
        raise Broken(f"a wait of {wait} s was read")
    if max(len(verdict.reason), len(verdict.message)) > 600:
        raise Broken("a reason or a message was kept whole")
    if verdict.task_id is not None and not (0 < len(verdict.task_id) <= 256 and verdict.task_id.isprintable()):
        raise Broken("an id that is none was kept")


_STATES: Mapping[str, str] = {
    "success": "ended",
    "failed": "ended",
    "created": "running",
    "queueing": "running",
    "processing": "running",
}


class _Tasks(Target):
    """A task is seen as the answer shows it, or not at all; and no task but those it names."""

    guided = True

    def __init__(self, name: str, provider: Any, documents: Sequence[Any], route: Route) -> None:
        self.name = name
        self._provider = provider
        self._documents = documents
        self._route = route

    def draw(self, chance: random.Random) -> bytes:
        return joined(facts_of(chance), mixed(chance, self._documents))

    def run(self, case: bytes) -> None:
        answer, body = shown(case)
        seen: Sequence[TaskSeen] = self._provider.observe(self._route, answer)
        node = exact.document(body)
        named = set(exact.texts(node)) | {self._route.task_id}
        for task in seen:
            if task.task_id not in named:
                raise Broken(f"the task {task.task_id!r} was seen, which the answer does not name")
            if task.charge is not None and not 0 <= task.charge <= _MOST:
                raise Broken(f"a charge of {task.charge} was read")
            if task.state.ended and self._route.kind is not RouteKind.CANCEL and not states_in(node) & {"ended"}:
                raise Broken(f"the task {task.task_id!r} was seen to end, and the answer says {states_in(node)}")
        if seen and (exact.is_ambiguous(node) or not isinstance(node, Pairs)):
            raise Broken("a task was seen in a document that is none, or names a field twice")
        if self._provider.missing(self._route, answer) and not isinstance(node, Pairs):
            raise Broken("a task was said to be missing by no document")


def states_in(node: Any) -> set[str]:
    """Say which states an answer speaks of, anywhere in it."""
    found = set()
    for text in exact.texts(node):
        word = text.strip().lower()
        if word in _STATES:
            found.add(_STATES[word])
        elif word in {"complete", "fail"}:
            found.add("ended")
    return found


_POLLED = Route(RouteKind.POLL, "tasks/{id}/creations", "812345678901234567")
_VIDU, _UDIO = Vidu(), UdioPro()
TARGETS: tuple[Target, ...] = (
    _Balance("vidu-credits", _VIDU, [*corpus.VIDU_CREDITS, *corpus.VIDU_REFUSALS]),
    _Balance("udio-credits", _UDIO, [*corpus.UDIO_CREDITS, *corpus.UDIO_REFUSALS]),
    _Verdicts("vidu-submit", _VIDU, [*corpus.VIDU_SUBMITTED, *corpus.VIDU_REFUSALS], "text2video"),
    _Verdicts("udio-submit", _UDIO, [*corpus.UDIO_SUBMITTED, *corpus.UDIO_REFUSALS], "generate"),
    _Tasks("vidu-poll", _VIDU, [*corpus.VIDU_POLLS, *corpus.VIDU_REFUSALS], _POLLED),
    _Tasks("vidu-list", _VIDU, [*corpus.VIDU_LISTS, *corpus.VIDU_REFUSALS], Route(RouteKind.LIST, "tasks")),
    _Tasks(
        "vidu-cancel", _VIDU, [{}, *corpus.VIDU_POLLS, *corpus.VIDU_REFUSALS], Route(RouteKind.CANCEL, "", "812345")
    ),
    _Tasks("udio-feed", _UDIO, [*corpus.UDIO_FEEDS, *corpus.UDIO_REFUSALS], Route(RouteKind.POLL, "feed", "gen2abc")),
    _Tasks("udio-cover", _UDIO, corpus.UDIO_FEEDS, Route(RouteKind.POLL, "cover/status", "cover1")),
)
