"""A feed as it was read: ``ParsedFeed``, its ``Channel`` and its ``Item``s.

It holds XML as bytes next to the few fields the program itself needs: the XML is what is kept and
served again, the fields only decide. How a feed is archived stands in ``feed.archive.records``.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from p2prss.units import KIB

MAX_URL_LENGTH: Final = 4096  # characters; the longest seen in real feeds (chained trackers) are near 1,000
MAX_TEXT_LENGTH: Final = 1000  # characters of a title, kept for lists; the XML has the whole text
MAX_GUID_LENGTH: Final = 4096  # characters
MAX_ASSETS: Final = 64  # files of one item or channel
MAX_ADDRESSES_BYTES: Final = 128 * KIB  # of the addresses and types of these files, as JSON


class Role(StrEnum):
    """What a file is to its item; a later version may write others into a drive."""

    ENCLOSURE = "enclosure"
    ALTERNATE = "alternate"  # another edition of the enclosure: podcast:alternateEnclosure
    IMAGE = "image"
    TRANSCRIPT = "transcript"
    CHAPTERS = "chapters"
    INLINE = "inline"  # a picture in the show notes
    SUPERSEDED = "superseded"  # an older capture of an enclosure that was captured again


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A file that an item or a channel names: the episode's audio, but also its picture or transcript.

    ``url`` is absolute; ``byte_length`` and ``mime_type`` are the feed's own claims, often wrong, and
    None where it makes none (or claims 0 bytes).
    """

    role: Role
    url: str
    byte_length: int | None = None
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a parsed feed.

    ``xml`` is the element with its namespace context. ``guid`` is verbatim; where the feed has none,
    ``guid_is_made`` and it is the address of the first enclosure, else of the page, else a hash.
    ``digest`` changes when the content of the XML does, whatever prefixes and quotes it is written in.
    """

    guid: str
    title: str
    published: datetime | None  # aware, UTC
    xml: bytes
    digest: str  # 32 hex digits
    files: tuple[Enclosure, ...] = ()
    base_url: str = ""  # what its relative addresses start from, or its own xml:base does
    guid_is_made: bool = False
    left_out: int = 0  # files that are not in ``files``: too many, or their addresses too long

    @property
    def enclosures(self) -> tuple[Enclosure, ...]:
        """The files that are the episode itself."""
        return tuple(one for one in self.files if one.role is Role.ENCLOSURE)


@dataclass(frozen=True, slots=True)
class Channel:
    """A parsed feed without its items; ``xml`` is the document, with a mark where the items stood."""

    xml: bytes
    digest: str  # 32 hex digits; dates of building are left out of it
    title: str = ""
    link: str = ""
    language: str = ""
    podcast_guid: str = ""
    next_page_url: str = ""  # RFC 5005: the page, or else the archive, that goes on where this ends
    last_page_url: str = ""  # likewise, the page that nothing follows
    new_feed_url: str = ""
    files: tuple[Enclosure, ...] = ()
    left_out: int = 0  # as of an item


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """An item that cannot be kept, and why, in a few words."""

    guid: str
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class ParsedFeed:
    """A whole feed; ``items`` stand as in the feed, those in ``refused`` are not among them.

    ``source_format`` is what came: rss, atom, rdf or json; all but rss have been rewritten as RSS.
    ``repairs`` says in a few words what had to be mended before the XML could be read, and
    ``degraded`` that only the lenient reader could, so that unknown elements are lost.
    """

    channel: Channel
    items: tuple[Item, ...]
    base_url: str = ""
    source_format: str = "rss"
    repairs: tuple[str, ...] = ()
    degraded: bool = False
    refused: tuple[RefusedItem, ...] = ()


def item_id(guid: str) -> str:
    """The name of an item that fits into paths and URLs.

    Returns: the first 16 hex digits of BLAKE2b-256 over the guid's UTF-8 bytes.
    Source: spec/08-feeds, "Paths".
    """
    return blake2b(guid.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()[:16]
