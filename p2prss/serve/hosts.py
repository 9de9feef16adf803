"""Which Host a request may name, and the base of the URLs we hand out; pure.

A web page anywhere can point a name of its own at 127.0.0.1 and then read our answers as if they were
its own (DNS rebinding). It cannot choose what its browser sends as Host, so a request is answered
only when that is a loopback name or one the user configured. The port does not matter: a port
forwarded by ssh or a container is still us.
"""

import re
from ipaddress import ip_address
from typing import Final

from p2prss.serve.library import ServeSettings

MAX_HOST_LENGTH: Final = 255  # characters; the longest DNS name

_AUTHORITY: Final = re.compile(
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?)\.?(:(?P<port>[0-9]{1,5}))?"
)


def is_allowed(authority: str, settings: ServeSettings) -> bool:
    """Whether ``authority``, the value of a Host header, is a way to address this program."""
    if len(authority) > MAX_HOST_LENGTH:
        return False
    found = _AUTHORITY.fullmatch(authority)
    if found is None or int(found["port"] or 0) > 65535:
        return False
    host = found["host"].lower().strip("[]")
    return host == "localhost" or _is_loopback(host) or host in settings.allowed_hosts


def base_url(scheme: str, authority: str, settings: ServeSettings) -> str:
    """What every absolute URL of an answer starts with, without a slash at the end.

    Args: authority: a Host that ``is_allowed``.
    """
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    return f"{scheme}://{authority.lower()}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
