"""What a served feed lists: the episodes of one show, or of all shows together.

A listing knows which items there are, in which order, and what they depend on; ``serve.rss`` cuts
pages out of it and renders them.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, Protocol
from urllib.parse import urljoin
from xml.sax.saxutils import escape

import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import P2prssError, WithdrawnFeedError
from p2prss.feed.archive.order import in_origin_order
from p2prss.feed.archive.records import HYPER_RSS, ArchivedItem, Asset, FeedInfo
from p2prss.feed.document.names import NAMESPACES
from p2prss.feed.document.render import Alternate, ItemSource, Replacement, Serving, Show
from p2prss.feed.document.rss_parts import ITEMS_MARK
from p2prss.feed.model import Role
from p2prss.serve.delivery import delivery
from p2prss.serve.library import Library, ServedFeed
from p2prss.serve.urls import asset_path, enclosures, episode_path, feed_path, stored_name
from p2prss.serve.xml_text import as_xml_text

MERGE_SECONDS: Final = 2.0  # the feed of all shows does without a show whose list takes longer to come

_CHANNEL: Final = (
    '<rss version="2.0"'
    + "".join(f' xmlns:{name}="{NAMESPACES[name]}"' for name in ("atom", "content", "itunes", "podcast"))
    + "><channel><title>All podcasts</title><link>{link}</link>"
    "<description>The episodes of all podcasts of this p2prss, newest first.</description>"
    f"<language>en</language>\n<?{ITEMS_MARK}?></channel></rss>"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An item and the show it is of."""

    feed: ServedFeed
    info: FeedInfo
    item: ArchivedItem


class Listing(Protocol):
    """The items of a served feed. Its methods may wait for peers, and raise their errors."""

    @property
    def path(self) -> str:
        """Of its URL."""

    @property
    def skips_missing(self) -> bool:
        """Whether it does without items that nobody sends in time."""

    async def state(self) -> str:
        """Changes whenever anything of it does."""

    async def entries(self) -> Sequence[Entry]:
        """The items, newest first: pages are cut out of this."""

    def arranged(self, page: Sequence[Entry]) -> Sequence[Entry]:
        """The items of a page as it lists them."""

    async def frame(self, serving: Serving, base_url: str) -> tuple[bytes, Serving]:
        """The XML around the items, and ``serving`` completed."""

    def source(self, entry: Entry, xml: bytes, base_url: str) -> ItemSource:
        """What to render of an item."""


async def items_of(feed: ServedFeed, *, ready_only: bool) -> Sequence[ArchivedItem]:
    """The items to list, newest first; with ``ready_only`` without those whose audio is not all here."""
    items = await feed.archive.served_items()
    return [item for item in items if await _is_ready(feed, item)] if ready_only else items


async def _is_ready(feed: ServedFeed, item: ArchivedItem) -> bool:
    for asset in enclosures(item):
        if asset.path is None or stored_name(asset) is None:
            return False
        try:
            held = await feed.drive.held(asset.path)
        except P2prssError:
            return False
        if held.blocks < held.total:
            return False
    return True


class OneShow:
    """The listing of one show, in its origin's order."""

    skips_missing = False

    def __init__(self, feed: ServedFeed, *, ready_only: bool = False) -> None:
        self._feed = feed
        self._ready_only = ready_only

    @property
    def path(self) -> str:
        """Of its URL."""
        return f"{feed_path(self._feed.key)}feed.xml"

    async def state(self) -> str:
        """The drive's version, and which items are ready."""
        state = _state_of(self._feed)
        if not self._ready_only:
            return state
        return f"{state} {_digest(item.item_id for item in await items_of(self._feed, ready_only=True))}"

    async def entries(self) -> Sequence[Entry]:
        """The show's items. Raises: WithdrawnFeedError when there are none any more."""
        info = await self._feed.archive.info()
        if info.withdrawn is not None:
            raise WithdrawnFeedError("its publisher has taken this feed back")
        items = await items_of(self._feed, ready_only=self._ready_only)
        return [Entry(self._feed, info, item) for item in items]

    def arranged(self, page: Sequence[Entry]) -> Sequence[Entry]:
        """In the origin's order."""
        by_path = {entry.item.path: entry for entry in page}
        return [by_path[item.path] for item in in_origin_order(entry.item for entry in page)]

    async def frame(self, serving: Serving, base_url: str) -> tuple[bytes, Serving]:
        """The show's own channel."""
        info = await self._feed.archive.info()
        key = format_key(self._feed.key)
        complete = replace(
            serving,
            links_base=_links_base(info),
            links={f"hyper://{key}/": f"{base_url}/shows/{key}"},
            origin_url=as_xml_text(info.origin_url),
            base_url=as_xml_text(info.base_url),
            replacements=_asset_replacements(self._feed.key, info.channel_assets, base_url),
        )
        return await self._feed.archive.channel(), complete

    def source(self, entry: Entry, xml: bytes, base_url: str) -> ItemSource:
        """The item with our URLs."""
        return _item_source(entry, xml, base_url)


class AllShows:
    """The listing of all shows of a library together, newest first.

    Guids stay as they are, so that an app knows an episode again; two shows may have the same one.
    """

    path = "/everything.xml"
    skips_missing = True

    def __init__(self, library: Library, *, ready_only: bool = False) -> None:
        self._library = library
        self._ready_only = ready_only
        self._found: list[tuple[ServedFeed, FeedInfo, Sequence[ArchivedItem]]] = []

    async def state(self) -> str:
        """The versions of all shows whose list can be had now, and which items are ready."""
        found: dict[int, tuple[ServedFeed, FeedInfo, Sequence[ArchivedItem]]] = {}

        async def look(place: int, feed: ServedFeed) -> None:
            with suppress(P2prssError), trio.move_on_after(MERGE_SECONDS):
                info = await feed.archive.info()
                found[place] = feed, info, await items_of(feed, ready_only=self._ready_only)

        async with trio.open_nursery() as nursery:
            for place, feed in enumerate(self._library.feeds()):
                nursery.start_soon(look, place, feed)
        self._found = [found[place] for place in sorted(found)]
        ready = (item.item_id for _, _, items in self._found for item in items) if self._ready_only else ()
        states = [f"{_state_of(feed)} {feed.title}" for feed, _, _ in self._found]
        return _digest([*states, *ready])

    async def entries(self) -> Sequence[Entry]:
        """The items as of the last ``state``."""
        entries = [Entry(feed, info, item) for feed, info, items in self._found for item in items]
        return sorted(entries, key=lambda entry: (entry.item.path, entry.feed.key), reverse=True)

    def arranged(self, page: Sequence[Entry]) -> Sequence[Entry]:
        """As they are."""
        return page

    async def frame(self, serving: Serving, base_url: str) -> tuple[bytes, Serving]:
        """A channel of our own."""
        return _CHANNEL.format(link=escape(f"{base_url}/")).encode(), serving

    def source(self, entry: Entry, xml: bytes, base_url: str) -> ItemSource:
        """The item with our URLs, and with the name of its show."""
        feed = entry.feed
        own = _item_source(entry, xml, base_url)
        images = (asset for asset in entry.info.channel_assets if asset.role == Role.IMAGE)
        image = next((path for asset in images if (path := asset_path(feed.key, asset))), None)
        show = Show(
            as_xml_text(feed.title),
            f"{base_url}{feed_path(feed.key)}feed.xml",
            f"{base_url}{image}" if image else "",
        )
        return replace(own, base_url=own.base_url or as_xml_text(entry.info.base_url), show=show)


def _links_base(info: FeedInfo) -> str:
    """Where the feed of a site stood in the web, for relative addresses of its pages."""
    try:
        return as_xml_text(urljoin(info.site.base_url, info.site.feed)) if info.site else ""
    except ValueError:
        return ""


def _state_of(feed: ServedFeed) -> str:
    return f"{format_key(feed.key)} {feed.archive.version} {feed.archive.removed or ''}"


def _digest(texts: Iterable[str]) -> str:
    return blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def _item_source(entry: Entry, xml: bytes, base_url: str) -> ItemSource:
    key, item = entry.feed.key, entry.item
    replacements = _asset_replacements(key, item.assets, base_url)
    alternates = []
    for number, asset in enumerate(enclosures(item), 1):
        path, stored = episode_path(key, item, number, asset), stored_name(asset)
        if path is None or stored is None:
            continue
        mime_type = delivery(asset.mime_type, stored[1]).mime_type
        replacements[asset.url] = Replacement(base_url + path, asset.byte_length, mime_type)
        if asset.byte_length is not None:
            is_drive = entry.info.source_format != HYPER_RSS
            in_drive = (f"hyper://{format_key(key)}{asset.path}",) if is_drive else ()
            uris = (base_url + path, *in_drive)
            alternates.append(Alternate(uris, asset.byte_length, mime_type, stored[0]))
    alternates += [_alternate(entry, one, base_url) for one in _kept_beside(item)]
    return ItemSource(
        xml,
        guid=as_xml_text(item.guid),
        date=item.published or item.first_seen,
        base_url=as_xml_text(item.record.base_url),
        replacements=replacements,
        alternates=tuple(alternates),
    )


def _kept_beside(item: ArchivedItem) -> list[Asset]:
    """Newer captures of enclosures, of which the first stays the enclosure."""
    return [one for one in item.assets if one.number and one.role == Role.ALTERNATE and stored_name(one)]


def _alternate(entry: Entry, asset: Asset, base_url: str) -> Alternate:
    sha256, extension = stored_name(asset) or ("", "")
    uris = [base_url + (episode_path(entry.feed.key, entry.item, asset.number or 1, asset) or "")]
    if entry.info.source_format != HYPER_RSS:
        uris.append(f"hyper://{format_key(entry.feed.key)}{asset.path}")
    mime_type = delivery(asset.mime_type, extension).mime_type
    return Alternate(tuple(uris), asset.byte_length or 0, mime_type, sha256)


def _asset_replacements(key: CoreKey, assets: Sequence[Asset], base_url: str) -> dict[str, Replacement]:
    """What stands in the feed instead of the addresses of captured files."""
    replacements = {}
    for asset in assets:
        path, stored = asset_path(key, asset), stored_name(asset)
        if path is not None and stored is not None and asset.number is None:
            mime_type = delivery(asset.mime_type, stored[1]).mime_type
            replacements[asset.url] = Replacement(base_url + path, asset.byte_length, mime_type)
    return replacements
