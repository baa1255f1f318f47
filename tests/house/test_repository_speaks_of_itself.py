"""What is tracked speaks of the project alone: not of the machine it was written on, nor of where packages came from.

Paths and registry hosts that are right on one machine are wrong on the next, and a lock file carries both.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tests.house.source import ROOT, assert_none

# Put together here, so that this file may be tracked too.
HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("anaconda", "org"),
        ("crates", "io"),
        ("golang", "org"),
        ("rubygems", "org"),
        ("debian", "org"),
        ("ubuntu", "com"),
    )
)
FOLDERS = tuple("/".join(("", *parts, "")) for parts in (("work",), ("root",), ("tmp", "bash_jobs"), ("opt", "wheels")))
ELSEWHERE = re.compile("|".join([*(re.escape(host) for host in HOSTS), *(rf"(?<![\w.~-]){f}" for f in FOLDERS)]))
LOCKS = frozenset(
    {
        "uv.lock",
        "poetry.lock",
        "pdm.lock",
        "Pipfile.lock",
        "pylock.toml",
        "package-lock.json",
        "yarn.lock",
        "pnpm-lock.yaml",
    }
)
SKIPPED = frozenset({".git", ".venv", "__pycache__", "dist", "build"})


def tracked() -> list[Path]:
    """Every tracked file; in an unpacked source archive, which has no history, every file."""
    if not (ROOT / ".git").exists():
        return [p for p in ROOT.rglob("*") if p.is_file() and SKIPPED.isdisjoint(p.relative_to(ROOT).parts)]
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def strangers(name: str, content: bytes) -> Iterator[str]:
    if PurePosixPath(name).name in LOCKS:
        yield f"{name} is a lock file: constraints.txt pins versions without addresses"
    if b"\0" in content:
        return
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        for match in ELSEWHERE.finditer(line):
            yield f"{name}:{number} names {match[0]}"


def test_no_tracked_file_names_a_machine_or_a_package_registry() -> None:
    files = tracked()
    assert ROOT / "pyproject.toml" in files
    assert_none(
        problem for path in files for problem in strangers(path.relative_to(ROOT).as_posix(), path.read_bytes())
    )


def test_a_registry_host_is_found() -> None:
    for host in HOSTS:
        assert list(strangers("notes.md", f"one\nsee https://{host}/simple".encode())) == [f"notes.md:2 names {host}"]


def test_a_path_of_one_machine_is_found() -> None:
    for folder in FOLDERS:
        assert list(strangers("a.py", f"PATH = '{folder}main'".encode())) == [f"a.py:1 names {folder}"]


def test_a_lock_file_is_found_by_its_name() -> None:
    assert list(strangers("docs/uv.lock", b""))


def test_ordinary_addresses_and_binary_files_are_left_alone() -> None:
    ordinary = "https://api.example.com/v1/work/12 build/root/x ~/work/x"
    assert list(strangers("a.md", ordinary.encode())) == []
    assert list(strangers("a.bin", b"\0" + HOSTS[0].encode())) == []
