"""Every byte the DHT layer makes or reads, against the JavaScript reference."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.errors import DecodeError
from p2prss.net.dht import blind_relay, records
from p2prss.net.dht.endpoint import (
    Endpoint,
    is_private,
    is_reserved,
    match_address,
    node_id,
    pack_endpoint,
    unpack_endpoint,
)
from p2prss.net.dht.handshake import (
    PROLOGUE,
    HandshakeEnvelope,
    HolepunchEnvelope,
    HolepunchPayload,
    NoisePayload,
    holepunch_key,
    holepunch_token,
)
from p2prss.net.dht.messages import Command, Reply, Request, decode_datagram
from p2prss.net.dht.nat import AddressSampler, PunchSampler
from p2prss.net.dht.records import (
    Announcement,
    DhtAddress,
    LookupReply,
    MutablePut,
    MutableValue,
    PeerRecord,
    PluginRequest,
    announce_signable,
    command_namespace,
    mutable_signable,
    peer_target,
    sign_announcement,
)
from p2prss.wire.noise import NoiseHandshake, Pattern
from p2prss.wire.secret_stream import stream_id

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "dht.json").read_text("utf-8"))
SOURCE = Endpoint("127.0.0.1", 40002)


def cases(section: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", VECTORS[section], ids=lambda case: case.get("name"))


def raw(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def data(text: str) -> bytes:
    return bytes.fromhex(text)


def endpoint(value: dict[str, Any]) -> Endpoint:
    return Endpoint(value["host"], value["port"])


def maybe_endpoint(value: dict[str, Any] | None) -> Endpoint | None:
    return None if value is None else endpoint(value)


def endpoints(values: list[dict[str, Any]] | None) -> tuple[Endpoint, ...]:
    return tuple(endpoint(value) for value in values or [])


def test_namespaces() -> None:
    for name, number in VECTORS["namespaces"]["ids"].items():
        assert Command[name] == number
        assert command_namespace(Command(number)).hex() == VECTORS["namespaces"][name]


@cases("keys")
def test_targets(case: dict[str, str]) -> None:
    public_key = KeyPair.from_seed(data(case["seed"])).public_key
    assert public_key.hex() == case["publicKey"]
    assert peer_target(public_key).hex() == case["target"]


@cases("node_ids")
def test_node_ids(case: dict[str, Any]) -> None:
    here = endpoint(case)
    assert pack_endpoint(here).hex() == case["encoded"]
    assert unpack_endpoint(data(case["encoded"])) == here
    assert node_id(here).hex() == case["id"]


@cases("rpc_requests")
def test_requests(case: dict[str, Any]) -> None:
    request = Request(
        case["tid"],
        endpoint(case["to"]),
        case["command"],
        case["internal"],
        raw(case["id"]),
        raw(case["token"]),
        raw(case["target"]),
        raw(case["value"]),
    )
    assert request.encode().hex() == case["datagram"]
    assert decode_datagram(data(case["datagram"]), endpoint(case["sender"])) == request


@cases("rpc_replies")
def test_replies(case: dict[str, Any]) -> None:
    reply = Reply(
        case["tid"],
        endpoint(case["replied_to"]),
        raw(case["table_id"]) if case["id_included"] else None,
        raw(case["token"]),
        endpoints(case["closer_nodes"]),
        case["error"],
        raw(case["value"]),
    )
    assert reply.encode().hex() == case["datagram"]
    assert decode_datagram(data(case["datagram"]), endpoint(case["from"])) == reply


@cases("rpc_decode")
def test_odd_datagrams(case: dict[str, Any]) -> None:
    wanted = case["decoded"]
    try:
        got = decode_datagram(data(case["datagram"]), endpoint(case["from"]))
    except DecodeError:
        assert wanted is None
        return
    if wanted is None:  # it parses; that it is refused is for the node to decide
        assert case["name"].startswith(("wrong token", "reply to an unknown tid"))
        return
    assert isinstance(got, Request if wanted["kind"] == "request" else Reply)
    assert (got.tid, got.to, got.id) == (wanted["tid"], endpoint(wanted["to"]), raw(wanted["id"]))
    assert (got.token, got.value) == (raw(wanted["token"]), raw(wanted["value"]))
    if isinstance(got, Request):
        assert (got.command, got.internal) == (wanted["command"], wanted["internal"])
        assert got.target == raw(wanted["target"])
    else:
        assert (got.error, got.closer_nodes) == (wanted["error"], endpoints(wanted["closer_nodes"]))


def test_records() -> None:
    for case in VECTORS["peer_records"]:
        record = PeerRecord(PublicKey(data(case["publicKey"])), endpoints(case["relayAddresses"]))
        assert record.encode().hex() == case["encoded"]
        assert PeerRecord.decode(data(case["encoded"])) == record
    for case in VECTORS["lookup_replies"]:
        peers = tuple(
            PeerRecord(PublicKey(data(peer["publicKey"])), endpoints(peer["relayAddresses"]))
            for peer in case["peers"]
        )
        reply = LookupReply(peers, case["bump"])
        assert LookupReply.decode(data(case["encoded"])) == reply
        if "note" not in case:  # as old peers write it
            assert reply.encode().hex() == case["encoded"]


@cases("announces")
def test_announcements(case: dict[str, Any]) -> None:
    if "seed" not in case:  # only the preimage of a refresh hash
        announcement = Announcement(None, raw(case["refresh"]))
        assert announcement.encode().hex() == case["value"]
        assert Announcement.decode(data(case["value"])) == announcement
        return
    key_pair = KeyPair.from_seed(data(case["seed"]))
    command, target, node, token = (
        Command(case["command"]),
        data(case["target"]),
        data(case["node_id"]),
        data(case["token"]),
    )
    peer, refresh = PeerRecord(key_pair.public_key, endpoints(case["relayAddresses"])), raw(case["refresh"])
    assert announce_signable(command, target, node, token, peer, refresh).hex() == case["signable"]
    announcement = sign_announcement(
        command, target, node, token, peer, key_pair, refresh=refresh, bump=case["bump"]
    )
    assert announcement.signature == raw(case["signature"])
    assert announcement.encode().hex() == case["value"]
    assert Announcement.decode(data(case["value"])) == announcement
    assert announcement.is_signed(command, target, node, token)
    assert not announcement.is_signed(command, target, node, bytes(32))
    assert not announcement.is_signed(command, bytes(32), node, token)
    assert not announcement.is_signed(command, target, bytes(32), token)


def test_values() -> None:
    for case in VECTORS["mutable"]:
        key_pair = KeyPair.from_seed(data(case["seed"]))
        assert mutable_signable(case["seq"], data(case["value"])).hex() == case["signable"]
        content = MutableValue.signed(case["seq"], data(case["value"]), key_pair)
        assert content.signature.hex() == case["signature"]
        assert content.is_signed_by(key_pair.public_key)
        assert content.encode().hex() == case["get_response"]
        assert MutableValue.decode(data(case["get_response"])) == content
        put = MutablePut(key_pair.public_key, content)
        assert put.encode().hex() == case["put_request"]
        assert MutablePut.decode(data(case["put_request"])) == put
        assert peer_target(key_pair.public_key).hex() == case["target"]
    for case in VECTORS["immutable"]:
        assert blake2b(data(case["value"])).hex() == case["target"]
    chain = [data(text) for text in VECTORS["refresh_chain"]["values_from_secret"]]
    assert [blake2b(preimage) for preimage in chain[:-1]] == chain[1:]


def test_plugins_and_addresses() -> None:
    for case in VECTORS["plugin_request"]:
        request = PluginRequest(case["plugin"], case["version"], case["command"], raw(case["value"]))
        assert request.encode().hex() == case["encoded"]
        assert PluginRequest.decode(data(case["encoded"])) == request
    for case in VECTORS["address"]:
        address = DhtAddress(PublicKey(data(case["key"])), endpoints(case["nodes"]))
        assert DhtAddress.decode(data(case["encoded"])) == address
        if "note" not in case:
            assert address.encode().hex() == case["encoded"]


def test_envelopes() -> None:
    for case in VECTORS["handshake_messages"]:
        envelope = HandshakeEnvelope(
            case["mode"],
            data(case["noise"]),
            maybe_endpoint(case["peerAddress"]),
            maybe_endpoint(case["relayAddress"]),
        )
        assert envelope.encode().hex() == case["encoded"]
        assert HandshakeEnvelope.decode(data(case["encoded"])) == envelope
    for case in VECTORS["holepunch_messages"]:
        punch = HolepunchEnvelope(
            case["mode"], case["id"], data(case["payload"]), maybe_endpoint(case["peerAddress"])
        )
        assert punch.encode().hex() == case["encoded"]
        assert HolepunchEnvelope.decode(data(case["encoded"])) == punch


@cases("noise_payloads")
def test_noise_payloads(case: dict[str, Any]) -> None:
    payload, wanted = NoisePayload.decode(data(case["encoded"])), case["decoded"]
    if wanted["version"] == 1:
        assert payload.encode().hex() == case["encoded"]
    assert (payload.version, payload.error, payload.firewall) == (
        wanted["version"],
        wanted["error"],
        wanted["firewall"],
    )
    assert payload.addresses4 == endpoints(wanted["addresses4"])
    assert len(payload.addresses6) == len(wanted["addresses6"])
    relays = wanted["relayAddresses"]
    assert payload.relay_addresses == (None if relays is None else endpoints(relays))
    assert (payload.holepunch is None) == (wanted["holepunch"] is None)
    if payload.holepunch is not None:
        assert payload.holepunch.id == wanted["holepunch"]["id"]
        assert [(r.relay_address, r.peer_address) for r in payload.holepunch.relays] == [
            (endpoint(r["relayAddress"]), endpoint(r["peerAddress"])) for r in wanted["holepunch"]["relays"]
        ]
    assert (payload.udx is None) == (wanted["udx"] is None)
    if payload.udx is not None:
        udx = wanted["udx"]
        assert (payload.udx.version, payload.udx.reusable_socket, payload.udx.id, payload.udx.seq) == (
            udx["version"],
            udx["reusableSocket"],
            udx["id"],
            udx["seq"],
        )
    if wanted["relayThrough"] is not None:
        assert payload.relay_through is not None
        assert payload.relay_through.public_key.hex() == wanted["relayThrough"]["publicKey"]
        assert payload.relay_through.token.hex() == wanted["relayThrough"]["token"]


@cases("noise_ik")
def test_the_handshake_inside_the_dht(case: dict[str, str]) -> None:
    assert PROLOGUE.hex() == case["prologue"]
    client_key, server_key = (KeyPair.from_seed(data(case[f"{who}_seed"])) for who in ("client", "server"))
    client = NoiseHandshake(
        Pattern.IK,
        initiator=True,
        key_pair=client_key,
        ephemeral_seed=data(case["client_ephemeral_seed"]),
        prologue=PROLOGUE,
        remote_public_key=server_key.public_key,
    )
    server = NoiseHandshake(
        Pattern.IK,
        initiator=False,
        key_pair=server_key,
        ephemeral_seed=data(case["server_ephemeral_seed"]),
        prologue=PROLOGUE,
    )
    message = client.send(data(case["client_payload"]))
    assert message.hex() == case["message1"]
    assert server.receive(message).hex() == case["client_payload"]
    reply = server.send(data(case["server_payload"]))
    assert reply.hex() == case["message2"]
    assert client.receive(reply).hex() == case["server_payload"]
    assert client.result is not None
    assert client.result.handshake_hash.hex() == case["handshake_hash"]
    assert client.result.send_key.hex() == case["client_tx"]
    assert client.result.receive_key.hex() == case["client_rx"]
    assert holepunch_key(client.result.handshake_hash).hex() == case["holepunch_secret"]
    for initiator, name in ((True, "initiator"), (False, "responder")):
        wanted = case[f"stream_id_{name}"]
        assert stream_id(client.result.handshake_hash, initiator=initiator).hex() == wanted


def test_holepunch_payloads() -> None:
    for case in VECTORS["holepunch_payloads"]:
        payload = HolepunchPayload(
            case["error"],
            case["firewall"],
            case["round"],
            case["connected"],
            case["punching"],
            None if case["addresses"] is None else endpoints(case["addresses"]),
            maybe_endpoint(case["remoteAddress"]),
            raw(case["token"]),
            raw(case["remoteToken"]),
        )
        assert payload.encode().hex() == case["encoded"]
        key = data(case["key"])
        assert payload.seal(key, data(case["nonce"])).hex() == case["sealed"]
        assert HolepunchPayload.open(data(case["sealed"]), key) == payload
        with pytest.raises(DecodeError):
            HolepunchPayload.open(data(case["sealed"]), bytes(32))
    case = VECTORS["holepunch_tokens"]
    assert holepunch_token(data(case["secret"]), case["host"]).hex() == case["token"]


def test_blind_relay() -> None:
    section = VECTORS["blind_relay"]
    assert section["protocol"] == blind_relay.PROTOCOL
    for case in section["pair"]:
        pair = blind_relay.Pair(case["isInitiator"], data(case["token"]), case["id"], case["seq"])
        assert pair.encode().hex() == case["encoded"]
        assert blind_relay.Pair.decode(data(case["encoded"])) == pair
    unpair = blind_relay.Unpair(data(section["unpair"]["token"]))
    assert unpair.encode().hex() == section["unpair"]["encoded"]
    assert blind_relay.Unpair.decode(unpair.encode()) == unpair


@cases("match_address")
def test_the_local_address_to_try(case: dict[str, Any]) -> None:
    match = match_address(case["mine"], [Endpoint(host, 1) for host in case["theirs"]])
    assert (match and match.host) == case["match"]


@cases("bogon")
def test_private_and_reserved_hosts(case: dict[str, Any]) -> None:
    assert (is_private(case["host"]), is_reserved(case["host"])) == (case["private"], case["reserved"])


@cases("nat_sampler")
def test_the_own_address_is_what_most_say(case: dict[str, Any]) -> None:
    sampler = AddressSampler()
    for step in case["steps"]:
        sampler.add(endpoint(step["add"]))
        assert (sampler.host, sampler.port) == (step["host"], step["port"])
        assert (len(sampler), sampler.threshold) == (step["size"], step["threshold"])


@cases("holepunch_nat")
def test_the_kind_of_nat(case: dict[str, Any]) -> None:
    sampler = PunchSampler(firewalled=case.get("firewalled", True))
    for step in case["steps"]:
        sampler.add(endpoint(step["add"]))
        assert (sampler.sampled, sampler.firewall) == (step["sampled"], step["firewall"])
        wanted = step["addresses"]
        assert sampler.addresses == (None if wanted is None else endpoints(wanted))


DECODERS = [
    lambda value: decode_datagram(value, SOURCE),
    PeerRecord.decode,
    LookupReply.decode,
    Announcement.decode,
    MutableValue.decode,
    MutablePut.decode,
    DhtAddress.decode,
    PluginRequest.decode,
    HandshakeEnvelope.decode,
    HolepunchEnvelope.decode,
    HolepunchPayload.decode,
    NoisePayload.decode,
    blind_relay.Pair.decode,
    blind_relay.Unpair.decode,
    lambda value: HolepunchPayload.open(value, bytes(32)),
]


@pytest.mark.parametrize("number", range(len(DECODERS)))
@given(st.binary(max_size=400) | st.binary(max_size=60).map(lambda tail: b"\x03\x1f" + tail))
def test_any_bytes_give_a_value_or_a_decode_error(number: int, value: bytes) -> None:
    try:
        result = DECODERS[number](value)
    except DecodeError:
        return
    assert result is not None


@given(st.data())
def test_vectors_cut_or_bent_give_a_value_or_a_decode_error(draw: st.DataObject) -> None:
    texts = [case["datagram"] for case in VECTORS["rpc_requests"] + VECTORS["rpc_replies"]]
    datagram = bytearray(data(draw.draw(st.sampled_from(texts))))
    place = draw.draw(st.integers(0, len(datagram) - 1))
    datagram[place] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        decode_datagram(bytes(datagram[: draw.draw(st.integers(0, len(datagram)))]), SOURCE)


def test_limits_are_those_of_the_reference() -> None:
    assert (records.MAX_RELAYS, records.MAX_PEERS) == (3, 20)
