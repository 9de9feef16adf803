"""Seeding: all of a drive, whatever it holds, kept and shared."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from p2prss.crypto.key_text import format_key
from p2prss.drive.errors import DriveError
from p2prss.feed.archive.archive import MEDIA_FOLDER
from p2prss.node.events import Event, Progress, Synced
from p2prss.node.follower import grows, merge
from p2prss.node.open_feed import OpenFeed
from p2prss.node.patience import Patience, keep_trying

PROGRESS_SECONDS: Final = 0.5  # between two progress events

Emit = Callable[[Event], None]


class Seeder:
    """Keeps all cores of one drive whole."""

    def __init__(self, feed: OpenFeed, emit: Emit) -> None:
        self._feed = feed
        self._emit = emit
        self._key = format_key(feed.key)

    async def run(self, *, once: bool = False, patience: Patience | None = None) -> None:
        """Keep everything, for ever or until all is here.

        All is: what the present version of the drive names, and whatever else there is to be had. Blocks of
        files that were replaced may be gone for good, as publishers clear them.
        Raises: with ``once`` NoPeersError when nobody brings what is missing; StorageError, DriveError.
        """
        db, drive = self._feed.db, self._feed.drive
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_progress)
            if once:
                nursery.start_soon((patience or Patience()).watch, self._feed)
            db.follow_tip()
            blobs = await keep_trying(self._feed.blobs)
            blobs.follow_tip()
            while True:
                await db.wait_whole()
                fork, version = db.fork, drive.version
                await keep_trying(drive.download_entries)
                for start, stop in await keep_trying(self._named):
                    await blobs.download(start, stop)
                await blobs.wait_exhausted()
                if (fork, version) == (db.fork, drive.version) and not await grows(self._feed):
                    self._emit(await keep_trying(self._synced))
                    if once:
                        break
                    await drive.wait_changed(version)
            nursery.cancel_scope.cancel()

    async def _named(self) -> list[tuple[int, int]]:
        """The ranges of blocks that the drive's entries name."""
        drive = self._feed.drive
        blobs, ranges = await drive.blobs(), list[tuple[int, int]]()
        async for entry in drive.entries(on_malformed=_ignore):
            if entry.blob is not None:
                with suppress(DriveError):
                    ranges += await blobs.blocks(entry.blob)
        return merge([sorted(set(ranges))])

    async def _synced(self) -> Synced:
        """Count what the drive holds of a feed, 0 in any other drive; what is malformed does not count."""
        drive = self._feed.drive
        files = size = 0
        async for entry in drive.list(MEDIA_FOLDER, on_malformed=_ignore):
            if entry.blob is not None:
                with suppress(DriveError):
                    size += await drive.size(entry)
                    files += 1
        return Synced(
            key=self._key,
            version=drive.version,
            episodes=len(await self._feed.archive.items()),
            media_files=files,
            bytes=size,
        )

    async def _tell_progress(self) -> None:
        db, told = self._feed.db, (-1, -1)
        while True:
            if db.has(0):
                await self._feed.blobs()
            cores = self._feed.cores
            held, total = sum(core.held_total for core in cores), sum(core.length for core in cores)
            if (held, total) != told:
                told = held, total
                self._emit(
                    Progress(
                        key=self._key,
                        what=self._feed.title,
                        done=held,
                        total=total,
                        unit="blocks",
                        peers=self._feed.peers,
                    )
                )
            await trio.sleep(PROGRESS_SECONDS)


def _ignore(_: DriveError) -> None:
    pass
