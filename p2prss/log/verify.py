"""Checking proofs: what of a peer's answer is true, worked out in memory before anything is stored.

A subtree is computed from the block (or the given node) and its path. It counts if its root is a node we
hold already, or becomes part of a head that those sign whom the core's key names. Everything else is a
``ProofError``, and nothing has changed.

Sizes need care: a parent's hash binds only the sum of its children's sizes. Of two *given* siblings the
split is the peer's word: such a pair never replaces what is stored, and a computed size, which is certain,
corrects it later. Source: hypercore lib/merkle-tree.js; spec/03-log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from p2prss.crypto.hashes import Buffer
from p2prss.errors import ProofError
from p2prss.log import flat_tree
from p2prss.log.authority import Authority
from p2prss.log.manifest import Manifest, compat_manifest
from p2prss.log.merkle import Head, NodeLookup, TreeBatch, leaf_hash, parent_node
from p2prss.log.proof_parts import Proof, ProofRequest, TreeNode, UpgradeProof
from p2prss.units import MAX_SAFE_INTEGER

MAX_PATH_NODES: Final = 128  # nodes in one list of a proof; a tree of 2^53 blocks needs fewer than 2 x 53
MAX_LENGTH: Final = MAX_SAFE_INTEGER // 2  # blocks, so that every tree index is a safe integer

BAD_SIGNATURE: Final = "bad-signature"  # reason of a ProofError: a head that nobody has signed

_Pairs = list[tuple[TreeNode, TreeNode]]


class ConflictingHeadError(ProofError):
    """``head`` is signed as ours is, on the same fork, and neither is the beginning of the other."""

    def __init__(self, head: Head) -> None:
        super().__init__("another log of this fork is signed, too", reason="conflict")
        self.head = head


class KnownLog(NamedTuple):
    """What a proof is checked against: all of it is true already."""

    head: Head
    authority: Authority
    node: NodeLookup


@dataclass(frozen=True, slots=True)
class Changeset:
    """What a proof adds to a log; to be stored whole or not at all."""

    nodes: list[TreeNode] = field(default_factory=list)  # to add or to replace
    block: tuple[int, Buffer] | None = None  # block index, bytes
    head: Head | None = None  # when the log grew or was forked
    ancestors: int | None = None  # on a fork: the leading blocks that stay; blocks and nodes beyond go first
    manifest: Manifest | None = None  # when it was not known before

    @property
    def stale(self) -> bool:
        """Whether the proof says nothing new."""
        return self.block is None and self.head is None and self.manifest is None and not self.nodes


def verify_proof(known: KnownLog, request: ProofRequest | None, proof: Proof) -> Changeset:
    """Check an answer.

    Args: request: what was asked, None when the peer sent the proof unasked.
    Returns: what it adds; for an older fork, nothing.
    Raises: ProofError. It is ``unconnected`` when the proof may be right but is not tied to a node we hold;
    ``reason`` is ``bad-signature`` for a head nobody signed, ``bad-manifest`` for a foreign manifest,
    ``conflict`` for a ConflictingHeadError, else ``bad-proof``.
    """
    if request is not None:
        _match(request, proof)
    head = known.head
    if proof.fork < head.fork:
        return Changeset()
    subtree = _subtree(proof)
    authority, manifest = known.authority, None
    if proof.manifest is not None and authority.manifest is None:
        authority = authority.accept_manifest(proof.manifest)
        manifest = authority.manifest
    if proof.fork > head.fork:
        change = _fork(known, authority, subtree, proof)
    elif proof.upgrade is not None:
        change = _upgrade(known, authority, subtree, proof.upgrade)
    else:
        change = _Change(_anchored(known, subtree) if subtree is not None else [])
    if change.head is not None and authority.manifest is None:
        manifest = compat_manifest(authority.key)  # the signature has shown that it is a compat core
    block = (proof.block.index, proof.block.value) if proof.block is not None else None
    return Changeset(change.nodes, block, change.head, change.ancestors, manifest)


class _Change(NamedTuple):
    nodes: list[TreeNode]
    head: Head | None = None
    ancestors: int | None = None


def _match(request: ProofRequest, proof: Proof) -> None:
    """The answer must be one to what was asked: another block would verify, too."""
    asked_block = request.block.index if request.block is not None else None
    asked_hash = request.hash.index if request.hash is not None else None
    if (
        proof.fork != request.fork
        or (proof.block.index if proof.block is not None else None) != asked_block
        or (proof.hash.index if proof.hash is not None else None) != asked_hash
        or (proof.upgrade is None) != (request.upgrade is None)
    ):
        raise ProofError("the answer is not to what was asked")
    if proof.seek is not None and (
        request.seek is None or request.seek.byte_offset != proof.seek.byte_offset
    ):
        raise ProofError("the answer is to another seek")


class _Subtree:
    """A node worked out from a proof, and the nodes below it; ``computed`` when we hashed it ourselves."""

    __slots__ = ("computed", "nodes", "pairs", "root")

    def __init__(self, root: TreeNode, *, computed: bool) -> None:
        self.root = root
        self.computed = computed
        self.nodes: list[TreeNode] = []  # without the root
        self.pairs: _Pairs = []  # see TreeBatch.provisional

    def climb(self, given: Sequence[TreeNode], extra: "_Subtree | None") -> None:
        """Go up by one sibling after the other, each of them next in ``given`` or the ``extra`` subtree."""
        position, count = 0, len(given)
        if count > MAX_PATH_NODES:
            raise ProofError(f"{count} nodes for one path")
        root, nodes = self.root, self.nodes
        half = (root.index + 1) & ~root.index
        while position < count or extra is not None:
            wanted = root.index ^ (half << 1)
            sibling_computed = False
            if extra is not None and extra.root.index == wanted:
                sibling, sibling_computed = extra.root, extra.computed
                nodes += extra.nodes
                self.pairs += extra.pairs
                extra = None
            elif position < count and given[position].index == wanted:
                sibling = given[position]
                position += 1
            else:
                raise ProofError(f"node {wanted} expected")
            left, right = (root, sibling) if root.index < wanted else (sibling, root)
            if not (self.computed or sibling_computed):
                self.pairs.append((left, right))
            nodes.append(root)
            nodes.append(sibling)
            root = parent_node(left, right)
            half <<= 1
            self.computed = True
        self.root = root


def _subtree(proof: Proof) -> _Subtree | None:
    """Work out what block, hash and seek of a proof add up to; None when it has none of them."""
    sought: _Subtree | None = None
    if proof.seek is not None and proof.seek.nodes:
        sought = _Subtree(proof.seek.nodes[0], computed=False)
        sought.climb(proof.seek.nodes[1:], None)
    if proof.block is not None:
        index, value, nodes = proof.block
        subtree = _Subtree(TreeNode(2 * index, len(value), leaf_hash(value)), computed=True)
        subtree.climb(nodes, sought)
        return subtree
    if proof.hash is not None:
        index, nodes = proof.hash
        if sought is not None and sought.root.index == index:
            sought.climb(nodes, None)
            return sought
        if not nodes or nodes[0].index != index:
            raise ProofError(f"node {index} expected")
        subtree = _Subtree(nodes[0], computed=False)
        subtree.climb(nodes[1:], sought)
        return subtree
    return sought


def _anchored(known: KnownLog, subtree: _Subtree) -> list[TreeNode]:
    """The nodes of a subtree whose root is one we hold."""
    root = subtree.root
    held = known.node(root.index)
    if held is None:
        raise ProofError(f"node {root.index} is not held", unconnected=True)
    if held.hash != root.hash:
        raise ProofError(f"node {root.index} has another hash")
    nodes = _settled(subtree.nodes, subtree.pairs, known.node)
    if held.size != root.size and subtree.computed:
        nodes = nodes + _corrected(known, root)
    return nodes


def _corrected(known: KnownLog, node: TreeNode) -> list[TreeNode]:
    """A node we hold with a wrong size, and its sibling, which holds the difference."""
    sibling, parent = known.node(flat_tree.sibling(node.index)), known.node(flat_tree.parent(node.index))
    if sibling is None or parent is None or parent.size < node.size:
        return [node]
    return [node, sibling._replace(size=parent.size - node.size)]


def _settled(nodes: list[TreeNode], pairs: _Pairs, stored: NodeLookup) -> list[TreeNode]:
    """``nodes``, in which no pair of doubtful sizes contradicts what is stored."""
    settled: dict[int, TreeNode] = {}
    for left, right in pairs:
        held_left, held_right = stored(left.index), stored(right.index)
        total = left.size + right.size
        if held_left is not None:
            left = held_left
        elif held_right is not None:
            left = left._replace(size=max(0, total - held_right.size))
        settled[left.index] = left
        settled[right.index] = held_right or right._replace(size=max(0, total - left.size))
    return [settled.get(node.index, node) for node in nodes] if settled else nodes


def _grow(
    base: Head, authority: Authority, subtree: _Subtree | None, upgrade: UpgradeProof
) -> tuple[Head, TreeBatch, bool]:
    """Grow ``base`` by an upgrade, the signature not yet checked.

    Returns: the new head, its nodes, and whether the subtree is part of what was added.
    """
    stop = upgrade.start + upgrade.length
    if not 0 < stop <= MAX_LENGTH:
        raise ProofError(f"no log has {stop} blocks")
    if len(upgrade.nodes) > MAX_PATH_NODES or len(upgrade.additional) > MAX_PATH_NODES:
        raise ProofError("too many nodes for one upgrade")
    batch = TreeBatch(base)
    given = iter(upgrade.nodes)
    used = False
    for index in flat_tree.upgrade_order(base.length, stop):
        if subtree is not None and subtree.root.index == index and not used:
            batch.append_node(subtree.root, computed=subtree.computed)
            used = True
            continue
        node = next(given, None)
        if node is None or node.index != index:
            raise ProofError(f"node {index} expected")
        batch.append_node(node, computed=False)
    if next(given, None) is not None:
        raise ProofError("more nodes than the upgrade needs")
    prologue = authority.prologue
    if (
        prologue is not None
        and base.length < prologue.length
        and (base.length > 0 or stop != prologue.length or batch.head().tree_hash != prologue.hash)
    ):
        raise ProofError("the log does not begin with its prologue")
    for node in upgrade.additional:
        batch.append_node(node, computed=False)
    if batch.length > MAX_LENGTH or batch.byte_length > MAX_SAFE_INTEGER:
        raise ProofError(f"no log has {batch.length} blocks of {batch.byte_length} bytes")
    return batch.head(bytes(upgrade.signature)), batch, used


def _collected(batch: TreeBatch, subtree: _Subtree | None, stored: NodeLookup) -> list[TreeNode]:
    """The nodes of an upgrade and of the subtree that is part of it."""
    if subtree is None:
        return _settled(batch.nodes, batch.provisional, stored)
    return _settled(subtree.nodes + batch.nodes, subtree.pairs + batch.provisional, stored)


def _upgrade(
    known: KnownLog, authority: Authority, subtree: _Subtree | None, upgrade: UpgradeProof
) -> _Change:
    """An upgrade of our fork. It may start at a length we had when we asked, and say nothing new by now."""
    head = known.head
    if upgrade.start > head.length:
        raise ProofError(f"the upgrade starts at {upgrade.start}, the log has {head.length} blocks")
    base = head if upgrade.start == head.length else Head.at(upgrade.start, head.fork, known.node)
    if base is None:
        raise ProofError(f"the roots of length {upgrade.start} are not held", unconnected=True)
    grown, batch, used = _grow(base, authority, subtree, upgrade)
    nodes = [] if subtree is None or used else _anchored(known, subtree)
    if grown.length > head.length:
        if not authority.verify(grown, grown.signature):
            raise ProofError("nobody who may sign has signed this head", reason=BAD_SIGNATURE)
        if base is not head:
            _check_contains(base, batch, head, grown)
        return _Change(nodes + _collected(batch, subtree if used else None, known.node), grown)
    for root in grown.roots:
        held = known.node(root.index)
        if held is None:
            raise ProofError(f"node {root.index} is not held", unconnected=True)
        if held.hash != root.hash:
            if authority.verify(grown, grown.signature):
                raise ConflictingHeadError(grown)
            raise ProofError("another log of this fork, which nobody has signed")
    if used:
        nodes = nodes + _collected(batch, subtree, known.node)
    return _Change(nodes)


def _check_contains(base: Head, batch: TreeBatch, head: Head, grown: Head) -> None:
    """Our head must be the beginning of the grown one, which did not start from it but from ``base``."""
    seen = {node.index: node for node in (*base.roots, *batch.nodes)}
    for root in head.roots:
        node = seen.get(root.index)
        if node is None:
            raise ProofError(f"the log has grown to {head.length} blocks meanwhile", unconnected=True)
        if node.hash != root.hash:
            raise ConflictingHeadError(grown)


def _fork(known: KnownLog, authority: Authority, subtree: _Subtree | None, proof: Proof) -> _Change:
    """A higher fork: a whole new head, of which we may hold the beginning already."""
    upgrade = proof.upgrade
    if upgrade is None or upgrade.start != 0:
        raise ProofError(f"fork {proof.fork} is not proved from its start")
    grown, batch, used = _grow(Head.empty(proof.fork), authority, subtree, upgrade)
    if subtree is not None and not used:
        raise ProofError(f"node {subtree.root.index} is not part of the fork")
    if not authority.verify(grown, grown.signature):
        raise ProofError("nobody who may sign has signed this fork", reason=BAD_SIGNATURE)
    ancestors = _common_length(known, grown)

    def kept(index: int) -> TreeNode | None:
        return known.node(index) if flat_tree.right_span(index) < 2 * ancestors else None

    return _Change(_collected(batch, subtree, kept), grown, ancestors)


def _common_length(known: KnownLog, grown: Head) -> int:
    """The leading blocks that both logs surely share, in whole roots of the new one."""
    length = 0
    for root in grown.roots:
        stop = flat_tree.right_span(root.index) // 2 + 1
        held = known.node(root.index) if stop <= known.head.length else None
        if held is None or held.hash != root.hash:
            break
        length = stop
    return length
