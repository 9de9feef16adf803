"""The doctor's look at the network: the port for podcast apps, the local network, and the DHT.

Only ``check_dht`` sends anything, to the nodes it was told to start from and to those they name. It takes
part as a visitor that keeps nothing for others, on ports of its own, whether a node runs here or not.
"""

import errno
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes
from time import monotonic
from typing import Final

import trio

from p2prss.errors import NetworkError
from p2prss.net.address import Address
from p2prss.net.dht.bootstrap import PUBLIC_BOOTSTRAPS, Bootstrap
from p2prss.net.dht.client import DhtNode
from p2prss.net.dht.endpoint import Endpoint, is_private
from p2prss.net.dht.handshake import Firewall
from p2prss.net.dht.nat import PunchSampler
from p2prss.net.dht.state import SERVER
from p2prss.net.dht.udp import UdpSocket
from p2prss.net.lan.interfaces import Interfaces, local_interfaces
from p2prss.node.doctor_checks import Check, ok, problem, unknown, warning

BOOTSTRAP_SECONDS: Final = 10.0  # for the first nodes to answer
PROOF_SECONDS: Final = 5.0  # for the proof that strangers reach us
LOOKUP_SECONDS: Final = 20.0  # after which a lookup is broken off
SLOW_LOOKUP: Final = 5.0  # seconds
ASKED: Final = 8  # nodes, for how they see one socket of ours
FEW_NODES: Final = 20  # in the table: the public network has thousands
MDNS: Final = ("224.0.0.251", 5353)
_IFF_MULTICAST: Final = 0x1000  # flag of an interface, <net/if.h>
INTERFACES: Final = Path("/sys/class/net")


def check_http(address: Address, *, moves: bool, running: str | None) -> Check:
    """Can podcast apps be served there? ``running`` is where the node that runs here does it already."""
    if running is not None:
        return ok("http", f"the node that runs here serves podcast apps at {running}", url=running)
    try:
        _try_to_bind(address)
    except OSError as error:
        what = f"{address}: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE and moves:
            step = "name a free one with --http, so that the addresses in podcast apps stay the same"
            return warning("http", f"{what}; podcast apps would be served on another port each time", step)
        return problem("http", NetworkError, what, "choose another address with --http, or --no-http")
    return ok("http", f"{address} is free for podcast apps")


def check_lan() -> Check:
    """Can peers on the local network find us? Nothing is sent."""
    interfaces = local_interfaces()
    if not interfaces:
        return warning(
            "lan", "this machine is in no network", "connect it to one, or to others with --peer HOST:PORT"
        )
    addresses = [str(one.ip) for one in interfaces]
    told = f"this machine is {', '.join(addresses)}"
    if not _multicast(interfaces):
        return warning(
            "lan",
            f"{told}; no interface can do multicast",
            "give peers by --peer HOST:PORT",
            addresses=addresses,
        )
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(("0.0.0.0", MDNS[1]))
            probe.connect(MDNS)  # finds a route; sends nothing
    except OSError as error:
        cause = f"{told}; multicast DNS is not possible: {error.strerror}"
        step = "end what holds UDP port 5353 for itself, or give peers by --peer HOST:PORT"
        return warning("lan", cause, step, addresses=addresses)
    return ok("lan", f"{told}; peers there can be found by multicast DNS", addresses=addresses)


def no_dht() -> list[Check]:
    """What is to be said when nothing may be sent."""
    cause = "not looked at, because of --no-dht"
    return [unknown(name, cause) for name in ("nat", "port", "dht")]


async def check_dht(bootstraps: Sequence[str], port: int | None) -> list[Check]:
    """What kind of NAT there is, whether strangers reach a port, and how the DHT does.

    Args: bootstraps: nodes to start from, none for the public ones; port: UDP port to look at, None for the
    usual one.
    """
    starts = tuple(bootstraps) or PUBLIC_BOOTSTRAPS
    try:
        server = UdpSocket.bind_default() if port is None else UdpSocket.bind(port=port)
    except NetworkError as error:
        step = "if a node uses it, look from another with --udp-port 0; else choose another port"
        return [problem("port", NetworkError, str(error), step)]
    client, probe = UdpSocket.bind(), UdpSocket.bind()
    node = DhtNode(server, client, bootstraps=starts, ephemeral=True)
    async with trio.open_nursery() as nursery:
        for one in (server, client, probe):
            nursery.start_soon(one.run)
        await nursery.start(node.run)
        with trio.move_on_after(BOOTSTRAP_SECONDS):
            await node.wait_bootstrapped()
        if node.statistics().round_trip is None:
            checks = _nobody(starts, own=bool(bootstraps))
        else:
            checks = await _look_around(node, probe, starts, public=not bootstraps)
        nursery.cancel_scope.cancel()
    return checks


@dataclass
class _Seen:
    """What three looks at the same time bring back."""

    sampler: PunchSampler
    lookup_seconds: float | None = None
    answered: int = 0


async def _look_around(
    node: DhtNode, probe: UdpSocket, starts: Sequence[str], *, public: bool
) -> list[Check]:
    seen = _Seen(PunchSampler())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_sample, node, node.add_socket(probe), starts, seen)
        nursery.start_soon(_look_up, node, seen)
        nursery.start_soon(_wait_for_proof, node)
    public_endpoint, nodes = node.public_endpoint, node.statistics().nodes
    return [
        nat_check(public_endpoint, seen.sampler, {str(one.ip) for one in local_interfaces()}),
        port_check(node.socket(SERVER).address[1], public_endpoint, seen.sampler),
        health_check(nodes, seen.lookup_seconds, seen.answered, public=public),
    ]


async def _sample(node: DhtNode, number: int, starts: Sequence[str], seen: _Seen) -> None:
    """Ask some nodes, each once, where they see one socket."""
    known = [one.known for one in map(Bootstrap.parse, starts) if one.known is not None]
    asked = list(dict.fromkeys([*node.recent_nodes(ASKED), *known]))[:ASKED]

    async def ask(endpoint: Endpoint) -> None:
        try:
            response = await node.ping(endpoint, socket=number, sends=2)
        except NetworkError:
            return
        seen.sampler.add(response.reply.to)

    async with trio.open_nursery() as nursery:
        for endpoint in asked:
            nursery.start_soon(ask, endpoint)


async def _look_up(node: DhtNode, seen: _Seen) -> None:
    """Look up something that nobody has."""
    started = monotonic()
    with trio.move_on_after(LOOKUP_SECONDS):
        seen.answered = len((await node.lookup(token_bytes(32))).closest)
        seen.lookup_seconds = monotonic() - started


async def _wait_for_proof(node: DhtNode) -> None:
    with trio.move_on_after(PROOF_SECONDS):
        view = node.network_view
        while view.firewalled:
            view = await node.wait_network_change(view)


def _nobody(starts: Sequence[str], *, own: bool) -> list[Check]:
    names = ", ".join(starts)
    unseen = "nobody answered, so nothing can be said"
    if (reason := _no_route()) is not None:
        cause, step = f"this machine has no way out: {reason}", "connect it to a network"
    elif own:
        cause = f"no node answers at {names}"
        step = "see that p2prss node runs there, and that UDP is let through"
    else:
        cause = f"no UDP: none of the public nodes answers ({names})"
        step = "let UDP out in the firewall; without it p2prss works by --peer and on the local network"
    return [
        problem("nat", NetworkError, cause, step, kind="no-udp"),
        unknown("port", unseen),
        unknown("dht", unseen),
    ]


def _no_route() -> str | None:
    """Why nothing can be sent to the internet, if the system knows; nothing is sent to find out."""
    known = Bootstrap.parse(PUBLIC_BOOTSTRAPS[0]).known
    assert known is not None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(known)
    except OSError as error:
        return error.strerror or str(error)
    return None


def nat_check(
    public_endpoint: Endpoint | None, sampler: PunchSampler, own_hosts: Collection[str] = ()
) -> Check:
    """What kind of NAT there is, in the words of those who have to live with it.

    Args: own_hosts: this machine's addresses; who is seen under one of them has no NAT.
    """
    if public_endpoint is not None:
        who = "others on this network" if is_private(public_endpoint.host) else "strangers"
        return ok("nat", f"open: {who} reach this machine", kind="open")
    seen = [str(one) for one in sampler.addresses or ()]
    match sampler.firewall:
        case Firewall.CONSISTENT:
            cause = "consistent: peers that know of each other get through the router"
            if sampler.addresses and sampler.addresses[0].host in own_hosts:
                cause = (
                    "consistent: there is no NAT but a firewall; peers that know of each other get through"
                )
            return ok("nat", cause, kind="consistent", seen_as=seen)
        case Firewall.RANDOM:
            cause = "random: the router uses another port for each peer; two such machines cannot meet"
            step = "forward a UDP port in the router, or use another router"
            return warning("nat", cause, step, kind="random", seen_as=seen)
        case _:
            cause = f"{sampler.sampled} nodes said where they see this machine, too few to tell"
            return unknown("nat", cause, "look again when the network has three nodes or more")


def port_check(number: int, public_endpoint: Endpoint | None, sampler: PunchSampler) -> Check:
    """Whether that UDP port of ours is reached by who was never asked."""
    if public_endpoint is not None:
        return ok("port", f"UDP {public_endpoint} is reached", port=number, address=str(public_endpoint))
    step = (
        f"forward UDP port {number} in the router, let it through the firewall, "
        f"and run p2prss with --udp-port {number}"
    )
    if sampler.firewall is Firewall.CONSISTENT:
        step += "; for listening that is not needed"
    return warning("port", f"UDP port {number} is not reached from outside", step, port=number, address=None)


def health_check(nodes: int, lookup_seconds: float | None, answered: int, *, public: bool) -> Check:
    """How the DHT does; ``lookup_seconds`` None: it was broken off."""
    if lookup_seconds is None:
        cause = f"{nodes} nodes known, but a lookup takes more than {LOOKUP_SECONDS:.0f} s"
        return warning("dht", cause, "see whether the line is overloaded", nodes=nodes, lookup_seconds=None)
    told = f"{nodes} nodes known; a lookup took {lookup_seconds:.1f} s, {answered} nodes answered it"
    facts = {"nodes": nodes, "lookup_seconds": round(lookup_seconds, 3), "answered": answered}
    if not answered:
        step = "use the very address that p2prss node printed, or look again in a minute"
        return warning("dht", f"{told}: nobody keeps anything", step, **facts)
    if lookup_seconds > SLOW_LOOKUP:
        return warning("dht", f"{told}, which is slow", "see whether the line is overloaded", **facts)
    if public and nodes < FEW_NODES:
        return warning("dht", f"{told}; the public network has many more", "look again in a minute", **facts)
    return ok("dht", told, **facts)


def _try_to_bind(address: Address) -> None:
    """Raises: OSError when nobody could listen there."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, place in dict.fromkeys(found):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(place)


def _multicast(interfaces: Interfaces) -> bool:
    """Whether any of them can; where the system does not tell, we believe so."""
    for index in {one.index for one in interfaces}:
        try:
            name = socket.if_indextoname(index)
            flags = int((INTERFACES / name / "flags").read_text("ascii"), 16)
        except (OSError, ValueError):
            return True
        if flags & _IFF_MULTICAST:
            return True
    return False
