"""Peers in a DHT of our own: what goes over their streams, and what hostile ones can't do."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from nacl.utils import random as random_bytes

from p2prss.crypto.keys import PublicKey
from p2prss.errors import NetworkError
from p2prss.net.connect.network import PeerNetwork, open_network
from p2prss.net.connect.noise_ik import ClientHandshake, ServerHandshake
from p2prss.net.connect.peer_stream import ConnectError, Path, PeerStream
from p2prss.net.dht.client import DhtNode
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import Firewall, HandshakeEnvelope, Mode, NoisePayload, UdxInfo
from p2prss.net.dht.messages import Command
from p2prss.net.dht.records import peer_target
from p2prss.net.dht.relay import PeerMessage
from p2prss.net.link import Link
from p2prss.net.udx.socket import UdxSocket
from p2prss.wire.connection import Connection, Event
from p2prss.wire.mux import Opened
from tests.net.connect.our_net import HOST, key, our_dht, our_peer, serving
from tests.net.connect.talk import Talk, echo

PATIENCE = 20  # seconds
FASTER = 20  # times, for what takes long


def quickly(test: Callable[[], Awaitable[None]]) -> None:
    """Run with a clock that goes fast; the sockets are real."""
    trio.run(test, clock=trio.testing.MockClock(rate=FASTER))


async def ask(network: PeerNetwork, number: int, *relays: Endpoint) -> PeerStream:
    peer = await network.connect(key(number).public_key, relays)
    talk = Talk(peer)
    await talk.open()
    await talk.say("hello")
    assert await talk.hear() == "hello"
    peer.stream.destroy()
    return peer


async def send_handshake(node: DhtNode, relay: Endpoint, message: bytes, *, number: int = 1) -> bytes | None:
    """What comes back for a message 1; None when nothing does."""
    value = HandshakeEnvelope(Mode.FROM_CLIENT, message).encode()
    target = peer_target(key(number).public_key)
    try:
        response = await node.request(relay, Command.PEER_HANDSHAKE, target=target, value=value, sends=1)
    except NetworkError:
        return None
    assert response.reply.value is not None
    return HandshakeEnvelope.decode(response.reply.value).noise


async def test_links_run_over_the_streams() -> None:
    """The connection machine takes the handshake over, and opens a channel on both sides."""

    async def link(peer: PeerStream, number: int, opened: trio.Event) -> None:
        connection = Connection(
            initiator=peer.initiator,
            key_pair=key(number),
            ephemeral_seed=random_bytes(32),
            stream_header=random_bytes(24),
            now=trio.current_time(),
            handshake=peer.handshake,
        )
        connection.open("test", b"channel", b"hello")

        def handle(events: list[Event]) -> None:
            if any(isinstance(event, Opened) for event in events):
                opened.set()

        await Link(peer.stream, connection, "peer").run(handle)

    here, there = trio.Event(), trio.Event()
    with trio.fail_after(PATIENCE):
        async with (
            our_dht() as nodes,
            our_peer(nodes, 1) as server,
            our_peer(nodes, 2) as client,
            serving(server, lambda peer: link(peer, 1, there)),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(link, await client.connect(key(1).public_key), 2, here)
            await here.wait()
            await there.wait()
            nursery.cancel_scope.cancel()


def test_what_cannot_be_reached() -> None:
    async def run() -> None:
        async with our_dht() as nodes, our_peer(nodes, 1) as server, our_peer(nodes, 2) as client:
            with pytest.raises(ConnectError) as caught:
                await client.connect(key(3).public_key)
            assert caught.value.reason == "not-found"
            with pytest.raises(ConnectError) as caught:
                await client.connect(key(2).public_key)
            assert caught.value.reason == "refused"
            async with serving(server, echo, refused=key(2).public_key):
                with pytest.raises(ConnectError) as caught:
                    await client.connect(key(1).public_key)
                assert caught.value.reason == "silent"
            assert server.udx.streams == {}
            assert client.udx.streams == {}
            with pytest.raises(ConnectError) as caught:  # the server has taken its leave
                await client.connect(key(1).public_key)
            assert caught.value.reason == "not-found"

    quickly(run)


def test_a_brief_dial_asks_named_relays_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches a server through them, and does not walk the DHT when they know nothing."""

    async def run() -> None:
        async with our_dht() as nodes, our_peer(nodes, 1) as server, our_peer(nodes, 2) as client:
            strangers = [Endpoint(HOST, node.socket(0).address[1]) for node in nodes[:2]]
            asked: list[bytes] = []
            find_peer = client.dht.find_peer

            async def count(public_key: PublicKey, **options: Any) -> Any:
                asked.append(public_key)
                return await find_peer(public_key, **options)

            monkeypatch.setattr(client.dht, "find_peer", count)
            async with serving(server, echo):
                peer = await client.connect(key(1).public_key, server.relays, brief=True)
                peer.stream.destroy()
                assert asked == []
                with pytest.raises(ConnectError) as caught:
                    await client.connect(key(3).public_key, strangers, brief=True)
                assert caught.value.reason == "silent"
                assert asked == []
                with pytest.raises(ConnectError):
                    await client.connect(key(3).public_key, strangers)
                assert asked == [key(3).public_key]

    quickly(run)


async def test_a_port_that_is_taken() -> None:
    async with our_dht(1) as nodes:
        port = nodes[0].socket(0).address[1]
        with pytest.raises(NetworkError, match=str(port)):
            async with open_network(key(1), bootstraps=[], host=HOST, port=port):
                pass


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (NoisePayload(version=9), "incompatible"),
        (NoisePayload(error=2, udx=UdxInfo(1)), "incompatible"),
        (NoisePayload(error=1, udx=UdxInfo(1)), "server-error"),
        (NoisePayload(), "server-error"),
    ],
)
async def test_servers_that_say_no(payload: NoisePayload, reason: str) -> None:
    with trio.fail_after(PATIENCE):
        async with our_dht() as nodes, our_peer(nodes, 1) as client:

            def refuse(message: PeerMessage, _now: float) -> None:
                assert isinstance(message.envelope, HandshakeEnvelope)
                handshake = ServerHandshake(key(2), message.envelope.noise, random_bytes(32))
                nodes[1].answer(message, handshake.reply(payload)[0])

            nodes[1].serve(key(2).public_key, refuse)
            with pytest.raises(ConnectError) as caught:
                await client.connect(key(2).public_key, [Endpoint(HOST, nodes[1].socket(0).address[1])])
            assert caught.value.reason == reason


async def test_a_lying_relay_costs_its_turn_only() -> None:
    with trio.fail_after(PATIENCE):
        async with our_dht() as nodes, our_peer(nodes, 1) as server, our_peer(nodes, 2) as client:
            lies = 0

            def lie(message: PeerMessage, _now: float) -> None:
                nonlocal lies
                lies += 1
                nodes[1].answer(message, random_bytes(48 + lies))

            nodes[1].serve(key(1).public_key, lie)  # in place of the route it would have
            async with serving(server, echo):
                peer = await ask(client, 1, Endpoint(HOST, nodes[1].socket(0).address[1]))
                assert peer.path is Path.OPEN
                assert lies == 1


async def test_garbage_disturbs_nobody() -> None:
    with trio.fail_after(PATIENCE):
        async with (
            our_dht() as nodes,
            our_peer(nodes, 1) as server,
            our_peer(nodes, 2) as client,
            serving(server, echo),
        ):
            [relay, *_] = server.relays[1:]
            here = server.relays[0]
            good = ClientHandshake(
                key(9), key(1).public_key, NoisePayload(udx=UdxInfo(1)), random_bytes(32)
            ).message
            messages = [random_bytes(size) for size in (1, 32, 90, 96, 300, 900)]
            messages += [good[:-1], good[:95], good + b"x", good[:40] + random_bytes(len(good) - 40)]
            async with trio.open_nursery() as nursery:
                for message in messages:
                    for way in (relay, here):
                        nursery.start_soon(partial(send_handshake, client.dht, way, message))
            assert server.server is not None
            assert server.server.rejected == 2 * len(messages)
            assert server.server.cache.half_open == 0
            await ask(client, 1)


def test_a_message_gets_one_answer_and_a_recording_of_it_none() -> None:
    """Over every relay and again: the same bytes. After the attempt: silence, and nobody is handed on."""

    async def run() -> None:
        peers: list[PeerStream] = []
        async with (
            our_dht() as nodes,
            our_peer(nodes, 1) as server,
            our_peer(nodes, 2) as client,
            serving(server, peers.append),
        ):
            assert server.server is not None
            payload = NoisePayload(udx=UdxInfo(77), secret_stream=1)
            handshake = ClientHandshake(key(2), key(1).public_key, payload, random_bytes(32))
            ways = [*server.relays[1:], server.relays[0], server.relays[1]]
            replies = {await send_handshake(client.dht, way, handshake.message) for way in ways}
            assert len(replies) == 1
            assert None not in replies
            assert server.server.cache.half_open == 1
            assert len(server.udx.streams) == 1
            await trio.sleep(12)  # nobody came
            assert server.server.cache.half_open == 0
            assert server.udx.streams == {}
            assert await send_handshake(client.dht, ways[0], handshake.message) in replies
            await trio.sleep(12)
            for way in ways:
                assert await send_handshake(client.dht, way, handshake.message) is None
            assert server.server.cache.replayed == len(ways)
            assert server.udx.streams == {}
            assert peers == []

    quickly(run)


def test_a_forged_address_gets_a_few_packets_and_is_no_peer() -> None:
    """Who claims to be open is connected to at once; one that says nothing is dropped after ten seconds."""

    async def run() -> None:
        peers: list[PeerStream] = []
        packets: list[bytes] = []
        async with (
            our_dht() as nodes,
            our_peer(nodes, 1) as server,
            our_peer(nodes, 2) as client,
            serving(server, peers.append),
        ):
            sort = client.udx.sockets[0].on_datagram
            assert sort is not None

            def note(datagram: bytes, source: tuple[str, int], via: UdxSocket) -> None:
                if datagram[:1] == b"\xff":
                    packets.append(datagram)
                else:
                    sort(datagram, source, via)

            client.udx.sockets[0].on_datagram = note
            payload = NoisePayload(firewall=Firewall.OPEN, udx=UdxInfo(77), secret_stream=1)
            handshake = ClientHandshake(key(2), key(1).public_key, payload, random_bytes(32))
            assert await send_handshake(client.dht, server.relays[1], handshake.message) is not None
            await trio.sleep(12)
            assert 2 <= len(packets) <= 8
            assert sum(map(len, packets)) < 400
            assert server.udx.streams == {}
            assert peers == []

    quickly(run)
