"""Looks into a built wheel and source archive, then tests the wheel where nothing but what it needs is installed.

Run as ``python -m tests.house.wheel dist``; ends with an error if anything is missing or too much. The tests marked as
smoke are copied to a folder that is not the repository, so it is the installed package that they test.
"""

from __future__ import annotations

import base64
import csv
import email
import email.message
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from tests.house.source import PACKAGE, ROOT

METADATA = frozenset({"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"})
SHIPPED = frozenset({".lua", ".py", ".toml", ".typed"})  # The last is py.typed.
SOURCE = frozenset({"CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "pyproject.toml", "PKG-INFO", ".gitignore"})
SMOKE = "pytest.mark.smoke"
TOOLS = ("hypothesis", "pytest", "pytest-timeout")


def package_files() -> set[str]:
    """Every file of the package in the tree that is code, data or the marker for type checkers.

    Whatever else lies there was left behind, and a wheel that has it is at fault.
    """
    files = (ROOT / PACKAGE).rglob("*")
    return {path.relative_to(ROOT).as_posix() for path in files if path.suffix in SHIPPED}


def faults(names: Collection[str], expected: Collection[str]) -> Iterator[str]:
    """Compare what a wheel holds with what it should.

    Args:
        names: The files in the wheel.
        expected: The files of the package.
    """
    inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    about = {name.partition("/")[2] for name in names if name not in inside}
    yield from (f"missing: {name}" for name in sorted(set(expected) - inside))
    yield from (f"does not belong there: {name}" for name in sorted(inside - set(expected)))
    yield from (f"missing in the metadata: {name}" for name in sorted(METADATA - about))
    yield from (f"does not belong into the metadata: {name}" for name in sorted(about - METADATA))
    if f"{PACKAGE}/py.typed" not in inside:
        yield "not marked as typed: py.typed is missing"


def record_faults(files: Mapping[str, bytes], record: str) -> Iterator[str]:
    """Compare the files of a wheel with what its RECORD says of them."""
    rows = {name: (digest, size) for name, digest, size in csv.reader(record.splitlines())}
    yield from (f"not in RECORD: {name}" for name in sorted(files.keys() - rows.keys()))
    yield from (f"in RECORD alone: {name}" for name in sorted(rows.keys() - files.keys()))
    for name, content in files.items():
        digest, size = rows.get(name, ("", ""))
        real = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        if not name.endswith("/RECORD") and (digest, size) != (f"sha256={real}", str(len(content))):
            yield f"is not what RECORD says: {name}"


def metadata_faults(about: email.message.Message, project: Mapping[str, object], version: str) -> Iterator[str]:
    """Compare a wheel's metadata with ``pyproject.toml``."""
    expected = {
        "Name": project["name"],
        "Version": version,
        "Requires-Python": project["requires-python"],
        "License-Expression": project["license"],
        "License-File": "LICENSE",
        "Description-Content-Type": "text/markdown",
    }
    yield from (f"{name} is {about[name]!r}, not {value!r}" for name, value in expected.items() if about[name] != value)
    needed = [line for line in about.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = sorted(_name(line) for line in needed)
    wanted = sorted(_name(line) for line in project["dependencies"])  # type: ignore[attr-defined]
    if names != wanted:
        yield f"needs {', '.join(names)}, not {', '.join(wanted)}"


def _name(requirement: str) -> str:
    return requirement.partition(";")[0].replace("<", ">").partition(">")[0].partition("=")[0].strip()


def source_faults(names: Collection[str], expected: Collection[str]) -> Iterator[str]:
    """Compare what a source archive holds, below its one folder, with what it should."""
    yield from (f"missing: {name}" for name in sorted((set(expected) | SOURCE) - set(names)))
    for name in sorted(names):
        if (
            name not in SOURCE
            and name not in expected
            and not (name.startswith("tests/") and "__pycache__" not in name)
        ):
            yield f"does not belong there: {name}"


def smoke_tests() -> list[str]:
    """The test modules that need nothing but the library and pytest."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [path.relative_to(ROOT).as_posix() for path in files if f"\npytestmark = {SMOKE}" in path.read_text("utf-8")]


def tried_alone(wheel: Path) -> None:
    """Install the wheel into an environment of its own, and test it from a folder that is not the repository."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        python = str(home / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(wheel.resolve())], check=True)
        alone = "import budgetguard.errors, budgetguard.events, budgetguard.providers, budgetguard.stores"
        subprocess.run([python, "-I", "-W", "error", "-c", alone], check=True, cwd=home)
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), *TOOLS], check=True)
        shutil.copytree(ROOT / "tests", home / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", home)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        environment["BUDGETGUARD_INSTALLED_IN"] = str(home / "venv")
        tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *smoke_tests()]
        subprocess.run(tests, check=True, cwd=home, env=environment)


def main() -> None:
    """Check the one wheel and the one source archive in the folder named on the command line."""
    (dist,) = map(Path, sys.argv[1:])
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    about = next(name.partition("/")[0] for name in files if name.endswith(".dist-info/RECORD"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    metadata = email.message_from_bytes(files[f"{about}/METADATA"])
    found = [
        *faults(list(files), package_files()),
        *record_faults(files, files[f"{about}/RECORD"].decode()),
        *metadata_faults(metadata, project, wheel.name.split("-")[1]),
    ]
    with tarfile.open(source) as packed:
        names = [entry.name.partition("/")[2] for entry in packed.getmembers() if entry.isfile()]
    found += [f"source archive: {fault}" for fault in source_faults(names, package_files())]
    if found:
        sys.exit("\n".join([f"{wheel.name} is not as it should be:", *found]))
    print(f"{wheel.name}: {len(files)} files, all as they should be; {source.name}: {len(names)} files, too")
    tried_alone(wheel)
    print(f"{wheel.name}: installs, imports and passes the smoke tests with its own dependencies alone")


if __name__ == "__main__":
    main()
