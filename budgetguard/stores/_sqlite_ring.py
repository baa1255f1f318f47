"""The latest changes of a file, which stand in a small table of their own before they go where they belong.

To write into the rows of accounts, of records and into the index of what falls due is three places, and a commit
costs by the place. So a change is first written down whole in one row of a ring: its number, the account's counters
after it, which record went and which came (the same, where one is written over). Every change has the number after
the one before it, and the row it takes is its number's, modulo the size of the ring. When the ring is full, whoever
writes next *folds* it, in the same commit: what the changes come to goes where it belongs, many at a time. A record
that came and went before that never gets there.

So what holds is what the ring says, and of whatever it does not mention, what the tables say. A process that has seen
the ring up to a number need only read what came after it; and to write the next number where nobody has yet is to know
that nothing came in between.
"""

from __future__ import annotations

__all__ = ["LAYOUT", "PLACE", "RING", "SHIFT", "STEP", "Row"]

Row = tuple[int | None, int | None, bytes | str | None, str | None, str | None, bytes | None, int | None]
"""A change without its number: the account, its wakes and counters afterwards, the record that went, and the one that
came with its value and when it falls due."""

RING = 128
"""Changes that are kept before they are folded. Part of the layout of the file."""

LAYOUT: tuple[str, ...] = (
    """CREATE TABLE change (
        slot INTEGER PRIMARY KEY, number INTEGER NOT NULL, account INTEGER, wakes INTEGER, counters BLOB,
        gone TEXT, key TEXT, value BLOB, due INTEGER
    )""",
    f"""INSERT INTO change (slot, number)
        WITH RECURSIVE slots(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM slots WHERE n < {RING - 1})
        SELECT n, n FROM slots""",  # noqa: S608 - all of it is here
    "CREATE TABLE folded (number INTEGER NOT NULL)",
    f"INSERT INTO folded VALUES ({RING - 1})",  # noqa: S608
)
"""What makes the ring, empty."""

SHIFT: tuple[str, ...] = (
    f"UPDATE change SET number = number + {2 * RING}",  # noqa: S608
    f"UPDATE folded SET number = number + {2 * RING}",  # noqa: S608
)
"""Lets every process find that it has missed too much, and read everything anew."""

STEP = f"""UPDATE change
    SET number = ?2, account = ?3, wakes = ?4, counters = ?5, gone = ?6, key = ?7, value = ?8, due = ?9
    WHERE slot = ?1 AND number = ?2 - {RING}
    AND NOT EXISTS (SELECT 1 FROM record WHERE account = ?3 AND key = ?10)
    AND (?11 IS NULL OR EXISTS (SELECT 1 FROM record WHERE account = ?3 AND key = ?11 AND value = ?12))"""  # noqa: S608
"""Writes a change down: its slot and number, its row, and the keys that must not be, or must be with a value, among the
records; ``None`` where the ring tells. Nothing happens where another change has this number already, or a key is not as
it must be. It takes the lock, checks, changes and commits, so nothing is half done that an interrupt could leave."""

PLACE = """INSERT OR REPLACE INTO change (slot, number, account, wakes, counters, gone, key, value, due)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
"""Writes a change down inside a transaction, in which everything was looked at before."""
