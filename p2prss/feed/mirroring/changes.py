"""What an update has to write: the origin's feed held against the archive. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import msgspec

from p2prss.feed.archive.archive import read_item
from p2prss.feed.archive.order import with_order
from p2prss.feed.archive.pinning import Named, pin
from p2prss.feed.archive.records import (
    MAX_RECORD_BYTES,
    ArchivedItem,
    Asset,
    ItemRecord,
    Removal,
    item_path,
)
from p2prss.feed.document.made_guids import full_guid
from p2prss.feed.model import Enclosure, Item, ParsedFeed, RefusedItem, item_id

_PINNED: Final = re.compile(rb"episodeType>\s*trailer\s*<", re.IGNORECASE)
"""A trailer often stays listed for ever: then it does not tell where a feed ends."""

Change = tuple[ArchivedItem, bytes | None]
"""An item as it is to be, and its XML, or None where only the record changes."""


@dataclass(slots=True)
class Changes:
    """Steps in the order to write them; ``older`` are versions that ``newest`` replaces at once.

    Within a step items stand oldest first. ``refused`` are items that no reader would take, whose older
    version, if there is one, stays; ``left_out`` counts by title the files that new versions lack.
    ``named`` are the captured enclosures of items that changed.
    """

    new: int = 0
    changed: int = 0
    aged_out: int = 0
    taken_out: int = 0
    older: list[Change] = field(default_factory=list)
    newest: list[Change] = field(default_factory=list)
    refused: list[RefusedItem] = field(default_factory=list)
    left_out: list[tuple[str, int]] = field(default_factory=list)
    named: list[Named] = field(default_factory=list)

    @property
    def removed(self) -> int:
        """Items that the origin no longer lists, however they left."""
        return self.aged_out + self.taken_out


def find_changes(
    feed: ParsedFeed,
    known: Mapping[str, ArchivedItem],
    captured: Mapping[str, Asset],
    now: datetime,
    *,
    is_whole: bool = True,
) -> Changes:
    """Hold a feed against the items of an archive.

    A guid that stands several times in the feed is one item: its newest version counts, and when it
    is new the others become its history. What is no longer in the feed is marked as removed, unless
    the feed was so broken that it may not show everything, or not all of its pages were read.

    Args: known: by item id; captured: files by original address, which stay as they are; is_whole:
        what ``feed`` does not list is gone.
    """
    changes = Changes(refused=list(feed.refused))
    new_paths: dict[str, str] = {}
    versions: dict[str, set[str]] = {}  # digests of new items
    seen = {item_id(item.guid) for item in feed.refused}
    brought = {item.guid for item in feed.items}
    feed = replace(feed, items=tuple(_as_known(item, known, brought) for item in feed.items))
    listed: list[Item] = []  # whose versions count

    def version_of(item: Item, path: str, first_seen: datetime, old: ArchivedItem | None = None) -> Change:
        assets = assets_of(item.files, captured)
        if old is not None:
            assets, named = pin(old.item_id, assets, old, item.published)
            lengths = [one.byte_length for one in item.enclosures]
            changes.named += [replace(one, byte_length=lengths[one.number - 1]) for one in named]
        record = ItemRecord(
            guid=item.guid,
            title=item.title,
            published=item.published,
            first_seen=first_seen,
            base_url=item.base_url or None,
            digest=item.digest,
            assets=assets,
        )
        return ArchivedItem(path, item_id(item.guid), record), item.xml

    for item in sorted(feed.items, key=lambda item: item.published or now, reverse=True):
        name = item_id(item.guid)
        if name in seen:
            if name not in new_paths or item.digest in versions[name]:  # a page may repeat one's last items
                continue
            if is_readable((older := version_of(item, new_paths[name], now))[0]):
                changes.older.append(older)
                versions[name].add(item.digest)
            continue
        seen.add(name)
        listed.append(item)
        old = known.get(name)
        if old is None or old.record.digest != item.digest:
            path = old.path if old else item_path(item.guid, item.published or now)
            change = version_of(item, path, old.first_seen if old else now, old)
            if not is_readable(change[0]):
                changes.refused.append(RefusedItem(item.guid, item.title, "its record would not be readable"))
                continue
            changes.newest.append(change)
            if old is None:
                changes.new += 1
                new_paths[name] = path
                versions[name] = {item.digest}
            else:
                changes.changed += 1
            if item.left_out:
                changes.left_out.append((item.title, item.left_out))
        elif old.removed_at is not None:
            changes.changed += 1
            changes.newest.append((with_record(old, removed_at=None, removed_as=None), None))
        elif (assets := _with_new_files(item, old, captured)) != old.assets:
            changes.newest.append((with_record(old, assets=assets), None))  # we know more kinds of files now
    listed_before = sum(old.removed_at is None for old in known.values())
    if is_whole and not feed.degraded:
        end = _end_of(feed, known, moved_on=changes.new > 0 and len(seen) <= listed_before)
        for name, old in known.items():
            if name in seen or old.removed_at is not None:
                continue
            how = Removal.TAKEN_OUT if end is not None and end < _date_of(old) else Removal.AGED_OUT
            changes.taken_out += how is Removal.TAKEN_OUT
            changes.aged_out += how is Removal.AGED_OUT
            changes.newest.append((with_record(old, removed_at=now, removed_as=how.value), None))
    changes.older.reverse()
    places = {id(item): place for place, item in enumerate(feed.items)}
    listed.sort(key=lambda item: places[id(item)])
    changes.newest = with_order(listed, changes.newest, known)
    changes.newest.sort(key=lambda change: change[0].path)
    return changes


def _as_known(item: Item, known: Mapping[str, ArchivedItem], taken: Set[str]) -> Item:
    """An item without a guid that had to be told from others once keeps the guid it got then."""
    if not item.guid_is_made:
        return item
    guid = full_guid(item)
    return replace(item, guid=guid) if item_id(guid) in known and guid not in taken else item


def _with_new_files(item: Item, old: ArchivedItem, captured: Mapping[str, Asset]) -> tuple[Asset, ...]:
    """An unchanged item's assets, and files that its XML names but its record does not."""
    if {one.url for one in item.files} <= {one.url for one in old.assets}:
        return old.assets
    return pin(old.item_id, assets_of(item.files, captured), old, old.published)[0]


def _end_of(feed: ParsedFeed, known: Mapping[str, ArchivedItem], *, moved_on: bool) -> datetime | None:
    """The date of the oldest item that is listed; None where there is none.

    An item that left is taken out when an older one is still listed. Else it is held to have aged out:
    many feeds show their newest items only. When such a feed has moved on, so that old ones left as new
    ones came, trailers do not count.
    """
    dates: list[datetime] = []
    for item in feed.items:
        old = known.get(item_id(item.guid))
        date = item.published or (old.first_seen if old else None)
        if date is not None and not (moved_on and _PINNED.search(item.xml)):
            dates.append(date)
    return min(dates, default=None)


def _date_of(item: ArchivedItem) -> datetime:
    return item.published or item.first_seen


def is_readable(item: ArchivedItem) -> bool:
    """Whether a reader of the archive, and a drive, will take this item."""
    record = msgspec.to_builtins(item.record)
    return (
        read_item(item.path, record) is not None and len(msgspec.json.encode(item.record)) <= MAX_RECORD_BYTES
    )


def assets_of(files: Sequence[Enclosure], captured: Mapping[str, Asset]) -> tuple[Asset, ...]:
    """What a feed names, as assets; a file captured under the same address is that one."""
    return tuple(
        msgspec.structs.replace(captured[one.url], role=one.role.value)
        if one.url in captured
        else Asset(role=one.role.value, url=one.url, mime_type=one.mime_type, byte_length=one.byte_length)
        for one in files
    )


def with_record(item: ArchivedItem, **changes: object) -> ArchivedItem:
    """The item with other members in its record."""
    replace: Callable[..., ItemRecord] = msgspec.structs.replace
    return ArchivedItem(item.path, item.item_id, replace(item.record, **changes))
