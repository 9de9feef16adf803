"""The feeds of a running node, as its HTTP side sees them."""

from collections.abc import Sequence

from p2prss.crypto.key_text import format_key, parse_key
from p2prss.errors import UsageError
from p2prss.node.open_feed import OpenFeed


class NodeLibrary:
    """Satisfies ``serve.library.Library``: feeds come and go while the server runs."""

    def __init__(self) -> None:
        self.ready = False
        self._feeds: dict[str, OpenFeed] = {}

    def add(self, feed: OpenFeed) -> None:
        """Serve this feed from now on."""
        self._feeds[format_key(feed.key)] = feed

    def remove(self, feed: OpenFeed) -> None:
        """Serve it no longer."""
        self._feeds.pop(format_key(feed.key), None)

    def feeds(self) -> Sequence[OpenFeed]:
        """The feeds to list, in the order they were added."""
        return list(self._feeds.values())

    def find(self, key_or_slug: str) -> OpenFeed | None:
        """The feed of that key or short name; any text may be asked for."""
        for feed in self._feeds.values():
            if feed.slug and feed.slug == key_or_slug:
                return feed
        try:
            return self._feeds.get(format_key(parse_key(key_or_slug)))
        except UsageError:
            return None
