"""A real Celery worker, with two processes, on a real Valkey, against a provider over real HTTP."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult

from budgetguard.celery import GuardedTask, TaskRefused
from budgetguard.errors import InsufficientCredits, SettingError
from budgetguard.guard import Guard
from budgetguard.testing import FakeVidu
from tests.celery_tasks import shop
from tests.support.valkey import ValkeyServer, valkey_server
from tests.support.vidu import KEY, PRICE, made_up, quick, vidu

ROOT = Path(__file__).parents[2]
PATIENCE = 40.0


__all__ = ["valkey_server"]


class Shop:
    """The application, its worker and what they need."""

    def __init__(self, fake: FakeVidu, server: ValkeyServer, log: Path) -> None:
        self.fake = fake
        self.socket = f"{server.folder}/s"
        self.log = log
        self.guard = Guard(vidu(fake.url), store=f"unix://{self.socket}", policy=quick(), api_key=KEY)

    @contextmanager
    def working(self) -> Generator[None]:
        """Have a worker with two processes."""
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.celery_tasks.shop",
            "worker",
            "--pool",
            "prefork",
            "-c",
            "2",
        ]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO"]
        environment = {**os.environ, "SHOP_SOCKET": self.socket, "SHOP_URL": self.fake.url}
        with self.log.open("wb") as log:
            worker = subprocess.Popen([*command, *quiet], cwd=ROOT, env=environment, stdout=log, stderr=log)
            try:
                assert shop.ping.delay().get(timeout=PATIENCE) == "pong"
                yield
            finally:
                worker.terminate()
                try:
                    worker.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    worker.kill()
                    worker.wait(PATIENCE)


@pytest.fixture(scope="module")
def server(valkey_server: ValkeyServer) -> ValkeyServer:
    socket = f"{valkey_server.folder}/s"
    shop.app.conf.update(
        broker_url=f"redis+socket://{socket}?virtual_host=1", result_backend=f"redis+socket://{socket}?virtual_host=2"
    )
    return valkey_server


@pytest.fixture
def run(server: ValkeyServer, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Begin with an empty server and a provider of one's own."""
    server.client.flushall()
    with ExitStack() as opened:

        def begin(**settings: Any) -> Shop:
            fake = made_up(**settings)
            opened.enter_context(fake.serve())
            here = Shop(fake, server, tmp_path / "worker.log")
            opened.callback(here.guard.close)
            return here

        yield begin


def until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(line) for line in path.read_text(encoding="ascii").split()] if path.exists() else []


def test_tasks_that_wait_for_a_slot_hold_no_worker_and_burn_no_retries(
    run: Callable[..., Shop], tmp_path: Path
) -> None:
    here = run(limit=1, duration=0.1)
    with here.working():
        crowd = shop.linger.delay(str(tmp_path))
        until(lambda: len(pids(tmp_path)) == 1)
        waiting: list[AsyncResult[Any]] = [shop.render.delay(number) for number in range(4)]
        until(lambda: all(result.state == "RETRY" for result in waiting))
        # Four wait, one runs, and of two processes one is free.
        assert shop.ping.delay().get(timeout=PATIENCE) == "pong"
        (tmp_path / "go").touch()
        assert crowd.get(timeout=PATIENCE) in pids(tmp_path)
        found = [result.get(timeout=PATIENCE) for result in waiting]
    assert [one["number"] for one in found] == [0, 1, 2, 3]
    assert {one["retries"] for one in found} == {0}
    assert min(one["waits"] for one in found) >= 1
    assert max(one["waits"] for one in found) >= 2  # more often than the task's own retries would allow
    assert here.fake.journal.breaches == 0
    assert here.fake.journal.running_max == 1
    state = here.guard.state(KEY)
    assert (state.pools[""].open, state.pools[""].running, state.pools[""].waiting) == (0, 0, 0)


def test_a_task_the_balance_does_not_cover_fails_for_good_and_tells_its_numbers(run: Callable[..., Shop]) -> None:
    here = run(credits=15, limit=5, duration=0.05)
    with here.working():
        assert shop.render.delay(1).get(timeout=PATIENCE)["number"] == 1
        result = shop.render.delay(2)
        with pytest.raises(InsufficientCredits) as caught:
            result.get(timeout=PATIENCE)
    assert result.state == "FAILURE"
    refused = caught.value
    assert isinstance(refused, TaskRefused)
    assert (refused.needed, refused.available, refused.shortfall) == (PRICE, 5, 5)
    assert refused.account == here.guard.account_name(KEY)
    assert "Top up at least 5 credits" in str(refused)
    assert here.fake.journal.submits == 1
    assert here.fake.journal.breaches == 0


def test_the_hold_of_a_lost_worker_ends_with_its_lease_and_the_task_is_admitted_anew(
    run: Callable[..., Shop], tmp_path: Path
) -> None:
    here = run(limit=1)
    with here.working():
        result = shop.linger.delay(str(tmp_path))
        until(lambda: len(pids(tmp_path)) == 1)
        (first,) = pids(tmp_path)
        # Longer than the lease: it is renewed while the process lives.
        time.sleep(2.5)
        state = here.guard.state(KEY)
        assert (state.pools[""].open, state.credits_held) == (1, PRICE)
        os.kill(first, signal.SIGKILL)
        until(lambda: len(pids(tmp_path)) == 2)
        (tmp_path / "go").touch()
        second = result.get(timeout=PATIENCE)
    assert second == pids(tmp_path)[1] != first
    until(lambda: here.guard.state(KEY).pools[""].open == 0)


def test_called_directly_a_task_waits_like_a_job(run: Callable[..., Shop], tmp_path: Path) -> None:
    here = run(limit=1)
    (tmp_path / "go").touch()

    @shop.app.task(base=GuardedTask, guard=here.guard, credits=PRICE)
    def direct(path: str) -> int:
        permit = here.guard.current_permit()
        permit.settle(charge=3)
        return permit.credits

    assert direct(str(tmp_path)) == PRICE
    assert direct.apply((str(tmp_path),)).get() == PRICE
    assert here.guard.state().pools[""].open == 0


def test_a_task_without_a_guard_says_what_is_missing() -> None:
    @shop.app.task(base=GuardedTask)
    def nobody() -> None: ...

    with pytest.raises(SettingError, match="base=GuardedTask, guard="):
        nobody()


def test_a_refusal_survives_json_and_pickle() -> None:
    refused = TaskRefused(InsufficientCredits(account="vidu:studio", needed=35, available=12, held=3, balance=15).facts)
    for again in (TaskRefused(*json.loads(json.dumps(refused.args))), pickle.loads(pickle.dumps(refused))):  # noqa: S301 - our own
        assert (again.needed, again.available, again.shortfall, again.balance) == (35, 12, 23, 15)
        assert str(again) == str(refused)
        assert again.facts == refused.facts
