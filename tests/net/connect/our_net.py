"""A small DHT of our own nodes on loopback, and peers in it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.net.connect.network import PeerNetwork, open_network
from p2prss.net.connect.server import OnPeer
from p2prss.net.dht.client import DhtNode, open_dht

HOST = "127.0.0.1"


def key(number: int) -> KeyPair:
    return KeyPair.from_seed(bytes([number]) * 32)


@asynccontextmanager
async def our_dht(size: int = 4) -> AsyncIterator[list[DhtNode]]:
    """Persistent nodes; the first is the bootstrap of the others."""
    async with AsyncExitStack() as stack:
        nodes: list[DhtNode] = []
        for _ in range(size):
            bootstraps = [f"{HOST}:{nodes[0].socket(0).address[1]}"] if nodes else []
            node = open_dht(host=HOST, port=0, bootstraps=bootstraps, public_host=HOST)
            nodes.append(await stack.enter_async_context(node))
            await nodes[-1].wait_bootstrapped()
        yield nodes


@asynccontextmanager
async def our_peer(nodes: list[DhtNode], number: int, **options: Any) -> AsyncIterator[PeerNetwork]:
    bootstrap = f"{HOST}:{nodes[0].socket(0).address[1]}"
    async with open_network(key(number), bootstraps=[bootstrap], host=HOST, **options) as network:
        await network.dht.wait_bootstrapped()
        while network.dht.firewalled:
            await network.dht.wait_network_change(network.dht.network_view)
        yield network


@asynccontextmanager
async def serving(
    network: PeerNetwork, on_peer: OnPeer, *, refused: PublicKey | None = None
) -> AsyncIterator[None]:
    """Serve until the block ends; it begins when a node relays for us."""
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await network.serve(on_peer, admit=lambda public_key: public_key != refused)

        nursery.start_soon(run)
        await network.wait_announced()
        yield
        nursery.cancel_scope.cancel()
