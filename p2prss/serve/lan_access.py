"""Addresses for phones on the local network: each opens one feed, for reading, and cannot be guessed; pure.

Everybody on a network can reach a server there, so the listener for it knows nothing but
``/lan/<token>/feeds/<key>/…``. The token follows from a secret of the home and the feed's key: it stays the
same for ever, as apps keep the address, and whoever was given one feed knows nothing of the others.
"""

import hmac
import re
from base64 import b32encode
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import ip_address
from typing import Final

from p2prss.crypto.key_text import format_key, parse_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import UsageError

SECRET_BYTES: Final = 32  # of the home's secret
TOKEN_BYTES: Final = 15  # of a token: 24 characters, which is more than anybody can try

_PATH: Final = re.compile(
    r"(?P<prefix>/lan/(?P<token>[a-z2-7]{24}))(?P<inner>/feeds/(?P<key>[a-z0-9]{52,64})/.*)"
)
_PERSON: Final = b"p2prss lan"


@dataclass(frozen=True, slots=True)
class LanPath:
    """A request that may be answered: ``prefix`` is before, ``inner`` is the path of the feed's own."""

    prefix: str
    inner: str


class LanAccess:
    """Who may read what. ``secret``: ``SECRET_BYTES`` bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def token(self, key: CoreKey) -> str:
        """The token of a feed: 24 characters of ``a-z2-7``."""
        digest = blake2b(key, key=self._secret, digest_size=TOKEN_BYTES, person=_PERSON).digest()
        return b32encode(digest).decode().lower()

    def feed_path(self, key: CoreKey) -> str:
        """The path of a feed's RSS on this listener."""
        return f"/lan/{self.token(key)}/feeds/{format_key(key)}/feed.xml"

    def open(self, path: str) -> LanPath | None:
        """What a request's path means, or None where it opens nothing."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        try:
            key = parse_key(found["key"])
        except UsageError:
            return None
        if not hmac.compare_digest(self.token(key), found["token"]):
            return None
        return LanPath(found["prefix"], found["inner"])


def is_local(client: str) -> bool:
    """Whether an address that a connection comes from is of a local network, or of this machine."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return (address.is_private or address.is_link_local or address.is_loopback) and not address.is_unspecified
