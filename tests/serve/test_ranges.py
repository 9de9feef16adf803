"""What a GET asks for: RFC 9110 §13 and §14, header by header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.serve.ranges import (
    ByteRange,
    RangeNotSatisfiableError,
    if_match_fails,
    if_none_match_hits,
    if_range_allows,
    parse_range,
)


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-499", 0, 500),
        ("bytes=500-999", 500, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=999-", 999, 1000),
        ("bytes=0-0", 0, 1),
        ("bytes=-1", 999, 1000),
        ("bytes=-500", 500, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=900-123456", 900, 1000),
        ("Bytes = 1 - 2", 1, 3),
    ],
)
def test_a_single_range_is_read(header: str, start: int, stop: int) -> None:
    assert parse_range(header, 1000) == ByteRange(start, stop, 1000)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=2-1",
        "bytes=1.0-2",
        "bytes=--1",
        "bytes=+1-2",
        "items=0-1",
        "bytes=0-1,3-4",
        "bytes=0-1,",
        "bytes=\u0661-\u0662",
        "bytes=0-" + "9" * 40,
        "bytes=" + "0" * 5000 + "-",
    ],
)
def test_what_is_no_single_range_is_answered_with_the_whole(header: str | None) -> None:
    assert parse_range(header, 1000) is None


@pytest.mark.parametrize(
    ("header", "total"),
    [("bytes=1000-", 1000), ("bytes=5000-6000", 1000), ("bytes=-0", 1000), ("bytes=0-", 0), ("bytes=-1", 0)],
)
def test_a_range_without_one_byte_cannot_be_satisfied(header: str, total: int) -> None:
    with pytest.raises(RangeNotSatisfiableError):
        parse_range(header, total)


def test_content_range_names_the_last_byte_not_the_one_behind_it() -> None:
    assert ByteRange(0, 1, 10).content_range == "bytes 0-0/10"


@given(st.text(alphabet="bytes=- ,0123456789", max_size=30), st.integers(0, 50))
def test_any_header_gives_a_range_within_the_file_or_none(header: str, total: int) -> None:
    try:
        found = parse_range(header, total)
    except RangeNotSatisfiableError:
        return
    assert found is None or 0 <= found.start < found.stop <= found.total == total


@pytest.mark.parametrize(
    ("header", "hit"),
    [
        (None, False),
        ("*", True),
        ('"a"', True),
        ('W/"a"', True),
        ('"x", "a"', True),
        ('"x",W/"b"', True),
        ('"x"', False),
        ("a", False),
        ('"a', False),
        ("", False),
    ],
)
def test_if_none_match_compares_weakly(header: str | None, hit: bool) -> None:
    assert if_none_match_hits(header, '"a"', '"b"') is hit


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (None, True),
        ('"a"', True),
        ('W/"a"', False),
        ('"b"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
        ("", False),
    ],
)
def test_if_range_asks_for_the_very_same_bytes(header: str | None, allowed: bool) -> None:
    assert if_range_allows(header, '"a"') is allowed


@pytest.mark.parametrize(
    ("header", "fails"),
    [
        (None, False),
        ("*", False),
        ('"a"', False),
        ('"b", "a"', False),
        ('"b","a"', False),
        ('W/"a"', True),
        ('"b"', True),
        ("a", True),
        ("", True),
        ('"a"' + " " * 5000, True),
        ('"b",' * 5000 + '"a"', True),
    ],
)
def test_if_match_compares_strongly(header: str | None, fails: bool) -> None:
    assert if_match_fails(header, '"a"') is fails
