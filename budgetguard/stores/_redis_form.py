"""The form in which counters and steps travel: whole numbers of 8 bytes, little end first, and names by their places.

An account's counters are one string on the server: a head, the values, the names. Names are only ever added, so whoever
has seen them once need not send or be told them again, only a digest that says which ones they are. Of the values, the
script reads as numbers only those that a call uses, and takes what lies between as bytes.
"""

from __future__ import annotations

import functools
import operator
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from budgetguard.errors import StoreError
from budgetguard.ports import Transaction

__all__ = [
    "NOBODY",
    "SENDER_SIZE",
    "Plan",
    "Roster",
    "State",
    "numbers",
    "opening",
    "outline",
    "plain",
    "read",
    "text",
    "together",
]

SENDER_SIZE = 16
_DIGEST_SIZE = 16
_HEAD = struct.Struct(f"<8q{SENDER_SIZE}s{_DIGEST_SIZE}s")
_OPENING = struct.Struct(f"<3q{_DIGEST_SIZE}s")
_LENGTH = struct.Struct("<I")
_EXACT = 2**53
_LAYOUT = 3
_NONE = -(2**62)
"""No floor, or no end of a lease."""
_LEASE_MAX = 4 * 10**15
"""Microseconds; more than a century, and still a number that the script can add to."""
_NAMES_MAX = 3000
"""Counters and records of a transaction: Lua takes a few thousand numbers at once."""
_WINDOWS = _PLANS = 64
_COUNTS = 8

Outline = tuple[Any, ...]
"""What transactions of one kind have in common: eight counts, then the counters they name."""


class Window:
    """The counters that a call uses, and the places in which the script has them. Immutable."""

    __slots__ = ("_places", "form", "further", "plan", "roster")

    def __init__(self, roster: Roster, form: bytes, further: bytes, places: Mapping[str, int]) -> None:
        self.roster = roster
        """Whose places they are."""
        self._places = places
        self.form = form
        """How the script is to read the values."""
        self.further = further
        """The names that are new, as the server keeps them."""
        self.plan = functools.lru_cache(maxsize=_PLANS)(self._plan)

    def _plan(self, outline: Outline) -> Plan:
        places = [self._places[name] for name in outline[_COUNTS:]]
        return Plan(self, outline, _form(len(outline)).pack(*outline[:_COUNTS], *places))


class Plan:
    """How transactions of one kind are written down for a window. Immutable."""

    __slots__ = ("_begin", "_form", "outline", "window")

    def __init__(self, window: Window, outline: Outline, begin: bytes) -> None:
        self.window = window
        self.outline = outline
        self._begin = begin
        stamps, puts = outline[5], outline[7]
        self._form = _form(len(outline) - _COUNTS - stamps + puts)

    def write(self, transaction: Transaction) -> list[str | bytes]:
        """Write a transaction down: its numbers, and its texts.

        Raises:
            TypeError: If an amount is no whole number, or a record not bytes. It is found here, where it harms nobody
                else.
        """
        t = transaction
        texts: list[str | bytes] = [b""]
        for key, record in t.drop.items():
            texts += (text(key), record if type(record) is bytes else _bytes(record))
        leases: list[int] = []
        for key, put in t.put.items():
            lease = put.lease
            leases.append(_NONE if lease is None else max(-_LEASE_MAX, min(_LEASE_MAX, int(lease * 1_000_000))))
            texts += (text(key), put.value if type(put.value) is bytes else _bytes(put.value))
        amounts = (*t.add.values(), *t.floor.values(), *t.expect.values(), *t.within.values(), *leases)
        try:
            texts[0] = self._begin + self._form.pack(*amounts)
        except struct.error:
            texts[0] = self._begin + numbers(amounts)
        return texts


class Roster:
    """The names of an account's counters, in the order in which the server has them. Immutable."""

    __slots__ = ("_index", "digest", "names", "plan", "window")

    def __init__(self, names: Iterable[str], digest: bytes) -> None:
        self.names = tuple(names)
        self.digest = digest
        self._index = {name: number for number, name in enumerate(self.names)}
        self.window = functools.lru_cache(maxsize=_WINDOWS)(self._window)
        """The window on some counters."""
        self.plan = functools.lru_cache(maxsize=_PLANS)(self._plan)
        """The plan of a transaction that travels alone, or with others of its kind."""

    def _plan(self, outline: Outline) -> Plan:
        return self.window(outline[_COUNTS:]).plan(outline)

    def _window(self, used: Sequence[str]) -> Window:
        index = self._index
        form, places, at = ["<"], dict[str, int](), 0
        for number in sorted({index[name] for name in used if name in index}):
            if number > at:
                form.append(f"c{8 * (number - at)}")
            form.append("i8")
            places[self.names[number]] = len(form) - 1
            at = number + 1
        further = [name for name in dict.fromkeys(used) if name not in index]
        for place, name in enumerate(further, len(form)):
            places[name] = place
        written = b"".join([_LENGTH.pack(len(name)) + name for name in map(_encoded, further)])
        return Window(self, "".join(form).encode() if at else b"", written, places)


NOBODY = Roster((), b"-" * _DIGEST_SIZE)
"""Of an account that has no counters, or was never looked at."""


class State:
    """What the server said of an account: its counters, their names, and the number of the last wake-up."""

    __slots__ = ("counters", "roster", "woken")

    def __init__(self, counters: dict[str, int], roster: Roster, woken: int) -> None:
        self.counters = counters
        self.roster = roster
        self.woken = woken


def read(state: bytes, at: int = 0, known: Roster = NOBODY) -> State:
    """Read an account's counters from a position on, whose names are *known* or written behind them.

    Raises:
        ValueError: If they are none.
    """
    if len(state) == at:
        return State({}, NOBODY, 0)
    try:
        layout, _, _, woken, count, _, steps, _, _, digest = _HEAD.unpack_from(state, at)
        if layout != _LAYOUT or count < 0 or steps < 0:
            raise ValueError("other counters than ours")
        at += _HEAD.size
        if digest != known.digest:
            known = _split(state[at + 8 * count + steps :], digest)
        values = _form(count).unpack_from(state, at)
        if values and (max(values) > _EXACT or min(values) < -_EXACT):
            # The script writes none such: it would not be exact.
            raise ValueError("a counter beyond the range in which this store counts")
        return State(dict(zip(known.names, values, strict=True)), known, woken)
    except struct.error as error:
        raise ValueError("the counters are cut off") from error


@functools.lru_cache(maxsize=128)
def _split(written: bytes, digest: bytes) -> Roster:
    names: list[str] = []
    at = 0
    while at < len(written):
        (length,) = _LENGTH.unpack_from(written, at)
        at += _LENGTH.size + length
        if at > len(written):
            raise ValueError("a name is cut off")
        names.append(written[at - length : at].decode("utf-8", "surrogatepass"))
    return Roster(names, digest)


@functools.lru_cache(maxsize=256)
def _form(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}q")


def numbers(values: Sequence[int]) -> bytes:
    """Write whole numbers; those that are too large, as others that are too large.

    Raises:
        TypeError: If one is no whole number.
    """
    return _form(len(values)).pack(*(max(_NONE, min(-_NONE, operator.index(value))) for value in values))


def opening(number: int, forget: int, keep: int, roster: Roster) -> bytes:
    """Write how a call begins: its number, how long things are kept, and which names its sender knows."""
    return _OPENING.pack(number, forget, keep, roster.digest)


def together(outlines: Iterable[Outline], roster: Roster) -> Window:
    """Give the window of several kinds of transactions."""
    return roster.window(tuple(sorted({name for each in outlines for name in each[_COUNTS:]})))


def outline(transaction: Transaction) -> Outline:
    """Tell of which kind a transaction is.

    Raises:
        StoreError: If it is too long for the script.
    """
    t = transaction
    add, floor, expect, within, stamp, drop, put = t.add, t.floor, t.expect, t.within, t.stamp, t.drop, t.put
    counts = (1 if t.wake else 0, len(add), len(floor), len(expect), len(within), len(stamp), len(drop), len(put))
    if sum(counts) > _NAMES_MAX:
        raise StoreError("The transaction has too many parts for this store; nothing was sent. Split it.")
    return (*counts, *add, *floor, *expect, *within, *stamp)


def _bytes(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"a record is bytes, not {type(value).__name__}")
    return value


def text(key: str) -> str | bytes:
    """Write the key of a record. One that begins with "@" gets another: that one alone is the store's own."""
    if key[:1] == "@":
        key = "@" + key
    # Nearly all are plain; a lone surrogate, which a key of another program may hold, must not fail.
    return key if key.isascii() else _encoded(key)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def plain(key: bytes) -> str | None:
    """Read the key of a record; ``None`` for the store's own."""
    if key[:1] == b"@":
        if key[:2] != b"@@":
            return None
        key = key[1:]
    return key.decode("utf-8", "surrogatepass")
