"""Building an RSS document: what feeds of other kinds are rewritten as."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

from lxml import etree

from p2prss.feed.document.names import ATOM, CONTENT, DC, ITUNES, MEDIA, PODCAST

_NAMESPACES: Final = {
    "atom": ATOM,
    "content": CONTENT,
    "dc": DC,
    "itunes": ITUNES,
    "media": MEDIA,
    "podcast": PODCAST,
}


def new_channel(namespaces: Mapping[str, str] | None = None) -> etree._Element:
    """The ``<channel>`` of a new document, with the usual prefixes and those of ``namespaces``."""
    known = set(_NAMESPACES.values())
    others = {
        prefix: uri
        for prefix, uri in (namespaces or {}).items()
        if prefix and prefix not in _NAMESPACES and uri not in known
    }
    root = etree.Element("rss", {"version": "2.0"}, nsmap=_NAMESPACES | others)
    return etree.SubElement(root, "channel")


def finish(channel: etree._Element) -> etree._Element:
    """The document's root, without declarations that nothing uses."""
    root = channel.getroottree().getroot()
    for parent in (root, channel, *channel.iterchildren("item")):
        parent.text = parent.text or "\n"
        for child in parent:
            child.tail = child.tail or "\n"
    etree.cleanup_namespaces(root)
    return root


def add(parent: etree._Element, name: str, text: object = "", /, **attributes: str) -> etree._Element | None:
    """Append an element by its plain name (``itunes:author``); None where it would say nothing."""
    words = legal(text) if text is not None else ""
    given = {key.replace("_", ":"): legal(value) for key, value in attributes.items() if value}
    if not words.strip() and not given:
        return None
    element = etree.SubElement(parent, _tag(name), {_tag(key): value for key, value in given.items()})
    element.text = words or None
    return element


def add_enclosure(
    item: etree._Element, url: str, mime_type: str = "", length: str = "", **others: str
) -> etree._Element | None:
    """Append an enclosure, unless its address is empty."""
    return add(item, "enclosure", url=url.strip(), type=mime_type, length=length, **others) if url else None


def add_image(
    channel: etree._Element, url: str, title: str = "", link: str = "", *, is_cover: bool = True
) -> None:
    """Append the picture of a channel as RSS wants it, and as the cover that podcast apps show."""
    if url:
        image = etree.SubElement(channel, "image")
        add(image, "url", url)
        add(image, "title", title)
        add(image, "link", link)
        if is_cover:
            add(channel, "itunes:image", href=url)


def keep(parent: etree._Element, nodes: Iterable[etree._Element]) -> None:
    """Append copies of elements, comments and instructions as they are."""
    for node in nodes:
        copy = deepcopy(node)
        copy.tail = None
        parent.append(copy)


def legal(text: Any) -> str:
    """Text without the characters that XML cannot hold."""
    return "".join(
        letter
        for letter in str(text)
        if letter in "\t\n\r"
        or " " <= letter < "\ud800"
        or "\ue000" <= letter < "\ufffe"
        or letter > "\uffff"
    )


def _tag(name: str) -> str:
    prefix, colon, local = name.rpartition(":")
    return f"{{{_NAMESPACES[prefix]}}}{local}" if colon else name
