"""Feeds that are no RSS, or broken beyond mending, rewritten as RSS.

Atom, RSS 1.0 (RDF) and whatever the strict reader refuses go through feedparser, JSON Feed through
its own table. What neither knows is lost; ``ParsedFeed`` says that it was converted or degraded.
"""

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, Final

import msgspec
from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.names import ATOM, CONTENT, ITUNES

_NAMESPACES: Final = {"itunes": ITUNES, "content": CONTENT}

Fields = Mapping[str, str | None]


class JsonAttachment(msgspec.Struct):
    """A file of a JSON Feed item. Source: jsonfeed.org/version/1.1, "Attachments"."""

    url: str
    mime_type: str = ""
    size_in_bytes: float | None = None


class JsonAuthor(msgspec.Struct):
    """Who wrote a JSON Feed or one of its items."""

    name: str | None = None


class JsonItem(msgspec.Struct):
    """An item of a JSON Feed; ``id`` should be a text but numbers are common."""

    id: str | int | float | None = None
    url: str | None = None
    title: str | None = None
    summary: str | None = None
    content_html: str | None = None
    content_text: str | None = None
    image: str | None = None
    date_published: str | None = None
    attachments: list[JsonAttachment] = []


class JsonFeed(msgspec.Struct):
    """A JSON Feed. Source: jsonfeed.org/version/1.1."""

    version: str
    title: str | None = None
    home_page_url: str | None = None
    description: str | None = None
    icon: str | None = None
    language: str | None = None
    author: JsonAuthor | None = None
    next_url: str | None = None
    items: list[JsonItem] = []


def from_json(text: str) -> etree._Element:
    """JSON Feed -> RSS document.

    Raises: FeedFormatError when it is other JSON.
    """
    try:
        feed = msgspec.json.decode(text.encode("utf-8", "replace"), type=JsonFeed)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise FeedFormatError(f"this is no feed: it is JSON, but no JSON Feed ({str(error)[:100]})") from None
    if "jsonfeed.org" not in feed.version:
        raise FeedFormatError("this is no feed: it is JSON, but no JSON Feed")
    channel = _new_channel(
        {
            "title": feed.title,
            "link": feed.home_page_url,
            "description": feed.description,
            "language": feed.language,
            "itunes:author": feed.author.name if feed.author else None,
        },
        feed.icon,
    )
    _add_page_links(channel, {"next": feed.next_url})
    for item in feed.items:
        fields: Fields = {
            "title": item.title,
            "link": item.url,
            "guid": str(item.id) if item.id is not None else None,
            "pubDate": item.date_published,
            "description": item.summary or item.content_text,
            "content:encoded": item.content_html,
        }
        files = [(one.url, one.mime_type, str(int(one.size_in_bytes or 0))) for one in item.attachments]
        _add_item(channel, fields, item.image, files)
    return _root_of(channel)


def from_lenient(text: str) -> etree._Element | None:
    """Whatever feedparser makes of it -> RSS document; None when that is nothing."""
    import feedparser  # here, as it is slow to import and rarely needed

    try:
        found: Any = feedparser.parse(
            BytesIO(text.encode("utf-8", "replace")),
            sanitize_html=False,
            resolve_relative_uris=False,
            response_headers={"content-type": "application/xml; charset=utf-8"},
        )
    except Exception:  # noqa: BLE001 - a lenient reader of broken text fails in ways nobody can list
        return None
    feed = found.feed
    if not found.entries and not feed.get("title"):
        return None
    channel = _new_channel(
        {
            "title": feed.get("title"),
            "link": feed.get("link"),
            "description": feed.get("subtitle"),
            "language": feed.get("language"),
            "itunes:author": feed.get("author"),
        },
        _href(feed.get("image")),
    )
    links = [one for one in feed.get("links", []) if isinstance(one, Mapping)]
    _add_page_links(channel, {rel: _link_of(links, rel) for rel in ("next", "prev-archive", "last")})
    for entry in found.entries:
        fields: Fields = {
            "title": entry.get("title"),
            "link": entry.get("link"),
            "guid": entry.get("id"),
            "pubDate": entry.get("published") or entry.get("updated"),
            "description": entry.get("summary"),
            "content:encoded": next((one.get("value") for one in entry.get("content", [])), None),
            "itunes:duration": entry.get("itunes_duration"),
        }
        files = [
            (one.get("href", ""), one.get("type", ""), str(one.get("length", "")))
            for one in entry.get("enclosures", [])
        ]
        _add_item(channel, fields, _href(entry.get("image")), files)
    return _root_of(channel)


def _href(image: Any) -> str | None:
    return image.get("href") if isinstance(image, Mapping) else None


def _new_channel(fields: Fields, image: str | None) -> etree._Element:
    root = etree.Element("rss", {"version": "2.0"}, nsmap=_NAMESPACES)
    channel = etree.SubElement(root, "channel")
    _add_fields(channel, fields, image)
    return channel


def _link_of(links: Iterable[Mapping[str, Any]], rel: str) -> str | None:
    return next((one.get("href") for one in links if one.get("rel") == rel), None)


def _add_page_links(channel: etree._Element, links: Fields) -> None:
    """RFC 5005: where the feed goes on."""
    for rel, url in links.items():
        if url:
            etree.SubElement(channel, f"{{{ATOM}}}link", {"rel": rel, "href": _legal(url)})


def _root_of(channel: etree._Element) -> etree._Element:
    return channel.getroottree().getroot()


def _add_item(
    channel: etree._Element, fields: Fields, image: str | None, files: Iterable[tuple[str, str, str]]
) -> None:
    item = etree.SubElement(channel, "item")
    _add_fields(item, fields, image)
    for url, mime_type, length in files:
        if url:
            made = {"url": url, "type": mime_type, "length": length}
            etree.SubElement(
                item, "enclosure", {name: _legal(value) for name, value in made.items() if value}
            )


def _add_fields(parent: etree._Element, fields: Fields, image: str | None) -> None:
    for name, value in fields.items():
        if value:
            prefix, _, local = name.rpartition(":")
            tag = f"{{{_NAMESPACES[prefix]}}}{local}" if prefix else local
            element = etree.SubElement(parent, tag, {"isPermaLink": "false"} if name == "guid" else {})
            element.text = _legal(value)
    if image:
        etree.SubElement(parent, f"{{{ITUNES}}}image", {"href": _legal(image)})


def _legal(text: Any) -> str:
    """Text without the characters that XML cannot hold."""
    return "".join(
        letter
        for letter in str(text)
        if letter in "\t\n\r"
        or " " <= letter < "\ud800"
        or "\ue000" <= letter < "\ufffe"
        or letter > "\uffff"
    )
