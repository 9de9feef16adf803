"""How a client addressed us when a reverse proxy stands in between; pure.

A proxy passes on the scheme, host and path prefix that its client used, in ``X-Forwarded-Proto``,
``-Host`` and ``-Prefix`` or in ``Forwarded`` (RFC 7239). Anybody can write these headers, so they
count only from addresses that the user trusts; and what they name must be an allowed host like any
other, for a page in a browser on the proxy's own machine has a trusted address, too.

Of several values the last counts: that of the proxy next to us. Proxies pass on headers they do not
know, so ``Forwarded`` is looked at only where there is no ``X-Forwarded-`` one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from p2prss.errors import UsageError

MAX_PREFIX_LENGTH: Final = 255  # characters of a path prefix
MAX_FORWARDED_LENGTH: Final = 2048  # characters of a Forwarded header worth reading

Network = IPv4Network | IPv6Network

_PREFIX: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*")
_PAIR: Final = re.compile(r'\s*([A-Za-z]+)=("((?:[^"\\]|\\.)*)"|[^\s;,"]*)\s*(;|,|$)')


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What a proxy tells; None for what it does not. ``prefix`` has no slash at its end."""

    scheme: str | None = None
    host: str | None = None
    prefix: str = ""


def parse_network(text: str) -> Network:
    """An address or a network: ``127.0.0.1``, ``10.0.0.0/8``, ``::1``. Raises: UsageError."""
    try:
        return ip_network(text.strip("[]"), strict=False)
    except ValueError:
        raise UsageError(
            f"{text!r} is no address or network of a proxy: write 127.0.0.1 or 10.0.0.0/8"
        ) from None


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    """Whether the address a connection comes from is a trusted proxy's."""
    if not trusted:
        return False
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in trusted)


def read_forwarded(headers: Mapping[str, str]) -> Forwarded:
    """What the headers of a trusted proxy say; what makes no sense is left out.

    The host is as written: whether it is allowed is for the caller to check.
    """
    told = {name: headers.get(f"x-forwarded-{name}") for name in ("proto", "host", "prefix")}
    if told["proto"] is None and told["host"] is None:
        told |= _last_element(headers.get("forwarded", ""))
    scheme = _last(told["proto"]).lower()
    return Forwarded(
        scheme=scheme if scheme in ("http", "https") else None,
        host=_last(told["host"]) or None,
        prefix=clean_prefix(_last(told["prefix"])) or "",
    )


def clean_prefix(text: str) -> str | None:
    """A path prefix without its last slash, or None where it is none: ``/pods/`` -> ``/pods``."""
    text = text.rstrip("/")
    return text if len(text) <= MAX_PREFIX_LENGTH and _PREFIX.fullmatch(text) else None


def _last(values: str | None) -> str:
    return (values or "").rpartition(",")[2].strip()


def _last_element(header: str) -> dict[str, str | None]:
    """The host and proto of the last element of a ``Forwarded`` header; nothing where it is malformed."""
    found: dict[str, str | None] = {}
    place = 0
    if len(header) > MAX_FORWARDED_LENGTH:
        return {}
    while place < len(header):
        pair = _PAIR.match(header, place)
        if pair is None:
            return {}
        name, value = pair[1].lower(), pair[2] if pair[3] is None else re.sub(r"\\(.)", r"\1", pair[3])
        if name in ("host", "proto"):
            found[name] = value
        place = pair.end()
        if pair[4] == "," and place < len(header):
            found = {}
    return found
