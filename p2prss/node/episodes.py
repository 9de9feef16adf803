"""The episodes of a feed as it is or as it was: list them, find one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import msgspec

from p2prss.drive.reader import DriveReader
from p2prss.errors import UsageError
from p2prss.feed.archive.archive import FeedArchive
from p2prss.feed.archive.history import FeedHistory, Version
from p2prss.feed.archive.records import HYPER_RSS, ArchivedItem, Asset
from p2prss.feed.model import Role
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import held_of, open_for_reading
from p2prss.node.open_feed import OpenFeed


class ShownEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """One episode; ``local`` when all of its audio is here, whatever of its pictures and texts is.

    ``removed_as`` says how it left the origin's feed: ``aged-out`` or ``taken-out``.
    """

    item_id: str
    guid: str
    title: str
    published: datetime | None
    first_seen: datetime
    removed_at: datetime | None
    removed_as: str | None
    bytes: int
    local: bool
    assets: tuple[Asset, ...]


@dataclass(frozen=True)
class FeedView:
    """A feed at one version; ``version`` is None for the newest."""

    feed: OpenFeed
    drive: DriveReader
    archive: FeedArchive
    version: Version | None = None


@asynccontextmanager
async def open_view(home: HomePaths, text: str, at: datetime | None) -> AsyncIterator[FeedView]:
    """A feed of the home as it was at a date, or as it is.

    Raises: UsageError when there is no such feed, or nothing of it from that date; what ``open_for_reading``
    raises.
    """
    async with open_for_reading(home) as (saved, opener, _):
        feed = await opener.open(saved.find(text), eager=False)
        if at is None:
            yield FeedView(feed, feed.drive, feed.archive)
            return
        version = await _version_at(feed, at)
        drive = feed.drive.checkout(version.version)
        yield FeedView(feed, drive, FeedArchive(drive), version)


async def history_of(feed: OpenFeed) -> FeedHistory:
    """Its history. Raises: UsageError for a feed that has none; FeedFormatError for what is no feed."""
    if not feed.db.length:
        raise UsageError(f"nothing of {feed.title} has arrived yet")
    if (await feed.archive.info()).source_format == HYPER_RSS:
        raise UsageError(f"{feed.title} is a feed of hyper-rss: it keeps no history")
    return FeedHistory(feed.drive)


async def _version_at(feed: OpenFeed, at: datetime) -> Version:
    history = await history_of(feed)
    version = await history.at(at)
    if version is None:
        first = await history.first()
        known = (
            f"its first version is of {first.at:%Y-%m-%d %H:%M} UTC" if first else "its dates are not here"
        )
        raise UsageError(f"{feed.title} has no version of {at:%Y-%m-%d %H:%M} UTC or before: {known}")
    return version


async def show_feed(
    home: HomePaths, text: str, item: str | None = None, at: datetime | None = None
) -> tuple[Sequence[ShownEpisode], Version | None]:
    """The episodes of a feed, newest first, or the one that is meant; and the version, if it is an older one.

    Raises: UsageError where there is no such feed, episode or version; StorageError, DriveError.
    """
    async with open_view(home, text, at) as view:
        items = await view.archive.items()
        wanted = items if item is None else [find_item(items, item)]
        return [await _episode(view.drive, one) for one in wanted], view.version


def find_item(items: Sequence[ArchivedItem], text: str) -> ArchivedItem:
    """The item of this id or guid, else the only one whose id begins so or whose title has it.

    Raises: UsageError.
    """
    for item in items:
        if text in (item.item_id, item.guid):
            return item
    found = [item for item in items if len(text) >= 4 and item.item_id.startswith(text)]
    found = found or [item for item in items if text.casefold() in item.title.casefold()]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} episodes match" if found else "no episode matches"
    raise UsageError(f"{what} {text[:100]!r}: give an id as `p2prss show FEED` lists them, or a guid")


async def _episode(drive: DriveReader, item: ArchivedItem) -> ShownEpisode:
    main = [asset for asset in item.assets if asset.role == Role.ENCLOSURE] or item.assets
    held = [await held_of(drive, asset.path) if asset.path is not None else None for asset in main]
    return ShownEpisode(
        item_id=item.item_id,
        guid=item.guid,
        title=item.title,
        published=item.published,
        first_seen=item.first_seen,
        removed_at=item.removed_at,
        removed_as=item.removed_as,
        bytes=sum(asset.byte_length or 0 for asset in item.assets),
        local=bool(held) and all(one is not None and one.blocks == one.total for one in held),
        assets=item.assets,
    )
