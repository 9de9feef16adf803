"""UDX packets: the bytes of one datagram, both ways.

Every packet starts with 20 bytes, all integers little-endian::

    marker u16 (ff 01) | kind u8 | padding u8 | stream id u32 | window u32 | seq u32 | ack u32 | body

``stream id`` is the receiver's. ``seq`` counts packets, not bytes; a packet that is neither DATA nor END
carries the next number without using it up. ``padding`` is the size of the SACK list, or of the zeros of an
MTU probe. Numbers wrap modulo 2^32.

The bulk path of the socket unpacks headers by itself, with ``HEADER``; a ``Header`` is that plain tuple,
because a class would cost as much as all other work on a packet.
Source: udx-native 1.21.3 as observed; spec/07-net, "UDX packets".
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

from p2prss.codec.compact import Buffer
from p2prss.errors import DecodeError

HEADER: Final = Struct("<HBBIIII")  # marker, kind, padding, stream id, window, seq, ack
HEADER_SIZE: Final = 20  # bytes
MARKER: Final = 0x01FF  # bytes ff 01: magic and version

ACK: Final = 0x00  # no bit: nothing but the header
DATA: Final = 0x01  # kind bits; uses up a number
END: Final = 0x02  # uses up a number; may come with DATA
SACK: Final = 0x04  # the body is a list of ranges received above ``ack``
MESSAGE: Final = 0x08  # the body is one unordered message
DESTROY: Final = 0x10
HEARTBEAT: Final = 0x20  # asks for an ACK; everything else in the packet is void

NUMBERED: Final = DATA | END

MAX_PADDING: Final = 255  # bytes
MAX_SACK_RANGES: Final = 50  # per packet, the lowest first

SEQ_MASK: Final = 0xFFFFFFFF
HALF: Final = 0x80000000  # a distance of so many or more means "before"

Header = tuple[int, int, int, int, int, int, int]
"""marker, kind, padding, stream id, window (bytes), seq, ack: as ``HEADER.unpack`` gives them."""

_RANGE: Final = Struct("<II")


def decode(datagram: Buffer) -> tuple[Header, bytes]:
    """Split a datagram into header and body.

    Raises: DecodeError when it is no UDX packet, which says only that it belongs to somebody else.
    """
    if len(datagram) < HEADER_SIZE:
        raise DecodeError("shorter than a UDX header", offset=len(datagram))
    header: Header = HEADER.unpack_from(datagram)
    if header[0] != MARKER:
        raise DecodeError("no UDX packet", offset=0)
    return header, bytes(memoryview(datagram)[HEADER_SIZE:])


def encode(
    kind: int, stream_id: int, window: int, seq: int, ack: int, body: Buffer = b"", padding: int = 0
) -> bytes:
    """One datagram; ``padding`` zeros are put before the body, ``seq`` and ``ack`` are wrapped."""
    header = HEADER.pack(MARKER, kind, padding, stream_id, window, seq & SEQ_MASK, ack & SEQ_MASK)
    return b"".join((header, bytes(padding), body)) if padding else header + body


def encode_ranges(ranges: Iterable[tuple[int, int]]) -> bytes:
    """The body of a SACK: ``start u32 | stop u32`` for each half-open range."""
    return b"".join(_RANGE.pack(start & SEQ_MASK, stop & SEQ_MASK) for start, stop in ranges)


def decode_ranges(padding: int, body: Buffer) -> list[tuple[int, int]]:
    """The ranges of a SACK, unchecked and still wrapped; bytes that fill no pair are ignored.

    Args: padding: the header's, the size of the list when something follows it.
    """
    size = padding if 0 < padding < len(body) else len(body)
    count = min(size // _RANGE.size, MAX_SACK_RANGES)
    return list(_RANGE.iter_unpack(memoryview(body)[: count * _RANGE.size]))


def distance(start: int, number: int) -> int:
    """How far the wire's ``number`` lies after the unwrapped ``start``; negative when it is before."""
    steps = (number - start) & SEQ_MASK
    return steps if steps < HALF else steps - SEQ_MASK - 1
