"""Items of hyper-rss -> feed format 1: the JSON of the rss-parser package becomes RSS again.

What that package dropped is lost: elements it does not know, all but the first enclosure, and of the
channel everything but title, description and dates. A file that was copied is named by its hash, so
the address it came from is lost as well.
Source: rss-parser lib/parser.js, lib/fields.js; hyper-rss peer/src/items.js; spec/06-drive,
"Feeds of hyper-rss".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any, Final

import msgspec
from lxml import etree

from p2prss.drive.legacy_rss import LegacyFile, LegacyItem
from p2prss.errors import FeedFormatError
from p2prss.feed.archive.records import FEED_FORMAT, HYPER_RSS, Asset, FeedInfo, ItemRecord
from p2prss.feed.document.dates import parse_date
from p2prss.feed.document.names import CONTENT, DC, ITUNES
from p2prss.feed.document.rss_parts import ITEMS_MARK, MAX_CHANNEL_BYTES, MAX_ITEM_BYTES
from p2prss.feed.media_types import guess_type, settle
from p2prss.feed.model import MAX_ASSETS, MAX_GUID_LENGTH, MAX_TEXT_LENGTH, MAX_URL_LENGTH, Role

MAX_CATEGORIES: Final = 100  # of one item
MAX_PICTURES: Final = 32  # files that the show notes of one item name
METADATA: Final = ("title", "description", "pubDate", "lastBuildDate")
UNDATED: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The date of an item without one, plus a second for each item before it."""

_NAMESPACES: Final = {"itunes": ITUNES, "content": CONTENT, "dc": DC}
_TEXTS: Final = {  # member -> element
    "title": "title",
    "link": "link",
    "pubDate": "pubDate",
    "content": "description",
    "content:encoded": f"{{{CONTENT}}}encoded",
    "creator": f"{{{DC}}}creator",
    "author": "author",
    "comments": "comments",
}
_ITUNES_TEXTS: Final = (
    "author",
    "subtitle",
    "summary",
    "explicit",
    "duration",
    "keywords",
    "episode",
    "season",
    "episodeType",
)
_SOURCE: Final = re.compile(r'\bsrc="([A-Za-z0-9_-]{43}\.[^"<>\s]{1,300})"')
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WEB: Final = ("http://", "https://")

Files = Mapping[str, LegacyFile]
"""File name -> file, of those that are there."""


@dataclass(frozen=True, slots=True)
class LegacyEnclosure:
    """What an item says of its episode; ``url`` is the name of a file, or the origin's address."""

    url: str
    mime_type: str = ""
    byte_length: int | None = None

    @classmethod
    def of(cls, item: LegacyItem) -> "LegacyEnclosure | None":
        """The enclosure of an item, if it has one."""
        value = item.value.get("enclosure")
        if not isinstance(value, dict):
            return None
        url, length = text_of(value.get("url")), text_of(value.get("length"))
        if not url or len(url) > MAX_URL_LENGTH:
            return None
        size = int(length) if length.isascii() and length.isdigit() and len(length) <= 15 else 0
        return cls(url, text_of(value.get("type"))[:200], size or None)


def file_names(item: LegacyItem) -> Sequence[str]:
    """The names of files that an item may refer to: its enclosure, then pictures in its show notes."""
    enclosure = LegacyEnclosure.of(item)
    names = [] if enclosure is None else [enclosure.url]
    for member in ("content", "content:encoded"):
        names += [unescape(found) for found in _SOURCE.findall(text_of(item.value.get(member)))]
    return list(dict.fromkeys(names))[: MAX_PICTURES + 1]


def read_record(item: LegacyItem, files: Files) -> ItemRecord | None:
    """An item's record; None when its guid cannot be kept."""
    if not item.guid or len(item.guid) > MAX_GUID_LENGTH:
        return None
    published = parse_date(text_of(item.value.get("isoDate"))) or parse_date(
        text_of(item.value.get("pubDate"))
    )
    if published is not None:
        published = published.replace(microsecond=0)
    return ItemRecord(
        guid=item.guid,
        title=" ".join(text_of(item.value.get("title")).split())[:MAX_TEXT_LENGTH],
        published=published,
        first_seen=published or UNDATED + timedelta(seconds=item.number),
        order=item.number,
        assets=tuple(_assets(item, files)),
    )


def _assets(item: LegacyItem, files: Files) -> Iterable[Asset]:
    found: dict[str, Asset] = {}
    enclosure = LegacyEnclosure.of(item)
    if enclosure is not None and (file := files.get(enclosure.url)) is not None:
        found[enclosure.url] = _copied(Role.ENCLOSURE, file, enclosure.mime_type)
    elif enclosure is not None and enclosure.url.startswith(_WEB):
        found[enclosure.url] = Asset(
            role=Role.ENCLOSURE,
            url=enclosure.url,
            mime_type=enclosure.mime_type or None,
            byte_length=enclosure.byte_length,
        )
    if (image := _image(item)) and image not in found:
        found[image] = Asset(role=Role.IMAGE, url=image)
    for name in file_names(item):
        if name in files and name not in found and len(found) < MAX_ASSETS:
            found[name] = _copied(Role.INLINE, files[name], "")
    return found.values()


def media_path(file: LegacyFile, claim: str = "") -> tuple[str, str]:
    """Where a file stands in feed format 1, and its type; ``claim`` is the type its item says it has."""
    mime_type, ending = settle(f"/{file.name}", claim)
    digest = file.digest.hex()
    return f"/media/{digest[:2]}/{digest}.{ending}", mime_type


def _copied(role: Role, file: LegacyFile, claim: str) -> Asset:
    path, mime_type = media_path(file, claim)
    return Asset(
        role=role,
        url=file.name,
        path=path,
        mime_type=mime_type[:200],
        byte_length=file.blob.byte_length,
        sha256=file.digest.hex(),
    )


def render_item(item: LegacyItem, record: ItemRecord) -> bytes:
    """An item as XML. What is not copied and has no address on the web any more is left out.

    Raises: FeedFormatError when it is too large.
    """
    element = etree.Element("item", nsmap=_NAMESPACES)
    copied = {asset.url: asset for asset in record.assets if asset.path is not None}
    for member, tag in _TEXTS.items():
        text = text_of(item.value.get(member))
        if member == "content" and not text:
            text = text_of(item.value.get("summary"))  # of Atom
        if member.startswith("content"):
            text = _SOURCE.sub(lambda match: _picture(match, copied), text)
        _add(element, tag, text)
    guid = etree.SubElement(element, "guid", {"isPermaLink": "false"})
    guid.text = legal(item.guid)
    categories = item.value.get("categories")
    for category in categories[:MAX_CATEGORIES] if isinstance(categories, list) else ():
        _add(element, "category", text_of(category))
    itunes = _itunes(item)
    for name in _ITUNES_TEXTS:
        _add(element, f"{{{ITUNES}}}{name}", text_of(itunes.get(name)))
    for asset in record.assets:
        if asset.role == Role.ENCLOSURE:
            attributes = {"url": asset.url, "length": str(asset.byte_length or 0)}
            if mime_type := asset.mime_type or guess_type(asset.url):
                attributes["type"] = mime_type
            etree.SubElement(element, "enclosure", {name: legal(one) for name, one in attributes.items()})
        elif asset.role == Role.IMAGE:
            etree.SubElement(element, f"{{{ITUNES}}}image", {"href": legal(asset.url)})
    return _encoded(element, MAX_ITEM_BYTES)


def _picture(match: re.Match[str], copied: Mapping[str, Asset]) -> str:
    """The address of a picture beside the served feed: ``assets/<sha256>.<ending>``."""
    asset = copied.get(unescape(match[1]))
    return match[0] if asset is None else f'src="assets/{(asset.path or "").rpartition("/")[2]}"'


def render_channel(metadata: Mapping[str, str]) -> bytes:
    """What stands around the items. Raises: FeedFormatError when it is too large."""
    root = etree.Element("rss", {"version": "2.0"}, nsmap=_NAMESPACES)
    channel = etree.SubElement(root, "channel")
    for name in METADATA:
        _add(channel, name, metadata.get(name, ""))
    _add(channel, "generator", HYPER_RSS)
    channel.append(etree.ProcessingInstruction(ITEMS_MARK))
    return _encoded(root, MAX_CHANNEL_BYTES)


def make_info(metadata: Mapping[str, str], records: Sequence[ItemRecord]) -> bytes:
    """What ``/p2prss.json`` would say; its dates are those of the feed and its items."""
    dates = [record.first_seen for record in records]
    built = parse_date(metadata.get("lastBuildDate", "")) or parse_date(metadata.get("pubDate", ""))
    media = {a.path: a.byte_length or 0 for one in records for a in one.assets if a.path is not None}
    info = FeedInfo(
        format=FEED_FORMAT,
        title=" ".join(legal(metadata.get("title", "")).split())[:MAX_TEXT_LENGTH],
        generator=HYPER_RSS,
        created=min(dates, default=built or UNDATED),
        updated=built or max(dates, default=UNDATED),
        items=len(records),
        media_files=len(media),
        media_bytes=min(sum(media.values()), 2**53 - 1),
        source_format=HYPER_RSS,
    )
    return msgspec.json.encode(info)


def text_of(value: object) -> str:
    """A text from JSON: rss-parser makes an object of an element with attributes, its text being ``_``."""
    if isinstance(value, dict):
        value = value.get("_")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return legal(value if isinstance(value, str) else str(value) if isinstance(value, int) else "").strip()


def legal(text: str) -> str:
    """A stranger's text without the characters that no XML may hold."""
    return _NOT_IN_XML.sub("", text)


def _itunes(item: LegacyItem) -> Mapping[str, Any]:
    value = item.value.get("itunes")
    return value if isinstance(value, dict) else {}


def _image(item: LegacyItem) -> str:
    url = text_of(_itunes(item).get("image"))
    return url if url.startswith(_WEB) and len(url) <= MAX_URL_LENGTH else ""


def _add(parent: etree._Element, tag: str, text: str) -> None:
    if text:
        etree.SubElement(parent, tag).text = legal(text)


def _encoded(element: etree._Element, limit: int) -> bytes:
    data = etree.tostring(element, encoding="utf-8")
    if len(data) > limit:
        raise FeedFormatError(f"a part of this feed has {len(data)} bytes, at most {limit} are allowed")
    return data
