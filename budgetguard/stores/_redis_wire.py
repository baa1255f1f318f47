"""What is said to the server about one account, and what its answer means. Pure: no I/O."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import struct
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from budgetguard.errors import StoreError
from budgetguard.ports import Loaded, Scanned, Transacted, Transaction
from budgetguard.stores._redis_form import NOBODY, Plan, numbers, opening, outline, plain, read, text, together

__all__ = ["SCRIPT", "SHA", "Address", "Call", "Look", "Names", "Page", "Scan", "Step", "Transact"]

SCRIPT = importlib.resources.files("budgetguard.stores").joinpath("redis.lua").read_bytes()
SHA = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()

_PAGE = 100

_NOW = struct.Struct("<q")
_APPLIED, _OUT_OF_RANGE = b"1x"

Args = list[str | bytes]


class Address:
    """Where the server keeps an account. The keys share a hash slot, whatever the account's name."""

    __slots__ = ("channel", "head", "keys", "roster")

    def __init__(self, prefix: str, account: str) -> None:
        # Braces would end the hash tag, and an empty one is none.
        tag = quote(account, safe=":/@.,;=+~!$&*()' ", errors="surrogatepass") or "%"
        base = f"{prefix}:{{{tag}}}"
        self.keys = (f"{base}:counters", f"{base}:records", f"{base}:due", f"{base}:last")
        self.channel = f"{base}:wake"
        """Where those who wait for the account are woken."""
        self.head = functools.lru_cache(maxsize=8)(self._head)
        self.roster = NOBODY
        """The names of its counters, as far as they are known here."""

    def _head(self, sender: str) -> tuple[bytes, ...]:
        # How a call of the script begins.
        counters, records, due, last = (key.encode() for key in self.keys)
        return b"EVALSHA", SHA.encode(), b"4", counters, records, due, last + b":" + sender.encode()


class Names:
    """The addresses of the accounts of a store."""

    __slots__ = ("of", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.of = functools.lru_cache(maxsize=4096)(functools.partial(Address, prefix))


class Step:
    """One transaction or look, written down by whoever asks for it, with its answer."""

    __slots__ = ("address", "args", "error")

    def __init__(self, address: Address, args: Args) -> None:
        self.address = address
        self.args = args
        self.error: StoreError | None = None

    @property
    def size(self) -> int:
        """How many counters it names."""
        return 0

    def check(self) -> None:
        """Raise what went wrong. Each of those who travelled together gets an exception of its own."""
        if self.error is not None:
            raise StoreError(str(self.error), unreachable=self.error.unreachable) from self.error.__cause__


class Transact(Step):
    """A transaction under way."""

    __slots__ = ("done", "plan", "transaction", "woke")

    def __init__(self, address: Address, transaction: Transaction) -> None:
        self.plan = plan = address.roster.plan(outline(transaction))
        """How it is written down."""
        self.address = address
        self.args = plan.write(transaction)
        self.error = None
        self.transaction = transaction
        self.done: Transacted | None = None
        self.woke = 0
        """The number of the wake-up it was, or 0."""

    @property
    def size(self) -> int:
        """How many counters it names."""
        return len(self.plan.outline)

    def by(self, plan: Plan) -> None:
        """Write it down by another plan, which may be made for several."""
        if self.plan is not plan:
            self.args = plan.write(self.transaction)
            self.plan = plan

    def end(self, flag: int | None, counters: dict[str, int], now: int, woken: int) -> None:
        """Take the answer: what became of it, the counters then, the time, and the number of the last wake-up."""
        applied = flag == _APPLIED
        if flag is None:
            self.error = StoreError("The transaction was overtaken by a later one; it may have been applied.")
        elif flag == _OUT_OF_RANGE:
            self.error = StoreError(
                "A counter would leave the range in which this store counts exactly, -2**53 to 2**53; "
                "nothing was changed. Count in larger units."
            )
        elif applied and self.transaction.wake:
            self.woke = woken
        self.done = Transacted(applied, counters, now)

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

    def __init__(self, address: Address, records: Sequence[str], *, due: bool) -> None:
        super().__init__(address, [numbers((3 if due else 2, len(records))), *map(text, records)])
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

    def __init__(self, address: Address, cursor: str) -> None:
        super().__init__(address, [cursor or "0"])
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

    def __init__(self, step: Scan) -> None:
        self.step = step
        self.done = False
        self.writes = False
        self.command: Args = ["HSCAN", step.address.keys[1], *step.args, "COUNT", str(_PAGE)]

    def fail(self, error: StoreError) -> None:
        """Say that there will be no answer."""
        self.done = True
        self.step.error = error

    def answer(self, reply: list[Any]) -> None:
        """Read the page."""
        cursor, flat = reply
        self.step.page = Scanned(_records(flat), "" if cursor == b"0" else cursor.decode("ascii"))
        self.done = True


class Call:
    """The steps of one account that travel together, as one call of the script.

    It may be sent again: the sender's number makes the server do it once.
    """

    __slots__ = ("_begin", "_roster", "address", "command", "done", "steps", "writes")

    def __init__(
        self, address: Address, head: Sequence[bytes], steps: Sequence[Step], *, number: int, forget: int, keep: int
    ) -> None:
        self.address = address
        self.steps = steps
        self.done = False
        self.writes = Transact in map(type, steps)
        self._begin = (head, number if self.writes else 0, forget, keep)
        self.command = self._write()

    def _write(self) -> Args:
        self._roster = roster = self.address.roster
        head, number, forget, keep = self._begin
        command: Args = [*head, opening(number, forget, keep, roster), b"", b""]
        first = self.steps[0]
        if len(self.steps) == 1 and type(first) is Transact and first.plan.window.roster is roster:
            command[-2:] = first.plan.window.form, first.plan.window.further
            command += first.args
            return command
        plans = {step.plan for step in self.steps if type(step) is Transact}
        if not plans:
            pass
        elif len(plans) == 1 and roster.plan(next(iter(plans)).outline) in plans:
            (plan,) = plans
            command[-2:] = plan.window.form, plan.window.further
        else:
            window = together({plan.outline for plan in plans}, roster)
            command[-2:] = window.form, window.further
            for step in self.steps:
                if type(step) is Transact:
                    step.by(window.plan(step.plan.outline))
        for step in self.steps:
            command += step.args
        return command

    def fail(self, error: StoreError) -> None:
        """Say that there will be no answer."""
        self.done = True
        for step in self.steps:
            step.error = error

    def _answer_one(self, said: bytes) -> None:
        (now,), step = _NOW.unpack_from(said), self.steps[0]
        state = read(said, _NOW.size + 1, self._roster)
        if state.roster is not self._roster:
            self.address.roster = state.roster
        if type(step) is Transact:
            step.end(said[_NOW.size], state.counters, now, state.woken)
        self.done = True

    def answer(self, reply: Any) -> None:
        """Work out each step's answer, unless the names of the counters have to be learnt first: then write it anew."""
        if type(reply) is bytes:
            said, repeated, count, looks = reply, 0, len(self.steps), ()
            if count == 1:
                self._answer_one(reply)
                return
        elif len(reply) == 1:
            self.address.roster = read(reply[0]).roster
            self.command = self._write()
            return
        else:
            said, repeated, count, *looks = reply
        (now,) = _NOW.unpack_from(said)
        at = _NOW.size + count
        flags = said[_NOW.size : at]
        state = read(said, at, self._roster)
        if state.roster is not self._roster:
            self.address.roster = state.roster
        counters = state.counters
        changes = len(self.steps) > 1 and not repeated  # else they are from afterwards
        woken = max(now, state.woken + 1) if changes else state.woken
        last, found, turn = self.steps[-1], iter(looks), iter(flags)
        for step in self.steps:
            if type(step) is Transact:
                flag = next(turn, None)
                if flag == _APPLIED and changes:
                    _apply(counters, step.transaction, now)
                step.end(flag, counters if step is last else counters.copy(), now, woken)
            elif type(step) is Look:
                step.loaded = Loaded(counters if step is last else counters.copy(), _records(next(found)), now)
        self.done = True


def _apply(counters: dict[str, int], transaction: Transaction, now: int) -> None:
    for name, delta in transaction.add.items():
        counters[name] = counters.get(name, 0) + delta
    for name in transaction.stamp:
        counters[name] = now


def _records(flat: Sequence[bytes]) -> dict[str, bytes]:
    pairs = iter(flat)
    named = ((plain(key), value) for key, value in zip(pairs, pairs, strict=True))
    return {key: value for key, value in named if key is not None}
