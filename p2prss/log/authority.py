"""Authority: whether a head was signed by those whom a core's key names.

What is signed is TREE | context | tree hash | length u64 | fork u64. The context depends on the manifest:
nothing in *compat* (the core key is the signer's public key), the signer's namespace in version 0, the core
key in version 1 and up. The signature field is a bare 64-byte signature for compat and for version 0 with
one signer and no patching, else a container of several.
Source: hypercore lib/verifier.js, lib/multisig.js; spec/03-log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from struct import Struct
from typing import Final, NamedTuple

from p2prss.codec.compact import Reader, Writer
from p2prss.crypto.hashes import HASH_SIZE
from p2prss.crypto.keys import CoreKey, KeyPair, PublicKey
from p2prss.crypto.namespaces import TREE
from p2prss.crypto.signatures import SIGNATURE_SIZE, sign, verify
from p2prss.errors import DecodeError, LocalProtocolError, ProofError
from p2prss.log import flat_tree
from p2prss.log.manifest import Manifest, Prologue, Signer, compat_manifest, core_key
from p2prss.log.merkle import Head, TreeBatch
from p2prss.log.proof_parts import TreeNode
from p2prss.units import KIB, MAX_SAFE_INTEGER

MAX_SIGNATURE_SIZE: Final = 64 * KIB  # bytes of a container; 256 signatures need 20 KiB

_PROOF_SIZE: Final = 1 + SIGNATURE_SIZE + 1  # bytes, the smallest entry of a container
_NODE_SIZE: Final = 1 + 1 + HASH_SIZE  # bytes, the smallest encoded node
_PATCHED: Final = 0b1  # flag bit of a version 0 entry
_pack_length_and_fork = Struct("<QQ").pack


class PartialSignature(NamedTuple):
    """One signer's part; with ``patch`` it signed a log that many blocks longer, tied by ``nodes``.

    ``nodes`` are those of ``flat_tree.upgrade_order(length, length + patch)``.
    """

    signer: int  # place in the manifest
    signature: bytes  # 64 bytes
    patch: int = 0  # blocks
    nodes: Sequence[TreeNode] = ()


@dataclass(frozen=True)
class Authority:
    """Decides for one core who may sign. Without a manifest, compat is assumed.

    Raises: ValueError when the manifest is not this core's.
    """

    key: CoreKey
    manifest: Manifest | None = None

    def __post_init__(self) -> None:
        if self.manifest is not None and not self._is_ours and not _is_compat(self.key, self.manifest):
            raise ValueError("the manifest belongs to another core")

    def accept_manifest(self, manifest: Manifest) -> "Authority":
        """This authority with a manifest a peer sent; the one already known stays.

        Raises: ProofError when it belongs to another core.
        """
        if self.manifest is not None:
            return self
        if core_key(manifest) == self.key:
            return Authority(self.key, manifest)
        if _is_compat(self.key, manifest):  # its other members bind nobody: do not keep what a peer made up
            return Authority(self.key, compat_manifest(self.key))
        raise ProofError("the manifest belongs to another core", reason="bad-manifest")

    @cached_property
    def _is_ours(self) -> bool:
        return self.manifest is not None and core_key(self.manifest) == self.key

    @property
    def compat(self) -> bool:
        """Whether the core key is the signer's public key; with no manifest known this is assumed."""
        return not self._is_ours

    @cached_property
    def _effective(self) -> Manifest:
        return self.manifest if self.manifest is not None and self._is_ours else compat_manifest(self.key)

    @property
    def prologue(self) -> Prologue | None:
        """The blocks that need no signature; None in compat and version 0."""
        return self._effective.prologue if self._effective.version else None

    @property
    def _bare(self) -> bool:
        manifest = self._effective
        return manifest.version == 0 and len(manifest.signers) == 1 and not manifest.allow_patch

    def signable(self, head: Head, signer: int = 0) -> bytes:
        """The message that signer number ``signer`` signs for ``head``: 80 bytes in compat, else 112."""
        return self._signable(head.tree_hash, head.length, head.fork, self._effective.signers[signer])

    def _signable(self, tree_hash: bytes, length: int, fork: int, signer: Signer) -> bytes:
        hashed = self.key if self._effective.version else signer.namespace
        context = b"" if self.compat else hashed
        return TREE + context + tree_hash + _pack_length_and_fork(length, fork)

    def sign(self, head: Head, key_pair: KeyPair) -> bytes:
        """Sign a head alone.

        Returns: the signature field.
        Raises: LocalProtocolError when the pair is no signer's, or one signature is not enough.
        """
        if self._effective.quorum > 1:
            raise LocalProtocolError(f"{self._effective.quorum} signers must sign this core")
        part = self.sign_part(head, key_pair)
        return part.signature if self._bare else self.assemble([part])

    def has_signer(self, public_key: PublicKey) -> bool:
        """Whether this key signs, alone or with others."""
        return any(signer.public_key == public_key for signer in self._effective.signers)

    def sign_part(self, head: Head, key_pair: KeyPair) -> PartialSignature:
        """One signer's part of a head's signature; LocalProtocolError when the pair is no signer's."""
        for index, signer in enumerate(self._effective.signers):
            if signer.public_key == key_pair.public_key:
                return PartialSignature(index, sign(self.signable(head, index), key_pair.secret_key))
        raise LocalProtocolError("the key pair is not a signer of this core")

    def assemble(self, parts: Sequence[PartialSignature]) -> bytes:
        """The container of several signers' parts."""
        out = Writer()
        out.uint(len(parts))
        patch: list[TreeNode] = []
        for part in parts:
            if self._effective.version:
                out.uint(part.signer)
                out.fixed(part.signature, SIGNATURE_SIZE)
                out.uint(part.patch)
                known = {node.index for node in patch}
                patch += [node for node in part.nodes if node.index not in known]
            else:
                _write_version_0_part(out, part, patch)
        out.uint(len(patch))
        for node in patch:
            _write_node(out, node)
        return out.finish()

    def verify(self, head: Head, signature: bytes) -> bool:
        """Whether ``signature`` (a signature field) makes ``head`` this core's."""
        if len(signature) > MAX_SIGNATURE_SIZE:
            return False
        prologue = self.prologue
        if prologue is not None and head.length <= prologue.length:
            return head.length == prologue.length and head.tree_hash == prologue.hash
        if self._bare:
            return verify(self.signable(head), signature, self._effective.signers[0].public_key)
        if self._effective.quorum == 0:
            return False
        try:
            parts, nodes = self._read_container(Reader(signature))
            return self._verify_parts(head, parts, nodes)
        except (DecodeError, ProofError):
            return False

    def _verify_parts(self, head: Head, parts: list[PartialSignature], nodes: dict[int, TreeNode]) -> bool:
        """Only the first ``quorum`` parts count, and each of them must be right."""
        quorum, signers = self._effective.quorum, self._effective.signers
        parts = parts[:quorum]
        distinct = {part.signer for part in parts}
        if len(distinct) < quorum or max(distinct) >= len(signers):
            return False
        tree_hash = head.tree_hash
        for part in parts:
            signer = signers[part.signer]
            if part.patch and self._effective.allow_patch:
                patched = _patched(head, part.patch, nodes)
                message = self._signable(patched.tree_hash, patched.length, head.fork, signer)
            else:
                message = self._signable(tree_hash, head.length, head.fork, signer)
            if not verify(message, part.signature, signer.public_key):
                return False
        return True

    def _read_container(self, src: Reader) -> tuple[list[PartialSignature], dict[int, TreeNode]]:
        """Parts and shared nodes; bytes after them are ignored, as the reference does."""
        read_part = _read_part if self._effective.version else _read_version_0_part
        parts = src.array(read_part, _PROOF_SIZE)
        nodes = src.array(_read_node, _NODE_SIZE)
        return parts, {node.index: node for node in nodes}


def _is_compat(key: CoreKey, manifest: Manifest) -> bool:
    return len(manifest.signers) == 1 and bytes(manifest.signers[0].public_key) == key


def _patched(head: Head, patch: int, nodes: dict[int, TreeNode]) -> Head:
    """``head`` grown by ``patch`` blocks; ProofError when a node for it is missing."""
    if head.length + patch > MAX_SAFE_INTEGER // 2:
        raise ProofError("patch too long")
    batch = TreeBatch(head)
    for index in flat_tree.upgrade_order(head.length, head.length + patch):
        node = nodes.get(index)
        if node is None:
            raise ProofError(f"no node {index} for the patch")
        batch.append_node(node, computed=False)
    return batch.head()


def _read_part(src: Reader) -> PartialSignature:
    """Wire: signer uint | signature 64 | patch uint."""
    return PartialSignature(src.uint(), src.fixed(SIGNATURE_SIZE), src.uint())


def _read_version_0_part(src: Reader) -> PartialSignature:
    """Wire: flags uint | signer uint | signature 64 | if flag 1: start uint, length uint, positions array."""
    flags, signer, signature = src.uint(), src.uint(), src.fixed(SIGNATURE_SIZE)
    if not flags & _PATCHED:
        return PartialSignature(signer, signature)
    src.uint()  # where the patch starts: we know it
    patch = src.uint()
    src.array(Reader.uint, 1)  # places of its nodes: we find them by tree index
    return PartialSignature(signer, signature, patch)


def _write_version_0_part(out: Writer, part: PartialSignature, patch: list[TreeNode]) -> None:
    out.uint(_PATCHED if part.patch else 0)
    out.uint(part.signer)
    out.fixed(part.signature, SIGNATURE_SIZE)
    if not part.patch:
        return
    patch += [node for node in part.nodes if node not in patch]
    out.uint(flat_tree.right_span(part.nodes[-1].index) // 2 + 1)
    out.uint(part.patch)
    out.uint(len(part.nodes))
    for node in part.nodes:
        out.uint(patch.index(node))


def _read_node(src: Reader) -> TreeNode:
    return TreeNode(src.uint(), src.uint(), src.fixed(HASH_SIZE))


def _write_node(out: Writer, node: TreeNode) -> None:
    out.uint(node.index)
    out.uint(node.size)
    out.fixed(node.hash, HASH_SIZE)
