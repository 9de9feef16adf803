"""Byte offsets in a log: where a block begins, and which block holds a byte.

A node's size may be wrong in a sparse log whose peers lie (see ``log.verify``): offsets are for finding
blocks, never for placing or allocating anything. ``padding`` bytes of each block do not count (8 with block
encryption). Source: hypercore lib/merkle-tree.js ``ByteSeeker``, ``byteOffset``; spec/03-log.
"""

from dataclasses import dataclass

from p2prss.log import flat_tree
from p2prss.log.merkle import Head, NodeLookup
from p2prss.log.proof_parts import TreeNode


@dataclass(frozen=True, slots=True)
class SeekResult:
    """The byte lies in one of the blocks ``[start, stop)``; ``offset`` counts from the start of the first.

    Found when ``found``: then it is ``offset`` bytes into block ``start``. The end of the log is (length, 0).
    Otherwise a node below is missing: a proof for any block of the range, with the seek, narrows it down.
    """

    start: int  # block index
    stop: int  # block index
    offset: int  # bytes

    @property
    def found(self) -> bool:
        return self.stop - self.start <= 1


def seek(head: Head, node: NodeLookup, byte_offset: int, padding: int = 0) -> SeekResult | None:
    """Find a byte; None when it is negative or beyond the end.

    Where a block begins with the byte, an empty one in front of it may be found instead, as in the reference.
    """
    if byte_offset < 0:
        return None
    start = 0
    for root in head.roots:
        if byte_offset == 0:
            break
        size = unpadded_size(root, padding)
        if byte_offset < size:
            return _descend(root, node, byte_offset, padding)
        byte_offset -= size
        start += flat_tree.leaves(root.index)
    return SeekResult(start, min(start + 1, head.length), 0) if byte_offset == 0 else None


def byte_offset(head: Head, node: NodeLookup, index: int) -> int | None:
    """The bytes in front of block ``index`` (up to the length); None when a node on the way is missing."""
    leaf = 2 * index
    offset = 0
    for root in head.roots:
        if flat_tree.right_span(root.index) < leaf:
            offset += root.size
            continue
        if flat_tree.left_span(root.index) >= leaf:
            break
        within = _offset_below(root.index, node, leaf)
        return None if within is None else offset + within
    return offset


def unpadded_size(node: TreeNode, padding: int) -> int:
    """The bytes below a node that count."""
    return node.size - padding * flat_tree.leaves(node.index)


def _offset_below(index: int, node: NodeLookup, leaf: int) -> int | None:
    """The bytes below node ``index`` in front of ``leaf``."""
    offset = 0
    while flat_tree.left_span(index) != leaf:
        left, right = index - (half := flat_tree.half_span(index) >> 1), index + half
        if leaf < index:
            index = left
            continue
        known = node(left)
        if known is None:
            return None
        offset += known.size
        index = right
    return offset


def _descend(root: TreeNode, node: NodeLookup, offset: int, padding: int) -> SeekResult:
    """Follow the sizes of left children down to the byte, or to where one is missing."""
    index = root.index
    while index & 1 and offset:
        half = flat_tree.half_span(index) >> 1
        left = node(index - half)
        if left is None:
            break
        size = unpadded_size(left, padding)
        if offset < size:
            index -= half
        else:
            offset -= size
            index += half
    start = flat_tree.left_span(index) // 2
    return SeekResult(start, start + flat_tree.leaves(index) if offset else start + 1, offset)


def seek_target(root: TreeNode, node: NodeLookup, offset: int, padding: int) -> int:
    """The node below ``root`` that a seek proof shows: it ends or begins at the byte, or holds it.

    Returns: a tree index. A node that ends just before the byte will do, as its size tells where the byte is.
    """
    index = root.index
    if offset == 0:
        return index
    while index & 1:
        half = flat_tree.half_span(index) >> 1
        left = node(index - half)
        if left is None:
            break
        size = unpadded_size(left, padding)
        if size == offset:
            return left.index
        if offset < size:
            index -= half
        else:
            offset -= size
            index += half
    return index


def seek_target_in(roots: list[TreeNode], node: NodeLookup, offset: int, padding: int) -> int | None:
    """As ``seek_target``, over several roots; None when the byte is beyond them."""
    for root in roots:
        size = unpadded_size(root, padding)
        if offset == size:
            return root.index
        if offset < size:
            return seek_target(root, node, offset, padding)
        offset -= size
    return None
