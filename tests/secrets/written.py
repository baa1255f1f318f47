"""Everything the library writes, written down in one folder."""

from __future__ import annotations

import collections
import dataclasses
import functools
import gc
import io
import logging
import pickle
import sys
import threading
import traceback
import types
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.traceback import Traceback
from structlog.tracebacks import ExceptionDictTransformer

import budgetguard
from budgetguard.errors import BudgetGuardError, Refused
from budgetguard.events import Event

__all__ = ["Written"]

_OURS = Path(budgetguard.__file__).parent
_FAKES = _OURS / "testing"
_LONG = 1_000_000
_TIMES = 2
_SCREENS = 3


@functools.cache
def _is_ours(file: str) -> bool:
    path = Path(file)
    return _OURS in path.parents and _FAKES not in path.parents


class Written:
    """Writes down what the library says, shows and keeps. Safe to share between threads.

    A traceback's variables are written down for the frames of the library. What the user's own frames and those of
    httpx hold goes to a folder beside it, *foreign*: it is not the library's to hide.

    Args:
        folder: Where to.
        foreign: Whether the others' frames are written down at all.
    """

    def __init__(self, folder: Path, *, foreign: bool = True) -> None:
        self.folder = folder / "ours"
        self.foreign = folder / "foreign" if foreign else None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kinds: set[str] = set()
        self.errors = 0
        self._looks: collections.Counter[tuple[str, ...]] = collections.Counter()
        self._ways: collections.Counter[tuple[Any, ...]] = collections.Counter()
        self._printed: set[type[BaseException]] = set()

    def add(self, name: str, what: str | bytes) -> None:
        """Add to a file."""
        self._add(self.folder / name, what)

    def _add(self, path: Path, what: str | bytes) -> None:
        data = what.encode("utf-8", "backslashreplace") if isinstance(what, str) else what
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a lock, which a fork could leave locked: what is written is added to the file at once.
        with path.open("ab", buffering=0) as file:
            file.write(data + b"\n")

    # -- events and logs --------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Write down an event; an observer, that sees what a debugger would see just then."""
        self.kinds.add(type(event).__name__)
        self.add("events.txt", f"{event!r}\n{event}\n{dataclasses.asdict(event)}\n{event.__reduce_ex__(4)!r}")
        self.add("events.pickle", pickle.dumps(event))
        self.stacks()

    @contextmanager
    def logging(self, *, httpcore: bool) -> Generator[None]:
        """Write down what is logged meanwhile, from DEBUG up.

        Args:
            httpcore: Whether its lines count: they show the provider's answers, which may repeat a key by themselves.
        """
        root, path = logging.getLogger(), self.folder / "log.txt"
        handler = logging.FileHandler(path)
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(name)s %(levelname)s %(threadName)s %(message)s %(args)s")
        )
        handler.addFilter(lambda record: httpcore or not record.name.startswith("httpcore"))
        before, config = root.level, structlog.get_config()
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        with (self.folder / "structlog.jsonl").open("a") as file:
            structlog.configure(
                processors=[
                    structlog.processors.add_log_level,
                    structlog.processors.dict_tracebacks,
                    structlog.processors.JSONRenderer(default=repr),
                ],
                wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
                logger_factory=structlog.WriteLoggerFactory(file),
                cache_logger_on_first_use=False,
            )
            try:
                yield
            finally:
                structlog.configure(**config)
                root.removeHandler(handler)
                root.setLevel(before)
                handler.close()

    # -- exceptions -------------------------------------------------------------------------------------------------

    def error(self, error: BaseException) -> None:
        """Write down an exception, as logs, consoles and error reporters show it, with all it was caused by."""
        self.errors += 1
        for one in _chain(error):
            facts = one.facts if isinstance(one, Refused) else None
            self.add("errors.txt", f"{one!r}\n{one}\n{one.args!r}\n{vars(one)!r}\n{facts!r}")
            if isinstance(one, BudgetGuardError):
                again = pickle.dumps(one)
                self.add("errors.pickle", again)
                self.add("errors.txt", repr(pickle.loads(again)))  # noqa: S301 - our own
        self.add("tracebacks.txt", "".join(traceback.format_exception(error)))
        self._variables(error)
        # The same values again, by tools that take their time: twice for each way an exception came.
        self._ways[_way(error)] += 1
        if self._ways[_way(error)] <= _TIMES:
            for longest in (80, _LONG):
                self._rich(error, longest)
                self._structlog(error, longest)

    def _variables(self, error: BaseException) -> None:
        shown = [traceback.TracebackException.from_exception(error, capture_locals=True)]
        while shown:
            one = shown.pop()
            shown += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]
            for frame in one.stack:
                place = self.folder if _is_ours(frame.filename) else self.foreign
                if place is not None:
                    text = f"{frame.filename}:{frame.lineno} {frame.name} {frame.locals}"
                    self._add(place / "variables.txt", text)

    def _rich(self, error: BaseException, longest: int) -> None:
        given: Any = {"show_locals": True, "locals_max_string": longest, "locals_max_length": 100}
        trace = Traceback.extract(type(error), error, error.__traceback__, **given)
        for stack in trace.stacks:
            stack.frames = [frame for frame in stack.frames if _is_ours(frame.filename)]
            for frame in stack.frames:
                values = [f"{name}={node}" for name, node in (frame.locals or {}).items()]
                self.add("rich.txt", f"{frame.filename}:{frame.lineno} {frame.name} {', '.join(values)}")
        if (
            type(error) not in self._printed and len(self._printed) < _SCREENS
        ):  # as it is on the screen, which takes long
            self._printed.add(type(error))
            out = io.StringIO()
            Console(file=out, width=200, no_color=True).print(Traceback(trace, extra_lines=0, **given))
            self.add("rich-screen.txt", out.getvalue())

    def _structlog(self, error: BaseException, longest: int) -> None:
        write = ExceptionDictTransformer(locals_max_string=longest, locals_max_length=100, max_frames=1000)
        for one in write((type(error), error, error.__traceback__)):
            one["frames"] = [frame for frame in one["frames"] if _is_ours(frame["filename"])]
            self.add("structlog-tracebacks.txt", repr(one))

    # -- objects, frames and files ----------------------------------------------------------------------------------

    def show(self, *things: object) -> None:
        """Write down how objects show themselves, all they lead to, and their pickles, where they have some."""
        for thing in things:
            self.add("shown.txt", f"{thing!r}\n{thing}")
            self.add("objects.txt", "\n".join(_reached(thing, set())))
            try:
                self.add("objects.pickle", pickle.dumps(thing))
            except Exception as error:  # noqa: BLE001 - most objects have none
                self.add("objects.txt", f"no pickle: {error!r}")

    def stacks(self) -> None:
        """Write down what stands in the library's frames: of this thread, of others that wait, of coroutines that do.

        Once for each place it is called from, as looking for coroutines takes long.
        """
        here = threading.get_ident()
        place = tuple(f"{code.co_qualname}:{line}" for code, line in _places(sys._getframe(1)))
        self._looks[place] += 1
        if self._looks[place] > 1:
            return
        for thread, frame in sys._current_frames().items():
            # A thread that was stopped in the middle of a line of ours waits for nothing.
            if thread == here or not _is_ours(frame.f_code.co_filename):
                self._frames(frame, "thread")
        kinds: Any = types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType
        for thing in gc.get_objects():
            if isinstance(thing, kinds):
                for name in ("cr_frame", "gi_frame", "ag_frame"):
                    suspended: types.FrameType | None = getattr(thing, name, None)
                    if suspended is not None and not _running(thing) and _is_ours(suspended.f_code.co_filename):
                        self._frames(suspended, "coroutine")

    def _frames(self, frame: types.FrameType | None, what: str) -> None:
        while frame is not None:
            if _is_ours(frame.f_code.co_filename):
                self.add("stacks.txt", f"{what} {frame.f_code.co_qualname}:{frame.f_lineno} {_shown(frame.f_locals)}")
            frame = frame.f_back

    def copy(self, source: Path, name: str) -> None:
        """Copy the files of a folder that is in use."""
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink():
                self.add(f"{name}/{path.relative_to(source)}", path.read_bytes())


def _places(frame: types.FrameType | None) -> Iterator[tuple[types.CodeType, int]]:
    while frame is not None:
        if _is_ours(frame.f_code.co_filename):
            yield frame.f_code, frame.f_lineno
        frame = frame.f_back


def _way(error: BaseException) -> tuple[Any, ...]:
    places = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return (*(type(one) for one in _chain(error)), *places)


def _running(thing: Any) -> bool:
    return any(getattr(thing, name, False) for name in ("cr_running", "gi_running", "ag_running"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            inner: Iterable[BaseException] = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            left += [other for other in (one.__cause__, one.__context__, *inner) if other is not None]


def _shown(values: dict[str, Any]) -> str:
    parts = []
    for name, value in list(values.items()):
        try:
            parts.append(f"{name}={value!r}")
        except Exception as error:  # noqa: BLE001 - another thread may be changing it
            parts.append(f"{name}: {type(error).__name__}")
    return ", ".join(parts)


def _reached(thing: Any, seen: set[int]) -> Iterator[str]:
    """Give the text of all that one of our objects leads to, as ``repr`` and ``vars`` show it."""
    if id(thing) in seen or thing is None or isinstance(thing, int | float | type):
        return
    seen.add(id(thing))
    if isinstance(thing, str | bytes | bytearray):
        yield repr(thing)
    elif isinstance(thing, dict):
        for item in [*thing.keys(), *thing.values()]:
            yield from _reached(item, seen)
    elif isinstance(thing, list | tuple | set | frozenset):
        for item in list(thing):
            yield from _reached(item, seen)
    elif type(thing).__module__.startswith(("budgetguard", "cachetools", "weakref", "collections")):
        yield repr(thing)
        names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
        for name in {*names, *getattr(thing, "__dict__", {})}:
            yield from _reached(getattr(thing, str(name), None), seen)
        if hasattr(thing, "items"):
            yield from _reached(dict(thing.items()), seen)
