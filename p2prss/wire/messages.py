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
from enum import IntEnum
from typing import ClassVar, Final, Self

from p2prss.codec.compact import Buffer, Reader, Writer
from p2prss.errors import DecodeError
from p2prss.log.manifest import Manifest
from p2prss.log.proof_parts import (
    BlockProof,
    BlockRequest,
    HashProof,
    HashRequest,
    Proof,
    ProofRequest,
    SeekProof,
    SeekRequest,
    TreeNode,
    UpgradeProof,
    UpgradeRequest,
)
from p2prss.units import KIB, MAX_SAFE_INTEGER

HASH_SIZE: Final = 32  # bytes
CAPABILITY_SIZE: Final = 32  # bytes
MAX_PROOF_NODES: Final = 1024  # nodes per list; a tree of 2^53 blocks needs fewer than 2 x 53
MAX_SIGNATURE_BYTES: Final = 64 * KIB  # one signer takes 68 bytes; a container with patches takes more
MAX_BITFIELD_WORDS: Final = 2 * 2**21 // 32  # words; a want covers at most 2^21 blocks, twice for slack
MAX_EXTENSION_NAME_BYTES: Final = 256

_BLOCK, _HASH, _SEEK, _UPGRADE, _MANIFEST, _PRIORITY = 1, 2, 4, 8, 16, 32  # flags of request and data
_CAN_UPGRADE, _UPLOADING, _DOWNLOADING, _HAS_MANIFEST, _ALLOW_PUSH = 1, 2, 4, 8, 16  # flags of sync
_DROP, _SINGLE = 1, 2  # flags of range
_ANY = 1  # flag of want
_HAS_REASON = 1  # flag of no data
_SEEKS = 1  # flag of the handshake
_NODE_MIN_SIZE: Final = 1 + 1 + HASH_SIZE


class Message:
    """One replication message: ``encode_parts`` gives its payload, ``decode`` reads it."""

    __slots__ = ()
    TYPE: ClassVar[int]  # its number on the wire

    def encode(self, out: Writer) -> None:
        """Write the payload."""
        raise NotImplementedError

    @classmethod
    def decode(cls, src: Reader) -> Self:
        """Read the payload. Raises: DecodeError."""
        raise NotImplementedError

    def encode_parts(self) -> list[Buffer]:
        """The payload in pieces, big values uncopied: whoever makes the frame copies each once."""
        out = Writer()
        self.encode(out)
        return [out.finish()]


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
class Request(Message):
    """A question; the answer, ``Data`` or ``NoData``, carries the same id.

    Wire: flags uint | id uint | fork uint | the parts asked for, in the order of ``ProofRequest``, each two
    uints (the manifest is a flag only) | priority uint, when it is not 0.
    """

    TYPE: ClassVar[int] = 1

    id: int  # 0 is the reference's for probes and pushes
    proof: ProofRequest
    priority: int = 0

    def encode(self, out: Writer) -> None:
        proof = self.proof
        pairs = ((_BLOCK, proof.block), (_HASH, proof.hash), (_SEEK, proof.seek), (_UPGRADE, proof.upgrade))
        flags = (_MANIFEST if proof.manifest else 0) | (_PRIORITY if self.priority else 0)
        for flag, pair in pairs:
            if pair is not None:
                flags |= flag
        out.uint(flags)
        out.uint(self.id)
        out.uint(proof.fork)
        for _, pair in pairs:
            if pair is not None:
                out.uint(pair[0])
                out.uint(pair[1])
        if self.priority:
            out.uint(self.priority)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        flags = src.uint()
        request_id = src.uint()
        proof = ProofRequest(
            fork=src.uint(),
            block=BlockRequest(src.uint(), src.uint()) if flags & _BLOCK else None,
            hash=HashRequest(src.uint(), src.uint()) if flags & _HASH else None,
            seek=SeekRequest(src.uint(), src.uint()) if flags & _SEEK else None,
            upgrade=UpgradeRequest(src.uint(), src.uint()) if flags & _UPGRADE else None,
            manifest=bool(flags & _MANIFEST),
        )
        return cls(request_id, proof, priority=src.uint() if flags & _PRIORITY else 0)


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """The question of that id need not be answered any more. Wire: id uint."""

    TYPE: ClassVar[int] = 2

    request_id: int

    def encode(self, out: Writer) -> None:
        out.uint(self.request_id)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        return cls(src.uint())


@dataclass(frozen=True, slots=True)
class Data(Message):
    """An answer: the parts of a proof.

    Wire: flags uint | request id uint | fork uint | block: index uint, value buffer, nodes | hash: tree
    index uint, nodes | seek: byte offset uint, nodes | upgrade: start uint, length uint, nodes, additional
    nodes, signature buffer | manifest. Nodes are a counted array of index uint, size uint, hash 32 bytes.
    """

    TYPE: ClassVar[int] = 3

    request_id: int
    proof: Proof

    def encode(self, out: Writer) -> None:
        for part in self.encode_parts():
            out.raw(part)

    def encode_parts(self) -> list[Buffer]:
        proof = self.proof
        block, seek, upgrade, manifest = proof.block, proof.seek, proof.upgrade, proof.manifest
        out = Writer()
        out.uint(
            (_BLOCK if block is not None else 0)
            | (_HASH if proof.hash is not None else 0)
            | (_SEEK if seek is not None else 0)
            | (_UPGRADE if upgrade is not None else 0)
            | (_MANIFEST if manifest is not None else 0)
        )
        out.uint(self.request_id)
        out.uint(proof.fork)
        parts: list[Buffer] = []
        if block is not None:
            out.uint(block.index)
            out.uint(len(block.value))
            parts = [out.finish(), block.value]
            out = Writer()
            _encode_nodes(out, block.nodes)
        if proof.hash is not None:
            out.uint(proof.hash.index)
            _encode_nodes(out, proof.hash.nodes)
        if seek is not None:
            out.uint(seek.byte_offset)
            _encode_nodes(out, seek.nodes)
        if upgrade is not None:
            out.uint(upgrade.start)
            out.uint(upgrade.length)
            _encode_nodes(out, upgrade.nodes)
            _encode_nodes(out, upgrade.additional)
            out.buffer(upgrade.signature)
        if manifest is not None:
            out.raw(manifest.encode())
        parts.append(out.finish())
        return parts

    @classmethod
    def decode(cls, src: Reader) -> Self:
        flags = src.uint()
        request_id = src.uint()
        fork = src.uint()
        block = BlockProof(src.uint(), src.buffer(), _decode_nodes(src)) if flags & _BLOCK else None
        if not flags & ~_BLOCK:
            return cls(request_id, Proof(fork, block))
        proof = Proof(
            fork,
            block,
            hash=HashProof(src.uint(), _decode_nodes(src)) if flags & _HASH else None,
            seek=SeekProof(src.uint(), _decode_nodes(src)) if flags & _SEEK else None,
            upgrade=_decode_upgrade(src) if flags & _UPGRADE else None,
            manifest=Manifest.decode(src) if flags & _MANIFEST else None,
        )
        return cls(request_id, proof)


class NoDataReason(IntEnum):
    """Why a question was not answered; numbers unknown to us read as ``UNSPECIFIED``."""

    UNSPECIFIED = 0
    NOT_AVAILABLE = 1
    INVALID_REQUEST = 2


@dataclass(frozen=True, slots=True)
class NoData(Message):
    """The question of that id is not answered.

    Wire: id uint | flags uint | reason uint, when flag 1 is set. Old peers stop after the id.
    """

    TYPE: ClassVar[int] = 4

    request_id: int
    reason: NoDataReason = NoDataReason.UNSPECIFIED

    def encode(self, out: Writer) -> None:
        out.uint(self.request_id)
        out.uint(_HAS_REASON if self.reason else 0)
        if self.reason:
            out.uint(self.reason)

    @classmethod
    def decode(cls, src: Reader) -> Self:
        request_id = src.uint()
        flags = src.uint() if src.remaining else 0
        reason = src.uint() if flags & _HAS_REASON else 0
        return cls(request_id, NoDataReason(reason if reason <= max(NoDataReason) else 0))


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
        answer = _decode_block_answer(memoryview(payload))
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


def _decode_block_answer(data: memoryview) -> Data | None:
    """``Data.decode`` for an answer that is a block alone, as nearly all are, in less time.

    Returns: ``None`` when it is anything else or looks wrong: the general decoder is to judge.
    """
    nodes: list[TreeNode] = []
    try:
        if data[0] != _BLOCK:
            return None
        request_id, position = _quick_uint(data, 1)
        fork, position = _quick_uint(data, position)
        index, position = _quick_uint(data, position)
        size, position = _quick_uint(data, position)
        value = data[position : position + size]
        count, position = _quick_uint(data, position + size)
        if count > MAX_PROOF_NODES:
            return None
        for _ in range(count):
            node_index, position = _quick_uint(data, position)
            size, position = _quick_uint(data, position)
            nodes.append(TreeNode(node_index, size, data[position : position + HASH_SIZE].tobytes()))
            position += HASH_SIZE
    except IndexError:
        return None
    if position > len(data):  # a slice was short
        return None
    return Data(request_id, Proof(fork, BlockProof(index, value, nodes)))


def _quick_uint(data: memoryview, position: int) -> tuple[int, int]:
    """An integer below 2^32 and where the next value starts; IndexError when that is not what is there."""
    first = data[position]
    if first <= 0xFC:
        return first, position + 1
    if first == 0xFF:
        raise IndexError
    end = position + 1 + (2 if first == 0xFD else 4)
    return int.from_bytes(data[position + 1 : end], "little"), end


def _encode_nodes(out: Writer, nodes: list[TreeNode]) -> None:
    out.uint(len(nodes))
    for index, size, node_hash in nodes:
        out.uint(index)
        out.uint(size)
        out.fixed(node_hash, HASH_SIZE)


def _decode_nodes(src: Reader) -> list[TreeNode]:
    count = src.count(_NODE_MIN_SIZE, MAX_PROOF_NODES)
    return [TreeNode(src.uint(), src.uint(), src.fixed(HASH_SIZE)) for _ in range(count)]


def _decode_upgrade(src: Reader) -> UpgradeProof:
    return UpgradeProof(
        start=src.uint(),
        length=src.uint(),
        nodes=_decode_nodes(src),
        additional=_decode_nodes(src),
        signature=bytes(src.buffer(MAX_SIGNATURE_BYTES)),
    )
