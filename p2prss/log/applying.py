"""Peers' answers on their way into a log: checked one after the other, then stored together.

Later answers may build on nodes, blocks and heads of earlier ones, so they are checked against an overlay of
the stored log. Nothing here changes the log; ``change`` is what it has to store when all answers were taken.
Blocks that were found good are on their way to the disk by then, where they do not count yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from p2prss.codec.compact import Buffer
from p2prss.errors import ProofError, RemoteProtocolError
from p2prss.log import flat_tree
from p2prss.log.authority import Authority
from p2prss.log.bitfield import Bitfield
from p2prss.log.merkle import Head
from p2prss.log.proof_parts import BlockProof, Proof, ProofRequest, TreeNode
from p2prss.log.storage import MAX_STORED_LENGTH, Change, CoreStorage
from p2prss.log.verify import Changeset, KnownLog, verify_proof


class Outcome(Enum):
    """What became of an answer."""

    STORED = "stored"
    STALE = "stale"  # true perhaps, but it brings nothing any more
    UNCONNECTED = "unconnected"  # not anchored in what we hold; another answer may bring the missing node
    REJECTED = "rejected"  # false: the peer is not to be trusted


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one answer."""

    outcome: Outcome
    error: ProofError | None = None  # why it is unconnected or rejected
    upgraded: bool = False  # the log has a new head
    truncated_to: int | None = None  # a higher fork was adopted: the blocks kept


STALE = Applied(Outcome.STALE)


class Applying:
    """An overlay over one stored log, used once by the one thread that holds the log's lock."""

    def __init__(
        self, head: Head, authority: Authority, storage: CoreStorage, held: Bitfield, largest: int
    ) -> None:
        self.head = head
        self.authority = authority
        self.blocks: dict[int, Buffer] = {}
        self.staged = storage.stage()  # what was taken goes to the disk while we check what follows
        self._largest = largest  # bytes of a block: a larger one, with its proof, would not fit in a frame
        self._storage = storage
        self._held = held
        self._nodes: dict[int, TreeNode] = {}
        self._old_head = head
        self._old_manifest = authority.manifest
        self._truncated_to: int | None = None

    @property
    def changed(self) -> bool:
        """Whether there is anything to store."""
        return bool(
            self._nodes
            or self.blocks
            or self.head is not self._old_head
            or self.authority.manifest is not self._old_manifest
        )

    def change(self) -> Change:
        """All that was taken, as one step of the log."""
        manifest = self.authority.manifest
        return Change(
            truncated_to=self._truncated_to,
            nodes=self._nodes.values(),
            blocks=list(self.blocks.items()),
            staged=self.staged,
            head=self.head if self.head is not self._old_head else None,
            manifest=manifest.encode() if manifest and manifest is not self._old_manifest else None,
        )

    def node(self, tree_index: int) -> TreeNode | None:
        """A node taken or stored."""
        node = self._nodes.get(tree_index)
        if node is not None:
            return node
        if self._truncated_to is not None and flat_tree.right_span(tree_index) >= 2 * self._truncated_to:
            return None
        return self._storage.node(tree_index)

    def has(self, index: int) -> bool:
        """Whether a block was taken or is stored."""
        if index in self.blocks:
            return True
        return self._held.has(index) and (self._truncated_to is None or index < self._truncated_to)

    def take(self, request: ProofRequest, proof: Proof) -> Applied:
        """Check one answer and keep what it brings."""
        if self._brings_nothing(proof):
            return STALE
        if proof.block is not None and len(proof.block.value) > self._largest:
            error = ProofError(f"a block of {len(proof.block.value)} bytes", reason="too-large")
            return Applied(Outcome.REJECTED, error)
        try:
            known = KnownLog(self.head, self.authority, self.node)
            changeset = verify_proof(known, request, self._shortened(proof))
            if changeset.head is not None and changeset.head.length > MAX_STORED_LENGTH:
                raise ProofError(
                    f"{changeset.head.length} blocks are more than we can store", reason="too-long"
                )
        except ProofError as error:
            if error.unconnected and self._was_overtaken(proof):
                return STALE
            return Applied(Outcome.UNCONNECTED if error.unconnected else Outcome.REJECTED, error)
        except RemoteProtocolError as error:
            return Applied(Outcome.REJECTED, ProofError(str(error), reason=error.reason))
        return self._merge(changeset)

    def _brings_nothing(self, proof: Proof) -> bool:
        """Seen without checking it: another fork, nothing but a block we hold, or a length we have."""
        if proof.fork != self.head.fork:
            return proof.fork < self.head.fork
        if proof.upgrade is not None or proof.hash is not None or proof.seek is not None:
            return False
        if proof.manifest is not None and self.authority.manifest is None:
            return False
        return proof.block is None or self.has(proof.block.index)

    def _shortened(self, proof: Proof) -> Proof:
        """A block's proof up to the first node we hold, without the rest of its path.

        Peers are asked for many blocks before the first answer is here, so most paths are longer than needed
        by then, and hashing their upper ends again would cost more than all the rest.
        """
        block = proof.block
        if block is None or proof.upgrade is not None or proof.seek is not None:
            return proof
        place = 2 * block.index
        for level in range(len(block.nodes)):
            if self.node(place) is not None:
                shorter = BlockProof(block.index, block.value, block.nodes[:level])
                return Proof(proof.fork, block=shorter, manifest=proof.manifest)
            place = flat_tree.parent(place)
        return proof

    def _was_overtaken(self, proof: Proof) -> bool:
        """Whether it grows a length we have left: what ties it to ours now, no later answer will bring."""
        return (
            proof.upgrade is not None
            and proof.fork == self.head.fork
            and proof.upgrade.start < self.head.length
        )

    def _merge(self, changeset: Changeset) -> Applied:
        head = changeset.head
        truncated_to = None
        if head is not None and head.fork > self.head.fork:
            truncated_to = changeset.ancestors or 0
            self._cut(truncated_to)
        if changeset.manifest is not None:
            self.authority = self.authority.accept_manifest(changeset.manifest)
        block = changeset.block if changeset.block and not self.has(changeset.block[0]) else None
        nodes = changeset.nodes
        if head is None and block is None:  # mostly known already: an answer to a seek, or overtaken
            nodes = [node for node in nodes if self.node(node.index) != node]
            if not nodes and changeset.manifest is None:
                return STALE
        if block is not None:
            self.blocks[block[0]] = block[1]
            self.staged.add(block[1])
        for node in nodes:
            self._nodes[node.index] = node
        self.head = head or self.head
        return Applied(Outcome.STORED, upgraded=head is not None, truncated_to=truncated_to)

    def _cut(self, length: int) -> None:
        """Forget what does not survive the cut to ``length`` blocks."""
        lower = self._truncated_to
        self._truncated_to = length if lower is None else min(length, lower)
        if self.blocks:
            self.blocks = {index: value for index, value in self.blocks.items() if index < length}
            self.staged.wait()  # and forget the bytes: those that are kept are written once more
            self.staged = self._storage.stage()
            for block in self.blocks.values():
                self.staged.add(block)
        self._nodes = {
            index: node for index, node in self._nodes.items() if flat_tree.right_span(index) < 2 * length
        }


def block_ranges(indexes: Iterable[int]) -> list[range]:
    """Indexes as ascending ranges, neighbours joined."""
    ranges: list[range] = []
    for index in sorted(indexes):
        if ranges and ranges[-1].stop == index:
            ranges[-1] = range(ranges[-1].start, index + 1)
        else:
            ranges.append(range(index, index + 1))
    return ranges
