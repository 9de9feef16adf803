"""JSON Feed 1.0 and 1.1 -> RSS, with none of its members dropped.

A member of the wrong type is passed over, the rest of the feed is read all the same.
Source: jsonfeed.org/version/1 and jsonfeed.org/version/1.1.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.dates import as_rfc2822
from p2prss.feed.document.rss_document import add, add_enclosure, add_image, finish, legal, new_channel

_NOT_JSON_FEED: Final = "this is no feed: it is JSON, but no JSON Feed"
MAX_JSON_NODES: Final = 500_000  # lists and objects; a feed of 5,000 items has 20,000
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_MAX_NUMBER: Final = 10**15


def from_json(text: str, *, max_items: int) -> etree._Element:
    """JSON Feed -> RSS document.

    Raises: FeedFormatError when it is other JSON, or has more items.
    """
    if sum(map(text.count, "[{")) > MAX_JSON_NODES or text.count('"') > 8 * MAX_JSON_NODES:
        raise FeedFormatError(f"this feed has more than {MAX_JSON_NODES:,} JSON objects, or as many texts")
    try:
        feed = _decoded(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise FeedFormatError(f"{_NOT_JSON_FEED} ({str(error)[:100]})") from None
    if not isinstance(feed, dict) or "jsonfeed.org" not in _text(feed, "version"):
        raise FeedFormatError(_NOT_JSON_FEED)
    items = list(_objects(feed, "items"))
    if len(items) > max_items:
        raise FeedFormatError(f"this feed has more than {max_items} items")
    channel = new_channel()
    _write_feed(channel, feed)
    for item in items:
        _write_item(etree.SubElement(channel, "item"), item)
    return finish(channel)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode("utf-8", "replace"))
    except msgspec.MsgspecError:
        if not _SURROGATE.search(text):
            raise
        return json.loads(text)  # takes halves of letters, as of a text cut in the middle of an emoji


def _write_feed(channel: etree._Element, feed: Mapping[str, Any]) -> None:
    title, home = _text(feed, "title"), _text(feed, "home_page_url")
    add(channel, "title", title)
    add(channel, "link", home)
    add(channel, "description", _text(feed, "description"))
    add(channel, "language", _text(feed, "language"))
    _add_authors(channel, feed)
    _link(channel, "self", _text(feed, "feed_url"), "application/feed+json")
    _link(channel, "next", _text(feed, "next_url"), "application/feed+json")
    for hub in _objects(feed, "hubs"):
        _link(channel, "hub", _text(hub, "url"), "", _text(hub, "type"))
    add_image(channel, _text(feed, "icon"), title, home)
    add(channel, "atom:icon", _text(feed, "favicon"))
    if feed.get("expired") is True:
        add(channel, "itunes:complete", "Yes")
    _comment(channel, _text(feed, "user_comment"))


def _write_item(item: etree._Element, source: Mapping[str, Any]) -> None:
    add(item, "title", _text(source, "title"))
    add(item, "link", _text(source, "url"))
    add(item, "guid", _text(source, "id"), isPermaLink="false")
    add(item, "pubDate", as_rfc2822(_text(source, "date_published")))
    add(item, "atom:updated", _text(source, "date_modified"))
    summary, markup, plain = (_text(source, name) for name in ("summary", "content_html", "content_text"))
    escaped = html.escape(plain, quote=False)
    brief = html.escape(summary, quote=False) or escaped
    if not brief and not _text(source, "title"):  # RSS asks for one of the two
        brief, markup = markup, ""
    add(item, "description", brief)
    add(item, "content:encoded", markup or (escaped if summary else ""))
    if markup and summary:
        add(item, "itunes:summary", plain)
    _link(item, "related", _text(source, "external_url"), "")
    add(item, "itunes:image", href=_text(source, "image"))
    add(item, "media:thumbnail", url=_text(source, "banner_image"))
    _add_authors(item, source)
    for tag in source["tags"] if isinstance(source.get("tags"), list) else ():
        add(item, "category", tag if isinstance(tag, str) else "")
    add(item, "dc:language", _text(source, "language"))
    files = [one for one in _objects(source, "attachments") if _text(one, "url")]
    durations = [_number(one, "duration_in_seconds") for one in files]
    add(item, "itunes:duration", next((one for one in durations if one), ""))
    for file, duration in zip(files, durations, strict=True):
        url, mime_type, size = _text(file, "url"), _text(file, "mime_type"), _number(file, "size_in_bytes")
        add_enclosure(item, url, mime_type, size)
        if duration or _text(file, "title"):  # an enclosure has no room for these
            more = add(item, "media:content", url=url, type=mime_type, fileSize=size, duration=duration)
            if more is not None:
                add(more, "media:title", _text(file, "title"))


def _add_authors(parent: etree._Element, source: Mapping[str, Any]) -> None:
    """The ``authors`` of version 1.1, else the ``author`` of version 1."""
    authors = list(_objects(source, "authors"))
    if not authors and isinstance(source.get("author"), dict):
        authors = [source["author"]]
    add(parent, "itunes:author", ", ".join(name for one in authors if (name := _text(one, "name"))))
    for one in authors:
        about = {"href": _text(one, "url"), "img": _text(one, "avatar")}
        name = _text(one, "name") or about["href"]
        if any(about.values()):
            add(parent, "podcast:person", name, group="writing", role="author", **about)


def _link(parent: etree._Element, rel: str, url: str, mime_type: str, title: str = "") -> None:
    if url:
        add(parent, "atom:link", rel=rel, href=url, type=mime_type, title=title)


def _comment(channel: etree._Element, text: str) -> None:
    if text:
        words = legal(text).replace("--", "- -")
        channel.append(etree.Comment(f" {words} "))


def _text(source: Mapping[str, Any], name: str) -> str:
    """A member that is a text; numbers are common where an ``id`` should be one."""
    value = source.get(name)
    if isinstance(value, bool):
        return ""
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""


def _number(source: Mapping[str, Any], name: str) -> str:
    value = source.get(name)
    is_sane = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MAX_NUMBER
    return str(int(value)) if is_sane and value is not None else ""


def _objects(source: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    value = source.get(name)
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else iter(())
