"""Looking at a home and caring for it, without the network.

What only looks opens the store for reading and takes no lock, so it works while a node runs. What is
not local is counted as missing; nothing waits for peers.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import msgspec
import trio

from p2prss.crypto.keys import CoreKey
from p2prss.drive.blobs import Held
from p2prss.drive.errors import DriveError
from p2prss.drive.reader import DriveReader
from p2prss.errors import (
    BlockUnavailableError,
    ConflictError,
    CorruptLogError,
    FeedFormatError,
    NetworkError,
    P2prssError,
    UsageError,
)
from p2prss.feed.archive.records import ArchivedItem, Removal
from p2prss.feed.mirroring.capture_memory import CAPTURES_KIND, read_state
from p2prss.feed.origin.url import host_of, redact
from p2prss.log.store import Store
from p2prss.net.exchange import Exchange
from p2prss.node.events import Event
from p2prss.node.home_paths import HomePaths
from p2prss.node.open_feed import FeedOpener, OpenFeed
from p2prss.node.polling import SourceStatus
from p2prss.node.saved_feeds import SavedFeed, SavedFeeds

Emit = Callable[[Event], None]


class ListedFeed(msgspec.Struct, frozen=True, kw_only=True):
    """A feed of this home."""

    key: str
    slug: str
    role: str
    title: str
    source: str | None
    created: datetime
    problem: str | None = None  # why its record can't be read, and what to do


class FeedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a feed is here.

    ``bytes`` are those of all captured media, ``local_bytes`` those here, with parts of files that are
    not whole; ``local_media_files`` counts whole ones. ``waiting_files`` of our own feeds could not be had
    and are asked for again later; two captures of ``dynamic_files`` differed (inserted advertisements).
    ``source_format`` is what the origin's feed was written in; a ``degraded`` one was too broken for all of
    it to be kept.
    """

    key: str
    slug: str
    role: str
    title: str
    version: int
    episodes: int
    removed_episodes: int
    taken_out_episodes: int = 0  # of these, those that did not just age out
    media_files: int
    local_media_files: int
    bytes: int
    local_bytes: int
    uncaptured_files: int
    waiting_files: int = 0
    dynamic_files: int = 0
    dynamic_hosts: tuple[str, ...] = ()
    blocks: int
    local_blocks: int
    updated: datetime | None
    source_format: str = ""
    degraded: bool = False
    problem: str | None = None
    source: SourceStatus | None = None


@asynccontextmanager
async def open_for_reading(home: HomePaths) -> AsyncIterator[tuple[SavedFeeds, FeedOpener, Store]]:
    """The home's feeds, read only; a home that nobody has used yet has none.

    Raises: UsageError when there is no such home; SchemaError, StorageError.
    """
    if not home.exists:
        raise UsageError(f"nothing at {home.path} yet; start with: p2prss publish URL, or: p2prss follow KEY")
    store = await trio.to_thread.run_sync(lambda: Store.open_read_only(home.path))
    try:
        async with trio.open_nursery() as nursery:
            yield SavedFeeds(store), FeedOpener(store, Exchange(store, nursery, patience=0.0)), store
            nursery.cancel_scope.cancel()
    finally:
        store.close()


async def list_feeds(home: HomePaths) -> Sequence[ListedFeed]:
    """All feeds of the home, oldest first; none where nothing was ever stored."""
    if not home.exists:
        return []
    async with open_for_reading(home) as (saved, _, _):
        return [_listed(feed) for feed in saved.all()]


async def find_feed(home: HomePaths, text: str) -> SavedFeed:
    """The feed that is meant. Raises: UsageError."""
    async with open_for_reading(home) as (saved, _, _):
        return saved.find(text)


async def feed_status(home: HomePaths, text: str | None) -> Sequence[FeedStatus]:
    """How much of one feed, or of all, is here."""
    if text is None and not home.exists:
        return []
    async with open_for_reading(home) as (saved, opener, store):
        found = []
        for feed in chosen(saved, text):
            try:
                opened = await opener.open(feed, eager=False)
                status = await _status(opened, store.get_record(CAPTURES_KIND, feed.key))
            except P2prssError as error:  # of what is stored of it; the others are told all the same
                status = _unreadable(feed, str(error))
            source = SourceStatus.load(store, feed.key) if feed.source else None
            found.append(
                msgspec.structs.replace(status, source=source, problem=feed.trouble or status.problem)
            )
        return found


async def remove_feed(home: HomePaths, feed: SavedFeed) -> ListedFeed:
    """Delete a feed and its logs, but for those that another feed has as well: any writer may name them.

    Raises: HomeLockedError while a node runs on this home.
    """
    store = await trio.to_thread.run_sync(Store.open, home.path)
    try:
        saved = SavedFeeds(store)
        async with trio.open_nursery() as nursery:
            opener = FeedOpener(store, Exchange(store, nursery, patience=0.0))
            keys = await core_keys(opener, feed)
            for other in saved.all():
                if other.key != feed.key:
                    keys -= await core_keys(opener, other)
            nursery.cancel_scope.cancel()
        saved.delete(feed)
        for key in keys:
            await trio.to_thread.run_sync(store.remove, key)
    finally:
        store.close()
    return _listed(feed)


def _listed(feed: SavedFeed) -> ListedFeed:
    return ListedFeed(
        key=feed.key,
        slug=feed.slug,
        role=feed.role,
        title=feed.label,
        source=redact(feed.source) if feed.source else None,
        created=feed.created,
        problem=feed.trouble or None,
    )


async def core_keys(opener: FeedOpener, saved: SavedFeed) -> set[CoreKey]:
    """The keys of a feed's logs, as far as what is here names them and can be read."""
    found: set[CoreKey] = set()
    with suppress(P2prssError):
        found.add(saved.core_key)
        feed = await opener.open(saved, eager=False)
        try:
            if feed.db.length:
                await feed.blobs()
        finally:
            found |= {core.key for core in feed.cores}
    return found


def chosen(saved: SavedFeeds, text: str | None) -> Sequence[SavedFeed]:
    return saved.all() if text is None else [saved.find(text)]


def _unreadable(saved: SavedFeed, problem: str) -> FeedStatus:
    return FeedStatus(
        key=saved.key,
        slug=saved.slug,
        role=saved.role,
        title=saved.label,
        version=0,
        episodes=0,
        removed_episodes=0,
        media_files=0,
        local_media_files=0,
        bytes=0,
        local_bytes=0,
        uncaptured_files=0,
        blocks=0,
        local_blocks=0,
        updated=None,
        problem=problem,
    )


async def _status(feed: OpenFeed, captures: bytes | None) -> FeedStatus:
    saved = feed.saved
    items: Sequence[ArchivedItem] = ()
    updated, problem = None, None
    media: dict[str, int] = {}
    uncaptured = 0
    dynamic: list[str] = []
    source_format, degraded = "", False
    cores = feed.cores
    try:
        if feed.db.length:
            await feed.blobs()
            info, items = await feed.archive.info(), await feed.archive.items()
            updated, source_format, degraded = info.updated, info.source_format, info.degraded
            for asset in [*info.channel_assets, *(asset for item in items for asset in item.assets)]:
                if asset.note == "dynamic":
                    dynamic.append(host_of(asset.url))
                if asset.path is None:
                    uncaptured += 1
                else:
                    media[asset.path] = asset.byte_length or 0
    except (
        NetworkError,
        BlockUnavailableError,
        ConflictError,
        CorruptLogError,
        FeedFormatError,
        DriveError,
    ) as error:
        problem = str(error)
    if feed.conflict is not None:
        problem = str(feed.conflict)
    held = {path: await held_of(feed.drive, path) for path in media}
    return FeedStatus(
        key=saved.key,
        slug=saved.slug,
        role=saved.role,
        title=saved.label,
        version=feed.drive.version,
        episodes=len(items),
        removed_episodes=sum(item.removed_at is not None for item in items),
        taken_out_episodes=sum(item.removed_as == Removal.TAKEN_OUT for item in items),
        media_files=len(media),
        local_media_files=sum(one.blocks == one.total for one in held.values()),
        bytes=sum(media.values()),
        local_bytes=sum(size * held[path].blocks // max(held[path].total, 1) for path, size in media.items()),
        uncaptured_files=uncaptured,
        waiting_files=len(read_state(captures).failures),
        dynamic_files=len(dynamic),
        dynamic_hosts=tuple(sorted(set(dynamic))),
        blocks=sum(core.length for core in cores),
        local_blocks=sum(core.held_total for core in cores),
        updated=updated,
        source_format=source_format,
        degraded=degraded,
        problem=problem,
    )


async def held_of(drive: DriveReader, path: str) -> Held:
    """How much of a file is here; nothing, where it cannot be known."""
    try:
        return await drive.held(path)
    except (UsageError, NetworkError, BlockUnavailableError, ConflictError, CorruptLogError, DriveError):
        return Held(0, 1)
