"""``channel.xml`` and items -> RSS: the inverse of parsing.

Without ``Serving`` what comes out is what went in. With it, the copy differs from the origin's feed
in what the rules of serving ask for and in nothing else: all is done on the XML tree, so texts,
CDATA, comments, order and unknown elements stay as they were.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final
from uuid import UUID, uuid5

from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.embedded import is_data, rewrite_at, texts_in
from p2prss.feed.document.names import (
    ATOM,
    BLOCK_ID,
    ITUNES,
    PODCAST,
    Place,
    address_at,
    base_of,
    child_named,
    is_absolute,
    name_of,
    places_in,
    plain_name,
    relative_links_in,
    resolve,
    text_of,
)
from p2prss.feed.document.parse import parse_xml
from p2prss.feed.document.rss_parts import ITEMS_MARK, find_marks, remove_node
from p2prss.feed.media_types import guess_type
from p2prss.feed.model import item_id

_PODCAST_SPACE: Final = UUID("ead4c236-bf58-58c6-a2c6-a6b28d128cb6")  # of podcast:guid
_PAGE_RELS: Final = frozenset(
    {"next", "prev", "previous", "first", "last", "current", "prev-archive", "next-archive"}
)
_ADDED_SPACES: Final = {"atom": ATOM, "itunes": ITUNES, "podcast": PODCAST}  # of what is added to a channel
_UNKNOWN_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Replacement:
    """What to write where the origin's address of a file stood; None leaves length or type alone."""

    url: str
    byte_length: int | None = None
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class Alternate:
    """Another way to the same bytes, written as ``podcast:alternateEnclosure`` with its SHA-256."""

    uris: tuple[str, ...]
    byte_length: int
    mime_type: str
    sha256: str  # hex


@dataclass(frozen=True, slots=True)
class Show:
    """Which show an item is of, for a feed of several: its title, its feed, its picture if known."""

    title: str
    feed_url: str
    image_url: str = ""


@dataclass(frozen=True, slots=True)
class ItemSource:
    """An item to render. ``guid`` and ``date`` are written only where its XML has none.

    ``replacements``: absolute original address -> what to write for it.
    """

    xml: bytes
    guid: str = ""
    date: datetime | None = None  # aware
    base_url: str = ""  # where its relative addresses start; the feed's when empty
    replacements: Mapping[str, Replacement] = field(default_factory=dict)
    alternates: tuple[Alternate, ...] = ()
    show: Show | None = None  # written into the item, in the place of what it says itself


@dataclass(frozen=True, slots=True)
class Serving:
    """Where the copy is served.

    ``pages``: RFC 5005 relation -> URL; ``block`` asks directories not to list the copy;
    ``may_mirror`` takes p2prss out of that, so that the copy can be published from where it lies;
    ``links``: address of a page in the channel's ``link`` -> one that a browser opens here;
    ``links_base``: where relative addresses of pages start, if those of files have no such place.
    """

    feed_url: str
    origin_url: str = ""
    base_url: str = ""
    pages: Mapping[str, str] = field(default_factory=dict)
    replacements: Mapping[str, Replacement] = field(default_factory=dict)  # of the channel's own files
    block: bool = True
    may_mirror: bool = False
    links: Mapping[str, str] = field(default_factory=dict)
    links_base: str = ""


def render_feed(channel_xml: bytes, items: Iterable[ItemSource], serving: Serving | None = None) -> bytes:
    """Put a feed together.

    Args: channel_xml, items: as parsed or as read from an archive; serving: None to change nothing.
    Returns: an RSS document in UTF-8 with its declaration; the same for the same arguments.
    Raises: FeedFormatError when the XML is not what parsing makes (an archive is written by strangers).
    """
    root = parse_xml(channel_xml)
    if serving is not None:
        root = _with_spaces(root)
    channel = child_named(root, "channel")
    if channel is None:
        raise FeedFormatError("the archived feed has no channel")
    if serving is not None:
        _serve_channel(root, channel, serving)
    marks = [mark for mark in find_marks(channel) if mark.getparent() is channel]
    if not marks:
        marks.append(etree.ProcessingInstruction(ITEMS_MARK))
        channel.append(marks[0])
    places = {mark.text: place for place, mark in enumerate(marks) if place and mark.text}
    place = 0
    for source in items:
        if places:
            place = max(place, places.get(item_id(source.guid), 0))
        mark = marks[place]
        tail = mark.tail if mark.tail and not mark.tail.strip() else "\n"
        item = parse_xml(source.xml)
        if plain_name(item.tag) != "item":
            raise FeedFormatError("an archived item is no <item>")
        if serving is not None:
            _serve_item(item, source, serving)
        for node in list(item.itersiblings(preceding=True))[::-1]:  # comments that the origin put before it
            node.tail = tail
            mark.addprevious(node)
        item.tail = tail
        mark.addprevious(item)
    for mark in marks:
        _take_away(mark)
    return etree.tostring(root.getroottree(), encoding="UTF-8", xml_declaration=True)


def _with_spaces(root: etree._Element) -> etree._Element:
    """The root with the namespaces of what is added declared: PSP-1 wants them in the opening tag."""
    known = set(root.nsmap.values())
    missing = {
        prefix: uri for prefix, uri in _ADDED_SPACES.items() if uri not in known and prefix not in root.nsmap
    }
    if not missing:
        return root
    spaces: Any = {**root.nsmap, **missing}  # the stubs know no default namespace
    given = {str(name): str(value) for name, value in root.attrib.items()}
    made = etree.Element(root.tag, given, nsmap=spaces)
    made.text = root.text
    for node in list(root.itersiblings(preceding=True))[::-1]:
        made.addprevious(node)
    for node in list(root.itersiblings())[::-1]:
        made.addnext(node)
    made.extend(list(root))
    return made


def _take_away(mark: etree._Element) -> None:
    """Remove a mark; the blanks behind it are those of what now stands before it."""
    previous, tail = mark.getprevious(), mark.tail or ""
    if previous is not None and not tail.strip() and not (previous.tail or "").strip():
        previous.tail = tail
    remove_node(mark)


def _serve_item(item: etree._Element, source: ItemSource, serving: Serving) -> None:
    base_url = source.base_url or serving.base_url
    rewrite_addresses(item, base_url, source.replacements, base_url or serving.links_base)
    guid = date = None
    for child in item:
        name = name_of(child)
        guid = child if guid is None and name == "guid" else guid
        date = child if date is None and name == "pubDate" else date
    if source.guid and (guid is None or not text_of(guid).strip()):
        if guid is None:
            guid = _add(item, _sibling_tag(item, "guid"))
        guid.set("isPermaLink", "false")
        guid.text = source.guid
    if source.date is not None and (date is None or not (date.text or "").strip()):
        if date is None:
            date = _add(item, _sibling_tag(item, "pubDate"))
        date.text = format_datetime(source.date.astimezone(UTC).replace(microsecond=0), usegmt=True)
    for alternate in source.alternates:
        add_alternate(item, alternate)
    if source.show is not None:
        _add_show(item, source.show)


def _serve_channel(root: etree._Element, channel: etree._Element, serving: Serving) -> None:
    for style in list(root.itersiblings(etree.PI, preceding=True)):
        if getattr(style, "target", "") == "xml-stylesheet":
            _drop_before_root(style)  # a stranger's script would run under our own address
    links_base = serving.base_url or serving.links_base
    rewrite_addresses(channel, serving.base_url, serving.replacements, links_base)
    present = {plain_name(child.tag) for child in channel if isinstance(child.tag, str) and text_of(child)}
    for child in list(channel):
        if isinstance(child.tag, str) and _is_replaced(child, serving):
            remove_node(child)
        elif name_of(child) == "link" and (page := serving.links.get(text_of(child).strip())):
            child.text = page
    links = {"self": serving.feed_url, "via": serving.origin_url, **serving.pages}
    added = [_atom_link(rel, url) for rel, url in links.items() if url]
    if serving.block:
        added += [_said("itunes", ITUNES, "block", "Yes"), _said("podcast", PODCAST, "block", "yes")]
        if serving.may_mirror:
            added.append(_said("podcast", PODCAST, "block", "no"))
            added[-1].set("id", BLOCK_ID)
    if serving.origin_url and "podcast:guid" not in present:
        added.append(_said("podcast", PODCAST, "guid", podcast_guid(serving.origin_url)))
    blanks = channel.text if channel.text and not channel.text.strip() else "\n"
    for place, element in enumerate(added):
        element.tail = blanks
        channel.insert(place, element)


def podcast_guid(origin_url: str) -> str:
    """The ``podcast:guid`` of a show that names none: it follows from where the show is, not the mirror.

    Source: podcast namespace, tag ``guid``: UUIDv5 of the address without scheme and trailing slashes.
    """
    return str(uuid5(_PODCAST_SPACE, re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", origin_url).rstrip("/")))


def _is_replaced(child: etree._Element, serving: Serving) -> bool:
    name = plain_name(child.tag)
    if name == "atom:link":
        return child.get("rel", "").strip().lower() in {"self", "hub", *_PAGE_RELS}
    if name in ("itunes:block", "podcast:block"):
        return serving.block
    return name in ("itunes:new-feed-url", "cloud")


def _said(prefix: str, uri: str, name: str, text: str) -> etree._Element:
    element = etree.Element(f"{{{uri}}}{name}", nsmap={prefix: uri})
    element.text = text
    return element


def _atom_link(rel: str, url: str) -> etree._Element:
    attributes = {"rel": rel, "href": url} | ({} if rel == "via" else {"type": "application/rss+xml"})
    return etree.Element(f"{{{ATOM}}}link", attributes, nsmap={"atom": ATOM})


def _drop_before_root(node: etree._Element) -> None:
    """Remove an instruction in front of the root; lxml can only move it away."""
    holder = etree.Element("removed")
    holder.append(node)


def rewrite_addresses(
    element: etree._Element, base_url: str, replacements: Mapping[str, Replacement], links_base: str = ""
) -> None:
    """Write new addresses where there are some, and absolute ones everywhere.

    Args: links_base: where relative addresses of pages start; those of files start at ``base_url``.
    """
    for one, place in list(places_in(element)):
        written = address_at(one, place)
        if not written:
            continue
        address = written if is_absolute(written) else resolve(base_of(one, base_url), written)
        new = replacements.get(address)
        if new is None:
            if address != (one.get(place.url) if place.url else written):
                _write(one, place.url, address)
            if plain_name(one.tag) == "enclosure":
                _complete(one, place, address)
            continue
        _write(one, place.url, new.url)
        holder, length, mime_type = one, place.length, place.type
        if plain_name(one.tag) == "podcast:source" and (parent := one.getparent()) is not None:
            holder, length, mime_type = parent, "length", "type"
        if length and new.byte_length is not None:
            holder.set(length, str(new.byte_length))
        if mime_type and new.mime_type:
            holder.set(mime_type, new.mime_type)
    for one, attribute, written in list(relative_links_in(element)):
        address = resolve(base_of(one, links_base), written)
        if is_absolute(address):  # most local sources have no address to start from
            _write(one, attribute, address)
    for one, attribute in list(texts_in(element)):

        def rewritten(written: str, base: str = base_of(one, base_url)) -> str:
            address = resolve(base, written)
            new = replacements.get(address)
            return new.url if new is not None else written if is_data(written) else address

        rewrite_at(one, attribute, rewritten)


def _complete(element: etree._Element, place: Place, address: str) -> None:
    """Give an ``enclosure`` that is still at the origin all three attributes: the type of its ending, and
    a length of 0, which means that it is not known (RSS Best Practices Profile)."""
    if not element.get(place.type, "").strip():
        element.set(place.type, guess_type(address) or _UNKNOWN_TYPE)
    if not element.get(place.length, "").strip():
        element.set(place.length, "0")


def _write(element: etree._Element, attribute: str, address: str) -> None:
    if attribute:
        element.set(attribute, address)
    else:
        element.text = address


def add_alternate(item: etree._Element, alternate: Alternate) -> None:
    element = etree.SubElement(
        item,
        f"{{{PODCAST}}}alternateEnclosure",
        {"type": alternate.mime_type, "length": str(alternate.byte_length)},
        nsmap={"podcast": PODCAST},
    )
    for uri in alternate.uris:
        etree.SubElement(element, f"{{{PODCAST}}}source", {"uri": uri})
    value = "sha256-" + b64encode(bytes.fromhex(alternate.sha256)).decode()
    etree.SubElement(element, f"{{{PODCAST}}}integrity", {"type": "sri", "value": value})


def _add_show(item: etree._Element, show: Show) -> None:
    """RSS 2.0 ``source``; and the show's picture, unless the item has one of its own."""
    has_image = False
    for child in list(item):
        name = name_of(child)
        has_image = has_image or name == "itunes:image"
        if name == "source":
            item.remove(child)
    source = _add(item, _sibling_tag(item, "source"))
    source.set("url", show.feed_url)
    source.text = show.title
    if show.image_url and not has_image:
        etree.SubElement(item, f"{{{ITUNES}}}image", {"href": show.image_url}, nsmap={"itunes": ITUNES})


def _sibling_tag(item: etree._Element, name: str) -> str:
    """A tag in the namespace the item itself is in: usually none."""
    uri = etree.QName(item).namespace
    return f"{{{uri}}}{name}" if uri else name


def _add(parent: etree._Element, tag: str) -> etree._Element:
    """Append a child, on a line of its own like the others."""
    tail = parent[-1].tail if len(parent) else None
    child = etree.SubElement(parent, tag)
    child.tail = tail
    return child
