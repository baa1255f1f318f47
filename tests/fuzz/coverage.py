"""The search that the coverage guides, for parsers of bytes: a case that reaches a new branch is spoilt further.

It needs atheris, which comes as a wheel for Linux on x86-64 only, and so runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["guide"]

_SEEDS = 300
_PROGRAM = """
import sys
import atheris
with atheris.instrument_imports(include=["budgetguard", "json", "tomllib"], enable_loader_override=False):
    from tests.fuzz.targets import made
target = made({name!r})
atheris.Setup(sys.argv, target.run)
atheris.Fuzz()
"""


def guide(name: str, seconds: float, seed: int, findings: Path) -> int:
    """Let the coverage guide a search of one target; gives 1 if it found something, 2 if that cannot be done here."""
    from tests.fuzz.targets import TARGETS, made

    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("Atheris is not installed: it has wheels for Linux on x86-64 only.\n")
        return 2
    if name not in TARGETS or not made(name).guided:
        guided = [other for other in TARGETS if made(other).guided]
        sys.stderr.write(f"Coverage guides {', '.join(guided)}; the others are not read as bytes.\n")
        return 2
    target = made(name)
    with tempfile.TemporaryDirectory(prefix="bg-corpus-") as corpus:
        for number in range(_SEEDS):
            case = target.draw(random.Random(f"{seed} {name} {number}"))
            Path(corpus, f"{number:04}").write_bytes(case)
        findings.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-c",
            _PROGRAM.format(name=name),
            corpus,
            f"-max_total_time={max(1, round(seconds))}",
        ]
        command += [f"-seed={seed % 2**31}", "-max_len=20000", "-print_final_stats=1", "-verbosity=0"]
        command += [f"-artifact_prefix={findings}/{name}-"]
        return 1 if subprocess.run(command, check=False).returncode else 0
