"""Keys of a real server that somebody else wrote to: counted with as they are, or refused with what to do."""

from __future__ import annotations

import random
from typing import Any

from budgetguard._core.records import Record, Stage
from budgetguard.errors import StoreError
from budgetguard.ports import Put, Transaction
from budgetguard.stores.redis import RedisStore
from tests.fuzz.spoil import NUMBERS, damaged
from tests.fuzz.target import Broken, Target, joined, parted
from tests.support.valkey import ValkeyServer

__all__ = ["Hashes"]

_ACCOUNT = "vidu:0123456789abcdef"
_COUNTERS = {"credits": 480, "balance": 500, "gen": 3, "slots": 4, "limit": 5, "quiet": -1}
_RECORD = Record("h", Stage.ACCEPTED, 10, 1, task_id="8123")
_KINDS = ("counters", "counters", "counters", "records", "due", "last")
_TYPES = ("bytes", "bytes", "bytes", "field", "string", "list", "hash", "zset", "gone")
_FIELDS = ("t:8123", "x", "@", "\xff\xfe")
_REMEDIES = ("prefix", "version", "range", "overtaken")


class Hashes(Target):
    """An account's keys on a server, of which somebody else changed something."""

    name = "redis-keys"

    def __init__(self) -> None:
        self._server = ValkeyServer().start()
        self._store = RedisStore(self._server.url, timeout=2.0)
        self._write()
        self._counters: bytes = self._client.get(self._key("counters"))

    def draw(self, chance: random.Random) -> bytes:
        facts = {
            "key": chance.choice(_KINDS),
            "type": chance.choice(_TYPES),
            "field": chance.choice(_FIELDS),
            "number": chance.choice((0.0, -1.0, 1e308)),
        }
        kept = self._counters if facts["key"] == "counters" else _RECORD.dumps()
        body = damaged(chance, kept, [kept]) if chance.random() < 0.8 else chance.choice(NUMBERS).encode()
        return joined(facts, body)

    def run(self, case: bytes) -> None:
        facts, body = parted(case)
        self._client.flushdb()
        self._write()
        self._spoil(facts, body)
        try:
            self._use()
        except StoreError as error:
            if not any(word in str(error) for word in _REMEDIES):
                raise Broken(f"refused without a remedy: {error}") from error
        self._client.flushdb()
        self._write()
        self._use()

    @property
    def _client(self) -> Any:
        return self._server.client

    def _key(self, kind: str) -> str:
        keys = [key.decode() for key in self._client.keys(f"*:{kind}*")]
        return keys[0] if keys else f"budgetguard:{{{_ACCOUNT}}}:{kind}"

    def _write(self) -> None:
        self._store.transact(_ACCOUNT, Transaction(add=_COUNTERS, put={_RECORD.key: Put(_RECORD.dumps(), 3600.0)}))

    def _spoil(self, facts: dict[str, Any], body: bytes) -> None:
        client, key, how = self._client, self._key(str(facts.get("key", "counters"))), str(facts.get("type", "bytes"))
        field = str(facts.get("field", "x")).encode("latin-1", "replace")
        if how == "field" and client.type(key) == b"hash":
            client.hset(key, field, body)
        elif how == "field" and client.type(key) == b"zset":
            client.zadd(key, {field: float(facts.get("number") or 0.0)})
        elif how == "bytes" and client.type(key) in (b"string", b"none"):
            client.set(key, body)
        else:
            client.delete(key)
            if how in ("string", "field", "bytes"):
                client.set(key, body)
            elif how == "list":
                client.rpush(key, body)
            elif how == "hash":
                client.hset(key, field, body)
            elif how == "zset":
                client.zadd(key, {body: 1.0})

    def _use(self) -> None:
        loaded = self._store.load(_ACCOUNT, [_RECORD.key], due=True)
        for name, number in loaded.counters.items():
            if type(number) is not int or abs(number) > 2**53:
                raise Broken(f"the counter {name} is {number}")
        for text in [*loaded.records.values(), *self._store.scan(_ACCOUNT).records.values()]:
            try:
                record = Record.loads(text)
            except StoreError:
                continue
            if record.dumps() != _RECORD.dumps():
                raise Broken(f"a record nobody wrote: {text!r}")
        before, slots = loaded.counters.get("credits", 0), loaded.counters.get("slots", 0)
        taken = Transaction(add={"credits": -10}, floor={"credits": 0, "slots": 0})
        done = self._store.transact(_ACCOUNT, taken)
        if done.applied != (before >= 10 and slots >= 0):
            raise Broken(f"10 of {before} credits were {'' if done.applied else 'not '}taken")
        if done.applied and done.counters["credits"] != before - 10:
            raise Broken(f"10 of {before} credits were taken, and {done.counters['credits']} are left")

    def close(self) -> None:
        self._store.close()
        self._server.close()
