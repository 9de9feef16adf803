"""Hashes, namespaces, keys, signatures and key text against the reference."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto import namespaces
from p2prss.crypto.derivation import ROOT_NAMESPACE, child_namespace, derive_key_pair
from p2prss.crypto.hashes import blake2b, discovery_key
from p2prss.crypto.key_text import format_key, parse_key
from p2prss.crypto.keys import CoreKey, KeyPair, Namespace, PublicKey
from p2prss.crypto.signatures import sign, verify
from p2prss.errors import UsageError
from p2prss.log.manifest import Manifest, Signer, core_key

CORE = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())
WIRE = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())["namespaces"]
KEYS = CORE["keys"]


def test_namespaces() -> None:
    hypercore = CORE["namespaces"]["hypercore"]
    assert namespaces.TREE.hex() == hypercore["tree"]
    assert namespaces.REPLICATE_INITIATOR.hex() == hypercore["replicate_initiator"]
    assert namespaces.REPLICATE_RESPONDER.hex() == hypercore["replicate_responder"]
    assert namespaces.MANIFEST.hex() == hypercore["manifest"]
    assert namespaces.DEFAULT_NAMESPACE.hex() == hypercore["default_namespace"]
    assert namespaces.DEFAULT_ENCRYPTION.hex() == hypercore["default_encryption"]
    assert namespaces.CORESTORE.hex() == CORE["namespaces"]["corestore"]["keypair"]
    assert namespaces.HYPERDRIVE_BLOBS.hex() == WIRE["hyperdrive_blobs"]
    assert namespaces.SECRET_STREAM_INITIATOR.hex() == WIRE["secret_stream"]["initiator"]
    assert namespaces.SECRET_STREAM_RESPONDER.hex() == WIRE["secret_stream"]["responder"]
    assert namespaces.SECRET_STREAM_SEND.hex() == WIRE["secret_stream"]["send"]
    assert blake2b(b"hyper", b"core").hex() == CORE["namespaces"]["blake2b_256_hypercore"]


@pytest.mark.parametrize("pair", KEYS["pairs"], ids=lambda pair: pair["seed"][:8])
def test_all_keys_of_a_seed(pair: dict[str, str]) -> None:
    keys = KeyPair.from_seed(bytes.fromhex(pair["seed"]))
    assert keys.public_key.hex() == pair["publicKey"]
    assert keys.secret_key.hex() == pair["secretKey"]
    assert pair["secretKey"] not in repr(keys)
    key = core_key(Manifest.single(keys.public_key))
    assert key.hex() == pair["core_key_v1"]
    assert format_key(key) == pair["core_key_v1_z32"]
    assert discovery_key(key).hex() == pair["discoveryKey_v1"]
    assert discovery_key(CoreKey(bytes.fromhex(pair["core_key_compat"]))).hex() == pair["discoveryKey_compat"]
    signer = Signer(keys.public_key)
    assert core_key(Manifest(0, 1, (signer,))).hex() == pair["core_key_v0"]
    assert core_key(Manifest(2, 1, (signer,))).hex() == pair["core_key_v2"]
    custom = Namespace(bytes.fromhex(CORE["log"]["custom_namespace"]))
    assert core_key(Manifest.single(keys.public_key, custom)).hex() == pair["core_key_v1_custom_namespace"]


@pytest.mark.parametrize("case", KEYS["corestore"]["derived"], ids=lambda case: case["publicKey"][:8])
def test_derived_key_pairs(case: dict[str, Any]) -> None:
    namespace = ROOT_NAMESPACE
    for name in case["namespace_names"]:
        namespace = child_namespace(namespace, bytes.fromhex(name))
    assert namespace.hex() == case["namespace"]
    keys = derive_key_pair(bytes.fromhex(KEYS["corestore"]["primaryKey"]), namespace, case["name"])
    assert keys.public_key.hex() == case["publicKey"]
    assert core_key(Manifest.single(keys.public_key)).hex() == case["core_key"]


def test_a_primary_key_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="primary key"):
        derive_key_pair(b"short", ROOT_NAMESPACE, "name")


@given(st.binary(max_size=100), st.binary(min_size=1, max_size=100))
def test_signatures_hold_for_their_message_and_key_alone(message: bytes, other: bytes) -> None:
    mine, theirs = KeyPair.from_seed(bytes(32)), KeyPair.from_seed(b"\x01" * 32)
    signature = sign(message, mine.secret_key)
    assert signature == sign(message, mine.secret_key)
    assert verify(message, signature, mine.public_key)
    assert not verify(message, signature, theirs.public_key)
    assert not verify(message + other, signature, mine.public_key)
    assert not verify(message, other[:64].ljust(64, b"\x00"), mine.public_key)
    assert not verify(message, signature + b"\x00", mine.public_key)
    assert not verify(message, signature[:-1], mine.public_key)


def test_weak_keys_and_malleable_signatures_are_refused() -> None:
    keys = KeyPair.from_seed(bytes(32))
    signature = sign(b"message", keys.secret_key)
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    assert not verify(b"message", signature[:32] + scalar.to_bytes(32, "little"), keys.public_key)
    neutral = b"\x01" + bytes(31)
    assert not verify(b"message", neutral + bytes(32), PublicKey(neutral))
    assert not verify(b"message", signature, PublicKey(b""))


@pytest.mark.parametrize("case", KEYS["id_decoding"], ids=lambda case: case["id"][:12])
def test_texts_that_name_a_key(case: dict[str, str]) -> None:
    assert parse_key(case["id"]).hex() == case["key"]
    assert parse_key(f"  {case['id'].upper()}\n".replace("PEAR", "pear")).hex() == case["key"]


Z32 = KEYS["id_decoding"][0]["id"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "0 characters"),
        (Z32[:-1], "51 characters"),
        (Z32[:-1] + "l", "'l' is not"),
        (Z32[:-1] + "9", "end"),
        ("0x" + "ab" * 31, "hex"),
        ("zz" * 32, "not a key"),
        ("https://example.org/feed.xml", "https://"),
        (f"hyper://{Z32[:-2]}?x", "50 characters"),
    ],
)
def test_texts_that_name_no_key(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_key(text)


@given(st.text(max_size=80) | st.text(alphabet="0123456789abcdef", min_size=64, max_size=64))
def test_any_text_gives_a_key_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert len(parse_key(text)) == 32
