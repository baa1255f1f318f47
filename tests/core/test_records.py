from __future__ import annotations

import math
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from budgetguard._core.records import Record, Stage, call_key, clean, task_key
from budgetguard.errors import StoreError

IDS = st.text(st.characters(codec="utf-8"), max_size=40)
NUMBERS = st.integers(0, 10**15)


def same(one: Record, other: Record) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in Record.__slots__)


@given(
    stage=st.sampled_from(Stage),
    credits_=NUMBERS,
    slots=NUMBERS,
    slack=NUMBERS,
    tag=NUMBERS,
    task_id=IDS,
    lease=st.floats(0, 1e9),
    name=st.from_regex(r"[0-9a-f]{12}-[0-9a-f]{1,8}(\.[1-9])?", fullmatch=True),
    pool=st.sampled_from(["", "vip", "a:b"]),
)
@example(Stage.ACCEPTED, 1, 1, 0, 0, "a\x1fb\x1f", 0.1, "h", "")
@example(Stage.LOST, 1, 1, 0, 0, "\n\r\x00", 1e9, "h", "")
def test_a_record_reads_back_as_it_was_written(
    stage: Stage,
    credits_: int,
    slots: int,
    slack: int,
    tag: int,
    task_id: str,
    lease: float,
    name: str,
    pool: str,
) -> None:
    record = Record(name, stage, credits_, slots, pool, slack, tag, tag + 1, task_id, lease)
    again = Record.loads(record.dumps())
    assert same(record, again)
    assert again.dumps() == record.dumps()
    assert again.key == record.key


@given(st.text())
@example("\ud800")
@example("a\udfffb")
def test_any_id_can_be_written_down_and_cleaning_twice_changes_nothing(task_id: str) -> None:
    cleaned = clean(task_id)
    assert cleaned.encode().decode() == cleaned
    assert clean(cleaned) == cleaned
    record = Record("h", Stage.ACCEPTED, 1, 1, task_id=cleaned)
    assert Record.loads(record.dumps()).key == task_key(task_id) or not cleaned


@given(st.text(st.characters(codec="utf-8")))
def test_cleaning_leaves_alone_what_can_be_written(task_id: str) -> None:
    assert clean(task_id) == task_id


@pytest.mark.parametrize("text", [b"", b"nonsense", b"\xff\xfe", b"z" + b"\x1f1" * 9, b"r\x1fh\x1fx" + b"\x1f1" * 7])
def test_what_is_no_record_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(StoreError, match="cannot read"):
        Record.loads(text)


@pytest.mark.parametrize("place", [3, 4, 6, 7, 8, 9, 10])
@pytest.mark.parametrize(
    "number", ["-2", "+1", " 1", "1_0", "0x1", "1e400", "nan", "inf", "-inf", "9" * 5000, "\u0663", "01", ""]
)
def test_a_record_with_a_number_nobody_writes_is_refused(place: int, number: str) -> None:
    fields = Record("h", Stage.ACCEPTED, 10, 1, "", 0, 3, 2, "8123", 3600.5, 1).dumps().split(b"\x1f")
    fields[place] = number.encode()
    text = b"\x1f" + b"\x1f".join(fields[1:])
    with pytest.raises(StoreError, match="move a damaged file aside"):
        Record.loads(b"%08x%b" % (zlib.crc32(text), text))


def test_a_record_of_which_one_bit_was_turned_is_refused() -> None:
    text = Record("h", Stage.ACCEPTED, 10, 1, "", 0, 3, 2, "8123", 3600.5, 1).dumps()
    for at in range(len(text)):
        for bit in range(8):
            turned = text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :]
            with pytest.raises(StoreError, match="cannot read"):
                Record.loads(turned)


def test_open_calls_and_tasks_are_kept_under_different_keys() -> None:
    assert Record("h", Stage.WAITING, 1, 1).key == call_key("h") == "r:h"
    assert Record("h", Stage.RESERVED, 1, 1).key == "r:h"
    assert Record("h", Stage.ACCEPTED, 1, 1, task_id="x").key == task_key("x") == "t:x"
    assert Record("h", Stage.ACCEPTED, 1, 1).key == "t:h"
    assert Record("h", Stage.LOST, 1, 1).key == "t:h"


def test_a_moved_record_is_a_copy() -> None:
    record = Record("h", Stage.RESERVED, 10, 1, "vip", 3, task_lease=60.0)
    after = record.moved(Stage.ACCEPTED, credits=8, tag=4)
    assert (record.stage, record.credits, record.tag) == (Stage.RESERVED, 10, -1)
    assert (after.stage, after.credits, after.tag, after.pool, after.slack) == (Stage.ACCEPTED, 8, 4, "vip", 3)
    assert math.isclose(after.task_lease, 60.0)


def test_every_stage_is_one_letter_of_its_own() -> None:
    assert len({str(stage) for stage in Stage}) == len(Stage)
    assert all(len(stage) == 1 for stage in Stage)


def test_a_record_says_what_it_is() -> None:
    assert repr(Record("h", Stage.RESERVED, 10, 1)) == "Record(r:h 10 credits, 1 slots, tag -1)"
