"""Which Host a request may name, and the base of the URLs we hand out; pure.

A web page anywhere can point a name of its own at 127.0.0.1 and then read our answers as if they were
its own (DNS rebinding). It cannot choose what its browser sends as Host, so a request is answered
only when that is a loopback name or one the user configured. The port does not matter: a port
forwarded by ssh or a container is still us.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from p2prss.errors import UsageError
from p2prss.serve.library import ServeSettings
from p2prss.serve.proxies import clean_prefix, is_trusted, read_forwarded

MAX_HOST_LENGTH: Final = 255  # characters; the longest DNS name

_OWN_FOLDERS: Final = frozenset(
    {"api", "feeds", "shows", "static"}
)  # a proxy has to take such a sub-path away

_AUTHORITY: Final = re.compile(
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?)\.?(:(?P<port>[0-9]{0,5}))?"
)


def is_allowed(authority: str, settings: ServeSettings) -> bool:
    """Whether ``authority``, the value of a Host header, is a way to address this program."""
    if len(authority) > MAX_HOST_LENGTH:
        return False
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found["port"] or 0) > 65535:
        return False
    host = found["host"].lower().strip("[]")
    if host == "localhost" or _is_loopback(host) or host in settings.allowed_hosts:
        return True
    return host == (urlsplit(settings.public_url or "").hostname or "")


@dataclass(frozen=True, slots=True)
class Reached:
    """By which address a client reached us; ``prefix`` is the path a proxy serves us below, or empty."""

    scheme: str
    authority: str
    prefix: str = ""


def reached_by(
    scheme: str, host: str | None, peer: str, headers: Mapping[str, str], settings: ServeSettings
) -> Reached | None:
    """The address of a request, with what a trusted proxy says of it; None when no such host is allowed.

    Both the Host of the request and that of the proxy have to be allowed: with a name of its own for
    127.0.0.1, a web page sends requests from the very address a proxy on this machine has.

    Args: host: of the request itself; peer: the address the connection comes from.
    """
    if host is None or not is_allowed(host, settings):
        return None
    if not is_trusted(peer, settings.trusted_proxies):
        return Reached(scheme, host)
    told = read_forwarded(headers)
    if told.host is not None and not is_allowed(told.host, settings):
        return None
    return Reached(told.scheme or scheme, told.host or host, told.prefix)


def base_url(reached: Reached, settings: ServeSettings) -> str:
    """What every absolute URL of an answer starts with, without a slash at the end."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    return f"{reached.scheme}://{reached.authority.lower().rstrip(':')}{reached.prefix}"


def inner_path(path: str, reached: Reached, settings: ServeSettings) -> str:
    """The path of a request without the sub-path, which a proxy may take away or leave on."""
    public = urlsplit(settings.public_url or "").path.rstrip("/")
    for prefix in (public, reached.prefix):
        if prefix and prefix.split("/")[1] not in _OWN_FOLDERS and path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
    return path


def parse_public_url(text: str) -> str:
    """The base URL that a proxy answers to, without a slash at its end. Raises: UsageError."""
    wrong = UsageError(f"{text!r} is no base URL: write https://pods.example.org or https://example.org/pods")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    prefix = clean_prefix(parts.path)
    named = parts.hostname is not None and _AUTHORITY.fullmatch(parts.netloc)
    if parts.scheme not in ("http", "https") or not named or prefix is None or port == 0 or "?" in text:
        raise wrong
    if parts.fragment or parts.query or not text.isascii():
        raise wrong
    return f"{parts.scheme}://{parts.netloc.lower().rstrip(':')}{prefix}"


def parse_host(text: str) -> str:
    """A name or address that clients may use for us; a port is left out. Raises: UsageError."""
    found = _AUTHORITY.fullmatch(text) if len(text) <= MAX_HOST_LENGTH else None
    if found is None:
        raise UsageError(f"{text!r} is no host name: write pods.example.org or 192.0.2.7")
    return found["host"].lower().strip("[]")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
