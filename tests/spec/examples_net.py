"""Examples of chapter 7: the DHT and what is said through it."""

from p2prss.crypto.keys import KeyPair
from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.dht.handshake import HolepunchPayload, NoisePayload, UdxInfo
from p2prss.net.dht.messages import Command, Reply, Request, decode_datagram
from p2prss.net.dht.records import Announcement, PeerRecord, announce_signable, sign_announcement
from tests.spec.reading import Given, Outputs, example


def endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return Endpoint(host, int(port))


@example("dht request")
def _request(given: Given) -> Outputs:
    request = Request(
        given.number("tid"),
        endpoint(given.text("to")),
        given.number("command"),
        target=given.hex("target"),
    )
    assert decode_datagram(request.encode(), Endpoint("203.0.113.9", 40000)) == request
    return {"datagram": request.encode()}


@example("dht reply")
def _reply(given: Given) -> Outputs:
    source = endpoint(given.text("from"))
    reply = Reply(
        given.number("tid"),
        endpoint(given.text("to")),
        node_id(source),
        given.hex("token"),
        tuple(endpoint(word) for word in given.words("closer")),
    )
    assert decode_datagram(reply.encode(), source) == reply
    return {"id": node_id(source), "datagram": reply.encode()}


@example("announcement")
def _announcement(given: Given) -> Outputs:
    pair: KeyPair = given.seed("seed")
    peer = PeerRecord(pair.public_key, tuple(endpoint(word) for word in given.words("relays")))
    place = given.hex("target"), node_id(endpoint(given.text("node"))), given.hex("token")
    announcement = sign_announcement(Command.ANNOUNCE, *place, peer, pair)
    assert Announcement.decode(announcement.encode()).is_signed(Command.ANNOUNCE, *place)
    return {
        "signable": announce_signable(Command.ANNOUNCE, *place, peer),
        "value": announcement.encode(),
    }


@example("noise payload")
def _noise_payload(given: Given) -> Outputs:
    payload = NoisePayload(
        firewall=given.number("firewall"),
        addresses4=tuple(endpoint(word) for word in given.words("addresses")),
        udx=UdxInfo(given.number("stream")),
        secret_stream=1,
    )
    assert NoisePayload.decode(payload.encode()) == payload
    return {"payload": payload.encode()}


@example("punch payload")
def _punch_payload(given: Given) -> Outputs:
    payload = HolepunchPayload(
        firewall=given.number("firewall"),
        round=given.number("round"),
        punching=True,
        addresses=tuple(endpoint(word) for word in given.words("addresses")),
    )
    assert HolepunchPayload.decode(payload.encode()) == payload
    return {"payload": payload.encode()}
