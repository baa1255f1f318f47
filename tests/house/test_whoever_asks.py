"""Whoever can ask for the balance can ask about tasks: a look at the balance ends leases, and asks about tasks first.

Without somebody to ask, a task whose lease is over is given up unasked, and nothing would tell.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.source import assert_none, modules


def one_sided(source: str, module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "run":
            given = {keyword.arg for keyword in node.keywords}
            if "fetch" in given and "ask" not in given:
                yield f"{module}:{node.lineno} gives fetch= and not ask="


def test_no_flow_is_run_with_one_and_without_the_other() -> None:
    assert_none(
        problem for name, path in modules().items() for problem in one_sided(path.read_text(encoding="utf-8"), name)
    )


def test_one_without_the_other_is_found() -> None:
    assert list(one_sided("driver.run(account, flow, fetch=f)", "m")) == ["m:1 gives fetch= and not ask="]
    assert not list(one_sided("driver.run(account, flow, fetch=f, ask=a)\ndriver.run(account, flow)", "m"))
