"""Proofs: the nodes that let a stranger check blocks against the signed head of a log.

Participants: the one who asks says what it holds (its length, and for a block how many levels above the
leaf it has a node); the one who answers sends only what is missing; ``log.verify`` checks the answer.
Non-goal: hiding which blocks are held.

Two orders of nodes make up a proof. A *path* climbs from a node to one the asker has: the sibling at each
level. An *upgrade* follows ``flat_tree.upgrade_order``; where a block rides along, the node above it is left
out, as the asker computes it from the path. Source: hypercore lib/merkle-tree.js; spec/03-log.
"""

from collections.abc import Callable

from p2prss.crypto.hashes import Buffer
from p2prss.errors import P2prssError, RemoteProtocolError
from p2prss.log import flat_tree
from p2prss.log.manifest import Manifest
from p2prss.log.merkle import Head, NodeLookup
from p2prss.log.proof_parts import (
    BlockProof,
    HashProof,
    Proof,
    ProofRequest,
    SeekProof,
    SeekRequest,
    TreeNode,
    UpgradeProof,
    UpgradeRequest,
)
from p2prss.log.seek import byte_offset, seek_target, seek_target_in, unpadded_size


class InvalidRequestError(RemoteProtocolError):
    """The request makes no sense for this log; it is answered with "no data", reason 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="bad-request")


class NotHeldError(P2prssError):
    """What is asked for is not held, or belongs to another fork; answered with "no data", reason 1."""


def nodes_needed(tree_index: int, length: int, has_node: Callable[[int], bool]) -> int:
    """What to put in ``nodes`` of a request: levels from a node up to the first one we hold.

    0 for a node beyond ``length`` blocks: it comes with an upgrade. Roots are always held, so the climb
    ends at one of them at the latest.
    """
    limit = 2 * length
    half = (tree_index + 1) & ~tree_index
    if tree_index + half > limit:
        return 0
    levels = 0
    while not has_node(tree_index):
        tree_index = (tree_index | half) & ~(half << 1)
        half <<= 1
        if tree_index + half > limit:
            break
        levels += 1
    return levels


def make_proof(
    head: Head,
    node: NodeLookup,
    request: ProofRequest,
    *,
    value: Buffer | None = None,
    manifest: Manifest | None = None,
) -> Proof:
    """Answer a request from the stored nodes. As with the reference, a block wins over a hash beside it, and
    a question for nothing is answered with nothing.

    Args: value: the block asked for, if held; manifest: the log's, None for a compat log, which sends none.
    Raises: NotHeldError for another fork, a block or node we lack; InvalidRequestError when no log of
    this length could answer.
    """
    if request.fork != head.fork:
        raise NotHeldError(f"fork {request.fork} is asked for, this is fork {head.fork}")
    block, wanted, seek, upgrade = request.block, request.hash, request.seek, request.upgrade
    start, stop = (0, head.length) if upgrade is None else _upgrade_range(head, upgrade, manifest)
    target, levels = _target(request, stop)
    path: list[TreeNode] | None = None
    seek_nodes: list[TreeNode] | None = None
    new = None  # the node in the new part of an upgrade that takes the place of one above it
    if target is None:
        if seek is not None and upgrade is not None:
            new = _seek_in_upgrade(node, stop, seek)
    elif upgrade is None or flat_tree.right_span(target) < 2 * start:
        path, seek_nodes = _path_up(head, node, target, levels, seek, 2 * stop)
    elif seek is not None or flat_tree.left_span(target) < 2 * start:
        raise InvalidRequestError("a seek, or a node across the start, cannot ride along with this upgrade")
    else:
        new = target
    upgrade_proof = None
    if upgrade is not None:
        upgrade_proof, below = _upgrade_proof(head, node, start, stop, new)
        if target is not None:
            path = below if path is None else path
        elif new is not None and below is not None:
            seek_nodes = [_held(node, new), *below]
    block_proof = hash_proof = seek_proof = None
    if block is not None and path is not None:
        if value is None:
            raise NotHeldError(f"block {block.index} is not held")
        block_proof = BlockProof(block.index, value, path)
    elif wanted is not None and path is not None:
        hash_proof = HashProof(wanted.index, [_held(node, wanted.index), *path])
    if seek is not None and seek_nodes is not None:
        seek_proof = SeekProof(seek.byte_offset, seek_nodes)
    proven_manifest = manifest if request.manifest else None
    return Proof(head.fork, block_proof, hash_proof, seek_proof, upgrade_proof, proven_manifest)


def _held(node: NodeLookup, index: int) -> TreeNode:
    found = node(index)
    if found is None:
        raise NotHeldError(f"node {index} is not held")
    return found


def _upgrade_range(head: Head, upgrade: UpgradeRequest, manifest: Manifest | None) -> tuple[int, int]:
    """Blocks between which to prove. Growth from inside a prologue is proved from nothing to its end."""
    start, stop = upgrade.start, upgrade.start + upgrade.length
    prologue = manifest.prologue if manifest is not None else None
    if prologue is not None and start < prologue.length:
        start, stop = 0, prologue.length
    if not start < stop <= head.length:
        raise InvalidRequestError(f"no upgrade from {start} to {stop}: the log has {head.length} blocks")
    return start, stop


def _target(request: ProofRequest, stop: int) -> tuple[int | None, int]:
    """The tree index of the block, or else hash, asked for, and how many levels to climb from it."""
    block, wanted = request.block, request.hash
    if block is not None:
        index, levels = 2 * block.index, block.nodes
    elif wanted is not None:
        index, levels = wanted
    else:
        return None, 0
    if flat_tree.right_span(index) >= 2 * stop:
        raise InvalidRequestError(f"node {index} is beyond {stop} blocks")
    return index, levels


def _upgrade_proof(
    head: Head, node: NodeLookup, start: int, stop: int, new: int | None
) -> tuple[UpgradeProof, list[TreeNode] | None]:
    """The nodes from ``start`` to ``stop`` to the head, leaving out the one that ``new`` is below.

    Returns: the upgrade, and the path from ``new`` up to the node left out.
    """
    nodes: list[TreeNode] = []
    below = None
    for index in flat_tree.upgrade_order(start, stop):
        if new is not None and flat_tree.contains(index, new):
            below = _siblings(node, new, index)
        else:
            nodes.append(_held(node, index))
    additional = [_held(node, index) for index in flat_tree.upgrade_order(stop, head.length)]
    return UpgradeProof(start, stop - start, nodes, additional, head.signature), below


def _siblings(node: NodeLookup, index: int, top: int) -> list[TreeNode]:
    """The siblings on the way from a node up to ``top``."""
    siblings = []
    while index != top:
        siblings.append(_held(node, flat_tree.sibling(index)))
        index = flat_tree.parent(index)
    return siblings


def _path_up(
    head: Head, node: NodeLookup, index: int, levels: int, seek: SeekRequest | None, limit: int
) -> tuple[list[TreeNode], list[TreeNode] | None]:
    """The path from a node ``levels`` up, and the part of it that answers a seek below its top."""
    top = index
    half = (top + 1) & ~top
    siblings = []
    for _ in range(levels):
        siblings.append(top ^ (half << 1))
        top = (top | half) & ~(half << 1)
        half <<= 1
        if top + half > limit:
            raise InvalidRequestError(f"no node {levels} levels above node {index}")
    sought = _seek_below(head, node, top, seek) if seek is not None else None
    if sought is None:
        return [_held(node, sibling) for sibling in siblings], None
    path: list[TreeNode] = []
    seek_nodes = None
    for sibling in siblings:
        if sibling != sought and flat_tree.contains(sibling, sought):
            seek_nodes = [_held(node, sought), *_siblings(node, sought, sibling)]
        else:
            path.append(_held(node, sibling))
    return path, seek_nodes


def _seek_below(head: Head, node: NodeLookup, top: int, seek: SeekRequest) -> int | None:
    """Where below ``top`` the byte lies; None when we lack the nodes to tell: then the path alone must do."""
    first_block = flat_tree.left_span(top) // 2
    before = byte_offset(head, node, first_block)
    if before is None:
        return None
    root = _held(node, top)
    offset = seek.byte_offset - (before - seek.padding * first_block)
    if not (offset == 0 or 0 <= offset < unpadded_size(root, seek.padding)):
        raise InvalidRequestError(f"byte {seek.byte_offset} is not below node {top}")
    return seek_target(root, node, offset, seek.padding)


def _seek_in_upgrade(node: NodeLookup, stop: int, seek: SeekRequest) -> int | None:
    roots = [_held(node, index) for index in flat_tree.full_roots(stop)]
    return seek_target_in(roots, node, seek.byte_offset, seek.padding)
