"""Deleting episodes that were taken out at the origin, if that is what the mirror wants.

Their entries go from the drive's newest version, and of their texts and media all that is stored here,
older versions included. What they were called, and when, remains in the history; so do copies of others.
Bytes first, entries after: an interrupted run is done again. Source: spec/08-feeds, "Removed items".
"""

from collections.abc import Iterable, Sequence

from p2prss.drive.drive import Drive
from p2prss.drive.errors import DriveError
from p2prss.feed.archive.records import ArchivedItem, Asset
from p2prss.feed.archive.writer import FeedWriter


async def purge_items(writer: FeedWriter) -> int:
    """Delete what was taken out. Returns: how many items. Raises: StorageError."""
    items = [item for item in writer.items.values() if item.is_taken_out]
    if not items or writer.info is None:
        return 0
    paths = own_paths(items, writer.items.values(), writer.info.channel_assets)
    await forget_files(writer.drive, paths)
    async with writer.drive.batch() as batch:
        for path in sorted(paths):
            batch.delete(path)
    for item in items:
        del writer.items[item.item_id]
    writer.forget_media(paths)
    writer.media_bytes = await _bytes_of(writer.drive, writer.media.values())
    return len(items)


def own_paths(
    items: Sequence[ArchivedItem], everything: Iterable[ArchivedItem], channel: Iterable[Asset]
) -> set[str]:
    """The files of these items that neither another one nor the channel has."""
    gone = {item.item_id for item in items}
    kept = {asset.path for item in everything if item.item_id not in gone for asset in item.assets}
    kept |= {asset.path for asset in channel}
    media = {asset.path for item in items for asset in item.assets if asset.path is not None}
    return {item.path for item in items} | (media - kept)


async def forget_files(drive: Drive, paths: set[str]) -> None:
    """Drop the bytes of all versions of these files here."""
    steps = drive.history()
    while True:
        try:
            step = await anext(steps)
        except StopAsyncIteration:
            return
        except DriveError:
            continue
        if step.path in paths and step.entry is not None and step.entry.blob is not None:
            await drive.clear(step.entry)


async def _bytes_of(drive: Drive, paths: Iterable[str]) -> int:
    size = 0
    for path in paths:
        entry = await drive.entry(path)
        size += entry.blob.byte_length if entry is not None and entry.blob is not None else 0
    return size
