"""The parts of an RSS document: its items, and the channel that they are cut out of.

Each item's XML is kept as it stands, with the namespaces in scope; what is left of the document is the
channel's, with a mark where the first item stood.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import takewhile
from typing import Final

import msgspec
from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.dates import parse_date
from p2prss.feed.document.embedded import addresses_at, is_data, texts_in
from p2prss.feed.document.made_guids import digest_guid, number_equals, tell_apart
from p2prss.feed.document.names import (
    XML_BASE,
    Place,
    address_at,
    base_around,
    base_of,
    child_named,
    name_of,
    places_in,
    relative_links_in,
    resolve,
    text_of,
)
from p2prss.feed.model import (
    MAX_ADDRESSES_BYTES,
    MAX_ASSETS,
    MAX_GUID_LENGTH,
    MAX_TEXT_LENGTH,
    MAX_URL_LENGTH,
    Channel,
    Enclosure,
    Item,
    ParsedFeed,
    RefusedItem,
    Role,
    item_id,
)
from p2prss.units import MB

MAX_ITEMS: Final = 50_000  # the longest-running daily shows are below 10,000
MAX_ITEM_BYTES: Final = 2 * MB  # XML of one item, its namespace declarations included
MAX_CHANNEL_BYTES: Final = 4 * MB  # XML of all that is no item
MAX_ITEMS_BYTES: Final = 100 * MB  # of all items: declarations at the root are repeated in each
MAX_NAMESPACES: Final = 200  # in scope of an item

ITEMS_MARK: Final = "p2prss-items"
"""The processing instruction that stands in ``channel.xml`` where the items stood.

Where others stand between items there are several. All but the first name the item that comes next.
"""

_DATES: Final = ("pubDate", "dc:date", "dcterms:issued", "atom:published", "dcterms:modified", "atom:updated")
_BUILD_DATES: Final = frozenset({"lastBuildDate", "pubDate", "dc:date", "atom:updated"})


def take_apart(
    root: etree._Element,
    url: str,
    *,
    source_format: str = "rss",
    repairs: tuple[str, ...] = (),
    degraded: bool = False,
) -> ParsedFeed:
    """Read an RSS document; ``root`` is used up.

    Raises: FeedFormatError when it has no channel, or is larger than the limits.
    """
    channel = child_named(root, "channel")
    if channel is None:
        raise FeedFormatError("this RSS document has no channel")
    for mark in find_marks(root):  # not ours
        if (parent := mark.getparent()) is not None:
            parent.remove(mark)
    parents = [
        *(child for child in root if name_of(child) == "channel"),
        root,
    ]  # several: seen where feeds are joined
    elements = [child for parent in parents for child in parent if name_of(child) == "item"]
    if len(elements) > MAX_ITEMS:
        raise FeedFormatError(f"this feed has more than {MAX_ITEMS} items")
    if len(channel.nsmap) > MAX_NAMESPACES:
        raise FeedFormatError(f"this feed declares more than {MAX_NAMESPACES} namespaces")
    items: list[Item] = []
    refused: list[RefusedItem] = []
    kept: list[etree._Element] = []
    size = 0
    for element in elements:
        item = _read_item(element, url)
        if isinstance(item, RefusedItem):
            refused.append(item)
            continue
        items.append(item)
        kept.append(element)
        size += len(item.xml)
        if size > MAX_ITEMS_BYTES:
            raise FeedFormatError(f"the items of this feed are larger than {MAX_ITEMS_BYTES // MB} MB")
    listed = tell_apart(number_equals(items))
    names = {element: item_id(item.guid) for element, item in zip(kept, listed, strict=True)}
    _cut_out(channel, elements, names)
    return ParsedFeed(
        _read_channel(root, channel, url),
        listed,
        base_url=url,
        source_format=source_format,
        repairs=repairs,
        degraded=degraded,
        refused=tuple(refused),
    )


def _cut_out(
    channel: etree._Element, elements: Sequence[etree._Element], names: Mapping[etree._Element, str]
) -> None:
    """Take the items out, leaving a mark in the place of the first, and of each behind another element.

    Args: names: the ids of items, which such a mark bears.
    """
    gone: list[etree._Element] = []
    is_first = True
    for element in elements:
        notes = _notes_before(element)
        start = (notes or [element])[0]
        if element.getparent() is channel and (is_first or (element in names and _is_behind_others(start))):
            mark = etree.ProcessingInstruction(ITEMS_MARK, "" if is_first else names[element])
            mark.tail = element.tail if not (element.tail or "").strip() else "\n"
            start.addprevious(mark)
            is_first = False
        gone += [*notes, element]
    if is_first:
        channel.append(etree.ProcessingInstruction(ITEMS_MARK))
    for node in gone:
        remove_node(node)


def _is_behind_others(node: etree._Element) -> bool:
    """Whether what stands before is no item."""
    previous = node.getprevious()
    return previous is not None and name_of(previous) != "item"


def remove_node(node: etree._Element) -> None:
    """Remove an element, and not what its parent says behind it."""
    tail, before, parent = node.tail or "", node.getprevious(), node.getparent()
    if parent is None:
        return
    if tail.strip():
        if before is not None:
            before.tail = (before.tail or "") + tail
        else:
            parent.text = (parent.text or "") + tail
    parent.remove(node)


def _notes_before(item: etree._Element) -> list[etree._Element]:
    """The comments and instructions between the item before and this one: they belong to it."""
    before = item.itersiblings(preceding=True)
    nodes = list(takewhile(lambda node: not isinstance(node.tag, str), before))
    previous = next(item.itersiblings("{*}*", preceding=True), None)
    return nodes[::-1] if previous is not None and name_of(previous) == "item" else []


def _read_item(element: etree._Element, url: str) -> Item | RefusedItem:
    nodes = [*_notes_before(element), element]
    xml = b"\n".join(etree.tostring(one, encoding="utf-8", with_tail=False) for one in nodes)
    first = _first_children(element)
    title = (_text(first, "title") or _text(first, "itunes:title"))[:MAX_TEXT_LENGTH]
    files, is_relative, left_out = _files(element, url)
    digest = _digest(element)
    guid = text_of(first["guid"]) if "guid" in first else ""
    is_made = not guid.strip() or len(guid) > MAX_GUID_LENGTH
    if is_made:
        enclosure = next((one.url for one in files if one.role == "enclosure"), "")
        guid = enclosure or _text(first, "link")[:MAX_GUID_LENGTH] or digest_guid(digest)
    if len(xml) > MAX_ITEM_BYTES:
        return RefusedItem(guid, title, f"the item is larger than {MAX_ITEM_BYTES // MB} MB")
    published = next((when for name in _DATES if (when := parse_date(_text(first, name)))), None)
    return Item(
        guid=guid,
        title=title,
        published=published,
        xml=xml,
        digest=digest,
        files=files,
        base_url=base_around(element, url) if is_relative else "",
        guid_is_made=is_made,
        left_out=left_out,
    )


def _read_channel(root: etree._Element, channel: etree._Element, url: str) -> Channel:
    xml = etree.tostring(root.getroottree(), encoding="utf-8", xml_declaration=True)
    if len(xml) > MAX_CHANNEL_BYTES:
        raise FeedFormatError(f"the head of this feed is larger than {MAX_CHANNEL_BYTES // MB} MB")
    first = _first_children(channel)
    files, _, left_out = _files(channel, url)
    pages = {
        child.get("rel", ""): resolve(base_of(child, url), child.get("href", "").strip())
        for child in reversed(channel)
        if name_of(child) == "atom:link" and child.get("href", "").strip()
    }
    return Channel(
        xml=xml,
        digest=_channel_digest(root),
        title=_text(first, "title")[:MAX_TEXT_LENGTH],
        link=_text(first, "link")[:MAX_URL_LENGTH],
        language=_text(first, "language")[:100],
        podcast_guid=_text(first, "podcast:guid")[:100],
        next_page_url=pages.get("next") or pages.get("prev-archive", ""),
        last_page_url=pages.get("last", ""),
        new_feed_url=_text(first, "itunes:new-feed-url")[:MAX_URL_LENGTH],
        files=files,
        left_out=left_out,
    )


def _files(element: etree._Element, url: str) -> tuple[tuple[Enclosure, ...], bool, int]:
    """The files named below an element, each address once, within the limits of an archive.

    Returns: the files, whether one of their addresses is relative, how many are left out.
    """
    found: dict[str, Enclosure] = {}
    size = 0
    left_out = 0
    is_relative = False
    base = None
    for one, place, written in _named_in(element):
        address = written
        if not written.startswith(("http://", "https://")) or one.get(XML_BASE):
            base = base_of(one, url) if base is None or one.get(XML_BASE) else base
            address = resolve(base, written)
        is_relative = is_relative or address != written
        if address in found:
            continue
        if len(address) > MAX_URL_LENGTH or len(found) >= MAX_ASSETS:
            left_out += 1
            continue
        file = _enclosure(one, place, address)
        cost = len(msgspec.json.encode((file.url, file.mime_type)))
        if size + cost > MAX_ADDRESSES_BYTES:
            left_out += 1
            continue
        size += cost
        found[address] = file
    is_relative = is_relative or next(relative_links_in(element), None) is not None
    return tuple(found.values()), is_relative, left_out


def _named_in(element: etree._Element) -> Iterator[tuple[etree._Element, Place, str]]:
    """Elements, places in them and what is written there; pictures in texts come last."""
    for one, place in places_in(element):
        if written := address_at(one, place):
            yield one, place, written
    for one, attribute in texts_in(element):
        place = Place(Role.IMAGE if attribute else Role.INLINE, attribute)
        for written in addresses_at(one, attribute):
            if not is_data(written):
                yield one, place, written


def _enclosure(element: etree._Element, place: Place, address: str) -> Enclosure:
    length = element.get(place.length, "") if place.length else ""
    mime_type = element.get(place.type, "") if place.type else ""
    if name_of(element) == "podcast:source" and (parent := element.getparent()) is not None:
        length, mime_type = parent.get("length", ""), mime_type or parent.get("type", "")
    length = length.strip()
    size = int(length) if length.isascii() and length.isdigit() and len(length) <= 15 else 0
    return Enclosure(place.role, address, size or None, mime_type.strip()[:200] or None)


def _channel_digest(root: etree._Element) -> str:
    """A digest that stays the same when only the dates of building moved."""
    root = copy.deepcopy(root)
    channel = child_named(root, "channel")
    if channel is not None:
        for child in list(channel):
            if name_of(child) in _BUILD_DATES:
                channel.remove(child)
    return _digest(root)


def _digest(element: etree._Element) -> str:
    """32 hex digits over the canonical form: quotes, attribute order and unused prefixes do not count."""
    try:
        data = etree.tostring(element, method="c14n", exclusive=True, with_comments=True, with_tail=False)
    except etree.C14NError:  # it has no canonical form: a relative namespace address
        data = etree.tostring(element, encoding="utf-8", with_tail=False)
    return blake2b(data, digest_size=16).hexdigest()


def _first_children(element: etree._Element) -> dict[str, etree._Element]:
    first: dict[str, etree._Element] = {}
    for child in element:
        if name := name_of(child):
            first.setdefault(name, child)
    return first


def _text(first: dict[str, etree._Element], name: str) -> str:
    element = first.get(name)
    return " ".join(text_of(element).split()) if element is not None else ""


def find_marks(root: etree._Element) -> list[etree._Element]:
    """The marks where items stood."""
    return [one for one in root.iter(etree.PI) if _target(one) == ITEMS_MARK]


def _target(instruction: etree._Element) -> str:
    return str(getattr(instruction, "target", ""))
