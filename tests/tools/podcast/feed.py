"""The RSS document of a made podcast."""

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from tests.tools.podcast.spec import Spec, built_at, published_at
from tests.tools.podcast.words import paragraph

PODCAST_NAMESPACE = uuid.UUID("ead4c236-bf58-58c6-a2c6-a6b28d128cb6")
NAMESPACES = {
    "atom": "http://www.w3.org/2005/Atom",
    "content": "http://purl.org/rss/1.0/modules/content/",
    "itunes": "http://www.itunes.com/dtds/podcast-1.0.dtd",
    "podcast": "https://podcastindex.org/namespace/1.0",
}


@dataclass(frozen=True)
class Episode:
    """An episode as it was written."""

    number: int
    guid: str
    title: str
    path: str
    type: str
    bytes: int
    sha256: str
    seconds: float
    published: str
    chapters: str
    transcript: str
    image: str
    recipe: str


def clock(seconds: int) -> str:
    """HH:MM:SS."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def element(name: str, text: str | None = None, **attributes: str) -> str:
    """An XML element; `_` in attribute names stands for nothing but keeps Python's words free."""
    parts = "".join(f" {key.strip('_')}={quoteattr(value)}" for key, value in attributes.items())
    return f"<{name}{parts}/>" if text is None else f"<{name}{parts}>{escape(text)}</{name}>"


def feed_text(spec: Spec, episodes: Sequence[Episode]) -> str:
    """The RSS 2.0 document, newest episode first."""
    base = "" if spec.relative else f"{spec.base_url}/"
    names = "".join(f" xmlns:{prefix}={quoteattr(uri)}" for prefix, uri in NAMESPACES.items())
    root = f" xml:base={quoteattr(spec.base_url + '/')}" if spec.relative else ""
    about = "Stories about things found in drawers. " + paragraph(f"{spec.seed}/about", 3)
    feed_url = f"{spec.base_url}/feed.xml"
    out = [
        f'<?xml version="1.0" encoding="{spec.encoding}"?>',
        f'<rss version="2.0"{names}{root}>',
        "<channel>",
        element("title", spec.title),
        element("link", f"{spec.base_url}/"),
        element("atom:link", href=feed_url, rel="self", type="application/rss+xml"),
        element("description", about),
        element("language", "en-GB"),
        element("copyright", "CC0 1.0"),
        element("lastBuildDate", format_datetime(built_at(spec))),
        element("generator", "make_podcast"),
        element("ttl", "60"),
    ]
    if "cover" not in spec.omit:
        parts = (("url", f"{spec.base_url}/cover.png"), ("title", spec.title), ("link", f"{spec.base_url}/"))
        out.append("<image>" + "".join(itertools.starmap(element, parts)) + "</image>")
    if "itunes" not in spec.omit:
        out += [
            element("itunes:author", "Ada Example & Ben Beispiel"),
            element("itunes:summary", about),
            element("itunes:type", "episodic"),
            element("itunes:explicit", "false"),
            "<itunes:owner>"
            + element("itunes:name", "Ada Example")
            + element("itunes:email", "ada@podcast.example")
            + "</itunes:owner>",
            '<itunes:category text="Society &amp; Culture">'
            + element("itunes:category", text_="Documentary")
            + "</itunes:category>",
        ]
        if "cover" not in spec.omit:
            out.append(element("itunes:image", href=f"{base}cover.png"))
    if "podcast" not in spec.omit:
        out += [
            element("podcast:guid", str(uuid.uuid5(PODCAST_NAMESPACE, feed_url.partition("//")[2]))),
            element("podcast:locked", "no", owner="ada@podcast.example"),
            element("podcast:medium", "podcast"),
            element("podcast:funding", "Keep the lamp lit", url=f"{spec.base_url}/support"),
            element("podcast:person", "Ada Example", role="host", img=f"{base}cover.png"),
        ]
    for episode in reversed(episodes):
        out += _item(spec, episode, base)
    out += ["</channel>", "</rss>", ""]
    return "\n".join(out)


def _item(spec: Spec, episode: Episode, base: str) -> list[str]:
    notes = paragraph(f"{spec.seed}/notes/{episode.number}", 4)
    link = f"{spec.base_url}/episodes/{episode.number}"
    html = f'<p>{notes}</p><p>More at <a href="{link}?a=1&amp;b=2">the page</a>. Tom &amp; Jerry ]]&gt;</p>'
    hops = "".join(f"track/{hop}/" for hop in range(1, spec.trackers + 1))
    enclosure = {"url": base + hops + quote(episode.path)}
    length = {"right": episode.bytes, "wrong": episode.bytes + 12_345, "zero": 0, "missing": None}[
        spec.lengths
    ]
    if length is not None and "length" not in spec.omit:
        enclosure["length"] = str(length)
    if "type" not in spec.omit:
        enclosure["type"] = episode.type
    out = ["<item>", element("title", episode.title), element("link", link)]
    if "guid" not in spec.omit:
        out.append(element("guid", episode.guid, isPermaLink="false"))
    if "pubdate" not in spec.omit:
        out.append(element("pubDate", format_datetime(published_at(spec, episode.number))))
    if "description" not in spec.omit:
        out.append(element("description", html))
        out.append(f"<content:encoded><![CDATA[{html}]]></content:encoded>")
    out.append(element("enclosure", **enclosure))
    if "itunes" not in spec.omit:
        out += [
            element("itunes:title", episode.title),
            element("itunes:duration", clock(round(episode.seconds))),
            element("itunes:episode", str(episode.number)),
            element("itunes:season", str(1 + (episode.number - 1) // 10)),
            element("itunes:episodeType", "trailer" if episode.number == 1 else "full"),
            element("itunes:explicit", "false"),
            element("itunes:image", href=base + episode.image),
        ]
    if "podcast" not in spec.omit:
        out += [
            element("podcast:episode", str(episode.number)),
            element("podcast:chapters", url=base + episode.chapters, type="application/json+chapters"),
            element("podcast:transcript", url=base + episode.transcript, type="text/vtt", language="en"),
            element("podcast:person", "Ben Beispiel", role="guest"),
        ]
    return [*out, "</item>"]
