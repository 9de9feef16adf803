"""Bytes from an origin -> ``ParsedFeed``, losing nothing of a well-formed RSS feed.

The way is: find the charset (``repair.read_text``) and read strictly. Only if that fails, mend
(``repair.mend``), then make the tags fit (``balance``), and read strictly again after each; the lenient
reader (``lenient``) is the last resort. No document type is followed, no entity expanded, nothing fetched.
"""

import re
from dataclasses import dataclass
from typing import Final

from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.atom import from_atom
from p2prss.feed.document.balance import balance
from p2prss.feed.document.json_feed import from_json
from p2prss.feed.document.lenient import from_lenient
from p2prss.feed.document.names import child_named, kept_base, name_of
from p2prss.feed.document.rdf import from_rdf
from p2prss.feed.document.repair import MAX_FEED_BYTES, mend, read_text, what_else
from p2prss.feed.document.rss_parts import MAX_ITEMS, take_apart
from p2prss.feed.model import ParsedFeed
from p2prss.units import MB

MAX_LENIENT_BYTES: Final = 4 * MB  # given to the lenient reader, which takes a second for each
MAX_ATTRIBUTES: Final = 200  # of one element
MAX_CHILDREN: Final = 10_000  # of one element, items aside: moving them takes the square of their number
MAX_MARKUP: Final = 2_000_000  # tags and attributes; an ordinary feed of 10 MB has a tenth
MAX_DEPTH: Final = 100  # elements inside of each other; show notes in XHTML reach 20

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
        return take_apart(from_json(text, max_items=MAX_ITEMS), url, source_format="json")
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
        return take_apart(rebuilt, url, repairs=repairs, degraded=True)
    kind = name_of(root)
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
    feed = take_apart(framed, url, source_format=source_format, repairs=repairs, degraded=found.is_cut)
    if source_format != "rss" and not feed.items and not feed.channel.title:
        raise FeedFormatError("this feed has neither a title nor an item")
    return feed


def _framed(root: etree._Element) -> tuple[etree._Element | None, tuple[str, ...]]:
    """The document with a channel that can be found as such; None where there is nothing to put in one.

    Some write a default namespace at ``<rss>`` that is another's, or all tags in capital letters.
    """
    if child_named(root, "channel") is not None:
        return root, ()
    repairs = []
    space = etree.QName(root).namespace or ""
    for one in root.iter(etree.Element):
        name = etree.QName(one)
        if (name.namespace or "") == space and (right := _VOCABULARY.get(name.localname.lower())):
            one.tag = right
    if space or child_named(root, "channel") is not None:
        repairs.append("RSS tags spelled as RSS spells them")
        root = _under(
            etree.Element(
                root.tag, {str(name): str(value) for name, value in root.attrib.items()}, _others(root)
            ),
            root,
        )
    if child_named(root, "channel") is None:
        if not any(name_of(child) in ("item", "title") for child in root):
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
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        strip_cdata=False,
        collect_ids=False,  # two equal ``xml:id`` are no error of syntax
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
    if errors := parser.error_log.filter_from_errors():  # lxml takes those that a warning follows
        raise _NotWellFormed(" ".join(errors[0].message.split())[:200])
    if _TOO_MUCH(root):  # one question, since items are many
        if _TOO_DEEP(root):
            raise FeedFormatError(_TOO_DEEP_TEXT)
        if _TOO_MANY_ATTRIBUTES(root):
            raise FeedFormatError(f"an element of this feed has more than {MAX_ATTRIBUTES} attributes")
        raise FeedFormatError(f"an element of this feed has more than {MAX_CHILDREN} others in it")
    if root.getroottree().docinfo.internalDTD is not None:
        raise FeedFormatError("a document type is not allowed")
    return root


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
    is_hopeless = "Namespace prefix" in reason or what_else(mended) is not None  # mending declares all it may
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
