"""The handshake inside the DHT: as the reference makes it, and what bad messages do to an attempt."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.keys import KeyPair
from p2prss.errors import RemoteProtocolError
from p2prss.net.connect.noise_ik import ClientHandshake, ServerHandshake, ephemeral_of
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import HandshakeEnvelope, HandshakeError, NoisePayload, UdxInfo
from p2prss.net.dht.messages import Request, decode_datagram
from p2prss.net.dht.records import peer_target

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "dht.json").read_text())
CLIENT, SERVER = (KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2))
PAYLOAD = NoisePayload(udx=UdxInfo(5), secret_stream=1)


def data(text: str) -> bytes:
    return bytes.fromhex(text)


def client_of(case: dict[str, Any]) -> ClientHandshake:
    client_key, server_key = (KeyPair.from_seed(data(case[f"{who}_seed"])) for who in ("client", "server"))
    payload = NoisePayload.decode(data(case["client_payload"]))
    return ClientHandshake(client_key, server_key.public_key, payload, data(case["client_ephemeral_seed"]))


@pytest.mark.parametrize("case", VECTORS["noise_ik"], ids=lambda case: case["name"])
def test_both_sides_make_the_messages_of_the_reference(case: dict[str, Any]) -> None:
    client = client_of(case)
    assert client.message.hex() == case["message1"]
    server_key = KeyPair.from_seed(data(case["server_seed"]))
    server = ServerHandshake(server_key, client.message, data(case["server_ephemeral_seed"]))
    assert server.error is HandshakeError.NONE
    assert server.public_key == KeyPair.from_seed(data(case["client_seed"])).public_key
    reply, result = server.reply(NoisePayload.decode(data(case["server_payload"])))
    assert reply.hex() == case["message2"]
    outcome = client.receive(reply)
    assert outcome.payload.encode().hex() == case["server_payload"]
    assert outcome.result.handshake_hash.hex() == result.handshake_hash.hex() == case["handshake_hash"]
    assert (outcome.result.send_key.hex(), outcome.result.receive_key.hex()) == (
        case["client_tx"],
        case["client_rx"],
    )


@pytest.mark.parametrize("flow", VECTORS["router_flows"][:2], ids=lambda flow: flow["name"])
def test_recorded_handshakes_are_understood(flow: dict[str, Any]) -> None:
    """Message 1 as it reaches the server, message 2 as it reaches the client, of the reference's flows."""
    [case] = [case for case in VECTORS["noise_ik"] if case["name"] == "open server"]
    server_key = KeyPair.from_seed(data(case["server_seed"]))
    assert peer_target(server_key.public_key).hex() == flow["target"]
    envelopes = []
    for step in flow["steps"]:
        message = decode_datagram(data(step["datagram"]), Endpoint(**step["from"]))
        assert message.value is not None
        envelopes.append(HandshakeEnvelope.decode(message.value))
        assert isinstance(message, Request) == (step is not flow["steps"][-1])
    ServerHandshake(server_key, envelopes[0].noise, bytes(32))
    assert client_of(case).receive(envelopes[-1].noise).payload.encode().hex() == case["server_payload"]


def test_bad_replies_do_not_ruin_an_attempt() -> None:
    client = ClientHandshake(CLIENT, SERVER.public_key, PAYLOAD, bytes(32))
    other = KeyPair.from_seed(bytes([3]) * 32)
    to_another = ClientHandshake(CLIENT, other.public_key, PAYLOAD, bytes(32))
    wrong, _ = ServerHandshake(other, to_another.message, bytes([1]) * 32).reply(PAYLOAD)
    reply, _ = ServerHandshake(SERVER, client.message, bytes([2]) * 32).reply(PAYLOAD)
    tampered = bytes([*reply[:-1], reply[-1] ^ 1])
    for bad in (b"", wrong, tampered, reply[:47], bytes(2000), client.message):
        with pytest.raises(RemoteProtocolError):
            client.receive(bad)
    assert client.receive(reply).payload == PAYLOAD
    assert client.receive(reply).payload == PAYLOAD  # that of another relay says the same


def test_what_a_server_has_to_answer() -> None:
    def error_for(payload: NoisePayload) -> HandshakeError:
        client = ClientHandshake(CLIENT, SERVER.public_key, payload, bytes(32))
        return ServerHandshake(SERVER, client.message, bytes(32)).error

    assert error_for(PAYLOAD) is HandshakeError.NONE
    assert error_for(NoisePayload()) is HandshakeError.ABORTED
    assert error_for(NoisePayload(version=2, udx=UdxInfo(5))) is HandshakeError.VERSION_MISMATCH


@given(st.binary(max_size=300) | st.binary(min_size=96, max_size=120))
def test_any_bytes_are_refused(message: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ServerHandshake(SERVER, message, bytes(32))
    with pytest.raises(RemoteProtocolError):
        ClientHandshake(CLIENT, SERVER.public_key, PAYLOAD, bytes(32)).receive(message)


def test_the_ephemeral_key_stands_open() -> None:
    client = ClientHandshake(CLIENT, SERVER.public_key, PAYLOAD, bytes([7]) * 32)
    assert ephemeral_of(client.message) == KeyPair.from_seed(bytes([7]) * 32).public_key
    with pytest.raises(RemoteProtocolError):
        ephemeral_of(client.message[:31])
