"""compact-encoding: the integers, buffers and strings every Hypercore message is made of.

A ``Reader`` takes hostile bytes and raises nothing but ``DecodeError``; a ``Writer`` collects bytes.
Source: compact-encoding 3.5.2 index.js; spec/01-encoding.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, TypeVar

from p2prss.errors import DecodeError
from p2prss.units import MAX_SAFE_INTEGER

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview

MAX_ARRAY_LENGTH: Final = 0x100000  # items; the reference refuses more

_U16, _U32, _U64 = Struct("<H"), Struct("<I"), Struct("<Q")
_U8_LIMIT: Final = 0xFC


class Writer:
    """Collects the encoding of one value after the other."""

    __slots__ = ("_out",)

    def __init__(self) -> None:
        self._out = bytearray()

    def __len__(self) -> int:
        return len(self._out)

    def finish(self) -> bytes:
        """All that was written."""
        return bytes(self._out)

    def uint(self, value: int) -> None:
        """An unsigned integer up to 2^53-1, in 1, 3, 5 or 9 bytes."""
        if 0 <= value <= _U8_LIMIT:
            self._out.append(value)
        elif 0 <= value <= 0xFFFF:
            self._out += b"\xfd" + _U16.pack(value)
        elif 0 <= value <= 0xFFFFFFFF:
            self._out += b"\xfe" + _U32.pack(value)
        elif 0 <= value <= MAX_SAFE_INTEGER:
            self._out += b"\xff" + _U64.pack(value)
        else:
            raise ValueError(f"not an unsigned 53-bit integer: {value}")

    def raw(self, data: Buffer) -> None:
        """Bytes as they are; their length is not written."""
        self._out += data

    def fixed(self, data: Buffer, size: int) -> None:
        """Exactly ``size`` bytes."""
        if len(data) != size:
            raise ValueError(f"expected {size} bytes, got {len(data)}")
        self._out += data

    def buffer(self, data: Buffer) -> None:
        """A byte string with its length in front."""
        self.uint(len(data))
        self._out += data

    def optional_buffer(self, data: Buffer | None) -> None:
        """A byte string; ``None`` and the empty one are the same on the wire."""
        self.buffer(data if data is not None else b"")

    def string(self, text: str) -> None:
        """UTF-8 text with its length in bytes in front."""
        self.buffer(text.encode())


class Reader:
    """Takes one value after the other from ``data``; never reads past ``end``.

    Raises: DecodeError from every method when the bytes do not hold what is asked for.
    """

    __slots__ = ("_data", "end", "position")

    def __init__(self, data: Buffer, position: int = 0, end: int | None = None) -> None:
        self._data = data if isinstance(data, memoryview) else memoryview(data)
        self.position = position
        self.end = len(self._data) if end is None else end

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return self.end - self.position

    def _take(self, size: int) -> int:
        start = self.position
        if size > self.end - start:
            raise DecodeError(f"{size} bytes wanted, {self.end - start} left", offset=start)
        self.position = start + size
        return start

    def uint(self) -> int:
        """An unsigned integer up to 2^53-1; overlong forms are accepted, as the reference does."""
        start = self._take(1)
        first = self._data[start]
        if first <= _U8_LIMIT:
            return first
        size = 1 << (first - _U8_LIMIT)
        start = self._take(size)
        value = int.from_bytes(self._data[start : start + size], "little")
        if value > MAX_SAFE_INTEGER:
            raise DecodeError("integer above 2^53-1", offset=start)
        return value

    def fixed(self, size: int) -> bytes:
        """Exactly ``size`` bytes, copied."""
        start = self._take(size)
        return bytes(self._data[start : start + size])

    def view(self, size: int) -> memoryview:
        """Exactly ``size`` bytes, not copied: valid as long as the data is."""
        start = self._take(size)
        return self._data[start : start + size]

    def rest(self) -> memoryview:
        """All bytes that are left, not copied."""
        return self.view(self.end - self.position)

    def buffer(self, limit: int | None = None) -> memoryview:
        """A byte string with its length in front, not copied; ``limit`` is its largest size in bytes."""
        start, size = self.position, self.uint()
        if limit is not None and size > limit:
            raise DecodeError(f"{size} bytes where at most {limit} are allowed", offset=start)
        return self.view(size)

    def optional_buffer(self, limit: int | None = None) -> memoryview | None:
        """As ``buffer``; the empty one is ``None``."""
        data = self.buffer(limit)
        return data if len(data) else None

    def string(self, limit: int | None = None) -> str:
        """UTF-8 text with its length in front; bad UTF-8 becomes U+FFFD, as in the reference."""
        return bytes(self.buffer(limit)).decode("utf-8", "replace")

    def count(self, item_size: int, limit: int = MAX_ARRAY_LENGTH) -> int:
        """The number of items that follow, each at least ``item_size`` bytes: it must fit in what is left."""
        start, count = self.position, self.uint()
        if count > limit or count * item_size > self.end - self.position:
            raise DecodeError(f"{count} items cannot follow", offset=start)
        return count

    def array(self, item: Callable[["Reader"], T], item_size: int, limit: int = MAX_ARRAY_LENGTH) -> list[T]:
        """A list with its item count in front."""
        return [item(self) for _ in range(self.count(item_size, limit))]
