"""Every recorded exchange with the reference: our answers are its bytes, our checks decide as it does."""

import json
from pathlib import Path
from typing import Any

import pytest

from p2prss.codec.compact import Reader as BytesReader
from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.errors import RemoteProtocolError
from p2prss.log import flat_tree
from p2prss.log.authority import Authority
from p2prss.log.manifest import Manifest
from p2prss.log.proof_parts import ProofRequest
from p2prss.wire.messages import Data, Request
from tests.fakes.memory_log import Reader, Writer

CORE = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())
LOG = CORE["log"]
BLOCKS = [bytes.fromhex(block) for block in LOG["blocks"]]
KEY_PAIR = KeyPair.from_seed(bytes.fromhex(LOG["seed"]))
SCENARIOS = CORE["proofs"]


def request_of(text: str) -> Request:
    return Request.decode(BytesReader(bytes.fromhex(text)))


def data_of(text: str) -> Data:
    return Data.decode(BytesReader(bytes.fromhex(text)))


def encoded(data: Data) -> str:
    return b"".join(data.encode_parts()).hex()


def state(reader: Reader) -> dict[str, Any]:
    contiguous = next(i for i in range(reader.head.length + 1) if i not in reader.blocks)
    return {
        "length": reader.head.length,
        "fork": reader.head.fork,
        "byteLength": reader.head.byte_length,
        "treeHash": reader.head.tree_hash.hex(),
        "nodes": [[node.index, node.size] for node in sorted(reader.nodes.values())],
        "blocks": sorted(reader.blocks),
        "contiguousLength": contiguous,
        "manifestKnown": reader.authority.manifest is not None,
    }


def writer_at(reader_key: str, manifest: Manifest | None, length: int, signature: bytes) -> Writer:
    """The log's own writer with the first ``length`` blocks; the head's signature is the recorded one."""
    writer = Writer(Authority(CoreKey(bytes.fromhex(reader_key)), manifest), None)
    writer.append(BLOCKS[:length])
    writer.head = writer.signed(writer.head, signature)
    return writer


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_a_recorded_scenario(scenario: dict[str, Any]) -> None:
    reader = Reader(CoreKey(bytes.fromhex(scenario["key"])))
    for step in scenario["steps"]:
        request, data = request_of(step["request"]), data_of(step["data"])
        before = state(reader)
        for tampered in step.get("tampered", []):
            assert refused(reader, request.proof, tampered["data"]), tampered["what"]
            assert state(reader) == before
        reader.apply(request.proof, data.proof)
        assert state(reader) == step["after"]
        # Now the other side: from the blocks alone, our answer has the same bytes.
        writer = writer_at(
            scenario["key"], reader.authority.manifest, step["writer_length"], reader.head.signature
        )
        answer = writer.answer(request.proof)
        if scenario["name"] == "seek with hash request" and request.id == 4:
            # The reference leaves the seek out under later roots (it cannot compute their byte offset).
            assert answer.seek is not None
            Reader.check(reader, request.proof, answer)
        else:
            assert encoded(Data(request.id, answer)) == step["data"]
    if "reorg" in scenario:
        follow_reorg(reader, scenario["reorg"])


def refused(reader: Reader, request: ProofRequest, data: str) -> bool:
    """Whether a message is refused, or brings nothing."""
    try:
        return reader.check(request, data_of(data).proof).stale
    except RemoteProtocolError:
        return True


def follow_reorg(reader: Reader, reorg: dict[str, Any]) -> None:
    writer = Writer.single(KEY_PAIR)
    writer.append(BLOCKS)
    writer.truncate(10)
    writer.append(BLOCKS[:5])
    request = request_of(reorg["request"])
    answer = writer.answer(request.proof)
    assert encoded(Data(request.id, answer)) == reorg["data"]
    for hash_round in reorg["hash_rounds"]:  # the reference's way to find more common blocks: we answer it
        asked = request_of(hash_round["request"])
        assert encoded(Data(asked.id, writer.answer(asked.proof))) == hash_round["data"]
    change = reader.apply(request.proof, data_of(reorg["data"]).proof)
    assert change.ancestors == 8  # whole roots only; the reference finds 10 with the rounds above
    after = reorg["after"]
    assert (reader.head.length, reader.head.fork) == (after["length"], after["fork"])
    assert reader.head.byte_length == after["byteLength"]
    assert reader.head.tree_hash.hex() == after["treeHash"]
    assert sorted(reader.blocks) == list(range(8))
    assert all(flat_tree.right_span(index) < 30 for index in reader.nodes)
    for index in range(15):
        wanted = reader.request(block=index)
        reader.apply(wanted, writer.answer(wanted))
    assert reader.blocks == writer.blocks


def test_odd_messages_the_reference_accepts() -> None:
    odd = CORE["accepted_by_js_although_odd"]
    trailing, unused, shifted = odd["cases"]
    key = CoreKey(bytes.fromhex(odd["key"]))
    reader = Reader(key)
    reader.apply(None, data_of(trailing["data"]).proof)
    assert reader.head.length == 20  # else a peer could make honest ones pass on what we refuse
    with pytest.raises(RemoteProtocolError, match="more nodes"):
        Reader(key).check(None, data_of(unused["data"]).proof)

    # Bytes moved between two given siblings: stored while nothing better is known, put right by a block.
    reader = Reader(key)
    reader.apply(None, data_of(shifted["setup"]).proof)
    reader.apply(None, data_of(shifted["data"]).proof)
    assert reader.nodes[12].size != LOG_NODES[12][1]
    writer = Writer.single(KEY_PAIR)
    writer.append(BLOCKS)
    request = reader.request(block=6)
    reader.apply(request, writer.answer(request))
    assert {i: (n.size, n.hash.hex()) for i, n in reader.nodes.items()}.items() <= {
        i: (size, digest) for i, (_, size, digest) in LOG_NODES.items()
    }.items()


LOG_NODES = {node["index"]: (node["index"], node["size"], node["hash"]) for node in LOG["tree_nodes"]}
