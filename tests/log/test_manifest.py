"""Manifests: the reference's bytes and keys, what is refused, and hostile bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.codec.compact import Reader, Writer
from p2prss.crypto.keys import Namespace, PublicKey
from p2prss.errors import DecodeError
from p2prss.log.manifest import MAX_SIGNERS, Manifest, Prologue, Signer, core_key

CORE = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())


def from_vector(fields: dict[str, Any]) -> Manifest:
    prologue, linked, user_data = fields["prologue"], fields["linked"], fields["userData"]
    return Manifest(
        version=fields["version"],
        quorum=fields["quorum"],
        signers=tuple(
            Signer(PublicKey(bytes.fromhex(s["publicKey"])), Namespace(bytes.fromhex(s["namespace"])))
            for s in fields["signers"]
        ),
        allow_patch=fields["allowPatch"],
        prologue=prologue and Prologue(bytes.fromhex(prologue["hash"]), prologue["length"]),
        linked=linked and tuple(map(bytes.fromhex, linked)),
        user_data=user_data and bytes.fromhex(user_data),
    )


@pytest.mark.parametrize("case", CORE["manifests"], ids=lambda case: case["name"])
def test_a_manifest_its_bytes_and_its_key(case: dict[str, Any]) -> None:
    manifest = from_vector(case["manifest"])
    assert manifest.encode().hex() == case["encoded"]
    assert core_key(manifest).hex() == case["key"]
    src = Reader(bytes.fromhex(case["encoded"]))
    assert Manifest.decode(src) == manifest
    assert src.remaining == 0


@pytest.mark.parametrize("case", CORE["manifest_decode_edge_cases"], ids=lambda case: case["note"])
def test_an_edge_case(case: dict[str, Any]) -> None:
    src = Reader(bytes.fromhex(case["hex"]))
    if "error" in case:
        with pytest.raises(DecodeError):
            Manifest.decode(src)
    else:
        manifest = Manifest.decode(src)
        assert manifest.encode().hex() == case["reencoded"]
        assert core_key(manifest).hex() == case["hash"]


SIGNER = Signer(PublicKey(bytes(32)))


@pytest.mark.parametrize(
    "members",
    [
        {"version": 4},
        {"quorum": 2},
        {"quorum": -1},
        {"signers": (SIGNER,) * (MAX_SIGNERS + 1)},
        {"linked": (bytes(32),)},
        {"user_data": b"x"},
        {"version": 2, "user_data": bytes(2**16 + 1)},
        {"version": 0, "prologue": Prologue(bytes(32), 0)},
        {"version": 0, "prologue": Prologue(bytes(32), 1), "signers": (), "quorum": 0},
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"manifest|quorum"):
        Manifest(**{"version": 1, "quorum": 1, "signers": (SIGNER,), **members})


def test_a_quorum_above_the_signers_does_not_parse() -> None:
    data = bytearray(Manifest(1, 1, (SIGNER,)).encode())
    data[3] = 2
    with pytest.raises(DecodeError, match="quorum"):
        Manifest.decode(Reader(data))


def test_a_count_of_signers_that_cannot_follow_allocates_nothing() -> None:
    out = Writer()
    for number in (1, 0, 0, 1, 2**20):
        out.uint(number)
    with pytest.raises(DecodeError, match="cannot follow"):
        Manifest.decode(Reader(out.finish()))


@given(
    st.sampled_from(CORE["manifests"]),
    st.lists(st.tuples(st.integers(0, 220), st.integers(0, 255)), max_size=4),
    st.binary(max_size=90),
)
def test_any_bytes_give_a_manifest_or_a_decode_error(
    case: dict[str, Any], changes: list[tuple[int, int]], junk: bytes
) -> None:
    data = bytearray(bytes.fromhex(case["encoded"]))
    for place, value in changes:
        data[place % len(data)] = value
    for candidate in (bytes(data), junk, bytes(data) + junk):
        try:
            manifest = Manifest.decode(Reader(candidate))
        except DecodeError:
            continue
        again = Manifest.decode(Reader(manifest.encode()))
        assert again == manifest
        assert core_key(again) == core_key(manifest)
