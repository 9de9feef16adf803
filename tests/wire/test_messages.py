"""Replication messages: the reference's bytes, hostile bytes, and values there and back."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.codec.compact import Reader
from p2prss.errors import DecodeError
from p2prss.log.manifest import Manifest
from p2prss.log.proof_parts import (
    BlockProof,
    BlockRequest,
    HashProof,
    HashRequest,
    Proof,
    ProofRequest,
    SeekProof,
    SeekRequest,
    TreeNode,
    UpgradeProof,
    UpgradeRequest,
)
from p2prss.units import MAX_SAFE_INTEGER
from p2prss.wire.messages import (
    MESSAGES,
    BitfieldMessage,
    Cancel,
    Data,
    Extension,
    Message,
    NoData,
    NoDataReason,
    Range,
    ReplicationHandshake,
    Request,
    Sync,
    Unwant,
    Want,
    decode_message,
)
from p2prss.wire.proof_messages import MAX_PROOF_NODES

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())
CASES = [case for case in VECTORS["hypercore_messages"] if case["type"] is not None]
HANDSHAKES = [case for case in VECTORS["hypercore_messages"] if case["type"] is None]


def nodes(items: list[dict[str, Any]]) -> list[TreeNode]:
    return [TreeNode(item["index"], item["size"], bytes.fromhex(item["hash"])) for item in items]


def request_from(fields: dict[str, Any]) -> Request:
    block, node, seek, upgrade = (fields[part] for part in ("block", "hash", "seek", "upgrade"))
    proof = ProofRequest(
        fork=fields["fork"],
        block=block and BlockRequest(block["index"], block["nodes"]),
        hash=node and HashRequest(node["index"], node["nodes"]),
        seek=seek and SeekRequest(seek["bytes"], seek["padding"]),
        upgrade=upgrade and UpgradeRequest(upgrade["start"], upgrade["length"]),
        manifest=fields["manifest"],
    )
    return Request(fields["id"], proof, fields["priority"])


def data_from(fields: dict[str, Any], manifest: Manifest | None) -> Data:
    block, node, seek, upgrade = (fields[part] for part in ("block", "hash", "seek", "upgrade"))
    proof = Proof(
        fork=fields["fork"],
        block=block and BlockProof(block["index"], bytes.fromhex(block["value"]), nodes(block["nodes"])),
        hash=node and HashProof(node["index"], nodes(node["nodes"])),
        seek=seek and SeekProof(seek["bytes"], nodes(seek["nodes"])),
        upgrade=upgrade
        and UpgradeProof(
            upgrade["start"],
            upgrade["length"],
            nodes(upgrade["nodes"]),
            nodes(upgrade["additionalNodes"]),
            bytes.fromhex(upgrade["signature"] or ""),
        ),
        manifest=manifest,
    )
    return Data(fields["request"], proof)


def message_from(name: str, fields: dict[str, Any], decoded: Message) -> Message:
    """The message a vector describes; a manifest is taken from ``decoded``: its vectors are elsewhere."""
    match name:
        case "sync":
            return Sync(
                fields["fork"],
                fields["length"],
                fields["remoteLength"],
                fields["canUpgrade"],
                fields["uploading"],
                fields["downloading"],
                fields["hasManifest"],
                fields["allowPush"],
            )
        case "request":
            return request_from(fields)
        case "cancel":
            return Cancel(fields["request"])
        case "data":
            assert isinstance(decoded, Data)
            assert (decoded.proof.manifest is None) == (fields["manifest"] is None)
            return data_from(fields, decoded.proof.manifest)
        case "noData":
            return NoData(fields["request"], NoDataReason(fields["reason"]))
        case "want" | "unwant":
            return (Want if name == "want" else Unwant)(fields["start"], fields["length"], fields["any"])
        case "bitfield":
            words = b"".join(word.to_bytes(4, "little") for word in fields["bitfield"])
            return BitfieldMessage(fields["start"], words)
        case "range":
            return Range(fields["start"], fields["length"], fields["drop"])
        case "extension":
            return Extension(fields["name"], bytes.fromhex(fields["message"]))
    raise AssertionError(name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['message']}-{case['hex'][:12]}")
def test_messages_match_the_reference(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["hex"])
    decoded = decode_message(case["type"], payload)
    assert decoded is not None
    assert decoded == message_from(case["message"], case["decoded"], decoded)
    if not case.get("decode_only"):
        assert b"".join(decoded.encode_parts()) == payload


@pytest.mark.parametrize("case", HANDSHAKES, ids=lambda case: case["hex"][:4])
def test_handshakes_match_the_reference(case: dict[str, Any]) -> None:
    handshake = ReplicationHandshake.decode(bytes.fromhex(case["hex"]))
    assert handshake.seeks == case["decoded"]["seeks"]
    assert handshake.capability.hex() == case["decoded"]["capability"]
    assert handshake.encode().hex() == case["hex"]


@pytest.mark.parametrize("answer", VECTORS["seeder_answers"]["list"], ids=lambda item: item["request"]["hex"])
def test_recorded_questions_and_answers_survive(answer: dict[str, Any]) -> None:
    question = decode_message(Request.TYPE, bytes.fromhex(answer["request"]["hex"]))
    assert isinstance(question, Request)
    assert question == request_from(answer["request"]["decoded"])
    assert b"".join(question.encode_parts()).hex() == answer["request"]["hex"]
    reply = decode_message(answer["answer"]["type"], bytes.fromhex(answer["answer"]["hex"]))
    assert reply is not None
    assert b"".join(reply.encode_parts()).hex() == answer["answer"]["hex"]


UINTS = st.one_of(
    st.integers(0, 300), st.integers(0, MAX_SAFE_INTEGER), st.sampled_from([252, 253, 0xFFFF, 0x10000, 2**32])
)
NODES = st.lists(st.builds(TreeNode, UINTS, UINTS, st.binary(min_size=32, max_size=32)), max_size=4)
PROOFS = st.builds(
    Proof,
    fork=UINTS,
    block=st.none() | st.builds(BlockProof, UINTS, st.binary(max_size=300), NODES),
    hash=st.none() | st.builds(HashProof, UINTS, NODES),
    seek=st.none() | st.builds(SeekProof, UINTS, NODES),
    upgrade=st.none() | st.builds(UpgradeProof, UINTS, UINTS, NODES, NODES, st.binary(max_size=100)),
)
PROOF_REQUESTS = st.builds(
    ProofRequest,
    fork=UINTS,
    block=st.none() | st.builds(BlockRequest, UINTS, UINTS),
    hash=st.none() | st.builds(HashRequest, UINTS, UINTS),
    seek=st.none() | st.builds(SeekRequest, UINTS, UINTS),
    upgrade=st.none() | st.builds(UpgradeRequest, UINTS, UINTS),
    manifest=st.booleans(),
)
FLAG = st.booleans()
MESSAGE_VALUES = st.one_of(
    st.builds(Sync, UINTS, UINTS, UINTS, FLAG, FLAG, FLAG, FLAG, FLAG),
    st.builds(Request, UINTS, PROOF_REQUESTS, UINTS),
    st.builds(Cancel, UINTS),
    st.builds(Data, UINTS, PROOFS),
    st.builds(NoData, UINTS, st.sampled_from(NoDataReason)),
    st.builds(Want, UINTS, UINTS, FLAG),
    st.builds(Unwant, UINTS, UINTS, FLAG),
    st.builds(BitfieldMessage, st.integers(0, 2**40), st.binary(max_size=40).map(lambda b: b[: len(b) & ~3])),
    st.builds(Range, UINTS, UINTS, FLAG),
    st.builds(Extension, st.text(max_size=20), st.binary(max_size=40)),
)


@given(MESSAGE_VALUES)
def test_a_message_survives_the_wire(message: Message) -> None:
    payload = b"".join(message.encode_parts())
    assert decode_message(message.TYPE, payload) == message
    carries_rest = isinstance(message, Extension | Want | Unwant | NoData)
    assert carries_rest or decode_message(message.TYPE, payload + b"\x00later field") == message


@given(MESSAGE_VALUES, st.data())
def test_a_message_cut_short_is_refused(message: Message, data: st.DataObject) -> None:
    payload = b"".join(message.encode_parts())
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]
    if isinstance(message, Extension | Want | Unwant | NoData):  # these may end early
        with contextlib.suppress(DecodeError):
            assert isinstance(decode_message(message.TYPE, cut), type(message))
    else:
        with pytest.raises(DecodeError):
            decode_message(message.TYPE, cut)


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_decode_error(message_type: int, payload: bytes) -> None:
    try:
        message = decode_message(message_type, payload)
    except DecodeError:
        return
    assert isinstance(message, MESSAGES[message_type])


@given(st.binary(max_size=60))
def test_any_bytes_give_a_handshake_or_a_decode_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert len(ReplicationHandshake.decode(data).capability) == 32


@given(
    st.builds(Data, UINTS, st.builds(Proof, UINTS, st.builds(BlockProof, UINTS, st.binary(), NODES))),
    st.data(),
)
def test_the_quick_way_to_read_a_block_is_as_strict_as_the_general_one(
    answer: Data, data: st.DataObject
) -> None:
    payload = bytearray(b"".join(answer.encode_parts()))
    for place in data.draw(st.lists(st.integers(0, len(payload) - 1), max_size=3)):
        payload[place] = data.draw(st.sampled_from([0, 1, 2, 34, 0xFC, 0xFD, 0xFE, 0xFF]))
    del payload[data.draw(st.sampled_from([len(payload), len(payload) // 2, len(payload) - 1])) :]

    def outcome(decode: Callable[[], object]) -> object:
        try:
            return decode()
        except DecodeError as error:
            return str(error)

    general = outcome(lambda: Data.decode(Reader(payload)))
    assert outcome(lambda: decode_message(Data.TYPE, payload)) == general


def test_unknown_types_are_ignored() -> None:
    assert decode_message(10, b"whatever") is None


def test_a_block_value_is_neither_copied_in_nor_out() -> None:
    value = memoryview(bytes(70_000))
    node = TreeNode(3, 5, bytes(32))
    head, middle, tail = Data(9, Proof(0, BlockProof(1, value, [node]))).encode_parts()
    assert middle is value
    frame = bytearray(b"".join((head, middle, tail)))
    decoded = Data.decode(Reader(frame))
    assert decoded.proof.block is not None
    frame[len(head)] = 7
    assert decoded.proof.block.value[0] == 7


@pytest.mark.parametrize(
    ("message_type", "payload"),
    [
        (Data.TYPE, "0101000500fe00001000"),  # a million nodes announced, none there
        (Data.TYPE, "01010005feffffff7f"),  # a value of 2 GiB announced
        (BitfieldMessage.TYPE, "00ffffffffffffff1f00"),  # 2^53-1 words announced
        (BitfieldMessage.TYPE, "ffffffffffffff1f000100000000"),  # reaches beyond block 2^53-1
        (Extension.TYPE, "fd0004" + "61" * 1024),  # a name of 1 KiB
        (Cancel.TYPE, "ff0000000000002000"),  # 2^53
    ],
)
def test_announced_sizes_are_not_believed(message_type: int, payload: str) -> None:
    with pytest.raises(DecodeError):
        decode_message(message_type, bytes.fromhex(payload))


def test_more_nodes_than_any_tree_needs_are_refused() -> None:
    node = TreeNode(1, 1, bytes(32))
    payload = b"".join(Data(1, Proof(0, BlockProof(0, b"", [node] * (MAX_PROOF_NODES + 1)))).encode_parts())
    with pytest.raises(DecodeError, match="items cannot follow"):
        decode_message(Data.TYPE, payload)


def test_an_unknown_reason_reads_as_unspecified() -> None:
    assert decode_message(NoData.TYPE, bytes.fromhex("070163")) == NoData(7, NoDataReason.UNSPECIFIED)
