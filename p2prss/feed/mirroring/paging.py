"""A feed in several documents, read to its end: RFC 5005 pages and archives, and JSON Feed's ``next_url``.

A feed that was read to its end once is not read whole again whenever its first page changes: the walk
ends where it joins what the archive has. Only a walk that saw everything may say that an item is gone.
Pure but for the awaitable that gets a page; source: RFC 5005 §3, §4; spec/08-feeds, "Paged sources".
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urldefrag

import msgspec

from p2prss.errors import FeedError, TryAgainError
from p2prss.feed.archive.records import ArchivedItem
from p2prss.feed.document.made_guids import tell_apart
from p2prss.feed.document.names import resolve
from p2prss.feed.document.rss_parts import MAX_ITEMS, MAX_ITEMS_BYTES
from p2prss.feed.model import Item, ParsedFeed, RefusedItem, item_id

MAX_PAGES: Final = 1000  # documents of one feed read in one update; 10 items a page is usual
WHOLE_WALK_DAYS: Final = 7  # after which a changed feed is read to its end again, for edits far behind


class WalkState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept between updates: when the end was last seen, and where a walk broke off."""

    ended_at: datetime | None = None
    resume_at: str = ""  # the page that could not be had


@dataclass(frozen=True, slots=True)
class Page:
    """One document and where it came from in the end, redirects followed."""

    feed: ParsedFeed
    url: str


@dataclass(slots=True)
class Walk:
    """What was read: the first page with the items of all. ``is_whole``: nothing of the feed is missing."""

    feed: ParsedFeed
    state: WalkState
    is_whole: bool = True
    pages: int = 1
    problem: str = ""  # why it ended early, in a few words


GetPage = Callable[[str], Awaitable[Page]]


async def walk_pages(
    first: Page, get_page: GetPage, state: WalkState, known: Mapping[str, ArchivedItem], now: datetime
) -> Walk:
    """Read on from the first page for as long as it is needed.

    A page that cannot be had or read ends the walk; what came before counts, and the next walk goes on
    there. So does the bound on pages.

    Args: get_page: fetches and parses, raising FeedError or TryAgainError; known: the archive's items by id.
    """
    return await _Walk(first, get_page, state, known, now).run()


@dataclass(slots=True)
class _Walk:
    first: Page
    get_page: GetPage
    state: WalkState
    known: Mapping[str, ArchivedItem]
    now: datetime
    items: list[Item] = field(default_factory=list)
    refused: list[RefusedItem] = field(default_factory=list)
    listed: set[str] = field(default_factory=set)  # ids seen in this walk
    visited: set[str] = field(default_factory=set)
    size: int = 0  # bytes of item XML
    is_degraded: bool = False
    resumed: bool = False  # pages were left out that an earlier walk has read

    async def run(self) -> Walk:
        page, pages = self.first, 1
        url = page.url
        self._take(page.feed)
        while True:
            self.visited |= {_plain(url), _plain(page.url)}
            next_url = self._next_of(page, url)
            if next_url is None:
                return self._done(pages, ended=True, whole=not self.resumed)
            if self._joins(page.feed):
                if not self.state.resume_at:
                    return self._done(pages, ended=False, whole=False)
                if not self.resumed:
                    next_url, self.resumed = self.state.resume_at, True
            if pages >= MAX_PAGES:
                return self._broken(pages, next_url, f"it has more than {MAX_PAGES} pages")
            try:
                page = await self.get_page(next_url)
            except (FeedError, TryAgainError) as error:
                return self._broken(pages, next_url, str(error))
            url = next_url
            pages += 1
            if not self._take(page.feed):  # the same again under another address, for ever perhaps
                return self._done(pages, ended=True, whole=False)
            if len(self.items) > MAX_ITEMS or self.size > MAX_ITEMS_BYTES:
                return self._broken(pages, next_url, "its pages hold more than a feed may have")

    def _next_of(self, page: Page, url: str) -> str | None:
        """The address to go on at; None at the end, which a page that leads back to a former one is too."""
        channel = page.feed.channel
        if not channel.next_page_url:
            return None
        next_url, last_url = (
            resolve(page.url, one) for one in (channel.next_page_url, channel.last_page_url)
        )
        if channel.last_page_url and _plain(last_url) in (_plain(url), _plain(page.url)):
            return None
        return None if _plain(next_url) in self.visited else next_url

    def _take(self, feed: ParsedFeed) -> bool:
        """Add what a page lists. Returns: whether anything of it is new to this walk."""
        before = len(self.listed)
        self.listed.update(item_id(item.guid) for item in feed.items)
        self.listed.update(item_id(item.guid) for item in feed.refused)
        self.items += feed.items
        self.refused += feed.refused
        self.size += sum(len(item.xml) for item in feed.items)
        self.is_degraded = self.is_degraded or feed.degraded
        return len(self.listed) > before

    def _joins(self, feed: ParsedFeed) -> bool:
        """Whether the rest can be taken for what it was when the end was last seen.

        It can if this page lists just what the archive has, and the archive has nothing that should
        have come by now: then something is gone, and only the end tells what.
        """
        ended_at = self.state.ended_at
        if ended_at is None and not self.state.resume_at:
            return False
        if ended_at is not None and self.now - ended_at >= timedelta(days=WHOLE_WALK_DAYS):
            return False
        if not feed.items or feed.refused or feed.degraded:
            return False
        for item in feed.items:
            old = self.known.get(item_id(item.guid))
            if old is None or old.removed_at is not None or old.record.digest != item.digest:
                return False
        oldest = min((self.known[name].path for name in self.listed if name in self.known), default="")
        return not any(
            old.path > oldest and old.removed_at is None and name not in self.listed
            for name, old in self.known.items()
        )

    def _broken(self, pages: int, url: str, problem: str) -> Walk:
        walk = self._done(pages, ended=False, whole=False)
        walk.state = WalkState(self.state.ended_at, url)
        walk.problem = problem
        return walk

    def _done(self, pages: int, *, ended: bool, whole: bool) -> Walk:
        feed = replace(
            self.first.feed,
            items=tell_apart(self.items[:MAX_ITEMS]),
            refused=tuple(self.refused),
            degraded=self.is_degraded,
        )
        state = self.state
        if ended:
            state = WalkState(self.now) if pages > 1 else WalkState()
        return Walk(feed, state, whole, pages)


def _plain(url: str) -> str:
    return urldefrag(url)[0]
