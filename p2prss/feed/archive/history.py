"""What changed in a feed, and when: read from the history of its drive's db core.

Each entry that was ever put is a block of that core, with the item's record in it. So a copy that holds
the core can tell all that happened; only what exactly was edited in a text needs the older texts too.
The writer's dates are believed as they are. Source: spec/08-feeds, "History".
"""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from p2prss.drive.drive import Drive
from p2prss.drive.entry import DriveEntry
from p2prss.drive.errors import DriveError
from p2prss.drive.reader import DriveChange
from p2prss.errors import BlockUnavailableError, FeedFormatError, NetworkError
from p2prss.feed.archive.archive import (
    CHANNEL_PATH,
    INFO_PATH,
    ITEMS_FOLDER,
    MAX_INFO_BYTES,
    decode_info,
    read_item,
)
from p2prss.feed.archive.records import ArchivedItem, Asset, ItemRecord, Stamp
from p2prss.feed.document.item_diff import Difference, differences
from p2prss.feed.document.rss_parts import MAX_ITEM_BYTES, MAX_ITEMS

MAX_WAITING: Final = 100_000  # changes of one step held in memory; a stranger's may never end


class What(StrEnum):
    """What happened."""

    ADDED = "added"
    EDITED = "edited"
    REMOVED = "removed"
    CAME_BACK = "came-back"
    CAPTURED = "captured"  # files of the item
    PURGED = "purged"  # the item is no longer listed in the drive
    CHANNEL = "channel"  # what stands around the items


@dataclass(frozen=True, slots=True)
class FeedChange:
    """One change. ``version`` is the first that shows it; ``at`` is None where the writer left no date.

    ``item`` is as it was afterwards, or for ``PURGED`` before; None for the channel. ``old`` and ``new``
    are the entries whose texts differ, where they do.
    """

    what: What
    version: int
    at: datetime | None
    item: ArchivedItem | None = None
    files: tuple[Asset, ...] = ()  # captured ones
    old: DriveEntry | None = None
    new: DriveEntry | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A version that ended a step of an update, and when that was."""

    version: int
    at: datetime


class FeedHistory:
    """The history of one drive, as far as it is here; blocks ``missing`` or ``broken`` are passed over."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self.missing = 0
        self.broken = 0

    async def changes(self, *, path: str | None = None) -> AsyncGenerator[FeedChange, None]:
        """All changes in the order they were made, or those of the item at ``path``."""
        last: dict[str, tuple[DriveEntry, ArchivedItem]] = {}
        channel: DriveEntry | None = None
        waiting: list[FeedChange] = []  # for the entry that ends their step, and has its date
        async for step in self._steps():
            entry = step.entry
            if step.path == INFO_PATH and entry is not None:
                at = await self._date_of(entry)
                for change in waiting:
                    yield replace(change, version=step.seq + 1, at=at or change.at)
                waiting = []
            elif step.path == CHANNEL_PATH and entry is not None and path is None:
                if channel is not None:
                    waiting.append(FeedChange(What.CHANNEL, step.seq + 1, None, old=channel, new=entry))
                channel = entry
            elif step.path.startswith(f"{ITEMS_FOLDER}/") and path in (None, step.path):
                if step.path not in last and len(last) >= MAX_ITEMS:
                    continue  # no feed has so many
                before = last.pop(step.path, None)
                item = read_item(step.path, entry.metadata) if entry is not None else None
                if entry is not None and item is not None:
                    last[step.path] = entry, item
                for change in _item_changes(step.seq, before, entry, item):
                    if change.what is What.CAPTURED:
                        yield change
                    elif len(waiting) < MAX_WAITING:
                        waiting.append(change)
        for change in waiting:
            yield change

    async def newest(
        self, limit: int, *, since: datetime | None = None, path: str | None = None
    ) -> tuple[Sequence[FeedChange], bool]:
        """The last so many changes, newest first, and whether there are older ones."""
        kept: deque[FeedChange] = deque(maxlen=limit + 1)
        async with aclosing(self.changes(path=path)) as changes:
            async for change in changes:
                if since is None or change.at is None or change.at >= since:
                    kept.append(change)
        has_more = len(kept) > limit
        return list(kept)[::-1][:limit], has_more

    async def items_ever(self) -> Sequence[ArchivedItem]:
        """All items that the feed ever listed, as they were last."""
        found: dict[str, ArchivedItem] = {}
        async with aclosing(self.changes()) as changes:
            async for change in changes:
                if change.item is not None:
                    found[change.item.path] = change.item
        return list(found.values())

    async def at(self, when: datetime) -> Version | None:
        """The last version that was written not after a date; None where there is none.

        It is searched for among the entries of ``/p2prss.json`` by halving, so few blocks are read. Where
        the writer's clock went back, it is one of those that fit.
        """
        entry = await self._drive.entry(INFO_PATH)
        newest = await self._date_of(entry) if entry is not None else None
        if newest is not None and newest <= when:
            return Version(self._drive.version, newest)
        found: Version | None = None
        low, high = 1, self._drive.version
        while low < high:
            middle = (low + high) // 2
            version = await self._first_dated(middle, high)
            if version is None or version.at > when:
                high = middle
            else:
                found, low = version, version.version
        return found

    async def first(self) -> Version | None:
        """The first version of the feed."""
        return await self._first_dated(1, self._drive.version)

    async def differences(self, change: FeedChange) -> Sequence[Difference] | None:
        """What was edited; None where a text is not here, or no XML."""
        if change.old is None or change.new is None:
            return []
        before, after = await self._text(change.old), await self._text(change.new)
        if before is None or after is None:
            return None
        try:
            return differences(before, after)
        except FeedFormatError:
            return None

    async def _steps(self, start: int = 1, stop: int | None = None) -> AsyncGenerator[DriveChange, None]:
        """The history, past what is not here or makes no sense."""
        db = self._drive.db
        stop = self._drive.version if stop is None else stop
        while start < stop:
            if not db.has(start):
                self.missing += 1
                start += 1
                continue
            end = start + 1
            while end < stop and db.has(end):
                end += 1
            steps = self._drive.history(start, end)
            while True:
                try:
                    yield await anext(steps)
                except StopAsyncIteration:
                    break
                except DriveError:
                    self.broken += 1
            start = end

    async def _first_dated(self, start: int, stop: int) -> Version | None:
        async with aclosing(self._steps(start, stop)) as steps:
            async for step in steps:
                if step.path == INFO_PATH and step.entry is not None:
                    at = await self._date_of(step.entry)
                    if at is not None:
                        return Version(step.seq + 1, at)
        return None

    async def _date_of(self, entry: DriveEntry) -> datetime | None:
        """When a version was written: its entry says so, else (of older writers) its file."""
        try:
            return msgspec.convert(entry.metadata, Stamp).updated
        except msgspec.MsgspecError:
            text = await self._text(entry, MAX_INFO_BYTES)
        try:
            return decode_info(text).updated if text is not None else None
        except FeedFormatError:
            return None

    async def _text(self, entry: DriveEntry, limit: int = MAX_ITEM_BYTES) -> bytes | None:
        """An older file, or None where it is not here."""
        text = bytearray()
        try:
            async with aclosing(self._drive.read(entry)) as pieces:
                async for piece in pieces:
                    text += piece
                    if len(text) > limit:
                        return None
        except (NetworkError, BlockUnavailableError, DriveError):
            return None
        return bytes(text)


def _item_changes(
    seq: int,
    before: tuple[DriveEntry, ArchivedItem] | None,
    entry: DriveEntry | None,
    item: ArchivedItem | None,
) -> list[FeedChange]:
    """What became of an item by one step of the history; a step may do several things."""
    version = seq + 1
    if item is None or entry is None:
        if before is None or entry is not None:  # never known, or its new entry makes no sense
            return []
        return [FeedChange(What.PURGED, version, None, before[1])]
    if before is None:
        return [FeedChange(What.ADDED, version, None, item)]
    old_entry, old = before
    found = []
    if item.record.digest != old.record.digest:
        found.append(FeedChange(What.EDITED, version, None, item, old=old_entry, new=entry))
    if (item.removed_at is None) != (old.removed_at is None):
        what = What.CAME_BACK if item.removed_at is None else What.REMOVED
        found.append(FeedChange(what, version, item.removed_at, item))
    had = {(one.url, one.path) for one in old.assets}
    files = tuple(one for one in item.assets if one.path is not None and (one.url, one.path) not in had)
    if files and not found:
        at = max((one.captured_at for one in files if one.captured_at is not None), default=None)
        found.append(FeedChange(What.CAPTURED, version, at, item, files=files))
    return found


_RECORD_FIELDS: Final = {"title": "title", "published": "pubDate"}


def known_fields(old: ItemRecord, new: ItemRecord) -> tuple[str, ...]:
    """The fields that differ as far as the records tell, which have no texts."""
    found = [field for name, field in _RECORD_FIELDS.items() if getattr(old, name) != getattr(new, name)]
    before, after = ({(one.role, one.url) for one in record.assets} for record in (old, new))
    found += sorted({role for role, _ in before ^ after})
    return tuple(found)
