"""Ctrl-C, twice if need be, and the end of a process: with real signals to real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pool.ground import PATIENCE

ROOT = Path(__file__).parents[2]

BEFORE = """
import sys, threading
from tests.pool.ground import Ground, wait_until
from tests.support.vidu import KEY, PRICE

ground = Ground()
guard = ground.guard()

def say(word):
    print(word, flush=True)

def when_three_run():
    wait_until(ground, lambda: ground.running == 3 and len(ground.taken) in (0, 4))
    say("running")

def state():
    state = guard.state(KEY)
    pool = state.pools[""]
    say(f"open={pool.open} waiting={pool.waiting} free={state.credits_free} begun={len(ground.begun)}")

threading.Thread(target=when_three_run, daemon=True).start()
"""


@contextmanager
def process(code: str) -> Generator[subprocess.Popen[str]]:
    """Run some code in a process of its own."""
    command = [sys.executable, "-c", BEFORE + code]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], PATIENCE)
    assert ready, "the process said nothing"
    return child.stdout.readline().strip()


def interrupt(child: subprocess.Popen[str]) -> None:
    os.kill(child.pid, signal.SIGINT)


CONSUMER = """
try:
    with guard.pool(credits=PRICE) as pool:
        for _ in pool.map(ground.job, ground.items(1_000_000)):
            pass
except KeyboardInterrupt:
    state()
    say("interrupted")
"""


def test_ctrl_c_begins_nothing_more_and_waits_for_what_runs() -> None:
    with process(
        "threading.Thread(target=lambda: (sys.stdin.readline(), ground.end()), daemon=True).start()\n" + CONSUMER
    ) as child:
        assert line(child) == "running"
        interrupt(child)
        time.sleep(0.2)  # it must still be there, and only time shows that
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.write("end\n")
        child.stdin.flush()
        assert line(child) == "open=0 waiting=0 free=970 begun=3"
        assert line(child) == "interrupted"
        assert child.wait(PATIENCE) == 0


def test_a_second_ctrl_c_gives_the_waiting_up() -> None:
    with process(CONSUMER) as child:
        assert line(child) == "running"
        interrupt(child)
        time.sleep(0.2)  # until the first was taken; only time shows that
        interrupt(child)
        assert line(child) == "open=3 waiting=0 free=970 begun=3"
        assert line(child) == "interrupted"
        assert child.wait(PATIENCE) == 0


def test_ctrl_c_while_the_block_waits_for_its_jobs_begins_nothing_more() -> None:
    code = """
try:
    with guard.pool(credits=PRICE) as pool:
        pool.map(ground.job, ground.items(1_000_000))
        threading.Thread(target=lambda: (sys.stdin.readline(), ground.end()), daemon=True).start()
except KeyboardInterrupt:
    state()
"""
    with process(code) as child:
        assert line(child) == "running"
        interrupt(child)
        time.sleep(0.2)  # until it was taken; only time shows that
        assert child.stdin is not None
        child.stdin.write("end\n")
        child.stdin.flush()
        assert line(child) == "open=0 waiting=0 free=970 begun=3"
        assert child.wait(PATIENCE) == 0


def test_a_process_that_ends_sees_its_running_jobs_through_and_begins_nothing_more() -> None:
    code = """
import atexit
atexit.register(state)  # before the pool's own, so called after it
import budgetguard.pool.pools as pools
atexit.unregister(pools._leave), atexit.register(pools._leave)
pool = guard.pool(credits=PRICE)
futures = [pool.submit(ground.job, number) for number in range(10)]
wait_until(ground, lambda: ground.running == 3)
timer = threading.Timer(0.1, ground.end)
timer.daemon = True  # others are waited for before anybody hears of the end
timer.start()
"""
    with process(code) as child:
        said = [line(child), line(child)]
        assert "open=0 waiting=0 free=970 begun=3" in said
        assert child.wait(PATIENCE) == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_on_an_event_loop_ends_every_hold(backend: str) -> None:
    code = f"""
import anyio
aguard = ground.async_guard()

async def main():
    async with aguard.pool() as pool:
        async for _ in pool.map(ground.ajob, ground.items(1_000_000)):
            pass
try:
    anyio.run(main, backend={backend!r})
except KeyboardInterrupt:
    state()
"""
    with process(code) as child:
        assert line(child) == "running"
        interrupt(child)
        assert line(child) == "open=0 waiting=0 free=1000 begun=3"
        assert child.wait(PATIENCE) == 0
