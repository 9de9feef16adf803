"""IPv4 endpoints: their six bytes on the wire, the node id they give, and which of them to believe.

Source: compact-encoding-net ``ipv4Address``, dht-rpc lib/peer.js, bogon; spec/07-net.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address
from typing import Final, NamedTuple

from p2prss.codec.compact import Reader, Writer
from p2prss.crypto.hashes import blake2b

ENDPOINT_SIZE: Final = 6  # bytes: four octets, port as u16 little-endian
ENDPOINT6_SIZE: Final = 18  # bytes
MAX_PORT: Final = 65535
_CACHED: Final = 8192  # endpoints whose bytes and ids are remembered


class Endpoint(NamedTuple):
    """A host as dotted (or IPv6) text and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@lru_cache(_CACHED)
def pack_endpoint(endpoint: Endpoint) -> bytes:
    """The 6 bytes of an IPv4 endpoint.

    Raises: ValueError when the host is no dotted IPv4 address or the port no u16.
    """
    host, port = endpoint
    octets = host.split(".")
    if len(octets) != 4 or not 0 <= port <= MAX_PORT:
        raise ValueError(f"no IPv4 endpoint: {host}:{port}")
    return bytes(map(int, octets)) + port.to_bytes(2, "little")


@lru_cache(_CACHED)
def unpack_endpoint(data: bytes) -> Endpoint:
    """The endpoint of exactly 6 bytes."""
    return Endpoint(".".join(map(str, data[:4])), data[4] | data[5] << 8)


@lru_cache(_CACHED)
def node_id(endpoint: Endpoint) -> bytes:
    """The id of the node at an endpoint: 32 bytes that nobody can choose without choosing an address."""
    return blake2b(pack_endpoint(endpoint))


def is_ipv4(endpoint: Endpoint) -> bool:
    """Whether ``pack_endpoint`` would take it: the one kind of address the network has."""
    octets = endpoint.host.split(".")
    return (
        len(octets) == 4
        and all(octet.isascii() and octet.isdigit() and int(octet) < 256 for octet in octets)
        and 0 <= endpoint.port <= MAX_PORT
    )


def read_endpoint(src: Reader) -> Endpoint:
    """Six bytes of a message."""
    return unpack_endpoint(src.fixed(ENDPOINT_SIZE))


def write_endpoints(out: Writer, endpoints: Sequence[Endpoint]) -> None:
    """A list of endpoints with its count in front."""
    out.uint(len(endpoints))
    for endpoint in endpoints:
        out.raw(pack_endpoint(endpoint))


def read_endpoints(src: Reader) -> tuple[Endpoint, ...]:
    """A list of endpoints; a datagram bounds how many there can be."""
    return tuple(src.array(read_endpoint, ENDPOINT_SIZE))


def write_endpoint6(out: Writer, endpoint: Endpoint) -> None:
    """The 18 bytes of an IPv6 endpoint: the address in network order, the port little-endian."""
    out.raw(IPv6Address(endpoint.host).packed + endpoint.port.to_bytes(2, "little"))


def read_endpoint6(src: Reader) -> Endpoint:
    """Eighteen bytes of a message."""
    data = src.fixed(ENDPOINT6_SIZE)
    return Endpoint(str(IPv6Address(data[:16])), data[16] | data[17] << 8)


def _ranges(*networks: str) -> tuple[tuple[int, int], ...]:
    parsed = [IPv4Network(network) for network in networks]
    return tuple((int(network.network_address), int(network.broadcast_address)) for network in parsed)


_PRIVATE: Final = _ranges(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"
)
_RESERVED: Final = _ranges(
    "0.0.0.0/8",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)


@lru_cache(_CACHED)
def is_private(host: str) -> bool:
    """Whether an IPv4 host means something on its own network only."""
    return _within(host, _PRIVATE)


@lru_cache(_CACHED)
def is_reserved(host: str) -> bool:
    """Whether an IPv4 host can belong to no single machine: never send there because a stranger says so."""
    return _within(host, _RESERVED)


def _within(host: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    number = int.from_bytes(map(int, host.split(".")), "big")
    return any(first <= number <= last for first, last in ranges)


def match_address(mine: Sequence[str], theirs: Sequence[Endpoint]) -> Endpoint | None:
    """Which of a peer's local endpoints shares most leading octets with one of our hosts.

    Returns: None when not even the first octet of any agrees.
    Source: hyperdht lib/connect.js ``matchAddress``.
    """
    best: Endpoint | None = None
    best_octets = 0
    for own in mine:
        octets = own.split(".")
        for endpoint in theirs:
            shared = 0
            for one, other in zip(octets, endpoint.host.split("."), strict=False):
                if one != other:
                    break
                shared += 1
            if shared > best_octets:
                best, best_octets = endpoint, shared
    return best
