"""The file itself: who may read it, what is refused, and what a refusal leaves alone."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from budgetguard.errors import SettingError, StoreError
from budgetguard.ports import Put, Transaction
from budgetguard.stores import _sqlite_clock, _sqlite_file
from budgetguard.stores._sqlite_ring import RING
from budgetguard.stores.sqlite import SQLiteStore, default_path

pytestmark = pytest.mark.smoke

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
STEP = Transaction(add={"a": 1}, put={"r": Put(b"1", None)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accounts.db"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are not kept there")
def test_only_the_owner_may_read_what_is_made(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SQLiteStore(tmp_path / "new" / "folder" / "accounts.db")
        store.transact("a", STEP)
        folder = tmp_path / "new" / "folder"
        assert {found.name: mode(found) for found in folder.iterdir()} == {
            "accounts.db": 0o600,
            "accounts.db-wal": 0o600,
            "accounts.db-shm": 0o600,
        }
        assert mode(folder) == 0o700
        store.close()
    finally:
        os.umask(before)


def test_nothing_is_made_before_it_is_needed(path: Path) -> None:
    store = SQLiteStore(path)
    assert repr(store) == f"SQLiteStore({str(path)!r})"
    store.close()
    assert not path.exists()


def test_what_was_stored_is_there_after_closing_and_in_a_new_store(path: Path) -> None:
    store = SQLiteStore(path)
    store.transact("a", STEP)
    store.close()
    assert store.load("a", ["r"]).records == {"r": b"1"}
    store.close()
    assert not path.with_name("accounts.db-wal").exists()
    other = SQLiteStore(path)
    assert other.load("a", ["r"]).counters == {"a": 1}
    other.close()


@pytest.mark.parametrize("content", [b"not a database, but long enough to look like one" * 100, b"short", b"\0" * 8192])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match=r"damaged, or not a database.*move it aside"):
        store.transact("a", STEP)
    with pytest.raises(StoreError, match="damaged"):
        store.load("a")
    assert path.read_bytes() == content


def test_a_damaged_file_is_refused_and_left_alone(path: Path) -> None:
    store = SQLiteStore(path)
    for number in range(50):
        store.transact("a", Transaction(put={f"r{number}": Put(b"x" * 500, 1.0)}))
    store.close()
    content = path.read_bytes()
    damaged = content[:1024] + b"\xff" * (len(content) - 1024)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="damaged"):
        store.transact("a", STEP)
    assert path.read_bytes() == damaged


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.execute("INSERT INTO theirs VALUES (1)")
    other.commit()
    other.close()
    content = path.read_bytes()
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match=r"of another program.*name another file"):
        store.transact("a", STEP)
    assert path.read_bytes() == content


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    store = SQLiteStore(path)
    store.transact("a", STEP)
    store.close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.execute("PRAGMA wal_checkpoint")
    newer.close()
    content = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer version of budgetguard.*schema 99"):
        store.transact("a", STEP)
    assert path.read_bytes() == content


def test_a_file_of_an_older_version_is_brought_forward_with_what_it_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(path)
    store.transact("a", STEP)
    store.close()
    steps = (*_sqlite_file._STEPS, ("ALTER TABLE account ADD COLUMN note TEXT",))
    monkeypatch.setattr(_sqlite_file, "_STEPS", steps)
    assert store.transact("a", Transaction(add={"a": 1})).counters == {"a": 2}
    store.close()
    look = sqlite3.connect(path)
    assert look.execute("PRAGMA user_version").fetchone() == (len(steps),)
    assert look.execute("SELECT note FROM account").fetchall() == [(None,)]
    look.close()


def test_a_file_of_the_first_version_goes_on_with_its_counters(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteStore(path)
    with monkeypatch.context() as patch:
        patch.setattr(_sqlite_file, "_STEPS", _sqlite_file._STEPS[:1])
        patch.setattr(_sqlite_clock, "SHIFT", ())
        store._file.open(reader=True).close()
    with sqlite3.connect(path) as first:
        first.execute("""INSERT INTO account VALUES (1, 'a', 7, 3, '{"x":5,"y":-2}')""")
        first.execute("INSERT INTO record VALUES (1, 'r', x'31', 9)")
    first.close()
    assert store.load("a", due=True).counters == {"x": 5, "y": -2}
    assert store.load("a", due=True).records == {"r": b"1"}
    for _ in range(2):
        assert store.transact("a", Transaction(add={"x": 1}, drop={"s": b""})).counters == {"x": 5, "y": -2}
    assert store.transact("a", Transaction(add={"x": 1, "z": 1}, drop={"r": b"1"})).counters == {
        "x": 6,
        "y": -2,
        "z": 1,
    }
    store.close()
    assert store.load("a", ["r"]).counters == {"x": 6, "y": -2, "z": 1}
    store.close()


def test_a_process_of_an_older_version_that_still_has_the_file_open_is_told_and_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(path)
    with monkeypatch.context() as patch:
        patch.setattr(_sqlite_file, "_STEPS", _sqlite_file._STEPS[:2])
        patch.setattr(_sqlite_clock, "SHIFT", ())
        older = store._file.open()
    change = "UPDATE account SET version = version + 1, counters = '{}'"
    older.execute(change)
    store.transact("a", STEP)
    with pytest.raises(sqlite3.OperationalError, match="version"):
        older.execute(change)
    older.close()
    assert store.load("a", ["r"]).counters == {"a": 1}
    store.close()


def test_numbers_too_large_for_eight_bytes_are_kept_too_and_so_is_everything_beside_them(path: Path) -> None:
    store = SQLiteStore(path)
    expected = {"a": 0, "b": 0}
    for number in (5, 10**18, 10**20, -1, -(10**20), -(10**18), 1):
        expected = {"a": expected["a"] + number, "b": expected["b"] + 1}
        for look in (store.transact("a", Transaction(add={"a": number, "b": 1})), store.load("a")):
            assert look.counters == expected
        store.close()
        assert store.load("a").counters == expected
    store.close()


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteStore(path)
    store.transact("a", STEP)
    store.close()
    with monkeypatch.context() as patch:
        steps = (*_sqlite_file._STEPS, ("ALTER TABLE account ADD COLUMN note TEXT", "ALTER TABLE absent ADD x"))
        patch.setattr(_sqlite_file, "_STEPS", steps)
        with pytest.raises(StoreError, match="absent"):
            store.load("a")
    assert store.load("a").counters == {"a": 1}
    store.close()


@pytest.mark.skipif(ROOT or sys.platform == "win32", reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(StoreError, match="written by this user"):
        SQLiteStore(folder / "accounts.db").transact("a", STEP)
    with pytest.raises(StoreError, match="written by this user"):
        SQLiteStore(folder / "deeper" / "accounts.db").load("a")
    assert list(folder.iterdir()) == []


def test_a_path_that_cannot_be_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for wrong in (tmp_path, tmp_path / "file" / "accounts.db"):
        with pytest.raises(StoreError, match="cannot be used"):
            SQLiteStore(wrong).transact("a", STEP)


def test_a_full_disk_is_told_and_nothing_is_half_applied(path: Path) -> None:
    store = SQLiteStore(path)
    store.transact("a", STEP)
    # As many pages as there are, and no more: what a full disk answers.
    connection = store._links.writer()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    large = Transaction(add={"a": 1}, put={"large": Put(b"x" * 100_000, None)})
    with pytest.raises(StoreError, match=r"disk is full: make room.*Nothing was changed"):
        store.transact("a", large)
    loaded = store.load("a", ["large"])
    assert (loaded.counters, loaded.records) == ({"a": 1}, {})
    assert store.transact("a", large).counters == {"a": 2}, "once there is room again"
    store.close()


def test_a_file_locked_by_another_program_is_told_in_time_and_nothing_is_changed(path: Path) -> None:
    store = SQLiteStore(path, busy_timeout=0.1)
    store.transact("a", STEP)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"locked by others for 0.1 s.*busy_timeout"):
        store.transact("a", Transaction(add={"a": 1}))
    assert store.load("a").counters == {"a": 1}, "reading goes on"
    other.execute("COMMIT")
    other.close()
    assert store.transact("a", Transaction(add={"a": 5})).counters == {"a": 6}, "and what was refused never comes"
    store.close()


def test_a_file_replaced_while_in_use_is_told_until_the_user_decides(path: Path, tmp_path: Path) -> None:
    store = SQLiteStore(path)
    store.transact("a", STEP)
    shutil.move(path, tmp_path / "elsewhere")
    store._links._look_at = 0.0
    for _ in range(2):
        with pytest.raises(StoreError, match="moved, removed or replaced"):
            store.transact("a", STEP)
    with pytest.raises(StoreError, match="moved, removed or replaced"):
        store.load("a")
    shutil.move(tmp_path / "elsewhere", path)
    assert store.load("a").counters == {"a": 1}
    store.close()


_OTHER = """
import sqlite3, sys
link = sqlite3.connect(sys.argv[1])
link.execute("SELECT count(*) FROM account").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_file_that_was_read_only_when_it_was_opened_is_used_once_it_is_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SQLiteStore(path)) as store:
        store.transact("a", STEP)
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def read_only(database: Path, **given: Any) -> sqlite3.Connection:
        # As where the folder is read-only, also to root.
        return connect(f"file:{database}?mode=ro&readonly_shm=1", uri=True, **given)

    with subprocess.Popen([sys.executable, "-c", _OTHER, path], stdin=PIPE, stdout=PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with closing(SQLiteStore(path)) as store:
            monkeypatch.setattr(sqlite3, "connect", read_only)
            assert store.load("a").counters["a"] == 1
            with pytest.raises(StoreError, match="Let this user write the file"):
                store.transact("a", Transaction(add={"a": 1}))
            monkeypatch.setattr(sqlite3, "connect", connect)
            assert store.transact("a", Transaction(add={"a": 1})).counters["a"] == 2
            assert store.load("a").counters["a"] == 2
        other.kill()


def test_an_address_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "home").mkdir()

    def named(url: str) -> Path:
        return SQLiteStore.from_url(url)._file.path

    assert named("sqlite:///accounts.db") == tmp_path / "accounts.db"
    assert named(f"sqlite:///{tmp_path}/deep/accounts.db") == tmp_path / "deep" / "accounts.db"
    assert named("sqlite:///with%20space.db") == tmp_path / "with space.db"
    assert named("sqlite:") == default_path()
    if sys.platform == "linux":
        assert named("sqlite:///~/accounts.db") == tmp_path / "home" / "accounts.db"
        assert default_path() == tmp_path / "state" / "budgetguard" / "accounts.db"
        monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
        assert default_path() == tmp_path / "home" / ".local" / "state" / "budgetguard" / "accounts.db"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "accounts.db",
        "sqlite://",
        "sqlite://host/x",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x?y=1",
        "redis://x",
    ],
)
def test_an_address_that_names_none_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match=r"sqlite:///accounts.db"):
        SQLiteStore.from_url(url)


def test_an_absolute_address_with_a_slash_too_few_does_not_make_folders_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=r"does not exist below this one.*sqlite:////"):
        SQLiteStore.from_url("sqlite:///var/lib/accounts.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["", ":memory:", "sqlite:///x", "a\0b", 5, b"x"])
def test_a_path_that_names_no_file_is_refused(wrong: str) -> None:
    with pytest.raises(SettingError):
        SQLiteStore(wrong)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "5"])
def test_a_wait_that_is_no_time_is_refused(wrong: float) -> None:
    with pytest.raises(SettingError, match="busy_timeout"):
        SQLiteStore("x", busy_timeout=wrong)


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE account SET counters = '{"a":oops'""",
        """UPDATE account SET counters = '{"a":1.5}'""",
        "UPDATE account SET counters = '[]'",
        "UPDATE account SET counters = CAST(x'7bff' AS TEXT)",
        "UPDATE account SET counters = x'00'",
        "UPDATE account SET counters = zeroblob(16)",
        "UPDATE account SET names = 'oops'",
        """UPDATE account SET names = '{"a":1}'""",
        "UPDATE account SET names = '[1]'",
        """UPDATE account SET names = '["a","a"]', counters = zeroblob(16)""",
        "UPDATE account SET wakes = 'x'",
        "UPDATE change SET number = 7",
        "UPDATE change SET number = 'x' WHERE slot = 1",
        "DELETE FROM change WHERE slot = 1",
        "UPDATE change SET value = NULL, key = 'k'",
        "DELETE FROM change",
        "UPDATE change SET account = 'x'",
        "UPDATE change SET counters = zeroblob(12) WHERE account = 2",
        "UPDATE change SET counters = NULL WHERE account = 2",
        "UPDATE change SET wakes = NULL WHERE account = 2",
        "UPDATE change SET gone = x'00'",
        "UPDATE change SET key = x'00', value = x'31'",
        "UPDATE change SET key = 'k', value = 'x'",
        "UPDATE change SET due = 'x'",
        "UPDATE folded SET number = 'x'",
        "DELETE FROM folded",
        "DROP TABLE change",
        "UPDATE clock SET base = 'x'",
        "UPDATE clock SET base = 9223372036854775807",
        "UPDATE clock SET base = -9223372036854775807, ceiling = 9223372036854775807",
        "UPDATE clock SET boot = x'00'",
        "UPDATE clock SET ceiling = 'x'",
        "DELETE FROM clock",
        "DROP TABLE clock",
        "DROP TABLE account",
    ],
)
def test_contents_that_are_not_ours_are_told_as_damage_and_left_alone(path: Path, statement: str) -> None:
    store = SQLiteStore(path)
    store.transact("a", STEP)
    for _ in range(RING + 1):  # so that the first change is where it belongs, and the latest are not
        store.transact("b", Transaction(add={"b": 1}))
    store.close()
    other = sqlite3.connect(path)
    other.execute(statement)
    other.commit()
    other.execute("PRAGMA wal_checkpoint")
    other.close()
    content = path.read_bytes()
    account = "b" if "= 2" in statement else "a"
    with pytest.raises(StoreError, match=r"damaged.*Restore it from a copy"):
        store.transact(account, Transaction(add={account: 1}))
    with pytest.raises(StoreError, match="damaged"):
        store.load(account, ["r"])
    store.close()
    assert path.read_bytes() == content


def test_a_record_that_is_no_bytes_is_told_as_damage(path: Path) -> None:
    store = SQLiteStore(path)
    store.transact("a", STEP)
    for _ in range(RING + 1):
        store.transact("a", Transaction(add={"a": 1}))
    with sqlite3.connect(path) as other:
        other.execute("UPDATE record SET value = 5")
    other.close()
    with pytest.raises(StoreError, match="damaged"):
        store.load("a", ["r"])
    with pytest.raises(StoreError, match="damaged"):
        store.scan("a")
    store.close()


def test_a_store_that_was_closed_knows_nothing_of_the_file_that_was_there(path: Path) -> None:
    store, other = SQLiteStore(path), SQLiteStore(path)
    for _ in range(3):
        store.transact("a", Transaction(add={"x": 1000}))
    store.close()
    path.unlink()
    for _ in range(3):
        other.transact("a", Transaction(add={"x": 1}))
    assert store.load("a").counters == {"x": 3}
    assert not store.transact("a", Transaction(add={"x": -2000}, floor={"x": 0})).applied
    store.close()
    other.close()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are not kept there")
def test_an_empty_file_and_the_end_of_a_link_become_the_owners_alone(tmp_path: Path) -> None:
    empty, link, target = tmp_path / "empty.db", tmp_path / "link.db", tmp_path / "target.db"
    empty.touch(mode=0o644)
    link.symlink_to(target)
    for path in (empty, link):
        store = SQLiteStore(path)
        store.transact("a", STEP)
        assert {mode(found) for found in tmp_path.glob(f"{path.resolve().name}*")} == {0o600}
        store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="modes are not kept there")
def test_the_mode_of_a_file_that_is_refused_or_already_a_store_is_left_alone(path: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    foreign.chmod(0o644)
    with pytest.raises(StoreError, match="another program"):
        SQLiteStore(foreign).transact("a", STEP)
    assert mode(foreign) == 0o644
    store = SQLiteStore(path)
    store.transact("a", STEP)
    store.close()
    path.chmod(0o660)
    store.transact("a", Transaction(add={"a": 1}))
    assert mode(path) == 0o660
    store.close()


def test_a_folder_or_a_device_given_as_the_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"it is a folder. Name a file, like .*accounts\.db"):
        SQLiteStore(tmp_path).transact("a", STEP)
    if sys.platform != "win32":
        before = mode(Path(os.devnull))
        with pytest.raises(StoreError, match="a device or the like"):
            SQLiteStore(os.devnull).transact("a", STEP)
        assert mode(Path(os.devnull)) == before


def test_the_scheme_of_an_address_may_be_in_capitals(tmp_path: Path) -> None:
    assert SQLiteStore.from_url(f"SQLite:///{tmp_path}/x.db")._file.path == tmp_path / "x.db"
    with pytest.raises(SettingError, match="from_url"):
        SQLiteStore("SQLITE:///x.db")
