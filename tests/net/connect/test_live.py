"""Connecting by key, with the JavaScript reference and among ourselves, in a network on loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.net.connect.network import PeerNetwork, open_network
from p2prss.net.connect.peer_stream import ConnectError, Path, PeerStream
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.udx.socket import UdxSocket
from tests.net.connect.talk import Talk, echo
from tests.net.dht.js_dht import JsDht, open_js_dht

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
PATIENCE = 25  # seconds, for what takes two
FASTER = 5  # times, for what takes long
OPEN: dict[str, Any] = {"firewalled": False, "ephemeral": True}
OPENLY = [Path.OPEN]
NEAR = [Path.LAN, Path.PUNCHED]  # tried at the same time
CLOSED: dict[str, Any] = {"quickFirewall": False, "ephemeral": True}


def key(number: int) -> KeyPair:
    return KeyPair.from_seed(bytes([number]) * 32)


def seed(number: int) -> str:
    return (bytes([number]) * 32).hex()


def close_port(network: PeerNetwork) -> None:
    """Let no answers in at the server socket, so that nobody can prove to us that it can be reached."""
    socket = network.udx.sockets[0]
    others = socket.on_datagram
    assert others is not None

    def sort(datagram: bytes, source: tuple[str, int], via: UdxSocket) -> None:
        if datagram[:1] != b"\x13":
            others(datagram, source, via)

    socket.on_datagram = sort


@asynccontextmanager
async def js_network(
    *kinds: dict[str, Any], relay: bool = False
) -> AsyncIterator[tuple[JsDht, int, list[int]]]:
    """A network of the reference: process, port, and nodes of these kinds; ``relay``: key 7 relays."""
    with trio.fail_after(PATIENCE):
        async with open_js_dht() as js:
            port = await js.call("testnet", size=8)
            if relay:
                node = await js.call("node", bootstrap=port, options=OPEN)
                await js.call("relay", node=node, seed=seed(7))
            yield js, port, [await js.call("node", bootstrap=port, options=options) for options in kinds]


@asynccontextmanager
async def our_network(
    bootstrap: int, number: int, *, closed: bool = False, **options: Any
) -> AsyncIterator[PeerNetwork]:
    # A name takes a while to be looked up: time to close the port before the first question is sent.
    bootstraps = [f"{'localhost' if closed else HOST}:{bootstrap}"]
    async with open_network(key(number), bootstraps=bootstraps, host=HOST, **options) as network:
        if closed:
            close_port(network)
        await network.dht.wait_bootstrapped()
        while network.dht.firewalled != closed:
            await network.dht.wait_network_change(network.dht.network_view)
        yield network


@asynccontextmanager
async def serving(network: PeerNetwork, peers: list[PeerStream]) -> AsyncIterator[None]:
    """Echo to whoever comes, once a node relays for us."""

    async def serve(peer: PeerStream) -> None:
        peers.append(peer)
        await echo(peer)

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await network.serve(serve, admit=lambda _: True)

        nursery.start_soon(run)
        await network.wait_announced()
        yield
        nursery.cancel_scope.cancel()


async def ask(network: PeerNetwork, public_key: PublicKey, *relays: Endpoint) -> Path:
    """Dial, and check that the peer is there; returns the way it took."""
    peer = await network.connect(public_key, relays)
    assert peer.initiator
    assert peer.public_key == public_key == peer.handshake.remote_public_key
    talk = Talk(peer)
    await talk.open()
    await talk.say("hello")
    assert await talk.hear() == "hello"
    peer.stream.destroy()
    return peer.path


async def test_we_dial_the_reference() -> None:
    async with js_network(OPEN, CLOSED) as (js, port, theirs):
        relays = [await js.call("listen", node=theirs[0], seed=seed(2))]
        await js.call("listen", node=theirs[1], seed=seed(3), options={"holepunch": False})
        async with our_network(port, 4) as ours:
            assert await ask(ours, key(3).public_key) is Path.OPEN  # it comes to us
        async with our_network(port, 1, closed=True) as ours:
            assert await ask(ours, key(2).public_key) is Path.OPEN
            assert await ask(ours, key(3).public_key) is Path.LAN
            assert await ask(ours, key(3).public_key) is Path.LAN  # over the relays it remembers
            direct = [Endpoint(one["host"], one["port"]) for one in relays[0]]
            paths = {await ask(ours, key(2).public_key, *direct) for _ in range(5)}
            assert Path.DIRECT in paths  # a relay may be faster
            with pytest.raises(ConnectError) as caught:
                await ours.connect(key(9).public_key)
            assert caught.value.reason == "not-found"
        assert await js.call("connections") == [key(4).public_key.hex(), *[key(1).public_key.hex()] * 8]


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
async def test_the_reference_dials_us(closed: bool) -> None:
    async with js_network(OPEN, CLOSED) as (js, port, theirs):
        peers: list[PeerStream] = []
        async with our_network(port, 1, closed=closed) as ours, serving(ours, peers):
            for node in theirs:
                answer = await js.call("ask", node=node, key=key(1).public_key.hex(), seed=seed(5), text="hi")
                assert answer["text"] == "hi"
            assert [peer.public_key for peer in peers] == [key(5).public_key] * 2
            assert peers[0].path is Path.OPEN
            assert peers[1].path in (NEAR if closed else OPENLY)


@pytest.mark.parametrize(
    ("server_closed", "client_closed", "paths"),
    [(False, False, OPENLY), (False, True, OPENLY), (True, False, OPENLY), (True, True, NEAR)],
)
async def test_we_dial_each_other(server_closed: bool, client_closed: bool, paths: list[Path]) -> None:
    async with js_network() as (_js, port, _):
        peers: list[PeerStream] = []
        async with (
            our_network(port, 1, closed=server_closed) as one,
            our_network(port, 2, closed=client_closed) as two,
            serving(one, peers),
        ):
            path = await ask(two, key(1).public_key)
            assert path in paths
            assert peers[0].path is path
            assert peers[0].public_key == key(2).public_key
            assert not peers[0].initiator


async def test_we_punch_our_way_to_the_reference() -> None:
    async with js_network(CLOSED) as (js, port, (theirs,)):
        await js.call("listen", node=theirs, seed=seed(3), options={"shareLocalAddress": False})
        async with our_network(port, 1, closed=True, lan_addresses=False) as ours:
            assert await ask(ours, key(3).public_key) is Path.PUNCHED


@pytest.mark.parametrize("fast", [True, False])
async def test_the_reference_punches_its_way_to_us(fast: bool) -> None:
    async with js_network(CLOSED) as (js, port, (theirs,)):
        peers: list[PeerStream] = []
        async with our_network(port, 1, closed=True) as ours, serving(ours, peers):
            options = {"localConnection": False, "fastOpen": fast}
            our_key = key(1).public_key.hex()
            answer = await js.call("ask", node=theirs, key=our_key, text="hi", options=options)
            assert answer["text"] == "hi"
            assert peers[0].path is Path.PUNCHED


async def test_we_punch_our_way_to_each_other() -> None:
    async with js_network() as (_js, port, _):
        peers: list[PeerStream] = []
        async with (
            our_network(port, 1, closed=True, lan_addresses=False) as one,
            our_network(port, 2, closed=True) as two,
            serving(one, peers),
        ):
            assert await ask(two, key(1).public_key) is Path.PUNCHED
            assert peers[0].path is Path.PUNCHED


def test_over_a_relay_to_the_reference() -> None:
    """Its server makes no holes: we notice after 10 seconds, and propose our relay the next time."""

    async def run() -> None:
        async with js_network(CLOSED, relay=True) as (js, port, (theirs,)):
            options = {"shareLocalAddress": False, "holepunch": False}
            await js.call("listen", node=theirs, seed=seed(3), options=options)
            blind_relay = key(7).public_key
            async with our_network(port, 1, closed=True, blind_relay=blind_relay) as ours:
                with pytest.raises(ConnectError) as caught:
                    await ours.connect(key(3).public_key)
                assert caught.value.reason == "holepunch-aborted"
                assert await ask(ours, key(3).public_key) is Path.RELAYED

    trio.run(run, clock=trio.testing.MockClock(rate=FASTER))


async def test_over_the_relay_of_a_server_of_the_reference() -> None:
    async with js_network(CLOSED, relay=True) as (js, port, (theirs,)):
        options = {"shareLocalAddress": False, "holepunch": False}
        through = key(7).public_key.hex()
        await js.call("listen", node=theirs, seed=seed(3), options=options, through=through)
        async with our_network(port, 1, closed=True, accept_relays=True) as ours:
            assert await ask(ours, key(3).public_key) is Path.RELAYED


@pytest.mark.parametrize("accepted", [True, False])
async def test_the_reference_over_a_relay_to_us(accepted: bool) -> None:
    async with js_network(CLOSED, relay=True) as (js, port, (theirs,)):
        peers: list[PeerStream] = []
        network = our_network(port, 1, closed=True, lan_addresses=False, accept_relays=accepted)
        async with network as ours, serving(ours, peers):
            with trio.move_on_after(15 if accepted else 1):
                answer = await js.call(
                    "ask",
                    node=theirs,
                    key=key(1).public_key.hex(),
                    text="hi",
                    through=key(7).public_key.hex(),
                    options={"localConnection": False},
                )
                assert accepted
                assert answer["text"] == "hi"
            assert [peer.path for peer in peers] == [Path.RELAYED] * accepted
