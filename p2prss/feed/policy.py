"""What of a feed is mirrored, and how much that will be."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from p2prss.feed.media_types import ending_of, plain
from p2prss.feed.model import ArchivedItem, Asset, CapturePolicy, Role
from p2prss.units import GB, MB

ASK_ABOVE_BYTES: Final = 20 * GB  # announced media; so much is not fetched without a yes
ASK_ABOVE_SHARE: Final = 0.5  # of the free disk
KEEP_FREE_BYTES: Final = 2 * GB  # of the disk, or
KEEP_FREE_SHARE: Final = 0.05  # of it, whichever is more: never used

MAX_ENCLOSURE_BYTES: Final = 8 * GB
MAX_SIDE_FILE_BYTES: Final = 50 * MB  # a picture, a transcript, chapters

_CAPTURED: Final = frozenset({Role.ENCLOSURE, Role.IMAGE, Role.TRANSCRIPT, Role.CHAPTERS})
_STREAMS: Final = frozenset(
    {
        "application/x-mpegurl",
        "application/vnd.apple.mpegurl",
        "audio/x-mpegurl",
        "audio/mpegurl",
        "application/dash+xml",
        "application/x-bittorrent",
    }
)
"""Types that only point to media: copied as a file they would be of no use."""


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


def missing(assets: Iterable[Asset]) -> list[Asset]:
    """The files to fetch: not yet captured, of a kind that can be."""
    return [one for one in assets if one.path is None and _is_file(one)]


def _is_file(asset: Asset) -> bool:
    if asset.role not in _CAPTURED or plain(asset.mime_type) in _STREAMS:
        return False
    try:
        parts = urlsplit(asset.url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https", "file", "") and not parts.path.lower().endswith(
        (".m3u8", ".torrent")
    )


def limit_of(asset: Asset) -> int:
    """The largest size a file may have, in bytes."""
    return MAX_ENCLOSURE_BYTES if asset.role == Role.ENCLOSURE else MAX_SIDE_FILE_BYTES


def may_be_page(asset: Asset) -> bool:
    """Whether a web page is what was asked for: some transcripts are."""
    return asset.role == Role.TRANSCRIPT and (
        plain(asset.mime_type) == "text/html" or ending_of(asset.url) == "html"
    )


def announced(assets: Iterable[Asset]) -> Announced:
    """Add up what is still to be fetched, each address once."""
    sizes = {one.url: one.byte_length for one in missing(assets)}
    known = [size for size in sizes.values() if size]
    enclosures_unknown = len(sizes) - len(known)
    return Announced(len(sizes), sum(known), enclosures_unknown)


def needs_yes(what: Announced, free_bytes: int) -> bool:
    """Whether so much should not be fetched without asking."""
    return what.byte_length > min(ASK_ABOVE_BYTES, free_bytes * ASK_ABOVE_SHARE)


def room_left(free_bytes: int, total_bytes: int) -> int:
    """How many more bytes may be written to a disk; below 0 when it is too full already."""
    return free_bytes - max(KEEP_FREE_BYTES, round(total_bytes * KEEP_FREE_SHARE))
