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


def in_processes(url: str, store: str, way: str, crews: list[tuple[int, int]]) -> Counter[str]:
    """Let callers go in several processes, each with so many threads and tasks."""
    command = [sys.executable, "-W", "error", "-m", "tests.permits.crowd", url, store, way]
    started = [
        subprocess.Popen([*command, str(threads), str(tasks)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for threads, tasks in crews
    ]
    ended: Counter[str] = Counter()
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in started:
            said, _ = process.communicate(timeout=60)
            sent, refused, unforeseen = said.split(" ", 2)
            assert unforeseen == "[]\n"
            ended.update({SENT: int(sent), "InsufficientCredits": int(refused)})
    finally:
        for process in started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
    return ended


def test_of_64_threads_10_reach_the_provider(fake: FakeVidu, way: str) -> None:
    check(crowd(fake.url, None, way, CALLERS, 0, lambda: None))


def test_of_64_tasks_10_reach_the_provider(fake: FakeVidu, way: str) -> None:
    check(crowd(fake.url, None, way, 0, CALLERS, lambda: None))


def test_of_64_in_processes_on_sqlite_10_reach_the_provider(fake: FakeVidu, way: str, tmp_path: Path) -> None:
    crews = [(CALLERS // 4, 0)] * 4
    check(in_processes(fake.url, f"sqlite:///{tmp_path}/accounts.db", way, crews))


def test_of_64_in_processes_on_valkey_10_reach_the_provider(
    fake: FakeVidu, way: str, valkey_server: ValkeyServer
) -> None:
    valkey_server.client.flushall()
    crews = [(CALLERS // 4, 0)] * 4
    check(in_processes(fake.url, valkey_server.url, way, crews))


@pytest.mark.parametrize("store", ["sqlite", "valkey"])
def test_of_64_in_a_mixture_of_processes_threads_and_tasks_10_reach_the_provider(
    fake: FakeVidu, way: str, store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = f"sqlite:///{tmp_path}/accounts.db"
    if store == "valkey":
        server: ValkeyServer = request.getfixturevalue("valkey_server")
        server.client.flushall()
        address = server.url
    check(in_processes(fake.url, address, way, [(16, 0), (0, 16), (16, 16)]))
