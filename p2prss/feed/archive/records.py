"""Feed format 1: the JSON that stands in a drive, and the item it stands for.

Written by strangers, so every text has a largest length, and readers ignore members they do not know.
Source: spec/08-feeds.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from p2prss.feed.model import MAX_ASSETS, MAX_GUID_LENGTH, MAX_TEXT_LENGTH, MAX_URL_LENGTH, item_id
from p2prss.units import KIB

HYPER_RSS: Final = "hyper-rss"  # the source format of a feed that is no drive
FEED_FORMAT: Final = 1  # the highest format this version reads, and the one it writes

MAX_ORDER: Final = 2**53 - 1  # of an item's order number, either way
MAX_RECORD_BYTES: Final = 400 * KIB  # of an item's metadata as JSON; a drive's entry may have 512 KiB

Url = Annotated[str, Meta(max_length=MAX_URL_LENGTH)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]
Guid = Annotated[str, Meta(min_length=1, max_length=MAX_GUID_LENGTH)]
Word = Annotated[str, Meta(max_length=200)]
Size = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
MediaPath = Annotated[str, Meta(pattern=r"^/media/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]{1,8}\Z")]
Instant = Annotated[datetime, Meta(tz=True)]


class Recapture(StrEnum):
    """What a mirror does where an origin announces that an enclosure has changed."""

    NEVER = "never"
    ON_CHANGE = "on-change"  # capture it again; the enclosure is the new capture
    KEEP_BOTH = "keep-both"  # likewise, but the enclosure stays the first capture


class Removal(StrEnum):
    """How an item left the origin's feed; a later version may write others into a drive."""

    AGED_OUT = "aged-out"  # it was the oldest one listed: the feed shows only so many
    TAKEN_OUT = "taken-out"  # older ones are still listed


class RemovedPolicy(StrEnum):
    """What becomes of items that left the origin's feed."""

    KEEP = "keep"  # they are served like all others
    HIDE = "hide"  # they stay in the archive
    PURGE = "purge"  # those that were taken out are deleted with their media; the others are served


class Asset(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A file of an archived item or channel; ``path`` is None while it is not captured.

    ``note`` is ``dynamic`` when two captures differed, as with inserted advertisements. ``number`` stands
    only with a further capture of an enclosure, of which it is the number from 1; no XML names that one.
    """

    role: Word
    url: Url
    path: MediaPath | None = None
    mime_type: Word | None = None
    byte_length: Size | None = None
    sha256: Sha256 | None = None
    captured_at: Instant | None = None
    note: Word | None = None
    number: Annotated[int, Meta(ge=1, le=MAX_ASSETS)] | None = None


Assets = Annotated[tuple[Asset, ...], Meta(max_length=MAX_ASSETS)]


class CapturePolicy(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Which media is mirrored: all of it unless one of these says less."""

    media: bool = True
    latest: Annotated[int, Meta(ge=0)] | None = None  # only so many of the newest items
    since: Instant | None = None  # only items published since
    alternates: bool = True  # other editions of the enclosures as well
    recapture: Word = Recapture.NEVER.value


class SiteInfo(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The pages under ``/site``; ``base_url`` is where they stood in the web, if that is known, and ``feed``
    the address of their feed from there."""

    base_url: Url = ""
    feed: Url = ""
    files: Size = 0
    bytes: Size = 0


class FeedInfo(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """``/p2prss.json``: what the feed is and how it was made.

    ``origin_url`` never holds credentials; ``base_url`` is where relative addresses start, after redirects.
    """

    format: Annotated[int, Meta(ge=1)]
    title: Text = ""
    origin_url: Url | None = None
    base_url: Url = ""
    podcast_guid: Word | None = None
    generator: Word = ""
    created: Instant
    updated: Instant
    items: Size = 0
    media_files: Size = 0
    media_bytes: Size = 0
    withdrawn: Instant | None = None  # its publisher has taken it back: nothing else is left
    unfinished: bool = False  # the update that wrote this goes on: media will follow, and other counts
    policy: CapturePolicy = CapturePolicy()
    source_format: Word = "rss"
    degraded: bool = False
    removed: Word = RemovedPolicy.KEEP.value  # a ``RemovedPolicy``: the mirror's own; unknown ones mean keep
    channel_digest: Word = ""
    channel_assets: Assets = ()
    site: SiteInfo | None = None


class Stamp(Struct, frozen=True):
    """The metadata of the entry of ``/p2prss.json``: when the version that it ends was written."""

    updated: Instant


class ItemRecord(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The metadata of an item's drive entry: with it the db core alone can list everything.

    ``base_url`` stands only where the item's XML has relative addresses, ``digest`` is the XML's, and
    ``order`` only where the origin does not list the item by its date (``feed.archive.order``).
    """

    guid: Guid
    title: Text = ""
    published: Instant | None = None
    first_seen: Instant
    removed_at: Instant | None = None
    removed_as: Word | None = None  # a ``Removal``; None while it is listed, and where nobody noted it
    order: Annotated[int, Meta(ge=-MAX_ORDER, le=MAX_ORDER)] | None = None
    base_url: Url | None = None
    digest: Word = ""
    assets: Assets = ()


@dataclass(frozen=True, slots=True)
class ArchivedItem:
    """An item in a drive; ``path`` is its entry and never changes, ``item_id`` its 16 hex digits."""

    path: str
    item_id: str
    record: ItemRecord

    @property
    def guid(self) -> str:
        """The guid, verbatim."""
        return self.record.guid

    @property
    def title(self) -> str:
        """Its title, cut to ``MAX_TEXT_LENGTH``."""
        return self.record.title

    @property
    def published(self) -> datetime | None:
        """When it says it was published."""
        return self.record.published

    @property
    def first_seen(self) -> datetime:
        """When the mirror first saw it."""
        return self.record.first_seen

    @property
    def removed_at(self) -> datetime | None:
        """When the mirror first missed it in the origin's feed, or None."""
        return self.record.removed_at

    @property
    def removed_as(self) -> str | None:
        """How it left the origin's feed: a ``Removal``, or None."""
        return self.record.removed_as

    @property
    def is_taken_out(self) -> bool:
        """Whether the origin took it out of its feed, while older ones stayed."""
        return self.removed_at is not None and self.removed_as == Removal.TAKEN_OUT

    @property
    def assets(self) -> tuple[Asset, ...]:
        """Its files, captured or not, in the order of the XML."""
        return self.record.assets


def item_path(guid: str, seen_at: datetime) -> str:
    """The path of an item's entry; ``seen_at`` is its date when it was first seen, in UTC."""
    return f"/items/{seen_at:%Y%m%dT%H%M%SZ}-{item_id(guid)}.xml"
