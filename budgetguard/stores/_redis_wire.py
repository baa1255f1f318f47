"""What is said to the server about one account, and what its answer means. Pure: no I/O."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import operator
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from budgetguard.errors import StoreError
from budgetguard.ports import Loaded, Scanned, Transacted, Transaction

__all__ = ["SCRIPT", "SHA", "Call", "Look", "Names", "Page", "Scan", "Step", "Transact"]

SCRIPT = importlib.resources.files("budgetguard.stores").joinpath("redis.lua").read_bytes()
SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()

_LEASE_MAX = 4 * 10**15
"""Microseconds; more than a century, and still a number that the script can add to."""
_PAGE = 100

Args = list[str | bytes | int]


class Names:
    """How the keys of an account are called. They share a hash slot, whatever the account's name."""

    __slots__ = ("keys", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.keys = functools.lru_cache(maxsize=4096)(self._keys)

    def _keys(self, account: str) -> tuple[str, str, str, str]:
        # Braces would end the hash tag, and an empty one is none.
        tag = quote(account, safe=":/@.,;=+~!$&*()' ", errors="surrogatepass") or "%"
        base = f"{self.prefix}:{{{tag}}}"
        return f"{base}:counters", f"{base}:records", f"{base}:due", f"{base}:last"

    def channel(self, account: str) -> str:
        """Name the channel on which those who wait for an account are woken."""
        return self.keys(account)[0].removesuffix("counters") + "wake"


class Step:
    """One transaction or look, written down by whoever asks for it, with its answer."""

    __slots__ = ("account", "args", "error")

    def __init__(self, account: str, args: Args) -> None:
        self.account = account
        self.args = args
        self.error: StoreError | None = None

    def check(self) -> None:
        """Raise what went wrong. Each of those who travelled together gets an exception of its own."""
        if self.error is not None:
            raise StoreError(str(self.error), unreachable=self.error.unreachable) from self.error.__cause__


class Transact(Step):
    """A transaction under way."""

    __slots__ = ("done", "transaction", "woke")

    def __init__(self, account: str, transaction: Transaction) -> None:
        super().__init__(account, _write(transaction))
        self.transaction = transaction
        self.done: Transacted | None = None
        self.woke = 0
        """The number of the wake-up it was, or 0."""

    def result(self) -> Transacted:
        """Give the answer.

        Raises:
            StoreError: If there is none.
        """
        self.check()
        if self.done is None:
            raise StoreError("The transaction was interrupted; it may have been applied.")
        return self.done


class Look(Step):
    """A look under way."""

    __slots__ = ("loaded",)

    def __init__(self, account: str, records: Sequence[str], *, due: bool) -> None:
        super().__init__(account, ["L", 1 if due else 0, len(records), *map(_key, records)])
        self.loaded: Loaded | None = None

    def result(self) -> Loaded:
        """Give the answer.

        Raises:
            StoreError: If there is none.
        """
        self.check()
        if self.loaded is None:
            raise StoreError("The look was interrupted.")
        return self.loaded


class Scan(Step):
    """A page of records under way. It travels alone, as a command of the server's own."""

    __slots__ = ("page",)

    def __init__(self, account: str, cursor: str) -> None:
        super().__init__(account, [cursor or "0"])
        self.page: Scanned | None = None

    def result(self) -> Scanned:
        """Give the answer.

        Raises:
            StoreError: If there is none.
        """
        self.check()
        if self.page is None:
            raise StoreError("The look was interrupted.")
        return self.page


class Page:
    """One page of an account's records: a plain command, which may be sent any number of times."""

    __slots__ = ("command", "done", "step", "writes")

    def __init__(self, names: Names, step: Scan) -> None:
        self.step = step
        self.done = False
        self.writes = False
        self.command: Args = ["HSCAN", names.keys(step.account)[1], *step.args, "COUNT", str(_PAGE)]

    def fail(self, error: StoreError) -> None:
        """Say that there will be no answer."""
        self.done = True
        self.step.error = error

    def answer(self, reply: list[Any]) -> None:
        """Read the page."""
        cursor, flat = reply
        pairs = iter(flat)
        records = {key.decode("utf-8", "surrogatepass"): value for key, value in zip(pairs, pairs, strict=True)}
        self.step.page = Scanned(records, "" if cursor == b"0" else cursor.decode("ascii"))
        self.done = True


class Call:
    """The steps of one account that travel together, as one call of the script.

    It may be sent again: the sender's number makes the server do it once.
    """

    __slots__ = ("command", "done", "steps", "writes")

    def __init__(
        self, names: Names, account: str, steps: Sequence[Step], *, sender: str, number: int, forget: int, keep: int
    ) -> None:
        counters, records, due, last = names.keys(account)
        self.steps = steps
        self.done = False
        self.writes = any(type(step) is Transact for step in steps)
        command: Args = [
            "EVALSHA",
            SHA,
            4,
            counters,
            records,
            due,
            f"{last}:{sender}",
            number if self.writes else 0,
            forget,
            keep,
            names.channel(account),
        ]
        for step in steps:
            command += step.args
        # A signal that comes while hiredis writes a number ends the process, so it gets none.
        self.command: Args = [str(part) if type(part) is int else part for part in command]

    def fail(self, error: StoreError) -> None:
        """Say that there will be no answer."""
        self.done = True
        for step in self.steps:
            step.error = error

    def answer(self, reply: list[Any]) -> None:
        """Work out each step's answer."""
        now, repeated, flags, flat, *looks = reply
        counters: dict[str, int] = {}
        woken = now
        pairs = iter(flat)
        for field, value in zip(pairs, pairs, strict=True):
            name = _read(field)
            if name is not None:
                counters[name] = int(value)
            elif field == b"@wake":
                woken = max(now, int(value) + (not repeated))
        last, found, turn = self.steps[-1], iter(looks), iter(flags)
        for step in self.steps:
            if type(step) is Transact:
                flag = next(turn, None)
                applied = flag == 49  # "1"
                if applied and not repeated:
                    _apply(counters, step.transaction, now)
                if flag == 120:  # "x"
                    step.error = StoreError(
                        "A counter would leave the range in which this store counts exactly, -2**53 to 2**53; "
                        "nothing was changed. Count in larger units."
                    )
                elif flag is None:
                    step.error = StoreError("The transaction was overtaken by a later one; it may have been applied.")
                elif applied and step.transaction.wake:
                    step.woke = woken
                step.done = Transacted(applied, counters if step is last else counters.copy(), now)
            elif type(step) is Look:
                pairs = iter(next(found))
                records = {key.decode("utf-8", "surrogatepass"): value for key, value in zip(pairs, pairs, strict=True)}
                step.loaded = Loaded(counters if step is last else counters.copy(), records, now)
        self.done = True


def _write(t: Transaction) -> Args:
    # What cannot be sent is found here, where it harms nobody else.
    args: Args = ["T", 1 if t.wake else 0, len(t.add), len(t.floor), len(t.expect), len(t.within), len(t.stamp)]
    args += (len(t.drop), len(t.put))
    for amounts in (t.add, t.floor, t.expect, t.within):
        for name, amount in amounts.items():
            args += (_written(name), amount if type(amount) is int else int(operator.index(amount)))
    for name in t.stamp:
        args.append(_written(name))
    for key, value in t.drop.items():
        args += (_key(key), _bytes(value))
    for key, put in t.put.items():
        lease = "" if put.lease is None else max(-_LEASE_MAX, min(_LEASE_MAX, int(put.lease * 1_000_000)))
        args += (_key(key), _bytes(put.value), lease)
    return args


def _bytes(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"a record is bytes, not {type(value).__name__}")
    return value


def _apply(counters: dict[str, int], transaction: Transaction, now: int) -> None:
    for name, delta in transaction.add.items():
        counters[name] = counters.get(name, 0) + delta
    for name in transaction.stamp:
        counters[name] = now


def _written(name: str) -> str | bytes:
    if name[:1] == "@":
        name = "@" + name
    return _key(name)


def _key(key: str) -> str | bytes:
    # Nearly all are plain; a lone surrogate, which a key of another program may hold, must not fail.
    return key if key.isascii() else key.encode("utf-8", "surrogatepass")


@functools.lru_cache(maxsize=4096)
def _read(field: bytes) -> str | None:
    if field[:1] == b"@":
        if field[:2] != b"@@":
            return None
        field = field[1:]
    return field.decode("utf-8", "surrogatepass")
