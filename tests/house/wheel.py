"""Looks into a built wheel, then imports it where nothing but its own dependencies is installed.

Run as ``python -m tests.house.wheel dist/*.whl``; ends with an error if anything is missing or too much.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.house.source import PACKAGE, ROOT

METADATA = frozenset({"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"})
SHIPPED = frozenset({".lua", ".py", ".toml", ".typed"})  # The last is py.typed.
IMPORTED = "budgetguard, budgetguard.errors, budgetguard.events, budgetguard.providers, budgetguard.stores"


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
    if f"{PACKAGE}/py.typed" not in inside:
        yield "not marked as typed: py.typed is missing"


def import_alone(wheel: Path) -> None:
    """Install the wheel into an environment of its own, and import it from a folder that is not the repository."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv", with_pip=True)
        python = home / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(wheel.resolve())], check=True)
        subprocess.run([str(python), "-I", "-W", "error", "-c", f"import {IMPORTED}"], check=True, cwd=home)


def main() -> None:
    """Check the one wheel named on the command line."""
    (name,) = sys.argv[1:]
    wheel = Path(name)
    with zipfile.ZipFile(wheel) as archive:
        names = [entry for entry in archive.namelist() if not entry.endswith("/")]
    found = list(faults(names, package_files()))
    if found:
        sys.exit("\n".join([f"{wheel.name} is not as it should be:", *found]))
    print(f"{wheel.name}: {len(names)} files, all as they should be")
    import_alone(wheel)
    print(f"{wheel.name}: installs and imports with its own dependencies alone")


if __name__ == "__main__":
    main()
