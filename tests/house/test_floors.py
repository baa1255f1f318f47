"""Imports go down, never up, and never to the package root.

To add a module at the top of the package, give it a floor here. Rooms of one floor do not know each other.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Mapping

from tests.house.source import PACKAGE, assert_none, imports, modules

FLOORS: tuple[tuple[frozenset[str], ...], ...] = (
    (
        frozenset({"_documents", "_half_made", "_hidden", "_settings", "_version"})
        | {"errors", "model", "events", "policy", "ports", "task_errors"},
    ),
    (frozenset({"_core"}),),
    (frozenset({"providers"}), frozenset({"stores"})),
    (frozenset({"_fingerprints", "_believed", "_echoes", "_names", "_scope", "_tokens", "engine", "_drivers"}),),
    (
        frozenset(
            {
                "_asking",
                "_checks",
                "_bodies",
                "_desk",
                "_handle",
                "_paid",
                "_plain",
                "_http",
                "_reserving",
                "transport",
                "permit",
                "job",
                "pool",
                "tasks",
            }
        )
        | {"_batch", "_following", "plan", "tasks"},
    ),
    (frozenset({"guard"}),),
    (frozenset({"instruments"}), frozenset({"testing"}), frozenset({"webhooks"}), frozenset({"celery"})),
    (frozenset({"cli", "__main__"}),),
)
PLACES = {
    name: (floor, room) for floor, rooms in enumerate(FLOORS) for room, names in enumerate(rooms) for name in names
}


def place(module: str) -> tuple[int, int] | None:
    """Floor and room of a module; the package root stands above all."""
    return (len(FLOORS), 0) if module == PACKAGE else PLACES.get(module.split(".")[1])


def edges(sources: Mapping[str, str], packages: frozenset[str]) -> dict[str, dict[str, int]]:
    """Who imports whom of ours, and in which line."""
    graph: dict[str, dict[str, int]] = {}
    for module, text in sources.items():
        found = imports(text, module, is_package=module in packages, known=sources.keys())
        graph[module] = {target: line for target, line in found if target.split(".")[0] == PACKAGE}
    return graph


def wrong_arrows(graph: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    for module, targets in graph.items():
        here = place(module)
        if here is None:
            yield f"{module} has no floor yet: give it one in {__name__}.FLOORS"
            continue
        for target, line in targets.items():
            there = place(target)
            if target == PACKAGE:
                yield f"{module}:{line} imports from the package root"
            elif there is None:
                yield f"{module}:{line} imports {target}, which has no floor"
            elif there[0] > here[0]:
                yield f"{module}:{line} imports {target} from floor {there[0]}, above its own {here[0]}"
            elif there[0] == here[0] and there[1] != here[1]:
                yield f"{module}:{line} imports {target}, from another room of floor {here[0]}"


def cycle(graph: Mapping[str, Mapping[str, int]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def the_house() -> dict[str, dict[str, int]]:
    found = modules()
    packages = frozenset(name for name, path in found.items() if path.name == "__init__.py")
    return edges({name: path.read_text(encoding="utf-8") for name, path in found.items()}, packages)


def test_no_module_imports_from_above() -> None:
    assert_none(wrong_arrows(the_house()))


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert_none(cycle(the_house()))


def test_every_module_of_the_package_is_looked_at() -> None:
    assert {f"{PACKAGE}.errors", f"{PACKAGE}._core", PACKAGE} <= the_house().keys()


def complaints(**sources: str) -> list[str]:
    named = {f"{PACKAGE}.{name.replace('__', '.')}": text for name, text in sources.items()}
    packages = frozenset({f"{PACKAGE}.stores"})
    return list(wrong_arrows(edges(named, packages)))


def test_an_import_from_a_higher_floor_is_found_wherever_it_hides() -> None:
    above = "from budgetguard.guard import Guard"
    for text in (
        above,
        "import budgetguard.guard",
        "import budgetguard.guard as g",
        f"def f():\n    {above}",
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {above}",
        "from ..guard import Guard",
        "import importlib\nimportlib.import_module('budgetguard.guard')",
    ):
        (complaint,) = complaints(_core__line=text, guard="")
        assert "imports budgetguard.guard from floor 5, above its own 1" in complaint, text


def test_an_import_from_the_package_root_is_found_even_from_the_highest_floor() -> None:
    for text in ("from budgetguard import Guard", "import budgetguard", "from .. import Guard"):
        (complaint,) = complaints(cli__main=text)
        assert "imports from the package root" in complaint, text


def test_providers_and_stores_do_not_know_each_other() -> None:
    (complaint,) = complaints(providers__vidu="from budgetguard.stores.memory import MemoryStore", stores__memory="")
    assert "another room of floor 2" in complaint


def test_siblings_and_lower_floors_may_be_imported() -> None:
    assert not complaints(
        stores="from .memory import MemoryStore",
        stores__memory="from budgetguard.ports import Store\nimport json",
        stores__sqlite="from budgetguard.stores.memory import MemoryStore",
        ports="from budgetguard.model import Quote",
        model="",
    )


def test_a_module_without_a_floor_is_found() -> None:
    assert "has no floor yet" in complaints(helpers="")[0]


def test_a_circle_is_found_even_inside_one_room() -> None:
    late = "def f():\n    from budgetguard import model\n    from budgetguard.model import Reading"
    sources = {"budgetguard.model": "from budgetguard.events import Event", "budgetguard.events": late}
    assert set(cycle(edges(sources, frozenset()))) == sources.keys()
