"""Questions and answers of replication: a proof is asked for, withdrawn, given or refused.

Nearly all bytes of a connection are answers with one block. These are written without copying the block, and
read by a decoder of their own.

Source: hypercore 11.37.1 lib/messages.js; spec/05-replication.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from p2prss.codec.compact import Buffer, Reader, Writer
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
from p2prss.units import KIB
from p2prss.wire.message import Message

HASH_SIZE: Final = 32  # bytes
MAX_PROOF_NODES: Final = 1024  # nodes per list; a tree of 2^53 blocks needs fewer than 2 x 53
MAX_SIGNATURE_BYTES: Final = 64 * KIB  # one signer takes 68 bytes; a container with patches takes more

_BLOCK, _HASH, _SEEK, _UPGRADE, _MANIFEST, _PRIORITY = 1, 2, 4, 8, 16, 32  # flags of request and data
_HAS_REASON = 1  # flag of no data
_NODE_MIN_SIZE: Final = 1 + 1 + HASH_SIZE


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


def decode_block_answer(data: memoryview) -> Data | None:
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
