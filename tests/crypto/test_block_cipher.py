"""Block encryption against the reference."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto import xsalsa20
from p2prss.crypto.block_cipher import PADDING, BlockCipher
from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.errors import DecodeError
from p2prss.log.authority import Authority
from p2prss.log.manifest import Manifest, core_key
from p2prss.log.merkle import Head, TreeBatch
from p2prss.log.seek import seek

CORE = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())
VECTORS = CORE["encryption"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_a_private_log_of_the_reference(case: dict[str, Any]) -> None:
    key = CoreKey(bytes.fromhex(case["core_key"]))
    encryption_key = bytes.fromhex(VECTORS["encryptionKey"])
    if case["name"] == "block key given directly":
        cipher = BlockCipher(encryption_key)
    else:
        cipher = BlockCipher.for_core(key, encryption_key, compat=case["name"] == "compat core")
    batch = TreeBatch(Head.empty(fork=case["blocks"][-1]["fork"]))
    for block, text in zip(case["blocks"], VECTORS["plaintexts"], strict=True):
        plain, stored = bytes.fromhex(text), bytes.fromhex(block["stored"])
        assert cipher.encrypt(block["index"], block["fork"], plain) == stored
        assert cipher.decrypt(block["index"], memoryview(stored)) == plain
        batch.append(stored)
    head = batch.head()
    assert head.byte_length == case["byteLength_tree"]
    assert head.byte_length - PADDING * head.length == case["byteLength_shown"]
    nodes = {node.index: node for node in batch.nodes}
    for sought in case["seeks_padding_8"]:
        found = seek(head, nodes.get, sought["bytes"], PADDING)
        assert found is not None
        assert found.found
        assert [found.start, found.offset] == sought["result"]
    keys = KeyPair.from_seed(bytes.fromhex(CORE["log"]["seed"]))
    manifest = Manifest.single(keys.public_key)
    authority = Authority(key, manifest if core_key(manifest) == key else None)
    assert authority.sign(head, keys).hex() == case["signature"]


def test_the_raw_keystream() -> None:
    vector = VECTORS["xsalsa20_keystream"]
    stream = bytes.fromhex(vector["bytes"])
    nonce, key = bytes.fromhex(vector["nonce"]), bytes.fromhex(vector["key"])
    for size in {0, 1, 31, 32, 33, len(stream)}:
        assert xsalsa20.xor(bytes(size), nonce, key) == stream[:size]
    with pytest.raises(ValueError, match="nonce"):
        xsalsa20.xor(b"", nonce[1:], key)


@given(st.integers(0, 2**53), st.integers(0, 2**53), st.binary(max_size=100))
def test_blocks_come_back(index: int, fork: int, block: bytes) -> None:
    cipher = BlockCipher(b"\x05" * 32)
    stored = cipher.encrypt(index, fork, block)
    assert len(stored) == len(block) + PADDING
    assert cipher.decrypt(index, stored) == block


def test_a_stored_block_that_is_too_short() -> None:
    with pytest.raises(DecodeError):
        BlockCipher(bytes(32)).decrypt(0, bytes(PADDING - 1))
