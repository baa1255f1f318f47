"""The public names are a list, and it stands here: a name comes or goes only together with a line of this file."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.house.source import PACKAGE, assert_none, modules, tree

PUBLIC: dict[str, set[str]] = {
    "budgetguard": {
        "AsyncPool",
        "JobResult",
        "Pool",
        "PoolReport",
        "AsyncGuard",
        "AsyncGuardTransport",
        "AsyncPermit",
        "BudgetGuardError",
        "CallbackError",
        "CreditsUnavailable",
        "Guard",
        "GuardTransport",
        "InsufficientCredits",
        "InsufficientSlots",
        "NoResult",
        "Permit",
        "PermitError",
        "Plan",
        "PlannedJob",
        "Policy",
        "PoolState",
        "ProviderError",
        "QueueFull",
        "QueueTimeout",
        "Quote",
        "ReadingError",
        "Recovered",
        "Refused",
        "SettingError",
        "State",
        "StoreError",
        "TaskFailed",
        "TaskNotStarted",
        "TaskState",
        "TaskUnfinished",
        "UnknownPrice",
        "__version__",
    },
    "budgetguard.celery": {"GuardedTask", "TaskRefused"},
    "budgetguard.errors": {
        "BudgetGuardError",
        "CallbackError",
        "CreditsUnavailable",
        "InsufficientCredits",
        "InsufficientSlots",
        "PermitError",
        "ProviderError",
        "QueueFull",
        "QueueTimeout",
        "ReadingError",
        "Refused",
        "SettingError",
        "StoreError",
        "UnknownPrice",
    },
    "budgetguard.events": {
        "Admitted",
        "Event",
        "Expired",
        "Joined",
        "LowBalance",
        "Observer",
        "OutcomeUnknown",
        "Overspent",
        "Paused",
        "PriceMismatch",
        "Queued",
        "RefreshFailed",
        "Refreshed",
        "RefusedByProvider",
        "RefusedCall",
        "Released",
        "Settled",
        "StoreFound",
        "StoreLost",
        "StrangerSeen",
        "TaskEnded",
    },
    "budgetguard.instruments": {"LogObserver"},
    "budgetguard.model": {
        "Balance",
        "Capacity",
        "Outcome",
        "Package",
        "PoolState",
        "Quote",
        "Reading",
        "Recovered",
        "Route",
        "RouteKind",
        "State",
        "TaskSeen",
        "TaskState",
        "Verdict",
    },
    "budgetguard.policy": {"Policy"},
    "budgetguard.pool": {
        "Arrivals",
        "AsyncPool",
        "JobResult",
        "NotRun",
        "Pool",
        "PoolJob",
        "PoolProgress",
        "PoolReport",
        "Results",
    },
    "budgetguard.ports": {
        "Answer",
        "AsyncStore",
        "Loaded",
        "Provider",
        "ProviderRequest",
        "Put",
        "Scanned",
        "Store",
        "Transacted",
        "Transaction",
    },
    "budgetguard.providers": {"UdioPro", "Vidu"},
    "budgetguard.stores": {"MemoryStore", "RedisStore", "SQLiteStore", "open_store"},
    "budgetguard.task_errors": {"NoResult", "TaskFailed", "TaskNotStarted", "TaskUnfinished"},
    "budgetguard.tasks": {"AsyncTaskRunning", "AsyncTasks", "TaskRunning", "Tasks"},
    "budgetguard.testing": {
        "AccountState",
        "AsyncStoreContract",
        "StoreContract",
        "Clock",
        "Entry",
        "Fact",
        "FakeUdio",
        "FakeVidu",
        "InProcessTransport",
        "Journal",
        "ManualClock",
        "PrepaidAccount",
        "Serving",
        "SystemClock",
    },
    "budgetguard.webhooks": {"CallbackProvider", "WebhookApp", "webhook_app"},
}
FACES = (PACKAGE, f"{PACKAGE}.providers", f"{PACKAGE}.stores", f"{PACKAGE}.testing", f"{PACKAGE}.instruments")
SINCE = re.compile(r"\bSince \d+\.\d+")


def docstring(module: str, name: str) -> str:
    """The text that documents a public name, followed through re-exports to where it is defined.

    A class that says nothing of its age has that of its base in the same module: events came as one family.
    """
    body = [
        node
        for statement in tree(module).body
        for node in (statement.body if isinstance(statement, ast.If) else [statement])
    ]
    for node, following in itertools.zip_longest(body, body[1:]):
        match node:
            case ast.ClassDef() if node.name == name:
                text = ast.get_docstring(node) or ""
                bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                local = {other.name for other in body if isinstance(other, ast.ClassDef)}
                return text + "".join(f"\n{docstring(module, base)}" for base in bases if text and base in local)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                return ast.get_docstring(node) or ""
            case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                return beside(following)
            case ast.ImportFrom(module=str(source)) if source in modules():
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return docstring(source, alias.name)
            case _:
                pass
    home = getattr(getattr(importlib.import_module(module), name, None), "__module__", module)
    return docstring(home, name) if home != module else ""


def beside(node: ast.stmt | None) -> str:
    """The string that stands below an assignment, which Python itself does not keep."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return ""


def differences(module: ModuleType, expected: set[str]) -> Iterator[str]:
    names: list[str] = list(getattr(module, "__all__", []))
    yield from (f"{module.__name__}.{name} is public but not listed" for name in sorted(set(names) - expected))
    yield from (f"{module.__name__}.{name} is listed but not in __all__" for name in sorted(expected - set(names)))
    yield from (f"{module.__name__}.{name} does not exist" for name in names if not hasattr(module, name))
    yield from (f"{module.__name__}.{name} is named twice" for name in sorted(set(names)) if names.count(name) > 1)


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_the_public_names_of_a_module_are_those_listed_and_can_be_imported(module: str) -> None:
    assert_none(differences(importlib.import_module(module), PUBLIC[module]))


@pytest.mark.parametrize("module", FACES)
def test_a_face_of_the_package_that_exports_something_is_listed(module: str) -> None:
    assert module in PUBLIC or not getattr(importlib.import_module(module), "__all__", [])


@pytest.mark.parametrize(
    ("module", "name"), sorted((m, n) for m, names in PUBLIC.items() for n in names if n[0] != "_")
)
def test_every_public_name_is_documented_and_says_since_when_it_exists(module: str, name: str) -> None:
    text = docstring(module, name)
    assert text, f"{module}.{name} has no docstring"
    assert SINCE.search(text), f"{module}.{name} does not say since which version it exists"


def test_a_name_too_many_too_few_missing_or_doubled_is_found() -> None:
    sample = ModuleType("sample")
    sample.__dict__.update(__all__=["kept", "kept", "extra", "ghost"], kept=1, extra=2)
    assert list(differences(sample, {"kept", "lost"})) == [
        "sample.extra is public but not listed",
        "sample.ghost is public but not listed",
        "sample.lost is listed but not in __all__",
        "sample.ghost does not exist",
        "sample.kept is named twice",
    ]


def test_the_docstring_of_a_value_is_the_text_below_it() -> None:
    assert beside(ast.parse('"""What it is. Since 0.1."""').body[0]) == "What it is. Since 0.1."
    assert not beside(ast.parse("x = 1").body[0])
    assert not beside(None)


def test_a_docstring_without_a_version_is_found() -> None:
    assert SINCE.search("A thing. Since 0.1.")
    assert not SINCE.search("A thing, since we like it.")
