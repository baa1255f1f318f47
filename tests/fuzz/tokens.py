"""Tokens of permits and records of stores: read back as they were written, or not at all."""

from __future__ import annotations

import base64
import contextlib
import math
import random
from typing import Any

import httpx

from budgetguard import Guard
from budgetguard._core.records import Record, Stage
from budgetguard._tokens import Token
from budgetguard.errors import PermitError, SettingError, StoreError
from budgetguard.providers import UdioPro
from tests.fuzz.spoil import NUMBERS, damaged
from tests.fuzz.target import Broken, Target

__all__ = ["Records", "Tokens"]


class Tokens(Target):
    """A permit's token, spoilt: it ends no permit, and is refused with what to do, or is no task's id either."""

    name = "tokens"

    def __init__(self) -> None:
        inner = httpx.MockTransport(lambda _: httpx.Response(200, json={"code": 200, "data": {"credits": 500}}))
        self._guard = Guard(UdioPro(), api_key="a-key", fingerprint_key=b"k" * 32, inner=inner)
        self._other = Guard(UdioPro(), api_key="another", fingerprint_key=b"k" * 32, inner=inner)
        self._permits: list[Any] = [self._guard.reserve(5), self._guard.reserve(7), self._other.reserve(5)]
        self._tokens = [permit.token.encode() for permit in self._permits]

    def draw(self, chance: random.Random) -> bytes:
        token = chance.choice(self._tokens)
        if chance.random() < 0.3:
            return self._made_up(chance)
        if chance.random() < 0.4:
            # Damaged inside of its coding, so that it looks like one.
            coded = token[4:]
            raw = base64.urlsafe_b64decode(coded + b"=" * (-len(coded) % 4))
            return b"bg1." + base64.urlsafe_b64encode(damaged(chance, raw, [raw])).rstrip(b"=")
        return damaged(chance, token, self._tokens)

    def _made_up(self, chance: random.Random) -> bytes:
        """Make one by all rules but the key: parts of real ones with another seal."""
        one, other = (Token.loads(chance.choice(self._tokens).decode()) for _ in range(2))
        seal = chance.choice((other.seal, bytes(len(one.seal)), chance.randbytes(len(one.seal))))
        flipped = bytes([seal[0] ^ 1 << chance.randrange(8), *seal[1:]])
        task_id = chance.choice((one.task_id, "T", other.id))
        return Token(one.id, task_id, chance.choice((seal, flipped))).dumps().encode()

    def run(self, case: bytes) -> None:
        text = case.decode("utf-8", "surrogateescape")
        if case in self._tokens:
            return
        try:
            ended = self._guard.finished(text)
        except (PermitError, SettingError) as error:
            if len(str(error)) > 1000 or len(str(error)) < 40:
                raise Broken(f"refused as {str(error)[:200]}") from error
        else:
            if ended:
                raise Broken("a token nobody made ended something")
        held = self._guard.state("a-key").pools[""].open
        if held != 2 or self._other.state("another").pools[""].open != 1:
            raise Broken(f"{held} permits are left of 2")

    def close(self) -> None:
        for permit in self._permits:
            with contextlib.suppress(PermitError):  # ended by what is a finding
                permit.release()
        self._guard.close()
        self._other.close()


class Records(Target):
    """A record of a store, spoilt: it says what it says exactly, with numbers that can be, or is none."""

    name = "records"
    guided = True

    def draw(self, chance: random.Random) -> bytes:
        stage = chance.choice(list(Stage))
        record = Record(f"~{chance.randrange(10**9):x}", stage, 10, 1, "", 0, 3, 2, "8123", 3600.0, 1)
        data = record.dumps()
        if chance.random() < 0.6:
            fields = data.split(b"\x1f")
            fields[chance.randrange(len(fields))] = chance.choice(NUMBERS).encode()
            data = b"\x1f".join(fields)
        return damaged(chance, data, [data]) if chance.random() < 0.6 else data

    def run(self, case: bytes) -> None:
        try:
            record = Record.loads(case)
        except StoreError as error:
            if len(str(error)) < 40:
                raise Broken(f"refused as {error}") from error
            return
        if record.dumps() != case:
            raise Broken(f"{case!r} was read as {record.dumps()!r}")
        numbers = (record.credits, record.slots, record.slack, record.asked, record.tag + 1, record.credits_tag + 1)
        if not all(0 <= number <= 2**53 for number in numbers):
            raise Broken("a record of numbers that cannot be")
        if not (math.isfinite(record.task_lease) and 0 <= record.task_lease <= 1e9):
            raise Broken(f"a lease of {record.task_lease}")
