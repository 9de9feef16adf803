"""compact-encoding: the reference's bytes, both ways, and hostile bytes."""

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2prss.codec import compact_extra as extra
from p2prss.codec.compact import Reader, Writer
from p2prss.errors import DecodeError
from p2prss.units import MAX_SAFE_INTEGER

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())["compact_encoding"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Write = Callable[[Writer, Any], None]
Read = Callable[[Reader], Any]


def uint_of(size: int) -> tuple[Write, Read]:
    return (
        lambda out, value: extra.write_fixed_uint(out, value, size),
        lambda src: extra.read_fixed_uint(src, size),
    )


def write_each(write: Write) -> Write:
    def write_array(out: Writer, values: list[Any]) -> None:
        out.uint(len(values))
        for value in values:
            write(out, value)

    return write_array


def bytes_out(write: Callable[[Writer, bytes], None]) -> Write:
    return lambda out, text: write(out, bytes.fromhex(text))


def moment(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


# How the vectors' names and values (buffers are hex) map to our codecs
CODECS: dict[str, tuple[Write, Read]] = {
    "uint": (Writer.uint, Reader.uint),
    **{f"uint{8 * size}": uint_of(size) for size in range(1, 9)},
    "int": (extra.write_int, extra.read_int),
    "lexint": (extra.write_lexint, extra.read_lexint),
    "float64": (extra.write_float64, extra.read_float64),
    "buffer": (bytes_out(Writer.buffer), lambda src: bytes(src.buffer()).hex()),
    "optionalBuffer": (
        lambda out, text: out.optional_buffer(None if text is None else bytes.fromhex(text)),
        lambda src: None if (data := src.optional_buffer()) is None else bytes(data).hex(),
    ),
    "string": (Writer.string, Reader.string),
    "bool": (extra.write_bool, extra.read_bool),
    "fixed32": (
        lambda out, text: out.fixed(bytes.fromhex(text), 32),
        lambda src: src.fixed(32).hex(),
    ),
    "fixed64": (
        lambda out, text: out.fixed(bytes.fromhex(text), 64),
        lambda src: src.fixed(64).hex(),
    ),
    "array<uint>": (write_each(Writer.uint), lambda src: src.array(Reader.uint, 1)),
    "array<string>": (write_each(Writer.string), lambda src: src.array(Reader.string, 1)),
    "uint32array": (
        lambda out, values: extra.write_uint_array(out, values, 4),
        lambda src: extra.read_uint_array(src, 4),
    ),
    "bitarray": (extra.write_bit_array, extra.read_bit_array),
    "frame<string>": (
        lambda out, text: extra.write_frame(out, lambda inner: inner.string(text)),
        lambda src: extra.read_frame(src, Reader.string),
    ),
    "json": (extra.write_json, extra.read_json),
    "raw.json": (extra.write_raw_json, extra.read_raw_json),
    "date(ms)": (
        lambda out, value: extra.write_date(out, moment(value)),
        lambda src: (extra.read_date(src) - EPOCH) // timedelta(milliseconds=1),
    ),
    "ipv4Address": (
        lambda out, value: extra.write_ipv4_address(out, value["host"], value["port"]),
        lambda src: dict(zip(("host", "port"), extra.read_ipv4_address(src), strict=True)),
    ),
    "stringRecord": (extra.write_string_record, extra.read_string_record),
    "any": (extra.write_any, extra.read_any),
    "any(buffer)": (bytes_out(extra.write_any), lambda src: extra.read_any(src).hex()),
    "any(date ms)": (
        lambda out, value: extra.write_any(out, moment(value)),
        lambda src: (extra.read_any(src) - EPOCH) // timedelta(milliseconds=1),
    ),
}


@pytest.mark.parametrize("case", VECTORS["encode"], ids=lambda case: f"{case['type']}-{case['hex'][:20]}")
def test_a_value_and_its_bytes(case: dict[str, Any]) -> None:
    write, read = CODECS[case["type"]]
    out = Writer()
    write(out, case["value"])
    assert out.finish().hex() == case["hex"]
    value = case["value"] if case["type"] != "optionalBuffer" else case["value"] or None
    src = Reader(bytes.fromhex(case["hex"]))
    assert read(src) == value
    assert src.remaining == 0


@pytest.mark.parametrize("case", VECTORS["encode"], ids=lambda case: f"{case['type']}-{case['hex'][:20]}")
def test_a_value_cut_short_does_not_parse(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            CODECS[case["type"]][1](Reader(data[:size]))


@pytest.mark.parametrize(
    "case", VECTORS["decode_edge_cases"], ids=lambda case: f"{case['type']}-{case['hex']}"
)
def test_an_edge_case(case: dict[str, Any]) -> None:
    read = CODECS[case["type"]][1]
    if "error" in case:
        with pytest.raises(DecodeError):
            read(Reader(bytes.fromhex(case["hex"])))
    else:
        assert read(Reader(bytes.fromhex(case["hex"]))) == case["ok"]


@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=200))
@example("lexint", b"\xff" * 40)
@example("json", b"\xfd\x10\x27" + b"[" * 10_000)
@example("any", b"\x07\x01" * 500 + b"\x00")
@example("date(ms)", b"\xff" + (MAX_SAFE_INTEGER).to_bytes(8, "little"))
def test_any_bytes_give_a_value_or_a_decode_error(name: str, data: bytes) -> None:
    src = Reader(data)
    with contextlib.suppress(DecodeError):
        CODECS[name][1](src)
    assert src.position <= len(data)


numbers = st.integers(-(2**52), 2**52 - 1) | st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_any_value_comes_back(value: object) -> None:
    out = Writer()
    extra.write_any(out, value)
    assert extra.read_any(Reader(out.finish())) == value


@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(2**32 + 251, 2**44), max_size=20))
def test_lexints_sort_as_numbers(numbers: list[int]) -> None:
    encoded = {}
    for number in numbers:
        out = Writer()
        extra.write_lexint(out, number)
        encoded[out.finish()] = number
        assert extra.read_lexint(Reader(out.finish())) == number
    assert [encoded[data] for data in sorted(encoded)] == sorted(set(numbers))


@given(st.integers(0, MAX_SAFE_INTEGER))
def test_uint_comes_back_in_the_shortest_form(number: int) -> None:
    out = Writer()
    out.uint(number)
    assert Reader(out.finish()).uint() == number
    assert len(out) == (1 if number <= 0xFC else 3 if number < 2**16 else 5 if number < 2**32 else 9)


@pytest.mark.parametrize(
    ("write", "value"),
    [
        (Writer.uint, -1),
        (Writer.uint, MAX_SAFE_INTEGER + 1),
        (extra.write_int, 2**52),
        (lambda out, value: extra.write_fixed_uint(out, value, 2), 2**16),
        (extra.write_lexint, 2**32 + 5),
        (extra.write_lexint, -1),
        (extra.write_json, float("nan")),
        (extra.write_json, object()),
        (extra.write_any, object()),
        (lambda out, value: out.fixed(value, 32), b"short"),
    ],
)
def test_what_cannot_be_written_is_refused(write: Write, value: object) -> None:
    with pytest.raises(ValueError, match=r"^(not|no encoding|expected|Out of range)"):
        write(Writer(), value)


def test_any_is_bounded_in_depth_and_count() -> None:
    deep: list[Any] = []
    for _ in range(extra.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        extra.write_any(Writer(), deep)
    with pytest.raises(DecodeError, match="deep"):
        extra.read_any(Reader(b"\x07\x01" * (extra.MAX_DEPTH + 2) + b"\x00"))
    out = Writer()
    extra.write_any(out, [None] * extra.MAX_VALUES)
    with pytest.raises(DecodeError, match="many"):
        extra.read_any(Reader(out.finish()))


def test_json_and_bit_arrays_are_bounded() -> None:
    with pytest.raises(DecodeError, match="bytes of JSON"):
        extra.read_raw_json(Reader(b" " * (extra.MAX_JSON_SIZE + 1)))
    with pytest.raises(DecodeError, match="NaN"):
        extra.read_raw_json(Reader(b"NaN"))
    out = Writer()
    extra.write_bit_array(out, [True] * (extra.MAX_BITS + 1))
    with pytest.raises(DecodeError, match="bits"):
        extra.read_bit_array(Reader(out.finish()))


def test_limits_of_the_caller_hold() -> None:
    with pytest.raises(DecodeError, match="at most 2"):
        Reader(b"\x03abc").buffer(2)
    with pytest.raises(DecodeError, match="cannot follow"):
        Reader(b"\x03abc").count(1, limit=2)
    with pytest.raises(DecodeError, match="cannot follow"):
        Reader(b"\x03abc").count(2)
    src = Reader(b"\x01\x02\x03\x04", 1, 3)
    assert bytes(src.rest()) == b"\x02\x03"
    with pytest.raises(DecodeError):
        src.uint()
