"""One file, several processes: forked, killed at any moment, waiting for each other."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from budgetguard.ports import Put, Transaction
from budgetguard.stores.sqlite import SQLiteStore

HEAD = """
import asyncio, json, os, sys, threading, time
from budgetguard.errors import StoreError
from budgetguard.ports import Put, Transaction
from budgetguard.stores.sqlite import SQLiteStore
path = sys.argv[1]
store = SQLiteStore(path, busy_timeout=20.0)
def say(*what):
    print(json.dumps(what), flush=True)
"""


def start(path: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(code), str(path), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(path: Path, code: str, *arguments: str) -> Generator[tuple[IO[str], IO[str]]]:
    process = start(path, code, *arguments)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdin, process.stdout
        process.stdin.close()
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    assert process.returncode == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.db"


WORKER = """
import itertools
number = sys.argv[2]
for turn in itertools.count():
    key = f"{number} {turn}"
    done = store.transact("a", Transaction(
        add={"held": 1, "free": -1}, floor={"free": 0}, put={key: Put(b"1", 60.0)}, wake=True))
    say("held", key, done.applied, done.now)
    if turn % 3:
        done = store.transact("a", Transaction(
            add={"held": -1, "free": 1, "ended": 1}, drop={key: b"1"}, put={"e" + key: Put(b"2")}))
        say("ended", key, done.applied, done.now)
"""


def test_processes_killed_at_any_moment_leave_whole_transactions_and_lose_none_that_was_answered(path: Path) -> None:
    rng = random.Random("killed")
    store = SQLiteStore(path, busy_timeout=20.0)
    store.transact("a", Transaction(add={"free": 1_000_000}))
    answered: list[list[object]] = []

    def life(number: int, seconds: float) -> None:
        process = start(path, WORKER, str(number))
        assert process.stdin is not None
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # it is at work
        killer = threading.Timer(seconds, process.kill)
        killer.start()
        lines += process.stdout.readlines()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        answered.extend(json.loads(line) for line in lines if line.endswith("\n"))

    lives = [threading.Thread(target=life, args=(number, rng.uniform(0.0, 0.3))) for number in range(9)]
    for begin in range(0, len(lives), 3):
        for each in lives[begin : begin + 3]:
            each.start()
        for each in lives[begin : begin + 3]:
            each.join()
        assert store.transact("a", Transaction(add={"alive": 1})).applied, "who is left goes on"
    counters, keys, cursor = store.load("a").counters, set[str](), ""
    while True:
        page = store.scan("a", cursor)
        keys.update(page.records)
        cursor = page.cursor
        if not cursor:
            break
    store.close()

    look = sqlite3.connect(path)
    assert look.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    look.close()
    held, ended = {key for key in keys if key[0] != "e"}, {key[1:] for key in keys if key[0] == "e"}
    assert counters["held"] == len(held)
    assert counters["free"] == 1_000_000 - len(held)
    assert counters["ended"] == len(ended)
    assert {key for what, key, applied, _ in answered if what == "ended" and applied} <= ended
    assert {key for what, key, applied, _ in answered if what == "held" and applied} <= held | ended
    assert len(answered) > 9


def test_a_process_stopped_in_a_transaction_is_told_to_the_others_and_undone_when_killed(path: Path) -> None:
    store = SQLiteStore(path, busy_timeout=20.0)
    store.transact("a", Transaction(add={"a": 1}))
    process = start(
        path,
        """
        store.transact("a", Transaction())
        assert store._links.writing.take(store)
        connection = store._links.writer()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE account SET counters = '{\\"a\\":99}'")
        say("in the middle")
        sys.stdin.read()
        """,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline()
    threading.Timer(0.1, process.kill).start()
    assert store.transact("a", Transaction(add={"a": 1})).counters == {"a": 2}
    process.wait()
    process.stdin.close()
    process.stdout.close()
    store.close()


@pytest.mark.parametrize("watch", ["thread", "loop"])
def test_two_processes_wake_each_other(path: Path, watch: str) -> None:
    store, woken = SQLiteStore(path), threading.Event()
    store.watch("a", woken.set)
    store.watch("other", lambda: others.append(1))
    others: list[int] = []
    code = {
        "thread": """
            woken = threading.Event()
            store.watch("a", woken.set)
            store.load("a")
            say("watching")
            for turn in range(1, 6):
                while store.load("a").counters.get("ping", 0) < turn:
                    assert woken.wait(10)
                    woken.clear()
                store.transact("a", Transaction(add={"pong": 1}, wake=True))
            """,
        "loop": """
            async def main():
                woken, loop = asyncio.Event(), asyncio.get_running_loop()
                store.watch("a", lambda: loop.call_soon_threadsafe(woken.set))
                await store.aload("a")
                say("watching")
                for turn in range(1, 6):
                    while (await store.aload("a")).counters.get("ping", 0) < turn:
                        await asyncio.wait_for(woken.wait(), 10)
                        woken.clear()
                    await store.atransact("a", Transaction(add={"pong": 1}, wake=True))
                await store.aclose()
            asyncio.run(main())
            """,
    }[watch]
    with running(path, code) as (_, output):
        assert output.readline()
        for turn in range(1, 6):
            store.transact("a", Transaction(add={"ping": 1}, wake=True))
            while store.load("a").counters.get("pong", 0) < turn:
                assert woken.wait(10)
                woken.clear()
    assert others == [], "who watches another account is left alone"
    store.close()


def test_a_transaction_of_another_process_that_wakes_nobody_wakes_nobody(path: Path) -> None:
    store, calls = SQLiteStore(path), list[int]()
    store.watch("a", lambda: calls.append(store._links.data_version or 0))
    with running(
        path,
        """
        for wake in (False, True):
            sys.stdin.readline()
            say(store.transact("a", Transaction(add={"a": 1}, wake=wake)).applied)
        """,
    ) as (put, output):
        for expected in (False, True):
            before = store.load("a").counters.get("a", 0), store._links.data_version
            put.write("\n")
            put.flush()
            assert output.readline()
            while not calls if expected else store._links.data_version == before[1]:
                time.sleep(0.001)
            assert bool(calls) is expected
    store.close()


def test_time_never_runs_backwards_between_processes(path: Path) -> None:
    store = SQLiteStore(path)
    code = """
        for line in sys.stdin:
            say(store.transact("a", Transaction(add={"x": 1}, stamp=("at",))).now)
        """
    times: list[int] = []
    with running(path, code) as (put, get):
        for turn in range(50):
            if turn % 5 == 0:
                store.close()
            times.append(store.load("a").now if turn % 2 else store.transact("a", Transaction(add={"y": 1})).now)
            put.write("\n")
            put.flush()
            (now,) = json.loads(get.readline())
            times.append(now)
            assert store.load("a").counters["at"] == now
    assert times == sorted(times)
    store.close()


def test_processes_that_begin_at_the_same_moment_make_one_file(path: Path) -> None:
    code = """
        say("ready")
        sys.stdin.readline()
        say(store.transact("a", Transaction(add={"x": 1})).applied)
        store.close()
        """
    processes = [start(path, code) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate(timeout=30)
        assert output == "[true]\n"
    store = SQLiteStore(path)
    assert store.load("a").counters == {"x": 4}
    store.close()


def test_processes_share_one_purse_and_nobody_starves(path: Path) -> None:
    store = SQLiteStore(path)
    store.transact("a", Transaction(add={"purse": 600}))
    code = """
        taken = longest = 0
        say("ready")
        sys.stdin.readline()
        while True:
            begin = time.monotonic()
            done = store.transact("a", Transaction(add={"purse": -1}, floor={"purse": 0}))
            longest = max(longest, time.monotonic() - begin)
            if not done.applied:
                break
            taken += 1
            time.sleep(0.001)
        say(taken, longest)
        """
    processes = [start(path, code) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    shares = [taken for taken, _ in told]
    assert sum(shares) == 600
    assert min(shares) > 30  # of 150 each; how the machine divides its time among them is not the store's doing
    assert store.load("a").counters == {"purse": 0}
    store.close()


FORKED = """
import os, signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which is what is tried here
woken = threading.Event()
store.watch("a", woken.set)
store.transact("a", Transaction(add={"before": 1}))
busy, stop = [], threading.Event()
def work():
    while not stop.is_set():
        busy.append(store.transact("a", Transaction(add={"busy": 1})).applied)
threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads]
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        store.transact("a", Transaction(add={"children": 1}))
        store.load("a", ["x"], due=True)
        inner = os.fork()
        if inner == 0:
            store.transact("a", Transaction(add={"grandchildren": 1}))
            store.close()
            os._exit(0)
        assert os.waitpid(inner, 0)[1] == 0
        woken.clear()
        if number == 0:
            say("watching")
            assert woken.wait(10), "not woken"
        store.close()
        os._exit(0)
    children.append(child)
stop.set()
[thread.join() for thread in threads]
while not sys.stdin.readline():
    pass
store.transact("a", Transaction(add={"after": 1}, wake=True))
for child in children:
    assert os.waitpid(child, 0)[1] == 0
counters = store.load("a").counters
say(counters.pop("busy") == len(busy) and len(busy) > 0, counters)
store.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks there")
def test_a_fork_is_survived_by_parent_child_and_grandchild_in_the_middle_of_work(path: Path) -> None:
    with running(path, FORKED) as (put, output):
        assert json.loads(output.readline()) == ["watching"]
        put.write("go\n")
        put.flush()
        told = json.loads(output.readline())
    assert told == [True, {"before": 1, "children": 3, "grandchildren": 3, "after": 1}]
    look = sqlite3.connect(path)
    assert look.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    look.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks there")
def test_a_fork_that_python_did_not_see_is_told(path: Path) -> None:
    store = SQLiteStore(path)
    store.transact("a", Transaction(put={"r": Put(b"1")}))
    store._links._process = 1
    with pytest.raises(Exception, match=r"forked.*store of its own"):
        store.transact("a", Transaction())
    SQLiteStore(path).close()
