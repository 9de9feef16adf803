"""The small recorded facts the wire rests on: integers, namespaces, capabilities."""

from typing import Any

from p2prss.codec.compact import Reader, Writer
from p2prss.crypto import namespaces
from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.keys import CoreKey
from p2prss.wire.capability import capability, verify_capability


def test_integers_match_the_reference(wire_vectors: dict[str, Any]) -> None:
    for case in wire_vectors["uint"]:
        out = Writer()
        out.uint(case["value"])
        assert out.finish().hex() == case["hex"]
        assert Reader(out.finish()).uint() == case["value"]


def test_namespaces_match_the_reference(wire_vectors: dict[str, Any]) -> None:
    stream, core, dht = (wire_vectors["namespaces"][name] for name in ("secret_stream", "hypercore", "dht"))
    assert namespaces.SECRET_STREAM_INITIATOR.hex() == stream["initiator"]
    assert namespaces.SECRET_STREAM_RESPONDER.hex() == stream["responder"]
    assert namespaces.SECRET_STREAM_SEND.hex() == stream["send"]
    assert namespaces.TREE.hex() == core["tree"]
    assert namespaces.REPLICATE_INITIATOR.hex() == core["replicate_initiator"]
    assert namespaces.REPLICATE_RESPONDER.hex() == core["replicate_responder"]
    assert namespaces.MANIFEST.hex() == core["manifest"]
    assert namespaces.HYPERDRIVE_BLOBS.hex() == wire_vectors["namespaces"]["hyperdrive_blobs"]
    assert dht["peer_handshake"] in {
        namespaces.namespace("hyperswarm/dht", index).hex() for index in range(6)
    }


def test_capabilities_match_the_reference(wire_vectors: dict[str, Any]) -> None:
    case = wire_vectors["capability"]
    key, handshake_hash = CoreKey(bytes.fromhex(case["core_key"])), bytes.fromhex(case["handshake_hash"])
    assert discovery_key(key).hex() == case["discovery_key"]
    for initiator, name in ((True, "capability_initiator"), (False, "capability_responder")):
        assert capability(handshake_hash, initiator=initiator, core_key=key).hex() == case[name]
        shown = bytes.fromhex(case[name])
        assert verify_capability(shown, handshake_hash, initiator=initiator, core_key=key)
        assert not verify_capability(shown, handshake_hash, initiator=not initiator, core_key=key)
        assert not verify_capability(shown, bytes(64), initiator=initiator, core_key=key)
