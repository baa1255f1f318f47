"""Callers that are let go together, as threads, as tasks, or both; run as a program they are one process of several.

``python -m tests.permits.crowd`` takes orders until there are no more. An order is a line of URL, STORE, WAY, THREADS
and TASKS with tabs between them: it makes guards and callers anew, says ``ready``, waits for a line, and says how each
ended.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from budgetguard import AsyncGuard, Guard, InsufficientCredits
from tests.support.vidu import BODY, HEADERS, KEY, PRICE, SUBMIT, vidu
from tests.support.ways import Way, way_named

__all__ = ["WAYS", "crowd"]

WAYS = ("transport", "permit", "job")
SENT = "sent"


def crowd(url: str, store: str | None, way: str, threads: int, tasks: int, go: Callable[[], Any]) -> Counter[str]:
    """Let so many callers go once *go* returns; tells how many of them ended how."""
    ended: list[str] = []
    crews: list[threading.Thread] = []
    made: tuple[Any, ...] = ()
    together = threading.Barrier(threads + bool(tasks) + 1)
    if threads:
        made = _clients(way_named("blocking"), url, store)
        crews += [threading.Thread(target=_in_thread, args=(*made, way, together, ended)) for _ in range(threads)]
    if tasks:
        crews.append(threading.Thread(target=lambda: asyncio.run(_in_tasks(url, store, way, tasks, together, ended))))
    for crew in crews:
        crew.start()
    go()
    together.wait(60)
    for crew in crews:
        crew.join(60)
    for thing in reversed(made):
        thing.close()
    return Counter(ended)


def _clients(kind: Way, url: str, store: str | None) -> tuple[Any, Any, Any]:
    guard = kind.guard(vidu(url), store=store, api_key=KEY, inner=kind.inner())
    settings: dict[str, Any] = {"base_url": url, "headers": HEADERS, "timeout": 60.0}
    limits = httpx.Limits(max_connections=100)
    client: Any = kind.client(guard, kind.inner(limits=limits), **settings)
    plain: Any = kind.client(None, kind.inner(limits=limits), **settings)
    return guard, client.client, plain.client


def _in_thread(
    guard: Guard, client: httpx.Client, plain: httpx.Client, way: str, together: threading.Barrier, ended: list[str]
) -> None:
    @guard.job(PRICE)
    def job() -> None:
        client.post(SUBMIT, json=BODY).raise_for_status()

    together.wait(60)
    try:
        if way == "transport":
            client.post(SUBMIT, json=BODY).raise_for_status()
        elif way == "job":
            job()
        else:
            with guard.reserve(PRICE) as permit:
                permit.sent()
                answer = plain.post(SUBMIT, json=BODY).raise_for_status().json()
                permit.settle(charge=answer["credits"], task_id=answer["task_id"])
        ended.append(SENT)
    except Exception as error:  # noqa: BLE001 - how it ended is what is asked
        ended.append(type(error).__name__)


async def _in_tasks(
    url: str, store: str | None, way: str, tasks: int, together: threading.Barrier, ended: list[str]
) -> None:
    guard, client, plain = _clients(way_named("asyncio"), url, store)
    await asyncio.to_thread(together.wait, 60)
    await asyncio.gather(*(_in_task(guard, client, plain, way, ended) for _ in range(tasks)))
    for thing in (plain, client):
        await thing.aclose()
    await guard.close()


async def _in_task(
    guard: AsyncGuard, client: httpx.AsyncClient, plain: httpx.AsyncClient, way: str, ended: list[str]
) -> None:
    @guard.job(PRICE)
    async def job() -> None:
        (await client.post(SUBMIT, json=BODY)).raise_for_status()

    try:
        if way == "transport":
            (await client.post(SUBMIT, json=BODY)).raise_for_status()
        elif way == "job":
            await job()
        else:
            async with guard.reserve(PRICE) as permit:
                permit.sent()
                answer = (await plain.post(SUBMIT, json=BODY)).raise_for_status().json()
                await permit.settle(charge=answer["credits"], task_id=answer["task_id"])
        ended.append(SENT)
    except Exception as error:  # noqa: BLE001 - how it ended is what is asked
        ended.append(type(error).__name__)


def main() -> None:
    """Be one process of several."""

    def go() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()

    for order in iter(sys.stdin.readline, ""):
        url, store, way, threads, tasks = order.rstrip("\n").split("\t")
        ended = crowd(url, store, way, int(threads), int(tasks), go)
        unforeseen = ended.keys() - {SENT, InsufficientCredits.__name__}
        sys.stdout.write(f"{ended[SENT]} {ended[InsufficientCredits.__name__]} {sorted(unforeseen)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
