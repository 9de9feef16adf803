"""compact-encoding, the codecs few messages use: fixed-width numbers, lexint, bit arrays, JSON, ``any``.

Each codec is a pair of functions over the ``Writer`` and ``Reader`` of ``codec.compact``: ``write_x`` raises
ValueError for what it cannot say, ``read_x`` DecodeError for what does not parse or is beyond our limits.
Source: compact-encoding 3.5.2 index.js, lexint.js, raw.js; spec/01-encoding.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from struct import Struct
from typing import Any, Final, TypeVar

from p2prss.codec.compact import Reader, Writer
from p2prss.errors import DecodeError
from p2prss.units import MAX_SAFE_INTEGER, MIB

MAX_DEPTH: Final = 64  # lists and objects inside each other
MAX_VALUES: Final = 0x10000  # values in one ``any``, at all depths
MAX_JSON_SIZE: Final = 1 * MIB  # bytes
MAX_BITS: Final = 0x100000  # in one bit array

_FLOAT64: Final = Struct("<d")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_INT_LIMIT: Final = 2**52

T = TypeVar("T")


def write_fixed_uint(out: Writer, value: int, size: int) -> None:
    """uint8, uint16, ... uint64: ``size`` bytes, little-endian, up to 2^53-1."""
    if not 0 <= value <= min(MAX_SAFE_INTEGER, (1 << 8 * size) - 1):
        raise ValueError(f"not an unsigned integer of {size} bytes: {value}")
    out.raw(value.to_bytes(size, "little"))


def read_fixed_uint(src: Reader, size: int) -> int:
    start = src.position
    value = int.from_bytes(src.view(size), "little")
    if value > MAX_SAFE_INTEGER:
        raise DecodeError("integer above 2^53-1", offset=start)
    return value


def write_int(out: Writer, value: int) -> None:
    """A signed integer from -2^52 to 2^52-1, zigzag: n >= 0 is written as 2n, n < 0 as -2n-1."""
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise ValueError(f"not a signed 53-bit integer: {value}")
    out.uint(2 * value if value >= 0 else -2 * value - 1)


def read_int(src: Reader) -> int:
    value = src.uint()
    return -(value + 1 >> 1) if value & 1 else value >> 1


def write_lexint(out: Writer, value: int) -> None:
    """An unsigned integer whose bytes sort as the numbers do; above 2^44 low bits are lost.

    2^32 to 2^32+250 are refused: the reference writes them so that they cannot be read.
    """
    rest = value - 251
    if 0 <= value < 251:
        out.raw(bytes([value]))
        return
    for lead, limit in ((0xFB, 1 << 8), (0xFC, 1 << 16), (0xFD, 1 << 24), (0xFE, 1 << 32)):
        if 0 <= value < limit:
            out.raw(bytes([lead]) + rest.to_bytes(lead - 0xFA, "big"))
            return
    exponent = rest.bit_length() - 33
    if exponent < 0 or value > MAX_SAFE_INTEGER:
        raise ValueError(f"not a lexint: {value}")
    mantissa = rest << 11 - exponent if exponent <= 11 else rest >> exponent - 11
    out.raw(bytes([0xFF, exponent]) + mantissa.to_bytes(6, "big"))


def read_lexint(src: Reader) -> int:
    start, lead = src.position, read_fixed_uint(src, 1)
    if lead < 0xFB:
        return lead
    if lead < 0xFF:
        return int.from_bytes(src.view(lead - 0xFA), "big") + 251
    exponent = read_fixed_uint(src, 1)
    mantissa = int.from_bytes(src.view(6), "big")
    value = (mantissa << exponent >> 11) + 251 if exponent <= 24 else MAX_SAFE_INTEGER + 1
    if value > MAX_SAFE_INTEGER:
        raise DecodeError("integer above 2^53-1", offset=start)
    return value


def write_float64(out: Writer, value: float) -> None:
    out.raw(_FLOAT64.pack(value))


def read_float64(src: Reader) -> float:
    value: float = _FLOAT64.unpack(src.view(8))[0]
    return value


def write_bool(out: Writer, value: bool) -> None:
    out.raw(b"\x01" if value else b"\x00")


def read_bool(src: Reader) -> bool:
    """Only 1 is true; any other byte is false, as in the reference."""
    return src.view(1)[0] == 1


def write_uint_array(out: Writer, values: Sequence[int], size: int) -> None:
    """uint16array, uint32array: the item count (not bytes), then items of ``size`` bytes."""
    out.uint(len(values))
    for value in values:
        write_fixed_uint(out, value, size)


def read_uint_array(src: Reader, size: int) -> list[int]:
    return src.array(lambda items: read_fixed_uint(items, size), size)


def write_bit_array(out: Writer, bits: Sequence[bool]) -> None:
    """The bit count, then the bits, lowest first."""
    out.uint(len(bits))
    number = sum(1 << place for place, bit in enumerate(bits) if bit)
    out.raw(number.to_bytes((len(bits) + 7) // 8, "little"))


def read_bit_array(src: Reader) -> list[bool]:
    start, count = src.position, src.uint()
    if count > MAX_BITS:
        raise DecodeError(f"{count} bits where at most {MAX_BITS} are allowed", offset=start)
    data = src.view((count + 7) // 8)
    return [bool(data[place >> 3] >> (place & 7) & 1) for place in range(count)]


def write_frame(out: Writer, write: Callable[[Writer], None]) -> None:
    """What ``write`` writes, with its length in bytes in front."""
    inner = Writer()
    write(inner)
    out.buffer(inner.finish())


def read_frame(src: Reader, read: Callable[[Reader], T]) -> T:
    """What ``read`` reads from a frame; bytes it leaves in the frame are skipped."""
    return read(Reader(src.buffer()))


def write_raw_json(out: Writer, value: object) -> None:
    """Compact JSON up to the end of the message; ValueError for what JSON cannot say."""
    out.raw(_json(value))


def read_raw_json(src: Reader) -> Any:
    return _parse_json(src, src.rest())


def write_json(out: Writer, value: object) -> None:
    """Compact JSON with its length in bytes in front."""
    out.buffer(_json(value))


def read_json(src: Reader) -> Any:
    return _parse_json(src, src.buffer(MAX_JSON_SIZE))


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def _parse_json(src: Reader, data: memoryview) -> Any:
    offset = src.position - len(data)
    if len(data) > MAX_JSON_SIZE:
        raise DecodeError(f"{len(data)} bytes of JSON", offset=offset)
    try:
        return json.loads(bytes(data), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}", offset=offset) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def write_date(out: Writer, value: datetime) -> None:
    """A moment, in whole milliseconds since 1970 (UTC)."""
    write_int(out, (value - _EPOCH) // _MILLISECOND)


def read_date(src: Reader) -> datetime:
    start, milliseconds = src.position, read_int(src)
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        raise DecodeError("a date before year 1 or after 9999", offset=start) from None


def write_ipv4_address(out: Writer, host: str, port: int) -> None:
    """4 bytes, then the port as u16."""
    out.raw(IPv4Address(host).packed)
    write_fixed_uint(out, port, 2)


def read_ipv4_address(src: Reader) -> tuple[str, int]:
    return str(IPv4Address(src.fixed(4))), read_fixed_uint(src, 2)


def write_string_record(out: Writer, record: Mapping[str, str]) -> None:
    """The count, then a string for each key and each value."""
    out.uint(len(record))
    for key, value in record.items():
        out.string(key)
        out.string(value)


def read_string_record(src: Reader) -> dict[str, str]:
    return dict(src.array(lambda items: (items.string(), items.string()), 2))


# ``any``: one uint tells the type of what follows

_NULL, _BOOL, _STRING, _BUFFER, _UINT, _INT, _FLOAT, _ARRAY, _OBJECT, _DATE = range(10)


def write_any(out: Writer, value: object) -> None:
    """None, bool, str, bytes, int, float, list, dict or datetime, nested up to ``MAX_DEPTH``.

    Whole floats are written as integers, as JavaScript has one type of number.
    """
    _write_any(out, value, MAX_DEPTH)


def _write_any(out: Writer, value: object, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_SAFE_INTEGER:
        value = int(value)
    match value:
        case None:
            out.uint(_NULL)
        case bool():
            out.uint(_BOOL)
            write_bool(out, value)
        case str():
            out.uint(_STRING)
            out.string(value)
        case bytes() | bytearray() | memoryview():
            out.uint(_BUFFER)
            out.buffer(value)
        case int() if value >= 0:
            out.uint(_UINT)
            out.uint(value)
        case int():
            out.uint(_INT)
            write_int(out, value)
        case float():
            out.uint(_FLOAT)
            write_float64(out, value)
        case list() | tuple():
            out.uint(_ARRAY)
            out.uint(len(value))
            for item in value:
                _write_any(out, item, depth - 1)
        case dict():
            out.uint(_OBJECT)
            out.uint(len(value))
            for key, item in value.items():
                out.string(key)
                _write_any(out, item, depth - 1)
        case datetime():
            out.uint(_DATE)
            write_date(out, value)
        case _:
            raise ValueError(f"no encoding for {type(value).__name__}")


def read_any(src: Reader) -> Any:
    """The value that was written; at most ``MAX_VALUES`` of them, nested up to ``MAX_DEPTH``."""
    return _AnyReader(src).read(MAX_DEPTH)


class _AnyReader:
    """Counts the values it reads."""

    def __init__(self, src: Reader) -> None:
        self._src = src
        self._left = MAX_VALUES

    def read(self, depth: int) -> Any:
        src = self._src
        start, kind = src.position, src.uint()
        self._left -= 1
        if depth < 0 or self._left < 0:
            raise DecodeError("too many values, or nested too deep", offset=start)
        if kind == _NULL:
            return None
        if kind == _ARRAY:
            return [self.read(depth - 1) for _ in range(src.count(1))]
        if kind == _OBJECT:
            return {src.string(): self.read(depth - 1) for _ in range(src.count(2))}
        read = _READERS.get(kind)
        if read is None:
            raise DecodeError(f"unknown type {kind}", offset=start)
        return read(src)


_READERS: Final[Mapping[int, Callable[[Reader], Any]]] = {
    _BOOL: read_bool,
    _STRING: Reader.string,
    _BUFFER: lambda src: bytes(src.buffer()),
    _UINT: Reader.uint,
    _INT: read_int,
    _FLOAT: read_float64,
    _DATE: read_date,
}
