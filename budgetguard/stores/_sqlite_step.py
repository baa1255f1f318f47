"""One transaction as one statement, which takes the lock, checks, changes and commits.

It is written as an insert into a view that exists only on the connection that writes: a trigger there does what the
statement means. So a caller who waits for nobody asks SQLite once, and there is nothing half done between two
statements that an interrupt could leave behind.
"""

from __future__ import annotations

__all__ = ["SETUP", "STEP"]

SETUP: tuple[str, ...] = (
    "PRAGMA temp_store = MEMORY",
    """CREATE TEMP VIEW step AS SELECT
        0 AS account, 0 AS version, 0 AS wakes, x'' AS counters,
        '' AS gone, x'' AS was, '' AS key, x'' AS value, 0 AS due
    """,
    """CREATE TEMP TRIGGER put_alone INSTEAD OF INSERT ON step WHEN NEW.gone IS NULL BEGIN
        UPDATE account SET version = NEW.version + 1, wakes = NEW.wakes, counters = NEW.counters
            WHERE id = NEW.account AND version = NEW.version;
        INSERT INTO record (account, key, value, due)
            SELECT NEW.account, NEW.key, NEW.value, NEW.due WHERE NEW.key IS NOT NULL AND changes() = 1;
    END""",
    """CREATE TEMP TRIGGER drop_first INSTEAD OF INSERT ON step WHEN NEW.gone IS NOT NULL BEGIN
        UPDATE account SET version = NEW.version + 1, wakes = NEW.wakes, counters = NEW.counters
            WHERE id = NEW.account AND version = NEW.version;
        SELECT RAISE(IGNORE) WHERE changes() = 0;
        DELETE FROM record WHERE account = NEW.account AND key = NEW.gone AND value = NEW.was;
        SELECT RAISE(ABORT, 'it is gone') WHERE changes() = 0;
        INSERT INTO record (account, key, value, due)
            SELECT NEW.account, NEW.key, NEW.value, NEW.due WHERE NEW.key IS NOT NULL;
    END""",
)
"""Run once on a connection that shall do steps."""

STEP = "INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""Whose account, the version it must have, its wakes and counters afterwards; the record to drop and its value; the
record to put, its value and when it falls due. Nothing happens where the version is another; an error is raised, and
nothing happens, where the record to drop is not there as it should be, or the one to put is there already."""
