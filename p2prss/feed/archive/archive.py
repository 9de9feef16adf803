"""Reading feed format 1 from a drive that a stranger may have written.

Reads stop at named limits, JSON is decoded into types with limits, and an item
that breaks the rules is left out and counted, so that one bad entry does not hide the rest.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from p2prss.drive.errors import DriveError
from p2prss.errors import FeedFormatError
from p2prss.feed.archive.records import (
    FEED_FORMAT,
    ArchivedItem,
    FeedInfo,
    ItemRecord,
    RemovedPolicy,
)
from p2prss.feed.document.rss_parts import MAX_CHANNEL_BYTES, MAX_ITEM_BYTES, MAX_ITEMS
from p2prss.feed.model import item_id
from p2prss.units import KIB

INFO_PATH: Final = "/p2prss.json"
CHANNEL_PATH: Final = "/channel.xml"
ITEMS_FOLDER: Final = "/items"
MEDIA_FOLDER: Final = "/media"
SITE_FOLDER: Final = "/site"
HELD_TEXT_BYTES: Final = 64 * KIB  # of an item's XML that is read together with others
MAX_INFO_BYTES: Final = 256 * KIB  # of /p2prss.json; ours are near 5 KiB, at worst below 230

_ITEM_PATH: Final = re.compile(r"/items/\d{8}T\d{6}Z-([0-9a-f]{16})\.xml")


class Listed(Protocol):
    """What an archive needs of a drive entry."""

    @property
    def path(self) -> str: ...

    @property
    def metadata(self) -> Any:
        """JSON as Python values."""
        ...


class ReadableDrive(Protocol):
    """What an archive needs of a drive."""

    @property
    def version(self) -> int:
        """Changes whenever an entry does."""
        ...

    def list(
        self, folder: str = "/", *, reverse: bool = False, on_malformed: Callable[[DriveError], None]
    ) -> AsyncIterator[Listed]:
        """The entries below a folder, by path; ``on_malformed`` is told of those that make no sense."""
        ...

    async def get(self, path: str, *, max_bytes: int) -> bytes | None:
        """A whole file, or None; an error of the drive when it has more than ``max_bytes``."""
        ...

    async def get_held(self, paths: Iterable[str], *, max_bytes: int) -> dict[str, bytes]:
        """Those of these files that are wholly here, by path; none need be among them."""
        ...


class FeedArchive:
    """The feed in a drive. Every method may wait for peers, and raises their errors.

    What is malformed is a DriveError if the drive is to blame, and a FeedFormatError if the feed in it is.
    ``skipped`` counts the entries that were left out of the last list because they break the rules.
    """

    def __init__(self, drive: ReadableDrive, *, removed: RemovedPolicy | None = None) -> None:
        self._drive = drive
        self.removed = removed  # what to do with items that left; None: as the feed's mirror does
        self._items: tuple[ArchivedItem, ...] = ()
        self._by_id: dict[str, ArchivedItem] = {}
        self._items_version = -1
        self._info: FeedInfo | None = None
        self._info_version = -1
        self.skipped = 0

    @property
    def version(self) -> int:
        """Changes whenever anything of the feed does; what was read is kept until then."""
        return self._drive.version

    async def info(self) -> FeedInfo:
        """What ``/p2prss.json`` says.

        Raises: FeedFormatError when the drive holds no feed, a broken one, or one of a later format.
        """
        version = self._drive.version
        if self._info is None or version != self._info_version:
            self._info = decode_info(await self._read(INFO_PATH, MAX_INFO_BYTES))
            self._info_version = version
        return self._info

    async def channel(self) -> bytes:
        """The XML of everything but the items.

        Raises: FeedFormatError when there is none, or a much too large one.
        """
        return await self._read(CHANNEL_PATH, MAX_CHANNEL_BYTES)

    async def items(self) -> Sequence[ArchivedItem]:
        """All items, newest first by the time they were first seen with; needs the drive's db core only.

        Raises: DriveError when the drive's tree is malformed; a malformed entry is only left out.
        """
        version = self._drive.version
        if version != self._items_version:
            found: dict[str, ArchivedItem] = {}
            skipped = 0

            def skip(_: DriveError) -> None:
                nonlocal skipped
                skipped += 1

            async for entry in self._drive.list(ITEMS_FOLDER, reverse=True, on_malformed=skip):
                item = read_item(entry.path, entry.metadata)
                if item is None or item.item_id in found:
                    skipped += 1
                elif len(found) >= MAX_ITEMS:
                    break
                else:
                    found[item.item_id] = item
            self._by_id, self._items, self.skipped = found, tuple(found.values()), skipped
            self._items_version = version
        return self._items

    async def served_items(self) -> Sequence[ArchivedItem]:
        """The items to serve, newest first: all, but for removed ones that are hidden or purged."""
        items = await self.items()
        match self.removed or (await self.info()).removed:
            case RemovedPolicy.HIDE:
                return [item for item in items if item.removed_at is None]
            case RemovedPolicy.PURGE:
                return [item for item in items if not item.is_taken_out]
            case _:
                return items

    async def item(self, item_id: str) -> ArchivedItem | None:
        """The item of this id, or None."""
        await self.items()
        return self._by_id.get(item_id)

    async def item_xml(self, item: ArchivedItem) -> bytes:
        """The XML of one item as the origin wrote it.

        Raises: FeedFormatError when it is gone or much too large.
        """
        return await self._read(item.path, MAX_ITEM_BYTES)

    async def held_texts(self, items: Iterable[ArchivedItem]) -> dict[str, bytes]:
        """The XML of those items whose XML is here and not large, by path: quicker than one by one."""
        return await self._drive.get_held([item.path for item in items], max_bytes=HELD_TEXT_BYTES)

    async def _read(self, path: str, limit: int) -> bytes:
        data = await self._drive.get(path, max_bytes=limit)
        if data is None:
            raise FeedFormatError(f"this drive is no podcast feed: it has no {path}")
        return data


def decode_info(data: bytes) -> FeedInfo:
    """``/p2prss.json`` -> FeedInfo. Raises: FeedFormatError."""
    try:
        found = msgspec.json.decode(data, type=_FormatOnly).format
        if found > FEED_FORMAT:
            raise FeedFormatError(f"this feed has format {found}: it needs a newer version of p2prss")
        return msgspec.json.decode(data, type=FeedInfo)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise FeedFormatError(f"{INFO_PATH} of this feed is broken: {str(error)[:150]}") from None


class _FormatOnly(msgspec.Struct):
    format: int


def read_item(path: str, metadata: object) -> ArchivedItem | None:
    """An item from its drive entry, or None when the entry breaks the rules of the format."""
    match = _ITEM_PATH.fullmatch(path)
    if match is None:
        return None
    try:
        record = msgspec.convert(metadata, ItemRecord)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    if item_id(record.guid) != match[1] or any(not _is_sound(one.path, one.sha256) for one in record.assets):
        return None
    return ArchivedItem(path, match[1], record)


def _is_sound(path: str | None, sha256: str | None) -> bool:
    """A captured file stands under its own hash, so that equal paths mean equal bytes."""
    return path is None or (sha256 is not None and path.startswith(f"/media/{sha256[:2]}/{sha256}."))
