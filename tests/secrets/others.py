"""What else writes: callbacks, Celery's messages and results, the commands, the servers' own files."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Generator
from typing import Any

import anyio
import httpx
from celery import Celery
from celery.contrib.testing.worker import start_worker
from typer.testing import CliRunner

from budgetguard import Guard
from budgetguard.celery import GuardedTask
from budgetguard.cli.app import app as command
from budgetguard.errors import BudgetGuardError
from budgetguard.providers import Vidu
from budgetguard.webhooks import webhook_app
from tests.secrets.wire import PROVIDERS
from tests.secrets.written import Written
from tests.support.letters import NOW, Post
from tests.support.valkey import ValkeyServer
from tests.support.vidu import made_up, quick, vidu

__all__ = ["call_back", "commands", "queue_tasks", "watched", "with_server"]


def call_back(written: Written, key: str) -> None:
    """Send callbacks, genuine and forged, and write down the answers."""
    guard = Guard(Vidu(), api_key=key, observers=[written.event], policy=quick())
    app = webhook_app(guard, secret=[key, key + "x"], clock=lambda: NOW)
    posts = [
        Post(key=key), Post(key="vda_another"), Post(key=key, at=NOW - 10_000), Post(key=key, state="dancing"),
        Post(key=key, task=f"../{key}"), Post(key=key, payload="x" * 3_000_000),
    ]  # fmt: skip
    posts[3].body = b"{"

    async def send() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://shop.example") as client:
            for post in posts:
                answer = await client.post(post.target, content=post.body, headers=post.headers)
                written.add("callbacks.txt", f"{answer.status_code} {answer.headers!r} {answer.text}")

    anyio.run(send)
    provider = Vidu()
    for post, secret in ((posts[1], key), (posts[2], key), (posts[3], key), (posts[0], "")):
        try:
            provider.verify_callback(post.method, post.url, post.headers, post.body, secret=secret, now=NOW)
        except BudgetGuardError as error:
            written.error(error)
    wrong: list[dict[str, Any]] = [{"secret": [key, 5]}, {"secret": key, "path": "x"}, {"secret": key, "body_max": 0}]
    for given in wrong:
        try:
            webhook_app(guard, **given)
        except BudgetGuardError as error:
            written.error(error)
    written.show(app)


def queue_tasks(written: Written, key: str) -> None:
    """Send tasks through files, and let a worker run, retry and refuse them."""
    folder = written.folder / "celery"
    for name in ("messages", "done", "results", "control"):
        (folder / name).mkdir(parents=True)
    app = Celery("shop", broker="filesystem://", backend=f"file://{folder}/results")
    app.conf.update(
        broker_transport_options={
            "data_folder_in": f"{folder}/messages",
            "data_folder_out": f"{folder}/messages",
            "processed_folder": f"{folder}/done",
            "store_processed": True,
            "control_folder": f"{folder}/control",
        },
        worker_hijack_root_logger=False,
        worker_send_task_events=True,
        task_send_sent_event=True,
        result_extended=True,
        task_store_errors_even_if_ignored=True,
    )
    fake = made_up(credits=100, limit=1, duration=0.2)
    given: dict[str, Any] = {"policy": quick(max_age=0.01), "api_key": key, "inner": fake.transport()}
    guard = Guard(vidu(), observers=[written.event], **given)
    headers = PROVIDERS["vidu"].headers(key)

    @app.task(base=GuardedTask, guard=guard, credits=lambda number: 10 * number, wait=0.05, wait_max=0.05)
    def render(number: int) -> str:
        with httpx.Client(
            base_url="https://api.vidu.com", headers=headers, transport=guard.transport(fake.transport())
        ) as client:
            task: str = client.post("/ent/v2/text2video", json=PROVIDERS["vidu"].body).json()["task_id"]
            if number == 3:
                raise RuntimeError(number)
            return task

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="DEBUG"):
        results = [render.delay(number) for number in (1, 1, 3, 1000)]
        for result in results:
            with contextlib.suppress(Exception):
                result.get(timeout=20)
            written.add("celery.txt", f"{result!r} {result.state} {result.info!r} {result.traceback}")
    guard.close()


def commands(written: Written, key: str, store: str) -> None:
    """Give every command, right and wrong, with the key in the environment."""
    fake = made_up(credits=100, limit=5, keys=key)
    job = json.dumps({"path": "text2video", "body": PROVIDERS["vidu"].body})
    jobs = written.folder / "jobs.jsonl"
    jobs.write_text(f"{job}\n{job}\n", encoding="utf-8")
    request = written.folder / "request.json"
    request.write_text(json.dumps(PROVIDERS["vidu"].body), encoding="utf-8")
    bad = written.folder / "bad.jsonl"
    bad.write_text("{no json\n", encoding="utf-8")
    with fake.serve() as url:
        at = ["--base-url", url]
        given: list[tuple[list[str], dict[str, str]]] = [
            (["--help"], {}),
            *(
                ([*name.split(), "--help"], {})
                for name in ("status", "status vidu", "status udio", "price", "plan", "demo")
            ),
            *(
                ([*name.split(), "--help"], {})
                for name in ("fake", "fake vidu", "fake udio", "price vidu", "price udio")
            ),
            (["--version"], {}),
            (["status", "vidu", *at], {}),
            (["status", "vidu", *at, "--store", store], {}),
            (["status", "vidu", *at, "--store", store, "--json"], {}),
            (["status", "vidu", *at, "--min-credits", "1000"], {}),
            (["status", "vidu", *at, "--key-env", "NOTHING"], {}),
            (["status", "vidu", *at, "--fingerprint-key-env", "FPK"], {"FPK": key}),
            (["status", "vidu", *at, "--store", f"nonsense:{key[:0]}"], {}),
            (["status", "vidu", *at], {"VIDU_API_KEY": f"{key}\x7f"}),
            (["status", "vidu", *at], {"VIDU_API_KEY": f"{key} x"}),
            (["status", "vidu", *at], {"VIDU_API_KEY": f"x{key}"}),
            (["status", "vidu", "--base-url", "http://127.0.0.1:1"], {}),
            (["status", "udio", *at], {"UDIO_API_KEY": key}),
            (["plan", str(jobs), *at], {}),
            (["plan", str(jobs), *at, "--seconds", "5"], {"VIDU_API_KEY": f"{key}\x7f"}),
            (["plan", str(jobs), *at], {"VIDU_API_KEY": f"x{key}"}),
            (["plan", str(bad), *at], {}),
            (["price", "vidu", str(request), "--path", "text2video"], {}),
            (["price", "vidu", str(bad), "--path", "text2video"], {}),
            (["fake", "vidu", "--duration", "x", "--key", "made-up"], {}),
            (["nonsense"], {}),
        ]
        home = str(written.folder / "home")
        for arguments, more in given:
            environment = {"VIDU_API_KEY": key, "UDIO_API_KEY": key, "HOME": home, "XDG_STATE_HOME": home, **more}
            done = CliRunner().invoke(command, arguments, env=environment)
            written.add("commands.txt", f"$ {arguments[0]} {arguments[1:]}\n{done.exit_code}\n{done.output}")
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                written.error(done.exception)


@contextlib.contextmanager
def with_server(written: Written) -> Generator[ValkeyServer]:
    """Have a Valkey server that keeps all it is told, uncompressed; write down what it was told and what it has."""
    keeping = "--appendonly yes --appendfsync always --rdbcompression no --slowlog-log-slower-than 0 --loglevel debug"
    server = ValkeyServer(*keeping.split(), "--slowlog-max-len", "100000", "--logfile", "server.log")
    try:
        server.start()
        with watched(server, written):
            yield server
            client: Any = server.client
            for name in sorted(client.keys("*")):
                written.add("valkey/keys.txt", name)
                written.add("valkey/dump.bin", client.dump(name) or b"")
                read = {b"hash": "hgetall", b"string": "get", b"zset": "zrange", b"set": "smembers", b"list": "lrange"}
                kind = client.type(name)
                bounds = (0, -1) if kind in (b"zset", b"list") else ()
                written.add("valkey/values.txt", repr(getattr(client, read[kind])(name, *bounds)))
            for asked in (
                "SLOWLOG GET -1",
                "CLIENT LIST",
                "INFO everything",
                "LATENCY DOCTOR",
                "PUBSUB CHANNELS",
                "ACL LOG",
            ):
                written.add("valkey/says.txt", repr(client.execute_command(*asked.split())))
            client.save()
        written.copy(server.folder, "valkey/folder")
    finally:
        server.close()


@contextlib.contextmanager
def watched(server: ValkeyServer, written: Written) -> Generator[None]:
    """Write down every command a server is given."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(f"{server.folder}/s")
    line.sendall(b"MONITOR\r\n")
    assert line.recv(5) == b"+OK\r\n"

    def read() -> None:
        while data := line.recv(1 << 16):
            written.add("valkey/monitor.txt", data)

    reader = threading.Thread(target=read, name="monitor")
    reader.start()
    try:
        yield
    finally:
        server.client.ping()
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        reader.join()
        line.close()
