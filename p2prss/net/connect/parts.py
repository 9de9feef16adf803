"""What connecting works with: a key, a DHT node and UDX streams on the same two sockets."""

from typing import Final

import trio

from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.errors import LocalProtocolError
from p2prss.net.connect.blind_relay import BlindRelays, Meeting, agree
from p2prss.net.connect.punch_sockets import PunchSockets
from p2prss.net.dht.client import DhtNode
from p2prss.net.dht.endpoint import Endpoint, is_ipv4, is_reserved, match_address
from p2prss.net.dht.handshake import Firewall, RelayThrough
from p2prss.net.dht.state import CLIENT, SERVER
from p2prss.net.lan.interfaces import MAX_ADDRESSES, local_interfaces
from p2prss.net.udx.endpoint import UdxEndpoint
from p2prss.net.udx.socket import UdxSocket

FRESH_SECONDS: Final = 10.0  # so long the list of our local addresses is believed


class NetworkParts:
    """The parts client and server share, and what both tell a peer about where we are."""

    def __init__(
        self,
        key_pair: KeyPair,
        dht: DhtNode,
        udx: UdxEndpoint,
        punch_sockets: PunchSockets,
        *,
        lan_addresses: bool,
        blind_relay: PublicKey | None = None,
        accept_relays: bool = False,
    ) -> None:
        self.key_pair = key_pair
        self.dht = dht
        self.udx = udx
        self.punch_sockets = punch_sockets
        self.lan_addresses = lan_addresses  # tell peers our local addresses, and try theirs
        self.blind_relay = blind_relay  # we propose, to peers that cannot be reached otherwise
        self.blind_relays: BlindRelays | None = None  # set by who has a nursery for them
        self._accept_relays = accept_relays or blind_relay is not None
        self._hosts: tuple[str, ...] = ()
        self._hosts_until = -1.0

    def socket(self, number: int) -> UdxSocket:
        """A socket of the DHT node, by its number, for streams."""
        socket = self.dht.socket(number)
        if not isinstance(socket, UdxSocket):
            raise LocalProtocolError(f"socket {number} carries no streams")
        return socket

    @property
    def server_socket(self) -> UdxSocket:
        """The one whose port peers are told."""
        return self.socket(SERVER)

    def is_own(self, socket: UdxSocket) -> bool:
        """Whether it is one of the node's two, rather than one to punch a hole with."""
        return socket in (self.socket(SERVER), self.socket(CLIENT))

    @property
    def firewall(self) -> Firewall:
        """What we may say of ourselves: OPEN only if that is proven."""
        return Firewall.UNKNOWN if self.dht.public_endpoint is None else Firewall.OPEN

    @property
    def local_hosts(self) -> tuple[str, ...]:
        """IPv4 addresses of this machine at which the server socket can be reached."""
        host, _ = self.server_socket.address
        if host not in ("0.0.0.0", "::"):
            return (host,)
        now = trio.current_time()
        if now >= self._hosts_until:
            found = [str(one.ip) for one in local_interfaces() if one.ip.version == 4]
            self._hosts = tuple(dict.fromkeys(found))[:MAX_ADDRESSES]
            self._hosts_until = now + FRESH_SECONDS
        return self._hosts

    @property
    def told_addresses(self) -> tuple[Endpoint, ...]:
        """Where a peer may try to reach us: the public address if proven, then local ones if wished."""
        _, port = self.server_socket.address
        public = self.dht.public_endpoint
        told = [] if public is None else [public]
        if self.lan_addresses:
            told += [Endpoint(host, port) for host in self.local_hosts]
        return tuple(endpoint for endpoint in dict.fromkeys(told) if is_ipv4(endpoint))

    def local_match(self, theirs: tuple[Endpoint, ...]) -> Endpoint | None:
        """Which of a peer's addresses looks most like one on a network of ours; None when none does."""
        usable = [one for one in theirs if one.port and not is_reserved(one.host)]
        return match_address(self.local_hosts, usable[:MAX_ADDRESSES])

    def meeting(
        self, *, client: RelayThrough | None, server: RelayThrough | None, is_server: bool
    ) -> Meeting | None:
        """Which relay to go to, given what both payloads say; None when we do not go to any.

        A proposal makes us dial whatever key it names: it counts only if relays are wanted here.
        """
        return agree(client=client, server=server, is_server=is_server) if self._accept_relays else None

    def may_send(self, to: Endpoint) -> bool:
        """Whether an address a stranger names is worth a datagram."""
        return self.dht.machine.state.accepts(to)
