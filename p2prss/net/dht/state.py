"""What the parts of one DHT node share: who it is, whom it knows, what it keeps, and how it sends.

A node has two sockets. Requests go out of the client socket until the node has proof that strangers reach
its server socket; from then on everything uses that one. With a single socket there is no such proof to be
had: the answer to a question always finds its way back.

Source: dht-rpc 6.27.0 index.js, lib/io.js; spec/07-net.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from p2prss.net.dht.endpoint import Endpoint, is_ipv4, is_private, is_reserved, node_id
from p2prss.net.dht.messages import Internal, Reply, Request
from p2prss.net.dht.nat import AddressSampler
from p2prss.net.dht.rate_limit import ReplyLimit
from p2prss.net.dht.requests import (
    SENDS,
    OnFailure,
    OnReply,
    Outgoing,
    PendingRequest,
    RequestTable,
)
from p2prss.net.dht.routing import RoutingTable
from p2prss.net.dht.storage import RecordStore
from p2prss.net.dht.tokens import TokenSource

if TYPE_CHECKING:
    from random import Random

SERVER: Final = 0  # the socket others are told about
CLIENT: Final = 1

# Public nodes that answer wrongly, ignored by the reference as well.
_IGNORED: Final = frozenset(
    {
        Endpoint("134.209.28.98", 49738),
        Endpoint("167.99.142.185", 49738),
        Endpoint("35.233.47.252", 9400),
    }
)
_IGNORED_HOSTS: Final = frozenset({"150.136.142.116"})


@dataclass(frozen=True, slots=True)
class DhtConfig:
    """How a node takes part.

    ``ephemeral``: true never serves others' records, false does as soon as the own address is known, None
    decides after 20 minutes. ``public_endpoint`` is for a node that knows its address (a bootstrap node):
    it is reachable and persistent from the start. ``allow_private`` takes addresses of private networks from
    others; None means if a bootstrap node or the public endpoint has one.
    """

    bootstraps: tuple[Endpoint, ...] = ()
    server_port: int = 0  # the server socket is bound to
    ephemeral: bool | None = None
    public_endpoint: Endpoint | None = None
    allow_private: bool | None = None
    single_socket: bool = False  # SERVER only


class NodeState:
    """One node's memory and its outbox.

    Args: random: the source of all chance, seeded securely by the shell; unix_time: seconds since 1970 at
    ``now``.
    """

    def __init__(self, config: DhtConfig, *, random: "Random", now: float, unix_time: float) -> None:
        self.config = config
        self.random = random
        self.bootstraps: tuple[Endpoint, ...] = ()
        self.outbox: list[Outgoing] = []
        self.requests = RequestTable(self.outbox, random)
        self.tokens = TokenSource(random.randbytes(32), now)
        self.store = RecordStore(random)
        self.limit = ReplyLimit()
        self.sampler = AddressSampler()
        self.ephemeral = config.public_endpoint is None
        self.firewalled = config.public_endpoint is None
        self._allow_private = False
        self.add_bootstraps(config.bootstraps)
        self._unix_offset = unix_time - now
        known = config.public_endpoint
        self.table = RoutingTable(node_id(known) if known is not None else random.randbytes(32))

    @property
    def id(self) -> bytes | None:
        """The id others may know us by: only a persistent node has one."""
        return None if self.ephemeral else self.table.own_id

    @property
    def request_socket(self) -> int:
        """The socket our own questions go out of."""
        return CLIENT if self.firewalled and not self.config.single_socket else SERVER

    @property
    def public_endpoint(self) -> Endpoint | None:
        """Where anybody can reach us, if that is proven or was given."""
        if self.config.public_endpoint is not None:
            return self.config.public_endpoint
        host, port = self.sampler.host, self.sampler.port
        if self.firewalled or host is None or port != self.config.server_port:
            return None
        return Endpoint(host, port)

    def add_bootstraps(self, endpoints: Iterable[Endpoint]) -> None:
        """Nodes to ask when the table knows too few; what they are tells what kind of network this is."""
        self.bootstraps = tuple(dict.fromkeys([*self.bootstraps, *endpoints]))
        wish, own = self.config.allow_private, self.config.public_endpoint
        known = [*self.bootstraps, *([own] if own is not None else [])]
        self._allow_private = any(is_private(one.host) for one in known) if wish is None else wish

    def unix_milliseconds(self, now: float) -> int:
        return int((now + self._unix_offset) * 1000)

    def accepts(self, endpoint: Endpoint) -> bool:
        """Whether an address somebody names is worth a datagram."""
        host, port = endpoint
        if port == 0 or is_reserved(host) or endpoint in _IGNORED or host in _IGNORED_HOSTS:
            return False
        if is_private(host) and not self._allow_private:
            return False
        return node_id(endpoint) != self.table.own_id

    def send_request(
        self,
        to: Endpoint,
        command: int,
        now: float,
        *,
        internal: bool = False,
        target: bytes | None = None,
        value: bytes | None = None,
        token: bytes | None = None,
        socket: int | None = None,
        sends: int = SENDS,
        on_reply: OnReply | None = None,
        on_failure: OnFailure | None = None,
        on_slow: OnFailure | None = None,
        relayed: bool = False,
        patience: float | None = None,
    ) -> PendingRequest | None:
        """Ask a node; None (and nothing will be called) when the address is none or too much is under way."""
        if not is_ipv4(to) or to.port == 0:
            return None
        via = self.request_socket if socket is None else socket
        request = Request(
            self.requests.new_tid(), to, command, internal, self._id_on(via), token, target, value
        )
        return self.requests.start(
            request,
            via,
            now,
            sends=sends,
            on_reply=on_reply,
            on_failure=on_failure,
            on_slow=on_slow,
            relayed=relayed,
            patience=patience,
        )

    def send_raw_request(
        self, to: Endpoint, tid: int, command: int, target: bytes | None, value: bytes, socket: int
    ) -> None:
        """Pass on a message of somebody else's request: nothing comes back to us."""
        request = Request(tid, to, command, id=self._id_on(socket), target=target, value=value)
        self.outbox.append(Outgoing(socket, to, request.encode()))

    def send_reply(
        self,
        to: Endpoint,
        tid: int,
        socket: int,
        now: float,
        *,
        value: bytes | None = None,
        token: bytes | None = None,
        target: bytes | None = None,
        error: int = 0,
    ) -> None:
        """Answer, within the budget of that host; with ``target`` the nearest nodes known are added."""
        closer = (
            tuple(contact.endpoint for contact in self.table.closest(target)) if target is not None else ()
        )
        data = Reply(tid, to, self._id_on(socket), token, closer, error, value).encode()
        if self.limit.allows(to.host, len(data), now):
            self.outbox.append(Outgoing(socket, to, data))
        if self.limit.should_ask(to.host, now):
            self.send_request(to, Internal.PING, now, internal=True, socket=socket)

    def _id_on(self, socket: int) -> bytes | None:
        return self.id if socket == SERVER else None
