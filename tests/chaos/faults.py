"""What may go wrong, each with a name, where it can happen, and how one of it is drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["EVERYWHERE", "FAULTS", "LEASE", "SHARED", "Draw", "Fault"]

LEASE = 3.0
"""Seconds of `Policy.lease` in every scene."""
LAG = 1.0
"""Seconds by which the balance lags, where it does."""

EVERYWHERE = ("memory", "sqlite", "valkey")
SHARED = ("sqlite", "valkey")
_BOTH = ("vidu", "udio")

Draw = Callable[[random.Random], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of thing that goes wrong.

    Attributes:
        name: Short; a scene is told which faults it has by it.
        says: What happens, for the table.
        does: Which of the injector's deeds it is.
        draw: Draws the particulars of one injection.
        stores: With which stores it can happen.
        providers: At which providers.
        times: How often it is injected in a scene, at least and at most.
        foreign: Whether it takes credits or slots away from the account, as a stranger does.
        whole: Whether it holds for a whole scene, and is not injected at a moment.
        alone: Whether no other fault may share its scene, but for the last ones, in which everything happens.
    """

    name: str
    says: str
    does: str
    draw: Draw
    stores: tuple[str, ...] = EVERYWHERE
    providers: tuple[str, ...] = _BOTH
    times: tuple[int, int] = (2, 4)
    foreign: bool = False
    whole: bool = False
    alone: bool = False


def _answers(kind: str, *, handled: bool | None = None, seconds: float = 0.0, most: int = 3) -> Draw:
    """Answers to submits; where *handled* is not said, chance decides whether the call takes effect all the same."""

    def draw(rng: random.Random) -> dict[str, Any]:
        taken = rng.random() < 0.5 if handled is None else handled
        return {"kind": kind, "times": rng.randint(1, most), "handled": taken, "seconds": seconds}

    return draw


def _readings(*kinds: str, seconds: float = 0.0) -> Draw:
    """Answers to questions for the balance, of any of these kinds."""

    def draw(rng: random.Random) -> dict[str, Any]:
        return {"kind": rng.choice(kinds), "times": rng.randint(1, 3), "handled": True, "seconds": seconds}

    return draw


def _nothing(rng: random.Random) -> dict[str, Any]:
    return {}


def _seconds(least: float, most: float) -> Draw:
    return lambda rng: {"seconds": round(rng.uniform(least, most), 2)}


def _worker(rng: random.Random) -> dict[str, Any]:
    return {"worker": rng.randrange(100)}


def _asleep(rng: random.Random) -> dict[str, Any]:
    return {"worker": rng.randrange(100), "seconds": round(rng.uniform(LEASE + 0.3, LEASE + 1.0), 2)}


def _limit(rng: random.Random) -> dict[str, Any]:
    return {"to": rng.choice((0, 1, 2, 3, 9, 12)), "seconds": round(rng.uniform(0.5, 1.5), 2)}


def _stranger(rng: random.Random) -> dict[str, Any]:
    return {"slots": rng.randint(1, 4), "seconds": round(rng.uniform(0.3, 1.2), 2)}


def _spender(rng: random.Random) -> dict[str, Any]:
    return {"calls": rng.randint(1, 6), "seconds": None}


def _reset(rng: random.Random) -> dict[str, Any]:
    kind, handled = rng.choice((("reset_before_accept", False), ("reset_after_accept", True)))
    return {"kind": kind, "times": rng.randint(1, 3), "handled": handled, "seconds": 0.0}


_STORY: tuple[Fault, ...] = (
    # -- what the provider answers to a submit
    Fault("lost", "answer lost after acceptance", "answers", _answers("drop_after_accept", handled=True)),
    Fault("unheard", "connection closed before acceptance", "answers", _answers("drop_before_accept", handled=False)),
    Fault("500", "500", "answers", _answers("http_500")),
    Fault("502", "502", "answers", _answers("http_502")),
    Fault("503", "503", "answers", _answers("http_503")),
    Fault("499", "499", "answers", _answers("http_499")),
    Fault("html-502", "HTML in place of JSON, with 502", "answers", _answers("html_502")),
    Fault("html-200", "HTML in place of JSON, with 200", "answers", _answers("not_json", handled=True)),
    Fault("cut", "answer cut off in mid-body", "answers", _answers("cut_body", handled=True)),
    Fault("slow", "answer 1.5 s late", "answers", _answers("slow", handled=True, seconds=1.5)),
    Fault(
        "stuck",
        "answer that never comes",
        "answers",
        _answers("slow", handled=True, seconds=60.0, most=2),
        times=(1, 2),
    ),
    Fault("reset", "connection reset", "answers", _reset),
    Fault("refused", "connection refused", "provider_off", _seconds(0.3, 1.0), times=(1, 2)),
    # -- what it answers to a question for the balance
    Fault(
        "balance-fails",
        "balance: 500, 502, 503, HTML, cut off, closed",
        "readings",
        _readings(
            "http_500", "http_502", "http_503", "html_502", "not_json", "cut_body", "drop_before_accept", "empty"
        ),
        times=(3, 6),
    ),
    Fault("balance-stuck", "balance: an answer that never comes", "readings", _readings("slow", seconds=60.0)),
    Fault("balance-lag", "balance: lags by a second", "lag", _nothing, whole=True),
    Fault(
        "balance-fields",
        "balance: changes its fields",
        "fields",
        lambda rng: {"to": rng.choice(("renamed", "quoted", "split", "wrong")), "seconds": rng.choice((0.5, 1.0))},
    ),
    Fault("balance-order", "balance: answers out of order", "out_of_order", _seconds(3.2, 3.6), times=(1, 2)),
    # -- what becomes of tasks, and of the account
    Fault("task-fails", "task fails, charged all the same", "tasks_fail", lambda rng: _failing(rng, refund=False)),
    Fault("task-refund", "task fails, and is refunded", "tasks_fail", lambda rng: _failing(rng, refund=True)),
    Fault("stranger-slots", "stranger takes slots", "stranger", _stranger, providers=("vidu",), foreign=True),
    Fault("stranger-credits", "stranger takes credits", "stranger", _spender, foreign=True),
    Fault("limit", "limit up and down, to 0", "limit", _limit, providers=("vidu",), foreign=True),
    Fault("top-up", "top-up", "top_up", lambda rng: {"calls": rng.randint(2, 10)}),
    Fault("expiry", "package expires", "expiry", lambda rng: {"calls": rng.randint(2, 10)}, foreign=True),
    # -- what becomes of those who call
    Fault("kill", "worker killed (SIGKILL)", "kill", _worker, stores=SHARED),
    Fault("sleep", "worker stopped (SIGSTOP) past its lease", "sleep", _asleep, times=(1, 1)),
    Fault("fork", "worker forks", "fork", _worker, stores=SHARED),
    Fault("clock-ahead", "wall clock an hour ahead", "clock", lambda rng: _clock(rng, 3600.0), times=(1, 2)),
    Fault("clock-back", "wall clock an hour back", "clock", lambda rng: _clock(rng, -3600.0), times=(1, 2)),
    # -- what becomes of the store
    Fault(
        "server-clock",
        "Valkey's clock an hour ahead, or back, and right again",
        "server_clock",
        lambda rng: _clock(rng, rng.choice((3600.0, -3600.0))),
        stores=("valkey",),
        times=(1, 1),
    ),
    Fault(
        "server-stop", "Valkey stopped", "valkey", lambda rng: _server(rng, "stop"), stores=("valkey",), times=(1, 1)
    ),
    Fault(
        "server-empty",
        "Valkey restarted empty",
        "valkey",
        lambda rng: _server(rng, "empty"),
        stores=("valkey",),
        times=(1, 1),
        alone=True,
    ),
    Fault(
        "server-wiped",
        "Valkey emptied (FLUSHALL)",
        "valkey",
        lambda rng: _server(rng, "wiped"),
        stores=("valkey",),
        times=(1, 1),
        alone=True,
    ),
    Fault(
        "server-scripts",
        "Valkey flushed of scripts",
        "valkey",
        lambda rng: _server(rng, "flush"),
        stores=("valkey",),
        times=(3, 6),
    ),
    Fault(
        "server-stall", "Valkey stalled", "valkey", lambda rng: _server(rng, "pause"), stores=("valkey",), times=(1, 2)
    ),
    Fault(
        "file-locked",
        "SQLite file locked by another program",
        "file_locked",
        _seconds(0.5, 2.0),
        stores=("sqlite",),
        times=(1, 2),
    ),
    Fault("disk-full", "SQLite's disk full", "disk_full", _seconds(0.5, 1.5), stores=("sqlite",), times=(1, 2)),
    Fault("read-only", "SQLite's directory read-only", "read_only", _worker, stores=("sqlite",), times=(1, 1)),
)


def _failing(rng: random.Random, *, refund: bool) -> dict[str, Any]:
    return {"times": rng.randint(1, 4), "refund": refund}


def _clock(rng: random.Random, by: float) -> dict[str, Any]:
    return {"by": by, "seconds": round(rng.uniform(0.8, 2.0), 2)}


def _server(rng: random.Random, how: str) -> dict[str, Any]:
    return {"how": how, "seconds": round(rng.uniform(0.5, 1.8), 2)}


FAULTS: dict[str, Fault] = {fault.name: fault for fault in _STORY}
"""All of them, in the order of the table."""
