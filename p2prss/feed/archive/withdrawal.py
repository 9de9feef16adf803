"""Taking a published feed back: what is left of it is a note that says so.

Nobody can be made to forget what they have; whoever keeps to the format stops sharing it.
Source: spec/08-feeds, "Withdrawal".
"""

from datetime import datetime

from p2prss.drive.drive import Drive
from p2prss.errors import FeedFormatError
from p2prss.feed.archive.archive import INFO_PATH, FeedArchive
from p2prss.feed.archive.records import FEED_FORMAT, FeedInfo
from p2prss.feed.archive.writer import put_info


async def withdraw(drive: Drive, now: datetime) -> FeedInfo:
    """Leave nothing but ``/p2prss.json`` with ``withdrawn``, and drop the bytes of all else here.

    A second time it finishes what a first one, that was killed, had begun.
    Raises: FeedFormatError when the drive holds no feed; StorageError.
    """
    info = await FeedArchive(drive).info()
    if info.withdrawn is None:
        info = FeedInfo(
            format=FEED_FORMAT, title=info.title, created=info.created, updated=now, withdrawn=now
        )
        paths = [entry.path async for entry in drive.entries()]
        async with drive.batch() as batch:
            for path in paths:
                if path != INFO_PATH:
                    batch.delete(path)
            await put_info(batch, info)
    entry = await drive.entry(INFO_PATH)
    if entry is None or entry.blob is None:
        raise FeedFormatError("the note that the feed was withdrawn is gone")
    blobs = await drive.blobs()
    start = min(start for start, _ in await blobs.blocks(entry.blob))
    await blobs.core.clear(0, start)
    return info
