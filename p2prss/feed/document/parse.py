"""Bytes from an origin -> ``ParsedFeed``, losing nothing of a well-formed RSS feed.

The way is: find the charset (``repair.read_text``) and read strictly. Only if that fails, mend
(``repair.mend``), then make the tags fit (``balance``), and read strictly again after each; the lenient
reader (``lenient``) is the last resort. No document type is followed, no entity expanded, nothing fetched.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import takewhile
from typing import Final

import msgspec
from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.atom import from_atom
from p2prss.feed.document.balance import balance
from p2prss.feed.document.dates import parse_date
from p2prss.feed.document.embedded import addresses_at, is_data, texts_in
from p2prss.feed.document.json_feed import from_json
from p2prss.feed.document.lenient import from_lenient
from p2prss.feed.document.names import (
    XML_BASE,
    Place,
    address_at,
    base_around,
    base_of,
    kept_base,
    places_in,
    plain_name,
    relative_links_in,
    resolve,
    text_of,
)
from p2prss.feed.document.rdf import from_rdf
from p2prss.feed.document.repair import MAX_FEED_BYTES, mend, read_text, what_else
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
)
from p2prss.units import MB

MAX_ITEMS: Final = 50_000  # the longest-running daily shows are below 10,000
MAX_ITEM_BYTES: Final = 2 * MB  # XML of one item, its namespace declarations included
MAX_CHANNEL_BYTES: Final = 4 * MB  # XML of all that is no item
MAX_ITEMS_BYTES: Final = 100 * MB  # of all items: declarations at the root are repeated in each
MAX_LENIENT_BYTES: Final = 4 * MB  # given to the lenient reader, which takes a second for each
MAX_ATTRIBUTES: Final = 200  # of one element
MAX_CHILDREN: Final = 10_000  # of one element, items aside: moving them takes the square of their number
MAX_NAMESPACES: Final = 200  # in scope of an item
MAX_MARKUP: Final = 2_000_000  # tags and attributes; an ordinary feed of 10 MB has a tenth
MAX_DEPTH: Final = 100  # elements inside of each other; show notes in XHTML reach 20

ITEMS_MARK: Final = "p2prss-items"
"""The processing instruction that stands in ``channel.xml`` where the items stood."""

_DEEP: Final = "/*" * (MAX_DEPTH + 1)
_MANY_CHILDREN: Final = f"//*[local-name() != 'item' and local-name() != 'entry'][{MAX_CHILDREN + 1}]"
_MANY_ATTRIBUTES: Final = f"//@*[{MAX_ATTRIBUTES + 1}]"
_TOO_DEEP: Final = etree.XPath(f"boolean({_DEEP})")
_TOO_DEEP_TEXT: Final = f"this feed has more than {MAX_DEPTH} elements inside of each other"
_TOO_LARGE: Final = ("Resource limit", "too big", "too long", "huge")  # of texts, names, attributes
_TOO_MANY_ATTRIBUTES: Final = etree.XPath(f"boolean({_MANY_ATTRIBUTES})")
_TOO_MUCH: Final = etree.XPath(
    f"boolean({_DEEP}) or boolean({_MANY_ATTRIBUTES}) or boolean({_MANY_CHILDREN})"
)
_DATES: Final = ("pubDate", "dc:date", "dcterms:issued", "atom:published", "dcterms:modified", "atom:updated")
_BUILD_DATES: Final = frozenset({"lastBuildDate", "pubDate", "dc:date", "atom:updated"})
_ATOM: Final = frozenset({"atom:feed", "atom03:feed", "feed"})
_MARKUP: Final = re.compile(r"""<|=\s{0,20}["']""")
_WORDS: Final = """
    rss channel item title link description language copyright managingEditor webMaster pubDate
    lastBuildDate category generator docs cloud ttl image rating textInput skipHours skipDays url
    width height hour day author comments enclosure guid source
"""
_VOCABULARY: Final = {name.lower(): name for name in _WORDS.split()}


class _NotWellFormed(FeedFormatError):
    """No XML as it stands; it may be mended."""


def parse_feed(data: bytes, *, url: str = "", content_type: str = "") -> ParsedFeed:
    """Read a feed of any common kind; all but RSS 2.0 and 0.9x are rewritten as RSS.

    Args: data: what the origin sent; url: its final address, where relative ones start;
        content_type: of the reply, for its charset.
    Raises: FeedFormatError, in one line that names the cause, whatever the bytes are.
    """
    url = kept_base(url)
    text = read_text(data, content_type)
    if text[:1] == "{":
        return _read(from_json(text, max_items=MAX_ITEMS), url, source_format="json")
    if sum(1 for _ in _MARKUP.finditer(text)) > MAX_MARKUP:
        raise FeedFormatError(f"this feed has more than {MAX_MARKUP:,} tags and attributes")
    found = _strictly(text)
    root = found.root
    if root is None:
        if name := what_else(text):
            raise FeedFormatError(f"this is no feed: it is {name}")
        rebuilt = from_lenient(text) if len(text) <= MAX_LENIENT_BYTES else None
        if rebuilt is None:
            raise FeedFormatError(f"this is no feed we can read: {found.error}")
        repairs = (*found.repairs, f"read leniently ({found.error})")
        return _read(rebuilt, url, repairs=repairs, degraded=True)
    kind = plain_name(root.tag)
    repairs = found.repairs
    source_format = "rss"
    if etree.QName(root).localname.lower() == "rss":
        framed, more = _framed(root)
        repairs += more
    elif kind == "rdf:RDF":
        _check_count(root, "item")
        framed, source_format = from_rdf(root), "rdf"
    elif kind in _ATOM:
        _check_count(root, "entry")
        framed, source_format = from_atom(root), "atom"
    else:
        name = (
            "a web page (HTML)"
            if kind in ("html", "xhtml:html")
            else f"XML whose first element is <{kind[:80]}>"
        )
        raise FeedFormatError(f"this is no feed: it is {name}")
    if framed is None:
        raise FeedFormatError(f"this {'RDF' if source_format == 'rdf' else 'RSS'} document has no channel")
    feed = _read(framed, url, source_format=source_format, repairs=repairs, degraded=found.is_cut)
    if source_format != "rss" and not feed.items and not feed.channel.title:
        raise FeedFormatError("this feed has neither a title nor an item")
    return feed


def _framed(root: etree._Element) -> tuple[etree._Element | None, tuple[str, ...]]:
    """The document with a channel that can be found as such; None where there is nothing to put in one.

    Some write a default namespace at ``<rss>`` that is another's, or all tags in capital letters.
    """
    if _child(root, "channel") is not None:
        return root, ()
    repairs = []
    space = etree.QName(root).namespace or ""
    for one in root.iter(etree.Element):
        name = etree.QName(one)
        if (name.namespace or "") == space and (right := _VOCABULARY.get(name.localname.lower())):
            one.tag = right
    if space or _child(root, "channel") is not None:
        repairs.append("RSS tags spelled as RSS spells them")
        root = _under(
            etree.Element(
                root.tag, {str(name): str(value) for name, value in root.attrib.items()}, _others(root)
            ),
            root,
        )
    if _child(root, "channel") is None:
        if not any(_is(child, "item") or _is(child, "title") for child in root):
            return None, ()
        repairs.append("a channel put around what stood without")
        _under(etree.SubElement(root, "channel"), root)
    return root, tuple(repairs)


def _others(root: etree._Element) -> dict[str, str]:
    return {prefix: uri for prefix, uri in root.nsmap.items() if prefix}


def _under(parent: etree._Element, old: etree._Element) -> etree._Element:
    """Move all that stands in one element into another."""
    parent.text = old.text
    for child in [one for one in old if one is not parent]:
        parent.append(child)
    return parent


def _check_count(root: etree._Element, name: str) -> None:
    """Refuse too many items before they are rewritten one by one."""
    if sum(1 for _ in root.iter(f"{{*}}{name}")) > MAX_ITEMS:
        raise FeedFormatError(f"this feed has more than {MAX_ITEMS} items")


def parse_xml(data: bytes) -> etree._Element:
    """Read XML strictly: no document types, entities or network; CDATA, comments and instructions stay.

    Raises: FeedFormatError.
    """
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, strip_cdata=False
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        reason = _one_line(error)
        if "Excessive depth" in reason:
            raise FeedFormatError(_TOO_DEEP_TEXT) from None
        if any(words in reason for words in _TOO_LARGE):
            raise FeedFormatError(f"a part of this feed is too large: {reason}") from None
        raise _NotWellFormed(reason) from None
    if _TOO_MUCH(root):  # one question, since items are many
        if _TOO_DEEP(root):
            raise FeedFormatError(_TOO_DEEP_TEXT)
        if _TOO_MANY_ATTRIBUTES(root):
            raise FeedFormatError(f"an element of this feed has more than {MAX_ATTRIBUTES} attributes")
        raise FeedFormatError(f"an element of this feed has more than {MAX_CHILDREN} others in it")
    if root.getroottree().docinfo.internalDTD is not None:
        raise FeedFormatError("a document type is not allowed")
    return root


def find_marks(root: etree._Element) -> list[etree._Element]:
    """The marks where items stood: one, in what we wrote."""
    return [one for one in root.iter(etree.PI) if _target(one) == ITEMS_MARK]


def _target(instruction: etree._Element) -> str:
    return str(getattr(instruction, "target", ""))


def _one_line(error: Exception) -> str:
    text = error.msg if isinstance(error, etree.XMLSyntaxError) else str(error)
    return " ".join((text or type(error).__name__).split())[:200]


@dataclass(frozen=True, slots=True)
class _Strict:
    """What the strict reader made of a text: ``root`` or else ``error``, and what was mended for it."""

    root: etree._Element | None
    repairs: tuple[str, ...] = ()
    error: str = ""
    is_cut: bool = False


def _strictly(text: str) -> _Strict:
    """Read strictly, if need be after mending, and after making the tags fit."""
    try:
        return _Strict(_read_mended(text))
    except _NotWellFormed as error:
        reason = str(error)
    mended, repairs = mend(text)
    try:
        return _Strict(_read_mended(mended), tuple(repairs))
    except _NotWellFormed as error:
        reason = str(error)
    is_hopeless = "Namespace prefix" in reason or what_else(text) is not None  # mending declares all it may
    balanced = None if is_hopeless else balance(mended)
    if balanced is None:
        return _Strict(None, tuple(repairs), reason)
    again, more = mend(balanced.text)
    repairs = list(dict.fromkeys([*repairs, *balanced.repairs, *more]))
    try:
        return _Strict(_read_mended(again), tuple(repairs), is_cut=balanced.is_cut)
    except _NotWellFormed as error:
        return _Strict(None, tuple(repairs), f"{reason}; {error}"[:200])


def _read_mended(text: str) -> etree._Element:
    if len(text) > 2 * MAX_FEED_BYTES:
        raise _NotWellFormed("mended, it would be much larger than it is")
    return parse_xml(text.encode("utf-8", "replace"))


def _read(
    root: etree._Element,
    url: str,
    *,
    source_format: str = "rss",
    repairs: tuple[str, ...] = (),
    degraded: bool = False,
) -> ParsedFeed:
    """Take an RSS document apart; ``root`` is used up."""
    channel = _child(root, "channel")
    if channel is None:
        raise FeedFormatError("this RSS document has no channel")
    for mark in find_marks(root):  # not ours
        if (parent := mark.getparent()) is not None:
            parent.remove(mark)
    parents = [
        *(child for child in root if _is(child, "channel")),
        root,
    ]  # several: seen where feeds are joined
    elements = [child for parent in parents for child in parent if _is(child, "item")]
    if len(elements) > MAX_ITEMS:
        raise FeedFormatError(f"this feed has more than {MAX_ITEMS} items")
    if len(channel.nsmap) > MAX_NAMESPACES:
        raise FeedFormatError(f"this feed declares more than {MAX_NAMESPACES} namespaces")
    items: list[Item] = []
    refused: list[RefusedItem] = []
    size = 0
    for element in elements:
        item = _read_item(element, url)
        if isinstance(item, RefusedItem):
            refused.append(item)
            continue
        items.append(item)
        size += len(item.xml)
        if size > MAX_ITEMS_BYTES:
            raise FeedFormatError(f"the items of this feed are larger than {MAX_ITEMS_BYTES // MB} MB")
    _cut_out(channel, elements)
    return ParsedFeed(
        _read_channel(root, channel, url),
        tuple(items),
        base_url=url,
        source_format=source_format,
        repairs=repairs,
        degraded=degraded,
        refused=tuple(refused),
    )


def _cut_out(channel: etree._Element, elements: Sequence[etree._Element]) -> None:
    """Take the items out, leaving a mark in the place of the first."""
    mark = etree.ProcessingInstruction(ITEMS_MARK)
    first = next((one for one in elements if one.getparent() is channel), None)
    gone = [node for element in elements for node in (*_notes_before(element), element)]
    if first is None:
        channel.append(mark)
    else:
        mark.tail = first.tail if not (first.tail or "").strip() else "\n"
        first.addprevious(mark)
    for node in gone:
        if (parent := node.getparent()) is not None:
            parent.remove(node)


def _notes_before(item: etree._Element) -> list[etree._Element]:
    """The comments and instructions between the item before and this one: they belong to it."""
    before = item.itersiblings(preceding=True)
    nodes = list(takewhile(lambda node: not isinstance(node.tag, str), before))
    previous = next(item.itersiblings("{*}*", preceding=True), None)
    return nodes[::-1] if previous is not None and _is(previous, "item") else []


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
        guid = enclosure or _text(first, "link")[:MAX_GUID_LENGTH] or f"urn:p2prss:item:{digest}"
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
        if _is(child, "atom:link") and child.get("href", "").strip()
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
        locked=_text(first, "podcast:locked").lower() in ("yes", "true"),
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
    if plain_name(element.tag) == "podcast:source" and (parent := element.getparent()) is not None:
        length, mime_type = parent.get("length", ""), mime_type or parent.get("type", "")
    length = length.strip()
    size = int(length) if length.isascii() and length.isdigit() and len(length) <= 15 else 0
    return Enclosure(place.role, address, size or None, mime_type.strip()[:200] or None)


def _channel_digest(root: etree._Element) -> str:
    """A digest that stays the same when only the dates of building moved."""
    root = copy.deepcopy(root)
    channel = _child(root, "channel")
    if channel is not None:
        for child in list(channel):
            if isinstance(child.tag, str) and plain_name(child.tag) in _BUILD_DATES:
                channel.remove(child)
    return _digest(root)


def _digest(element: etree._Element) -> str:
    """32 hex digits over the canonical form: quotes, attribute order and unused prefixes do not count."""
    try:
        data = etree.tostring(element, method="c14n", exclusive=True, with_comments=True, with_tail=False)
    except etree.C14NError:  # it has no canonical form: a relative namespace address
        data = etree.tostring(element, encoding="utf-8", with_tail=False)
    return blake2b(data, digest_size=16).hexdigest()


def _is(element: etree._Element, name: str) -> bool:
    return isinstance(element.tag, str) and plain_name(element.tag) == name


def _child(parent: etree._Element, name: str) -> etree._Element | None:
    return next((child for child in parent if _is(child, name)), None)


def _first_children(element: etree._Element) -> dict[str, etree._Element]:
    first: dict[str, etree._Element] = {}
    for child in element:
        if isinstance(child.tag, str):
            first.setdefault(plain_name(child.tag), child)
    return first


def _text(first: dict[str, etree._Element], name: str) -> str:
    element = first.get(name)
    return " ".join(text_of(element).split()) if element is not None else ""
