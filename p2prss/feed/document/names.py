"""Names in feeds: namespaces with their usual prefixes, and which elements name a file.

Real feeds spell namespace addresses in several ways and cases, and prefixes are the feed's own
choice. Everything here is looked up by a *plain name*: ``itunes:image`` whatever the feed calls it,
``enclosure`` for the elements of RSS itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urljoin

from lxml import etree

from p2prss.feed.model import MAX_URL_LENGTH, Role

ATOM: Final = "http://www.w3.org/2005/Atom"
ITUNES: Final = "http://www.itunes.com/dtds/podcast-1.0.dtd"
CONTENT: Final = "http://purl.org/rss/1.0/modules/content/"
PODCAST: Final = "https://podcastindex.org/namespace/1.0"
MEDIA: Final = "http://search.yahoo.com/mrss/"
DC: Final = "http://purl.org/dc/elements/1.1/"
XML: Final = "http://www.w3.org/XML/1998/namespace"

NAMESPACES: Final[dict[str, str]] = {
    "atom": ATOM,
    "atom03": "http://purl.org/atom/ns#",
    "content": CONTENT,
    "creativeCommons": "http://backend.userland.com/creativeCommonsRssModule",
    "dc": DC,
    "dcterms": "http://purl.org/dc/terms/",
    "enc": "http://purl.oclc.org/net/rss_2.0/enc#",
    "feedburner": "http://rssnamespace.org/feedburner/ext/1.0",
    "geo": "http://www.w3.org/2003/01/geo/wgs84_pos#",
    "georss": "http://www.georss.org/georss",
    "googleplay": "http://www.google.com/schemas/play-podcasts/1.0",
    "itunes": ITUNES,
    "media": MEDIA,
    "podcast": PODCAST,
    "psc": "http://podlove.org/simple-chapters",
    "rawvoice": "http://www.rawvoice.com/rawvoiceRssModule/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "slash": "http://purl.org/rss/1.0/modules/slash/",
    "spotify": "http://www.spotify.com/ns/rss",
    "sy": "http://purl.org/rss/1.0/modules/syndication/",
    "thr": "http://purl.org/syndication/thread/1.0",
    "wfw": "http://wellformedweb.org/CommentAPI/",
    "xhtml": "http://www.w3.org/1999/xhtml",
}
"""The usual prefixes; they also mend feeds that use a prefix without declaring it."""

_OTHER_SPELLINGS: Final[dict[str, str]] = {
    "github.com/podcastindex-org/podcast-namespace/blob/main/docs/1.0.md": "podcast",
    "podcastindex.org/namespace/1.0.md": "podcast",
    "www.w3.org/2005/atom10": "atom",
    "purl.org/dc/elements/1.0": "dc",
    "podlove.org/simple-chapters/1.0": "psc",
    "search.yahoo.com/mrss/ns": "media",
    "blip.tv/dtd/mediarss": "media",
}


def _namespace_key(uri: str) -> str:
    """A namespace without what feeds get wrong about it: case, http or https, what stands at its end."""
    return re.sub(r"^https?://|[/#]+$", "", uri.strip().lower())


_PREFIXES: Final[dict[str, str]] = {
    _namespace_key(uri): prefix for prefix, uri in NAMESPACES.items()
} | _OTHER_SPELLINGS
_PLAIN_RSS: Final = frozenset(
    {
        "backend.userland.com/rss",
        "backend.userland.com/rss2",
        "backend.userland.com/rss091",
        "backend.userland.com/rss092",
        "blogs.law.harvard.edu/tech/rss",
        "cyber.law.harvard.edu/rss",
        "cyber.law.harvard.edu/rss/rss.html",
        "www.rssboard.org/rss-specification",
        "channel.netscape.com/rdf/simple/0.9",
        "my.netscape.com/rdf/simple/0.9",
        "my.netscape.com/publish/formats/rss-0.91.dtd",
        "purl.org/rss/1.0",
    }
)


def is_rss_namespace(uri: str) -> bool:
    """Whether a namespace is that of RSS itself, of any version; no namespace is not."""
    return _namespace_key(uri) in _PLAIN_RSS


XML_BASE: Final = f"{{{XML}}}base"
BLOCK_ID: Final = "p2prss"  # by which ``podcast:block`` means us alone


@lru_cache(maxsize=4096)
def plain_name(tag: str) -> str:
    """``{http://www.itunes.com/DTDs/Podcast-1.0.dtd}image`` -> ``itunes:image``; unknown ones stay."""
    if not tag.startswith("{"):
        return tag
    uri, _, local = tag[1:].rpartition("}")
    key = _namespace_key(uri)
    prefix = _PREFIXES.get(key)
    if prefix is not None:
        return f"{prefix}:{local}"
    return local if key in _PLAIN_RSS else tag


def name_of(node: etree._Element) -> str:
    """The plain name of an element; empty for a comment or an instruction."""
    return plain_name(node.tag) if isinstance(node.tag, str) else ""


def child_named(parent: etree._Element, name: str) -> etree._Element | None:
    """The first child with this plain name."""
    return next((child for child in parent if name_of(child) == name), None)


_STRING: Final = etree.XPath("string()")


def text_of(element: etree._Element) -> str:
    """All text in an element, verbatim, without that of comments; a comment or an instruction has none."""
    return str(_STRING(element)) if isinstance(element.tag, str) else ""


@dataclass(frozen=True, slots=True)
class Place:
    """An attribute (or, with ``url`` empty, the text) of an element that holds the address of a file."""

    role: Role
    url: str
    length: str = ""
    type: str = ""


PLACES: Final[dict[str, Place]] = {
    "enclosure": Place(Role.ENCLOSURE, "url", "length", "type"),
    "media:content": Place(Role.ENCLOSURE, "url", "fileSize", "type"),
    "media:thumbnail": Place(Role.IMAGE, "url"),
    "podcast:source": Place(Role.ALTERNATE, "uri", type="contentType"),
    "podcast:transcript": Place(Role.TRANSCRIPT, "url", type="type"),
    "podcast:chapters": Place(Role.CHAPTERS, "url", type="type"),
    "podcast:image": Place(Role.IMAGE, "href", type="type"),
    "itunes:image": Place(Role.IMAGE, "href"),
    "googleplay:image": Place(Role.IMAGE, "href"),
    "psc:chapter": Place(Role.IMAGE, "image"),
    "image/url": Place(Role.IMAGE, ""),
}
"""Element -> where its file's address stands. Reading and rewriting both go by this table."""

_LOCAL_NAMES: Final = tuple({f"{{*}}{name.rpartition(':')[2].rpartition('/')[2]}" for name in PLACES})
_NOT_OURS: Final = frozenset({"podcast:liveItem", "podcast:podroll", "podcast:value"})


def places_in(root: etree._Element) -> Iterator[tuple[etree._Element, Place]]:
    """The elements below ``root`` that name a file, in document order; live items are left alone."""
    for element in root.iter(*_LOCAL_NAMES):
        name = plain_name(element.tag)
        if name == "url" and (parent := element.getparent()) is not None:
            name = f"{plain_name(parent.tag)}/url"
        place = PLACES.get(name)
        if place is None or not is_ours(element):
            continue
        yield element, _PICTURE if name == "media:content" and _is_picture(element) else place


LINKS: Final[dict[str, tuple[str, ...]]] = {
    "link": ("",),
    "comments": ("",),
    "source": ("url",),
    "atom:link": ("href",),
    "atom:uri": ("",),
    "media:player": ("url",),
    "podcast:contentLink": ("href",),
    "podcast:funding": ("url",),
    "podcast:license": ("url",),
    "podcast:person": ("href", "img"),
    "podcast:socialInteract": ("uri",),
    "podcast:trailer": ("url",),
    "psc:chapter": ("href",),
    "wfw:comment": ("",),
    "wfw:commentRss": ("",),
}
"""Element -> attributes (or, empty, the text) with addresses of what is no file of the feed's own."""

_LINK_NAMES: Final = tuple({f"{{*}}{name.rpartition(':')[2]}" for name in LINKS})
_RELATIVE: Final = re.compile(r"(?![A-Za-z][A-Za-z0-9+.-]*:)[^\s<>]*[/.?#][^\s<>]*")


def relative_links_in(root: etree._Element) -> Iterator[tuple[etree._Element, str, str]]:
    """The links below ``root`` that are relative: element, attribute (empty for its text), what it says."""
    for element in root.iter(*_LINK_NAMES):
        for attribute in LINKS.get(plain_name(element.tag), ()):
            written = (element.get(attribute) if attribute else element.text) or ""
            is_text = not attribute and len(element)
            if _RELATIVE.fullmatch(written.strip()) and not is_text and is_ours(element):
                yield element, attribute, written.strip()


def is_ours(element: etree._Element) -> bool:
    """Whether what an element names belongs to the item itself, not to a live item or another show."""
    return not any(plain_name(one.tag) in _NOT_OURS for one in element.iterancestors())


_PICTURE: Final = Place(Role.IMAGE, "url", "fileSize", "type")


def _is_picture(content: etree._Element) -> bool:
    return content.get("medium") == "image" or content.get("type", "").startswith("image/")


def address_at(element: etree._Element, place: Place) -> str:
    """The address as it is written, without blanks around it; empty when there is none."""
    return ((element.get(place.url) if place.url else element.text) or "").strip()


def base_of(element: etree._Element, base_url: str) -> str:
    """Where the relative addresses of an element start: ``xml:base`` up to the root, then ``base_url``.

    Returns: an address that can be kept, empty where it would be too long.
    """
    bases = [value for one in (element, *element.iterancestors()) if (value := one.get(XML_BASE))]
    for base in reversed(bases):
        base_url = kept_base(resolve(base_url, kept_base(base)))
    return base_url


def base_around(element: etree._Element, base_url: str) -> str:
    """Where an element's own ``xml:base`` starts, or without one its relative addresses."""
    parent = element.getparent()
    return kept_base(base_url) if parent is None else base_of(parent, base_url)


def kept_base(url: str) -> str:
    """A base address of at most ``MAX_URL_LENGTH``: without its query if need be, else empty."""
    if len(url) > MAX_URL_LENGTH:
        url = re.split(r"[?#]", url, maxsplit=1)[0]
    return url if len(url) <= MAX_URL_LENGTH else ""


_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://")


def is_absolute(address: str) -> bool:
    """Whether an address says itself where it is."""
    return _ABSOLUTE.match(address) is not None


def resolve(base_url: str, address: str) -> str:
    """An address made absolute; as it was where that makes no sense (``http://[`` and the like)."""
    if is_absolute(address):
        return address  # urljoin is slow, and drops a mere "?" at the end
    if address.startswith("//") and not base_url:
        return f"https:{address}"
    try:
        return urljoin(base_url, address)
    except ValueError:
        return address
