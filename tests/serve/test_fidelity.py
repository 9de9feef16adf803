"""What a follower serves is what the publisher wrote, but for a list of differences that stands here.

Each real feed goes the whole way: fetched from an origin, archived in a drive, rendered by the server.
The comparison knows nothing of how the program reads and writes: both documents are taken apart by a
plain XML parser into a list of all they say, and the list of the origin is changed by the rules.
"""

import gzip
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import feedparser
import pytest
import trio
from lxml import etree

from p2prss.crypto.keys import CoreKey
from p2prss.feed.archive.archive import FeedArchive
from p2prss.feed.archive.records import CapturePolicy
from p2prss.serve.listings import OneShow
from p2prss.serve.rss import FeedAnswers
from p2prss.serve.windows import Window
from tests.fakes.quiet_origin import QuietOrigin as Origin
from tests.fakes.studio import Studio
from tests.tools.podcast.show import make_podcast
from tests.tools.podcast.spec import Spec

FEEDS = Path(__file__).parents[1] / "feeds"
BASE = "http://127.0.0.1:7737"
NOT_WELL_FORMED = {
    "ampersands-iso-8859-1.xml",
    "incomplete-cdata.xml",
    "leading-newline-131-episodes.rss",
    "no-agenda.xml",
    "single-quoted.xml",
    "undeclared-namespace.xml",
}
REWRITTEN = {"atom-enclosures.atom", "craigslist-rdf.rss", "json-feed.json"}  # as RSS
REFUSED = {"utf-16le-bom.xml", "utf-32be-bom.xml"}  # a <rss> with nothing in it
WELL_FORMED = sorted(
    {one.name for one in FEEDS.iterdir()} - NOT_WELL_FORMED - REWRITTEN - REFUSED - {"MANIFEST.md"}
)

ATOM = "{http://www.w3.org/2005/Atom}"
ITUNES = "{http://www.itunes.com/dtds/podcast-1.0.dtd}"
PODCAST = "{https://podcastindex.org/namespace/1.0}"
XML_BASE = "{http://www.w3.org/XML/1998/namespace}base"
OTHERS_LINKS = {"self", "hub", "next", "prev", "previous", "first", "last", "current"}
OTHERS_LINKS |= {"prev-archive", "next-archive"}
MEDIA = "{http://search.yahoo.com/mrss/}"
ADDRESSES = {
    "enclosure": "url",
    "link": "",
    "comments": "",
    "url": "",
    f"{ATOM}link": "href",
    f"{ITUNES}image": "href",
    f"{MEDIA}content": "url",
    f"{MEDIA}thumbnail": "url",
    f"{PODCAST}transcript": "url",
    f"{PODCAST}chapters": "url",
    f"{PODCAST}person": "img",
    f"{PODCAST}source": "uri",
}
NOTES = {"description", "{http://purl.org/rss/1.0/modules/content/}encoded", f"{ITUNES}summary"}
GUESSES = {"mp3": "audio/mpeg", "png": "image/png"}  # the type of an enclosure that names none
OTHER_SPELLINGS = {
    "{http://backend.userland.com/RSS2}": "",
    "{http://backend.userland.com/rss2}": "",
    "{http://www.itunes.com/DTDs/Podcast-1.0.dtd}": ITUNES,
    "{https://github.com/Podcastindex-org/podcast-namespace/blob/main/docs/1.0.md}": PODCAST,
}


@dataclass
class Served:
    """A feed at a follower: anything that has an archive and a key."""

    archive: FeedArchive
    key: CoreKey
    drive: Any = None
    slug: str = "show"
    title: str = "Show"
    peers: int = 0


async def serve(studio: Studio) -> bytes:
    """The whole feed as a podcast app gets it."""
    feed = Served(studio.archive, CoreKey(bytes(range(32))))
    reply = await FeedAnswers().answer(OneShow(feed), Window(0), BASE, {})
    assert reply is not None
    assert reply.status_code == 200
    return bytes(reply.body)


async def mirror(data: bytes, folder: Path, *, media: bool = False) -> tuple[bytes, Studio, str]:
    """Publish what an origin sends, and serve it again."""
    await trio.Path(folder).mkdir(exist_ok=True)
    await trio.Path(folder / "feed.xml").write_bytes(data)
    studio = Studio(folder / "scratch")
    with Origin(folder) as origin:
        await studio.update(origin.feed_url, policy=CapturePolicy(media=media))
        return await serve(studio), studio, origin.feed_url


def parsed(data: bytes) -> etree._Element:
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    parser = etree.XMLParser(strip_cdata=False, resolve_entities=False, no_network=True)
    return etree.fromstring(data, parser)


def says(root: etree._Element) -> Iterator[tuple[object, ...]]:
    """All that a document says, in order: elements, attributes, texts, comments, instructions."""
    for node in reversed(list(root.itersiblings(preceding=True))):
        yield "before", node.tag, node.text
    for event, node in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        text = (node.text or "") if event != "end" else ""
        if event == "start":
            yield "start", node.tag, tuple(sorted(node.attrib.items())), text if text.strip() else ""
        elif event == "end":
            tail = node.tail or ""
            yield "end", node.tag, tail if tail.strip() else ""
        else:
            yield event, node.target if event == "pi" else "", text, (node.tail or "").strip()
    for node in root.itersiblings():
        yield "after", node.tag, node.text


def name_of(node: etree._Element) -> str:
    """The tag in the usual spelling of its namespace; nothing for comments and instructions."""
    tag = node.tag if isinstance(node.tag, str) else ""
    space, brace, local = tag.rpartition("}")
    return OTHER_SPELLINGS.get(space + brace, space + brace) + local


def find(parent: etree._Element, name: str) -> etree._Element | None:
    return next((child for child in parent if name_of(child) == name), None)


def items_of(root: etree._Element) -> list[etree._Element]:
    return [one for one in root.iter(etree.Element) if name_of(one) == "item"]


def base_at(node: etree._Element, url: str) -> str:
    for one in reversed([node, *node.iterancestors()]):
        url = urljoin(url, one.get(XML_BASE, ""))
    return url


def apply_rules(root: etree._Element, url: str) -> None:
    """The documented differences (spec/08-feeds, "Rendering"), done to the origin's own document."""
    for node in list(root.itersiblings(etree.PI, preceding=True)):
        if node.target == "xml-stylesheet":
            etree.Element("gone").append(node)
    channel = find(root, "channel")
    assert channel is not None
    for child in list(channel):
        name = name_of(child)
        is_link = name == f"{ATOM}link" and child.get("rel") in OTHERS_LINKS
        gone = {f"{ITUNES}new-feed-url", f"{ITUNES}block", f"{PODCAST}block", "cloud"}
        if is_link or name in gone:
            cut(child)
    for node in root.iter(etree.Element):
        is_elsewhere = any(
            name_of(one).rpartition("}")[2] in ("liveItem", "podroll", "value")
            for one in node.iterancestors()
        )
        if name_of(node) in NOTES and node.text and not len(node):
            node.text = absolute_pictures(node.text, base_at(node, url))
        attribute = ADDRESSES.get(name_of(node))
        written = (node.get(attribute) if attribute else node.text) if attribute is not None else None
        if written is None or not written.strip() or len(node) or is_elsewhere:
            continue
        if not re.match(r"[a-z]+:", written.strip()):
            absolute = urljoin(base_at(node, url), written.strip())
            if attribute:
                node.set(attribute, absolute)
            else:
                node.text = absolute
        guess = GUESSES.get(written.rpartition(".")[2])
        if name_of(node) == "enclosure" and guess and not node.get("type"):
            node.set("type", guess)
        if name_of(node) == "enclosure" and not node.get("length"):
            node.set("length", "0")


def absolute_pictures(text: str, base: str) -> str:
    """Show notes with pictures that are found wherever they are shown."""
    pattern = r"""(<img\b[^>]*?\ssrc=["'])(?!data:)([^"']+)"""
    return re.sub(pattern, lambda match: match[1] + urljoin(base, match[2]), text)


def cut(child: etree._Element) -> None:
    """Remove an element, and not the text behind it."""
    parent = child.getparent()
    assert parent is not None
    assert not (child.tail or "").strip()
    parent.remove(child)


def take_additions(root: etree._Element, origin: etree._Element, feed_url: str) -> None:
    """Check what was added to a served document, and take it away again."""
    channel, before = find(root, "channel"), find(origin, "channel")
    assert channel is not None
    assert before is not None
    added = {
        f"{ATOM}link[self]": None,
        f"{ATOM}link[via]": feed_url,
        f"{ITUNES}block": "Yes",
        f"{PODCAST}block": "yes",
    }
    if not any(name_of(one).endswith("}guid") for one in before):
        added[f"{PODCAST}guid"] = None
    for child in list(channel)[: len(added)]:
        rel = child.get("rel")
        key = f"{name_of(child)}[{rel}]" if rel else name_of(child)
        assert key in added
        wanted = added.pop(key)
        assert wanted is None or wanted in (child.text, child.get("href"))
        cut(child)
    assert not added
    for item, other in zip(items_of(root), items_of(origin), strict=True):
        for name in ("guid", "pubDate"):
            if find(other, name) is None:
                made = find(item, name)
                assert made is not None, etree.tostring(item)
                assert made.text
                assert made.get("isPermaLink") == ("false" if name == "guid" else None)
                item.remove(made)


@pytest.mark.parametrize("name", WELL_FORMED)
async def test_only_the_documented_differences(name: str, tmp_path: Path) -> None:
    data = (FEEDS / name).read_bytes()
    served, _, url = await mirror(data, tmp_path / "origin")
    origin, copy = parsed(data), parsed(served)
    apply_rules(origin, url)
    take_additions(copy, origin, url)
    assert_same(list(says(copy)), list(says(origin)))
    assert served.count(b"<![CDATA[") == etree.tostring(parsed(data)).count(b"<![CDATA[")


def assert_same(found: Sequence[object], wanted: Sequence[object]) -> None:
    """A short message where two long lists differ."""
    for place, (one, other) in enumerate(zip(found, wanted, strict=False)):
        assert one == other, f"at {place}, after {wanted[max(0, place - 3) : place]}"
    assert len(found) == len(wanted)


def lenient(data: bytes) -> list[tuple[str, list[str]]]:
    """Titles and enclosures as a lenient parser reads them."""
    found = feedparser.parse(io.BytesIO(data), response_headers={"content-type": "application/xml"})
    first = {one.get("id", number): one for number, one in reversed(list(enumerate(found.entries)))}
    return [  # a guid that stands twice is one episode: the newest, of one date the first
        (title_of(one), [url for file in one.get("enclosures", []) if (url := file.get("href"))])
        for number, one in enumerate(found.entries)
        if first[one.get("id", number)] is one
    ]


def title_of(entry: Any) -> str:
    return " ".join(entry.get("title", "").split())


@pytest.mark.parametrize("name", sorted(NOT_WELL_FORMED | {"atom-enclosures.atom"}))
async def test_a_broken_feed_is_served_as_a_lenient_parser_reads_it(name: str, tmp_path: Path) -> None:
    data = (FEEDS / name).read_bytes()
    served, _, _ = await mirror(data, tmp_path / "origin")
    parsed(served)  # whatever came, what is served is well-formed
    assert lenient(served) == lenient(data)


async def test_a_show_with_all_its_media_differs_by_the_same_list(tmp_path: Path) -> None:
    """With captures the addresses, lengths and types change as well, and our edition stands beside."""
    show = tmp_path / "show"
    make_podcast(show, Spec(episodes=3, megabytes=0.05, cover_side=16))
    studio = Studio(tmp_path / "scratch")
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
        url, root = origin.feed_url, origin.url
        served = await serve(studio)
    document = (show / "feed.xml").read_bytes().replace(b"http://127.0.0.1:8000", root.encode())
    before, copy = parsed(document), parsed(served)
    apply_rules(before, url)
    for item in items_of(copy):
        ours = [one for one in item if name_of(one) == f"{PODCAST}alternateEnclosure"]
        assert [len(one.findall(f"{PODCAST}integrity")) for one in ours] == [1]
        item.remove(ours[0])
    take_additions(copy, before, url)
    differing = [
        (old, new)
        for old, new in zip(says(before), says(copy), strict=True)
        if old != new and old[0] == "start"
    ]
    assert differing
    for old, new in differing:
        assert old[1] == new[1]
        assert f"'{BASE}/feeds/" in repr(new)
        changed = {key for key, _ in set(old[2]) ^ set(new[2])} if isinstance(old[2], tuple) else set()
        assert changed <= {"url", "href", "uri", "length", "type", "fileSize"}
