"""The networks this machine is in, and which addresses are on them."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Final

import ifaddr

WIDEST: Final = {4: 8, 6: 48}  # shortest prefix of a network that we take for a local one, in bits
MAX_ADDRESSES: Final = 8  # of one node: more are neither announced nor tried
MAX_LOOKED_AT: Final = 32  # addresses of one announcement that are looked at


@dataclass(frozen=True, slots=True)
class Interface:
    """An address of ours, with its network; ``index`` is the system's number of the interface."""

    index: int
    address: IPv4Interface | IPv6Interface

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        """The address alone."""
        return self.address.ip

    def holds(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether the address is on this network, and may be a host's."""
        network = self.address.network
        if address.version != network.version or network.prefixlen < WIDEST[network.version]:
            return False
        if address not in network:
            return False
        ends = (network.network_address, network.broadcast_address)
        return network.version == 6 or network.prefixlen >= 31 or address not in ends


Interfaces = tuple[Interface, ...]


def on_link(text: str, interfaces: Iterable[Interface]) -> str | None:
    """The address as it is to be dialled, when it is that of a host on a local network.

    Addresses that are routed in the internet are refused even there, and so is this machine's loopback:
    no announcement may lead us to either.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    scope = None
    if isinstance(address, IPv6Address):
        scope, address = address.scope_id, IPv6Address(int(address))
        address = address.ipv4_mapped or address
    if address.is_global or address.is_loopback or address.is_multicast or address.is_unspecified:
        return None
    for interface in interfaces:
        if interface.holds(address):
            if not (address.version == 6 and address.is_link_local):
                return str(address)
            if scope in (None, str(interface.index)):
                return f"{address}%{interface.index}"
    return None


def all_on_link(texts: Iterable[str], interfaces: Interfaces) -> tuple[str, ...]:
    """Those of the addresses that may be dialled, each once, IPv4 first."""
    looked_at = [text for text, _ in zip(texts, range(MAX_LOOKED_AT), strict=False)]
    vetted = dict.fromkeys(filter(None, (on_link(text, interfaces) for text in looked_at)))
    return tuple(sorted(vetted, key=lambda text: ":" in text))[:MAX_ADDRESSES]


def local_interfaces() -> Interfaces:
    """The networks we may meet neighbours on: not the loopback, and no address that can't be used yet."""
    found: list[Interface] = []
    for adapter in ifaddr.get_adapters():
        for one in adapter.ips:
            text = one.ip if isinstance(one.ip, str) else one.ip[0]
            address = ip_interface(f"{text.partition('%')[0]}/{one.network_prefix}")
            ip = address.ip
            if not (ip.is_loopback or ip.is_unspecified) and _is_usable(ip, adapter.index or 0):
                found.append(Interface(adapter.index or 0, address))
    return tuple(sorted(found, key=lambda one: (one.index, one.address.version, int(one.ip))))


def _is_usable(ip: IPv4Address | IPv6Address, index: int) -> bool:
    """Whether the system lets us use it: a fresh IPv6 address is not ours until nobody else claims it."""
    if ip.version == 4:
        return True
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0, 0, index if ip.is_link_local else 0))
    except OSError:
        return False
    return True
