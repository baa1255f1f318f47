"""What the guards share: which modules there are, and what they import."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "budgetguard"


class Import(NamedTuple):
    """One import: the deepest module it names, and the line it stands in."""

    target: str
    line: int


@cache
def modules() -> Mapping[str, Path]:
    """Find every module of the package, by its dotted name."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return MappingProxyType(found)


@cache
def tree(module: str) -> ast.Module:
    """Read a module of the package; not to be changed."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imports(source: str, module: str, *, is_package: bool = False, known: Collection[str] = ()) -> Iterator[Import]:
    """Find everything a module imports: at its top, inside functions, for type checkers only, or by name at run time.

    Args:
        source: The module's text.
        module: Its dotted name, against which relative imports are read.
        is_package: Whether the text is that of an ``__init__.py``.
        known: Names that are modules, so that ``from package import module`` can be told from importing a value.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + is_package]
                base = ".".join([*kept, *([node.module] if node.module else [])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield Import(deeper if deeper in known else base, node.lineno)
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield Import(name.value, node.lineno)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def assert_none(problems: Iterable[str]) -> None:
    """Fail with all problems, a line each, if there are any."""
    found = list(problems)
    assert not found, "\n".join(["", *found])


def calls(source: str) -> Iterator[tuple[str, int]]:
    """Find every call of a bare name, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node.lineno
