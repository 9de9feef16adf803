"""A DHT node that does nothing else: where a community's own network begins, or one more node of it.

Alone it is a network: it knows its address, keeps records from the first second, and asks nobody for
anything. With bootstrap nodes it joins theirs; it then keeps records as soon as one of them has proved that
strangers reach it, unless its address is given. Public nodes are asked only when they are named.

Records live in memory for minutes to days, as everywhere in the DHT: those who announced say so again, so a
node that is started anew, or killed, costs the network nothing once two others are there.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Final

import msgspec
import trio

from p2prss.errors import UsageError
from p2prss.net.address import Address
from p2prss.net.dht.bootstrap import Bootstrap
from p2prss.net.dht.client import DhtNode
from p2prss.net.dht.endpoint import Endpoint, is_ipv4
from p2prss.net.dht.shell import NetworkView
from p2prss.net.dht.udp import UdpSocket
from p2prss.net.lan.interfaces import local_interfaces
from p2prss.net.nat_pmp import Transport
from p2prss.net.port_mapping import default_gateway, keep_port_mapped
from p2prss.node.events import Notice
from p2prss.node.forwarded_port import ForwardedPort

ANY: Final = "0.0.0.0"  # listening everywhere
NOBODY_SECONDS: Final = 10.0  # without an answer of a bootstrap node, until we say so
STATISTICS_SECONDS: Final = 60.0  # between reports


class Listening(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="listening"):
    """The node is up. ``bootstrap`` is what others start from: ``p2prss … --bootstrap HOST:PORT``.

    Told again when the network has proved another address. ``own_network`` when it began one;
    ``reachable`` says whether the address was given or proven, and not merely guessed.
    """

    listen: str
    bootstrap: str
    others: list[str]  # further addresses of this machine: who uses them starts, but keeps nothing here
    joined: list[str]
    own_network: bool
    reachable: bool


class Statistics(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="statistics"):
    """The node's state and what it has done since its start."""

    uptime_seconds: float
    nodes: int  # in the routing table
    persistent: bool  # keeps records for others
    reachable: bool
    address: str | None  # as the others see it; port 0 when each sees another
    requests_answered: int
    requests_sent: int
    requests_failed: int
    replies_refused: int  # over a host's budget
    forwarded: int  # handshakes of others
    undecodable: int  # datagrams
    stored: dict[str, int]


ServiceEvent = Listening | Statistics | Notice
Tell = Callable[[ServiceEvent], None]


@dataclass(frozen=True, slots=True)
class DhtServiceSettings:
    """How the node takes part; made by ``of``.

    ``listen`` None means the usual port on all interfaces, or one of its neighbours when it is taken.
    """

    listen: Address | None = None
    bootstrap: tuple[str, ...] = ()
    public: Address | None = None
    statistics_seconds: float = STATISTICS_SECONDS
    map_port: bool = False  # ask the router to forward the port
    gateway: tuple[str, int] | None = None  # to be asked for that, else the one of the default route

    @classmethod
    def of(
        cls,
        *,
        listen: str | None,
        udp_port: int | None = None,
        bootstrap: Sequence[str] = (),
        public: str | None = None,
        statistics_seconds: float = STATISTICS_SECONDS,
        map_port: bool = False,
    ) -> "DhtServiceSettings":
        """Settings from texts; ``udp_port`` means that port on all interfaces.

        Raises: UsageError for an address that is none.
        """
        if udp_port is not None:
            if listen is not None:
                raise UsageError("--listen names the port already: drop --udp-port")
            listen = str(Address(ANY, udp_port))
        for text in bootstrap:
            Bootstrap.parse(text)
        known = None if public is None else Address.parse(public)
        if known is not None and (known.port == 0 or ":" in known.host or known.host == ANY):
            raise UsageError(
                f"{public!r} is no address that others can send to; write IPV4:PORT or NAME:PORT"
            )
        place = None if listen is None else Address.parse(listen, default_host=ANY)
        return cls(place, tuple(bootstrap), known, statistics_seconds, map_port)


class DhtService:
    """A running node and where it is to be found; made by ``open_dht_service``."""

    def __init__(
        self,
        settings: DhtServiceSettings,
        node: DhtNode,
        listen: Address,
        known: Address,
        forwarded: ForwardedPort,
    ) -> None:
        self.node = node
        self.listen = listen
        self.forwarded = forwarded
        self._settings = settings
        self._known = known
        self._missed: list[str] = []  # the addresses found when ours was missing
        self._started_at = trio.current_time()

    @property
    def listening(self) -> Listening:
        """Where the node is, as far as is known now."""
        seen = self.node.public_endpoint
        settings = self._settings
        proven = Address(*seen) if seen is not None else None
        given = settings.public or self.forwarded.public or proven
        address = given or self._known
        others = [Address(host, self.listen.port) for host in _own_hosts(self.listen.host)]
        return Listening(
            listen=str(self.listen),
            bootstrap=str(address),
            others=[str(one) for one in others if one != address and settings.public is None],
            joined=list(settings.bootstrap),
            own_network=not settings.bootstrap,
            reachable=given is not None,
        )

    @property
    def statistics(self) -> Statistics:
        """What the node has done until now."""
        now = self.node.statistics()
        seen = now.public_host
        return Statistics(
            uptime_seconds=round(trio.current_time() - self._started_at, 3),
            nodes=now.nodes,
            persistent=now.persistent,
            reachable=not now.firewalled,
            address=None if seen is None else str(Endpoint(seen, now.public_port)),
            requests_answered=now.requests_answered,
            requests_sent=now.requests_sent,
            requests_failed=now.requests_failed,
            replies_refused=now.replies_refused,
            forwarded=now.forwarded,
            undecodable=now.undecodable,
            stored=now.stored,
        )

    async def run(self, tell: Tell) -> None:
        """Say where the node is, and what it does, until cancelled; the last words are its statistics."""
        async with trio.open_nursery() as nursery:
            told, view = self.listening, self.node.network_view
            tell(told)
            nursery.start_soon(self._tell_addresses, tell, told, view)
            if self._settings.map_port:
                nursery.start_soon(self._tell_forwarded, tell)
            if self._settings.bootstrap:
                nursery.start_soon(self._tell_if_alone, tell)
            try:
                while True:
                    await trio.sleep(self._settings.statistics_seconds)
                    tell(self.statistics)
                    self._tell_if_moved(tell)
            finally:
                tell(self.statistics)

    def _tell_if_moved(self, tell: Tell) -> None:
        """Tell, once for each, of an address that this machine has no longer: others look for us there."""
        guessed = self._known.host
        if self.listening.bootstrap == str(self._known) and guessed not in (
            now := _own_hosts(self.listen.host)
        ):
            if self._missed != now:
                what = f"this machine is no longer {guessed}, but {', '.join(now)}"
                tell(Notice(message=f"{what}; start the node again, and tell the others its new address"))
            self._missed = now

    async def _tell_addresses(self, tell: Tell, told: Listening, view: NetworkView) -> None:
        """Tell anew when others see us elsewhere than was ``told`` when the network had that ``view``."""
        while True:
            view = await self.node.wait_network_change(view)
            if (now := self.listening) != told:
                told = now
                tell(now)

    async def _tell_forwarded(self, tell: Tell) -> None:
        while True:
            tell(Notice(message=str(self.forwarded)))
            await self.forwarded.changed.wait()

    async def _tell_if_alone(self, tell: Tell) -> None:
        with trio.move_on_after(NOBODY_SECONDS):
            await self.node.wait_bootstrapped()
        if not self.node.statistics().nodes:
            names = ", ".join(self._settings.bootstrap)
            tell(Notice(message=f"no node answers at {names}; still trying"))


@asynccontextmanager
async def open_dht_service(settings: DhtServiceSettings) -> AsyncIterator[DhtService]:
    """A node on two sockets of its own, running until the block ends.

    Raises: NetworkError when the port is taken; UsageError when the public name is unknown.
    """
    place = settings.listen
    server = UdpSocket.bind_default(ANY) if place is None else UdpSocket.bind(place.host, place.port)
    listen, forwarded = Address(*server.address), ForwardedPort()
    known = Address((_own_hosts(listen.host) or [listen.host])[0], listen.port)
    client = UdpSocket.bind(listen.host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        nursery.start_soon(client.run)
        if settings.map_port:
            keep = partial(
                keep_port_mapped, Transport.UDP, listen.port, forwarded.change, gateway=settings.gateway
            )
            await nursery.start(keep)
        public = settings.public or forwarded.public
        if public is None and not settings.bootstrap:
            public = known  # nobody could prove it; of a network of our own we are the judge
        node = DhtNode(
            server,
            client,
            bootstraps=settings.bootstrap,
            ephemeral=False,
            public_endpoint=None if public is None else await _resolve(public),
        )
        await nursery.start(node.run)
        yield DhtService(settings, node, listen, known, forwarded)
        nursery.cancel_scope.cancel()


async def run_dht_service(settings: DhtServiceSettings, tell: Tell) -> None:
    """Serve until cancelled. Raises: NetworkError, UsageError."""
    async with open_dht_service(settings) as service:
        await service.run(tell)


def _own_hosts(host: str) -> list[str]:
    """IPv4 addresses of a socket bound to ``host``, that on the side of the router first; or else loopback.

    A node is known by one of them: records are kept only for those who see it under that address.
    """
    if host != ANY:
        return [host]
    router = default_gateway()
    outside = None if router is None else ip_address(router)
    found = [one for one in local_interfaces() if one.ip.version == 4]
    found.sort(key=lambda one: outside is None or not one.holds(outside))
    return [str(one.ip) for one in found] or ["127.0.0.1"]


async def _resolve(public: Address) -> Endpoint:
    """The address of the public name. Raises: UsageError."""
    known = Endpoint(public.host, public.port)
    if is_ipv4(known):
        return known
    found = await Bootstrap(public.host, public.port).resolve()
    if found is None:
        raise UsageError(f"the name {public.host} has no address")
    return found
