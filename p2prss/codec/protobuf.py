"""The subset of Protocol Buffers that Hyperbee's blocks and hints are made of.

A message is a sequence of fields; a field is ``varint(number << 3 | wire type)`` and then a varint
(type 0) or a length and as many bytes (type 2). Fixed-width fields are skipped, groups are refused.
Repeated integers are always packed into one byte field. Integers end at 2^53-1, as in JavaScript.
Unlike the reference, a field that claims more bytes than there are is an error, not a shorter field.
Source: protocol-buffers-encodings 2 and hyperbee lib/messages.js; spec/01-encoding.
"""

from collections.abc import Iterable
from typing import Final

from p2prss.codec.compact import Buffer
from p2prss.errors import DecodeError
from p2prss.units import MAX_SAFE_INTEGER

MAX_FIELDS: Final = 4096  # of one message, or integers in one field: what is parsed costs memory

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_MAX_VARINT_SIZE: Final = 10  # bytes
_FIXED_SIZES: Final = {_FIXED64: 8, _FIXED32: 4}
_ONE_BYTE: Final = tuple(bytes([value]) for value in range(0x80))


def encode_varint(value: int) -> bytes:
    """An unsigned integer, 7 bits per byte, lowest first."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if 0 <= value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if not 0 <= value <= MAX_SAFE_INTEGER:
        raise ValueError(f"not an unsigned 53-bit integer: {value}")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """The integer at ``position`` and the position behind it."""
    if position < len(data) and data[position] < 0x80:
        return data[position], position + 1
    value = shift = 0
    for place, byte in enumerate(data[position : position + _MAX_VARINT_SIZE], position + 1):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > MAX_SAFE_INTEGER:
                raise DecodeError("integer above 2^53-1", offset=position)
            return value, place
        shift += 7
    raise DecodeError("integer without an end", offset=position)


def encode_packed(values: Iterable[int]) -> bytes:
    """Repeated integers as the content of one byte field."""
    return b"".join(map(encode_varint, values))


def decode_packed(data: bytes, limit: int = MAX_FIELDS) -> list[int]:
    """The integers in the content of one byte field; more than ``limit`` are refused."""
    if len(data) > limit and sum(byte < 0x80 for byte in data) > limit:
        raise DecodeError(f"more than {limit} integers")
    if data.isascii():  # each of them in one byte
        return list(data)
    values: list[int] = []
    value = shift = 0
    for place, byte in enumerate(data):  # in one loop: listing a tree spends its time here
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > MAX_SAFE_INTEGER:
                raise DecodeError("integer above 2^53-1", offset=place)
            values.append(value)
            value = shift = 0
        else:
            shift += 7
            if shift >= 7 * _MAX_VARINT_SIZE:
                raise DecodeError("integer without an end", offset=place)
    if shift:
        raise DecodeError("integer without an end", offset=len(data))
    return values


def uint_field(number: int, value: int) -> bytes:
    """A whole integer field."""
    return encode_varint(number << 3 | _VARINT) + encode_varint(value)


def bytes_field(number: int, data: Buffer) -> bytes:
    """A whole byte field: bytes, UTF-8 text, a message, or packed integers."""
    return b"".join((encode_varint(number << 3 | _BYTES), encode_varint(len(data)), data))


def decode_fields(data: bytes, limit: int = MAX_FIELDS) -> list[tuple[int, int | bytes]]:
    """The fields of a message in order, as (number, value): an int or bytes, by the wire type.

    Raises: DecodeError when the bytes are not a sequence of at most ``limit`` whole fields.
    """
    fields: list[tuple[int, int | bytes]] = []
    position, end = 0, len(data)
    while position < end:
        start = position
        if len(fields) == limit:
            raise DecodeError(f"more than {limit} fields", offset=start)
        tag, position = decode_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise DecodeError("field number 0", offset=start)
        if wire_type == _VARINT:
            value, position = decode_varint(data, position)
            fields.append((number, value))
            continue
        if wire_type == _BYTES:
            size, position = decode_varint(data, position)
            if size <= end - position:
                fields.append((number, data[position : position + size]))
        elif wire_type in _FIXED_SIZES:
            size = _FIXED_SIZES[wire_type]
        else:
            raise DecodeError(f"wire type {wire_type}", offset=start)
        position += size
        if position > end:
            raise DecodeError("field longer than its message", offset=start)
    return fields


def as_bytes(value: int | bytes) -> bytes:
    """The value of a field that must be bytes."""
    if isinstance(value, int):
        raise DecodeError("integer where bytes are expected")
    return value


def as_uint(value: int | bytes) -> int:
    """The value of a field that must be an integer."""
    if isinstance(value, int):
        return value
    raise DecodeError("bytes where an integer is expected")
