"""What a home serves of a feed, held against what the origin says: ``p2prss diff``."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from p2prss.errors import FeedFormatError, UsageError
from p2prss.feed.archive.archive import FeedArchive
from p2prss.feed.archive.order import in_origin_order
from p2prss.feed.document.differences import Difference, Document, Rule, find_differences
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.repair import MAX_FEED_BYTES
from p2prss.feed.model import ParsedFeed
from p2prss.feed.origin.fetch import Fetcher
from p2prss.feed.origin.url import public_url
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import open_for_reading
from p2prss.node.open_feed import OpenFeed
from p2prss.node.saved_feeds import SavedFeed
from p2prss.serve.listings import OneShow
from p2prss.serve.rss import FeedAnswers
from p2prss.serve.windows import Window


async def diff_feed(
    home: HomePaths, text: str, *, base_url: str, fetch: bool = False
) -> Sequence[Difference]:
    """What differs between the origin's feed and the one served below ``base_url``, by rule.

    The origin's words are those in the archive or, with ``fetch``, those it says now.
    Raises: UsageError for an unknown feed, and with ``fetch`` for one whose source this home does not
        know; FetchError, FeedFormatError; what the drive raises when a text is not here.
    """
    async with open_for_reading(home) as (saved, opener, _):
        listed = saved.find(text)
        feed = await opener.open(listed, eager=False)
        served = await _served(feed, base_url)
        if fetch:
            parsed = await _fetched(listed)
            notes = _notes(parsed.source_format, parsed.repairs, is_degraded=parsed.degraded)
            items = [(item.guid, item.xml) for item in parsed.items]
            origin = Document(parsed.channel.xml, items)
        else:
            info = await feed.archive.info()
            notes = _notes(info.source_format, (), is_degraded=info.degraded)
            origin = await _archived(feed.archive)
        return notes + await trio.to_thread.run_sync(find_differences, origin, served, base_url)


async def _served(feed: OpenFeed, base_url: str) -> bytes:
    reply = await FeedAnswers().answer(OneShow(feed), Window(page=0), base_url, {})
    if reply is None:
        raise FeedFormatError("this feed has nothing to serve")
    return bytes(reply.body)


async def _archived(archive: FeedArchive) -> Document:
    """The origin's feed as it was read last: what it dropped is not in it."""
    listed = [item for item in in_origin_order(await archive.items()) if item.removed_at is None]
    items = []
    for item in listed:
        try:
            items.append((item.guid, await archive.item_xml(item)))
        except FeedFormatError:
            continue  # nor is it served
    return Document(await archive.channel(), items)


async def _fetched(saved: SavedFeed) -> ParsedFeed:
    source = saved.source
    if source is None:
        raise UsageError("this home follows the feed and has no source of it; leave out --fetch")
    if await trio.Path(source).is_dir():
        raise UsageError("the source is a folder, which has no feed of its own; leave out --fetch")
    async with _scratch() as folder, Fetcher(source) as fetcher:
        got = await fetcher.fetch(
            fetcher.source_url, folder / "feed", max_bytes=MAX_FEED_BYTES, compressed=True
        )
        data = await trio.Path(got.path).read_bytes()
        url = "" if fetcher.is_local else public_url(got.url)

        def parse() -> ParsedFeed:
            return parse_feed(data, url=url, content_type=got.mime_type)

        return await trio.to_thread.run_sync(parse)


@asynccontextmanager
async def _scratch() -> AsyncIterator[Path]:
    with TemporaryDirectory(prefix="p2prss-diff-") as name:
        yield Path(name)


def _notes(source_format: str, repairs: Sequence[str], *, is_degraded: bool) -> list[Difference]:
    """What was done before anything could be compared."""
    texts = list(repairs)
    if source_format != "rss":
        texts.append(f"rewritten as RSS ({source_format})")
    if is_degraded:
        texts.append("degraded: it was too broken to be read as it is")
    return [
        Difference(rule=Rule.FORMAT, where="channel", element="document", origin=None, served=text)
        for text in texts
    ]
