"""What PSP-1, the podcast RSS profile, requires of a feed; and what RSS and directories want besides.

Source: Podcast-Standards-Project/PSP-1-Podcast-RSS-Specification; the RSS 2.0 specification; RSS Best
Practices Profile.
"""

import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID
from xml.etree import ElementTree

ITUNES: Final = "{http://www.itunes.com/dtds/podcast-1.0.dtd}"
ATOM: Final = "{http://www.w3.org/2005/Atom}"
PODCAST: Final = "{https://podcastindex.org/namespace/1.0}"
OPENING: Final = [space[1:-1] for space in (ITUNES, ATOM, PODCAST)]  # namespaces declared in the first tag
SCHEMES: Final = frozenset({"http", "https"})
SOURCE_SCHEMES: Final = SCHEMES | {"hyper"}
MAX_DESCRIPTION_BYTES: Final = 4000
MAX_CHARACTERS: Final = 255  # of other texts
TRANSCRIPTS: Final = {"text/plain", "text/html", "text/vtt", "application/json", "application/x-subrip"}


def check_required(feed: bytes) -> None:
    """Assert that every required element is there, once, and means something; and that the others do."""
    feed.decode("utf-8")
    opening = re.sub(rb"<[?!].*?>", b"", feed, flags=re.DOTALL).partition(b">")[0].decode()
    assert [space for space in OPENING if f'"{space}"' not in opening] == []
    root = ElementTree.fromstring(feed)
    assert root.tag == "rss"
    assert root.attrib["version"] == "2.0"
    (channel,) = root.findall("channel")
    for name in ("title", "description", "link", "language"):
        (element,) = channel.findall(name)
        assert (element.text or "").strip(), name
    _check_address(channel.findtext("link", ""))
    assert re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", channel.findtext("language", ""))
    assert all(one.attrib["text"] for one in channel.iter(f"{ITUNES}category"))
    assert channel.findall(f"{ITUNES}category")
    assert channel.findtext(f"{ITUNES}explicit") in ("true", "false")
    (image,) = channel.findall(f"{ITUNES}image")
    own = [one for one in channel.findall(f"{ATOM}link") if one.attrib["rel"] == "self"]
    assert [one.attrib["type"] for one in own] == ["application/rss+xml"]
    for one in (image, *own):
        _check_address(one.attrib["href"])
    assert UUID(channel.findtext(f"{PODCAST}guid")).version == 5
    kind = channel.findtext(f"{ITUNES}type", "episodic")
    assert kind in ("episodic", "serial")
    _check_texts(channel)
    items = channel.findall("item")
    guids = [_check_item(item, is_serial=kind == "serial") for item in items]
    assert len(set(guids)) == len(guids) > 0
    addresses = [one.attrib["url"] for one in channel.iter("enclosure")]
    assert len(set(addresses)) == len(addresses)


def _check_item(item: ElementTree.Element, *, is_serial: bool) -> str:
    assert item.findtext("title", "").strip()
    (enclosure,) = item.findall("enclosure")
    _check_address(enclosure.attrib["url"])
    assert int(enclosure.attrib["length"]) > 0
    assert re.fullmatch(r"(audio|video)/[\w.+-]+", enclosure.attrib["type"])
    (guid,) = item.findall("guid")
    assert guid.text
    assert guid.attrib["isPermaLink"] == "false" or urlsplit(guid.text).scheme in SCHEMES
    (date,) = item.findall("pubDate")
    assert parsedate_to_datetime(date.text or "").tzinfo is not None
    for name, wanted in (("duration", r"[1-9]\d*"), ("explicit", "true|false"), ("season", r"[1-9]\d*")):
        assert all(re.fullmatch(wanted, one.text or "") for one in item.findall(ITUNES + name)), name
    numbers = [one.text or "" for one in item.findall(f"{ITUNES}episode")]
    assert all(re.fullmatch(r"[1-9]\d*", number) for number in numbers)
    assert numbers or not is_serial
    for one in item.findall(f"{ITUNES}image"):
        _check_address(one.attrib["href"])
    for one in item.findall(f"{PODCAST}transcript"):
        _check_address(one.attrib["url"])
        assert one.attrib["type"] in TRANSCRIPTS
    for one in item.iter(f"{PODCAST}alternateEnclosure"):
        assert int(one.attrib["length"]) > 0
        assert "/" in one.attrib["type"]
        assert one.findall(f"{PODCAST}source")
        assert all(urlsplit(at.attrib["uri"]).scheme in SOURCE_SCHEMES for at in one.iter(f"{PODCAST}source"))
    _check_texts(item)
    return guid.text


def _check_texts(parent: ElementTree.Element) -> None:
    """No text is longer than allowed, or has blanks at its ends."""
    for name, text in _texts(parent):
        assert text == text.strip(), name
        if name == "description":
            assert len(text.encode()) <= MAX_DESCRIPTION_BYTES
        elif not name.endswith("}encoded"):
            assert len(text) <= MAX_CHARACTERS, name


def _texts(parent: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for child in parent:
        if child.tag != "item" and not len(child) and child.text:
            yield child.tag, child.text


def _check_address(address: str) -> None:
    assert address.isascii(), address
    parts = urlsplit(address)
    assert parts.scheme in SCHEMES, address
    assert parts.netloc, address
