"""Asks pip-audit whether a version in ``constraints.txt`` has a known vulnerability.

Run as ``python -m tests.house.audit``. Ends with an error if one has, and with none where the service that knows them
cannot be reached: it says so then, since nothing was audited. pip-audit by itself may call that "no known
vulnerabilities".
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from tests.house.source import ROOT

_PINS = ROOT / "constraints.txt"
_INSTALL_SECONDS, _AUDIT_SECONDS = 180, 120
_NO_NETWORK = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|NameResolutionError|Max retries exceeded|"
    r"ServiceError|HTTPError|Could not find a version|No matching distribution"
)


def verdict(code: int, out: str, err: str) -> tuple[str, int]:
    """Say what an audit came to, and with which exit code to end: 1 for a vulnerability, 2 for a failure unknown.

    Args:
        code: pip-audit's own exit code.
        out: What it wrote to stdout, as JSON.
        err: What it wrote to stderr.
    """
    try:
        found: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = err.strip().rpartition("\n")[2][:300]
        if _NO_NETWORK.search(err):
            return f"Nothing was audited: the service cannot be reached ({last}).", 0
        return f"The audit failed with exit code {code}: {last}", 2
    skipped = [one for one in found if "skip_reason" in one]
    bad = [
        f"{one['name']} {one['version']}: {vuln['id']}, mended in {' or '.join(vuln['fix_versions']) or 'none yet'}"
        for one in found
        for vuln in one.get("vulns", ())
    ]
    if bad:
        return "\n".join(["Vulnerabilities are known:", *bad]), 1
    if len(skipped) == len(found):
        return (
            f"Nothing was audited: the service knows none of the {len(found)} packages, so it is not the real one.",
            0,
        )
    more = f", {len(skipped)} could not be looked up: {', '.join(one['name'] for one in skipped)}" if skipped else ""
    return f"{len(found) - len(skipped)} packages audited, no known vulnerability{more}.", 0


def _audit(folder: Path) -> tuple[str, int]:
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    install = [str(scripts / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    command = [str(scripts / "pip-audit"), "-r", str(_PINS), "--no-deps", "--disable-pip", "-f", "json"]
    limits = ["--timeout", "10", "--progress-spinner", "off"]
    try:
        got = subprocess.run(
            [*install, "-c", str(_PINS), "pip-audit"],
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
        if got.returncode:
            return f"Nothing was audited: pip-audit cannot be installed here ({got.stderr.strip()[-300:]}).", 0
        done = subprocess.run([*command, *limits], capture_output=True, text=True, timeout=_AUDIT_SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        return f"Nothing was audited: no answer within {late.timeout:.0f} s.", 0
    return verdict(done.returncode, done.stdout, done.stderr)


def main() -> None:
    """Audit, and say what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        said, code = _audit(Path(folder))
    print(said)
    sys.exit(code)


if __name__ == "__main__":
    main()
