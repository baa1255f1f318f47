"""A Celery application, as a worker process loads it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
from celery import Celery

from budgetguard.celery import GuardedTask
from budgetguard.guard import Guard
from budgetguard.stores.redis import RedisStore
from tests.support.vidu import BODY, HEADERS, KEY, PRICE, SUBMIT, poll, quick, vidu

SOCKET = os.environ.get("SHOP_SOCKET", "/nowhere")
URL = os.environ.get("SHOP_URL", "http://127.0.0.1:9")

app = Celery(
    "shop", broker=f"redis+socket://{SOCKET}?virtual_host=1", backend=f"redis+socket://{SOCKET}?virtual_host=2"
)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 60},
    worker_prefetch_multiplier=1,
    task_track_started=True,
)

# Made before the worker forks, as in most applications.
guard = Guard(
    vidu(URL),
    store=RedisStore(f"unix://{SOCKET}"),
    policy=quick(max_age=0.2, min_interval=0.05, recheck_after=0.05, lease=1.5),
    api_key=KEY,
)


@app.task(base=GuardedTask, guard=guard, bind=True, max_retries=1, wait=0.1, wait_max=0.2)
@guard.job(credits=PRICE)
def render(self: Any, number: int) -> dict[str, Any]:
    """Generate something."""
    with httpx.Client(base_url=URL, headers=HEADERS, transport=guard.transport()) as client:
        task = client.post(SUBMIT, json=BODY).raise_for_status().json()["task_id"]
        while client.get(poll(task)).json()["state"] != "success":
            time.sleep(0.01)  # as a user would
    headers = self.request.headers or {}
    return {"number": number, "retries": self.request.retries, "waits": headers.get("budgetguard_waits", 0)}


@app.task(
    base=GuardedTask,
    guard=lambda: guard,
    credits=lambda path: PRICE,
    acks_late=True,
    reject_on_worker_lost=True,
    wait=0.1,
    wait_max=0.2,
)
def linger(path: str) -> int:
    """Say who does it, and wait to be told to end."""
    with Path(path, "pids").open("a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(path, "go").exists():
        time.sleep(0.01)  # as a user would
    return os.getpid()


@app.task
def ping() -> str:
    """Answer, if there is a worker free to."""
    return "pong"
