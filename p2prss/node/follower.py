"""Following a feed: its list is kept whole and fresh, and as many episodes as were asked for.

What is wanted is worked out anew for each version of the feed: the entries first (they list everything),
then the texts of all items, then the media of the wanted ones, newest first. A new version ends the
present round; blocks that have arrived stay.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from p2prss.crypto.key_text import format_key
from p2prss.drive.entry import DriveEntry
from p2prss.drive.errors import DriveError
from p2prss.errors import P2prssError
from p2prss.feed.archive.archive import CHANNEL_PATH, INFO_PATH, SITE_FOLDER
from p2prss.feed.archive.purge import forget_files, own_paths
from p2prss.feed.archive.records import ArchivedItem, RemovedPolicy
from p2prss.net.core import PeerCore
from p2prss.node.events import Event, Progress, Synced
from p2prss.node.open_feed import OpenFeed
from p2prss.node.orders import Wanted
from p2prss.node.patience import Patience, keep_trying
from p2prss.node.plain_feed import keep_plain_feed
from p2prss.units import MIB

PROGRESS_SECONDS: Final = 0.5  # between two progress events
UNFINISHED_SECONDS: Final = 60.0  # for news of a publisher that has not finished its update
SETTLE_SECONDS: Final = 5.0  # ``--once``: for a peer that may know of news when all that is known is here
MAX_KEPT_PAGE_BYTES: Final = 4 * MIB  # of a published site: a larger file is fetched when it is read
MAX_KEPT_PAGES_BYTES: Final = 128 * MIB  # of all its pages that a follower keeps

Emit = Callable[[Event], None]


@dataclass
class Goal:
    """What is to be local for one version of a feed."""

    version: int
    episodes: int = 0
    media_files: int = 0
    bytes: int = 0
    texts: list[tuple[int, int]] = field(default_factory=list)  # ranges of blocks of the blobs core
    media: list[tuple[int, int]] = field(default_factory=list)  # likewise, in the order to fetch them


class Follower:
    """Keeps one feed; ``run`` never returns unless told to stop when all is here."""

    def __init__(self, feed: OpenFeed, wanted: Wanted, emit: Emit, on_title: Callable[[str], None]) -> None:
        self._feed = feed
        self._wanted = wanted
        self._emit = emit
        self._on_title = on_title
        self._key = format_key(feed.key)

    async def run(self, *, once: bool = False, patience: Patience | None = None) -> None:
        """Keep the feed up to date.

        Raises: with ``once`` NoPeersError when nobody brings what is missing; StorageError, DriveError
            and FeedFormatError when it can't be kept or is no feed.
        """
        drive = self._feed.drive
        self._feed.db.follow_tip()
        async with trio.open_nursery() as nursery:
            if once:
                nursery.start_soon((patience or Patience()).watch, self._feed)
                await self._settle()
            if self._wanted == Wanted():
                nursery.start_soon(keep_plain_feed, self._feed)
            while True:
                version = drive.version
                with trio.CancelScope() as scope:
                    nursery.start_soon(self._cancel_when_newer, version, scope)
                    if drive.db.length:
                        goal = await keep_trying(partial(self._complete, version))
                        if await grows(self._feed):
                            continue
                        self._emit(
                            Synced(
                                key=self._key,
                                version=goal.version,
                                episodes=goal.episodes,
                                media_files=goal.media_files,
                                bytes=goal.bytes,
                            )
                        )
                        if once:
                            break
                    await trio.sleep_forever()  # until there is a newer version
            nursery.cancel_scope.cancel()

    async def _cancel_when_newer(self, version: int, scope: trio.CancelScope) -> None:
        await self._feed.drive.wait_changed(version)
        scope.cancel()

    async def _complete(self, version: int) -> Goal:
        """Fetch all that is wanted of this version."""
        await self._feed.drive.download_entries()
        info = await self._feed.archive.info()
        if info.title:
            self._on_title(info.title)
        goal = await self._goal(version)
        blobs = await self._feed.blobs()
        await blobs.wait_length(max((stop for _, stop in goal.texts + goal.media), default=0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_progress, blobs, goal)
            for start, stop in [*goal.texts, *goal.media]:
                await blobs.download(start, stop)
            nursery.cancel_scope.cancel()
        return goal

    async def _goal(self, version: int) -> Goal:
        """Work out what this version's texts and wanted media are, from its entries alone."""
        archive, drive = self._feed.archive, self._feed.drive
        info, items = await archive.info(), await archive.items()
        if archive.removed is RemovedPolicy.PURGE:
            taken_out = [item for item in items if item.is_taken_out]
            await self._forget(own_paths(taken_out, items, info.channel_assets))
            items = [item for item in items if not item.is_taken_out]
        goal = Goal(version, episodes=len(items))
        texts = [INFO_PATH, CHANNEL_PATH, *(item.path for item in items)]
        goal.texts = merge([await self._blocks(entry) for entry in await self._entries(texts)])
        assets = [*info.channel_assets]
        for item in select(items, self._wanted):
            assets += [asset for asset in item.assets if asset.number is None]
        paths = dict.fromkeys(asset.path for asset in assets if asset.path is not None)
        media = await self._entries(paths)
        goal.media = merge([await self._blocks(entry) for entry in media])
        goal.media_files = len(media)
        goal.bytes = sum([await drive.size(entry) for entry in media])
        goal.media += merge([await self._blocks(entry) for entry in await self._pages()])
        return goal

    async def _forget(self, paths: set[str]) -> None:
        """Drop what is here of these files, older versions included."""
        drive = self._feed.drive
        held = [await drive.held(entry) for entry in await self._entries(sorted(paths))]
        if any(one.blocks for one in held):
            await forget_files(drive, paths)

    async def _pages(self) -> list[DriveEntry]:
        """The pages of a published site, as many as may be kept unasked; others come when they are read."""
        found: list[DriveEntry] = []
        room = MAX_KEPT_PAGES_BYTES
        async for entry in self._feed.drive.list(SITE_FOLDER, on_malformed=lambda _: None):
            if entry.blob is not None and entry.blob.byte_length <= min(room, MAX_KEPT_PAGE_BYTES):
                room -= entry.blob.byte_length
                found.append(entry)
        return found

    async def _entries(self, paths: Iterable[str]) -> list[DriveEntry]:
        """The files at these paths; what is no file, or malformed, is left out."""
        found: list[DriveEntry] = []
        for path in paths:
            with suppress(DriveError):
                entry = await self._feed.drive.entry(path)
                if entry is not None and entry.blob is not None:
                    found.append(entry)
        return found

    async def _blocks(self, entry: DriveEntry) -> Sequence[tuple[int, int]]:
        if entry.blob is None:
            return ()
        return await (await self._feed.drive.blobs()).blocks(entry.blob)

    async def _tell_progress(self, blobs: PeerCore, goal: Goal) -> None:
        total = sum(stop - start for start, stop in goal.media)
        while total:
            held = sum(blobs.held(start, stop) for start, stop in goal.media)
            self._emit(
                Progress(
                    key=self._key,
                    what=self._feed.title,
                    done=goal.bytes * held // total,
                    total=goal.bytes,
                    peers=self._feed.peers,
                )
            )
            await trio.sleep(PROGRESS_SECONDS)

    async def _settle(self) -> None:
        """Give peers a moment to tell of a newer version, when there is one here already."""
        db = self._feed.db
        with trio.move_on_after(SETTLE_SECONDS):
            while db.may_grow:
                await db.session.changed.wait()


async def grows(feed: OpenFeed) -> bool:
    """Whether a version that its publisher had not finished was replaced by a newer one.

    That is waited for while there are peers to tell of it, but not for ever: the publisher may be gone.
    """
    version = feed.drive.version
    try:
        if not (await feed.archive.info()).unfinished:
            return False
    except P2prssError:
        return False  # another drive than a feed
    with trio.move_on_after(UNFINISHED_SECONDS):
        while feed.peers and feed.drive.version == version:
            await feed.db.session.changed.wait()
    return feed.drive.version != version


def select(items: Sequence[ArchivedItem], wanted: Wanted) -> Sequence[ArchivedItem]:
    """The items whose media is wanted; ``items`` are newest first."""
    if wanted.since is not None:
        since = wanted.since
        return [item for item in items if (item.published or item.first_seen) >= since]
    return items if wanted.latest is None else items[: wanted.latest]


def merge(ranges: Iterable[Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Join ranges that follow one another, in the order given, so that a whole show is one request."""
    merged: list[tuple[int, int]] = []
    for start, stop in (one for several in ranges for one in several):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged
