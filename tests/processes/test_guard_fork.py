"""A guard made before a fork serves parent and child, whoever waits in the parent's line at that moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from budgetguard.testing import FakeVidu

PROGRAM = """\
import os, sys, threading, time
from budgetguard import AsyncGuard, Guard
from budgetguard.providers import Vidu
from budgetguard.stores import SQLiteStore

url, path = sys.argv[1:]
store = SQLiteStore(path)
guard = Guard(Vidu(base_url=url), store=store, api_key="a-key")
first = guard.reserve(credits=10)                      # the only slot
guards = [guard, AsyncGuard(Vidu(base_url=url), store=store, api_key="a-key")]
asked_with = [(one.asking, one.asking._inner) for one in guards]


def wait():
    with guard.reserve(credits=10):
        print("the parent's", flush=True)


waiting = threading.Thread(target=wait)
waiting.start()
while not guard.state().pools[""].waiting:
    time.sleep(0.001)
with guard.engine.account("a-key").lock:               # as a thread of the parent may hold it just now
    pid = os.fork()
if not pid:
    try:
        assert guard.state().pools[""].waiting == 0
        for one, (asking, inner) in zip(guards, asked_with):
            assert one.asking is not asking and one.asking._inner is not inner and one.asking is one.asking
        with guard.reserve(credits=10, deadline=30):
            print("the child's", flush=True)
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
time.sleep(0.05)
first.release()
waiting.join()
assert [(one.asking, one.asking._inner) for one in guards] == asked_with
assert os.waitpid(pid, 0)[1] == 0
store.close()
guard.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_child_does_not_stand_behind_those_who_wait_in_its_parent(tmp_path: Path) -> None:
    fake = FakeVidu(credits=100, limit=1, mode="reject")
    warnings = ("-W", "error", "-W", "ignore::DeprecationWarning")  # of forking while threads run
    with fake.serve() as url:
        command = [sys.executable, *warnings, "-c", PROGRAM, url, str(tmp_path / "accounts.db")]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == ["the child's", "the parent's"]


QUICK = """\
import os, threading
from budgetguard import Guard
from budgetguard.errors import QueueTimeout
from budgetguard.providers import UdioPro
from budgetguard.testing import FakeUdio

fake = FakeUdio(credits=100)
with fake.serve() as url:
    guard = Guard(UdioPro(base_url=url, concurrency=2), api_key="a-key")
    for _ in range(3):
        guard.reserve(credits=1).release()             # plain from here on
    (account,) = guard.engine.accounts()
    first, second = guard.reserve(credits=1), guard.reserve(credits=1)
    waiting = threading.Thread(target=lambda: guard.reserve(credits=1).release())
    waiting.start()
    while not account.line("").waiting:
        pass
    with guard.engine.store.books(account.name).lock:  # as a thread of the parent may hold it just now
        pid = os.fork()
    if not pid:
        first.release()
        guard.reserve(credits=1).release()
        assert account._line is account.line("") and not account._line.waiting
        os._exit(0)
    first.release()
    waiting.join()
    assert os.waitpid(pid, 0)[1] == 0
    second.release()
    guard.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_child_goes_on_alone_with_what_its_parent_kept_in_memory() -> None:
    warnings = ("-W", "error", "-W", "ignore::DeprecationWarning")
    command = [sys.executable, *warnings, "-c", QUICK]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
