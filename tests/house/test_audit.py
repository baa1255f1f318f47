"""The audit of the dependencies finds what is known, and does not take silence for good news."""

from __future__ import annotations

import json
from typing import Any

from tests.house.audit import verdict

FINE = {"name": "httpx", "version": "0.28.1", "vulns": []}
UNKNOWN = {"name": "anyio", "skip_reason": "Dependency not found"}
BAD = {"name": "h11", "version": "0.14.0", "vulns": [{"id": "CVE-2025-43859", "fix_versions": ["0.16.0"]}]}


def said(*found: Any, code: int = 0, err: str = "") -> tuple[str, int]:
    return verdict(code, json.dumps({"dependencies": found}), err)


def test_a_known_vulnerability_is_an_error_that_names_the_remedy() -> None:
    text, code = said(FINE, UNKNOWN, BAD, code=1)
    assert code == 1
    assert "h11 0.14.0: CVE-2025-43859, mended in 0.16.0" in text


def test_packages_without_one_are_fine_and_those_not_looked_up_are_named() -> None:
    assert said(FINE) == ("1 packages audited, no known vulnerability.", 0)
    text, code = said(FINE, UNKNOWN)
    assert (code, "1 could not be looked up: anyio" in text) == (0, True)


def test_a_service_that_knows_no_package_at_all_has_audited_nothing() -> None:
    text, code = said(UNKNOWN, UNKNOWN, err="No known vulnerabilities found")
    assert (code, text.startswith("Nothing was audited")) == (0, True)


def test_a_network_that_refuses_is_reported_and_is_no_error() -> None:
    err = "Traceback ...\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(...): Max retries exceeded"
    text, code = verdict(1, "", err)
    assert (code, text.startswith("Nothing was audited")) == (0, True)


def test_a_failure_nobody_understands_is_an_error() -> None:
    assert verdict(2, "", "usage: pip-audit [-h]\npip-audit: error: unrecognized arguments: --x")[1] == 2
    assert verdict(0, '{"other": 1}', "")[1] == 2
