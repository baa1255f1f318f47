"""Callbacks, forged and spoilt: none ends a task but one that was signed with the key, and for its own account only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import MutableMapping
from typing import Any

import anyio

from budgetguard import Guard, Policy
from budgetguard.providers import Vidu
from budgetguard.webhooks import webhook_app
from tests.fuzz import corpus, exact
from tests.fuzz.answers import states_in
from tests.fuzz.spoil import damaged, mixed
from tests.fuzz.target import Broken, Target, joined, parted
from tests.support.letters import NOW, Post
from tests.support.vidu import KEY

__all__ = ["Callbacks"]

_OTHER = "vda_27182818284590452353"
_STATUSES = {200, 400, 401, 404, 405, 413}
_DATES = (
    "",
    "yesterday",
    "Tue, 14 Nov 2023 22:13:20 GMT",
    "Tue, 14 Nov 2023 22:13:20",
    "Tue, 14 Nov 99999999999999 22:13:20 GMT",
    "Tue, 14 Nov 2023 99:99:99 GMT",
    "14 Nov 0001 00:00:00 +2400",
    "9" * 5000,
    "Mon, 01 Jan 0000 00:00:00 -0000",
)


class _Guard(Guard):
    """Notes what it is told, and of which key."""

    told: list[tuple[str, str, Any]]

    def finished(self, task_id: str, **given: Any) -> bool:
        self.told.append((task_id, given["key"], given["charge"]))
        return super().finished(task_id, **given)


class Callbacks(Target):
    """A callback."""

    name = "callbacks"

    def __init__(self) -> None:
        self._guard = _Guard(Vidu(), api_key=KEY, fingerprint_key=b"k" * 32, policy=Policy())
        self._guard.told = []

    def draw(self, chance: random.Random) -> bytes:
        body = mixed(chance, corpus.VIDU_POLLS)
        post = Post(
            key=chance.choice((KEY, KEY, _OTHER)), nonce=str(chance.random()), at=NOW + chance.choice((0, 0, -600, 600))
        )
        headers = [[name, value] for name, value in post.headers.items()]
        if chance.random() < 0.6:
            pair = chance.choice(headers)
            how = chance.randrange(4)
            if how == 0:
                headers.remove(pair)
            elif how == 1:
                headers.append(list(pair))
            elif how == 2:
                pair[1] = chance.choice(_DATES) if pair[0] == "Date" else f" {pair[1]}\xa0"
            else:
                pair[1] = damaged(chance, pair[1].encode()).decode("latin-1")
        facts: dict[str, Any] = {
            "headers": headers,
            "path": chance.choice(("/hooks/vidu", "/a%20b", "/\ud800")),
        }
        if chance.random() < 0.2:
            facts["raw"] = chance.choice(("/hooks/vidu?x", "//", "", "/%ff", "/hooks/vidu#a"))
        if chance.random() < 0.3:
            facts["method"] = chance.choice(("GET", "PUT", "post", ""))
        return joined(facts, body)

    def run(self, case: bytes) -> None:
        facts, body = parted(case)
        headers = [
            (str(pair[0]).lower().encode("latin-1", "replace"), str(pair[1]).encode("latin-1", "replace"))
            for pair in facts.get("headers", [])
            if isinstance(pair, list) and len(pair) == 2
        ]
        scope: dict[str, Any] = {
            "type": "http",
            "method": str(facts.get("method", "POST")),
            "path": str(facts.get("path", "/hooks/vidu")),
            "raw_path": str(facts["raw"]).encode("latin-1", "replace") if "raw" in facts else None,
            "query_string": b"batch=7",
            "headers": headers,
        }
        self._guard.told.clear()
        status = _deliver(
            webhook_app(self._guard, secret=[KEY, _OTHER], clock=lambda: NOW, body_max=100_000), scope, body
        )
        if status not in _STATUSES:
            raise Broken(f"answered {status}")
        if self._guard.told:
            self._check(scope, body)

    def _check(self, scope: dict[str, Any], body: bytes) -> None:
        document = exact.document(body)
        named = set(exact.texts(document))
        for task, key, charge in self._guard.told:
            if task not in named or "ended" not in states_in(document):
                raise Broken(f"the task {task!r} was ended, of which the body does not say so")
            said = exact.amount(exact.field(document, "credits"))
            if charge is not None and charge != said:
                raise Broken(f"a charge of {charge} was told, and said is {said}")
            signature = dict(scope["headers"]).get(b"x-hmac-signature", b"").decode("latin-1").strip()
            if signature not in self._right(scope, key):
                raise Broken("a callback was believed that is not signed with the key")
        if scope["method"] != "POST":
            raise Broken(f"{scope['method']} was taken")

    def _right(self, scope: dict[str, Any], key: str) -> set[str]:
        """Sign it anew, by the page, from what arrived."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        names = [name.strip() for name in headers.get("x-hmac-signed-headers", "").split(";") if name.strip()]
        path = (scope["raw_path"] or b"").decode("latin-1").partition("?")[0].partition("#")[0]
        found = set()
        for where in {path, scope["path"].replace(" ", "%20").encode("utf-8", "replace").decode().replace("?", "%3F")}:
            lines = ["POST", where, "batch=7", "vidu", headers.get("date", "")]
            lines += [f"{name}:{headers.get(name.lower(), '')}" for name in names]
            text = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
            found.add(base64.b64encode(hmac.new(key.encode(), text, hashlib.sha256).digest()).decode())
        return found

    def close(self) -> None:
        self._guard.close()


def _deliver(app: Any, scope: dict[str, Any], body: bytes) -> int:
    """Speak ASGI to it, as a server would."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(app, scope, receive, send)
    for message in sent[1:]:
        if message["body"]:
            json.loads(message["body"])
    return int(sent[0]["status"])
