"""A client that was answered: what is known of where it is, and the stream that waits for it.

How the two meet follows from who can be reached (hyperdht's table): a client that is open, or came straight
to us, is connected at once; if we are open it comes to us; if we share a public address, probably too, over
the local network; else a hole has to be punched.

Source: hyperdht 6.34.0 lib/server.js; spec/07-net.
"""

from contextlib import suppress

import trio

from p2prss.net.connect.blind_relay import Meeting
from p2prss.net.connect.parts import NetworkParts
from p2prss.net.connect.peer_stream import ConnectError, Path
from p2prss.net.connect.puncher import ServerPuncher
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import Firewall, NoisePayload
from p2prss.net.dht.relay import PeerMessage
from p2prss.net.udx.socket import UdxSocket
from p2prss.net.udx.trio_stream import UdxTrioStream


class Visit:
    """Set ``stream`` right after making it with ``admits`` as its firewall.

    Args: message: the first that brought the client's handshake; payload: what that said; id: the number
    for punch messages.
    """

    def __init__(self, parts: NetworkParts, message: PeerMessage, payload: NoisePayload, number: int) -> None:
        self.message = message
        self.payload = payload
        self.id = number
        self.stream: UdxTrioStream | None = None
        self.puncher: ServerPuncher | None = None  # once it may be told of punch messages
        self.connected = trio.Event()
        self.knocks = False  # the client waits for a packet of ours
        self.has_failed = False  # there is no way
        self.path = Path.OPEN
        self.has_to_punch = (  # neither side can be reached by anybody, and the client came over a relay
            message.is_relayed and parts.firewall is not Firewall.OPEN and payload.firewall != Firewall.OPEN
        )
        self._parts = parts

    @property
    def is_neighbour(self) -> bool:
        """We are seen at one public address, and the client has a local one that looks like ours."""
        return (
            self._parts.lan_addresses
            and self.message.client_address.host == self.message.to.host
            and self._parts.local_match(self.payload.addresses4) is not None
        )

    def meet(self) -> None:
        """Connect at once to a client that can be reached; any other has to come to us."""
        message = self.message
        is_open = self.payload.firewall == Firewall.OPEN
        if not (is_open or not message.is_relayed) or not self._parts.may_send(message.client_address):
            return
        socket = message.socket
        if message.is_relayed:
            self.knocks = True
            socket = self._parts.dht.request_socket
        else:
            self.path = Path.DIRECT
        self._connect(self._parts.socket(socket), message.client_address)

    async def meet_at_relay(self, meeting: Meeting) -> None:
        """Go where the client proposed; nothing comes of it when that does not work."""
        relays = self._parts.blind_relays
        if relays is None or self.stream is None:
            return
        with suppress(ConnectError):
            await relays.meet(meeting, self.stream)
            self.path, self.knocks = Path.RELAYED, True  # the relay knows us once we have sent
            self.connected.set()

    def admits(self, socket: UdxSocket, source: tuple[str, int]) -> bool:
        """The first packet for the stream says where the client is; later ones must come the same way."""
        if self.stream is None or self.stream.socket is not None or not source[1]:
            return False
        if self.has_to_punch:
            self.path = Path.LAN if self._parts.is_own(socket) else Path.PUNCHED
        self._connect(socket, Endpoint(*source))
        self._parts.punch_sockets.keep(socket, self.stream)
        return True

    def _connect(self, socket: UdxSocket, address: Endpoint) -> None:
        if self.stream is not None and self.stream.socket is None and self.payload.udx is not None:
            self.stream.connect(socket, self.payload.udx.id, address)
            self.connected.set()
