"""What a mirror tells while it works, and at the end."""

from dataclasses import dataclass, field

from p2prss.feed.mirroring.policy import Announced
from p2prss.feed.origin.reply import Fetched


@dataclass(frozen=True, slots=True)
class FeedRead:
    """The origin's feed was read, or did not change; ``repairs`` says what had to be mended."""

    title: str
    items: int
    not_modified: bool = False
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeedMoved:
    """The feed is elsewhere from now on; or it says so, and ``problem`` is why it is not followed."""

    url: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ItemsWritten:
    """The feed's text is in the drive; ``announced`` media is to follow."""

    new: int
    changed: int
    removed: int
    announced: Announced


@dataclass(frozen=True, slots=True)
class MediaStored:
    """A file is in the drive; one that was there already under another address is not ``is_new``."""

    title: str  # of its item, or of the feed
    role: str
    byte_length: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class MediaFailed:
    """A file could not be had; the next update tries again."""

    title: str
    error: str


@dataclass(frozen=True, slots=True)
class CapturesDiffer:
    """An origin sends other bytes each time it is asked for a file; the first capture stays."""

    title: str


@dataclass(frozen=True, slots=True)
class FilesLeftOut:
    """Files of an item or of the feed that an archive has no room to name: only its XML knows them."""

    title: str
    files: int


@dataclass(frozen=True, slots=True)
class ItemFailed:
    """An item could not be kept; an older version of it stays. The next update tries again."""

    title: str
    error: str


@dataclass(frozen=True, slots=True)
class PagesFailed:
    """A feed in several pages was read up to a page only; what was behind it stays, and is tried again."""

    pages: int  # that were read
    error: str


@dataclass(frozen=True, slots=True)
class SourceDoubted:
    """Something about a source that is made into a feed here, which its user should know."""

    text: str


@dataclass(frozen=True, slots=True)
class SecretsWritten:
    """The feed's own text holds the password or token of the source's address; it was written as it is."""

    texts: int  # items, and the channel


MirrorEvent = (
    FeedRead
    | FeedMoved
    | ItemsWritten
    | MediaStored
    | MediaFailed
    | CapturesDiffer
    | FilesLeftOut
    | ItemFailed
    | PagesFailed
    | SecretsWritten
    | SourceDoubted
)


@dataclass(slots=True)
class MirrorReport:
    """What an update did. ``episodes``, ``media_files`` and ``media_bytes`` are what the drive holds now.

    An episode is any item of the archive, be it an article or removed at the origin.
    """

    new: int = 0
    changed: int = 0
    removed: int = 0  # of which ``aged_out`` were the oldest, and ``taken_out`` were not
    aged_out: int = 0
    taken_out: int = 0
    purged: int = 0  # items that were deleted from the archive, taken out now or earlier
    fetched_files: int = 0
    fetched_bytes: int = 0
    failures: list[MediaFailed | ItemFailed | PagesFailed] = field(default_factory=list)
    declined: Announced | None = None  # so much media was announced that somebody has to say yes first
    wrote: bool = False
    episodes: int = 0
    media_files: int = 0
    media_bytes: int = 0
    reply: Fetched | None = None  # the feed's, or its 304
    moved_to: str = ""  # where it is asked for from now on, if not at the source's address
