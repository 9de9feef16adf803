"""The prefetch hints bees exchange as the extension ``hyperbee``: which blocks a query will need.

A reader that waits for its first block says what it looks for (``Get``, ``Iterate``); who holds the
tree answers with the blocks it passed (``Cached``), which the reader then requests all at once. Nobody
waits for an answer and nothing fails without one.
Wire: uint length | one field of number 1 (cache), 2 (get) or 3 (iterator), a message each.
Source: hyperbee lib/extension.js, lib/messages.js; spec/06-drive, "Hints".
"""

from dataclasses import dataclass
from typing import Final

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.codec.protobuf import (
    as_bytes,
    as_uint,
    bytes_field,
    decode_fields,
    decode_packed,
    encode_packed,
    uint_field,
)
from p2prss.drive.key_range import KeyRange
from p2prss.errors import DecodeError

NAME: Final = "hyperbee"
MAX_CACHED_BLOCKS: Final = 2176  # in one message; the reference sends 128, and 2176 per query
MAX_CHECKPOINT: Final = 3 * 64  # integers: a place in a walk, three per node from the root down
MAX_KEY_SIZE: Final = 4096  # bytes

_CACHE, _GET, _ITERATOR = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Cached:
    """Blocks a query passes: ``08`` start | ``10`` stop | ``1a`` blocks, packed."""

    start: int
    stop: int
    blocks: tuple[int, ...] = ()

    def encode(self) -> bytes:
        return uint_field(1, self.start) + uint_field(2, self.stop) + _packed(3, self.blocks)

    @classmethod
    def decode(cls, data: bytes) -> "Cached":
        start = stop = 0
        blocks: list[int] = []
        for number, value in decode_fields(data):
            if number == 1:
                start = as_uint(value)
            elif number == 2:
                stop = as_uint(value)
            elif number == 3:
                blocks = decode_packed(as_bytes(value), MAX_CACHED_BLOCKS)
        return cls(start, stop, tuple(blocks))


@dataclass(frozen=True, slots=True)
class Get:
    """Somebody looks a key up: ``08`` version | ``12`` key."""

    version: int
    key: bytes

    def encode(self) -> bytes:
        return uint_field(1, self.version) + bytes_field(2, self.key)

    @classmethod
    def decode(cls, data: bytes) -> "Get":
        version, key = 0, b""
        for number, value in decode_fields(data):
            if number == 1:
                version = as_uint(value)
            elif number == 2:
                key = _key(value)
        return cls(version, key)


@dataclass(frozen=True, slots=True)
class Iterate:
    """Somebody lists a range.

    Wire: ``08`` version | ``12`` gte | ``1a`` gt | ``22`` lte | ``2a`` lt | ``30`` limit (0: none) |
    ``38`` reverse | ``42`` checkpoint, packed triples (block, node, position in it).
    """

    version: int
    keys: KeyRange
    limit: int = 0  # entries
    reverse: bool = False
    checkpoint: tuple[int, ...] = ()

    def encode(self) -> bytes:
        bounds = (self.keys.gte, self.keys.gt, self.keys.lte, self.keys.lt)
        return b"".join(
            (
                uint_field(1, self.version),
                *(bytes_field(number, key) for number, key in enumerate(bounds, 2) if key is not None),
                uint_field(6, self.limit),
                uint_field(7, self.reverse),
                _packed(8, self.checkpoint),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> "Iterate":
        version = limit = reverse = 0
        bounds: dict[int, bytes] = {}
        checkpoint: list[int] = []
        for number, value in decode_fields(data):
            if number == 1:
                version = as_uint(value)
            elif 2 <= number <= 5:
                bounds[number] = _key(value)
            elif number == 6:
                limit = as_uint(value)
            elif number == 7:
                reverse = as_uint(value)
            elif number == 8:
                checkpoint = decode_packed(as_bytes(value), MAX_CHECKPOINT)
        try:
            keys = KeyRange(gte=bounds.get(2), gt=bounds.get(3), lte=bounds.get(4), lt=bounds.get(5))
        except ValueError as error:
            raise DecodeError(str(error)) from None
        if len(checkpoint) % 3:
            raise DecodeError("a checkpoint that is not made of triples")
        return cls(version, keys, limit, bool(reverse), tuple(checkpoint))


Hint = Cached | Get | Iterate
_NUMBERS: Final[dict[type[Hint], int]] = {Cached: _CACHE, Get: _GET, Iterate: _ITERATOR}
_HINTS: Final[dict[int, type[Hint]]] = {number: hint for hint, number in _NUMBERS.items()}


def encode_hint(hint: Hint) -> bytes:
    """The payload of an extension message."""
    out = Writer()
    out.buffer(bytes_field(_NUMBERS[type(hint)], hint.encode()))
    return out.finish()


def decode_hint(payload: Buffer) -> Hint | None:
    """Read a payload; None for a kind of hint we do not know.

    Raises: DecodeError.
    """
    for number, value in decode_fields(bytes(Reader(payload).buffer())):
        if number in _HINTS:
            return _HINTS[number].decode(as_bytes(value))
    return None


def _packed(number: int, values: tuple[int, ...]) -> bytes:
    return bytes_field(number, encode_packed(values)) if values else b""


def _key(value: int | bytes) -> bytes:
    key = as_bytes(value)
    if len(key) > MAX_KEY_SIZE:
        raise DecodeError(f"a key of {len(key)} bytes")
    return key
