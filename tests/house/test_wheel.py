"""The look into the wheel can fail."""

from __future__ import annotations

from tests.house.wheel import METADATA, faults, package_files

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
