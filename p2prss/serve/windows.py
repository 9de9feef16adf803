"""Which part of a listing one answer holds: pages of a size any app can take, or all of it.

A page ends by the size of what is on it, so its place follows from all pages before it; where pages
start is remembered for as long as the listing stays as it is.

Source: RFC 5005 §3 (paged feeds).
"""

import math
import re
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import trio

from p2prss.crypto.keys import CoreKey
from p2prss.errors import FeedFormatError, P2prssError
from p2prss.feed.archive.records import ArchivedItem
from p2prss.serve.codings import GZIP_LEVEL
from p2prss.serve.library import ServedFeed
from p2prss.serve.listings import Entry, Listing
from p2prss.units import MIB

PAGE_ITEMS: Final = 300  # of one page; some directories refuse feeds of 3 MB
PAGE_GZIP_BYTES: Final = 950_000  # of a page's XML as archived: with our URLs in it, about 1 MB
MAX_FEED_BYTES: Final = 64 * MIB  # of item XML in one answer, whatever was asked for
READ_AHEAD_ITEMS: Final = 16  # items fetched at the same time: they may still be at a peer
BATCH_ITEMS: Final = 256  # looked for here before any is fetched
SKIP_SECONDS: Final = 4.0  # where a listing does without items that do not come in time

_KNOWN_PAGE_STARTS: Final = 256  # listings of which it is remembered where pages start
_PAGE_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}")


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
class Page:
    """Items with their XML, and whether more follow; ``is_whole`` unless some did not come in time."""

    items: Sequence[tuple[Entry, bytes]]
    is_last: bool
    is_whole: bool = True


def page_links(feed_url: str, window: Window, *, is_last: bool) -> dict[str, str]:
    """From each page to its neighbours, and back to the first: relation -> URL."""
    if window.page == 0:
        return {}
    links = {}
    if window.page > 1:
        links = {"first": feed_url, "previous": feed_url + Window(window.page - 1).query}
    if not is_last:
        links["next"] = feed_url + Window(window.page + 1).query
    return links


class Pager:
    """Cuts listings into pages."""

    def __init__(self) -> None:
        self._starts: OrderedDict[str, tuple[str, list[int]]] = OrderedDict()

    async def page(self, listing: Listing, state: str, window: Window) -> Page | None:
        """The items of a window, with their XML; None for a page behind the last.

        Raises: NoPeersError, BlockUnavailableError when an item cannot be had.
        """
        entries = await listing.entries()
        if window.page == 0:
            items, is_whole = await _load(listing, entries)
            return Page(items, is_last=True, is_whole=is_whole)
        known, starts = self._starts.pop(listing.path, ("", [0]))
        if known != state:
            starts = [0]
        page, is_whole = min(window.page, len(starts)), True
        while True:
            start = starts[page - 1]
            if start >= len(entries) and page > 1:
                return None
            loaded, came = await _load(listing, entries[start : start + PAGE_ITEMS])
            is_whole = is_whole and came
            count = await trio.to_thread.run_sync(_count_fitting, [xml for _, xml in loaded])
            next_start = start + min(PAGE_ITEMS, len(entries) - start)
            if count < len(loaded):
                next_start = entries.index(loaded[count][0], start)
            if len(starts) == page:
                starts.append(next_start)
            if page == window.page:
                if is_whole:
                    self._keep(listing.path, state, starts)
                return Page(loaded[:count], next_start >= len(entries), is_whole)
            page += 1

    def _keep(self, path: str, state: str, starts: list[int]) -> None:
        self._starts[path] = state, starts
        if len(self._starts) > _KNOWN_PAGE_STARTS:
            self._starts.popitem(last=False)


async def _load(listing: Listing, entries: Sequence[Entry]) -> tuple[list[tuple[Entry, bytes]], bool]:
    """The XML of ``entries`` in their order, up to ``MAX_FEED_BYTES`` of it, and whether all came in time.

    Unreadable ones are left out. Raises: what the drive raises when an item cannot be had.
    """
    loading = _Loading(listing.skips_missing)
    deadline = trio.current_time() + SKIP_SECONDS if listing.skips_missing else math.inf
    with trio.CancelScope(deadline=deadline) as waited:
        for start in range(0, len(entries), BATCH_ITEMS):
            await loading.load(entries[start : start + BATCH_ITEMS])
            if loading.is_full:
                break
    return loading.found, not (loading.is_missing or waited.cancelled_caught)


class _Loading:
    """The XML of items as it comes."""

    def __init__(self, skips_missing: bool) -> None:
        self.found: list[tuple[Entry, bytes]] = []
        self.left_bytes = MAX_FEED_BYTES
        self.is_missing = False  # whether an item did not come
        self.is_full = False
        self._skips_missing = skips_missing

    async def load(self, entries: Sequence[Entry]) -> None:
        """Get these items: all that are here at once, the others side by side."""
        texts: list[bytes | None] = [None] * len(entries)
        try:
            here = await _held_texts(entries)
            failures: list[P2prssError] = []
            waiting = iter(enumerate(entries))
            left_bytes = self.left_bytes

            async def fetch(scope: trio.CancelScope) -> None:
                nonlocal left_bytes
                for place, entry in waiting:
                    try:
                        text = here.get((entry.feed.key, entry.item.path))
                        text = await entry.feed.archive.item_xml(entry.item) if text is None else text
                        left_bytes -= len(text)
                        if left_bytes < 0:
                            self.is_full = True
                            return
                        texts[place] = text
                    except FeedFormatError:
                        continue
                    except P2prssError as error:
                        self.is_missing = True
                        if not self._skips_missing:
                            failures.append(error)
                            scope.cancel()
                            return

            async with trio.open_nursery() as nursery:
                for _ in range(min(READ_AHEAD_ITEMS, len(entries))):
                    nursery.start_soon(fetch, nursery.cancel_scope)
            if failures:
                raise failures[0]
        finally:  # what came before time was up counts
            for entry, text in zip(entries, texts, strict=True):
                if text is not None:
                    self.left_bytes -= len(text)
                    self.found.append((entry, text))


async def _held_texts(entries: Sequence[Entry]) -> dict[tuple[CoreKey, str], bytes]:
    """The XML of those items whose XML is here."""
    by_feed: dict[CoreKey, tuple[ServedFeed, list[ArchivedItem]]] = {}
    for entry in entries:
        by_feed.setdefault(entry.feed.key, (entry.feed, []))[1].append(entry.item)
    found: dict[tuple[CoreKey, str], bytes] = {}
    for key, (feed, items) in by_feed.items():
        with suppress(P2prssError):  # each by itself will tell
            texts = await feed.archive.held_texts(items)
            found |= {(key, path): text for path, text in texts.items()}
    return found


def _count_fitting(pieces: Sequence[bytes]) -> int:
    """How many of the pieces, at least one, make ``PAGE_GZIP_BYTES`` when gzipped together."""
    if sum(map(len, pieces)) <= PAGE_GZIP_BYTES:
        return len(pieces)
    gzip = zlib.compressobj(GZIP_LEVEL)
    size = 0
    for count, piece in enumerate(pieces):
        size += len(gzip.compress(piece)) + len(gzip.flush(zlib.Z_SYNC_FLUSH))
        if size > PAGE_GZIP_BYTES:
            return max(1, count)
    return len(pieces)
