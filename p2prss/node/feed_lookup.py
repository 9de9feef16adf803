"""Finding the key of a feed by the address of its origin, as people pass it around."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urljoin, urlsplit

import trio

from p2prss.crypto.key_text import format_key
from p2prss.errors import FeedFormatError, FetchError, TryAgainError, UnnamedFeedError
from p2prss.feed.archive.records import FeedInfo
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.repair import MAX_FEED_BYTES
from p2prss.feed.linking.discovery import (
    MAX_NOTE_BYTES,
    WELL_KNOWN_PATH,
    feed_links,
    is_of_site,
    key_in_feed,
    link_in_note,
)
from p2prss.feed.origin.fetch import Fetched, Fetcher, Retries
from p2prss.feed.origin.url import public_url, redact
from p2prss.node.link_text import FeedLink

RETRIES: Final = Retries(attempts=2)  # somebody waits for the answer
_PLAIN: Final = "without https anybody on the way could name another feed; to follow it, give its key"

_APP_LINK: Final = re.compile(r"(feed|itpc|pcast|podcast):", re.IGNORECASE)
_BARE_ADDRESS: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.[^\W\d_][\w-]+(:\d{1,5})?([/?]\S*)?")


@dataclass(frozen=True, slots=True)
class FoundFeed:
    """What an address leads to; ``addresses`` are those that led there, the last one named the key."""

    link: FeedLink
    addresses: tuple[str, ...]

    @property
    def site(self) -> str:
        """The host that was asked."""
        return urlsplit(self.addresses[0]).hostname or ""

    def check(self, info: FeedInfo) -> None:
        """Whether the feed says in return that it is of this site. Raises: FeedFormatError when not."""
        if not is_of_site(info.origin_url, self.addresses):
            theirs = redact(info.origin_url) if info.origin_url else "no origin at all"
            raise FeedFormatError(
                f"{self.site} names the feed {format_key(self.link.key)}, but that feed names {theirs}:"
                " it may be somebody else's; to follow it all the same, give its key"
            )


def is_address(text: str) -> bool:
    """Whether this is an address in the web, and no key or link."""
    return text.lower().startswith(("http://", "https://"))


def as_typed(text: str) -> str:
    """What somebody typed or copied, with the scheme that is meant where it has another or none.

    Apps write ``feed:`` and the like in front of a feed's address, people leave ``https://`` away.
    """
    text = text.strip()
    if found := _APP_LINK.match(text):
        rest = text[found.end() :]
        return rest if is_address(rest) else f"https://{rest.removeprefix('//')}"
    return f"https://{text}" if _BARE_ADDRESS.fullmatch(text) else text


async def find_feed(address: str, scratch: Path) -> FoundFeed:
    """Ask an address, then its host, for the key of a feed.

    Raises: UnnamedFeedError when it names none; FetchError and TryAgainError when it does not answer.
    """
    await trio.Path(scratch).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="lookup-") as name:
        async with Fetcher(address) as fetcher:
            look = Look(fetcher, Path(name) / "body")
            found = await look.at_address(address) or await look.at_host(address)
    if found is None:
        raise UnnamedFeedError(
            f"{redact(address)} names no p2prss feed: ask its publisher for the key;"
            " to mirror it yourself: p2prss publish",
            feed_url=look.feed_url,
        )
    return found


class Look:
    """One search; bodies come one after the other into the file ``into``.

    ``feed_url`` is the first feed on its way, whether it names a key or not.
    """

    def __init__(self, fetcher: Fetcher, into: Path) -> None:
        self._fetcher = fetcher
        self._into = into
        self._is_secure = fetcher.source_url.lower().startswith("https:")
        self.feed_url: str | None = None

    async def at_address(self, address: str) -> FoundFeed | None:
        """A feed, or the first feed of a web page that names a key."""
        fetched, data = await self._get(address, MAX_FEED_BYTES)
        ways = (address, public_url(fetched.url))
        try:
            return await self._read(data, fetched, address, ways)
        except FeedFormatError:
            pass
        for link in await trio.to_thread.run_sync(feed_links, data, fetched.url):
            with suppress(FetchError, TryAgainError, FeedFormatError):
                fetched, data = await self._get(link, MAX_FEED_BYTES)
                if found := await self._read(data, fetched, link, (*ways, link, public_url(fetched.url))):
                    return found
        return None

    async def at_host(self, address: str) -> FoundFeed | None:
        """What the host says of its feeds."""
        note = urljoin(address, WELL_KNOWN_PATH)
        try:
            _, data = await self._get(note, MAX_NOTE_BYTES)
        except (FetchError, TryAgainError):
            return None
        link = link_in_note(data, address)
        return FoundFeed(FeedLink.parse(link), (address,)) if link is not None else None

    async def _get(self, url: str, max_bytes: int) -> tuple[Fetched, bytes]:
        if self._is_secure and url.startswith("http:"):
            raise FetchError(f"{redact(url)}: {_PLAIN}")
        fetched = await self._fetcher.fetch(
            url, self._into, max_bytes=max_bytes, retries=RETRIES, compressed=True
        )
        if self._is_secure and any(target.startswith("http:") for _, target in fetched.redirects):
            raise FetchError(f"{redact(url)}: it redirects by way of plain http, and {_PLAIN}")
        return fetched, await trio.Path(self._into).read_bytes()

    async def _read(self, data: bytes, fetched: Fetched, url: str, ways: tuple[str, ...]) -> FoundFeed | None:
        """The key in a feed. Raises: FeedFormatError when it is none."""

        def read() -> FoundFeed | None:
            key = key_in_feed(parse_feed(data, url=fetched.url, content_type=fetched.mime_type))
            return FoundFeed(FeedLink(key), ways) if key is not None else None

        found = await trio.to_thread.run_sync(read)
        self.feed_url = self.feed_url or url
        return found
