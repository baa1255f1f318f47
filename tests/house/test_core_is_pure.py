"""The core never tells the time, rolls dice, logs, starts a thread or does I/O: it imports only what cannot."""

from __future__ import annotations

from collections.abc import Iterator

from tests.house.source import PACKAGE, assert_none, calls, imports, modules
from tests.house.test_floors import FLOORS

CORE = f"{PACKAGE}._core"
ALLOWED = frozenset(
    {
        "__future__",
        "bisect",
        "collections",
        "collections.abc",
        "contextlib",
        "dataclasses",
        "enum",
        "functools",
        "heapq",
        "itertools",
        "math",
        "operator",
        "types",
        "typing",
        "zlib",
    }
)
OURS = tuple(f"{PACKAGE}.{name}" for floor in FLOORS[:2] for room in floor for name in sorted(room))
FORBIDDEN_CALLS = frozenset({"__import__", "breakpoint", "compile", "eval", "exec", "input", "open", "print"})


def impurities(source: str, module: str = f"{CORE}.sample", *, is_package: bool = False) -> Iterator[str]:
    for target, line in imports(source, module, is_package=is_package):
        if target not in ALLOWED and not any(target == ours or target.startswith(f"{ours}.") for ours in OURS):
            yield f"{module}:{line} imports {target}"
    for name, line in calls(source):
        if name in FORBIDDEN_CALLS:
            yield f"{module}:{line} calls {name}()"


def test_the_core_decides_without_touching_the_world() -> None:
    core = {name: path for name, path in modules().items() if name == CORE or name.startswith(f"{CORE}.")}
    assert core
    assert_none(
        problem
        for name, path in core.items()
        for problem in impurities(path.read_text(encoding="utf-8"), name, is_package=path.name == "__init__.py")
    )


def test_a_clock_a_die_a_thread_or_a_socket_in_the_core_is_found() -> None:
    for name in ("time", "datetime", "random", "uuid", "threading", "anyio", "logging", "httpx", "os", "asyncio.locks"):
        assert list(impurities(f"def f():\n    import {name}")) == [f"{CORE}.sample:2 imports {name}"]


def test_an_import_of_a_higher_floor_in_the_core_is_found() -> None:
    assert list(impurities("from budgetguard.stores.memory import MemoryStore"))


def test_a_call_that_reads_or_prints_in_the_core_is_found() -> None:
    assert list(impurities("x = 1\nprint(x)")) == [f"{CORE}.sample:2 calls print()"]


def test_values_protocols_and_siblings_are_allowed_in_the_core() -> None:
    assert not list(
        impurities("from collections.abc import Mapping\nfrom budgetguard.model import Quote\nimport heapq")
    )
    assert not list(impurities("from . import line\nfrom .line import Line\nfrom budgetguard._core.line import Line"))
