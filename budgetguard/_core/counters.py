"""The names of an account's counters, and how to look at them.

A store keeps whole numbers under short names and knows nothing of their meaning; this module is the only place that
does. Times are whole microseconds of the store's clock. Counters of a pool carry its name as a suffix.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ASKED_AT",
    "BACKOFF",
    "BALANCE",
    "CAREFUL",
    "CLAIM",
    "CREDITS",
    "CREDITS_BASE",
    "CREDITS_DOUBT",
    "CREDITS_GENERATION",
    "CREDITS_OPEN",
    "FAILURES",
    "GENERATION",
    "HELD_BACK",
    "LIFE",
    "MARK",
    "MICROS",
    "PAUSE",
    "READ_AT",
    "RING",
    "SERIAL",
    "SLACK",
    "TAGS",
    "UNLIMITED",
    "WAITING",
    "Pool",
    "View",
    "closed_at",
    "micros",
    "pool_names",
    "tagged",
]

MICROS = 1_000_000
UNLIMITED = 10**12
"""Slots of a pool without a limit."""
RING = 16
"""Buckets of tagged credits. Few are in use, more only where the balance lags."""
TAGS = 4
"""Buckets of tagged slots: readings that failed in a row, or whose asker died, before a mark is used again."""

SERIAL = "serial"
"""Grows by one with every transaction: says which of two looks is the later one, and whether the store was set back."""
GENERATION = "gen"
"""Grows with each mark, until `TAGS` of them have led to no reading."""
MARK = "mark"
"""The mark of the reading installed last. The generation is this, or more: by one for each reading asked for since."""
CREDITS = "credits"
"""Free credits: the balance, less what is open, less what is tagged and may not be inside it."""
BALANCE = "balance"
"""Credits the installed reading reported."""
READ_AT = "read_at"
"""When the installed reading was asked for; 0 when there is none, or it is known to be wrong."""
SLACK = "slack"
"""Credits of calls being sent that may come back when their charge is known."""
CREDITS_GENERATION = "cgen"
"""The newest bucket of tagged credits. Moves with the generation; slower where the balance lags."""
CREDITS_BASE = "cbase"
"""The oldest bucket of tagged credits that is still counted on top of the balance."""
WAITING = "waiting"
"""Credits of calls in line: held, and certainly not sent."""
CREDITS_OPEN = "copen"
"""Credits that were being sent when the reading was installed."""
CREDITS_DOUBT = "cdoubt"
"""Credits of accepted calls that the installed reading may count a second time, which a new one settles."""
CLAIM = "claim"
"""Until when somebody has the right to ask for a reading; 0 when nobody does."""
ASKED_AT = "asked_at"
"""When a reading was last asked for, installed or not."""
FAILURES = "fails"
"""Readings that failed since the last good one."""
BACKOFF = "retry_at"
"""No reading is asked for before this."""
PAUSE = "pause"
"""No call is sent before this."""
LIFE = "life"
"""When the account was first marked: the name of its life. Another one means that the store has forgotten since."""
HELD_BACK = "held"
"""The life for which everybody was held back, after the one before was forgotten."""
CAREFUL = "careful"
"""1 once a stranger was seen on an account that was said to be exclusive."""


def tagged(generation: int) -> str:
    """Name the bucket of credits accepted under a credits generation."""
    return f"c{generation % RING}"


def closed_at(generation: int) -> str:
    """Name the time at which a credits generation began, and with it the one before was closed."""
    return f"a{generation % RING}"


class Pool:
    """The counters of one limit on concurrency."""

    __slots__ = ("_doubts", "_tags", "base", "limit", "open", "own", "quiet", "running", "slots")

    def __init__(self, name: str) -> None:
        suffix = f":{name}" if name else ""
        self.slots = f"slots{suffix}"
        """Free slots."""
        self.limit = f"limit{suffix}"
        self.base = f"base{suffix}"
        """What the reading left: its limit less what ran, more as tasks inside it are seen to end."""
        self.open = f"open{suffix}"
        """Slots reserved or sent, not yet accepted."""
        self.running = f"run{suffix}"
        """Slots of our own accepted tasks, not seen to have ended."""
        self.own = f"own{suffix}"
        """1 where free slots are the limit less our own calls, whatever a reading says is running."""
        self._tags = tuple(f"s{bucket}{suffix}" for bucket in range(TAGS))
        self._doubts = tuple(f"d{bucket}{suffix}" for bucket in range(TAGS))
        self.quiet = f"quiet{suffix}"
        """Less than 0 by as many heads of lines as wait for a slot, in all processes."""

    def tags(self, generation: int) -> str:
        """Name the slots accepted under a generation and not dissolved in a reading yet."""
        return self._tags[generation % TAGS]

    def doubts(self, generation: int) -> str:
        """Name the slots that may be free although they are counted as taken, since a generation."""
        return self._doubts[generation % TAGS]


class View:
    """An account's counters at one moment of the store's time. Read only."""

    __slots__ = ("counters", "now")

    def __init__(self, counters: Mapping[str, int], now: int) -> None:
        self.counters = counters
        self.now = now

    def __getitem__(self, name: str) -> int:
        return self.counters.get(name, 0)

    @property
    def on_top(self) -> range:
        """The generations whose tagged calls are counted on top of the installed reading."""
        return range(self[MARK], self[GENERATION] + 1)

    @property
    def has_reading(self) -> bool:
        return self[READ_AT] > 0

    @property
    def age(self) -> int | None:
        """Microseconds since the installed reading was asked for; ``None`` if there is none."""
        read_at = self[READ_AT]
        return self.now - read_at if read_at > 0 else None

    @property
    def held(self) -> int:
        """Credits counted on top of the reading: promised, or accepted and perhaps not inside it yet."""
        return self[BALANCE] - self[CREDITS]

    @property
    def credits_open(self) -> int:
        """Credits of calls being sent that the reading may count too; only their answer can tell."""
        still_open = self.held - self[WAITING] - sum(self[tagged(bucket)] for bucket in range(RING))
        return min(self[CREDITS_OPEN], still_open)

    def doubt(self, pool: Pool) -> int:
        """Slots that a new reading may show to be free."""
        return 0 if self[pool.own] else sum(self[pool.doubts(bucket)] for bucket in range(TAGS))


def pool_names(view: View) -> list[str]:
    """List the pools an account has counters of; a single one is named ``""``."""
    return sorted(name[len("limit:") :] for name in view.counters if name == "limit" or name.startswith("limit:"))


def micros(seconds: float) -> int:
    """Turn seconds into whole microseconds, rounded up so that a bound is never cut short."""
    return -int(-seconds * MICROS // 1)
