"""The feed of an origin as an update reads it: from where it has moved to, page by page."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import msgspec
import trio

from p2prss.errors import FeedFormatError, FetchError, GoneError
from p2prss.feed.archive.records import ArchivedItem
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.repair import MAX_FEED_BYTES
from p2prss.feed.mirroring.paging import Page, Walk, WalkState, walk_pages
from p2prss.feed.mirroring.report import FeedMoved, MirrorEvent
from p2prss.feed.mirroring.shelf import MadeFeed
from p2prss.feed.model import ParsedFeed
from p2prss.feed.origin.fetch import Fetched, Fetcher, Retries, Validators
from p2prss.feed.origin.moves import Journey, Stop, follow_moves, redirect_document
from p2prss.feed.origin.url import public_url

FEED_SECONDS: Final = 300.0  # for a feed, or a page of it, in one attempt


class MirrorState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept between updates, for this home only."""

    url: str = ""  # where the feed has moved to for good
    etag: str = ""
    last_modified: str = ""
    source_was_public: bool = False  # its host was on the internet once: it is not at home
    pages: WalkState = WalkState()


class OriginFeed:
    """Reads one source's feed in one update.

    Args: folder: for documents on their way; made: what makes the feed of a source that is none.
    """

    def __init__(
        self, fetcher: Fetcher, folder: Path, state: MirrorState, retries: Retries, made: MadeFeed | None
    ) -> None:
        self._fetcher = fetcher
        self._folder = folder
        self._state = state
        self._retries = retries
        self._made = made

    async def first(self, *, is_known: bool) -> tuple[Fetched, str]:
        """Get the feed from where it has moved to, else from where the user said.

        Args: is_known: whether the archive holds what the state's validators stand for.
        Returns: the feed, and the address it was asked from where that is not the user's.
        Raises: FetchError, TryAgainError, StorageError.
        """
        if self._made is not None:
            return await self._made.read(self._folder / "feed"), ""
        state, source_url = self._state, self._fetcher.source_url
        validators = Validators(state.etag, state.last_modified) if is_known else None
        if state.pages.resume_at:  # pages are still to be read, and the first is where that begins
            validators = None
        if not state.url:
            return await self._get(source_url, "feed", validators), ""
        try:
            return await self._get(state.url, "feed", validators), state.url
        except FetchError as error:
            try:
                return await self._get(source_url, "feed"), ""  # it moved on, or back
            except GoneError:
                raise error from None
            except FetchError as other:
                raise (other if isinstance(error, GoneError) else error) from None

    async def walk(
        self,
        fetched: Fetched,
        asked_url: str,
        known: Mapping[str, ArchivedItem],
        now: datetime,
        tell: Callable[[MirrorEvent], None],
    ) -> tuple[Walk, Fetched, str]:
        """Read the feed, where it says that it is now, and the pages that follow its first.

        Args: fetched, asked_url: as ``first`` returned them; known: the archive's items by id.
        Returns: what was read; the reply it begins with, and where that was asked for if the feed has moved.
        Raises: FeedFormatError when there is none.
        """

        async def stop_at(url: str, one: Fetched) -> Stop[tuple[Fetched, Page | None]]:
            url, data = one.moved_to or url, await trio.Path(one.path).read_bytes()
            if target := redirect_document(data):
                return Stop(url, target, (one, None))
            page = await self._read(one)
            return Stop(url, page.feed.channel.new_feed_url, (one, page))

        async def get_stop(url: str) -> Stop[tuple[Fetched, Page | None]]:
            return await stop_at(url, await self._get(url, "moved"))

        async def get_page(url: str) -> Page:
            return await self._read(await self._get(url, "page"))

        start = await stop_at(asked_url or self._fetcher.source_url, fetched)
        journey = (
            Journey(start) if self._fetcher.is_local or self._made else await follow_moves(start, get_stop)
        )
        fetched, first = journey.end.feed
        if first is None:
            raise FeedFormatError(f"this is no feed: it says that it has moved; {journey.problem}")
        if journey.problem:
            tell(FeedMoved("", journey.problem))
        walk = await walk_pages(first, get_page, self._state.pages, known, now)
        return walk, fetched, "" if journey.end is start else journey.end.url

    async def _get(self, url: str, name: str, validators: Validators | None = None) -> Fetched:
        return await self._fetcher.fetch(
            url,
            self._folder / name,
            max_bytes=MAX_FEED_BYTES,
            validators=validators,
            retries=self._retries,
            compressed=True,
            total_seconds=FEED_SECONDS,
        )

    async def _read(self, one: Fetched) -> Page:
        base_url = "" if self._fetcher.is_local else public_url(one.url)
        data = await trio.Path(one.path).read_bytes()
        feed = await trio.to_thread.run_sync(_parse, data, base_url, one.mime_type)
        return Page(feed, urljoin(self._fetcher.source_url, one.url))


def _parse(data: bytes, url: str, content_type: str) -> ParsedFeed:
    return parse_feed(data, url=url, content_type=content_type)
