"""What is kept of one call, and how it is written down.

A record is one short line of text, the same in every store: its fields, in order, behind a check of them, so that one
whose digits were damaged where it is kept is not taken for another. The
key of an open call is ``r:<reservation>``, of an accepted one ``t:<task>``. A record that changes state is dropped and
put anew, and dropping names the old text, so of two that try to end the same call only one succeeds.

A permit can be ended by its token, which names its reservation only. So where its task took over, a second record
``p:<reservation>`` tells which task that is; both come and go in the same transactions. The same key, without a task,
tells whoever held the permit that it was ended by its token; that one goes when its own lease ends.
"""

from __future__ import annotations

import enum
from zlib import crc32

from budgetguard.errors import StoreError
from budgetguard.ports import Put

__all__ = ["PORTABLE", "Record", "Stage", "call_key", "clean", "place_key", "task_key", "written"]

_SEPARATOR = "\x1f"
_MOST = 2**53
_LEASE_MAX = 1e9
_UNREADABLE = (
    "The store holds a record that this version cannot read: a newer version wrote it, or it is damaged. Let all "
    "processes run the same version; or move a damaged file aside (of a server, delete the account's keys), and let "
    "the next reading of the balance begin it anew."
)
PORTABLE = "~"
"""What the ids of those reservations begin with that can be ended by a token."""


class Stage(enum.StrEnum):
    """How far a call has come."""

    WAITING = "w"
    """In line: it holds credits and no slot, and was not sent."""
    HEAD = "h"
    """The same at the head of its line, and others know that it waits."""
    RESERVED = "r"
    """It holds everything and may have been sent."""
    IDLE = "i"
    """The rest of a job, a call of which had to wait for slots: it holds credits only."""
    ACCEPTED = "a"
    """The provider took it; its task runs."""
    LOST = "l"
    """Nobody knows whether the provider took it; its slot is kept as if its task ran."""
    MOVED = "m"
    """No call, and holds nothing: tells where a permit went."""


class Record:
    """One call. Changed only by the ledger."""

    __slots__ = (
        "asked",
        "credits",
        "credits_tag",
        "id",
        "pool",
        "slack",
        "slots",
        "stage",
        "tag",
        "task_id",
        "task_lease",
    )

    def __init__(
        self,
        id: str,
        stage: Stage,
        credits: int,
        slots: int,
        pool: str = "",
        slack: int = 0,
        tag: int = -1,
        credits_tag: int = -1,
        task_id: str = "",
        task_lease: float = 0.0,
        asked: int = 0,
    ) -> None:
        self.id = id
        self.stage = stage
        self.credits = credits
        """Credits held; once charged, the charge."""
        self.slots = slots
        self.pool = pool
        self.slack = slack
        self.tag = tag
        """The generation under which it was accepted; -1 before."""
        self.credits_tag = credits_tag
        """The credits generation under which it was charged; -1 before."""
        self.task_id = task_id
        self.task_lease = task_lease
        """Seconds its task is believed to run."""
        self.asked = asked
        """How often since its lease was over nothing could be learnt of its task."""

    @property
    def key(self) -> str:
        """Where the store keeps it."""
        if self.stage is Stage.ACCEPTED or self.stage is Stage.LOST:
            return task_key(self.task_id or self.id)
        return place_key(self.id) if self.stage is Stage.MOVED else call_key(self.id)

    @property
    def is_open(self) -> bool:
        """Whether it may have been sent, and nobody knows yet what came of it."""
        return self.stage is Stage.RESERVED or self.stage is Stage.IDLE

    @property
    def in_line(self) -> bool:
        """Whether it holds credits only, and certainly was not sent."""
        return self.stage is Stage.WAITING or self.stage is Stage.HEAD

    @property
    def place(self) -> Record | None:
        """The second record of a permit whose task took over; of anything else ``None``."""
        if self.stage is Stage.ACCEPTED and self.task_id and self.id.startswith(PORTABLE):
            return Record(self.id, Stage.MOVED, 0, 0, task_id=self.task_id)
        return None

    def puts(self, lease: float | None) -> dict[str, Put]:
        """List what to write down for it."""
        puts = {self.key: Put(self.dumps(), lease)}
        place = self.place
        if place is not None:
            puts[place.key] = Put(place.dumps())
        return puts

    def drops(self) -> dict[str, bytes]:
        """List what to drop with it."""
        drops = {self.key: self.dumps()}
        place = self.place
        if place is not None:
            drops[place.key] = place.dumps()
        return drops

    def dumps(self) -> bytes:
        """Write it down."""
        return written(self.stage, self.id, self.rest)

    @property
    def rest(self) -> str:
        """What stands behind its stage and its name: the same for all calls that ask for the same."""
        return (
            f"{_SEPARATOR}{self.credits}{_SEPARATOR}{self.slots}{_SEPARATOR}{self.pool}"
            f"{_SEPARATOR}{self.slack}{_SEPARATOR}{self.tag}{_SEPARATOR}{self.credits_tag}{_SEPARATOR}{self.task_lease}"
            f"{_SEPARATOR}{self.asked}{_SEPARATOR}{self.task_id}"
        )

    @classmethod
    def loads(cls, text: bytes) -> Record:
        """Read it back.

        Raises:
            StoreError: If this is no record.
        """
        try:
            # The task's id comes from the provider and may hold anything, so it stands last.
            fields = text.decode().split(_SEPARATOR, 11)
            _, stage, name, held, slots, pool, slack, tag, credits_tag, lease, asked, task_id = fields
            record = cls(
                name,
                Stage(stage),
                int(held),
                int(slots),
                pool,
                int(slack),
                int(tag),
                int(credits_tag),
                task_id,
                float(lease),
                int(asked),
            )
            sound = record.is_possible and record.dumps() == text
        except ValueError as error:
            raise StoreError(_UNREADABLE) from error
        if not sound:
            raise StoreError(_UNREADABLE)
        return record

    @property
    def is_possible(self) -> bool:
        """Whether its numbers can be: a damaged one must not give back what nobody held."""
        amounts = (self.credits, self.slots, self.slack, self.asked, self.tag + 1, self.credits_tag + 1)
        return min(amounts) >= 0 and max(amounts) <= _MOST and 0.0 <= self.task_lease <= _LEASE_MAX

    def moved(self, stage: Stage, **changes: int | str) -> Record:
        """Copy it into another stage."""
        copy = Record(
            self.id,
            stage,
            self.credits,
            self.slots,
            self.pool,
            self.slack,
            self.tag,
            self.credits_tag,
            self.task_id,
            self.task_lease,
            self.asked,
        )
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy

    def __repr__(self) -> str:
        return f"Record({self.key} {self.credits} credits, {self.slots} slots, tag {self.tag})"


def written(stage: Stage, id: str, rest: str) -> bytes:
    """Write a record down, of which all but its stage and its name is known already."""
    text = f"{_SEPARATOR}{stage}{_SEPARATOR}{id}{rest}".encode()
    return b"%08x%b" % (crc32(text), text)


def call_key(reservation: str) -> str:
    """Name the record of an open call."""
    return f"r:{reservation}"


def task_key(task_id: str) -> str:
    """Name the record of an accepted call."""
    return f"t:{clean(task_id)}"


def place_key(reservation: str) -> str:
    """Name the record that tells where a permit went."""
    return f"p:{reservation}"


def clean(task_id: str) -> str:
    """Make a provider's id fit to be written down: JSON may hold characters that no encoding has."""
    return task_id if task_id.isascii() else task_id.encode("utf-8", "backslashreplace").decode()
