"""From an address that people know to the key of its feed; pure.

All that is read here was written by strangers; that a key is the origin's own shows only when the signed
feed names the origin as well (``is_of_site``). Source: spec/08-feeds, "Finding a feed by its address".
"""

import re
from collections import Counter
from typing import Final
from urllib.parse import urljoin, urlsplit

from lxml import etree, html

from p2prss.crypto.key_text import parse_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import UsageError
from p2prss.feed.linking.rights import read_rights
from p2prss.feed.model import ParsedFeed, Role
from p2prss.units import KIB, MB

WELL_KNOWN_PATH: Final = "/.well-known/p2prss"
MAX_NOTE_BYTES: Final = 64 * KIB  # of the file there
MAX_PAGE_BYTES: Final = 5 * MB  # of a web page that is searched for feeds
MAX_FEED_LINKS: Final = 3  # feeds of one page that are looked at

_FEED_TYPES: Final = frozenset({"application/rss+xml", "application/atom+xml"})
_HYPER: Final = re.compile(r"hyper://([^/?#]+)")


def key_in_feed(feed: ParsedFeed) -> CoreKey | None:
    """The key that a feed of an origin names: as its own, or as the place of most of its episodes."""
    if keys := read_rights(feed.channel.xml).keys:
        return keys[0]
    named: Counter[CoreKey] = Counter()
    for item in feed.items:
        for file in item.files:
            found = _HYPER.match(file.url) if file.role is Role.ALTERNATE else None
            if found and (key := _key(found[1])) is not None:
                named[key] += 1
    return max(named, key=lambda key: named[key], default=None)


def feed_links(page: bytes, url: str) -> list[str]:
    """The addresses of the feeds that a web page names, in its order.

    Args: url: of the page.
    """
    try:
        document = html.fromstring(page[:MAX_PAGE_BYTES])
    except (etree.LxmlError, ValueError, AssertionError):
        return []
    found: dict[str, None] = {}
    for link in document.iter("link"):
        kind = (link.get("type") or "").partition(";")[0].strip().lower()
        if "alternate" in (link.get("rel") or "").lower().split() and kind in _FEED_TYPES:
            try:
                address = urljoin(url, (link.get("href") or "").strip())
            except ValueError:
                continue
            if urlsplit(address).scheme in ("http", "https"):
                found.setdefault(address)
    return list(found)[:MAX_FEED_LINKS]


def link_in_note(note: bytes, url: str) -> str | None:
    """What a host says at ``WELL_KNOWN_PATH``: the key or link of the feed at ``url``, else its first one."""
    lines = [
        line.partition("#")[0].split()
        for line in note[:MAX_NOTE_BYTES].decode("utf-8", "replace").splitlines()
    ]
    given = [words for words in lines if words and _key(_bare(words[0])) is not None]
    exact = [words for words in given if len(words) > 1 and words[1] == url]
    return next((words[0] for words in exact + given), None)


def is_of_site(origin_url: str | None, addresses: tuple[str, ...]) -> bool:
    """Whether a feed's origin is on a host of these addresses."""
    host = _host(origin_url or "")
    return bool(host) and host in {_host(address) for address in addresses}


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower().removeprefix("www.").rstrip(".")
    except ValueError:
        return ""


def _bare(text: str) -> str:
    """The key of a link."""
    return text.partition("://")[2].partition("?")[0].strip("/") if "://" in text else text


def _key(text: str) -> CoreKey | None:
    try:
        return parse_key(text)
    except UsageError:
        return None
