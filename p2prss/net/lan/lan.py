"""Neighbours on the local network: announced, heard, dialled. Needs no internet and no DHT.

The shell around ``neighbours`` (whom to dial), ``announcement`` (what is said) and ``mdns`` (how). It
opens a listener of its own where the node has none that neighbours can reach; that one turns away
whoever is not on a local network.
"""

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from math import inf
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from p2prss.crypto.keys import DiscoveryKey, PublicKey
from p2prss.errors import DecodeError, NetworkError, P2prssError
from p2prss.net import tcp
from p2prss.net.address import Address
from p2prss.net.exchange import Exchange
from p2prss.net.lan.announcement import announcements, decode_name
from p2prss.net.lan.interfaces import MAX_ADDRESSES, Interfaces, all_on_link, local_interfaces, on_link
from p2prss.net.lan.neighbours import Neighbours

if TYPE_CHECKING:
    from p2prss.net.lan.mdns import Gone, Heard, Mdns, Report

LOOK_SECONDS: Final = 5.0  # between looks at the interfaces
NO_NETWORK_SECONDS: Final = 1.0  # likewise, while there is none
BROWSE_SECONDS: Final = 120.0  # between questions who is there, while somebody is
LONELY_SECONDS: Final = 30.0  # likewise, while nobody is known that has our feeds
CLOSE_SECONDS: Final = 2.0  # for goodbyes
CONNECT_SECONDS: Final = 5.0  # for all addresses of a neighbour
NEXT_ADDRESS_SECONDS: Final = 0.25  # until a neighbour's next address is tried beside the first
MAX_REPORTS: Final = 1024  # waiting to be worked on

_ANY: Final = {"0.0.0.0": 4, "::": 6}


class Lan:
    """Finds neighbours for the feeds that were added. ``run`` does it.

    ``listening`` is where the node accepts peers already; ``tell`` gets remarks for people.
    """

    def __init__(
        self,
        exchange: Exchange,
        random: Random,
        *,
        listening: Iterable[Address] = (),
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.neighbours = Neighbours(exchange.public_key, random)
        self.port: int | None = None  # of our own listener, where one was needed
        self._exchange = exchange
        self._listening = list(listening)
        self._tell = tell
        self._feeds: set[DiscoveryKey] = set()
        self._reports: deque[Heard | Gone] = deque(maxlen=MAX_REPORTS)
        self._interfaces: Interfaces = ()
        self._news = trio.Event()  # feeds added, or something heard
        self._turn = trio.Event()  # neighbours or links changed: look whom to dial
        self._dials: dict[PublicKey, trio.CancelScope] = {}
        self._feeds_changed = False
        self._complained = False

    def add(self, feed: DiscoveryKey) -> None:
        """Announce this feed, and look for others that have it."""
        if feed not in self._feeds:
            self._feeds.add(feed)
            self._feeds_changed = True
            self._news.set()

    def discard(self, feed: DiscoveryKey) -> None:
        """Announce it no longer."""
        if feed in self._feeds:
            self._feeds.discard(feed)
            self._feeds_changed = True
            self._news.set()

    async def run(self) -> None:
        """Never returns. A network that does not let us is tried again and again."""
        async with trio.open_nursery() as nursery:
            await self._listen(nursery)
            nursery.start_soon(self._watch_links)
            nursery.start_soon(self._dial_who_is_due, nursery)
            while True:
                self._interfaces = await trio.to_thread.run_sync(local_interfaces)
                if self._feeds and self._interfaces:
                    try:
                        await self._search(self._interfaces)
                    except NetworkError as error:
                        self._complain(str(error))
                        await trio.sleep(LOOK_SECONDS)
                else:
                    self._news = trio.Event()
                    with trio.move_on_after(NO_NETWORK_SECONDS if self._feeds else LOOK_SECONDS):
                        await self._news.wait()

    # ---- announcing and hearing

    async def _search(self, interfaces: Interfaces) -> None:
        """Announce and listen until this machine's networks change. Raises: NetworkError."""
        token = trio.lowlevel.current_trio_token()

        def report(news: "Heard | Gone") -> None:  # in another thread
            self._reports.append(news)
            token.run_sync_soon(self._wake, idempotent=True)

        mdns = await trio.to_thread.run_sync(_open_mdns, interfaces, report)
        try:
            self._feeds_changed = True
            browsed_at = -inf
            while await trio.to_thread.run_sync(local_interfaces) == interfaces:
                look_at = trio.current_time() + LOOK_SECONDS
                while trio.current_time() < look_at:
                    self._news = trio.Event()
                    if self._feeds_changed:
                        self._feeds_changed = False
                        self._announce(mdns)
                        browsed_at = -inf
                    pause = BROWSE_SECONDS if self.neighbours else LONELY_SECONDS
                    if trio.current_time() - browsed_at >= pause:
                        mdns.browse()
                        browsed_at = trio.current_time()
                    await self._take_reports()
                    with trio.move_on_at(look_at):
                        await self._news.wait()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
                await trio.to_thread.run_sync(mdns.close, abandon_on_cancel=True)

    def _wake(self) -> None:
        self._news.set()

    def _announce(self, mdns: "Mdns") -> None:
        """Say where we are: the addresses on which the node can be reached, if there are any."""
        for port, addresses in self._reachable():
            mdns.announce(announcements(self._exchange.public_key, self._feeds, port), addresses)
            return
        mdns.announce([], [])

    def _reachable(self) -> Iterable[tuple[int, list[str]]]:
        ips = [str(one.ip).partition("%")[0] for one in self._interfaces]
        local = [ip for ip in ips if on_link(ip, self._interfaces)]
        if self.port is not None:
            yield self.port, local[:MAX_ADDRESSES]
        for address in self._listening:
            version = _ANY.get(address.host)
            hosts = [ip for ip in local if ip_address(ip).version == version] if version else [address.host]
            hosts = [host for host in hosts if host in local]
            if hosts:
                yield address.port, hosts[:MAX_ADDRESSES]

    async def _take_reports(self) -> None:
        from p2prss.net.lan.mdns import Gone

        while self._reports:
            match self._reports.popleft():
                case Gone(name):
                    self._withdrawn(name)
                case (announcement, addresses):
                    if announcement.tells_of(self._feeds):
                        hosts = all_on_link(addresses, self._interfaces)
                        places = tuple(Address(host, announcement.port) for host in hosts)
                        now = trio.current_time()
                        self.neighbours.heard(announcement.key, announcement.part, places, now)
                    else:
                        self.neighbours.withdrawn(announcement.key, announcement.part)
            await trio.lowlevel.checkpoint()  # strangers may send many
        self._turn.set()

    def _withdrawn(self, name: str) -> None:
        with contextlib.suppress(DecodeError):  # there is none: mdns looked at it already
            self.neighbours.withdrawn(*decode_name(name))

    def _complain(self, message: str) -> None:
        if not self._complained:
            self._tell(message)
            self._complained = True

    # ---- links

    async def _watch_links(self) -> None:
        """Tell the machine of links, and end ours where there are two with the same node."""
        while True:
            changed = self._exchange.links_changed
            dialled: dict[PublicKey, list[bool]] = {}
            for link in self._exchange.links:
                if (handshake := link.connection.handshake) is not None:
                    dialled.setdefault(handshake.remote_public_key, []).append(link.connection.initiator)
            self.neighbours.links(dialled.keys(), trio.current_time())
            for key, ours in dialled.items():
                if (
                    len(ours) > 1
                    and key in self._dials
                    and (sum(ours) > 1 or key < self._exchange.public_key)
                ):
                    self._dials[key].cancel()  # the node with the smaller key keeps its own
            self._turn.set()
            await changed.wait()

    async def _dial_who_is_due(self, nursery: trio.Nursery) -> None:
        while True:
            self._turn = trio.Event()
            for neighbour in self.neighbours.due(trio.current_time()):
                nursery.start_soon(self._dial, neighbour.key, neighbour.addresses)
            with trio.move_on_at(self.neighbours.deadline):
                await self._turn.wait()

    async def _dial(self, key: PublicKey, addresses: tuple[Address, ...]) -> None:
        """One link to a neighbour, until it ends or can't be had."""
        scope = self._dials[key] = trio.CancelScope()
        with scope, contextlib.suppress(P2prssError):  # the machine decides when to try again
            stream, address = await connect_to_any(addresses)
            await self._exchange.use_stream(stream, True, str(address), expected=key)
        del self._dials[key]
        self.neighbours.ended(key, trio.current_time(), failed=not scope.cancelled_caught)
        self._turn.set()

    # ---- our own listener

    async def _listen(self, nursery: trio.Nursery) -> None:
        """Open a port for neighbours, unless the user said where to listen."""
        if self._listening:
            return
        try:
            listener = open_lan_listener()
        except OSError as error:
            self._complain(f"neighbours cannot connect to this node: {error.strerror or error}")
            return
        self.port = tcp.bound_address(listener).port
        nursery.start_soon(tcp.serve_listener, listener, self._use_accepted, nursery)

    async def _use_accepted(self, stream: trio.SocketStream, initiator: bool, _: str) -> None:
        """A peer came to our own port: it must be a neighbour."""
        name = stream.socket.getpeername()  # of IPv6 with the number of the interface at its end
        host, scope = name[0], name[3] if len(name) == 4 else 0
        vetted = on_link(f"{host}%{scope}" if scope and "%" not in host else host, self._interfaces)
        if vetted is None:
            return
        with contextlib.suppress(P2prssError):  # the exchange counts them
            await self._exchange.use_stream(stream, initiator, str(Address(vetted, name[1])))


def _open_mdns(interfaces: Interfaces, report: "Report") -> "Mdns":
    """Runs in a worker thread: the import takes a while. Raises: NetworkError."""
    from p2prss.net.lan.mdns import Mdns

    return Mdns(interfaces, report)


def open_lan_listener() -> trio.SocketListener:
    """A listener on a free port of every address, IPv6 and IPv4 on the same one. Raises: OSError."""
    try:
        opened = socket.create_server(
            ("::", 0), family=socket.AF_INET6, backlog=tcp.LISTEN_BACKLOG, dualstack_ipv6=True
        )
    except (OSError, ValueError):  # a system without IPv6
        opened = socket.create_server(("0.0.0.0", 0), backlog=tcp.LISTEN_BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(opened))


async def connect_to_any(addresses: tuple[Address, ...]) -> tuple[trio.SocketStream, Address]:
    """Connect to the first of the addresses that answers; each has a little start over the next.

    Raises: NetworkError when none does.
    """
    found: list[tuple[trio.SocketStream, Address]] = []
    with trio.move_on_after(CONNECT_SECONDS):
        async with trio.open_nursery() as nursery:

            async def attempt(address: Address, failed: trio.Event) -> None:
                try:
                    stream = await tcp.connect(address)
                except NetworkError:
                    failed.set()
                    return
                if found:
                    await trio.aclose_forcefully(stream)
                else:
                    found.append((stream, address))
                    nursery.cancel_scope.cancel()

            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(NEXT_ADDRESS_SECONDS):
                    await failed.wait()
    if not found:
        raise NetworkError("no address of the neighbour answers")
    return found[0]
