"""The command line, given odd arguments, files and answers: a line of complaint and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from budgetguard.cli.app import app
from tests.fuzz import corpus
from tests.fuzz.spoil import NUMBERS, damaged, mixed
from tests.fuzz.target import Broken, Target, joined, parted

__all__ = ["Commands"]

_KEY = "sk-9f81c3e07d5b42aa"
_COMMANDS = ("price vidu", "price udio", "plan", "status vidu", "status udio")
_NAMED = (
    [["a", "b"], 5, None, True, {"path": 5, "body": {}}, {"path": "text2video", "body": None}]
    + [{"path": "text2video", "body": body} for body in corpus.VIDU_BODIES]
    + [{"credits": 5, "slots": 1, "label": "[/red]\x1b[2J", "seconds": 1e300}, {"credits": -1}, {"seconds": "5"}]
)
_ODD = (
    *NUMBERS,
    "",
    "-",
    "\ud800",
    "[red]",
    "x" * 5000,
    "--",
    "nan",
    "~nobody_of_that_name/x",
    "/",
    f"https://u:{_KEY}@h",
)
_OPTIONS = {
    "price vidu": ("--path", "--prices", "--source-seconds-max"),
    "price udio": ("--path", "--prices"),
    "plan": ("--order", "--seconds", "--concurrency", "--prices", "--store", "--provider", "--base-url"),
    "status vidu": ("--base-url", "--min-credits", "--store", "--account", "--key-env", "--fingerprint-key-env"),
    "status udio": ("--base-url", "--concurrency", "--min-credits", "--store"),
}


class Commands(Target):
    """A command."""

    name = "commands"
    examples = 15

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bg-fuzz-")
        self._file = Path(self._folder.name) / "given"
        self._answer = (200, b"")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._url = f"http://127.0.0.1:{self._server.server_port}"
        self._runner = CliRunner()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = target._answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - its name there

        return Handler

    def draw(self, chance: random.Random) -> bytes:
        command = chance.choice(_COMMANDS)
        facts: dict[str, Any] = {"command": command, "json": chance.random() < 0.5}
        if command.startswith("status"):
            facts["status"] = chance.choice((200, 200, 200, 401, 404, 429, 500))
            credits = corpus.VIDU_CREDITS if command.endswith("vidu") else corpus.UDIO_CREDITS
            body = mixed(chance, credits)
        else:
            body = b"\n".join(mixed(chance, [*_NAMED, *corpus.VIDU_BODIES]) for _ in range(chance.choice((1, 1, 3))))
        if chance.random() < 0.4:
            facts["options"] = {chance.choice(_OPTIONS[command]): chance.choice(_ODD)}
        if chance.random() < 0.1:
            facts["file"] = chance.choice(_ODD)
        return joined(facts, damaged(chance, body) if chance.random() < 0.1 else body)

    def run(self, case: bytes) -> None:
        facts, body = parted(case)
        command = str(facts.get("command", "price vidu"))
        if command not in _COMMANDS:
            return
        words: list[str] = [*command.split()]
        options: Any = facts.get("options")
        options = options if isinstance(options, dict) else {}
        if command.startswith("status"):
            status = facts.get("status")
            self._answer = (status if isinstance(status, int) and 200 <= status <= 599 else 200, body)
            given = {"--base-url": self._url, "--store": "memory:"}
        else:
            self._answer = (200, b'{"remains": []}')
            self._file.write_bytes(body)
            words.append(str(facts.get("file", self._file)))
            given = {"--base-url": self._url} if command == "plan" else {"--path": "text2video"}
        for name, value in {**given, **options}.items():
            words += [str(name), str(value)]
        if facts.get("json"):
            words.append("--json")
        with _environment():
            result = self._runner.invoke(app, words, env={"VIDU_API_KEY": _KEY, "UDIO_API_KEY": _KEY})
        error = result.exception
        if error is not None and not isinstance(error, SystemExit):
            raise error
        if result.exit_code not in (0, 1, 2, 3):
            raise Broken(f"{words} ended with {result.exit_code}")
        if _KEY in result.output and _KEY not in " ".join(words):
            raise Broken(f"{words} shows the key")
        if "\x1b[2J" in result.output or "\x1b]" in result.output:
            raise Broken(f"{words} lets a provider's text command the terminal")
        if result.exit_code and not result.output.strip():
            raise Broken(f"{words} ended with {result.exit_code} and said nothing")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()


@contextlib.contextmanager
def _environment() -> Generator[None]:
    """Keep away from the files of whoever runs this."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = "/nonexistent"
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before
