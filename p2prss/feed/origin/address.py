"""Which addresses a feed may make us connect to: those of others on the open internet."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_GLOBAL_UNICAST: Final = ip_network("2000::/3")  # all that IANA has given out of IPv6
_NOT_PUBLIC: Final = tuple(
    ip_network(text)
    for text in (  # beyond what ``is_global`` knows in every Python we run on
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "2002::/16",  # 6to4: an IPv4 address inside, which may be private
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",  # for documentation
        "3fff::/20",  # likewise
    )
)


def is_public(address: str) -> bool:
    """Whether an IP address is somebody else's on the open internet; False for what is no address.

    NAT64 (``64:ff9b::/96``, ``64:ff9b:1::/48``), IPv4-compatible and site-local addresses lie outside of
    global unicast; a mapped IPv4 address counts as what is mapped.
    """
    try:
        ip: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return False
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)
