"""The look into the wheel can fail."""

from __future__ import annotations

import base64
import email.message
import hashlib
import tomllib

from tests.house.source import ROOT
from tests.house.wheel import (
    METADATA,
    SOURCE,
    faults,
    metadata_faults,
    package_files,
    record_faults,
    smoke_tests,
    source_faults,
)

INFO = [f"budgetguard_py-0.1.0.dist-info/{name}" for name in METADATA]


def test_a_wheel_with_the_package_and_its_metadata_is_right() -> None:
    assert not list(faults([*package_files(), *INFO], package_files()))


def test_a_price_list_left_out_of_the_wheel_is_found() -> None:
    expected = {"budgetguard/py.typed", "budgetguard/providers/vidu.toml"}
    assert list(faults(["budgetguard/py.typed", *INFO], expected)) == ["missing: budgetguard/providers/vidu.toml"]


def test_a_wheel_that_brings_the_tests_along_is_found() -> None:
    names = ["budgetguard/py.typed", "tests/test_guard.py", *INFO]
    assert list(faults(names, {"budgetguard/py.typed"})) == ["does not belong there: tests/test_guard.py"]


def test_a_wheel_without_licence_or_type_marker_is_found() -> None:
    found = list(faults([name for name in INFO if "LICENSE" not in name], set()))
    assert found == ["missing in the metadata: licenses/LICENSE", "not marked as typed: py.typed is missing"]


def test_a_file_that_is_not_what_the_record_says_is_found() -> None:
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"x").digest()).decode().rstrip("=")
    record = f"a.py,sha256={digest},1\nb.py,sha256={digest},1\nx.dist-info/RECORD,,\n"
    files = {"a.py": b"x", "b.py": b"changed", "c.py": b"", "x.dist-info/RECORD": b""}
    assert list(record_faults(files, record)) == [
        "not in RECORD: c.py",
        "is not what RECORD says: b.py",
        "is not what RECORD says: c.py",
    ]


def test_metadata_that_names_other_needs_or_another_licence_is_found() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    about = email.message.Message()
    right = {
        "Name": "budgetguard-py",
        "Version": "1.0",
        "Requires-Python": ">=3.11",
        "License-Expression": "Apache-2.0",
        "License-File": "LICENSE",
        "Description-Content-Type": "text/markdown",
    }
    for name, value in right.items():
        about[name] = value
    for needed in ("httpx<1,>=0.28", "anyio>=4.11", "cachetools>=6", "structlog>=25.1", 'redis>=6; extra == "redis"'):
        about["Requires-Dist"] = needed
    assert list(metadata_faults(about, project, "1.0")) == []
    about.replace_header("License-Expression", "MIT")
    about["Requires-Dist"] = "requests"
    licence, needs = metadata_faults(about, project, "1.0")
    assert licence == "License-Expression is 'MIT', not 'Apache-2.0'"
    assert "requests" in needs


def test_a_source_archive_with_something_else_or_without_the_licence_is_found() -> None:
    names = (SOURCE - {"LICENSE"}) | {"budgetguard/py.typed", "tests/test_x.py", "tests/__pycache__/x.pyc", "notes.txt"}
    assert list(source_faults(names, {"budgetguard/py.typed"})) == [
        "missing: LICENSE",
        "does not belong there: notes.txt",
        "does not belong there: tests/__pycache__/x.pyc",
    ]


def test_the_tests_marked_as_smoke_are_found_and_are_some() -> None:
    assert "tests/smoke/test_installed.py" in smoke_tests()
    assert len(smoke_tests()) >= 5
