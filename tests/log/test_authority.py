"""Who may sign: all modes of the recorded log, truncations, several signers, prologues, forgeries."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.codec.compact import Reader
from p2prss.crypto.keys import CoreKey, KeyPair, Namespace
from p2prss.errors import LocalProtocolError, ProofError
from p2prss.log import flat_tree
from p2prss.log.authority import MAX_SIGNATURE_SIZE, Authority, PartialSignature
from p2prss.log.manifest import Manifest, Prologue, Signer, compat_manifest, core_key
from p2prss.log.merkle import Head, TreeBatch
from tests.fakes.memory_log import Writer

CORE = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())
LOG = CORE["log"]
BLOCKS = [bytes.fromhex(block) for block in LOG["blocks"]]
KEYS = KeyPair.from_seed(bytes.fromhex(LOG["seed"]))
CUSTOM = Namespace(bytes.fromhex(LOG["custom_namespace"]))


def of(manifest: Manifest) -> Authority:
    return Authority(core_key(manifest), manifest)


MODES = {
    "v1": of(Manifest.single(KEYS.public_key)),
    "compat": Authority(CoreKey(bytes(KEYS.public_key))),
    "v0": of(Manifest(0, 1, (Signer(KEYS.public_key),))),
    "v1_custom_namespace": of(Manifest.single(KEYS.public_key, CUSTOM)),
}


def heads(blocks: list[bytes]) -> list[Head]:
    batch, result = TreeBatch(Head.empty()), []
    for block in blocks:
        batch.append(block)
        result.append(batch.head())
    return result


@pytest.mark.parametrize("mode", MODES)
def test_every_head_of_the_recorded_log(mode: str) -> None:
    authority = MODES[mode]
    assert authority.key.hex() == LOG[f"key_{mode}"]
    assert authority.compat == (mode == "compat")
    for head, expected in zip(heads(BLOCKS), LOG["heads"], strict=True):
        if f"signable_{mode}" in expected:
            assert authority.signable(head).hex() == expected[f"signable_{mode}"]
        signature = authority.sign(head, KEYS)
        assert signature.hex() == expected[f"signature_{mode}"]
        assert authority.verify(head, signature)
        for other in MODES.values():
            assert other.verify(head, signature) == (other is authority)


def test_truncations_of_the_recorded_log() -> None:
    writer = Writer.single(KEYS)
    steps = [
        lambda: writer.append(BLOCKS),
        lambda: writer.truncate(13),
        lambda: writer.append(BLOCKS[:2]),
        lambda: writer.truncate(0),
        lambda: writer.append(BLOCKS[:3]),
        lambda: writer.truncate(2, fork=9),
    ]
    for step, expected in zip(steps, CORE["truncation"], strict=True):
        step()
        head = writer.head
        assert (head.length, head.fork, head.byte_length) == (
            expected["length"],
            expected["fork"],
            expected["byteLength"],
        )
        assert [root.index for root in head.roots] == expected["roots"]
        assert head.tree_hash.hex() == expected["treeHash"]
        assert head.signature.hex() == expected["signature"]
        assert writer.authority.verify(head, head.signature)


def test_a_batch_is_signed_once() -> None:
    head = heads(BLOCKS)[12]
    assert MODES["v1"].sign(head, KEYS).hex() == LOG["batch_append_13_signature"]


@pytest.mark.parametrize("case", CORE["multisig"], ids=lambda case: case["name"])
def test_several_signers(case: dict[str, Any]) -> None:
    authority = of(Manifest.decode(Reader(bytes.fromhex(case["manifest"]))))
    assert authority.key.hex() == case["key"]
    batch = TreeBatch(Head.empty())
    for block in BLOCKS[: case["signer0_signed_length"]]:
        batch.append(block)
    nodes = {node.index: node for node in batch.nodes}
    head = Head.at(case["length"], 0, nodes.get)
    assert head is not None
    order = flat_tree.upgrade_order(case["length"], case["signer0_signed_length"])
    patch = case["signer0_signed_length"] - case["length"]
    first = authority.sign_part(batch.head(), KEYS)
    assert first.signature.hex() == case["signer0_signature"]
    first = first._replace(patch=patch, nodes=[nodes[index] for index in order])
    third = PartialSignature(2, bytes.fromhex(case["signer2_signature"]))
    signature = authority.assemble([first, third])
    assert signature.hex() == case["assembled"]
    assert authority.verify(head, signature)
    assert authority.verify(head, authority.assemble([third, first]))
    assert authority.verify(head, authority.assemble([third, first, first]))  # only two are looked at
    for parts in (
        [first],
        [first, first],
        [third, first._replace(signer=1)],
        [third, first._replace(signer=7)],
        [third, first._replace(signature=bytes(64))],
        [third, first._replace(patch=patch + 1)] if patch else [],
        [third, first._replace(patch=0)] if patch else [],
        [third, first._replace(nodes=first.nodes[:0], patch=2**52)]
        if case["name"][1] == "1" and patch
        else [],
    ):
        assert not authority.verify(head, authority.assemble(parts))
    with pytest.raises(LocalProtocolError, match="2 signers"):
        authority.sign(head, KEYS)


def test_a_stranger_cannot_sign() -> None:
    stranger = KeyPair.from_seed(bytes(32))
    head = heads(BLOCKS)[4]
    for authority in MODES.values():
        with pytest.raises(LocalProtocolError, match="not a signer"):
            authority.sign(head, stranger)
        assert not authority.verify(head, b"")
        assert not authority.verify(head, bytes(MAX_SIGNATURE_SIZE + 1))
    forged = Authority(CoreKey(bytes(stranger.public_key))).sign(head, stranger)
    assert not MODES["compat"].verify(head, forged)


def test_a_signature_holds_for_its_head_alone() -> None:
    two, three = heads(BLOCKS)[1:3]
    for authority in MODES.values():
        signature = authority.sign(three, KEYS)
        assert not authority.verify(two, signature)
        assert not authority.verify(replace(three, fork=1), signature)
        assert not authority.verify(replace(three, length=4), signature)
        assert not authority.verify(replace(three, roots=three.roots[::-1]), signature)


def test_manifests_are_accepted_by_their_hash() -> None:
    manifest = Manifest.single(KEYS.public_key)
    reader = Authority(core_key(manifest))
    assert reader.compat  # assumed as long as nothing better is known
    known = reader.accept_manifest(manifest)
    assert (known.manifest, known.compat) == (manifest, False)
    assert known.accept_manifest(Manifest.single(KEYS.public_key, CUSTOM)) is known
    with pytest.raises(ProofError, match="another core"):
        reader.accept_manifest(Manifest.single(KEYS.public_key, CUSTOM))
    with pytest.raises(ValueError, match="another core"):
        Authority(reader.key, Manifest.single(KEYS.public_key, CUSTOM))


def test_a_compat_core_keeps_nothing_of_a_manifest_a_peer_made_up() -> None:
    reader = Authority(CoreKey(bytes(KEYS.public_key)))
    made_up = Manifest(2, 1, (Signer(KEYS.public_key),), prologue=Prologue(bytes(32), 9), user_data=b"ads")
    known = reader.accept_manifest(made_up)
    assert known.manifest == compat_manifest(reader.key)
    assert known.compat
    assert known.prologue is None


def test_blocks_of_the_prologue_need_no_signature() -> None:
    four, nine = heads(BLOCKS)[3], heads(BLOCKS)[8]
    prologue = Prologue(four.tree_hash, 4)
    static = of(Manifest(1, 0, (), prologue=prologue))
    signed = of(Manifest(1, 1, (Signer(KEYS.public_key),), prologue=prologue))
    for authority in (static, signed):
        assert authority.verify(four, b"")
        assert not authority.verify(heads(BLOCKS)[2], b"")
        assert not authority.verify(heads([b"x", *BLOCKS[1:4]])[3], b"")
    assert not static.verify(nine, b"")
    assert not signed.verify(nine, b"")
    assert signed.verify(nine, signed.sign(nine, KEYS))


def test_a_quorum_of_none_signs_nothing() -> None:
    authority = of(Manifest(1, 0, (Signer(KEYS.public_key),)))
    assert not authority.verify(heads(BLOCKS)[0], authority.assemble([]))


@given(st.binary(max_size=200), st.sampled_from(sorted(MODES)))
def test_any_bytes_are_no_signature(data: bytes, mode: str) -> None:
    assert not MODES[mode].verify(heads(BLOCKS[:3])[-1], data)
