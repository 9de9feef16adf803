"""Writing feed format 1 into a drive: the counterpart of ``archive``.

Bytes first, entries after: what an interrupted run leaves is a complete feed with fewer files. All
entries of one step become visible together, under one signature.
"""

import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import msgspec
import trio

from p2prss import __version__
from p2prss.drive.drive import Drive, DriveBatch
from p2prss.feed.archive.archive import CHANNEL_PATH, INFO_PATH, MEDIA_FOLDER, FeedArchive
from p2prss.feed.archive.pinning import address_key
from p2prss.feed.archive.records import FEED_FORMAT, ArchivedItem, Asset, FeedInfo, ItemRecord, Stamp
from p2prss.units import MIB

PLAIN_FEED_PATH: Final = "/feed.xml"
READ_SIZE: Final = 4 * MIB  # bytes per trip to a worker thread, and per append


@dataclass(frozen=True, slots=True)
class NewFile:
    """A captured file that is not in the drive yet."""

    path: str  # in the drive
    source: Path  # on disk
    byte_length: int


class FeedWriter:
    """Writes to one drive, of which it is the only writer; ``items`` is what the drive lists."""

    def __init__(self, drive: Drive, items: Mapping[str, ArchivedItem], info: FeedInfo | None) -> None:
        self.drive = drive
        self.items = dict(items)  # by item id
        self.info = info
        self.media: dict[str, str] = {}  # sha256 -> path
        self.media_bytes = 0
        self.by_url: dict[str, Asset] = {}  # captured files by original address
        self.by_key: dict[str, Asset] = {}  # the same, however their addresses are spelled

    @classmethod
    async def open(cls, drive: Drive) -> Self:
        """Read what a drive of our own holds; an empty one is fine.

        What a run appended that ended before it wrote the entry is forgotten: it would take room for ever.
        Raises: FeedFormatError when it holds something else, or a later format.
        """
        archive = FeedArchive(drive)
        if await drive.entry(INFO_PATH) is None:
            writer = cls(drive, {}, None)
        else:
            items = await archive.items()
            writer = cls(drive, {item.item_id: item for item in items}, await archive.info())
            for item in items:
                writer._remember(item.assets)
            writer._remember(writer.info.channel_assets if writer.info else ())
        blobs, named = await drive.blobs(), 0
        async for entry in drive.entries():
            if entry.blob is None:
                continue
            named = max([named, *(stop for _, stop in await blobs.blocks(entry.blob))])
            if entry.path.startswith(f"{MEDIA_FOLDER}/"):
                writer.media[entry.path.rpartition("/")[2].partition(".")[0]] = entry.path
                writer.media_bytes += entry.blob.byte_length
        if blobs.core.held(named, blobs.core.length):  # behind all that any version names: bytes come first
            await blobs.core.clear(named, blobs.core.length)
        return writer

    @property
    def newest_first(self) -> list[ArchivedItem]:
        """All items in the order of the archive."""
        return sorted(self.items.values(), key=lambda item: item.path, reverse=True)

    async def put_items(
        self, items: Sequence[tuple[ArchivedItem, bytes | None]], channel_xml: bytes | None, info: FeedInfo
    ) -> None:
        """One step: items with new XML (or None, when only the record changes), and the channel."""
        with_xml = [(item, xml) for item, xml in items if xml is not None]
        contents = [xml for _, xml in with_xml] + ([channel_xml] if channel_xml is not None else [])
        blobs = await (await self.drive.blobs()).put_many(contents)
        async with self.drive.batch() as batch:
            for (item, _), blob in zip(with_xml, blobs, strict=False):
                batch.put_entry(item.path, blob, metadata=to_json(item.record))
            if channel_xml is not None:
                batch.put_entry(CHANNEL_PATH, blobs[-1])
            for item, xml in items:
                if xml is None:
                    await self._update(batch, item)
            await self._put_info(batch, info)
        for item, _ in items:
            self._keep(item)

    async def put_media(
        self, item: ArchivedItem | None, files: Sequence[NewFile], info: FeedInfo | None
    ) -> None:
        """One step: files and the item that names them, or with ``info`` the channel's."""
        async with self.drive.batch() as batch:
            for file in files:
                blob = await (await self.drive.blobs()).put(_chunks(file.source))
                batch.put_entry(file.path, blob)
            if item is not None:
                await self._update(batch, item)
            if info is not None:
                await self._put_info(batch, info)
        for file in files:
            self.media[file.path.rpartition("/")[2].partition(".")[0]] = file.path
            self.media_bytes += file.byte_length
        if item is not None:
            self._keep(item)

    def forget_media(self, paths: Collection[str]) -> None:
        """Files that are no longer in the drive are captured no more."""
        self.by_url = {url: one for url, one in self.by_url.items() if one.path not in paths}
        self.by_key = {key: one for key, one in self.by_key.items() if one.path not in paths}
        self.media = {sha256: path for sha256, path in self.media.items() if path not in paths}

    async def finish(self, plain_feed: bytes, info: FeedInfo) -> None:
        """Write what follows from the rest: the plain feed, forgetting its older version, and the counts."""
        old = await self.drive.entry(PLAIN_FEED_PATH)
        async with self.drive.batch() as batch:
            await batch.put(PLAIN_FEED_PATH, plain_feed)
            await self._put_info(batch, info)
        if old is not None and old.blob is not None:
            await self.drive.clear(old)

    def counted(self, info: FeedInfo, now: datetime) -> FeedInfo:
        """The info with today's counts and date."""
        return msgspec.structs.replace(
            info,
            format=FEED_FORMAT,
            generator=f"p2prss {__version__}",
            updated=now,
            items=len(self.items),
            media_files=len(self.media),
            media_bytes=self.media_bytes,
            unfinished=False,
        )

    async def _put_info(self, batch: DriveBatch, info: FeedInfo) -> None:
        await put_info(batch, info)
        self.info = info
        self._remember(info.channel_assets)

    async def _update(self, batch: DriveBatch, item: ArchivedItem) -> None:
        """A new record for XML that stays."""
        entry = await self.drive.entry(item.path)
        assert entry is not None
        assert entry.blob is not None
        batch.put_entry(item.path, entry.blob, metadata=to_json(item.record))

    def _keep(self, item: ArchivedItem) -> None:
        self.items[item.item_id] = item
        self._remember(item.assets)

    def _remember(self, assets: Sequence[Asset]) -> None:
        for one in assets:
            if one.path is not None and one.number is None:
                self.by_url[one.url] = self.by_key[address_key(one.url)] = one


async def put_info(batch: DriveBatch, info: FeedInfo) -> None:
    """Write ``/p2prss.json``, as the last of a batch: then the version behind it can be read.

    Its date stands in the entry for those who look for a version by date, as old files are not everywhere.
    """
    await batch.put(INFO_PATH, encode_info(info), metadata=msgspec.to_builtins(Stamp(info.updated)))


def encode_info(info: FeedInfo) -> bytes:
    """``/p2prss.json``; what a mirror puts in is at most ``MAX_INFO_BYTES``, as the parser sees to."""
    return msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n"


def to_json(record: ItemRecord) -> object:
    """A record as the JSON values of a drive entry's metadata."""
    return msgspec.to_builtins(record)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    """A file in large pieces, the next one read while the last is written."""
    with closing(_Reader(path)) as reader:
        while data := await trio.to_thread.run_sync(reader.read):
            yield data


class _Reader:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bytes:
        return os.read(self._file, READ_SIZE)

    def close(self) -> None:
        os.close(self._file)
