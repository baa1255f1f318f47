"""A module is one noun, and no noun needs more than 400 lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.house.source import PACKAGE, assert_none, modules

LINES_MAX = 400


def too_long(sources: Mapping[str, str]) -> Iterator[str]:
    for module, text in sources.items():
        lines = len(text.splitlines())
        if lines > LINES_MAX:
            yield f"{module} has {lines} lines, more than {LINES_MAX}: find the second noun in it"


def test_no_module_has_more_than_400_lines() -> None:
    assert_none(too_long({name: path.read_text(encoding="utf-8") for name, path in modules().items()}))


def test_no_script_of_the_package_has_more_than_400_lines() -> None:
    folder = modules()[PACKAGE].parent
    scripts = {path.name: path.read_text(encoding="utf-8") for path in folder.rglob("*.lua")}
    assert scripts
    assert_none(too_long(scripts))


def test_a_module_one_line_too_long_is_found() -> None:
    assert list(too_long({"exact": "x\n" * LINES_MAX})) == []
    assert "401 lines" in next(too_long({"longer": "x\n" * (LINES_MAX + 1)}))
