"""The list of feeds for apps that import one: OPML 2.0 with our own URLs; pure.

Source: the OPML 2.0 specification, "Subscription lists": type, text and xmlUrl, htmlUrl where known.
"""

from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from p2prss.serve.library import ServedFeed
from p2prss.serve.urls import feed_path
from p2prss.serve.xml_text import as_xml_text

TITLE: Final = "Podcasts of this p2prss"


def render_opml(feeds: Sequence[ServedFeed], base_url: str) -> bytes:
    """An outline for each feed, in their order; the same bytes for the same feeds."""
    root = ElementTree.Element("opml", version="2.0")
    ElementTree.SubElement(ElementTree.SubElement(root, "head"), "title").text = TITLE
    body = ElementTree.SubElement(root, "body")
    for feed in feeds:
        title = as_xml_text(feed.title)
        url = f"{base_url}{feed_path(feed.key)}feed.xml"
        ElementTree.SubElement(body, "outline", type="rss", text=title, title=title, xmlUrl=url)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True))
