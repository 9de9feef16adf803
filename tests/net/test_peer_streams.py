"""The exchange on connections of the swarm: UDX streams whose handshake is done, one for each peer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest
import trio

from p2prss.crypto.keys import CoreKey
from p2prss.errors import P2prssError
from p2prss.log.store import Store
from p2prss.net.connect.peer_stream import Path, PeerStream
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.net.udx.endpoint import UdxEndpoint
from p2prss.net.udx.socket import UdxSocket
from p2prss.wire.noise import HandshakeResult, NoiseHandshake, Pattern

PATIENCE = 10  # seconds
HOST = "127.0.0.1"


class Side:
    """One peer: a store in memory, its exchange, and a UDX socket."""

    def __init__(self, nursery: trio.Nursery, endpoint: UdxEndpoint, seed: int) -> None:
        self.store = Store.in_memory()
        self.exchange = Exchange(self.store, nursery, random=Random(seed), patience=2.0)
        self.endpoint = endpoint
        self.socket: UdxSocket = endpoint.bind(HOST, 0)

    def core(self, key: CoreKey) -> PeerCore:
        return PeerCore(self.exchange.session(self.store.open_log(key), eager=True))


@pytest.fixture
async def sides() -> AsyncIterator[tuple[Side, Side]]:
    async with UdxEndpoint.open() as near, UdxEndpoint.open() as far, trio.open_nursery() as nursery:
        pair = sorted(
            (Side(nursery, near, 1), Side(nursery, far, 2)), key=lambda side: side.exchange.public_key
        )
        yield pair[0], pair[1]
        nursery.cancel_scope.cancel()


def shake_hands(dialler: Side, server: Side) -> tuple[HandshakeResult, HandshakeResult]:
    """Noise IK, without the network."""
    first = NoiseHandshake(
        Pattern.IK,
        initiator=True,
        key_pair=dialler.exchange.key_pair,
        ephemeral_seed=Random(3).randbytes(32),
        remote_public_key=server.exchange.public_key,
    )
    second = NoiseHandshake(
        Pattern.IK,
        initiator=False,
        key_pair=server.exchange.key_pair,
        ephemeral_seed=Random(4).randbytes(32),
    )
    second.receive(first.send())
    first.receive(second.send())
    assert first.result is not None
    assert second.result is not None
    return first.result, second.result


def join(dialler: Side, server: Side) -> tuple[PeerStream, PeerStream]:
    """A connected stream, as both ends get it."""
    near, far = dialler.endpoint.create_stream(), server.endpoint.create_stream()
    near.connect(dialler.socket, far.stream_id, (HOST, server.socket.address[1]))
    far.connect(server.socket, near.stream_id, (HOST, dialler.socket.address[1]))
    mine, theirs = shake_hands(dialler, server)
    return (
        PeerStream(near, mine, True, server.exchange.public_key, Path.OPEN),
        PeerStream(far, theirs, False, dialler.exchange.public_key, Path.OPEN),
    )


@asynccontextmanager
async def using(*uses: tuple[Side, PeerStream]) -> AsyncIterator[None]:
    async def use(side: Side, stream: PeerStream) -> None:
        with suppress(P2prssError):
            await side.exchange.use_peer_stream(stream)

    async with trio.open_nursery() as nursery:
        for side, stream in uses:
            nursery.start_soon(use, side, stream)
        yield
        nursery.cancel_scope.cancel()


async def wait_links(side: Side, count: int) -> None:
    while len(side.exchange.links) != count:
        await side.exchange.links_changed.wait()


async def test_a_log_goes_over_a_stream_of_the_swarm(sides: tuple[Side, Side]) -> None:
    writer, reader = sides
    own = writer.store.create("show")
    own.append([b"one", b"two"])
    core = reader.core(own.key)
    near, far = join(reader, writer)
    with trio.fail_after(PATIENCE):
        async with using((reader, near), (writer, far)):
            assert await core.get(1) == b"two"
            assert reader.exchange.way(reader.exchange.links[0]) == ("udx", "open")
            assert reader.exchange.logs_by_peer() == {writer.exchange.public_key: {own.discovery_key}}
            assert writer.exchange.logs_by_peer() == {reader.exchange.public_key: {own.discovery_key}}


@pytest.mark.parametrize("greater_first", [False, True])
async def test_two_that_dial_each_other_keep_one_connection(
    sides: tuple[Side, Side], *, greater_first: bool
) -> None:
    """Whichever comes first: the one that the greater key dialled."""
    small, great = sides
    of_great, in_small = join(great, small)
    of_small, in_great = join(small, great)
    both = [((great, of_great), (small, in_small)), ((small, of_small), (great, in_great))]
    if not greater_first:
        both.reverse()
    with trio.fail_after(PATIENCE):
        async with using(*both[0], *both[1]):
            for loser in (of_small, in_great):
                await loser.stream.wait_closed()
            await wait_links(small, 1)
            await wait_links(great, 1)
            assert great.exchange.links[0].connection.initiator
            assert not small.exchange.links[0].connection.initiator
            assert of_great.stream.close_reason is None


async def test_a_peer_that_comes_again_replaces_its_connection(sides: tuple[Side, Side]) -> None:
    """What worked once and is dialled again is dead at the other end, whoever dialled it."""
    small, great = sides
    first = join(great, small)
    with trio.fail_after(PATIENCE):
        async with using((great, first[0]), (small, first[1])):
            await wait_links(small, 1)
            small.exchange.links[0].connection.keep_alive()
            small.exchange.links[0].flush()
            great.exchange.links[0].connection.keep_alive()
            great.exchange.links[0].flush()
            await trio.sleep(0.1)
            second = join(small, great)
            async with using((small, second[0]), (great, second[1])):
                await first[0].stream.wait_closed()
                await wait_links(great, 1)
                await wait_links(small, 1)
                assert small.exchange.links[0].connection.initiator


async def test_a_replayed_handshake_replaces_nothing(sides: tuple[Side, Side]) -> None:
    """Whoever sends an old first message again cannot make the header."""
    small, great = sides
    first = join(great, small)
    with trio.fail_after(PATIENCE):
        async with using((great, first[0]), (small, first[1])):
            await wait_links(small, 1)
            _, ghost = join(great, small)
            async with using((small, ghost)):
                await trio.sleep(0.2)
                assert len(small.exchange.links) == 1
                assert first[1].stream.close_reason is None
                assert small.exchange.logs_by_peer() == {great.exchange.public_key: set()}
