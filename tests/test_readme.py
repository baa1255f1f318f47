"""What the README shows, runs."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest

from budgetguard import tasks
from budgetguard.policy import Policy
from budgetguard.testing import FakeUdio, FakeVidu

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = "".join(page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md")))
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README + DOCS, flags=re.DOTALL | re.MULTILINE)


class Both:
    """Answers for both providers, in process, whatever the host; and for the one that is made up."""

    def __init__(self) -> None:
        self.vidu = FakeVidu(credits=500, limit=5, duration=0.0).transport()
        self.udio = FakeUdio(credits=500, duration=0.0).transport()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "pictures.example":
            assert request.url.path == "/v1/balance"
            return httpx.Response(200, json={"cents": 500})
        inner = self.udio if request.url.host == "udioapi.pro" else self.vidu
        return inner.handle_request(request)


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - that is the test
    main: Callable[[], Any] | None = names.get("main")
    if main is not None and inspect.iscoroutinefunction(main):
        anyio.run(main)
    return names


@pytest.fixture(autouse=True)
def providers_in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # a snippet may leave a file behind
    both = Both()
    monkeypatch.setattr(httpx, "HTTPTransport", lambda: httpx.MockTransport(both))
    monkeypatch.setattr(httpx, "AsyncHTTPTransport", lambda: httpx.MockTransport(both))
    monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: None))


def test_there_are_snippets_to_run() -> None:
    assert len(SNIPPETS) >= 5


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_runs_as_printed(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if "fake.serve()" in SNIPPETS[number]:
        monkeypatch.undo()  # this one talks to a real server
    run(SNIPPETS[number])


def test_the_defaults_in_the_table_of_settings_are_the_policys() -> None:
    policy = Policy()
    shown = {
        "max_age": f"{policy.max_age:.0f} s",
        "exclusive": str(policy.exclusive),
        "on_credits_error": f'"{policy.on_credits_error}"',
        "unknown_price": f'"{policy.unknown_price}"',
    }
    for name, default in shown.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}`"))
        assert default in row.split("|")[2], row


def test_every_file_the_readme_points_to_is_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_every_file_the_docs_point_to_is_there() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_refusal_is_in_the_table() -> None:
    from budgetguard.errors import Refused

    for refusal in Refused.__subclasses__():
        assert f"`{refusal.__name__}`" in README, refusal
