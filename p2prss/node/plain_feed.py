"""The feed file for readers that know drives only, kept by followers that keep everything else.

p2prss itself never reads it. But who mirrors the whole drive with another program, and meets followers
alone, can complete only when one of them has it. The publisher clears each older one; so do we, once the
newer one is here. Nobody waits for it: where it cannot be had, the feed is complete all the same.
Source: spec/08-feeds, "Following".
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from p2prss.drive.entry import DriveEntry
from p2prss.drive.errors import DriveError
from p2prss.feed.archive.writer import PLAIN_FEED_PATH
from p2prss.node.open_feed import OpenFeed
from p2prss.node.patience import keep_trying
from p2prss.units import MIB

MAX_PLAIN_FEED_BYTES: Final = 32 * MIB  # of the plain feed that a follower keeps


async def keep_plain_feed(feed: OpenFeed) -> None:
    """Fetch the plain feed of every version. Never returns. Raises: StorageError."""
    drive = feed.drive
    fetched: list[DriveEntry] = []  # of which something may be here, the newest last
    while True:
        version = drive.version
        async with trio.open_nursery() as nursery:
            if drive.db.length:
                nursery.start_soon(_fetch, feed, fetched)
            await drive.wait_changed(version)
            nursery.cancel_scope.cancel()


async def _fetch(feed: OpenFeed, fetched: list[DriveEntry]) -> None:
    """Bring the plain feed of the present version here, then drop older ones."""
    entry = await keep_trying(partial(_entry, feed))
    if entry is None:
        return
    if not fetched or fetched[-1].blob != entry.blob:
        fetched.append(entry)
    blobs = await keep_trying(feed.blobs)
    for start, stop in await keep_trying(partial(_blocks, feed, entry)):
        await blobs.download(start, stop)
    while len(fetched) > 1:
        await feed.drive.clear(fetched[0])
        del fetched[0]


async def _entry(feed: OpenFeed) -> DriveEntry | None:
    """What stands at its path, unless that is no file, malformed, or larger than any of ours."""
    with suppress(DriveError):
        entry = await feed.drive.entry(PLAIN_FEED_PATH)
        if entry is not None and entry.blob is not None and entry.blob.byte_length <= MAX_PLAIN_FEED_BYTES:
            return entry
    return None


async def _blocks(feed: OpenFeed, entry: DriveEntry) -> Sequence[tuple[int, int]]:
    if entry.blob is None:
        return ()
    with suppress(DriveError):
        return await (await feed.drive.blobs()).blocks(entry.blob)
    return ()
