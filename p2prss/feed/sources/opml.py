"""OPML: the lists of feeds that podcast apps and feed readers import and export."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.repair import mend, read_text
from p2prss.feed.model import MAX_URL_LENGTH
from p2prss.feed.sources.tags import clean
from p2prss.units import KIB, MB

MAX_OPML_BYTES: Final = 10 * MB
MAX_OPML_FEEDS: Final = 5_000  # listed in one file
MAX_OPML_DEPTH: Final = 100  # elements inside of each other
MAX_OPML_TITLE: Final = 300  # characters
HEAD_BYTES: Final = 4 * KIB  # enough to tell an OPML file from a feed

_ROOT: Final = re.compile(rb"^[^<]*(?:<[?!][^<]*)*<opml[\s>]", re.IGNORECASE)
_APP_SCHEME: Final = re.compile(r"^(?:feed|itpc|pcast|podcast):(?://)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One feed of a list; ``url`` is as it was written, but for schemes that only say "subscribe"."""

    title: str
    url: str


def is_opml(head: bytes) -> bool:
    """Whether a file that begins so is a list of feeds."""
    return _ROOT.match(head[:HEAD_BYTES].replace(b"\0", b"")) is not None


def parse_opml(data: bytes) -> list[Subscription]:
    """The feeds of a list, however its outlines are nested; each address once, in the order of the file.

    Raises: FeedFormatError, in one line, for what is no OPML or beyond the limits.
    """
    if len(data) > MAX_OPML_BYTES:
        raise FeedFormatError(f"the list has more than {MAX_OPML_BYTES} bytes")
    root = _read(data)
    if _name(root) != "opml":
        raise FeedFormatError(f"this is no OPML: its first element is <{_name(root)[:80]}>")
    found: dict[str, Subscription] = {}
    for element in root.iter(etree.Element):
        if _name(element) != "outline":
            continue
        attributes = {str(name).lower(): str(value) for name, value in element.attrib.items()}
        url = _address(attributes.get("xmlurl", "").strip())
        if not url or len(url) > MAX_URL_LENGTH:
            continue
        title = " ".join(clean(attributes.get("title") or attributes.get("text") or "").split())
        found.setdefault(url.partition("#")[0], Subscription(title[:MAX_OPML_TITLE], url))
        if len(found) > MAX_OPML_FEEDS:
            raise FeedFormatError(f"the list has more than {MAX_OPML_FEEDS} feeds")
    return list(found.values())


def _address(text: str) -> str:
    """The address without a scheme that only says what to do with it: ``feed://host/x``, ``pcast:https://…``."""
    match = _APP_SCHEME.match(text)
    rest = text[match.end() :] if match else text
    return rest if match is None or re.match("https?://", rest) else f"http://{rest}"


def _read(data: bytes) -> etree._Element:
    text = read_text(data)
    try:
        root = _strictly(text)
    except (etree.XMLSyntaxError, ValueError):
        try:
            root = _strictly(mend(text)[0])
        except (etree.XMLSyntaxError, ValueError) as error:
            reason = " ".join(str(error).split())[:150]
            raise FeedFormatError(f"the OPML cannot be read: {reason}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise FeedFormatError("the OPML has a document type, which is not allowed")
    return root


def _strictly(text: str) -> etree._Element:
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False)
    root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    if root.xpath(f"boolean({'/*' * (MAX_OPML_DEPTH + 1)})"):
        raise FeedFormatError(f"the OPML has more than {MAX_OPML_DEPTH} elements inside of each other")
    return root


def _name(element: etree._Element) -> str:
    return etree.QName(element).localname.lower()


def render_opml(title: str, feeds: Iterable[Subscription]) -> bytes:
    """A list that apps import; the same feeds always give the same bytes."""
    root = etree.Element("opml", version="2.0")
    etree.SubElement(etree.SubElement(root, "head"), "title").text = clean(title)
    body = etree.SubElement(root, "body")
    for feed in feeds:
        name = clean(feed.title) or feed.url
        etree.SubElement(body, "outline", type="rss", text=name, title=name, xmlUrl=feed.url)
    return etree.tostring(root, encoding="utf-8", xml_declaration=True, pretty_print=True)


def local_feed_key(url: str) -> str | None:
    """The key in the address of a feed as a node serves it: ``http://HOST/feeds/KEY/feed.xml``.

    Another home's node may have another address; the key is what counts. None for other addresses.
    """
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    match = _LOCAL.search(path)
    return match[1] if match else None


_LOCAL: Final = re.compile(r"/feeds/([a-z0-9]{52}|[0-9a-f]{64})/feed\.xml\Z")
