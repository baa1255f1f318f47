import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from typer.testing import CliRunner

from budgetguard.cli.fake import app

COMMAND = [sys.executable, "-W", "error", "-c", "from budgetguard.cli.fake import app; app()"]


@pytest.fixture
def env() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}


class Running:
    """The command in a process of its own, up to the line that says it listens."""

    def __init__(self, *args: str, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *args, "--port", "0"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.text = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            if "_API_KEY=" in line:
                break
        found = re.search(r"http://127\.0\.0\.1:\d+", self.text)
        assert found, self.text
        self.url = found.group()

    def interrupt(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        text, _ = self.process.communicate(timeout=30)
        return self.process.returncode, text


@pytest.fixture
def running(request: pytest.FixtureRequest, env: dict[str, str]) -> Iterator[Running]:
    running = Running(*request.param, env=env)
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.mark.parametrize("command", ["vidu", "udio"])
def test_the_help_names_what_can_be_set(command: str, env: dict[str, str]) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env=env)
    assert result.exit_code == 0
    for option in ("--port", "--credits", "--limit", "--mode", "--duration", "--seed", "--key"):
        assert option in result.output


@pytest.mark.parametrize(
    "running",
    [["vidu", "--credits", "50", "--limit", "2", "--mode", "reject", "--duration", "2:6", "--price", "20"]],
    indirect=True,
)
def test_a_fake_vidu_runs_until_interrupted_and_says_what_it_saw(running: Running) -> None:
    assert "50 credits, 2 slots, mode reject" in running.text
    assert "any key is accepted" in running.text
    assert f"VIDU_API_KEY=demo budgetguard status vidu --base-url {running.url}" in running.text
    with httpx.Client(base_url=running.url, headers={"Authorization": "Token demo"}) as client:
        statuses = [client.post("/ent/v2/text2video", json={}).status_code for _ in range(3)]
    assert statuses == [200, 200, 400]
    told = next(line for line in running.text.splitlines() if "_API_KEY=" in line)
    status = subprocess.run(  # noqa: S602 - the line a person would copy
        told.replace("budgetguard", f"{sys.executable} -c 'from budgetguard.cli import main; main()'"),
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert status.returncode == 0, status.stderr
    assert "10" in status.stdout
    code, text = running.interrupt()
    assert code == 0, text
    for name, value in {"submits": "3", "accepted": "2", "refused credits": "1", "charged": "40"}.items():
        assert re.search(rf"{name}\s+\W\s+{value}\s", text), text


@pytest.mark.parametrize("running", [["udio", "--key", "a", "--key", "b", "--style", "envelope"]], indirect=True)
def test_a_fake_udio_accepts_only_the_keys_named(running: Running) -> None:
    assert "2 accepted, all others refused" in running.text
    for key, code in (("a", 200), ("b", 200), ("c", 401)):
        answer = httpx.get(f"{running.url}/api/v2/credits", headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["code"]) == (200, code)
    assert running.interrupt()[0] == 0


def test_a_taken_port_is_an_error_in_one_line(env: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, "vidu", "--port", port], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"budgetguard fake: cannot listen on 127.0.0.1:{port}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "args",
    [
        ["vidu", "--duration", "soon"],
        ["vidu", "--duration", "1:2:3"],
        ["vidu", "--mode", "panic"],
        ["vidu", "--speed", "0"],
        ["udio", "--style", "baroque"],
        ["udio", "--mode", "panic"],
    ],
)
def test_a_senseless_setting_is_a_usage_error(args: list[str], env: dict[str, str]) -> None:
    result = CliRunner().invoke(app, args, env=env)
    assert result.exit_code == 2
    assert "Usage" in result.output
