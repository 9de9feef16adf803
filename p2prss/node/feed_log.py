"""What changed in a feed and when, for people: ``log``, and the versions of one item."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from p2prss.errors import UsageError
from p2prss.feed.archive.archive import FeedArchive, read_item
from p2prss.feed.archive.history import FeedChange, FeedHistory, What, known_fields
from p2prss.feed.document.item_diff import Difference, changed_part
from p2prss.node.episodes import find_item, history_of
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import open_for_reading


class FieldChange(msgspec.Struct, frozen=True):
    """What an edit made of one field, such as ``title``; of long texts the parts that differ."""

    field: str
    before: str
    after: str


class LoggedChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a feed; ``version`` is the first that shows it.

    ``fields`` were edited, all of them unless ``fields_known`` is false: then an older text is not here.
    ``files`` and ``bytes`` are those that were captured. ``differences`` are for one item's history only.
    """

    change: str  # see feed.archive.history.What
    at: datetime | None
    version: int
    item_id: str | None = None
    guid: str | None = None
    title: str = ""
    fields: tuple[str, ...] = ()
    fields_known: bool = True
    removed_as: str | None = None
    files: int = 0
    bytes: int = 0
    differences: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class FeedLog:
    """Changes, newest first; ``has_more``: there are older ones; ``missing`` entries are not here to tell."""

    changes: Sequence[LoggedChange]
    has_more: bool
    missing: int
    broken: int


async def feed_log(home: HomePaths, text: str, *, limit: int, since: datetime | None) -> FeedLog:
    """The last changes of a feed.

    Raises: UsageError for a feed that is not here, or has no history; StorageError, DriveError.
    """
    return await _log(home, text, None, limit, since)


async def item_history(home: HomePaths, text: str, item: str, *, limit: int) -> FeedLog:
    """The last changes of one item, with what differed.

    Raises: as ``feed_log``; UsageError when no item, or more than one, is meant.
    """
    return await _log(home, text, item, limit, None)


async def _log(home: HomePaths, text: str, item: str | None, limit: int, since: datetime | None) -> FeedLog:
    async with open_for_reading(home) as (saved, opener, _):
        feed = await opener.open(saved.find(text), eager=False)
        history = await history_of(feed)
        path = await _path_of(feed.archive, history, item) if item is not None else None
        changes, has_more = await history.newest(limit, since=since, path=path)
        logged = [await _logged(history, one, details=path is not None) for one in changes]
        return FeedLog(logged, has_more, history.missing, history.broken)


async def _path_of(archive: FeedArchive, history: FeedHistory, item: str) -> str:
    """The item that is meant: one that is listed, else one that was."""
    listed = await archive.items()
    try:
        return find_item(listed, item).path
    except UsageError:
        known = {one.path for one in listed}
        gone = [one for one in await history.items_ever() if one.path not in known]
        try:
            return find_item(gone, item).path
        except UsageError:
            pass
        raise


async def _logged(history: FeedHistory, change: FeedChange, *, details: bool) -> LoggedChange:
    item = change.item
    found = await history.differences(change) if change.what is What.EDITED else []
    fields = tuple(one.field for one in found) if found is not None else _fields_of_records(change)
    return LoggedChange(
        change=change.what.value,
        at=change.at,
        version=change.version,
        item_id=item.item_id if item else None,
        guid=item.guid if item else None,
        title=item.title if item else "",
        fields=fields,
        fields_known=found is not None,
        removed_as=item.removed_as if item and change.what is What.REMOVED else None,
        files=len(change.files),
        bytes=sum(one.byte_length or 0 for one in change.files),
        differences=tuple(_field_change(one) for one in found or ()) if details else (),
    )


def _fields_of_records(change: FeedChange) -> tuple[str, ...]:
    old = read_item(change.old.path, change.old.metadata) if change.old is not None else None
    return known_fields(old.record, change.item.record) if old is not None and change.item is not None else ()


def _field_change(difference: Difference) -> FieldChange:
    before, after = changed_part(difference)
    return FieldChange(difference.field, before, after)
