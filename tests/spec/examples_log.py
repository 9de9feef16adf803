"""Examples of chapters 1 to 3: encoding, keys, logs."""

from dataclasses import dataclass

from p2prss.codec import compact_extra, protobuf, z32
from p2prss.codec.compact import Reader, Writer
from p2prss.crypto import namespaces
from p2prss.crypto.block_cipher import BlockCipher
from p2prss.crypto.derivation import ROOT_NAMESPACE, child_namespace, derive_key_pair
from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.log import flat_tree
from p2prss.log.authority import Authority
from p2prss.log.bitfield import Bitfield
from p2prss.log.manifest import Manifest, core_key
from p2prss.log.merkle import Head, TreeBatch, leaf_hash
from p2prss.log.proof_parts import TreeNode
from tests.spec.reading import Given, Outputs, example


@example("uint")
def _uint(given: Given) -> Outputs:
    out = Writer()
    out.uint(given.number("value"))
    assert Reader(out.finish()).uint() == given.number("value")
    return {"bytes": out.finish()}


@example("lexint")
def _lexint(given: Given) -> Outputs:
    out = Writer()
    compact_extra.write_lexint(out, given.number("value"))
    return {"bytes": out.finish()}


@example("string")
def _string(given: Given) -> Outputs:
    out = Writer()
    out.string(given.text("text"))
    return {"bytes": out.finish()}


@example("z32")
def _z32(given: Given) -> Outputs:
    text = z32.encode(given.hex("bytes"))
    assert z32.decode(text) == given.hex("bytes")
    return {"text": text}


@example("varint")
def _varint(given: Given) -> Outputs:
    return {"bytes": protobuf.encode_varint(given.number("value"))}


@example("bit words")
def _bit_words(given: Given) -> Outputs:
    bits = Bitfield()
    for index in given.words("set"):
        bits.set(int(index))
    return {"words": bits.words(0, given.number("count"))}


# ---- 02 crypto


@example("namespace")
def _namespace(given: Given) -> Outputs:
    return {"bytes": namespaces.namespace(given.text("name"), given.number("index"))}


@example("key pair")
def _key_pair(given: Given) -> Outputs:
    namespace = ROOT_NAMESPACE
    for name in given.words("namespace"):
        namespace = child_namespace(namespace, name)
    pair = derive_key_pair(given.hex("primary key"), namespace, given.text("name"))
    manifest = Manifest.single(pair.public_key)
    key = core_key(manifest)
    return {
        "namespace bytes": namespace,
        "public key": pair.public_key,
        "manifest": manifest.encode(),
        "core key": key,
        "core key text": format_key(key),
        "discovery key": discovery_key(key),
    }


@example("block encryption")
def _block_encryption(given: Given) -> Outputs:
    cipher = BlockCipher.for_core(CoreKey(given.hex("core key")), given.hex("encryption key"))
    stored = cipher.encrypt(given.number("index"), given.number("fork"), given.text("block").encode())
    assert cipher.decrypt(given.number("index"), stored) == given.text("block").encode()
    return {"stored": stored}


# ---- 03 log


@dataclass
class Grown:
    """A signed log in memory."""

    head: Head
    authority: Authority
    nodes: dict[int, TreeNode]
    blocks: list[bytes]


def grow(pair: KeyPair, blocks: list[bytes], fork: int = 0) -> Grown:
    manifest = Manifest.single(pair.public_key)
    authority = Authority(core_key(manifest), manifest)
    batch = TreeBatch(Head.empty(fork))
    for block in blocks:
        batch.append(block)
    head = batch.head(authority.sign(batch.head(), pair))
    assert authority.verify(head, head.signature)
    return Grown(head, authority, {node.index: node for node in batch.nodes}, blocks)


def grow_given(given: Given) -> Grown:
    return grow(given.seed("seed"), [word.encode() for word in given.words("blocks")])


@example("leaf")
def _leaf(given: Given) -> Outputs:
    return {"hash": leaf_hash(given.text("block").encode())}


@example("log")
def _log(given: Given) -> Outputs:
    grown = grow_given(given)
    manifest = grown.authority.manifest
    assert manifest is not None
    found: dict[str, bytes | str | int] = {
        f"node {index}": f"{node.size} {node.hash.hex()}" for index, node in grown.nodes.items()
    }
    return found | {
        "manifest": manifest.encode(),
        "core key": grown.authority.key,
        "roots": " ".join(str(root.index) for root in grown.head.roots),
        "tree hash": grown.head.tree_hash,
        "signable": grown.authority.signable(grown.head),
        "signature": grown.head.signature,
    }


@example("full roots")
def _full_roots(given: Given) -> Outputs:
    return {"roots": " ".join(map(str, flat_tree.full_roots(given.number("length"))))}


@example("upgrade order")
def _upgrade_order(given: Given) -> Outputs:
    order = flat_tree.upgrade_order(given.number("from"), given.number("to"))
    return {"nodes": " ".join(map(str, order))}
