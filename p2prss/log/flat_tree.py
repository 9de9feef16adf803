"""Flat tree: the nodes of a binary forest as integers, in order from left to right.

          3
      1       5       9
    0   2   4   6   8   10    block i is the leaf 2 * i

A node of depth d has d trailing one bits. Indexes are not bounded here: who takes one from a peer checks it.
Source: flat-tree index.js; spec/03-log.
"""


def half_span(index: int) -> int:
    """``2 ** depth``: the blocks below the node, and its distance to its parent."""
    return (index + 1) & ~index


def depth(index: int) -> int:
    """0 for a leaf."""
    return half_span(index).bit_length() - 1


def offset(index: int) -> int:
    """The node's place among those of its depth, from 0."""
    return index >> (depth(index) + 1)


def index(depth: int, offset: int) -> int:
    """The node of that depth at that place."""
    return ((2 * offset + 1) << depth) - 1


def parent(index: int) -> int:
    half = (index + 1) & ~index
    return (index | half) & ~(half << 1)


def sibling(index: int) -> int:
    return index ^ (((index + 1) & ~index) << 1)


def children(index: int) -> tuple[int, int] | None:
    """Left and right; None for a leaf."""
    quarter = half_span(index) >> 1
    return (index - quarter, index + quarter) if quarter else None


def left_span(index: int) -> int:
    """The leftmost leaf below the node, as a tree index."""
    return index - half_span(index) + 1


def right_span(index: int) -> int:
    """The rightmost leaf below the node, as a tree index."""
    return index + half_span(index) - 1


def leaves(index: int) -> int:
    """Blocks below the node."""
    return half_span(index)


def contains(index: int, other: int) -> bool:
    """Whether ``other`` is the node or below it."""
    half = half_span(index)
    return index - half < other < index + half


def full_roots(length: int) -> list[int]:
    """The roots over ``length`` blocks, left to right: one per one bit of the length."""
    roots = []
    start = 0
    while length:
        blocks = 1 << (length.bit_length() - 1)
        roots.append(start + blocks - 1)
        start += 2 * blocks
        length -= blocks
    return roots


def upgrade_order(start: int, stop: int) -> list[int]:
    """The nodes that grow a log of ``start`` blocks to ``stop``, in the order a proof lists them.

    First the siblings that complete the last root of ``start``, then the roots to its right.
    Source: hypercore lib/merkle-tree.js ``upgradeProof``; spec/03-log.
    """
    last = 2 * start - 2  # the last leaf of the shorter log
    order: list[int] = []
    for root in full_roots(stop):
        if right_span(root) <= last:
            continue  # the shorter log has it, too
        if start and left_span(root) <= last:  # both halves in one: climb from the last leaf
            node = last
            while node != root:
                other = sibling(node)
                if other > last:
                    order.append(other)
                node = parent(node)
        else:
            order.append(root)
    return order
