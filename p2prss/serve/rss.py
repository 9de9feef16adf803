"""``feed.xml`` and ``everything.xml``: feeds with our own URLs, in windows small enough for any app.

What is served depends on the state of the listing, the window and the base URL, and on nothing else.
So the ETag is a hash of these: an unchanged feed answers 304 without a look at a single item. A
rendering is kept gzipped, and as Brotli once that was asked for, until newer ones push it out.

There is no Last-Modified: podcast apps that are given a date ask by it alone, and only while it is young.

An item whose file is not captured keeps its origin's URL there; all rules of the XML itself are
``feed.document.render``'s.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

import trio
from starlette.responses import Response

from p2prss.errors import FeedFormatError
from p2prss.feed.document.render import ItemSource, Serving, render_feed
from p2prss.serve.codings import Coding, choose_coding, encode, gunzip
from p2prss.serve.listings import Listing
from p2prss.serve.media import NOT_NOW
from p2prss.serve.ranges import if_none_match_hits
from p2prss.serve.responses import not_modified
from p2prss.serve.windows import Pager, Window, page_links
from p2prss.units import MIB

CACHE_BYTES: Final = 32 * MIB  # renderings kept, coded, of all feeds together
MAX_AGE_SECONDS: Final = 60  # an app that asks more often gets its own copy

RENDER_SECONDS: Final = 8.0  # to get and render a feed; below the limit of every answer
RENEW_SECONDS: Final = 2.0  # the same where an earlier rendering can stand in

CONTENT_TYPE: Final = "application/rss+xml; charset=utf-8"
RENDERING: Final = 6  # part of every ETag: to be raised when the same feed comes out differently

_CACHING: Final = {"cache-control": f"max-age={MAX_AGE_SECONDS}", "vary": "Accept-Encoding"}
_RENDER_THREADS: Final = 2

Args = TypeVarTuple("Args")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Rendering:
    """A rendered window; ``brotli`` is made when it is first asked for."""

    tag: str
    gzipped: bytes
    brotli: bytes | None = None
    is_whole: bool = True

    @property
    def size(self) -> int:
        return len(self.gzipped) + len(self.brotli or b"")


_Place = tuple[str, Window, str]  # the listing's path, the window, the base URL


class FeedAnswers:
    """Answers requests for feeds, and remembers what it rendered.

    Memory: ``CACHE_BYTES`` for what is kept, and for each of the two renderings that may run at the
    same time some four times the XML of its window.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[_Place, _Rendering] = OrderedDict()
        self._kept_bytes = 0
        self._pager = Pager()
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._threads: trio.CapacityLimiter | None = None

    async def answer(
        self, listing: Listing, window: Window, base_url: str, headers: Mapping[str, str]
    ) -> Response | None:
        """200 or 304; None for a page behind the last.

        Raises: NoPeersError, BlockUnavailableError when an item cannot be had, and no earlier
            rendering is kept that could stand in for it; FeedFormatError when the drive holds no feed.
        """
        coding = choose_coding(headers.get("accept-encoding"))
        state = await listing.state()
        tag = _tag(listing.path, state, window, base_url)
        known = headers.get("if-none-match")
        if if_none_match_hits(known, *_etags(tag)):
            return _unchanged(_etag(tag, coding))
        place = (listing.path, window, base_url)
        rendering = await self._rendering(listing, state, place, tag)
        if rendering is None:
            return None
        if rendering.tag != tag and if_none_match_hits(known, *_etags(rendering.tag)):
            return _unchanged(_etag(rendering.tag, coding))
        body = await self._coded(place, rendering, coding)
        fixed = {"content-type": CONTENT_TYPE, "etag": _etag(rendering.tag, coding)}
        if coding is not Coding.IDENTITY:
            fixed["content-encoding"] = coding
        return Response(body, headers=fixed | _CACHING)

    async def _rendering(self, listing: Listing, state: str, place: _Place, tag: str) -> _Rendering | None:
        lock = self._locks.get(listing.path)
        if lock is None:
            lock = self._locks[listing.path] = trio.Lock()
        async with lock:  # ten apps that ask at once cost one rendering
            kept = self._kept.get(place)
            if kept is not None and kept.tag == tag:
                self._kept.move_to_end(place)
                return kept
            try:
                with trio.fail_after(RENDER_SECONDS if kept is None else RENEW_SECONDS):
                    fresh = await self._render(listing, state, place, tag)
            except NOT_NOW:
                if kept is None:
                    raise
                return kept  # rather the feed as it was than none
            if fresh is not None and fresh.is_whole:
                self._keep(place, fresh)
            return fresh

    async def _coded(self, place: _Place, rendering: _Rendering, coding: Coding) -> bytes:
        match coding:
            case Coding.GZIP:
                return rendering.gzipped
            case Coding.IDENTITY:
                return await self._in_thread(gunzip, rendering.gzipped)
            case Coding.BROTLI:
                if rendering.brotli is not None:
                    return rendering.brotli
        packed = await self._in_thread(_as_brotli, rendering.gzipped)
        if self._kept.get(place) is rendering:
            self._keep(place, replace(rendering, brotli=packed))
        return packed

    def _keep(self, place: _Place, rendering: _Rendering) -> None:
        old = self._kept.pop(place, None)
        self._kept_bytes += rendering.size - (old.size if old else 0)
        self._kept[place] = rendering
        while self._kept_bytes > CACHE_BYTES:
            self._kept_bytes -= self._kept.popitem(last=False)[1].size

    async def _render(self, listing: Listing, state: str, place: _Place, tag: str) -> _Rendering | None:
        path, window, base_url = place
        page = await self._pager.page(listing, state, window)
        if page is None:
            return None
        feed_url = f"{base_url}{path}"
        serving = Serving(
            feed_url=feed_url + window.query, pages=page_links(feed_url, window, is_last=page.is_last)
        )
        channel_xml, serving = await listing.frame(serving, base_url)
        texts = {id(entry): xml for entry, xml in page.items}
        entries = listing.arranged([entry for entry, _ in page.items])
        sources = [listing.source(entry, texts[id(entry)], base_url) for entry in entries]
        gzipped = await self._in_thread(_render_gzipped, channel_xml, sources, serving)
        return _Rendering(tag if page.is_whole else f"{tag}-part", gzipped, is_whole=page.is_whole)

    async def _in_thread(self, work: Callable[[*Args], Result], *args: *Args) -> Result:
        if self._threads is None:
            self._threads = trio.CapacityLimiter(_RENDER_THREADS)
        return await trio.to_thread.run_sync(work, *args, limiter=self._threads)


def _tag(path: str, state: str, window: Window, base_url: str) -> str:
    """What the rendering depends on, in 32 hex digits."""
    parts = (RENDERING, path, state, window.page, base_url)
    return blake2b("\n".join(map(str, parts)).encode(), digest_size=16).hexdigest()


_SUFFIXES: Final = {Coding.IDENTITY: "", Coding.GZIP: "-gz", Coding.BROTLI: "-br"}


def _etag(tag: str, coding: Coding) -> str:
    """The strong ETag of a rendering in a coding."""
    return f'"{tag}{_SUFFIXES[coding]}"'


def _etags(tag: str) -> list[str]:
    return [_etag(tag, coding) for coding in Coding]


def _unchanged(etag: str) -> Response:
    return not_modified(etag, cache_control=_CACHING["cache-control"], vary=_CACHING["vary"])


def _as_brotli(gzipped: bytes) -> bytes:
    return encode(gunzip(gzipped), Coding.BROTLI)


def _render_gzipped(channel_xml: bytes, sources: list[ItemSource], serving: Serving) -> bytes:
    try:
        document = render_feed(channel_xml, sources, serving)
    except (FeedFormatError, ValueError):  # ValueError: lxml refuses a text
        document = render_feed(channel_xml, [one for one in sources if _is_readable(one, serving)], serving)
    return encode(document, Coding.GZIP)


def _is_readable(source: ItemSource, serving: Serving) -> bool:
    try:
        render_feed(b"<rss><channel/></rss>", [source], serving)
    except (FeedFormatError, ValueError):
        return False
    return True
