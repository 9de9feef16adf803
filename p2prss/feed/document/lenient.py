"""What is broken beyond mending -> RSS, as far as a lenient reader (feedparser) understands it.

Elements it does not know are lost, which is why it is the last resort and the feed counts as degraded.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from lxml import etree

from p2prss.feed.document.dates import as_rfc2822
from p2prss.feed.document.rss_document import add, add_enclosure, add_image, finish, new_channel


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
    channel = new_channel()
    for name, member in (
        ("title", "title"),
        ("link", "link"),
        ("description", "subtitle"),
        ("language", "language"),
        ("copyright", "rights"),
        ("generator", "generator"),
        ("itunes:author", "author"),
        ("itunes:summary", "summary"),
    ):
        add(channel, name, feed.get(member))
    add(channel, "lastBuildDate", as_rfc2822(str(feed.get("updated") or "")))
    add_image(channel, _href(feed.get("image")), feed.get("title", ""), feed.get("link", ""))
    _add_categories(channel, feed)
    _add_page_links(channel, feed.get("links", []))
    for entry in found.entries:
        _add_item(etree.SubElement(channel, "item"), entry)
    return finish(channel)


def _add_item(item: etree._Element, entry: Any) -> None:
    add(item, "title", entry.get("title"))
    add(item, "link", entry.get("link"))
    add(item, "guid", entry.get("id"), isPermaLink="false")
    add(item, "pubDate", entry.get("published") or entry.get("updated"))
    add(item, "description", entry.get("summary"))
    add(item, "content:encoded", next((one.get("value") for one in entry.get("content", [])), None))
    add(item, "comments", entry.get("comments"))
    add(item, "itunes:author", entry.get("author"))
    for name in ("duration", "episode", "season", "explicit", "episodetype"):
        value = entry.get(f"itunes_{name}")
        value = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
        add(item, "itunes:episodeType" if name == "episodetype" else f"itunes:{name}", value)
    _add_categories(item, entry)
    add(item, "itunes:image", href=_href(entry.get("image")))
    for one in entry.get("enclosures", []):
        add_enclosure(item, one.get("href", ""), one.get("type", ""), str(one.get("length", "")))


def _add_categories(parent: etree._Element, source: Any) -> None:
    for tag in source.get("tags", []):
        add(parent, "category", tag.get("term"), domain=tag.get("scheme") or "")


def _add_page_links(channel: etree._Element, links: Any) -> None:
    """RFC 5005: where the feed goes on."""
    known = [one for one in links if isinstance(one, Mapping)]
    for rel in ("next", "prev-archive", "last"):
        url = next((str(one.get("href")) for one in known if one.get("rel") == rel and one.get("href")), "")
        if url:
            add(channel, "atom:link", rel=rel, href=url)


def _href(image: Any) -> str:
    return (image.get("href") or "") if isinstance(image, Mapping) else ""
