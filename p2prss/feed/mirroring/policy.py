"""What of a feed is mirrored, and how much that will be."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from p2prss.feed.archive.records import ArchivedItem, Asset, CapturePolicy
from p2prss.feed.media_types import ending_of, is_stream, plain
from p2prss.feed.model import Role
from p2prss.units import GB, MB

ASK_ABOVE_BYTES: Final = 20 * GB  # announced media; so much is not fetched without a yes
ASK_ABOVE_SHARE: Final = 0.5  # of the free disk
KEEP_FREE_BYTES: Final = 2 * GB  # of the disk, or
KEEP_FREE_SHARE: Final = 0.05  # of it, whichever is more: never used

MAX_ENCLOSURE_BYTES: Final = 8 * GB
MAX_SIDE_FILE_BYTES: Final = 50 * MB  # a picture, a transcript, chapters

_CAPTURED: Final = frozenset(
    {Role.ENCLOSURE, Role.ALTERNATE, Role.IMAGE, Role.TRANSCRIPT, Role.CHAPTERS, Role.INLINE}
)


@dataclass(frozen=True, slots=True)
class Announced:
    """What the feed says that is still to be fetched; ``unknown`` files are announced without a size."""

    files: int
    byte_length: int
    unknown: int


def within(policy: CapturePolicy, newest_first: Sequence[ArchivedItem]) -> Iterator[ArchivedItem]:
    """The items whose files are wanted, newest first; what the origin removed is not asked for again."""
    if not policy.media:
        return
    listed = (item for item in newest_first if item.removed_at is None)
    for place, item in enumerate(listed):
        if policy.latest is not None and place >= policy.latest:
            return
        if policy.since is None or (item.published or item.first_seen) >= policy.since:
            yield item


def missing(assets: Iterable[Asset], *, alternates: bool = True) -> list[Asset]:
    """The files to fetch: not yet captured, of a kind that can be, and unless told so no alternates."""
    return [
        one
        for one in assets
        if one.path is None and _is_file(one) and (alternates or one.role != Role.ALTERNATE)
    ]


def _is_file(asset: Asset) -> bool:
    if asset.role not in _CAPTURED or is_stream(asset.url, asset.mime_type):
        return False
    try:
        parts = urlsplit(asset.url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https", "file", "")


def limit_of(asset: Asset) -> int:
    """The largest size a file may have, in bytes."""
    is_media = asset.role in (Role.ENCLOSURE, Role.ALTERNATE)
    return MAX_ENCLOSURE_BYTES if is_media else MAX_SIDE_FILE_BYTES


def may_be_page(asset: Asset) -> bool:
    """Whether a web page is what was asked for: some transcripts are."""
    return asset.role == Role.TRANSCRIPT and (
        plain(asset.mime_type) == "text/html" or ending_of(asset.url) == "html"
    )


def announced(assets: Iterable[Asset], *, alternates: bool = True) -> Announced:
    """Add up what is still to be fetched, each address once.

    A claim above what one file may have is counted as unknown: it says nothing about the feed.
    """
    wanted = {one.url: one for one in missing(assets, alternates=alternates)}
    known = [size for one in wanted.values() if 0 < (size := one.byte_length or 0) <= limit_of(one)]
    return Announced(len(wanted), sum(known), len(wanted) - len(known))


def needs_yes(what: Announced, free_bytes: int) -> bool:
    """Whether so much should not be fetched without asking."""
    return what.byte_length > min(ASK_ABOVE_BYTES, free_bytes * ASK_ABOVE_SHARE)


def room_left(free_bytes: int, total_bytes: int) -> int:
    """How many more bytes may be written to a disk; below 0 when it is too full already."""
    return free_bytes - max(KEEP_FREE_BYTES, round(total_bytes * KEEP_FREE_SHARE))
