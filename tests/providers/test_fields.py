from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetguard.errors import ReadingError
from budgetguard.providers._fields import CREDITS_MAX, count, identifier, objects, retry_after, sentence, text, whole

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (12, 12),
        ("12", 12),
        (" 12 ", 12),
        ("+12", 12),
        (12.0, 12),
        ("12.0", 12),
        (-3, -3),
        ("-3", -3),
        (CREDITS_MAX, CREDITS_MAX),
        (str(CREDITS_MAX), CREDITS_MAX),
    ],
)
def test_whole_numbers_are_read_quoted_or_not(value: Any, number: int) -> None:
    assert whole(value) == number


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        1.5,
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        "",
        "1.5",
        "1e3",
        "12 credits",
        "0x10",
        "1_000",
        "1,000",
        "٣",
        "NaN",
        "9" * 17,
        "9" * 5000,
        CREDITS_MAX + 1,
        -CREDITS_MAX - 1,
        [],
        [1],
        {},
        {"n": 1},
    ],
)
def test_anything_else_is_no_whole_number(value: Any) -> None:
    assert whole(value) is None


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "is missing"),
        ({"credits": None}, "is null"),
        ({"credits": True}, "is true or false"),
        ({"credits": "many"}, "is text"),
        ({"credits": ""}, "is empty text"),
        ({"credits": 1.5}, "is a number of another sort"),
        ({"credits": []}, "is a list"),
        ({"credits": {}}, "is an object"),
        ({"credits": -1}, "is negative"),
        ({"credits": "-1"}, "is negative"),
        ({"Credits": 5}, "is missing"),
    ],
)
def test_a_field_that_cannot_be_counted_is_named(document: dict[str, Any], problem: str) -> None:
    with pytest.raises(ReadingError) as raised:
        count(document, "credits", "rows[3]")
    assert raised.value.field == "rows[3].credits"
    assert problem in str(raised.value)


def test_the_message_does_not_repeat_what_was_found() -> None:
    with pytest.raises(ReadingError) as raised:
        count({"credits": "sk-secret"}, "credits")
    assert "secret" not in str(raised.value)


@given(JSON)
def test_any_json_counts_as_itself_or_not_at_all(value: Any) -> None:
    try:
        number = count({"credits": value}, "credits")
    except ReadingError as error:
        assert error.field == "credits"  # noqa: PT017
    else:
        assert 0 <= number <= CREDITS_MAX
        assert not isinstance(value, bool)
        assert isinstance(value, int | float | str)
        assert float(value) == number


@pytest.mark.parametrize(("value", "problem"), [(None, "null"), (5, "number"), ("", "empty"), ([], "list")])
def test_text_must_be_text(value: Any, problem: str) -> None:
    with pytest.raises(ReadingError, match=rf"field row\.type: is .*{problem}"):
        text({"type": value}, "type", "row")
    with pytest.raises(ReadingError, match="is missing"):
        text({}, "type", "row")
    assert text({"type": "metered"}, "type") == "metered"


def test_a_list_of_objects_gives_each_its_path() -> None:
    assert objects([{"a": 1}, {}], "rows") == [("rows[0]", {"a": 1}), ("rows[1]", {})]
    for value, field in (({}, "rows"), (None, "rows"), ([{}, 5], "rows[1]"), (["x"], "rows[0]")):
        with pytest.raises(ReadingError) as raised:
            objects(value, "rows")
        assert raised.value.field == field


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("gen2", "gen2"),
        (812, "812"),
        ("", None),
        (None, None),
        (True, None),
        (1.5, None),
        ([], None),
        ("x" * 257, None),
        ("a\nb", None),
        (" a", None),
        (10**50, None),
    ],
)
def test_ids_are_short_text_or_numbers(value: Any, found: str | None) -> None:
    assert identifier(value) == found


def test_sentences_are_cut_and_anything_else_is_silent() -> None:
    assert sentence("x" * 9999) == "x" * 500
    assert sentence({"message": "no"}) == ""


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("999999", 86400.0),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("inf", None),
        ("nan", None),
        ("1e9", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_in_seconds_and_bounded(header: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": header}) == seconds
    assert retry_after({}) is None
