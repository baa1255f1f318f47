"""The API key is nowhere to be found: not in logs, events, errors and their frames, names, reprs or stores."""

from __future__ import annotations

import dataclasses
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog

import budgetguard
from budgetguard.errors import BudgetGuardError, Refused, SettingError
from budgetguard.events import Event
from tests.support.vidu import BODY, CREDITS, HEADERS, HOME, KEY, SUBMIT, headers, made_up, poll, quick, vidu
from tests.support.ways import Caller, Way

pytestmark = pytest.mark.anyio

SPEAKS_OF_KEY = {
    "code": 400,
    "reason": f"key {KEY} is odd",
    "message": f"you sent {HEADERS['Authorization']}",
    "err_code": KEY,
    "metadata": {"trace_id": KEY},
}


class Interruption(BaseException):
    """Like KeyboardInterrupt, but nobody's."""


class Moody(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Passes on to a fake, unless told to answer, or to fail, in another way."""

    def __init__(self, fake: Any) -> None:
        self.inner = fake.transport()
        self.instead: dict[str, httpx.Response | BaseException] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        instead = self.instead.pop(request.url.path, None)
        if isinstance(instead, BaseException):
            raise instead
        response: httpx.Response = self.inner.handle_request(request) if instead is None else instead
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def answered(status: int, *, echo: bool = True, **changes: Any) -> httpx.Response:
    # A stream, as an answer from a socket is.
    data = json.dumps({**(SPEAKS_OF_KEY if echo else {"code": 400, "reason": "Odd"}), **changes}).encode()
    headers = {"content-type": "application/json", "x-your-key": KEY, "retry-after": "0.001"}
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(data))


OURS = Path(budgetguard.__file__).parent


def frames(error: BaseException) -> Iterator[str]:
    """Name each place in our code whose local variables would show the key, as error reporters show them."""
    left = [traceback.TracebackException.from_exception(error, capture_locals=True)]
    while left:
        shown = left.pop()
        left += [other for other in (shown.__cause__, shown.__context__) if other is not None]
        for frame in shown.stack:
            if OURS in Path(frame.filename).parents:
                for name, value in (frame.locals or {}).items():
                    if KEY in value:
                        yield f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}() {name}"


def reachable(thing: Any, seen: set[int]) -> Iterator[str]:
    """Find all text that one of our objects leads to."""
    if id(thing) in seen or thing is None or isinstance(thing, int | float | type):
        return
    seen.add(id(thing))
    if isinstance(thing, bytes):
        yield thing.decode("latin-1")
    elif isinstance(thing, str):
        yield thing
    elif isinstance(thing, dict):
        for item in [*thing.keys(), *thing.values()]:
            yield from reachable(item, seen)
    elif isinstance(thing, list | tuple | set | frozenset):
        for item in thing:
            yield from reachable(item, seen)
    elif type(thing).__module__.startswith(("budgetguard", "cachetools", "weakref")):
        names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
        for name in {*names, *getattr(thing, "__dict__", {})}:
            yield from reachable(getattr(thing, str(name), None), seen)
        if hasattr(thing, "items"):
            yield from reachable(dict(thing.items()), seen)


class Everything:
    """Keeps all that a session leaves behind."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self.events: list[Event] = []
        self.errors: list[BaseException] = []

    async def __call__(self, client: Caller, method: str, path: str, **given: Any) -> None:
        try:
            await client.request(method, path, **given)
        except (Exception, Interruption) as error:  # noqa: BLE001 - looked at later
            self.errors.append(error)


class Keeping(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.DEBUG)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def left() -> Iterator[Everything]:
    """Collect logs at DEBUG, but for httpcore's own, which print headers by design."""
    everything = Everything()
    handler = Keeping(everything.records)
    handler.addFilter(lambda record: not record.name.startswith("httpcore"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield everything
    root.setLevel(before)
    root.removeHandler(handler)


async def live(way: Way, left: Everything, *, echo: bool = True) -> tuple[Any, Any]:
    """Go through failures of all kinds; with *echo*, at a provider that repeats the key wherever it can."""
    says = partial(answered, echo=echo)
    fake = made_up(credits=500, limit=2)
    inner = Moody(fake)

    def observer(event: Event) -> None:
        left.events.append(event)
        raise ValueError(event)

    policy = quick(resend_max=1, max_waiting=0, low_balance=(400,), max_age=0.001, lease=0.05, stale_if_error=0.001)
    guard = way.guard(vidu(), policy=policy, observers=[observer], accounts={"studio": [KEY]})
    transport = way.transport(guard, inner)
    async with way.client(guard, inner, base_url=HOME, headers=HEADERS) as client:
        for status in (402, 400, 401, 429, 429, 500, 503):
            inner.instead[SUBMIT] = says(status)
            await left(client, "POST", SUBMIT, json=BODY)
        inner.instead[SUBMIT] = says(400, reason="CreditInsufficient")
        await left(client, "POST", SUBMIT, json=BODY)
        inner.instead[SUBMIT] = says(429, reason="QuotaExceeded")
        await left(client, "POST", SUBMIT, json=BODY)
        for failure in (
            httpx.ReadError("no"),
            httpx.ConnectError("gone"),
            RuntimeError("odd"),
            Interruption(),
        ):
            inner.instead[SUBMIT] = failure
            await left(client, "POST", SUBMIT, json=BODY)
        answers: list[httpx.Response | BaseException] = [
            says(200),
            says(401),
            says(500),
            httpx.Response(200, text=f"<p>{KEY}"),
            Interruption(),
            httpx.ConnectTimeout("late"),
            says(200, remains=[{"type": KEY}]),
            says(302),
        ]
        for answer in answers:
            inner.instead[CREDITS] = answer
            await left(client, "POST", SUBMIT, json=BODY, extensions={"budgetguard": {"credits": 490}})
        answers = [says(200), says(200, state="success"), Interruption(), httpx.ReadError("x")]
        for answer in answers:
            inner.instead[poll("1")] = answer
            await left(client, "GET", poll("1"))
            inner.instead[CREDITS] = httpx.Response(500, text=KEY) if isinstance(answer, httpx.Response) else answer
            await left(client, "GET", CREDITS)
        for wrong in ({"credits": -1}, {"no": 1}, {"credits": 10**9}, {"slots": 50}, {"deadline": 0, "slots": 2}):
            await left(client, "POST", SUBMIT, json=BODY, extensions={"budgetguard": wrong})
        await left(client, "POST", "/ent/v2/brand-new", json={"model": "x"})
        await left(client, "POST", SUBMIT, json=BODY)
        await left(client, "POST", SUBMIT, json=BODY)
    return guard, transport


async def test_the_key_is_nowhere_after_failures_of_all_kinds(way: Way, left: Everything) -> None:
    with structlog.testing.capture_logs() as logs:
        guard, transport = await live(way, left)
        state = await way.state(guard, KEY)
    assert len(left.errors) > 12
    assert len({type(event) for event in left.events}) > 6
    assert [record for record in left.records if record.name == "httpx"] != []
    engine = guard.engine
    account = engine.account(KEY)
    texts = {
        "logs": [f"{record.getMessage()} {record.args} {record.exc_text}" for record in left.records],
        "structlog": [repr(log) for log in logs],
        "events": [f"{event!r} {dataclasses.asdict(event)}" for event in left.events],
        "errors": [f"{error!r} {error}" for error in left.errors],
        "tracebacks": ["".join(traceback.format_exception(error)) for error in left.errors],
        "facts": [repr(error.facts) for error in left.errors if isinstance(error, Refused)],
        "pickles": [repr(pickle.dumps(error)) for error in left.errors if isinstance(error, BudgetGuardError)],
        "representations": [
            repr(thing)
            for thing in (guard, transport, engine, engine.store, engine.policy, engine.provider, account, account.view,
                          account.books, state, *account.lines.values(), guard.driver)
        ],
        "objects": list(reachable([guard, engine, engine.store, account, guard.driver], set())),
        "name": [guard.account_name(KEY)],
    }  # fmt: skip
    assert [(name, text) for name, found in texts.items() for text in found if KEY in text] == []


@pytest.mark.parametrize(
    "echo",
    [
        pytest.param(False, id="discreet"),
        pytest.param(True, id="echo"),
    ],
)
async def test_no_frame_of_ours_shows_the_key_to_error_reporters_that_print_local_variables(
    echo: bool, way: Way, left: Everything
) -> None:
    with structlog.testing.capture_logs():
        await live(way, left, echo=echo)
    assert sorted({place for error in left.errors for place in frames(error)}) == []


async def test_the_check_for_frames_finds_a_key_where_there_is_one(way: Way) -> None:
    fake = made_up(credits=1)
    guard = way.guard(vidu(), policy=quick())
    async with way.client(guard, fake.transport(), base_url=HOME, headers=HEADERS) as client:
        with pytest.raises(Refused) as error:
            await client.post(SUBMIT, json=BODY)
    assert list(frames(error.value)) == []
    refusal = error.value
    namespace: dict[str, Any] = {}
    code = compile(f"def leak(error):\n    key = {KEY!r}\n    raise error", str(OURS / "leaky.py"), "exec")
    exec(code, namespace)  # noqa: S102 - a frame that looks like ours
    with pytest.raises(Refused) as again:
        namespace["leak"](refusal)
    assert list(frames(again.value)) == ["leaky.py:3 leak() key"]


async def test_a_key_that_cannot_be_sent_is_not_shown_in_the_complaint(way: Way) -> None:
    odd = f"{KEY}\x7f"
    guard = way.guard(vidu(), policy=quick())
    async with way.client(guard, made_up().transport(), base_url=HOME) as client:
        with pytest.raises((SettingError, Refused)) as error:
            await client.post(SUBMIT, json=BODY, headers=headers(odd))
    assert KEY not in "".join(traceback.format_exception(error.value))
    assert list(frames(error.value)) == []


@pytest.mark.parametrize("status", [400, 401, 402, 429])
async def test_a_key_the_provider_repeats_is_kept_out_of_events(status: int, way: Way) -> None:
    fake, events = made_up(), list[Event]()
    inner = Moody(fake)
    guard = way.guard(vidu(), policy=quick(resend_max=0), observers=[events.append])
    async with way.client(guard, inner, base_url=HOME, headers=HEADERS, timeout=1) as client:
        inner.instead[SUBMIT] = answered(status)
        try:
            response = await client.post(SUBMIT, json=BODY)
        except Refused as refused:
            response = refused.response
        # What the provider said is the caller's to see.
        assert KEY in response.text
    assert len(events) >= 3
    assert KEY not in repr(events)
