"""Logs over plain dicts: a writer that answers and a sparse reader that checks, both without storage."""

from collections.abc import Iterable, Sequence

from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.log import flat_tree
from p2prss.log.authority import Authority
from p2prss.log.manifest import Manifest, core_key
from p2prss.log.merkle import Head, TreeBatch
from p2prss.log.proof import make_proof, nodes_needed
from p2prss.log.proof_parts import (
    BlockRequest,
    HashRequest,
    Proof,
    ProofRequest,
    SeekRequest,
    TreeNode,
    UpgradeRequest,
)
from p2prss.log.verify import Changeset, KnownLog, verify_proof


class MemoryLog:
    """What both sides hold."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.head = Head.empty()
        self.nodes: dict[int, TreeNode] = {}
        self.blocks: dict[int, bytes] = {}

    def answer(self, request: ProofRequest) -> Proof:
        value = self.blocks.get(request.block.index) if request.block is not None else None
        manifest = None if self.authority.compat else self.authority.manifest
        return make_proof(self.head, self.nodes.get, request, value=value, manifest=manifest)

    def cut(self, length: int) -> None:
        """Drop the blocks from ``length`` on, and every node that reaches beyond it."""
        self.nodes = {i: node for i, node in self.nodes.items() if flat_tree.right_span(i) < 2 * length}
        self.blocks = {i: block for i, block in self.blocks.items() if i < length}


class Writer(MemoryLog):
    """Signs its own log; without a key pair it is its prologue and needs no signature."""

    def __init__(self, authority: Authority, key_pair: KeyPair | None) -> None:
        super().__init__(authority)
        self.key_pair = key_pair

    @classmethod
    def single(cls, key_pair: KeyPair) -> "Writer":
        manifest = Manifest.single(key_pair.public_key)
        return cls(Authority(core_key(manifest), manifest), key_pair)

    def append(self, blocks: Iterable[bytes]) -> None:
        batch = TreeBatch(self.head)
        for block in blocks:
            self.blocks[batch.length] = block
            batch.append(block)
        self.nodes.update((node.index, node) for node in batch.nodes)
        self.head = self.signed(batch.head())

    def truncate(self, length: int, fork: int | None = None) -> None:
        head = Head.at(length, self.head.fork + 1 if fork is None else fork, self.nodes.get)
        assert head is not None
        self.head = self.signed(head)
        self.cut(length)

    def signed(self, head: Head, signature: bytes | None = None) -> Head:
        prologue = self.authority.prologue
        if signature is None:
            needless = prologue is not None and head.length <= prologue.length
            signature = b"" if needless or not self.key_pair else self.authority.sign(head, self.key_pair)
        return Head(head.fork, head.length, head.byte_length, head.roots, signature)


class Reader(MemoryLog):
    """Starts with nothing but the key."""

    def __init__(self, key: CoreKey) -> None:
        super().__init__(Authority(key))

    def check(self, request: ProofRequest | None, proof: Proof) -> Changeset:
        return verify_proof(KnownLog(self.head, self.authority, self.nodes.get), request, proof)

    def apply(self, request: ProofRequest | None, proof: Proof) -> Changeset:
        change = self.check(request, proof)
        if change.manifest is not None:
            self.authority = self.authority.accept_manifest(change.manifest)
        if change.ancestors is not None:
            self.cut(change.ancestors)
        self.nodes.update((node.index, node) for node in change.nodes)
        if change.block is not None:
            self.blocks[change.block[0]] = bytes(change.block[1])
        if change.head is not None:
            self.head = change.head
        return change

    def request(
        self,
        *,
        block: int | None = None,
        node: int | None = None,
        upgrade_to: int | None = None,
        seek: tuple[int, int] | None = None,
        extra_levels: int = 0,
        fork: int | None = None,
    ) -> ProofRequest:
        """A request as our own side would make it; ``extra_levels`` asks for more nodes than needed."""

        def levels(index: int) -> int:
            needed = nodes_needed(index, self.head.length, self.nodes.__contains__)
            top = index
            for _ in range(needed):
                top = flat_tree.parent(top)
            most = needed
            while flat_tree.right_span(top := flat_tree.parent(top)) < 2 * self.head.length:
                most += 1
            return min(needed + extra_levels, most)

        start = 0 if fork is not None else self.head.length
        return ProofRequest(
            self.head.fork if fork is None else fork,
            block=None if block is None else BlockRequest(block, levels(2 * block)),
            hash=None if node is None else HashRequest(node, levels(node)),
            seek=None if seek is None else SeekRequest(*seek),
            upgrade=None if upgrade_to is None else UpgradeRequest(start, upgrade_to - start),
            manifest=self.authority.manifest is None,
        )


def held(log: MemoryLog) -> Sequence[int]:
    return sorted(log.blocks)
