"""``feed.xml``: a feed with our own URLs, in windows small enough for any app.

What is served depends on the drive's version, the window and the base URL, and on nothing else. So
the ETag is a hash of these: an unchanged feed answers 304 without a look at a single item. A
rendering is kept gzipped, as most clients want it, until newer ones push it out.

An item whose file is not captured keeps its origin's URL there; all rules of the XML itself are
``feed.render``'s.
"""

import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

import trio
from starlette.responses import Response

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import FeedFormatError, P2prssError
from p2prss.feed.model import HYPER_RSS, ArchivedItem, Asset
from p2prss.feed.order import in_origin_order
from p2prss.feed.render import Alternate, ItemSource, Replacement, Serving, render_feed
from p2prss.serve.delivery import delivery
from p2prss.serve.library import ServedFeed
from p2prss.serve.media import NOT_NOW
from p2prss.serve.ranges import if_none_match_hits
from p2prss.serve.responses import not_modified
from p2prss.serve.urls import asset_path, enclosures, episode_path, feed_path, stored_name
from p2prss.units import MIB

PAGE_ITEMS: Final = 300  # of one page; some directories refuse feeds of 3 MB
PAGE_GZIP_BYTES: Final = 950_000  # of a page's XML as archived: with our URLs in it, about 1 MB
MAX_FEED_BYTES: Final = 64 * MIB  # of item XML in one answer, whatever was asked for
CACHE_BYTES: Final = 32 * MIB  # gzipped renderings kept, of all feeds together
READ_AHEAD_ITEMS: Final = 16  # items fetched at the same time: they may still be at a peer
MAX_AGE_SECONDS: Final = 60  # an app that asks more often gets its own copy

RENDER_SECONDS: Final = 8.0  # to get and render a feed; below the limit of every answer
RENEW_SECONDS: Final = 2.0  # the same where an earlier rendering can stand in

CONTENT_TYPE: Final = "application/rss+xml; charset=utf-8"
RENDERING: Final = 2  # part of every ETag: to be raised when the same feed comes out differently

_CACHING: Final = {"cache-control": f"max-age={MAX_AGE_SECONDS}", "vary": "Accept-Encoding"}
_KNOWN_PAGE_STARTS: Final = 256  # feeds of which it is remembered where pages start
_RENDER_THREADS: Final = 2
_NOT_WANTED: Final = re.compile(r"q\s*=\s*0(\.0*)?")
_PAGE_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}")
_GZIP: Final = 16 + zlib.MAX_WBITS  # zlib's sign for a gzip header and trailer
_GZIP_LEVEL: Final = 5
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Args = TypeVarTuple("Args")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Window:
    """Which items are asked for: a page, counted from 1, the newest first; or all, with ``page`` 0."""

    page: int = 1

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self | None:
        """``?all=1``, ``?page=N`` or nothing; None when it makes no sense. Other members are ignored."""
        if query.get("all") == "1":
            return cls(page=0)
        page = query.get("page", "1")
        return cls(int(page)) if _PAGE_NUMBER.fullmatch(page) else None

    @property
    def query(self) -> str:
        """The query that asks for it; empty for the first page."""
        if self.page == 0:
            return "?all=1"
        return f"?page={self.page}" if self.page > 1 else ""


@dataclass(frozen=True, slots=True)
class _Rendering:
    """A rendered window, gzipped; ``byte_length`` is its length without gzip."""

    tag: str
    gzipped: bytes
    byte_length: int

    def etag(self, gzip: bool) -> str:
        return _etags(self.tag)[gzip]


@dataclass(frozen=True, slots=True)
class _Page:
    """Items with their XML, and whether more follow."""

    items: Sequence[tuple[ArchivedItem, bytes]]
    is_last: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a feed's files are: below ``base_url``, and if it is a drive, at ``hyper://<key>``."""

    key: CoreKey
    base_url: str
    is_drive: bool


class FeedAnswers:
    """Answers requests for ``feed.xml``, and remembers what it rendered.

    Memory: ``CACHE_BYTES`` for what is kept, and for each of the two renderings that may run at the
    same time some four times the XML of its window.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[CoreKey, Window, str], _Rendering] = OrderedDict()
        self._kept_bytes = 0
        self._page_starts: OrderedDict[CoreKey, tuple[int, list[int]]] = OrderedDict()
        self._locks: WeakValueDictionary[CoreKey, trio.Lock] = WeakValueDictionary()
        self._threads: trio.CapacityLimiter | None = None

    async def answer(
        self, feed: ServedFeed, window: Window, base_url: str, headers: Mapping[str, str]
    ) -> Response | None:
        """200 or 304; None for a page behind the last.

        Raises: NoPeersError, BlockUnavailableError when an item cannot be had, and no earlier
            rendering is kept that could stand in for it; FeedFormatError when the drive holds no feed.
        """
        gzip = accepts_gzip(headers.get("accept-encoding"))
        tag = _tag(feed, window, base_url)
        known = headers.get("if-none-match")
        if if_none_match_hits(known, *_etags(tag)):
            return _unchanged(_etags(tag)[gzip])
        rendering = await self._rendering(feed, window, base_url, tag)
        if rendering is None:
            return None
        if rendering.tag != tag and if_none_match_hits(known, *_etags(rendering.tag)):
            return _unchanged(rendering.etag(gzip))
        body = rendering.gzipped
        if not gzip:
            body = await trio.to_thread.run_sync(zlib.decompress, body, _GZIP)
        coding = {"content-encoding": "gzip"} if gzip else {}
        fixed = {"content-type": CONTENT_TYPE, "etag": rendering.etag(gzip)}
        return Response(body, headers=fixed | coding | _CACHING)

    async def _rendering(
        self, feed: ServedFeed, window: Window, base_url: str, tag: str
    ) -> _Rendering | None:
        place = (feed.key, window, base_url)
        lock = self._locks.get(feed.key)
        if lock is None:
            lock = self._locks[feed.key] = trio.Lock()
        async with lock:  # ten apps that ask at once cost one rendering
            kept = self._kept.get(place)
            if kept is None or kept.tag != tag:
                try:
                    with trio.fail_after(RENDER_SECONDS if kept is None else RENEW_SECONDS):
                        fresh = await self._render(feed, window, base_url, tag)
                except NOT_NOW:
                    if kept is None:
                        raise
                    return kept  # rather the feed as it was than none
                if fresh is None:
                    return None
                kept = fresh
            self._keep(place, kept)
            return kept

    def _keep(self, place: tuple[CoreKey, Window, str], rendering: _Rendering) -> None:
        old = self._kept.pop(place, None)
        self._kept_bytes += len(rendering.gzipped) - (len(old.gzipped) if old else 0)
        self._kept[place] = rendering
        while self._kept_bytes > CACHE_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1].gzipped)

    async def _render(self, feed: ServedFeed, window: Window, base_url: str, tag: str) -> _Rendering | None:
        info = await feed.archive.info()
        channel_xml = await feed.archive.channel()
        page = await self._page(feed, window)
        if page is None:
            return None
        feed_url = f"{base_url}{feed_path(feed.key)}feed.xml"
        serving = Serving(
            feed_url=feed_url + window.query,
            origin_url=as_xml_text(info.origin_url),
            base_url=as_xml_text(info.base_url),
            pages=_page_links(feed_url, window, page.is_last),
            replacements=_asset_replacements(feed.key, info.channel_assets, base_url),
        )
        place = _Place(feed.key, base_url, is_drive=info.source_format != HYPER_RSS)
        return await self._in_thread(_render_gzipped, channel_xml, page, serving, place, tag)

    async def _page(self, feed: ServedFeed, window: Window) -> _Page | None:
        """The items of a window, with their XML; None for a page behind the last.

        A page ends by the size of what is on it, so its place follows from all pages before it.
        """
        items = await feed.archive.items()
        if window.page == 0:
            return _Page(await _load(feed, items, MAX_FEED_BYTES), is_last=True)
        version, starts = self._page_starts.pop(feed.key, (-1, [0]))
        if version != feed.archive.version:
            version, starts = feed.archive.version, [0]
        self._page_starts[feed.key] = version, starts
        if len(self._page_starts) > _KNOWN_PAGE_STARTS:
            self._page_starts.popitem(last=False)
        page = min(window.page, len(starts))
        while True:
            start = starts[page - 1]
            if start >= len(items) and page > 1:
                return None
            loaded = await _load(feed, items[start : start + PAGE_ITEMS], MAX_FEED_BYTES)
            count = await self._in_thread(_count_fitting, [xml for _, xml in loaded])
            next_start = start + min(PAGE_ITEMS, len(items) - start)
            if count < len(loaded):
                next_start = items.index(loaded[count][0], start)
            if len(starts) == page:
                starts.append(next_start)
            if page == window.page:
                return _Page(loaded[:count], is_last=next_start >= len(items))
            page += 1

    async def _in_thread(self, work: Callable[[*Args], Result], *args: *Args) -> Result:
        if self._threads is None:
            self._threads = trio.CapacityLimiter(_RENDER_THREADS)
        return await trio.to_thread.run_sync(work, *args, limiter=self._threads)


def accepts_gzip(header: str | None) -> bool:
    """Whether an Accept-Encoding asks for gzip; without the header plain bytes are the safe answer.

    Source: RFC 9110 §12.5.3; ``*`` stands for what is not named.
    """
    wanted = {}
    for part in (header or "").lower().split(","):
        coding, _, parameters = part.partition(";")
        wanted[coding.strip()] = _NOT_WANTED.fullmatch(parameters.strip()) is None
    return next((wanted[name] for name in ("gzip", "x-gzip", "*") if name in wanted), False)


def _tag(feed: ServedFeed, window: Window, base_url: str) -> str:
    """What the rendering depends on, in 32 hex digits."""
    parts = (RENDERING, format_key(feed.key), feed.archive.version, window.page, base_url)
    return blake2b("\n".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def _etags(tag: str) -> tuple[str, str]:
    """The strong ETags of a rendering: plain, gzipped."""
    return f'"{tag}"', f'"{tag}-gz"'


def _unchanged(etag: str) -> Response:
    return not_modified(etag, cache_control=_CACHING["cache-control"], vary=_CACHING["vary"])


def _page_links(feed_url: str, window: Window, is_last: bool) -> dict[str, str]:
    """RFC 5005 §3: from each page to its neighbours, and back to the first."""
    if window.page == 0:
        return {}
    links = {}
    if window.page > 1:
        links = {"first": feed_url, "previous": feed_url + Window(window.page - 1).query}
    if not is_last:
        links["next"] = feed_url + Window(window.page + 1).query
    return links


async def _load(
    feed: ServedFeed, items: Sequence[ArchivedItem], limit_bytes: int
) -> list[tuple[ArchivedItem, bytes]]:
    """The XML of ``items`` in their order, up to ``limit_bytes`` of it; unreadable ones are left out.

    Raises: what the drive raises when an item cannot be had.
    """
    found: list[bytes | None] = [None] * len(items)
    failures: list[P2prssError] = []
    waiting = iter(enumerate(items))
    left_bytes = limit_bytes

    async def fetch(scope: trio.CancelScope) -> None:
        nonlocal left_bytes
        for place, item in waiting:
            try:
                xml = await feed.archive.item_xml(item)
            except FeedFormatError:
                continue
            except P2prssError as error:
                failures.append(error)
                scope.cancel()
                return
            left_bytes -= len(xml)
            if left_bytes < 0:
                return
            found[place] = xml

    async with trio.open_nursery() as nursery:
        for _ in range(min(READ_AHEAD_ITEMS, len(items))):
            nursery.start_soon(fetch, nursery.cancel_scope)
    if failures:
        raise failures[0]
    return [(item, xml) for item, xml in zip(items, found, strict=True) if xml is not None]


def _count_fitting(pieces: Sequence[bytes]) -> int:
    """How many of the pieces, at least one, make ``PAGE_GZIP_BYTES`` when gzipped together."""
    if sum(map(len, pieces)) <= PAGE_GZIP_BYTES:
        return len(pieces)
    gzip = zlib.compressobj(_GZIP_LEVEL)
    size = 0
    for count, piece in enumerate(pieces):
        size += len(gzip.compress(piece)) + len(gzip.flush(zlib.Z_SYNC_FLUSH))
        if size > PAGE_GZIP_BYTES:
            return max(1, count)
    return len(pieces)


def _render_gzipped(channel_xml: bytes, page: _Page, serving: Serving, place: _Place, tag: str) -> _Rendering:
    texts = {item.path: xml for item, xml in page.items}
    items = in_origin_order(item for item, _ in page.items)
    sources = [_item_source(item, texts[item.path], place) for item in items]
    try:
        document = render_feed(channel_xml, sources, serving)
    except (FeedFormatError, ValueError):  # ValueError: lxml refuses a text
        document = render_feed(channel_xml, [one for one in sources if _is_readable(one, serving)], serving)
    gzip = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    return _Rendering(tag, gzip.compress(document) + gzip.flush(), len(document))


def _is_readable(source: ItemSource, serving: Serving) -> bool:
    try:
        render_feed(b"<rss><channel/></rss>", [source], serving)
    except (FeedFormatError, ValueError):
        return False
    return True


def _item_source(item: ArchivedItem, xml: bytes, place: _Place) -> ItemSource:
    key, base_url = place.key, place.base_url
    replacements = _asset_replacements(key, item.assets, base_url)
    alternates = []
    for number, asset in enumerate(enclosures(item), 1):
        path, stored = episode_path(key, item, number, asset), stored_name(asset)
        if path is None or stored is None:
            continue
        mime_type = delivery(asset.mime_type, stored[1]).mime_type
        replacements[asset.url] = Replacement(base_url + path, asset.byte_length, mime_type)
        if asset.byte_length is not None:
            in_drive = (f"hyper://{format_key(key)}{asset.path}",) if place.is_drive else ()
            uris = (base_url + path, *in_drive)
            alternates.append(Alternate(uris, asset.byte_length, mime_type, stored[0]))
    return ItemSource(
        xml,
        guid=as_xml_text(item.guid),
        date=item.published or item.first_seen,
        base_url=as_xml_text(item.record.base_url),
        replacements=replacements,
        alternates=tuple(alternates),
    )


def _asset_replacements(key: CoreKey, assets: Sequence[Asset], base_url: str) -> dict[str, Replacement]:
    """What stands in the feed instead of the addresses of captured files."""
    replacements = {}
    for asset in assets:
        path, stored = asset_path(key, asset), stored_name(asset)
        if path is not None and stored is not None:
            mime_type = delivery(asset.mime_type, stored[1]).mime_type
            replacements[asset.url] = Replacement(base_url + path, asset.byte_length, mime_type)
    return replacements


def as_xml_text(text: str | None) -> str:
    """A stranger's text without the characters that no XML may hold."""
    return _NOT_IN_XML.sub("", text or "")
