"""Messages of the ``blind-relay`` channel: two peers meet on a node that copies their packets unread.

Source: blind-relay 1.3 index.js; spec/07-net.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.errors import DecodeError

PROTOCOL: Final = "blind-relay"
TOKEN_SIZE: Final = 32  # bytes


@dataclass(frozen=True, slots=True)
class Pair:
    """Message 0, the wish to be paired and its answer.

    Wire: flags byte (1 = initiator) | token 32 | id uint | seq uint.
    """

    is_initiator: bool
    token: bytes = field(repr=False)
    id: int  # of a UDX stream
    seq: int = 0

    def encode(self) -> bytes:
        out = Writer()
        out.uint(int(self.is_initiator))
        out.fixed(self.token, TOKEN_SIZE)
        out.uint(self.id)
        out.uint(self.seq)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        flags, token, stream_id = src.uint(), src.fixed(TOKEN_SIZE), src.uint()
        if stream_id > 0xFFFFFFFF:
            raise DecodeError("a stream id has 32 bits", offset=src.position)
        return cls(bool(flags & 1), token, stream_id, src.uint())


@dataclass(frozen=True, slots=True)
class Unpair:
    """Message 1, forget the pairing: byte 0 | token 32."""

    token: bytes = field(repr=False)

    def encode(self) -> bytes:
        out = Writer()
        out.uint(0)
        out.fixed(self.token, TOKEN_SIZE)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        src = Reader(data)
        src.uint()
        return cls(src.fixed(TOKEN_SIZE))


MESSAGES: Final = (Pair, Unpair)
