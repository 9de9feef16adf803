"""The Protocol Buffers subset: round trips, strictness, and bytes from strangers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.codec.protobuf import (
    as_bytes,
    as_uint,
    bytes_field,
    decode_fields,
    decode_packed,
    decode_varint,
    encode_packed,
    encode_varint,
    uint_field,
)
from p2prss.errors import DecodeError
from p2prss.units import MAX_SAFE_INTEGER

UINTS = st.integers(0, MAX_SAFE_INTEGER)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (MAX_SAFE_INTEGER, "ffffffffffffff0f")],
)
def test_known_varints(value: int, encoded: str) -> None:
    assert encode_varint(value).hex() == encoded
    assert decode_varint(bytes.fromhex(encoded), 0) == (value, len(encoded) // 2)


@pytest.mark.parametrize("value", [-1, MAX_SAFE_INTEGER + 1])
def test_what_javascript_cannot_hold_is_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="53-bit"):
        encode_varint(value)


@pytest.mark.parametrize(
    "encoded",
    [
        "",  # nothing at all
        "80",  # no end
        "8080808080808080808001",  # eleven bytes
        "8080808080808010",  # 2^53
    ],
)
def test_bad_varints_are_refused(encoded: str) -> None:
    with pytest.raises(DecodeError):
        decode_varint(bytes.fromhex(encoded), 0)


@pytest.mark.parametrize(
    "message",
    [
        "0a05616263",  # five bytes promised, three there
        "0d0102",  # fixed32 cut short
        "090102030405060708"[:-2],  # fixed64 cut short
        "0b",  # group
        "0e00",  # no such wire type
        "0200",  # field number 0
        "0affffffffffffff7f",  # a length beyond everything
    ],
)
def test_bad_messages_are_refused(message: str) -> None:
    with pytest.raises(DecodeError):
        decode_fields(bytes.fromhex(message))


def test_fixed_width_fields_are_skipped() -> None:
    message = bytes.fromhex("0d01020304" + "110102030405060708") + uint_field(3, 7)
    assert decode_fields(message) == [(3, 7)]


def test_fields_have_a_limit() -> None:
    assert len(decode_fields(uint_field(1, 0) * 5, limit=5)) == 5
    with pytest.raises(DecodeError):
        decode_fields(uint_field(1, 0) * 6, limit=5)
    with pytest.raises(DecodeError):
        decode_packed(bytes(6), limit=5)


def test_the_wire_type_must_fit() -> None:
    with pytest.raises(DecodeError):
        as_bytes(1)
    with pytest.raises(DecodeError):
        as_uint(b"")


@given(st.lists(st.tuples(st.integers(1, 1000), UINTS | st.binary(max_size=300))))
def test_fields_come_back(fields: list[tuple[int, int | bytes]]) -> None:
    message = b"".join(
        uint_field(number, value) if isinstance(value, int) else bytes_field(number, value)
        for number, value in fields
    )
    assert decode_fields(message) == fields


@given(st.lists(UINTS))
def test_packed_integers_come_back(values: list[int]) -> None:
    assert decode_packed(encode_packed(values)) == values


@given(st.binary())
def test_any_bytes_are_fields_or_a_decode_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode_fields(data)
    with contextlib.suppress(DecodeError):
        decode_packed(data)
