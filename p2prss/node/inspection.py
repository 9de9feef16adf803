"""Looking at a home and caring for it, without the network.

What only looks opens the store for reading and takes no lock, so it works while a node runs. What is
not local is counted as missing; nothing waits for peers.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import msgspec
import trio

from p2prss.crypto.keys import CoreKey
from p2prss.drive.blobs import Held
from p2prss.drive.errors import DriveError
from p2prss.errors import (
    BlockUnavailableError,
    ConflictError,
    CorruptLogError,
    FeedFormatError,
    NetworkError,
    P2prssError,
    UsageError,
)
from p2prss.feed.capture_memory import CAPTURES_KIND, read_state
from p2prss.feed.model import ArchivedItem, Role
from p2prss.feed.origin.url import redact
from p2prss.log.checking import VerifyReport
from p2prss.log.store import Store
from p2prss.net.exchange import Exchange
from p2prss.node.events import Event, Progress
from p2prss.node.home_paths import HomePaths
from p2prss.node.open_feed import FeedOpener, OpenFeed
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


class FeedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a feed is here.

    ``bytes`` are those of all captured media, ``local_bytes`` those here, with parts of files that are
    not whole; ``local_media_files`` counts whole ones. ``waiting_files`` of our own feeds could not be had
    and are asked for again later; two captures of ``dynamic_files`` differed (inserted advertisements).
    """

    key: str
    slug: str
    role: str
    title: str
    version: int
    episodes: int
    removed_episodes: int
    media_files: int
    local_media_files: int
    bytes: int
    local_bytes: int
    uncaptured_files: int
    waiting_files: int = 0
    dynamic_files: int = 0
    blocks: int
    local_blocks: int
    updated: datetime | None
    problem: str | None = None


class ShownEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """One episode; ``local`` when all of its audio is here, whatever of its pictures and texts is."""

    item_id: str
    guid: str
    title: str
    published: datetime | None
    removed_at: datetime | None
    bytes: int
    local: bool
    assets: tuple[msgspec.Struct, ...]


class VerifyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a feed back showed; ``damaged_files`` are paths in the drive."""

    key: str
    slug: str
    ok: bool
    blocks: int
    bytes: int
    damaged_blocks: int
    damaged_files: tuple[str, ...]
    problem: str | None


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
        return [
            await _status(await opener.open(feed, eager=False), store.get_record(CAPTURES_KIND, feed.key))
            for feed in _chosen(saved, text)
        ]


async def show_feed(home: HomePaths, text: str) -> Sequence[ShownEpisode]:
    """The episodes of a feed, newest first."""
    async with open_for_reading(home) as (saved, opener, _):
        feed = await opener.open(saved.find(text), eager=False)
        return [await _episode(feed, item) for item in await feed.archive.items()]


async def verify_feeds(home: HomePaths, text: str | None, emit: Emit) -> Sequence[VerifyResult]:
    """Read one feed's stored blocks back, or all feeds', and check them against the signed heads."""
    if text is None and not home.exists:
        return []
    async with open_for_reading(home) as (saved, opener, _):
        return [await _verify(await opener.open(feed, eager=False), emit) for feed in _chosen(saved, text)]


async def remove_feed(home: HomePaths, feed: SavedFeed) -> ListedFeed:
    """Delete a feed and its logs, but for those that another feed has as well: any writer may name them.

    Raises: HomeLockedError while a node runs on this home.
    """
    store = await trio.to_thread.run_sync(Store.open, home.path)
    try:
        saved = SavedFeeds(store)
        async with trio.open_nursery() as nursery:
            opener = FeedOpener(store, Exchange(store, nursery, patience=0.0))
            keys = await _core_keys(opener, feed)
            for other in saved.all():
                if other.key != feed.key:
                    keys -= await _core_keys(opener, other)
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
    )


async def _core_keys(opener: FeedOpener, saved: SavedFeed) -> set[CoreKey]:
    """The keys of a feed's logs, as far as what is here names them."""
    feed = await opener.open(saved, eager=False)
    if feed.db.length:
        with suppress(P2prssError):
            await feed.blobs()
    return {core.key for core in feed.cores}


def _chosen(saved: SavedFeeds, text: str | None) -> Sequence[SavedFeed]:
    return saved.all() if text is None else [saved.find(text)]


async def _status(feed: OpenFeed, captures: bytes | None) -> FeedStatus:
    saved = feed.saved
    items: Sequence[ArchivedItem] = ()
    updated, problem = None, None
    media: dict[str, int] = {}
    uncaptured = dynamic = 0
    cores = feed.cores
    try:
        if feed.db.length:
            await feed.blobs()
            info, items = await feed.archive.info(), await feed.archive.items()
            updated = info.updated
            for asset in [*info.channel_assets, *(asset for item in items for asset in item.assets)]:
                dynamic += asset.note == "dynamic"
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
    held = {path: await _held(feed, path) for path in media}
    return FeedStatus(
        key=saved.key,
        slug=saved.slug,
        role=saved.role,
        title=saved.label,
        version=feed.drive.version,
        episodes=len(items),
        removed_episodes=sum(item.removed_at is not None for item in items),
        media_files=len(media),
        local_media_files=sum(one.blocks == one.total for one in held.values()),
        bytes=sum(media.values()),
        local_bytes=sum(size * held[path].blocks // max(held[path].total, 1) for path, size in media.items()),
        uncaptured_files=uncaptured,
        waiting_files=len(read_state(captures).failures),
        dynamic_files=dynamic,
        blocks=sum(core.length for core in cores),
        local_blocks=sum(core.held_total for core in cores),
        updated=updated,
        problem=problem,
    )


async def _held(feed: OpenFeed, path: str) -> Held:
    try:
        return await feed.drive.held(path)
    except (UsageError, NetworkError, BlockUnavailableError, ConflictError, CorruptLogError, DriveError):
        return Held(0, 1)


async def _episode(feed: OpenFeed, item: ArchivedItem) -> ShownEpisode:
    main = [asset for asset in item.assets if asset.role == Role.ENCLOSURE] or item.assets
    held = [await _held(feed, asset.path) if asset.path is not None else None for asset in main]
    return ShownEpisode(
        item_id=item.item_id,
        guid=item.guid,
        title=item.title,
        published=item.published,
        removed_at=item.removed_at,
        bytes=sum(asset.byte_length or 0 for asset in item.assets),
        local=bool(held) and all(one is not None and one.blocks == one.total for one in held),
        assets=item.assets,
    )


async def _verify(feed: OpenFeed, emit: Emit) -> VerifyResult:
    problems: list[str] = []
    files: list[str] = []
    damaged = size = 0
    blobs = await feed.blobs() if feed.db.length and feed.db.has(0) else None
    for core in feed.cores:

        def progress(done: int, total: int) -> None:
            trio.from_thread.run_sync(
                emit,
                Progress(
                    key=feed.saved.key, what=f"checking {feed.title}", done=done, total=total, unit="blocks"
                ),
            )

        report = await trio.to_thread.run_sync(core.log.verify, progress)
        size += report.checked_bytes
        if not report.clean:
            damaged += len(report.corrupt_blocks)
            problem = _words(report)
            if core is blobs and (found := await _files_with(feed, report.corrupt_blocks)):
                files += found
                problem += f", in {await _title_of(feed, found[0])}"
                problem += f" and {len(found) - 1} more files" if len(found) > 1 else ""
            problems.append(problem)
    return VerifyResult(
        key=feed.saved.key,
        slug=feed.slug,
        ok=not problems,
        blocks=sum(core.held_total for core in feed.cores),
        bytes=size,
        damaged_blocks=damaged,
        damaged_files=tuple(files),
        problem="; ".join(problems) or None,
    )


async def _files_with(feed: OpenFeed, blocks: Sequence[int]) -> list[str]:
    """The files that hold some of these blocks; none where the drive's entries can't be read."""
    found: list[str] = []
    with suppress(P2prssError):
        blobs = await feed.drive.blobs()
        async for entry in feed.drive.entries():
            ranges = await blobs.blocks(entry.blob) if entry.blob is not None else []
            if any(bisect_left(blocks, start) < bisect_left(blocks, stop) for start, stop in ranges):
                found.append(entry.path)
    return found


async def _title_of(feed: OpenFeed, path: str) -> str:
    """The episode a file belongs to, else its path."""
    with suppress(P2prssError):
        for item in await feed.archive.items():
            if path == item.path or any(asset.path == path for asset in item.assets):
                return f"{item.title!r}"
    return path


def _words(report: VerifyReport) -> str:
    """What is wrong, in a few words."""
    wrong = []
    if report.corrupt_blocks:
        count = len(report.corrupt_blocks)
        wrong.append(f"{count} blocks fail their hash" if count > 1 else "a block fails its hash")
    if report.corrupt_nodes:
        wrong.append(f"{len(report.corrupt_nodes)} nodes of the tree are wrong")
    if not report.head_valid:
        wrong.append("the signature does not fit")
    return ", ".join(wrong)
