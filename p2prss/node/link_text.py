"""Feeds as people pass them around: a bare key, or a ``p2prss://`` link with a name and peers."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from p2prss.crypto.key_text import format_key, parse_key
from p2prss.crypto.keys import CoreKey
from p2prss.drive.legacy_rss import parse_base64url_key
from p2prss.errors import UsageError
from p2prss.net.address import Address

SCHEMES: Final = ("p2prss", "hyper", "pear")
BASE64URL_LENGTH: Final = 43  # characters of a key
MAX_LINK_LENGTH: Final = 4096  # characters
MAX_PEERS: Final = 16  # addresses taken from one link
MAX_NAME_LENGTH: Final = 200  # characters


@dataclass(frozen=True, slots=True)
class FeedLink:
    """A feed's key, and what may be known besides."""

    key: CoreKey
    name: str | None = None
    peers: tuple[Address, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "FeedLink":
        """Read a 52-character z-base-32 or 64-digit hex key, or a p2prss, hyper or pear link.

        A key as hyper-rss shows it, 43 characters of base64url, is understood as well.

        Raises: UsageError that says what is wrong with the text.
        """
        text = text.strip()
        if len(text) > MAX_LINK_LENGTH:
            raise UsageError(f"a link of {len(text)} characters is too long")
        if len(text) == BASE64URL_LENGTH:
            with suppress(ValueError):
                return cls(parse_base64url_key(text))
        if "://" not in text:
            return cls(parse_key(text))
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise UsageError(f"not a link: {error}") from None
        if parts.scheme not in SCHEMES:
            raise UsageError(
                f"a {parts.scheme}:// address is no key; follow takes a key or a p2prss:// link"
                " (to mirror a feed yourself, use: p2prss publish)"
            )
        query = parse_qsl(parts.query)
        name = next((value[:MAX_NAME_LENGTH] for key, value in query if key == "name" and value), None)
        peers = [Address.parse(value) for key, value in query if key == "peer"]
        return cls(parse_key(parts.netloc), name, tuple(peers[:MAX_PEERS]))

    def __str__(self) -> str:
        query = [("name", self.name)] if self.name else []
        query += [("peer", str(peer)) for peer in self.peers]
        tail = f"?{urlencode(query, quote_via=quote, safe=':[]')}" if query else ""
        return f"p2prss://{format_key(self.key)}{tail}"
