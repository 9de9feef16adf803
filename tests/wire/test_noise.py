"""Noise XX and IK: the reference's bytes, and what a bad partner can do."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.errors import LocalProtocolError, RemoteProtocolError
from p2prss.wire.noise import MESSAGE_SIZES, NoiseHandshake, Pattern, diffie_hellman, hkdf


def pair(
    pattern: Pattern,
    prologue: bytes = b"",
    *,
    statics: tuple[int, int] = (1, 2),
    ephemerals: tuple[int, int] = (3, 4),
) -> tuple[NoiseHandshake, NoiseHandshake]:
    initiator_key, responder_key = (KeyPair.from_seed(bytes([number]) * 32) for number in statics)
    initiator = NoiseHandshake(
        pattern,
        initiator=True,
        key_pair=initiator_key,
        ephemeral_seed=bytes([ephemerals[0]]) * 32,
        prologue=prologue,
        remote_public_key=responder_key.public_key if pattern is Pattern.IK else None,
    )
    responder = NoiseHandshake(
        pattern,
        initiator=False,
        key_pair=responder_key,
        ephemeral_seed=bytes([ephemerals[1]]) * 32,
        prologue=prologue,
    )
    return initiator, responder


@pytest.mark.parametrize("number", range(3))
def test_handshakes_match_the_reference(wire_vectors: dict[str, Any], number: int) -> None:
    case = wire_vectors["noise"][number]
    pattern = Pattern(case["pattern"])
    initiator, responder = pair(
        pattern,
        bytes.fromhex(case["prologue"]),
        statics=(case["initiator_static_seed"], case["responder_static_seed"]),
        ephemerals=(case["initiator_ephemeral_seed"], case["responder_ephemeral_seed"]),
    )
    for message, size in zip(case["messages"], MESSAGE_SIZES[pattern], strict=True):
        sender, receiver = (
            (initiator, responder) if message["from"] == "initiator" else (responder, initiator)
        )
        payload = bytes.fromhex(message["payload"])
        sent = sender.send(payload)
        assert sent.hex() == message["hex"]
        assert len(sent) == size + len(payload)
        assert receiver.receive(sent) == payload
    assert initiator.result is not None
    assert responder.result is not None
    assert initiator.result.handshake_hash.hex() == case["handshake_hash"]
    assert responder.result.handshake_hash.hex() == case["handshake_hash"]
    assert initiator.result.send_key.hex() == responder.result.receive_key.hex() == case["initiator_tx"]
    assert initiator.result.receive_key.hex() == responder.result.send_key.hex() == case["initiator_rx"]
    assert initiator.result.remote_public_key.hex() == case["responder_static_public"]
    assert responder.result.remote_public_key.hex() == case["initiator_static_public"]
    assert case["initiator_tx"] not in repr(initiator.result)


def test_diffie_hellman_matches_the_reference(wire_vectors: dict[str, Any]) -> None:
    for case in wire_vectors["dh"]:
        secret_key = KeyPair.from_seed(bytes([case["secret_seed"]]) * 32).secret_key
        assert diffie_hellman(secret_key, PublicKey(bytes.fromhex(case["public"]))).hex() == case["shared"]


def test_hkdf_matches_the_reference(wire_vectors: dict[str, Any]) -> None:
    case = wire_vectors["hkdf"]
    first, second = hkdf(bytes.fromhex(case["chaining_key"]), bytes.fromhex(case["input"]))
    assert (first.hex(), second.hex()) == (case["out1"], case["out2"])


LOW_ORDER_POINTS = [
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    b"\xff" * 32,  # not even on the curve
]


@pytest.mark.parametrize("point", LOW_ORDER_POINTS, ids=lambda point: point.hex()[:8])
def test_points_that_give_no_secret_are_refused(point: bytes) -> None:
    _, responder = pair(Pattern.XX)
    responder.receive(point)  # it becomes part of a secret only in the answer
    with pytest.raises(RemoteProtocolError):
        responder.send()
    initiator, _ = pair(Pattern.XX)
    initiator.send()
    with pytest.raises(RemoteProtocolError):
        initiator.receive(point + bytes(64))


@pytest.mark.parametrize("pattern", Pattern)
@given(data=st.data())
def test_every_changed_bit_is_noticed(pattern: Pattern, data: st.DataObject) -> None:
    def shake(changed: int) -> None:
        """Do the handshake with one bit of the message ``changed`` flipped."""
        sender, receiver = pair(pattern)
        for number in range(len(MESSAGE_SIZES[pattern])):
            message = bytearray(sender.send())
            if number == changed:
                bit = data.draw(st.integers(0, 8 * len(message) - 1))
                message[bit // 8] ^= 1 << bit % 8
            receiver.receive(message)
            sender, receiver = receiver, sender

    for changed in range(len(MESSAGE_SIZES[pattern])):
        with pytest.raises(RemoteProtocolError, match="handshake failed"):
            shake(changed)


@pytest.mark.parametrize("pattern", Pattern)
@given(message=st.binary(max_size=200))
def test_any_bytes_are_refused_or_answered(pattern: Pattern, message: bytes) -> None:
    _, responder = pair(pattern)
    with contextlib.suppress(RemoteProtocolError):
        responder.receive(message)
        responder.send()


def test_out_of_turn_is_our_own_mistake() -> None:
    initiator, responder = pair(Pattern.XX)
    with pytest.raises(LocalProtocolError):
        initiator.receive(bytes(96))
    with pytest.raises(LocalProtocolError):
        responder.send()
    initiator.send()
    with pytest.raises(LocalProtocolError):
        initiator.send()
    with pytest.raises(RemoteProtocolError):
        initiator.receive(bytes(96))
    with pytest.raises(LocalProtocolError):
        initiator.receive(bytes(96))


def test_only_an_ik_initiator_knows_the_other_before() -> None:
    key_pair = KeyPair.from_seed(bytes(32))
    for pattern, initiator, remote in (
        (Pattern.IK, True, None),
        (Pattern.IK, False, key_pair.public_key),
        (Pattern.XX, True, key_pair.public_key),
    ):
        with pytest.raises(LocalProtocolError):
            NoiseHandshake(
                pattern,
                initiator=initiator,
                key_pair=key_pair,
                ephemeral_seed=bytes(32),
                remote_public_key=remote,
            )
