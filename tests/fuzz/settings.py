"""Every setting, given what it cannot be: refused at once, by name, with a remedy, and without a secret in the message.

Which settings there are, and what each may be, is read off the signatures, so that a new one is tried too.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import json
import math
import os
import random
import tempfile
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import celery
import httpx

from budgetguard import AsyncGuard, Guard, Policy
from budgetguard._http import CallOptions
from budgetguard.celery import GuardedTask
from budgetguard.errors import BudgetGuardError, SettingError
from budgetguard.instruments import LogObserver
from budgetguard.model import Quote
from budgetguard.pool import progress, terms
from budgetguard.providers import UdioPro, Vidu
from budgetguard.stores import MemoryStore, open_store
from budgetguard.stores.redis import RedisStore
from budgetguard.stores.sqlite import SQLiteStore
from budgetguard.testing import FakeUdio, FakeVidu, ManualClock, SystemClock
from budgetguard.webhooks import webhook_app
from tests.fuzz.target import Broken, Target, joined, parted

__all__ = ["Settings", "fits"]

SECRET = "sk-9f81c3e07d5b42aa"
_SECRETS = frozenset(
    {"accounts", "api_key", "base_url", "client", "fingerprint_key", "guard", "inner", "key", "keys", "observers"}
    | {"policy", "provider", "secret", "store", "url"}
)
"""The settings that are given a key, or an address with a password in it, or in whose place one is easily put."""
_LONG = 10**5000
VALUES: Mapping[str, Any] = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "1e300": 1e300,
    "-1e300": -1e300,
    "-1": -1,
    "-0.5": -0.5,
    "0": 0,
    "0.0": 0.0,
    "1": 1,
    "0.5": 0.5,
    "5e-324": 5e-324,
    "2**53": 2**53,
    "2**63": 2**63,
    "10**18": 10**18,
    "10**5000": _LONG,
    "-10**5000": -_LONG,
    "True": True,
    "None": None,
    "Decimal 1.5": Decimal("1.5"),
    "Decimal NaN": Decimal("NaN"),
    "Fraction": Fraction(1, 3),
    "1j": 1j,
    "empty text": "",
    "text": "nonsense",
    "number in quotes": "5",
    "surrogate": "\ud800",
    "line break": "a\nb",
    "nul": "a\0b",
    "not ascii": "caf\xe9",
    "blank": " ",
    "long text": "x" * 100_000,
    "secret": SECRET,
    "secret in an address": f"https://user:{SECRET}@example.com/v1?token={SECRET}",
    "secret in a wrong address": f"https://us er:{SECRET}@exämple.com#{SECRET}",
    "secret in redis": f"redis://:{SECRET}@[::1/x",
    "secret in postgres": f"postgres://user:{SECRET}@host/db",
    "secret in sqlite": f"sqlite://user:{SECRET}@host/db",
    "home of nobody": "~nobody_of_that_name/a.db",
    "bytes": b"bytes",
    "long bytes": b"x" * 65,
    "list": [],
    "list of five": [5],
    "list of secrets": [SECRET],
    "tuple": (),
    "tuple of floats": (1.5, math.nan),
    "tuple of long": (_LONG,),
    "dict": {},
    "dict of five": {5: 5},
    "dict of secrets": {SECRET: SECRET},
    "dict of lists": {SECRET: [SECRET, SECRET]},
    "set": frozenset({1}),
    "object": object(),
    "type": object,
    "function": len,
    "module": json,
    "quote": Quote(5),
    "request": httpx.Request("GET", "https://example.com"),
    "transport": httpx.MockTransport(lambda _request: httpx.Response(200)),
    "store": MemoryStore(),
    "policy": Policy(),
    "provider": UdioPro(),
    "path": Path("/nonexistent/of/nobody.db"),
}
"""What a setting is given, by name."""


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of the type that is annotated, as far as that can be told without using it."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return isinstance(value, str) and value in parts
    if origin is typing.Annotated:
        return fits(value, parts[0])
    if collections.abc.Callable in (origin, hint):
        return callable(value)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, parts[0]) for item in value)
    if origin in (collections.abc.Mapping, dict):
        return isinstance(value, Mapping) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if origin in (collections.abc.Iterable, collections.abc.Sequence, list):
        of = list(value) if isinstance(value, collections.abc.Iterable) and not isinstance(value, str | bytes) else None
        return of is not None and all(fits(item, parts[0]) for item in of)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is None or hint is type(None):
        return value is None
    if getattr(hint, "_is_protocol", False):
        return not isinstance(value, int | float | str | bytes | complex | list | dict | tuple | None)
    return isinstance(value, origin or hint)


_NAMES = {**vars(progress), **vars(terms), "Quote": Quote, "httpx": httpx}


def _hints(of: Any) -> dict[str, Any]:
    """Find what annotations mean. What a module imports for type checkers alone is not looked into, but for these."""
    names: dict[str, Any] = dict(_NAMES)
    while True:
        try:
            return typing.get_type_hints(of, localns=names)
        except NameError as error:
            names[error.name or ""] = Any


class _Made:
    """One thing that is made with settings."""

    def __init__(
        self,
        make: Callable[..., Any],
        *,
        base: Mapping[str, Any] | None = None,
        signature: Any = None,
        skip: tuple[str, ...] = (),
        within: bool = True,
    ) -> None:
        self.make = make
        self.base = dict(base or {})
        of = make if signature is None else signature
        # Aliases in quotes are looked up here.
        hints = _hints(vars(of)["__init__"] if inspect.isclass(of) else of)
        names = [
            name
            for name, parameter in inspect.signature(of).parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and name not in ("self", *skip)
        ]
        if dataclasses.is_dataclass(of):
            hints = _hints(of)
        self.hints = {name: hints.get(name, Any) for name in names}
        self.within = within


def _of_type(hint: Any, kinds: tuple[Any, ...]) -> bool:
    if hint in kinds:
        return True
    return any(_of_type(part, kinds) for part in typing.get_args(hint))


class Settings(Target):
    """A setting either can work, or is refused with its name, its value and what would be right."""

    name = "settings"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bg-fuzz-")
        self._things = _things(Path(self._folder.name))
        self._all = [(thing, setting) for thing, made in self._things.items() for setting in made.hints]

    def draw(self, chance: random.Random) -> bytes:
        thing, setting = chance.choice(self._all)
        return joined({"thing": thing, "setting": setting, "value": chance.choice(list(VALUES))})

    @property
    def count(self) -> int:
        """How many cases there are."""
        return len(self._all) * len(VALUES)

    def every(self) -> Iterator[bytes]:
        """Give all cases."""
        for thing, setting in self._all:
            for value in VALUES:
                yield joined({"thing": thing, "setting": setting, "value": value})

    def run(self, case: bytes) -> None:
        facts, _ = parted(case)
        made = self._things.get(str(facts.get("thing")))
        setting, chosen = str(facts.get("setting")), str(facts.get("value"))
        if made is None or setting not in made.hints or chosen not in VALUES:
            return
        value, hint = VALUES[chosen], made.hints[setting]
        what = f"{facts['thing']}({setting}={chosen})"
        try:
            built = made.make(**{**made.base, setting: value})
        except SettingError as error:
            _check_message(what, setting, error)
        except TypeError:
            if value is not len or setting not in ("guard", "credits"):  # a function of the user's, which fails
                raise
        except BudgetGuardError as error:
            if setting in _SECRETS and SECRET in str(error):
                raise Broken(f"{what} repeats a secret: {error}") from error
        else:
            _close(built)
            if not fits(value, hint):
                raise Broken(f"{what} was taken, though it is no {hint}")
            if (
                made.within
                and _of_type(hint, (int, float))
                and isinstance(value, int | float)
                and _absurd(setting, value)
            ):
                raise Broken(f"{what} was taken, though it is absurd")

    def close(self) -> None:
        self._folder.cleanup()


def _absurd(setting: str, value: Any) -> bool:
    most = 2**64 if setting == "seed" else 10**15
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) <= most


def _check_message(what: str, setting: str, error: SettingError) -> None:
    text = str(error)
    if setting in _SECRETS and SECRET in text:
        raise Broken(f"{what} repeats a secret: {text}")
    if len(text) > 1500:
        raise Broken(f"{what} is refused in {len(text)} characters")
    stem = setting.removesuffix("_")
    if stem not in text and error.name not in (stem, "url", "path", "key", "extensions", "store", "jobs"):
        raise Broken(f"{what} is refused without being named: {text}")
    if len(error.right) < 8 or (error.right.endswith(".") and not error.right.endswith("...")):
        raise Broken(f"{what} is refused without a remedy: {text}")


def _close(built: Any) -> None:
    close = getattr(built, "close", None)
    if callable(close) and not inspect.iscoroutinefunction(close):
        close()


def _things(folder: Path) -> dict[str, _Made]:
    """Name all there is to be made, or called, with settings."""
    os.environ.pop("VIDU_API_KEY", None)
    answered = httpx.MockTransport(_answer)
    about: dict[str, Any] = {"fingerprint_key": b"k" * 32, "policy": Policy(max_wait=0.0, max_age=60, max_stale=60)}
    guard = Guard(Vidu(prices={"text2video": 10}), api_key="a-key", inner=answered, **about)
    concurrent = AsyncGuard(Vidu(), api_key="a-key", inner=answered, **about)
    client = httpx.Client(transport=guard.transport(answered), headers={"Authorization": "Token a-key"})
    given = {"provider": UdioPro()}
    held = guard.reserve(5)
    url = "https://api.vidu.com/ent/v2/text2video"
    call: dict[str, Any] = {"client": client, "json": {}, "poll_every": 0.001, "poll_max": 0.001, "timeout": 0.05}
    wait = {**call, "task_id": "1"}
    del wait["json"]

    def china(**settings: Any) -> Any:
        return Vidu.china(**settings)

    def verified(**settings: Any) -> Any:
        given: dict[str, Any] = {"secret": "s", "now": 5.0, **settings}
        return Vidu().verify_callback("POST", "/", {}, b"", **given)

    return {
        "Policy": _Made(Policy),
        "Vidu": _Made(Vidu, skip=("prices",)),
        "Vidu.china": _Made(china, signature=Vidu, skip=("prices", "base_url")),
        "UdioPro": _Made(UdioPro, skip=("prices",)),
        "Vidu prices": _Made(lambda **given: Vidu(prices=given["prices"]), signature=_prices, within=False),
        "UdioPro prices": _Made(lambda **given: UdioPro(prices=given["prices"]), signature=_prices, within=False),
        "Guard": _Made(Guard, base={**given, "fingerprint_key": b"k" * 32}),
        "AsyncGuard": _Made(AsyncGuard, base={**given, "fingerprint_key": b"k" * 32}),
        "guard.transport": _Made(guard.transport),
        "AsyncGuard.transport": _Made(concurrent.transport),
        "guard.reserve": _Made(guard.reserve, base={"credits": 1}),
        "guard.try_reserve": _Made(guard.try_reserve, base={"credits": 1}),
        "guard.can_afford": _Made(guard.can_afford, base={"credits": 1}),
        "guard.job": _Made(guard.job, base={"credits": 1}),
        "AsyncGuard.job": _Made(concurrent.job, base={"credits": 1}),
        "guard.pool": _Made(guard.pool),
        "AsyncGuard.pool": _Made(concurrent.pool),
        "guard.plan": _Made(guard.plan, base={"jobs": [5]}),
        "guard.finished": _Made(guard.finished, base={"task_id": "1"}),
        "guard.state": _Made(guard.state),
        "guard.recover": _Made(guard.recover),
        "guard.account_name": _Made(guard.account_name),
        "guard.run_task": _Made(guard.run_task, base={**call, "request": url}, skip=("json",)),
        "guard.wait_task": _Made(guard.wait_task, base=wait),
        "permit.settle": _Made(lambda **given: _ended(held, given), signature=held.settle),
        "Quote": _Made(Quote, base={"credits": 5}),
        "CallOptions": _Made(CallOptions),
        "MemoryStore": _Made(MemoryStore),
        "SQLiteStore": _Made(SQLiteStore, base={"path": folder / "a.db"}),
        "SQLiteStore.from_url": _Made(SQLiteStore.from_url, base={"url": f"sqlite:///{folder}/a.db"}),
        "RedisStore": _Made(RedisStore, base={"url": "redis://localhost"}),
        "open_store": _Made(open_store),
        "webhook_app": _Made(webhook_app, base={"guard": guard}),
        "verify_callback": _Made(verified, signature=Vidu.verify_callback, skip=("method", "url", "headers", "body")),
        "FakeVidu": _Made(FakeVidu, base={"credits": 5, "limit": 1}, signature=_Fake),
        "FakeUdio": _Made(FakeUdio, base={"credits": 5, "limit": 1}, signature=_Fake),
        "FakeVidu's own": _Made(FakeVidu),
        "FakeUdio's own": _Made(FakeUdio),
        "ManualClock": _Made(ManualClock),
        "SystemClock": _Made(SystemClock),
        "GuardedTask": _Made(lambda **given: _celery(guard, given), signature=_task),
        "LogObserver": _Made(LogObserver),
    }


def _task(
    guard: Guard | Callable[..., Guard] | None = None,
    credits: int | Quote | Callable[..., int] | None = None,
    slots: int = 1,
    limit: str = "",
    tags: Mapping[str, str] | collections.abc.Sequence[str] | None = None,
    wait: float = 1.0,
    wait_max: float = 30.0,
) -> None: ...


def _celery(guard: Guard, given: Mapping[str, Any]) -> None:
    app = celery.Celery("fuzz", set_as_current=False)

    settings: dict[str, Any] = {"guard": guard, "credits": 1, **given}

    register: Any = app.task
    register(base=GuardedTask, name="t", **settings)(_nothing)()


def _nothing(*_given: Any) -> None: ...


def _prices(prices: Mapping[str, Any] | str | os.PathLike[str] | None = None) -> None: ...


class _Fake:
    """The settings all fakes share."""

    def __init__(
        self,
        credits: int,
        limit: int | None,
        *,
        mode: typing.Literal["queue", "reject"],
        keys: str | collections.abc.Iterable[str] | None,
        charge: int | Callable[..., int] | None,
        default_price: int,
        duration: float | tuple[float, float] | Callable[..., float],
        seed: int,
        latency: float | Callable[..., float],
        answer_latency: float | Callable[..., float],
        rate_limit: tuple[float, float] | None,
        fail_rate: float,
        refund_failed: bool,
        lag_seconds: float,
        lag_calls: int,
        queue_max: int | None,
    ) -> None: ...


def _ended(permit: Any, given: Mapping[str, Any]) -> None:
    from budgetguard.errors import PermitError

    try:
        permit.settle(**given)
    except PermitError:
        return  # it was settled with something else before: this was looked at first


def _answer(request: httpx.Request) -> httpx.Response:
    if request.url.path.endswith("credits"):
        row = {"credit_remain": 10**15, "concurrency_limit": 10**9, "current_concurrency": 0, "queue_count": 0}
        return httpx.Response(200, json={"remains": [{"type": "metered", **row}]})
    if request.method == "POST":
        return httpx.Response(200, json={"task_id": "1", "state": "created", "credits": 0})
    return httpx.Response(200, json={"state": "success", "credits": 0})
