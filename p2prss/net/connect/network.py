"""A node's place in the network of peers: found by its key, and finding others by theirs.

One DHT node and all UDX streams share two sockets. ``serve`` makes us reachable, ``connect`` reaches others;
both end with a ``PeerStream``.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.errors import LocalProtocolError, NetworkError
from p2prss.net.connect.announcer import Announcer
from p2prss.net.connect.blind_relay import BlindRelays
from p2prss.net.connect.client import Client
from p2prss.net.connect.parts import NetworkParts
from p2prss.net.connect.peer_stream import PeerStream
from p2prss.net.connect.punch_sockets import PunchSockets
from p2prss.net.connect.server import Admit, OnPeer, Server
from p2prss.net.dht.client import DhtNode
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.udx.endpoint import UdxEndpoint

DRAIN_SECONDS: Final = 1.0  # at the end, for what closed streams still have to send


class PeerNetwork:
    """Made by ``open_network``; all of it works until that block ends."""

    def __init__(self, parts: NetworkParts, client: Client) -> None:
        self.key_pair = parts.key_pair
        self.dht = parts.dht
        self.udx = parts.udx
        self._parts = parts
        self._client = client
        self._announcer = Announcer(parts)
        self._server: Server | None = None

    @property
    def relays(self) -> tuple[Endpoint, ...]:
        """Through whom we can be dialled, for announcements of topics: up to three, empty at first."""
        return self._announcer.addresses

    @property
    def server(self) -> Server | None:
        """The server while ``serve`` runs, for its counters."""
        return self._server

    @property
    def port(self) -> int:
        """The UDP port that strangers are told about."""
        return self.udx.sockets[0].address[1]

    async def wait_announced(self) -> None:
        """Until a node relays for us, so that others can find us by our key."""
        await self._announcer.wait_announced()

    async def serve(self, on_peer: OnPeer, *, admit: Admit) -> None:
        """Be reachable by our key; runs until cancelled.

        Args: on_peer: gets the stream of each client that has proven to be there; what it returns is awaited
        in a task of its own, and may raise nothing that ``serve`` should survive. admit: whether a key may
        connect; others are not answered.
        """
        if self._server is not None:
            raise LocalProtocolError("the network serves already")
        self._server = Server(self._parts, self._announcer, on_peer, admit)
        try:
            await self._server.run()
        finally:
            self._server = None

    async def connect(
        self, public_key: PublicKey, relays: Sequence[Endpoint] = (), *, brief: bool = False
    ) -> PeerStream:
        """Dial a peer by its key.

        Args: relays: DHT nodes named as its relays, or its own address: tried first; brief: try nothing
        else, and give up soon.
        Raises: ConnectError, whose ``reason`` says what went wrong; another NetworkError when there are too
        many streams.
        """
        return await self._client.connect(public_key, relays, brief=brief)


@asynccontextmanager
async def open_network(
    key_pair: KeyPair,
    *,
    bootstraps: Sequence[str],
    host: str = "0.0.0.0",
    port: int = 0,
    lan_addresses: bool = True,
    ephemeral: bool | None = None,
    public_endpoint: Endpoint | None = None,
    allow_private: bool | None = None,
    blind_relay: PublicKey | None = None,
    accept_relays: bool = False,
) -> AsyncIterator[PeerNetwork]:
    """Take part in the network until the block ends.

    What runs inside is not cancelled before the block is left, so that a server can take its leave.

    Args: bootstraps: texts as in ``dht.bootstrap``; host: to bind; port: of the server socket, 0 for any;
    lan_addresses: tell peers our local addresses and try theirs; ephemeral, public_endpoint, allow_private:
    see ``DhtConfig``. blind_relay: the key of a peer that passes streams on, proposed to peers that could not
    be reached otherwise; accept_relays: go to the relays others propose, which a blind relay of ours implies.
    Raises: NetworkError when the port is taken.
    """

    async def live(scope: trio.CancelScope, task_status: trio.TaskStatus[PeerNetwork | NetworkError]) -> None:
        with scope:
            async with UdxEndpoint.open() as udx:
                try:
                    server, client = udx.bind(host, port), udx.bind(host, 0)
                except NetworkError as error:
                    task_status.started(error)
                    return
                dht = DhtNode(
                    server,
                    client,
                    bootstraps=bootstraps,
                    ephemeral=ephemeral,
                    public_endpoint=public_endpoint,
                    allow_private=allow_private,
                )
                async with PunchSockets.open(dht, udx, host=host) as sockets:
                    parts = NetworkParts(
                        key_pair,
                        dht,
                        udx,
                        sockets,
                        lan_addresses=lan_addresses,
                        blind_relay=blind_relay,
                        accept_relays=accept_relays,
                    )
                    peer_client = Client(parts)
                    async with (
                        BlindRelays.open(key_pair, peer_client.connect_relay) as relays,
                        trio.open_nursery() as nursery,
                    ):
                        parts.blind_relays = relays
                        await nursery.start(dht.run)
                        task_status.started(PeerNetwork(parts, peer_client))

    refusal: NetworkError | None = None
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope(shield=True)
        network = await nursery.start(live, scope)
        if isinstance(network, NetworkError):
            refusal = network
        else:
            try:
                yield network
            finally:
                with trio.CancelScope(shield=True):
                    await network.udx.drain(DRAIN_SECONDS)
                scope.cancel()
    if refusal is not None:
        raise refusal
