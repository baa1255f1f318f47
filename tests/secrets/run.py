"""A session: lives on all stores, in all ways, and the others, one after the other."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx

from budgetguard import Guard
from budgetguard.providers import Vidu
from budgetguard.stores import MemoryStore
from tests.secrets import others
from tests.secrets.life import Life
from tests.secrets.wire import PROVIDERS, Provider, new_key, new_plain_key
from tests.secrets.written import Written
from tests.support.failing import FailingStore
from tests.support.ways import way_named

__all__ = ["Session"]


class Session:
    """Goes through everything once. The keys it used are in *keys*.

    Args:
        folder: Where it is written down.
    """

    def __init__(self, folder: Path) -> None:
        self.written = Written(folder)
        self.keys: list[str] = []
        self.lives = 0

    def key(self) -> str:
        self.keys.append(new_plain_key() if len(self.keys) % 2 else new_key())
        return self.keys[-1]

    def live(self, way: str, provider: str, store: Any, **given: Any) -> None:
        """Live one life, at a provider that repeats the key."""
        life = Life(self.written, way_named(way), PROVIDERS[provider], store, self.key(), **given)
        self._run(way, life)

    def _run(self, way: str, life: Life) -> None:
        self.lives += 1
        with self.written.logging(httpcore=life.quiet):
            anyio.run(life.live, backend="trio" if way == "trio" else "asyncio")

    def live_over_http(self, way: str, provider: str, store: Any) -> None:
        """Live one over sockets, where nobody repeats the key, so that what httpcore logs counts too."""
        made: Provider = PROVIDERS[provider]
        with made.fake().serve() as url:
            inner = httpx.HTTPTransport() if way == "blocking" else httpx.AsyncHTTPTransport()
            key = self.key()
            self._run(way, Life(self.written, way_named(way), made, store, key, inner=inner, url=url, discreet=True))

    def fail(self, way: str, provider: str) -> None:
        """Live with a store that fails at every third question."""
        store: Any = FailingStore(MemoryStore())
        moods: Iterator[str] = iter([])

        def mood() -> str:
            nonlocal moods
            for next_one in moods:
                return next_one
            moods = iter(["fine", "fine", "gone", "fine", "fine", "lost", "fine", "fine", "broken"])
            return "fine"

        store.mood = mood
        self.live(way, provider, store)

    def on_sqlite(self, ways: Sequence[str]) -> None:
        """Live on a file, and copy it while it is in use, and after."""
        folder = self.written.folder.parent / "sqlite"
        folder.mkdir()
        url = f"sqlite:///{folder}/accounts.db"
        with Guard(Vidu(), store=url, api_key=self.key()) as guard:
            guard.finished("T")
            self.written.show(guard, guard.state())
            self.written.copy(folder, "sqlite/begun")
        for number, way in enumerate(ways):
            self.live(way, ("vidu", "udio")[number % 2], url)
            with contextlib.closing(sqlite3.connect(folder / "accounts.db")) as peer:
                peer.execute("select count(*) from sqlite_master").fetchone()
                self.written.copy(folder, f"sqlite/{number}")
        self.written.copy(folder, "sqlite/closed")

    def on_valkey(self, ways: Sequence[str]) -> None:
        """Live on a server, and write down all it was told and kept."""
        with others.with_server(self.written) as server:
            for number, way in enumerate(ways):
                self.live(way, ("vidu", "udio")[number % 2], server.url)

    def others(self) -> None:
        """Callbacks, Celery, and the commands."""
        with self.written.logging(httpcore=True):
            others.call_back(self.written, self.key())
            others.queue_tasks(self.written, self.key())
            others.commands(self.written, self.key(), f"sqlite:///{self.written.folder.parent}/sqlite/accounts.db")

    def whole(self) -> None:
        """Everything, in every way."""
        for way in ("blocking", "asyncio", "trio"):
            for provider in PROVIDERS:
                self.live(way, provider, None)
                self.live_over_http(way, provider, None)
            self.fail(way, "vidu")
        self.on_sqlite(("blocking", "asyncio", "trio", "blocking"))
        self.on_valkey(("blocking", "asyncio", "blocking"))
        self.others()
