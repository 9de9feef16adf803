"""The sockets of an attempt: who gets their datagrams, and when they are closed."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
import trio.testing

from p2prss.net.connect.peer_stream import ConnectError
from p2prss.net.connect.probes import PROBE
from p2prss.net.connect.punch_side import Ask, OpenMore
from p2prss.net.connect.punch_sockets import PunchSockets
from p2prss.net.connect.puncher import ClientPuncher, ServerPuncher
from p2prss.net.dht.client import DhtNode
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import (
    HolepunchEnvelope,
    HolepunchInfo,
    HolepunchPayload,
    Mode,
    RelayInfo,
)
from p2prss.net.dht.relay import PeerMessage
from p2prss.net.dht.udp import UdpSocket
from p2prss.net.udx.endpoint import UdxEndpoint
from tests.net.connect.our_net import HOST, key, our_dht

SECRET = bytes(32)
NOBODY = Endpoint(HOST, 9)


@asynccontextmanager
async def punch_sockets() -> AsyncIterator[PunchSockets]:
    """The sockets of a node that has joined a small DHT."""
    async with our_dht(5) as nodes, UdxEndpoint.open() as udx:
        bootstrap = f"{HOST}:{nodes[0].socket(0).address[1]}"
        server, client = udx.bind(HOST, 0), udx.bind(HOST, 0)
        dht = DhtNode(server, client, bootstraps=[bootstrap])
        async with trio.open_nursery() as nursery:
            await nursery.start(dht.run)
            await dht.wait_bootstrapped()
            async with PunchSockets.open(dht, udx, host=HOST) as sockets:
                yield sockets
            nursery.cancel_scope.cancel()


def open_server(sockets: PunchSockets) -> AbstractAsyncContextManager[ServerPuncher]:
    return ServerPuncher.open(sockets, secret=SECRET, remote_firewall=0)


def open_client(sockets: PunchSockets) -> AbstractAsyncContextManager[ClientPuncher]:
    return ClientPuncher.open(sockets, secret=SECRET, remote_firewall=0)


def message(payload: bytes, to_socket: int) -> PeerMessage:
    envelope = HolepunchEnvelope(Mode.FROM_RELAY, 1, payload, NOBODY)
    return PeerMessage(bytes(32), envelope, 7, NOBODY, NOBODY, to_socket)


async def test_what_was_not_sealed_for_us_gets_no_answer() -> None:
    async with punch_sockets() as sockets, open_server(sockets) as puncher:
        answered = []
        sockets.dht.answer = lambda *args, **_: answered.append(args)  # type: ignore[method-assign,assignment]
        for payload in (b"", bytes(24), bytes(100), HolepunchPayload().seal(bytes(31) + b"x", bytes(24))):
            puncher.handle(message(payload, puncher.socket_number), from_own_relay=True)
        await trio.sleep(0.1)
        assert answered == []
        sealed = HolepunchPayload().seal(SECRET, bytes(24))
        puncher.handle(message(sealed, puncher.socket_number), from_own_relay=True)
        with trio.fail_after(5):
            while not answered:  # noqa: ASYNC110 - as soon as our NAT is judged
                await trio.sleep(0.01)
        assert HolepunchPayload.open(answered[0][1], SECRET).token is not None


async def test_all_sockets_of_an_attempt_are_closed_with_it_but_the_one_a_stream_took() -> None:
    async with punch_sockets() as sockets:
        stream = sockets._udx.create_stream()
        async with open_server(sockets) as puncher:
            puncher._perform([OpenMore(20)])
            assert len(sockets) == 21
            kept = puncher._open[5].udx_socket
            sockets.keep(kept, stream)
        assert len(sockets) == 1
        assert not kept.closed
        stream.destroy()
        await stream.wait_closed()
        await trio.testing.wait_all_tasks_blocked()
        assert len(sockets) == 0
        assert kept.closed


async def test_a_server_answers_each_probe_with_one() -> None:
    async with punch_sockets() as sockets, open_server(sockets) as puncher:
        client = UdpSocket.bind(HOST)
        heard: list[bytes] = []
        client.on_datagram = lambda data, _source, _via: heard.append(data)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            for _ in range(3):
                client.send_datagram(PROBE, puncher.socket.address)
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        assert heard == [PROBE] * 3


async def test_a_client_takes_the_socket_that_was_hit() -> None:
    async with punch_sockets() as sockets, open_client(sockets) as puncher:
        puncher._perform([OpenMore(3)])
        hit = puncher._open[2]
        relay = sockets.dht.recent_nodes(1)[0]
        info = HolepunchInfo(1, (RelayInfo(relay, NOBODY),))

        async def probe() -> None:
            await trio.testing.wait_all_tasks_blocked()
            puncher._take_probe(hit, NOBODY)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(probe)
            socket, address = await puncher.punch(key(1).public_key, info, relay=relay, server_address=NOBODY)
        assert (socket, address) == (hit.udx_socket, NOBODY)


async def test_a_round_that_must_not_arrive_twice_is_not_repeated() -> None:
    async with punch_sockets() as sockets, open_client(sockets) as puncher:
        silent = UdpSocket.bind(HOST)
        heard: Counter[bytes] = Counter()
        silent.on_datagram = lambda data, _source, _via: heard.update([data])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(silent.run)
            puncher._target, to = bytes(32), Endpoint(*silent.address)
            puncher._perform([Ask(to, NOBODY, HolepunchPayload(), once=once) for once in (True, False)])
            with trio.fail_after(5):
                while max(heard.values(), default=0) < 2:  # noqa: ASYNC110 - the other is, after a second
                    await trio.sleep(0.01)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        assert sorted(heard.values()) == [1, 2]


async def test_a_server_nobody_relays_for_cannot_be_punched() -> None:
    reasons = []
    async with punch_sockets() as sockets, open_client(sockets) as puncher:
        try:
            await puncher.punch(key(1).public_key, HolepunchInfo(1, ()), relay=NOBODY, server_address=NOBODY)
        except ConnectError as error:
            reasons.append(error.reason)
    assert reasons == ["cannot-punch"]
