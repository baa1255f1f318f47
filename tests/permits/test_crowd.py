"""64 callers let go together on a balance worth 10 jobs, 50 ms in each: exactly 10 reach the provider."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from budgetguard.testing import FakeVidu
from tests.permits.crowd import SENT, WAYS, crowd
from tests.support.valkey import ValkeyServer, valkey_server
from tests.support.vidu import PRICE, made_up

__all__ = ["valkey_server"]

CALLERS = 64
WORTH = 10
PROCESSES = 4


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake() -> Iterator[FakeVidu]:
    made = made_up(credits=WORTH * PRICE, limit=CALLERS, latency=0.05)
    with made.serve():
        yield made
    assert made.journal.submits == made.journal.accepted == WORTH
    assert made.journal.breaches == 0


def check(ended: Counter[str]) -> None:
    assert ended == {SENT: WORTH, "InsufficientCredits": CALLERS - WORTH}


@pytest.fixture(scope="module")
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that wait for orders; they make everything else anew for each."""
    command = [sys.executable, "-W", "error", "-m", "tests.permits.crowd"]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    try:
        yield started
        for process in started:
            said, _ = process.communicate(timeout=60)
            assert (said, process.returncode) == ("", 0)
    finally:
        for process in started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def in_processes(
    processes: list[subprocess.Popen[str]], url: str, store: str, way: str, crews: list[tuple[int, int]]
) -> Counter[str]:
    """Let callers go in several processes, each with so many threads and tasks."""
    ended: Counter[str] = Counter()
    at_work = processes[: len(crews)]
    assert len(at_work) == len(crews)
    for process, (threads, tasks) in zip(at_work, crews, strict=True):
        tell(process, f"{url}\t{store}\t{way}\t{threads}\t{tasks}")
    for process in at_work:
        assert hear(process) == "ready\n"
    for process in at_work:
        tell(process, "go")
    for process in at_work:
        sent, refused, unforeseen = hear(process).split(" ", 2)
        assert unforeseen == "[]\n"
        ended.update({SENT: int(sent), "InsufficientCredits": int(refused)})
    return ended


def test_of_64_threads_10_reach_the_provider(fake: FakeVidu, way: str) -> None:
    check(crowd(fake.url, None, way, CALLERS, 0, lambda: None))


def test_of_64_tasks_10_reach_the_provider(fake: FakeVidu, way: str) -> None:
    check(crowd(fake.url, None, way, 0, CALLERS, lambda: None))


def test_of_64_in_processes_on_sqlite_10_reach_the_provider(
    fake: FakeVidu, way: str, processes: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    crews = [(CALLERS // PROCESSES, 0)] * PROCESSES
    check(in_processes(processes, fake.url, f"sqlite:///{tmp_path}/accounts.db", way, crews))


def test_of_64_in_processes_on_valkey_10_reach_the_provider(
    fake: FakeVidu, way: str, processes: list[subprocess.Popen[str]], valkey_server: ValkeyServer
) -> None:
    valkey_server.client.flushall()
    crews = [(CALLERS // PROCESSES, 0)] * PROCESSES
    check(in_processes(processes, fake.url, valkey_server.url, way, crews))


@pytest.mark.parametrize("store", ["sqlite", "valkey"])
def test_of_64_in_a_mixture_of_processes_threads_and_tasks_10_reach_the_provider(
    fake: FakeVidu,
    way: str,
    store: str,
    processes: list[subprocess.Popen[str]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    address = f"sqlite:///{tmp_path}/accounts.db"
    if store == "valkey":
        server: ValkeyServer = request.getfixturevalue("valkey_server")
        server.client.flushall()
        address = server.url
    check(in_processes(processes, fake.url, address, way, [(16, 0), (0, 16), (16, 16)]))
