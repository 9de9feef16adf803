"""Merkle tree of a log: leaf, parent and tree hashes, heads, and growing a head in memory.

A parent's hash binds the sum of its children's sizes, not each size; the tree hash binds index and size
of each root. Source: hypercore-crypto index.js; hypercore lib/merkle-tree.js; spec/03-log.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final

from p2prss.crypto.hashes import HASH_SIZE, Buffer
from p2prss.errors import ProofError
from p2prss.log import flat_tree
from p2prss.log.proof_parts import TreeNode

_LEAF, _PARENT, _ROOTS = b"\x00", b"\x01", b"\x02"
_U64: Final = Struct("<Q")
_pack = _U64.pack
_pack_pair = Struct("<QQ").pack

NodeLookup = Callable[[int], TreeNode | None]
"""The stored node at a tree index, or None."""


def leaf_hash(block: Buffer) -> bytes:
    """Hash one block: 32 bytes, BLAKE2b-256 of ``00``, its length as u64 little-endian, the block."""
    state = blake2b(_LEAF + _pack(len(block)), digest_size=HASH_SIZE)
    state.update(block)
    return state.digest()


def parent_hash(left: TreeNode, right: TreeNode) -> bytes:
    """Hash two sibling nodes into their parent.

    Returns: 32 bytes, BLAKE2b-256 of ``01``, the summed size as u64 little-endian, both hashes.
    Raises: ValueError when ``left`` does not come before ``right``.
    """
    if left.index >= right.index:
        raise ValueError("siblings in the wrong order")
    preimage = _PARENT + _pack(left.size + right.size) + left.hash + right.hash
    return blake2b(preimage, digest_size=HASH_SIZE).digest()


def leaf_node(index: int, block: Buffer) -> TreeNode:
    """The node of block ``index``."""
    return TreeNode(2 * index, len(block), leaf_hash(block))


def parent_node(left: TreeNode, right: TreeNode) -> TreeNode:
    """The parent of two siblings, left one first; ValueError when in the wrong order."""
    return TreeNode((left.index + right.index) >> 1, left.size + right.size, parent_hash(left, right))


def tree_hash(roots: Sequence[TreeNode]) -> bytes:
    """Hash the roots: 32 bytes, BLAKE2b-256 of ``02``, then each root's hash, index and size (u64 LE)."""
    state = blake2b(_ROOTS, digest_size=HASH_SIZE)
    for index, size, digest in roots:
        state.update(digest + _pack_pair(index, size))
    return state.digest()


@dataclass(frozen=True, slots=True)
class Head:
    """A log at one moment: what a signature covers, and the signature (empty when unsigned)."""

    fork: int
    length: int  # blocks
    byte_length: int
    roots: tuple[TreeNode, ...]
    signature: bytes = b""

    @classmethod
    def empty(cls, fork: int = 0) -> "Head":
        """The head of a log without blocks."""
        return cls(fork, 0, 0, ())

    @classmethod
    def at(cls, length: int, fork: int, node: NodeLookup) -> "Head | None":
        """The unsigned head at an earlier length, from stored nodes; None when a root is not stored."""
        roots = []
        for index in flat_tree.full_roots(length):
            root = node(index)
            if root is None:
                return None
            roots.append(root)
        return cls(fork, length, sum(root.size for root in roots), tuple(roots))

    @property
    def tree_hash(self) -> bytes:
        """32 bytes over all roots, hence over all blocks."""
        return tree_hash(self.roots)


class TreeBatch:
    """Grows a head in memory; nothing is stored.

    ``nodes`` collects every node that became known, ``roots`` is the forest so far. ``provisional`` holds the
    pairs of siblings that were both given by a peer and none computed: only the sum of their sizes is
    vouched for, so the peer may have moved bytes from one to the other.
    """

    __slots__ = ("_given", "byte_length", "fork", "length", "nodes", "provisional", "roots")

    def __init__(self, head: Head) -> None:
        self.fork = head.fork
        self.length = head.length  # blocks
        self.byte_length = head.byte_length
        self.roots = list(head.roots)
        self.nodes: list[TreeNode] = []
        self.provisional: list[tuple[TreeNode, TreeNode]] = []
        self._given: set[int] = set()  # tree indexes

    def append(self, block: Buffer) -> TreeNode:
        """Append one block and return its leaf."""
        leaf = TreeNode(2 * self.length, len(block), leaf_hash(block))
        self._push(leaf)
        return leaf

    def append_node(self, node: TreeNode, *, computed: bool) -> None:
        """Append all blocks below a node a peer sent, or whose hash we ``computed`` from what it sent.

        Raises: ProofError when it does not begin where the log ends.
        """
        if flat_tree.left_span(node.index) != 2 * self.length:
            raise ProofError(f"node {node.index} does not begin at block {self.length}")
        if not computed:
            self._given.add(node.index)
        self._push(node)

    def head(self, signature: bytes = b"") -> Head:
        """What the batch has become."""
        return Head(self.fork, self.length, self.byte_length, tuple(self.roots), signature)

    def _push(self, node: TreeNode) -> None:
        roots = self.roots
        half = flat_tree.half_span(node.index)
        self.length += half
        self.byte_length += node.size
        self.nodes.append(node)
        while roots and roots[-1].index == node.index - 2 * half:
            left = roots.pop()
            if self._given:
                self._note_pair(left, node)
            node = parent_node(left, node)
            self.nodes.append(node)
            half *= 2
        roots.append(node)

    def _note_pair(self, left: TreeNode, right: TreeNode) -> None:
        pair = {left.index, right.index}
        if pair <= self._given:
            self.provisional.append((left, right))
        self._given -= pair
