"""A store made before a fork serves parent and child."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.valkey import ValkeyServer, valkey_server

__all__ = ["valkey_server"]

PROGRAM = """\
import asyncio, os, sys, threading
from budgetguard.ports import Transaction
from budgetguard.stores.redis import RedisStore

store = RedisStore(sys.argv[1])
ADD, WAKE = Transaction(add={"x": 1}), Transaction(add={"x": 1}, wake=True)
bell = threading.Semaphore(0)
store.watch("a", bell.release)
assert bell.acquire(timeout=10)
busy = threading.Thread(target=lambda: [store.transact("a", ADD) for _ in range(200)])
busy.start()

async def act():
    for _ in range(10):
        assert (await store.atransact("a", ADD)).applied

async def act_on():
    await act()
    ready.set()
    while not done.is_set():
        await asyncio.sleep(0.01)

ready, done = threading.Event(), threading.Event()
looping = threading.Thread(target=lambda: asyncio.run(act_on()))  # its connections are open when the process forks
looping.start()
assert ready.wait(10)

children = []
for _ in range(3):
    pid = os.fork()
    if not pid:
        try:
            for _ in range(50):
                assert store.transact("a", ADD).applied
            asyncio.run(act())
            assert bell.acquire(timeout=10), "the child was not told that it hears again"
            store.close()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
busy.join()
done.set()
looping.join()
assert store.transact("a", WAKE).applied
asyncio.run(act())
assert store.load("a").counters == {"x": 200 + 3 * 60 + 1 + 2 * 10}, store.load("a").counters
store.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_store_made_before_a_fork_serves_parent_and_child(valkey_server: ValkeyServer) -> None:
    warnings = ("-W", "error", "-W", "ignore::DeprecationWarning")  # of forking while threads run
    command = [sys.executable, *warnings, "-c", PROGRAM, valkey_server.url]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
