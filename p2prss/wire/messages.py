"""The messages of Hypercore replication: what two peers say about one log, byte by byte.

Participants: the two ends of one mux channel, one channel per log; both ask and answer at once. Each
message travels as ``uint channel | uint type | payload``; this module makes and reads the payload, and
the handshake inside the channel's open. It does not judge: whether a range lies in the log, or a proof
holds, is the business of ``replication`` and ``log.proof``.

A decoded message refers to the bytes it came from: ``memoryview`` fields (a block's value, the words of
a bitfield) are slices of the frame and keep it alive. Bytes behind the last known field are ignored, as
the reference does, so that later versions may add fields.

Source: hypercore 11.37.1 lib/messages.js; spec/05-replication.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.errors import DecodeError
from p2prss.units import MAX_SAFE_INTEGER
from p2prss.wire.message import Message
from p2prss.wire.proof_messages import Cancel, Data, NoData, NoDataReason, Request, decode_block_answer

__all__ = ["BitfieldMessage", "Cancel", "Data", "Extension", "Message", "NoData", "NoDataReason", "Range"]
__all__ += ["ReplicationHandshake", "Request", "Sync", "Unwant", "Want", "MESSAGES", "decode_message"]

CAPABILITY_SIZE: Final = 32  # bytes
MAX_BITFIELD_WORDS: Final = 2 * 2**21 // 32  # words; a want covers at most 2^21 blocks, twice for slack
MAX_EXTENSION_NAME_BYTES: Final = 256

_CAN_UPGRADE, _UPLOADING, _DOWNLOADING, _HAS_MANIFEST, _ALLOW_PUSH = 1, 2, 4, 8, 16  # flags of sync
_DROP, _SINGLE = 1, 2  # flags of range
_ANY = 1  # flag of want
_SEEKS = 1  # flag of the handshake


@dataclass(frozen=True, slots=True)
class Sync(Message):
    """Where the sender stands and what it is willing to do.

    Wire: flags uint | fork uint | length uint | remote length uint.
    """

    TYPE: ClassVar[int] = 0

    fork: int
    length: int  # blocks the sender's log has
    remote_length: int  # blocks the receiver last announced; 0 when on another fork
    can_upgrade: bool = False  # the sender can prove ``length`` to the receiver from ``remote_length``
    uploading: bool = True
    downloading: bool = True
    has_manifest: bool = False
    allow_push: bool = False

    def encode(self, out: Writer) -> None:
        out.uint(
            (_CAN_UPGRADE if self.can_upgrade else 0)
            | (_UPLOADING if self.uploading else 0)
            | (_DOWNLOADING if self.downloading else 0)
            | (_HAS_MANIFEST if self.has_manifest else 0)
            | (_ALLOW_PUSH if self.allow_push else 0)
        )
        out.uint(self.fork)
        out.uint(self.length)
        out.uint(self.remote_length)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        flags = src.uint()
        return cls(
            fork=src.uint(),
            length=src.uint(),
            remote_length=src.uint(),
            can_upgrade=bool(flags & _CAN_UPGRADE),
            uploading=bool(flags & _UPLOADING),
            downloading=bool(flags & _DOWNLOADING),
            has_manifest=bool(flags & _HAS_MANIFEST),
            allow_push=bool(flags & _ALLOW_PUSH),
        )


@dataclass(frozen=True, slots=True)
class _Stretch(Message):
    """The fields that ``Want`` and ``Unwant`` share. Wire: start uint | length uint | flags uint unless 0."""

    start: int  # block index
    length: int  # blocks
    any: bool = False  # one held block of the stretch is enough

    def encode(self, out: Writer) -> None:
        out.uint(self.start)
        out.uint(self.length)
        if self.any:
            out.uint(_ANY)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        return cls(src.uint(), src.uint(), any=bool(src.remaining and src.uint() & _ANY))


@dataclass(frozen=True, slots=True)
class Want(_Stretch):
    """Tell me which blocks of this stretch you have, and keep telling."""

    TYPE: ClassVar[int] = 5


@dataclass(frozen=True, slots=True)
class Unwant(_Stretch):
    """Stop telling: takes back the ``Want`` of the same fields."""

    TYPE: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class BitfieldMessage(Message):
    """Which blocks from ``start`` on the sender has: block start+i is bit i%32 of word i//32.

    Wire: start uint | count uint | count words, u32 little-endian. A start that is no multiple of 32 means
    nothing; the reference ignores such a message.
    """

    TYPE: ClassVar[int] = 7

    start: int  # block index
    words: Buffer  # 4 bytes each, as on the wire

    def encode(self, out: Writer) -> None:
        out.uint(self.start)
        out.uint(len(self.words) // 4)
        out.raw(self.words)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        start = src.uint()
        count = src.count(4, MAX_BITFIELD_WORDS)
        if start > MAX_SAFE_INTEGER - 32 * count:
            raise DecodeError("bitfield beyond block 2^53-1", offset=src.position)
        return cls(start, src.view(4 * count))


@dataclass(frozen=True, slots=True)
class Range(Message):
    """Blocks the sender has or, with ``drop``, has no longer.

    Wire: flags uint | start uint | length uint, left out when it is 1.
    """

    TYPE: ClassVar[int] = 8

    start: int  # block index
    length: int = 1  # blocks
    drop: bool = False

    def encode(self, out: Writer) -> None:
        single = self.length == 1
        out.uint((_DROP if self.drop else 0) | (_SINGLE if single else 0))
        out.uint(self.start)
        if not single:
            out.uint(self.length)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        flags = src.uint()
        start = src.uint()
        length = 1 if flags & _SINGLE else src.uint()
        return cls(start, length, drop=bool(flags & _DROP))


@dataclass(frozen=True, slots=True)
class Extension(Message):
    """An application's own message. Wire: name string | the rest is the body.

    An empty name stands for the one sent before on the same channel. We use none and ignore them all.
    """

    TYPE: ClassVar[int] = 9

    name: str
    body: Buffer

    def encode(self, out: Writer) -> None:
        out.string(self.name)
        out.raw(self.body)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        return cls(src.string(MAX_EXTENSION_NAME_BYTES), src.rest())


MESSAGES: Final[Mapping[int, type[Message]]] = {
    kind.TYPE: kind
    for kind in (Sync, Request, Cancel, Data, NoData, Want, Unwant, BitfieldMessage, Range, Extension)
}


def decode_message(message_type: int, payload: Buffer) -> Message | None:
    """Read one message off a channel; ``None`` for a type we do not know: it is to be ignored.

    Raises: DecodeError, and nothing else, whatever the bytes are.
    """
    if message_type == Data.TYPE:
        answer = decode_block_answer(memoryview(payload))
        if answer is not None:
            return answer
    kind = MESSAGES.get(message_type)
    return kind.decode(Reader(payload)) if kind is not None else None


@dataclass(frozen=True, slots=True)
class ReplicationHandshake:
    """What a channel's open carries: the proof that its sender knows the core's key.

    Wire: flags uint (1 seeks) | capability 32 bytes, see ``wire.capability``.
    """

    capability: bytes
    seeks: bool = True  # the sender answers seek requests

    def encode(self) -> bytes:
        out = Writer()
        out.uint(_SEEKS if self.seeks else 0)
        out.fixed(self.capability, CAPABILITY_SIZE)
        return out.finish()

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Raises: DecodeError."""
        src = Reader(data)
        flags = src.uint()
        return cls(src.fixed(CAPABILITY_SIZE), seeks=bool(flags & _SEEKS))
