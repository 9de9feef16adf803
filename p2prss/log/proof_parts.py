"""What a proof is asked for and made of: the values that ``log.proof`` and ``wire.messages`` share.

Wire layouts: ``Request`` and ``Data`` of hypercore lib/messages.js; spec/05-replication.
A *block index* counts blocks, a *tree index* is a flat-tree position. These are named tuples because
thousands are made per second; their ``index`` hides ``tuple.index``, which mypy wants to be told.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from p2prss.log.manifest import Manifest


class TreeNode(NamedTuple):
    """One node of a log's Merkle tree."""

    index: int  # type: ignore[assignment]  # tree index
    size: int  # data bytes below the node
    hash: bytes  # 32 bytes


class BlockRequest(NamedTuple):
    """Ask for block ``index``; ``nodes`` is how many levels above its leaf the asker has a node."""

    index: int  # type: ignore[assignment]  # block index
    nodes: int


class HashRequest(NamedTuple):
    """Ask for the tree node ``index``; ``nodes`` as for a block."""

    index: int  # type: ignore[assignment]  # tree index
    nodes: int


class SeekRequest(NamedTuple):
    """Ask which block holds byte ``byte_offset``; ``padding`` bytes of each block do not count."""

    byte_offset: int
    padding: int


class UpgradeRequest(NamedTuple):
    """Ask to be brought from length ``start`` to at least ``start + length``."""

    start: int  # blocks
    length: int  # blocks


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """All parts of one question. ``fork`` is the fork of the log it is about."""

    fork: int
    block: BlockRequest | None = None
    hash: HashRequest | None = None
    seek: SeekRequest | None = None
    upgrade: UpgradeRequest | None = None
    manifest: bool = False


class BlockProof(NamedTuple):
    """A block and the nodes that tie it to one the asker has."""

    index: int  # type: ignore[assignment]  # block index
    value: bytes | bytearray | memoryview
    nodes: list[TreeNode]


class HashProof(NamedTuple):
    """The asked node first, then those that tie it to one the asker has."""

    index: int  # type: ignore[assignment]  # tree index
    nodes: list[TreeNode]


class SeekProof(NamedTuple):
    """The node that holds the byte first, then those up to the rest of the proof."""

    byte_offset: int
    nodes: list[TreeNode]


class UpgradeProof(NamedTuple):
    """From ``start`` to ``start + length``, then by ``additional`` to the signed head."""

    start: int  # blocks
    length: int  # blocks
    nodes: list[TreeNode]
    additional: list[TreeNode]
    signature: bytes  # over the head after ``additional``; may be empty (a static log)


@dataclass(frozen=True, slots=True)
class Proof:
    """All parts of one answer."""

    fork: int
    block: BlockProof | None = None
    hash: HashProof | None = None
    seek: SeekProof | None = None
    upgrade: UpgradeProof | None = None
    manifest: "Manifest | None" = None
