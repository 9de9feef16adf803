"""Punching a hole, with sockets: ``ClientPuncher`` for who dials, ``ServerPuncher`` for who is dialled.

An attempt has a socket of its own, registered with the DHT node, from which it asks some nodes how they see
it. The machines in ``client_punch`` and ``server_punch`` decide everything; here are the sockets, the
requests and the clock.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from p2prss.crypto.keys import PublicKey
from p2prss.net.connect.punch_sockets import PunchSockets
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import HolepunchInfo
from p2prss.net.dht.relay import PeerMessage
from p2prss.net.udx.socket import UdxSocket


class Puncher:
    """What both sides have: an open socket, and an opinion on the NAT in front of it."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, sockets: PunchSockets, *, secret: bytes, remote_firewall: int, has_relay: bool = False
    ) -> AsyncIterator[Self]:
        """Start an attempt; its sockets are closed with the block, except one given to ``sockets.keep``.

        Args: secret: ``holepunch_key(handshake hash)``; remote_firewall: from the remote's Noise payload;
        has_relay: a blind relay is being tried as well, so that a busy node is worth waiting for.
        Raises: NetworkError when no socket can be had.
        """
        raise NotImplementedError
        yield

    @property
    def socket(self) -> UdxSocket:
        """The attempt's first socket; another one after the NAT was found to be unsteady."""
        raise NotImplementedError

    @property
    def socket_number(self) -> int:
        """The DHT node's number of it: a server sends its handshake reply from there."""
        raise NotImplementedError


class ClientPuncher(Puncher):
    """The side that dials."""

    async def punch(
        self,
        public_key: PublicKey,
        holepunch: HolepunchInfo,
        *,
        relay: Endpoint,
        server_address: Endpoint,
        fast: bool = True,
    ) -> tuple[UdxSocket, Endpoint]:
        """Make the hole: the socket and address to connect the stream with. Then ``sockets.keep`` the socket.

        Args: holepunch: of the server's Noise payload; relay: the node that relayed the handshake;
        server_address: ``peer_address`` of its reply; fast: tell the server at once where we saw it, which
        mostly saves a second.
        Raises: ConnectError, after 45 seconds at most (later when ``has_relay``).
        """
        raise NotImplementedError


class ServerPuncher(Puncher):
    """The side that is dialled. Success is told by the stream: its firewall callback gets the socket."""

    def handle(self, message: PeerMessage, *, from_own_relay: bool) -> None:
        """Take a PEER_HOLEPUNCH for this attempt, and answer it when there is something to say.

        Args: from_own_relay: ``message.source`` is one of the nodes we announced ourselves at: only what
        comes through those can prove where the client is.
        """
        raise NotImplementedError

    async def wait_failed(self) -> None:
        """Until there is no hope; cancel it when the stream is connected.

        Raises: ConnectError: always, in the end. 10 seconds after ``open`` when the client does not punch.
        """
        raise NotImplementedError
